//! `io_uring_enter`: taking SQEs, and what a wait for completions does.

use super::{Issuer, SQ_DROPPED, SQ_HEAD, SQ_TAIL};
use crate::errno::Errno;
use crate::sim::profile::{Profile, Rule};
use crate::sim::world::{FileId, World};
use core::sync::atomic::Ordering;
use ublkit_sys::io_uring::*;

/// The flags of `io_uring_enter` that a kernel knows.
fn known_flags(profile: Profile) -> u32 {
    let newest = if profile.has(Rule::WaitsNeedNotCount) {
        IORING_ENTER_NO_IOWAIT
    } else {
        IORING_ENTER_ABS_TIMER
    };
    (newest << 1) - 1
}

/// How a ring is called by the program.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) enum Name {
    File(FileId),
    Registered(u32),
}

/// What the first half of a call comes to.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Entered {
    pub(in crate::sim) ring: FileId,
    pub(in crate::sim) taken: u32,
    /// Whether to go on and wait.
    pub(in crate::sim) waits: bool,
}

impl World {
    /// Takes SQEs: the first half of the call.
    pub(in crate::sim) fn enter(
        &mut self,
        task: usize,
        name: Name,
        to_submit: u32,
        flags: u32,
    ) -> Result<Entered, Errno> {
        self.audit.entered += 1;
        if flags & !known_flags(self.profile) != 0 {
            return Err(Errno::EINVAL);
        }
        let process = self.tasks[task].process;
        let id = match name {
            Name::File(id) => id,
            Name::Registered(index) => self.registered_ring(task, index)?,
        };
        if matches!(name, Name::File(_)) {
            self.file(process, id)?;
        }
        if to_submit > 0 && self.ring(id).is_some() {
            self.tasks[task].has_rings = true;
        }
        let ring = self.ring(id).ok_or(Errno::EOPNOTSUPP)?;
        if ring.disabled {
            return Err(Errno::EBADFD);
        }
        if ring.issuer.is_some_and(|issuer| issuer != task) && to_submit > 0 {
            return Err(Errno::EEXIST);
        }
        if to_submit > 0 && self.faults.no_memory > 0 {
            let times = u32::from(self.faults.no_memory);
            if self.choices.chance(times, 256) {
                return Err(Errno::EAGAIN);
            }
        }
        let taken = self.take_sqes(task, id, to_submit);
        let waits = flags & IORING_ENTER_GETEVENTS != 0 && taken == to_submit;
        if waits && !self.may_wait(task, id) {
            return if taken > 0 {
                Ok(Entered { ring: id, taken, waits: false })
            } else {
                Err(Errno::EEXIST)
            };
        }
        Ok(Entered { ring: id, taken, waits })
    }

    fn may_wait(&mut self, task: usize, id: FileId) -> bool {
        let Some(ring) = self.ring(id) else { return false };
        !ring.defers() || ring.issuer == Some(task)
    }

    /// Takes up to `to_submit` SQEs; answers how many.
    fn take_sqes(&mut self, task: usize, id: FileId, to_submit: u32) -> u32 {
        let admin = self.tasks[task].admin;
        let Some(ring) = self.ring(id) else { return 0 };
        let tail = ring.indices.word(SQ_TAIL).load(Ordering::Acquire);
        let there = tail.wrapping_sub(ring.sq_head).min(ring.sq_entries);
        let mut wanted = there.min(to_submit);
        let all = ring.flags & IORING_SETUP_SUBMIT_ALL != 0;
        let times = u32::from(self.faults.short_submit);
        if wanted > 1 && times > 0 && self.choices.chance(times, 256) {
            wanted = 1 + u32::try_from(self.choices.below(wanted as usize - 1)).unwrap_or(0);
        }
        let mut taken = 0;
        while taken < wanted {
            taken += 1;
            let Some(sqe) = self.next_sqe(id) else { break };
            let issuer = Issuer { task, admin, ring: id };
            if !self.issue(issuer, &sqe) && !all {
                break;
            }
        }
        taken
    }

    /// Takes the next SQE out of the queue.
    fn next_sqe(&mut self, id: FileId) -> Option<io_uring_sqe128> {
        let ring = self.ring(id)?;
        let slot = ring.sq_head & (ring.sq_entries - 1);
        let index = if ring.flags & IORING_SETUP_NO_SQARRAY == 0 {
            let array = super::setup::array_offset(ring.cq_entries);
            ring.indices.load_word(array + slot as usize * 4)
        } else {
            slot
        };
        ring.sq_head = ring.sq_head.wrapping_add(1);
        let entry = if index < ring.sq_entries {
            let offset = index as usize * ring.sqe_bytes;
            let mut sqe = io_uring_sqe128 { head: ring.sqes.load(offset), ..Default::default() };
            if ring.sqe_bytes == size_of::<io_uring_sqe128>() {
                sqe = ring.sqes.load(offset);
            }
            Some(sqe)
        } else {
            ring.indices.word(SQ_DROPPED).fetch_add(1, Ordering::Relaxed);
            None
        };
        // Release: the program may write the slot again once it sees this.
        ring.indices.word(SQ_HEAD).store(ring.sq_head, Ordering::Release);
        entry
    }

    /// What happens whenever the ring's task asks for completions.
    pub(in crate::sim) fn come_by(&mut self, task: usize, id: FileId) {
        let Some(ring) = self.ring(id) else { return };
        if ring.owner == task {
            self.do_work(id);
        }
        self.fire_polls(id);
        if let Some(ring) = self.ring(id) {
            ring.flush_overflow();
        }
    }

    /// Completions that the program has not taken.
    pub(in crate::sim) fn completions(&mut self, id: FileId) -> u32 {
        self.ring(id).map_or(0, |ring| ring.ready())
    }

    /// How many completions a wait is for, at the most.
    pub(in crate::sim) fn most_completions(&mut self, id: FileId) -> u32 {
        self.ring(id).map_or(0, |ring| ring.cq_entries)
    }
}
