//! One SQE: what is asked of the kernel, checked in its order.

use super::{Work, cqe};
use crate::errno::Errno;
use crate::sim::user;
use crate::sim::world::{Audit, FileId, Kind, Named, World};
use core::time::Duration;
use ublkit_sys::abi::{as_bytes, from_bytes};
use ublkit_sys::io_uring::*;
use ublkit_sys::ublk::UBLK_F_BATCH_IO;

/// Opcodes from here on are those of no kernel that is played.
const OPCODES: u8 = 65;

/// Who sends an SQE, and through what.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Issuer {
    pub(in crate::sim) task: usize,
    /// Whether it has `CAP_SYS_ADMIN`: the task, or whose personality the SQE takes.
    pub(in crate::sim) admin: bool,
    pub(in crate::sim) ring: FileId,
}

/// What became of an SQE.
pub(in crate::sim) enum Outcome {
    /// It has completed.
    Done(i32),
    /// It completes later.
    Pending,
}

/// `cmd`, as a command to a file.
pub(in crate::sim) struct FileCommand {
    pub(in crate::sim) op: u32,
    /// Whether the SQE has 80 bytes of payload, not 16.
    pub(in crate::sim) is_long: bool,
    pub(in crate::sim) payload: [u8; 80],
    pub(in crate::sim) user_data: u64,
    /// Whether a success is to have no CQE.
    pub(in crate::sim) skips: bool,
    /// The SQE's own address, beside the payload.
    pub(in crate::sim) addr: u64,
    /// `uring_cmd_flags`,
    pub(in crate::sim) flags: u32,
    /// and the group of provided buffers that a multishot command fills.
    pub(in crate::sim) group: u16,
}

impl World {
    /// Takes one SQE. `false` when it was bad, which ends a submission.
    pub(super) fn issue(&mut self, issuer: Issuer, sqe: &io_uring_sqe128) -> bool {
        let outcome = self.checked(issuer, sqe);
        let good = outcome.is_ok();
        let result = match outcome {
            Ok(Outcome::Pending) => return true,
            Ok(Outcome::Done(result)) => result,
            Err(errno) => -errno.number(),
        };
        let skip = sqe.head.flags & IOSQE_CQE_SKIP_SUCCESS != 0 && result >= 0;
        if !skip {
            self.post(issuer.ring, cqe(sqe.head.user_data, result));
        }
        good
    }

    /// `Err` is for what is wrong with the SQE itself.
    fn checked(&mut self, issuer: Issuer, sqe: &io_uring_sqe128) -> Result<Outcome, Errno> {
        let head = &sqe.head;
        if head.flags & 0x80 != 0 || head.opcode >= OPCODES {
            return Err(Errno::EINVAL);
        }
        let selects = head.flags & IOSQE_BUFFER_SELECT != 0;
        let knows_multishot = self.profile.features() & UBLK_F_BATCH_IO != 0;
        if selects && (head.opcode != IORING_OP_URING_CMD || !knows_multishot) {
            return Err(Errno::EOPNOTSUPP);
        }
        if head.ioprio != 0 {
            return Err(Errno::EINVAL); // none of those played has one
        }
        let issuer = self.in_person(issuer, head.personality)?;
        let played = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS | IOSQE_ASYNC | IOSQE_BUFFER_SELECT;
        if head.flags & !played != 0 {
            let line = format!("an SQE with flags {:#x}", head.flags);
            Audit::note(&mut self.audit.unmodelled, line);
        }
        match head.opcode {
            IORING_OP_NOP if head.op_flags != 0 => Err(Errno::EINVAL),
            IORING_OP_NOP => Ok(Outcome::Done(0)),
            IORING_OP_POLL_ADD => self.poll(issuer, head),
            IORING_OP_TIMEOUT => self.timeout(issuer, head),
            IORING_OP_URING_CMD => self.command(issuer, sqe),
            IORING_OP_READ | IORING_OP_READ_FIXED | IORING_OP_WRITE | IORING_OP_WRITE_FIXED => {
                self.transfer(issuer, head)
            }
            IORING_OP_ASYNC_CANCEL => self.cancel(issuer, head),
            IORING_OP_FSYNC => self.sync(issuer, head),
            IORING_OP_FALLOCATE => self.allocate(issuer, head),
            other => {
                Audit::note(&mut self.audit.unmodelled, format!("an SQE with opcode {other}"));
                Err(Errno::EINVAL)
            }
        }
    }

    /// With a personality its rights count; who sends stays the same.
    fn in_person(&mut self, issuer: Issuer, personality: u16) -> Result<Issuer, Errno> {
        let Some(index) = usize::from(personality).checked_sub(1) else { return Ok(issuer) };
        let ring = self.ring(issuer.ring).ok_or(Errno::EBADF)?;
        let admin = *ring.personalities.get(index).ok_or(Errno::EINVAL)?;
        Ok(Issuer { admin, ..issuer })
    }

    /// The file that an SQE names.
    pub(super) fn file_of(&mut self, issuer: Issuer, sqe: &io_uring_sqe) -> Result<Named, Errno> {
        if sqe.flags & IOSQE_FIXED_FILE != 0 {
            let ring = self.ring(issuer.ring).ok_or(Errno::EBADF)?;
            let index = usize::try_from(sqe.fd).map_err(|_| Errno::EBADF)?;
            let file = ring.fixed.as_ref().and_then(|files| files.get(index)?.clone());
            return file.ok_or(Errno::EBADF);
        }
        let process = self.tasks[issuer.task].process;
        self.named(process, sqe.fd)
    }

    fn poll(&mut self, issuer: Issuer, sqe: &io_uring_sqe) -> Result<Outcome, Errno> {
        if sqe.buf_index != 0 || sqe.off != 0 || sqe.addr != 0 || sqe.len != 0 {
            return Err(Errno::EINVAL);
        }
        let file = match self.file_of(issuer, sqe) {
            Ok(file) => file,
            Err(errno) => return Ok(Outcome::Done(-errno.number())),
        };
        self.hold_named(&file);
        if let Some(ring) = self.ring(issuer.ring) {
            ring.polls.push((file, sqe.user_data));
        }
        Ok(Outcome::Pending)
    }

    fn timeout(&mut self, issuer: Issuer, sqe: &io_uring_sqe) -> Result<Outcome, Errno> {
        if sqe.buf_index != 0 || sqe.len != 1 || sqe.splice_fd_in != 0 || sqe.op_flags != 0 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; size_of::<__kernel_timespec>()];
        user::read(sqe.addr, &mut bytes)?;
        let time: __kernel_timespec = from_bytes(&bytes).expect("that long");
        let nanos = u32::try_from(time.tv_nsec).ok().filter(|nanos| *nanos < 1_000_000_000);
        let (Ok(secs), Some(nanos)) = (u64::try_from(time.tv_sec), nanos) else {
            return Err(Errno::EINVAL);
        };
        let due = self.now.saturating_add(Duration::new(secs, nanos));
        if let Some(ring) = self.ring(issuer.ring) {
            ring.timeouts.push((due, sqe.user_data));
        }
        self.fire_timers();
        Ok(Outcome::Pending)
    }

    fn command(&mut self, issuer: Issuer, sqe: &io_uring_sqe128) -> Result<Outcome, Errno> {
        let head = &sqe.head;
        let upper = head.off >> 32;
        if upper != 0 || head.op_flags & !IORING_URING_CMD_MASK != 0 {
            return Err(Errno::EINVAL);
        }
        let selects = head.flags & IOSQE_BUFFER_SELECT != 0;
        let is_multishot = head.op_flags & IORING_URING_CMD_MULTISHOT != 0;
        if head.op_flags & IORING_URING_CMD_FIXED != 0 || selects != is_multishot {
            return Err(Errno::EINVAL);
        }
        let file = match self.file_of(issuer, head) {
            Ok(Named::Inside(file)) => file,
            Ok(Named::Outside(file)) => return Ok(self.disk_command(issuer, head, file)),
            Err(errno) => return Ok(Outcome::Done(-errno.number())),
        };
        let is_long =
            self.ring(issuer.ring).is_some_and(|ring| ring.flags & IORING_SETUP_SQE128 != 0);
        let mut payload = [0; 80];
        payload.copy_from_slice(&as_bytes(sqe)[48..]);
        #[expect(clippy::cast_possible_truncation, reason = "the upper half is 0")]
        let op = head.off as u32;
        let (user_data, addr) = (head.user_data, head.addr);
        let skips = head.flags & IOSQE_CQE_SKIP_SUCCESS != 0;
        let (flags, group) = (head.op_flags, head.buf_index);
        let command = FileCommand { op, is_long, payload, user_data, skips, addr, flags, group };
        let outcome = match self.files.get(&file).map(|file| &file.kind) {
            Some(Kind::Control) => self.control_command(issuer, &command),
            Some(Kind::Char(device)) => {
                let device = *device;
                self.slot_command(issuer, file, device, &command)
            }
            _ => Outcome::Done(-libc::EOPNOTSUPP),
        };
        Ok(outcome)
    }

    /// A command that was pending has completed, in the ring's task.
    pub(in crate::sim) fn complete_later(&mut self, ring: FileId, user_data: u64, result: i32) {
        self.add_work(ring, Work::Complete(cqe(user_data, result)));
    }
}
