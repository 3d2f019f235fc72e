//! Operations on files outside of the simulated machine: taken at once, done later, in any order.

use super::{Issuer, Outcome, Work, cqe};
use crate::errno::Errno;
use crate::sim::outside::Outside;
use crate::sim::ublk::Part;
use crate::sim::user;
use crate::sim::world::{Audit, Chore, FileId, Kind, Named, World};
use core::time::Duration;
use std::sync::Arc;
use ublkit_sys::blkdev::BLOCK_URING_CMD_DISCARD;
use ublkit_sys::io_uring::*;

/// Where data comes from, or goes.
#[derive(Clone, Copy, Debug)]
enum Data {
    /// The program's memory from this address on.
    Memory(u64),
    /// A request's own.
    Pages(Part),
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    offset: u64,
    len_bytes: usize,
    data: Data,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Read(Transfer),
    Write { transfer: Transfer, durable: bool },
    Sync { data_only: bool },
    Allocate { mode: u32, offset: u64, len_bytes: u64 },
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct Operation {
    file: Arc<Outside>,
    what: What,
    user_data: u64,
    /// Whether a success is to have no CQE.
    skips: bool,
    /// How many changes of files there had been when it was asked.
    asked: u64,
}

impl Operation {
    fn pages(&self) -> Option<Part> {
        match self.what {
            What::Read(transfer) | What::Write { transfer, .. } => match transfer.data {
                Data::Pages(part) => Some(part),
                Data::Memory(_) => None,
            },
            What::Sync { .. } | What::Allocate { .. } => None,
        }
    }
}

/// The most bytes of one transfer.
const MOST_BYTES: u32 = 0x7fff_f000;
/// How long what hangs may hang after somebody has tried to cancel it.
const STUCK: Duration = Duration::from_secs(10);
/// What a transfer is from or to.
enum Place {
    Outside(Arc<Outside>),
    /// The char device of such a device.
    Char(usize),
}

/// Short transfers end between sectors.
const SECTOR: usize = 512;

impl World {
    /// READ, WRITE and their like that name a place of the ring's table.
    pub(super) fn transfer(
        &mut self,
        issuer: Issuer,
        sqe: &io_uring_sqe,
    ) -> Result<Outcome, Errno> {
        let durable = (libc::RWF_DSYNC | libc::RWF_SYNC).unsigned_abs();
        if sqe.op_flags & !durable != 0 || sqe.off > i64::MAX as u64 {
            let line = format!("a transfer at {:#x} with flags {:#x}", sqe.off, sqe.op_flags);
            Audit::note(&mut self.audit.unmodelled, line);
            return Err(Errno::EINVAL);
        }
        let is_write = matches!(sqe.opcode, IORING_OP_WRITE | IORING_OP_WRITE_FIXED);
        let is_fixed = matches!(sqe.opcode, IORING_OP_READ_FIXED | IORING_OP_WRITE_FIXED);
        let file = match self.file_of(issuer, sqe) {
            Ok(file) => file,
            Err(errno) => return Ok(Outcome::Done(-errno.number())),
        };
        let place = match file {
            Named::Outside(file) => Place::Outside(file),
            Named::Inside(file) => match self.files.get(&file).map(|file| &file.kind) {
                Some(Kind::Char(device)) => Place::Char(*device),
                _ => return Err(self.refuse_inside(sqe.opcode)),
            },
        };
        let len_bytes = sqe.len.min(MOST_BYTES) as usize;
        let data = if is_fixed {
            match self.use_pages(issuer.ring, sqe.buf_index, sqe.addr, len_bytes, is_write) {
                Ok(part) => Data::Pages(part),
                Err(errno) => return Ok(Outcome::Done(-errno.number())),
            }
        } else {
            Data::Memory(sqe.addr)
        };
        let transfer = Transfer { offset: sqe.off, len_bytes, data };
        let file = match place {
            Place::Outside(file) => file,
            Place::Char(device) => return Ok(self.copy_by_ring(device, transfer, is_write)),
        };
        let what = match is_write {
            true => What::Write { transfer, durable: sqe.op_flags != 0 },
            false => What::Read(transfer),
        };
        Ok(self.begin_operation(issuer, sqe, file, what))
    }

    /// Of a char device: user copy, which is between a request's pages and a program's memory.
    fn copy_by_ring(&mut self, device: usize, transfer: Transfer, is_write: bool) -> Outcome {
        let Transfer { offset, len_bytes, data } = transfer;
        let copied = match data {
            Data::Pages(part) => {
                self.put_pages(part.request);
                Err(Errno::EACCES)
            }
            Data::Memory(at) if is_write => self.write_data(device, offset, (at, len_bytes)),
            Data::Memory(at) => self.read_data(device, offset, (at, len_bytes)),
        };
        let result = copied.map(|count| i32::try_from(count).expect("at most MOST_BYTES"));
        Outcome::Done(result.unwrap_or_else(|errno| -errno.number()))
    }

    /// FSYNC.
    pub(super) fn sync(&mut self, issuer: Issuer, sqe: &io_uring_sqe) -> Result<Outcome, Errno> {
        let is_odd = sqe.addr != 0 || sqe.buf_index != 0 || sqe.splice_fd_in != 0;
        if is_odd || sqe.op_flags & !IORING_FSYNC_DATASYNC != 0 {
            return Err(Errno::EINVAL);
        }
        if sqe.off != 0 || sqe.len != 0 {
            Audit::note(&mut self.audit.unmodelled, "a sync of a part of a file".into());
        }
        let data_only = sqe.op_flags & IORING_FSYNC_DATASYNC != 0;
        match self.outside(issuer, sqe) {
            Ok(file) => Ok(self.begin_operation(issuer, sqe, file, What::Sync { data_only })),
            Err(errno) => Ok(Outcome::Done(-errno.number())),
        }
    }

    /// FALLOCATE.
    pub(super) fn allocate(
        &mut self,
        issuer: Issuer,
        sqe: &io_uring_sqe,
    ) -> Result<Outcome, Errno> {
        if sqe.buf_index != 0 || sqe.op_flags != 0 || sqe.splice_fd_in != 0 {
            return Err(Errno::EINVAL);
        }
        let what = What::Allocate { mode: sqe.len, offset: sqe.off, len_bytes: sqe.addr };
        match self.outside(issuer, sqe) {
            Ok(file) => Ok(self.begin_operation(issuer, sqe, file, what)),
            Err(errno) => Ok(Outcome::Done(-errno.number())),
        }
    }

    /// A command to a file outside: where that plays a disk, to discard. What is discarded there
    /// becomes a hole.
    pub(super) fn disk_command(
        &mut self,
        issuer: Issuer,
        sqe: &io_uring_sqe,
        file: Arc<Outside>,
    ) -> Outcome {
        if !self.disks_outside {
            return Outcome::Done(-libc::EOPNOTSUPP);
        }
        let (offset, len_bytes) = (sqe.addr, sqe.cmd[0]);
        let is_odd = sqe.len != 0 || sqe.op_flags != 0 || sqe.splice_fd_in != 0;
        let is_whole = [offset, len_bytes].iter().all(|bytes| bytes.is_multiple_of(SECTOR as u64));
        let end = offset.checked_add(len_bytes);
        let fits = file.len_bytes().is_ok_and(|len| end.is_some_and(|end| end <= len));
        let is_discard = sqe.off == u64::from(BLOCK_URING_CMD_DISCARD);
        if !is_discard || is_odd || !is_whole || len_bytes == 0 || !fits {
            return Outcome::Done(-libc::EINVAL);
        }
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let what = What::Allocate { mode: hole.unsigned_abs(), offset, len_bytes };
        self.begin_operation(issuer, sqe, file, what)
    }

    /// The file outside that an SQE names.
    fn outside(&mut self, issuer: Issuer, sqe: &io_uring_sqe) -> Result<Arc<Outside>, Errno> {
        match self.file_of(issuer, sqe)? {
            Named::Outside(file) => Ok(file),
            Named::Inside(_) => Err(self.refuse_inside(sqe.opcode)),
        }
    }

    /// What is not played of files that the simulation has itself.
    fn refuse_inside(&mut self, opcode: u8) -> Errno {
        let line = format!("opcode {opcode} on a file of the simulation's own");
        Audit::note(&mut self.audit.unmodelled, line);
        Errno::EINVAL
    }

    fn begin_operation(
        &mut self,
        issuer: Issuer,
        sqe: &io_uring_sqe,
        file: Arc<Outside>,
        what: What,
    ) -> Outcome {
        let skips = sqe.flags & IOSQE_CQE_SKIP_SUCCESS != 0;
        let asked = self.journal.changes();
        let operation = Operation { file, what, user_data: sqe.user_data, skips, asked };
        if let Some(ring) = self.ring(issuer.ring) {
            let number = ring.next_operation;
            ring.next_operation += 1;
            ring.operations.insert(number, operation);
            if !self.choices.chance(self.faults.stuck_operation.into(), 256) {
                self.chores.push_back(Chore::Operate(issuer.ring, number));
            }
        }
        Outcome::Pending
    }

    /// ASYNC_CANCEL of what has this `user_data`.
    pub(super) fn cancel(&mut self, issuer: Issuer, sqe: &io_uring_sqe) -> Result<Outcome, Errno> {
        if sqe.off != 0 || sqe.splice_fd_in != 0 {
            return Err(Errno::EINVAL);
        }
        if sqe.op_flags != 0 {
            let line = format!("a cancellation with flags {:#x}", sqe.op_flags);
            Audit::note(&mut self.audit.unmodelled, line);
        }
        let target = sqe.addr;
        let found = self.ring(issuer.ring).and_then(|ring| {
            let mut all = ring.operations.iter();
            all.find(|(_, operation)| operation.user_data == target).map(|(number, _)| *number)
        });
        if let Some(number) = found {
            return Ok(Outcome::Done(self.cancel_operation(issuer.ring, number)));
        }
        let cancelled = Work::Complete(cqe(target, -libc::ECANCELED));
        let Some(ring) = self.ring(issuer.ring) else { return Ok(Outcome::Done(-libc::ENOENT)) };
        if let Some(place) = ring.polls.iter().position(|(_, user_data)| *user_data == target) {
            let (file, _) = ring.polls.swap_remove(place);
            self.let_go_named(file);
        } else if let Some(place) = ring.timeouts.iter().position(|(_, it)| *it == target) {
            ring.timeouts.swap_remove(place);
        } else {
            return Ok(Outcome::Done(-libc::ENOENT));
        }
        self.add_work(issuer.ring, cancelled);
        Ok(Outcome::Done(0))
    }

    /// An operation that a worker may have begun.
    fn cancel_operation(&mut self, id: FileId, number: u64) -> i32 {
        let runs = self.chores.contains(&Chore::Operate(id, number));
        match self.choices.below(3) {
            0 if !runs => {
                let operation = self.ring(id).and_then(|ring| ring.operations.remove(&number));
                let Some(operation) = operation else { return -libc::ENOENT };
                if let Some(part) = operation.pages() {
                    self.put_pages(part.request);
                }
                self.add_work(id, Work::Complete(cqe(operation.user_data, -libc::ECANCELED)));
                return 0;
            }
            1 if !runs => {
                let due = self.now.saturating_add(STUCK);
                if let Some(ring) = self.ring(id) {
                    ring.stuck.push((due, number));
                }
            }
            _ => {}
        }
        -libc::EALREADY
    }

    /// An operation is done; its completion waits for the ring's task.
    pub(in crate::sim) fn operate(&mut self, ring: FileId, number: u64) {
        let operation = self.ring(ring).and_then(|ring| ring.operations.remove(&number));
        let Some(operation) = operation else { return };
        let result = match self.done(&operation) {
            Ok(count) => i32::try_from(count).expect("bounded"),
            Err(errno) => -errno.number(),
        };
        self.audit.operated += 1;
        if let Some(part) = operation.pages() {
            self.put_pages(part.request);
        }
        if result < 0 || !operation.skips {
            self.add_work(ring, Work::Complete(cqe(operation.user_data, result)));
        }
    }

    /// The ring is closed: operations that are under way are done first, or never.
    pub(super) fn end_operations(&mut self, id: FileId) {
        let is_its = |chore: &Chore| matches!(chore, Chore::Operate(ring, _) if *ring == id);
        self.chores.retain(|chore| !is_its(chore));
        let operations = self.ring(id).map(|ring| std::mem::take(&mut ring.operations));
        for operation in operations.into_iter().flatten().map(|(_, operation)| operation) {
            if !self.choices.chance(1, 2) {
                let _ = self.done(&operation); // nobody is there to be told
            }
            if let Some(part) = operation.pages() {
                self.put_pages(part.request);
            }
        }
    }

    /// Does an operation; answers how many bytes it moved.
    fn done(&mut self, operation: &Operation) -> Result<usize, Errno> {
        let Operation { file, what, asked, .. } = operation;
        if self.choices.chance(self.faults.interrupt_operation.into(), 256) {
            return Err([Errno::EINTR, Errno::EAGAIN][self.choices.below(2)]);
        }
        if self.choices.chance(self.faults.fail_operation.into(), 256) {
            let takes_space = matches!(what, What::Write { .. } | What::Allocate { .. });
            let errnos = [Errno::EIO, Errno::ENOSPC];
            return Err(errnos[if takes_space { self.choices.below(2) } else { 0 }]);
        }
        match *what {
            What::Read(transfer) => {
                let data = file.read(transfer.offset, self.shortened(transfer.len_bytes))?;
                let moved = match transfer.data {
                    Data::Memory(address) => user::copy_out(address, &data),
                    Data::Pages(part) => self.fill_pages(part, &data),
                };
                moved_of(moved, data.len())
            }
            What::Write { transfer, durable } => {
                let mut data = vec![0; self.shortened(transfer.len_bytes)];
                let moved = match transfer.data {
                    Data::Memory(address) => user::copy_in(address, &mut data),
                    Data::Pages(part) => self.take_pages(part, &mut data),
                };
                let count = moved_of(moved, data.len())?;
                self.journal.write(file, transfer.offset, &data[..count], durable)
            }
            What::Sync { data_only } => self.journal.sync(file, data_only, *asked).map(|()| 0),
            What::Allocate { mode, offset, len_bytes } => {
                self.journal.allocate(file, mode, offset, len_bytes).map(|()| 0)
            }
        }
    }

    /// How much of a transfer is done: now and then less than all.
    pub(in crate::sim) fn shortened(&mut self, len_bytes: usize) -> usize {
        let sectors = len_bytes.div_ceil(SECTOR);
        let is_short = self.choices.chance(self.faults.short_transfer.into(), 256);
        if !is_short || sectors < 2 {
            return len_bytes;
        }
        SECTOR * (1 + self.choices.below(sectors - 1))
    }
}

/// Memory that faults ends a transfer; where nothing was moved, that is its answer.
fn moved_of(moved: usize, wanted: usize) -> Result<usize, Errno> {
    if moved == 0 && wanted > 0 { Err(Errno::EFAULT) } else { Ok(moved) }
}
