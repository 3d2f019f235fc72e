//! io_uring: a ring as the kernel has it. It sees only the bytes that the program shares with it.

mod enter;
mod issue;
mod operate;
mod provided;
mod register;
mod setup;

pub(super) use enter::{Entered, Name};
pub(super) use issue::{FileCommand, Issuer, Outcome};

use super::merge::and_then;
use super::user::Pages;
use super::world::{Audit, Chore, FileId, Kind, Named, World};
use core::sync::atomic::Ordering;
use core::time::Duration;
use operate::Operation;
use provided::Group;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use ublkit_sys::io_uring::{
    IORING_CQE_F_MORE, IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_TASKRUN_FLAG,
    IORING_SQ_CQ_OVERFLOW, IORING_SQ_TASKRUN, io_uring_cqe,
};

/// Where things lie in the shared page: not where a real kernel has them, for nobody may know.
const SQ_HEAD: usize = 64;
const SQ_TAIL: usize = 128;
const SQ_FLAGS: usize = 132;
const SQ_DROPPED: usize = 136;
const SQ_MASK: usize = 140;
const SQ_ENTRIES: usize = 144;
const CQ_HEAD: usize = 192;
const CQ_TAIL: usize = 256;
const CQ_OVERFLOW: usize = 260;
const CQ_MASK: usize = 264;
const CQ_ENTRIES: usize = 268;
const CQ_FLAGS: usize = 272;
const CQES: usize = 320;

/// A ring.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) flags: u32,
    /// The task that made or enabled it, for rings of one task.
    issuer: Option<usize>,
    /// The task whose work the ring's completions are.
    pub(super) owner: usize,
    disabled: bool,
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    sqe_bytes: usize,
    pub(super) indices: Arc<Pages>,
    pub(super) sqes: Arc<Pages>,
    sq_head: u32,
    cq_tail: u32,
    /// Completions that found the queue full.
    overflow: VecDeque<io_uring_cqe>,
    /// Done when the ring's task comes by.
    pub(super) work: VecDeque<Work>,
    fixed: Option<Vec<Option<Named>>>,
    /// The personalities: whether each has `CAP_SYS_ADMIN`. The first is number 1.
    personalities: Vec<bool>,
    /// The table of requests' pages: whose are where.
    pub(super) table: Option<Vec<Option<u64>>>,
    /// Provided buffers.
    groups: BTreeMap<u16, Group>,
    timeouts: Vec<(Duration, u64)>,
    polls: Vec<(Named, u64)>,
    /// Operations on files that are under way.
    operations: BTreeMap<u64, Operation>,
    /// Those of them that hang, and until when.
    stuck: Vec<(Duration, u64)>,
    next_operation: u64,
    /// What has come to the program by it: completions, and requests.
    pub(in crate::sim) brought: u64,
}

/// Work that waits for the ring's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A completion.
    Complete(io_uring_cqe),
    /// A request goes to the server through its slot's command.
    Deliver(super::ublk::SlotName),
    /// The tags of a queue's requests go to the server, through its command for them.
    DeliverTags(usize, u16),
}

impl Ring {
    /// Whether work waits until the task asks for completions.
    fn defers(&self) -> bool {
        self.flags & IORING_SETUP_DEFER_TASKRUN != 0
    }

    /// Says that work waits for its task, where it was asked to.
    fn tell_of_work(&self) {
        if self.flags & IORING_SETUP_TASKRUN_FLAG != 0 {
            self.indices.word(SQ_FLAGS).fetch_or(IORING_SQ_TASKRUN, Ordering::Release);
        }
    }

    /// Completions that the program has not taken.
    fn ready(&self) -> u32 {
        self.cq_tail.wrapping_sub(self.indices.word(CQ_HEAD).load(Ordering::Acquire))
    }

    /// Posts a completion, or keeps it where there is no room. Whether there was.
    fn post(&mut self, cqe: io_uring_cqe) -> bool {
        self.brought = and_then(self.brought, (cqe.user_data, cqe.res, cqe.flags));
        if !self.overflow.is_empty() || self.ready() >= self.cq_entries {
            self.overflow.push_back(cqe);
            self.indices.word(SQ_FLAGS).fetch_or(IORING_SQ_CQ_OVERFLOW, Ordering::Release);
            return false;
        }
        let index = (self.cq_tail & (self.cq_entries - 1)) as usize;
        self.indices.store(CQES + index * size_of::<io_uring_cqe>(), cqe);
        self.cq_tail = self.cq_tail.wrapping_add(1);
        self.indices.word(CQ_TAIL).store(self.cq_tail, Ordering::Release);
        true
    }

    /// Moves what found no room into the queue, as far as there is room now.
    fn flush_overflow(&mut self) {
        while self.ready() < self.cq_entries
            && let Some(cqe) = self.overflow.pop_front()
        {
            let waiting = std::mem::take(&mut self.overflow);
            self.post(cqe);
            self.overflow = waiting;
        }
        if self.overflow.is_empty() {
            self.indices.word(SQ_FLAGS).fetch_and(!IORING_SQ_CQ_OVERFLOW, Ordering::Release);
        }
    }
}

/// A completion without flags.
pub(super) fn cqe(user_data: u64, res: i32) -> io_uring_cqe {
    io_uring_cqe { user_data, res, flags: 0 }
}

impl World {
    /// Adds work for the ring's task: done when it asks for completions, or by itself.
    pub(super) fn add_work(&mut self, id: FileId, work: Work) {
        let Some(ring) = self.ring(id) else { return };
        ring.work.push_back(work);
        ring.tell_of_work();
        if !ring.defers() {
            let chore = Chore::Interrupt(id);
            if !self.chores.contains(&chore) {
                self.chores.push_back(chore);
            }
        }
    }

    /// Does the work that waits for the ring's task.
    pub(super) fn do_work(&mut self, id: FileId) {
        if let Some(ring) = self.ring(id) {
            ring.indices.word(SQ_FLAGS).fetch_and(!IORING_SQ_TASKRUN, Ordering::Release);
        }
        while let Some(work) = self.ring(id).and_then(|ring| ring.work.pop_front()) {
            match work {
                Work::Complete(cqe) => self.post(id, cqe),
                Work::Deliver(slot) => self.deliver(slot),
                Work::DeliverTags(device, queue) => self.deliver_tags(device, queue),
            }
        }
    }

    pub(super) fn interrupt(&mut self, id: FileId) {
        self.do_work(id);
    }

    pub(super) fn post(&mut self, id: FileId, cqe: io_uring_cqe) {
        let cqe = self.maybe_lie(id, cqe);
        let had_room = self.ring(id).is_none_or(|ring| ring.post(cqe));
        // A program that believes a lie may ask for more than there is room for.
        if !had_room && self.audit.lies == 0 {
            let line = format!("ring {id}: a full CQ, and {:#x} is to come", cqe.user_data);
            Audit::note(&mut self.audit.mistakes, line);
        }
    }

    /// Now and then, where that is asked for, a completion says something else. Its flags mean
    /// something where buffers are provided.
    fn maybe_lie(&mut self, id: FileId, mut cqe: io_uring_cqe) -> io_uring_cqe {
        if self.choices.chance(self.faults.lies.into(), 256) {
            self.audit.lies += 1;
            let has_flags = self.ring(id).is_some_and(|ring| !ring.groups.is_empty());
            match self.choices.below(if has_flags { 5 } else { 3 }) {
                0 => cqe.user_data = self.choices.word(),
                1 => cqe.user_data ^= 1 << self.choices.below(64),
                2 => cqe.res = [1, 2, -1, -22, -19, i32::MIN, i32::MAX, 0][self.choices.below(8)],
                3 => cqe.flags ^= IORING_CQE_F_MORE,
                _ => cqe.flags ^= 1 << self.choices.below(32), // half of them number the buffer
            }
        }
        cqe
    }

    /// Whether a wait for completions of this ring ends.
    pub(super) fn has_completions(&self, id: FileId, want: u32) -> bool {
        let Some(Kind::Ring(ring)) = self.files.get(&id).map(|file| &file.kind) else {
            return true;
        };
        ring.ready() >= want
            || !ring.work.is_empty()
            || !ring.overflow.is_empty() && ring.ready() < ring.cq_entries
            || ring.polls.iter().any(|(file, _)| self.is_readable(file))
    }

    /// When the timeouts of all rings are due.
    pub(super) fn timers(&self) -> impl Iterator<Item = Duration> {
        self.files.values().flat_map(|file| match &file.kind {
            Kind::Ring(ring) => {
                ring.timeouts.iter().chain(&ring.stuck).map(|(due, _)| *due).collect()
            }
            _ => Vec::new(),
        })
    }

    /// Completes the timeouts that are due.
    pub(super) fn fire_timers(&mut self) {
        let now = self.now;
        let rings: Vec<FileId> = self.files.keys().copied().collect();
        for id in rings {
            let Some(ring) = self.ring(id) else { continue };
            let mut due: Vec<(Duration, u64)> =
                ring.timeouts.extract_if(.., |(at, _)| *at <= now).collect();
            let freed = ring.stuck.extract_if(.., |(at, _)| *at <= now).map(|(_, number)| number);
            let freed: Vec<u64> = freed.collect();
            self.chores.extend(freed.into_iter().map(|number| Chore::Operate(id, number)));
            due.sort_unstable();
            for (_, user_data) in due {
                self.add_work(id, Work::Complete(cqe(user_data, -libc::ETIME)));
            }
        }
    }

    /// Sets whether an event is readable. Rings that poll it are told when it is.
    pub(super) fn set_readable(&mut self, event: FileId, is_readable: bool) {
        let Some(Kind::Event(readable)) = self.files.get_mut(&event).map(|file| &mut file.kind)
        else {
            return;
        };
        *readable = is_readable;
        if !is_readable {
            return;
        }
        let is_it = |polled: &Named| matches!(polled, Named::Inside(id) if *id == event);
        for file in self.files.values() {
            if let Kind::Ring(ring) = &file.kind
                && ring.polls.iter().any(|(polled, _)| is_it(polled))
            {
                ring.tell_of_work();
            }
        }
    }

    /// Completes the polls of files that are readable.
    fn fire_polls(&mut self, id: FileId) {
        let Some(ring) = self.ring(id) else { return };
        for (file, user_data) in std::mem::take(&mut ring.polls) {
            let poll_in = i32::from(libc::POLLIN);
            if self.is_readable(&file) {
                self.let_go_named(file);
                self.post(id, cqe(user_data, poll_in));
            } else if let Some(ring) = self.ring(id) {
                ring.polls.push((file, user_data));
            }
        }
    }

    /// A closed ring ends: its commands are cancelled, its operations are done or not, what it
    /// holds is let go.
    pub(super) fn tear_down(&mut self, id: FileId) {
        self.cancel_commands(id);
        self.do_work(id);
        self.end_operations(id);
        let Some(file) = self.files.remove(&id) else { return };
        let Kind::Ring(ring) = file.kind else { return };
        for request in ring.table.into_iter().flatten().flatten() {
            self.put_pages(request);
        }
        let polled = ring.polls.into_iter().map(|(file, _)| file);
        for held in ring.fixed.into_iter().flatten().flatten().chain(polled) {
            self.let_go_named(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ring::{Ring, RingPlan, Sqe};
    use crate::sim::{Choices, Faults, Profile, Sim, Task};

    #[test]
    fn a_cqe_without_room_is_a_mistake() {
        let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
        let plan = RingPlan { submissions: 2, completions: 2, one_task: true, tells: false };
        let mut ring = Ring::<Task, Sqe>::new(sim.task(), plan).unwrap();
        let mut complete_two = || {
            for id in 0..2 {
                ring.submissions().push(Sqe::cancel(9, id)).unwrap(); // there is nothing to cancel
            }
            ring.submit().unwrap();
            sim.mistakes().len()
        };
        assert_eq!((complete_two(), complete_two()), (0, 2));
    }
}
