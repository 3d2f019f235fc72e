//! [`Machine`]: io_uring as a fuzzer's bytes say, true or not.
//!
//! It shares rings with the code under test, as a kernel does, and keeps the truth beside them:
//! which commands it took and has not completed. A [`Part`] judges what is asked. What no program
//! can defend itself against it does not do: it touches memory only for a command that it has.

mod batch;

use super::input::Input;
use super::scripted::File;
use crate::errno::Errno;
use crate::sim::user::Pages;
use core::fmt::Debug;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;
use ublkit_sys::io_uring::*;
use ublkit_sys::ublk as sys;

/// What is behind a ring: it sees each command taken, and has its say when one completes.
pub(super) trait Part: Debug + Send + 'static {
    /// The kernel took an SQE. With `trusts` both sides agree on what was said so far, and an SQE
    /// that breaks a rule is a failure.
    fn taken(&mut self, sqe: &io_uring_sqe128, trusts: bool);

    /// A command is about to complete with `result`: what the driver does before that. Without
    /// `trusts` the command may be an old one, whose memory is not the kernel's any more.
    fn completes(&mut self, sqe: &io_uring_sqe128, result: i32, script: &mut Input, trusts: bool);

    /// A completion was posted: of this command, or of none.
    fn posted(&mut self, user_data: u64, result: i32, command: Option<&io_uring_sqe128>);

    /// What the script means by four bytes: the user_data of a completion that nobody asked for.
    fn named(&self, script: [u8; 4]) -> u64 {
        u32::from_le_bytes(script).into()
    }

    /// The result of a command when all ends; none if it stays.
    fn last_result(&self, sqe: &io_uring_sqe128) -> Option<i32>;

    /// A tag that a command for many slots brings.
    fn brings(&mut self, _: &mut Input) -> u16 {
        0
    }

    /// The memory of the char device.
    fn char_device(&self) -> Option<Arc<Pages>>;
}

/// Where things lie in a ring of honest make.
const SQ_TAIL: u32 = 4;
const CQ_HEAD: u32 = 8;
const CQ_TAIL: u32 = 12;
const CQES: u32 = 64;

/// A ring's memory is at most that long: more is refused.
const MOST_BYTES: usize = 1 << 20;

/// SQEs taken at one time, where the indices are lies.
const MOST_SQES: u32 = 4096;

/// Calls after the script's end, lest lies make an endless loop.
const MOST_CALLS: u32 = 1000;

/// The kernel's side of all that is going on.
#[derive(Debug)]
pub(super) struct Machine<P> {
    pub(super) part: P,
    pub(super) script: Input,
    pub(super) now: Duration,
    params: io_uring_params,
    indices: Option<Arc<Pages>>,
    sqes: Option<Arc<Pages>>,
    sq_head: u32,
    cq_tail: u32,
    /// The group of provided buffers, how many there are, and how many were ever filled.
    provided: Option<Arc<Pages>>,
    pub(super) buffers: u16,
    filled: u16,
    /// Whether commands may be for many slots.
    pub(super) batches: bool,
    /// Taken and not completed.
    under_way: Vec<io_uring_sqe128>,
    /// How often `io_uring_enter` still answers EAGAIN.
    pub(super) stubborn: u8,
    /// Whether the two sides cannot agree any more: a count or an index was a lie.
    pub(super) lied: bool,
    /// The errno of `io_uring_enter` that does not pass, once it was answered.
    pub(super) fatal: Option<Errno>,
    /// How often `io_uring_enter` made no progress, in a row.
    pub(super) no_progress: u32,
    /// How often it was called after the script's end.
    calls_after: u32,
}

impl<P: Part> Machine<P> {
    pub(super) fn new(part: P, script: Input) -> Self {
        Self {
            part,
            script,
            now: Duration::from_secs(1000),
            params: io_uring_params::default(),
            indices: None,
            sqes: None,
            sq_head: 0,
            cq_tail: 0,
            provided: None,
            buffers: 0,
            filled: 0,
            batches: false,
            under_way: Vec::new(),
            stubborn: 0,
            lied: false,
            fatal: None,
            no_progress: 0,
            calls_after: 0,
        }
    }

    fn word(&self, offset: u32) -> Option<&core::sync::atomic::AtomicU32> {
        let pages = self.indices.as_ref()?;
        let inside = offset as usize + 4 <= pages.len_bytes() && offset.is_multiple_of(4);
        inside.then(|| pages.word(offset as usize))
    }

    fn load(&self, offset: u32) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, offset: u32, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// Takes up to `count` SQEs; answers how many.
    fn take(&mut self, count: u32) -> u32 {
        let there = self.load(self.params.sq_off.tail).wrapping_sub(self.sq_head);
        assert!(self.lied || there <= self.params.sq_entries, "{there} SQEs in too short a queue");
        let count = count.min(there).min(MOST_SQES);
        for _ in 0..count {
            let sqe = self.sqe_at(self.sq_head);
            self.sq_head = self.sq_head.wrapping_add(1);
            let Some(sqe) = sqe else { continue };
            self.part.taken(&sqe, !self.lied);
            self.under_way.push(sqe);
        }
        count
    }

    fn sqe_at(&self, head: u32) -> Option<io_uring_sqe128> {
        let slot = head & self.params.sq_entries.wrapping_sub(1);
        let index = match self.params.flags & IORING_SETUP_NO_SQARRAY {
            0 => self.load(self.params.sq_off.array.wrapping_add(slot.wrapping_mul(4))),
            _ => slot,
        };
        let pages = self.sqes.as_ref()?;
        let long = self.params.flags & IORING_SETUP_SQE128 != 0;
        let bytes = if long { size_of::<io_uring_sqe128>() } else { size_of::<io_uring_sqe>() };
        let offset = (index as usize).checked_mul(bytes)?;
        let inside = offset + bytes <= pages.len_bytes();
        inside.then(|| match long {
            true => pages.load(offset),
            false => io_uring_sqe128 { head: pages.load(offset), ..Default::default() },
        })
    }

    /// Posts a completion, if there is room.
    fn post(&mut self, user_data: u64, result: i32, flags: u32) -> bool {
        let used = self.cq_tail.wrapping_sub(self.load(self.params.cq_off.head));
        assert!(self.lied || used <= self.params.cq_entries, "more taken than was posted");
        if used >= self.params.cq_entries {
            return false;
        }
        let slot = self.cq_tail & (self.params.cq_entries - 1);
        let offset = self.params.cq_off.cqes as usize + slot as usize * size_of::<io_uring_cqe>();
        let Some(pages) = self.indices.as_ref() else { return false };
        if offset + size_of::<io_uring_cqe>() > pages.len_bytes() || !offset.is_multiple_of(8) {
            return false;
        }
        pages.store(offset, io_uring_cqe { user_data, res: result, flags });
        self.cq_tail = self.cq_tail.wrapping_add(1);
        self.store(self.params.cq_off.tail, self.cq_tail);
        true
    }

    fn has_room(&self) -> bool {
        let used = self.cq_tail.wrapping_sub(self.load(self.params.cq_off.head));
        used < self.params.cq_entries
    }

    /// Completes a command that is under way.
    fn complete(&mut self, index: usize, result: i32) {
        if !self.has_room() {
            return;
        }
        let sqe = self.under_way.remove(index);
        self.part.completes(&sqe, result, &mut self.script, !self.lied);
        self.post(sqe.head.user_data, result, 0);
        self.part.posted(sqe.head.user_data, result, Some(&sqe));
    }

    /// Posts a completion of anything. Of a command that it is about to take, nobody can tell later
    /// that it came too early.
    fn invent(&mut self, user_data: u64, result: i32) {
        let there = self.load(self.params.sq_off.tail).wrapping_sub(self.sq_head);
        self.lied |= (0..there.min(MOST_SQES))
            .filter_map(|ahead| self.sqe_at(self.sq_head.wrapping_add(ahead)))
            .any(|sqe| sqe.head.user_data == user_data);
        match self.under_way.iter().position(|sqe| sqe.head.user_data == user_data) {
            Some(index) => self.complete(index, result),
            None if self.post(user_data, result, 0) => self.part.posted(user_data, result, None),
            None => {}
        }
    }

    /// One completion, as the script says.
    fn step(&mut self) {
        let kind = self.script.byte();
        let choice = self.script.byte();
        let chosen =
            (!self.under_way.is_empty()).then(|| usize::from(choice) % self.under_way.len().max(1));
        match (kind % 8, chosen) {
            (0..4, Some(index)) if self.is(index, sys::UBLK_U_IO_FETCH_IO_CMDS) => {
                self.bring(index, kind & 0x80 != 0);
            }
            (0..4, Some(index)) if self.is(index, sys::UBLK_U_IO_COMMIT_IO_CMDS) => {
                self.take_elements(index, kind % 8 == 3);
            }
            (0..4, Some(index)) => self.complete(index, 0),
            (4, Some(index)) => self.complete(index, -libc::ENODEV),
            (5, Some(index)) => {
                let result = self.script.i32();
                self.complete(index, result);
            }
            (6, _) => {
                let user_data = self.part.named(self.script.u32().to_le_bytes());
                let result = if choice.is_multiple_of(2) { 0 } else { self.script.i32() };
                self.invent(user_data, result);
            }
            (7, _) => {
                let (user_data, result) = (self.script.u64(), self.script.i32());
                self.invent(user_data, result);
            }
            _ => {}
        }
    }

    pub(super) fn enter(
        &mut self,
        to_submit: u32,
        waits: bool,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno> {
        let deadline = timeout.map(|timeout| self.now.saturating_add(timeout));
        if self.stubborn > 0 {
            self.stubborn -= 1;
            return self.refuse(Errno::EAGAIN);
        }
        if self.script.is_empty() {
            return self.wind_up(to_submit, waits, deadline);
        }
        let answer = match self.script.byte() % 16 {
            0 => {
                let known = [4, 11, 12, 16, 62, 9, 14, 17, 77, 22];
                let number = self.script.u16();
                let number = known.get(usize::from(number)).copied().unwrap_or(number);
                let errno = Errno::new(number.into()).unwrap_or(Errno::EIO);
                return self.refuse(errno);
            }
            1 => {
                let most = u32::from(self.script.byte());
                self.take(to_submit.min(most))
            }
            2 => {
                self.take(to_submit);
                self.lied = true;
                self.script.u32()
            }
            3 => {
                let taken = self.take(to_submit);
                self.lied = true;
                self.cq_tail = self.cq_tail.wrapping_add(self.script.u32());
                self.store(self.params.cq_off.tail, self.cq_tail);
                taken
            }
            4 => {
                let taken = self.take(to_submit);
                self.now = deadline.unwrap_or(self.now);
                taken
            }
            5 => {
                self.stubborn = self.script.byte();
                return self.refuse(Errno::EAGAIN);
            }
            _ => self.take(to_submit),
        };
        for _ in 0..self.script.below(8) {
            self.step();
        }
        self.note_progress(answer > 0 || to_submit == 0);
        Ok(answer)
    }

    fn note_progress(&mut self, any: bool) {
        self.no_progress = if any { 0 } else { self.no_progress + 1 };
    }

    fn refuse(&mut self, errno: Errno) -> Result<u32, Errno> {
        match errno {
            Errno::EINTR | Errno::ETIME | Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM => {
                self.note_progress(false);
            }
            fatal => self.fatal = Some(fatal),
        }
        Err(errno)
    }

    /// The script is over: all that is under way completes, then nothing ever happens.
    fn wind_up(
        &mut self,
        to_submit: u32,
        waits: bool,
        deadline: Option<Duration>,
    ) -> Result<u32, Errno> {
        let taken = self.take(to_submit);
        let mut index = 0;
        let mut any = taken > 0;
        while index < self.under_way.len() && self.has_room() {
            match self.part.last_result(&self.under_way[index]) {
                Some(result) => {
                    self.complete(index, result);
                    any = true;
                }
                None => index += 1,
            }
        }
        let unread = self.cq_tail != self.load(self.params.cq_off.head);
        self.no_progress = 0;
        self.calls_after += 1;
        match deadline {
            _ if self.calls_after < MOST_CALLS && (any || unread || !waits) => Ok(taken),
            Some(deadline) if taken == 0 => {
                self.now = self.now.max(deadline);
                Err(Errno::ETIME)
            }
            _ => self.refuse(Errno::EBADF),
        }
    }

    pub(super) fn set_up(
        &mut self,
        entries: u32,
        params: &mut io_uring_params,
    ) -> Result<File, Errno> {
        let (sq_entries, cq_entries) =
            (entries.next_power_of_two(), params.cq_entries.next_power_of_two());
        params.sq_entries = sq_entries;
        params.cq_entries = cq_entries;
        params.features = u32::MAX;
        params.sq_off.tail = SQ_TAIL;
        params.sq_off.array = CQES + cq_entries * 16;
        params.cq_off.head = CQ_HEAD;
        params.cq_off.tail = CQ_TAIL;
        params.cq_off.cqes = CQES;
        match self.script.byte() {
            240..248 => return Err(Errno::EINVAL), // as by a kernel that does not know a flag
            248..252 => {
                let number = self.script.byte().into();
                return Err(Errno::new(number).unwrap_or(Errno::EPERM));
            }
            252.. => {
                self.lied = true;
                let lie = self.script.u32();
                match self.script.below(8) {
                    0 => params.sq_entries = lie,
                    1 => params.cq_entries = lie,
                    2 => params.sq_off.tail = lie,
                    3 => params.sq_off.array = lie,
                    4 => params.cq_off.head = lie,
                    5 => params.cq_off.tail = lie,
                    6 => params.cq_off.cqes = lie,
                    _ => params.features = lie,
                }
            }
            _ => {}
        }
        self.params = *params;
        Ok(File::Ring)
    }

    pub(super) fn map(
        &mut self,
        file: &File,
        offset: u64,
        len_bytes: usize,
    ) -> Result<Arc<Pages>, Errno> {
        if len_bytes > MOST_BYTES {
            return Err(Errno::ENOMEM);
        }
        let pages = match (file, offset) {
            (File::Ring, IORING_OFF_SQ_RING) => {
                let pages = Arc::new(Pages::new(len_bytes));
                self.indices = Some(Arc::clone(&pages));
                let first = self.script.u32();
                (self.sq_head, self.cq_tail) = (first, first);
                let (sq, cq) = (self.params.sq_off, self.params.cq_off);
                for word in [sq.tail, cq.head, cq.tail] {
                    self.store(word, first);
                }
                pages
            }
            (File::Ring, IORING_OFF_SQES) => {
                Arc::clone(self.sqes.insert(Arc::new(Pages::new(len_bytes))))
            }
            (File::Ring, IORING_OFF_PBUF_RING) => {
                Arc::clone(self.provided.insert(Arc::new(Pages::new(len_bytes))))
            }
            (File::Char, 0) => self.part.char_device().ok_or(Errno::ENODEV)?,
            _ => return Err(Errno::EINVAL),
        };
        if len_bytes > pages.len_bytes() { Err(Errno::EINVAL) } else { Ok(pages) }
    }
}
