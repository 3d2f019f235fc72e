//! Many slots with one command: a queue of a device with `BATCH_IO`.
//!
//! Slots are offered and answered by elements of one command a turn, and one command that stays
//! under way brings the tags of what arrives. A slot's life is the same as on any other queue.

use super::{Queue, QueueError, QueuePlan};
use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::handler::Handler;
use crate::id::Id;
use crate::kernel::Kernel;
use crate::ring::{Address, Cqe, Provided, Ring, Sqe, Words};
use crate::slots::Elements;
use core::time::Duration;
use ublkit_sys::io_uring::IORING_CQE_F_MORE;
use ublkit_sys::ublk::{UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK, UBLK_BATCH_F_HAS_BUF_ADDR};

/// The number of the first command of elements: so large that a slot that one tells of is never
/// taken for one that has an SQE of its own, should a kernel complete that.
const FIRST: u64 = 1 << 63;

/// How often in a row the command that brings tags may end without any.
const FRUITLESS: u8 = 3;

/// How long a queue waits for more than the end of its own command, at the most. While it is idle
/// there is no timer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The command that brings tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetch {
    /// Not under way yet, or it ended and is to begin again.
    Idle,
    /// Under way.
    Begun,
    /// It ended because the device ends: nothing more will come.
    Over,
}

/// What a queue that is served in batches has beside the others.
#[derive(Debug)]
pub(super) struct Batch {
    elements: Elements,
    tags: Provided,
    fetch: Fetch,
    /// How often in a row it ended without having brought any tags.
    fruitless: u8,
    /// Whether the first command was answered: it offers the slots, later ones answer requests.
    is_prepared: bool,
    /// Whether the timer is set.
    is_timed: bool,
    /// The number of the command that is being filled; slots keep it.
    open: u64,
    /// The number of the SQE of the last one that was queued,
    elements_sqe: u64,
    /// and of the command that brings tags.
    fetch_sqe: u64,
}

impl Batch {
    /// SQEs and CQEs that there may be beside those of operations and the event: the command that
    /// brings tags, that of the elements and the timer; a completion for each of them, and for each
    /// buffer.
    pub(super) fn entries(depth: u16) -> (u32, u32) {
        (3, u32::from(depth) + 3)
    }

    pub(super) fn new<K: Kernel>(
        ring: &mut Ring<K, Sqe>,
        plan: &QueuePlan<K::File>,
    ) -> Result<Self, QueueError> {
        let flags = match plan.path {
            DataPath::Copy | DataPath::GetData => UBLK_BATCH_F_HAS_BUF_ADDR,
            DataPath::ZeroCopy => UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK,
            DataPath::UserCopy | DataPath::ZeroCopyByHand => 0,
        };
        let has_address = flags == UBLK_BATCH_F_HAS_BUF_ADDR;
        let elements = Elements::new(plan.depth, has_address, flags, PATIENCE);
        Ok(Self {
            elements: elements.map_err(QueueError::Buffers)?,
            // Each that is filled has one tag at the least: there is one for all of them.
            tags: ring.provide(plan.depth)?,
            fetch: Fetch::Idle,
            fruitless: 0,
            is_prepared: false,
            is_timed: false,
            open: FIRST,
            elements_sqe: 0,
            fetch_sqe: 0,
        })
    }

    /// The number of the command that the next element belongs to.
    #[inline]
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// Offers a slot, which answers its request if it has one.
    #[inline]
    pub(super) fn add(&mut self, tag: u16, result: i32, buffer: Address) {
        self.elements.add(tag, tag, result, buffer);
    }

    /// How many of its commands the kernel has taken, when it has `taken` so many SQEs.
    #[inline]
    fn taken(&self, taken: u64) -> u64 {
        if self.elements_sqe < taken { self.open } else { self.open - 1 }
    }

    /// Whether the command of elements is under way when the kernel has `taken` so many SQEs.
    fn has_elements_under_way(&self, taken: u64) -> bool {
        self.elements.is_lent() && self.elements_sqe < taken
    }

    /// Whether there is something that [`send_batch`](Queue::send_batch) could not send yet.
    pub(super) fn has_unsent(&self) -> bool {
        self.elements.has_some()
    }

    /// Nothing new is asked for from here on.
    pub(super) fn leave(&mut self) {
        if self.fetch == Fetch::Idle {
            self.fetch = Fetch::Over;
        }
    }

    /// How many completions are not worth a turn: that of the elements comes at once. Should they
    /// not be taken to the end nothing else may come, but for the timer.
    #[inline]
    pub(super) fn sure(&self) -> u32 {
        u32::from(self.elements.is_lent())
    }

    /// The command that brings tags has ended. `false` when that cannot be.
    fn fetch_ended(&mut self, result: i32) -> Result<bool, QueueError> {
        self.tags.end();
        self.fetch = Fetch::Over;
        match Errno::from_result(result) {
            Err(Errno::ENODEV) => {}
            // No buffer, no room for a completion, or one that cannot be written: once more, for a
            // while.
            Err(Errno::ENOBUFS) if self.fruitless < FRUITLESS => {
                self.fruitless += 1;
                self.fetch = Fetch::Idle;
            }
            Err(errno) => return Err(QueueError::Batch { errno }),
            Ok(_) => return Ok(false),
        }
        Ok(true)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn take_all_back(&mut self) {
        self.elements.end_all();
        self.tags.end();
    }
}

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Queues the command of what was answered, on a queue that is served in batches; and the one
    /// that brings tags, when it is not under way.
    #[inline]
    pub(super) fn send_batch(&mut self) -> Result<(), QueueError> {
        let (device, queue) = (self.common.slot.char_device, self.plan.queue);
        let Some(batch) = &mut self.batch else { return Ok(()) };
        if let Some(elements) = batch.elements.lend() {
            let submissions = self.ring.submissions();
            batch.elements_sqe = submissions.number();
            batch.open += 1;
            let id = Id::Elements.encode();
            submissions.push(match batch.open - FIRST {
                1 => Sqe::prepare(device, queue, elements, id),
                _ => Sqe::commit_batch(device, queue, elements, id),
            })?;
        }
        if batch.elements.is_lent() && !batch.is_timed {
            batch.is_timed = true;
            let timer = Sqe::timeout(batch.elements.time(), Id::Timer.encode());
            self.ring.submissions().push(timer)?;
        }
        if batch.fetch == Fetch::Idle {
            batch.fetch = Fetch::Begun;
            batch.fetch_sqe = self.ring.submissions().number();
            let fetch = Sqe::fetch_tags(device, queue, batch.tags.lend(), Id::Tags.encode());
            self.ring.submissions().push(fetch)?;
        }
        Ok(())
    }

    /// The command that brings tags has brought some, or ended. `false` when that cannot be.
    /// Requests are started, until the queue leaves: then they are taken all the same.
    pub(super) fn tags_came(&mut self, cqe: Cqe, leaves: bool) -> Result<bool, QueueError> {
        let sqes = self.ring.taken();
        let Some(batch) = &mut self.batch else { return Ok(false) };
        if batch.fetch != Fetch::Begun || batch.fetch_sqe >= sqes {
            return Ok(false);
        }
        if cqe.flags & IORING_CQE_F_MORE == 0 {
            return batch.fetch_ended(cqe.result);
        }
        let Some(mut tags) = batch.tags.take(cqe) else { return Ok(false) };
        batch.fruitless = 0;
        let taken = batch.taken(sqes);
        if let Some(metering) = &mut self.metering {
            metering.came(u32::try_from(tags.len()).unwrap_or(0));
        }
        self.guarded(|queue| queue.start_tags(&mut tags, taken, leaves))
    }

    /// Starts requests whose tags were brought, when so many commands of elements were `taken`.
    /// `false` when one cannot be.
    fn start_tags(
        &mut self,
        tags: &mut Words,
        taken: u64,
        leaves: bool,
    ) -> Result<bool, QueueError> {
        for tag in tags {
            if !self.slots.exists(tag) {
                return Ok(false);
            }
            let mut desk = self.desk(tag);
            if !desk.at.take(taken) {
                return Ok(false);
            }
            if !leaves && !desk.plan.leaves() {
                let left = desk.start(false)?;
                self.go_on(tag, left)?;
            }
        }
        Ok(true)
    }

    /// The command of elements has ended. `false` when that cannot be.
    pub(super) fn elements_ended(&mut self, result: i32) -> Result<bool, QueueError> {
        let sqes = self.ring.taken();
        let Some(batch) = &mut self.batch else { return Ok(false) };
        if !batch.has_elements_under_way(sqes) {
            return Ok(false);
        }
        let bytes = Errno::from_result(result);
        let (Ok(bytes), true) = (bytes, batch.is_prepared) else {
            // The first one says 0 when it took all of them.
            batch.elements.end_all();
            batch.is_prepared = true;
            return bytes.map(|bytes| bytes == 0).map_err(|errno| QueueError::Batch { errno });
        };
        let Some(left) = batch.elements.end(bytes) else { return Ok(false) };
        for index in left {
            let tag = batch.elements.tag_left(index);
            // Of a slot whose request came it was taken, whatever the kernel says now: there may be
            // another one for it, and no room for both.
            if !self.slots.at(tag).lend_again(batch.open - 1, batch.open) {
                return Ok(false);
            }
            batch.elements.add_again(index);
        }
        Ok(true)
    }

    /// The timer has ended. `false` when there is none.
    pub(super) fn timer_ended(&mut self) -> bool {
        let Some(batch) = &mut self.batch else { return false };
        std::mem::take(&mut batch.is_timed)
    }

    /// Once nothing more will come, what was answered is not ours any more, nor the kernel's: it
    /// copies to and from a slot's memory only for a request whose tag it has brought.
    pub(super) fn end_batch(&mut self) {
        let Some(batch) = &self.batch else { return };
        if batch.fetch == Fetch::Over && !batch.elements.is_lent() && !batch.elements.has_some() {
            self.slots.all_gone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::ring::{Played, RingPlan};

    fn batch() -> Batch {
        let plan = RingPlan { submissions: 3, completions: 4, one_task: false, tells: false };
        let mut ring = Ring::<_, Sqe>::new(Played::default(), plan).unwrap();
        Batch {
            elements: Elements::new(2, false, 0, PATIENCE).unwrap(),
            tags: ring.provide(1).unwrap(),
            fetch: Fetch::Idle,
            fruitless: 0,
            is_prepared: false,
            is_timed: false,
            open: FIRST + 5,
            elements_sqe: 7,
            fetch_sqe: 0,
        }
    }

    #[test]
    fn a_command_is_taken_with_its_sqe() {
        let batch = batch();
        assert_eq!([3, 7, 8, 9].map(|sqes| batch.taken(sqes) - FIRST), [4, 4, 5, 5]);
    }

    #[test]
    fn elements_are_filled_sent_and_under_way() {
        let mut batch = batch();
        let seen = |batch: &Batch| {
            let under_way = [7, 8].map(|sqes| batch.has_elements_under_way(sqes));
            (batch.has_unsent(), batch.sure(), under_way)
        };
        assert_eq!(seen(&batch), (false, 0, [false, false]));
        batch.add(1, 4096, Address::NONE);
        assert_eq!(seen(&batch), (true, 0, [false, false]));
        batch.elements.lend().unwrap();
        assert_eq!(seen(&batch), (false, 1, [false, true]));
        batch.take_all_back();
        assert_eq!(seen(&batch), (false, 0, [false, false]));
    }

    #[test]
    fn who_leaves_asks_for_nothing_new() {
        for (before, after) in
            [(Fetch::Idle, Fetch::Over), (Fetch::Begun, Fetch::Begun), (Fetch::Over, Fetch::Over)]
        {
            let mut batch = Batch { fetch: before, ..batch() };
            batch.leave();
            assert_eq!(batch.fetch, after, "{before:?}");
        }
    }

    #[test]
    fn tags_are_asked_for_again_for_a_while() {
        let ended = |result: i32, fruitless: u8| {
            let mut batch = Batch { fetch: Fetch::Begun, fruitless, ..batch() };
            let answer = batch.fetch_ended(result).map_err(|error| error.to_string());
            (answer.ok(), batch.fetch, batch.fruitless)
        };
        assert_eq!(ended(-libc::ENODEV, 0), (Some(true), Fetch::Over, 0));
        for before in 0..FRUITLESS {
            assert_eq!(ended(-libc::ENOBUFS, before), (Some(true), Fetch::Idle, before + 1));
        }
        assert_eq!(ended(-libc::ENOBUFS, FRUITLESS), (None, Fetch::Over, FRUITLESS));
        assert_eq!(ended(-libc::EINVAL, 0), (None, Fetch::Over, 0));
        assert_eq!(ended(2, 0), (Some(false), Fetch::Over, 0), "tags come with more to come");
    }

    #[test]
    fn rings_have_room_for_what_batches_add() {
        assert_eq!(Batch::entries(128), (3, 128 + 3));
    }
}
