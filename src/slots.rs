//! [`Slots`]: who owns each tag and its buffer, and so who may touch its memory.
#![expect(unsafe_code, reason = "lends buffers to the kernel; docs/safety.md, island `slots`")]

use crate::errno::Errno;
use crate::kernel::timespec;
use crate::memory::Pages;
use crate::request::{Operation, Request};
use crate::ring::Address;
use core::mem::ManuallyDrop;
use core::time::Duration;
use ublkit_sys::io_uring::__kernel_timespec;

/// Who owns a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody yet: it was never offered to the driver.
    New,
    /// The kernel: a command for it is under way, and the buffer may be written at any time.
    Kernel,
    /// The server: it has a request to answer.
    Server,
    /// Nobody any more: the driver took it away.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    state: State,
    /// The number of the SQE of its command: before the kernel took that, it cannot complete.
    sqe: u64,
    /// The request's delay, while it is under way.
    delay: Option<Delay>,
    /// The answer, once it is known, until the delay has ended.
    answer: Option<Result<(), Errno>>,
    request: Request,
}

#[derive(Clone, Copy, Debug)]
struct Delay {
    sqe: u64,
    cookie: u8,
}

/// A queue's slots and their buffers.
///
/// The invariant that makes the buffers sound: the kernel may use a slot's buffer only while the
/// state is [`State::Kernel`], and a reference to it is made only in [`State::Server`]. Buffers
/// that the kernel may still use when the slots are dropped are leaked.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    buffers: ManuallyDrop<Pages>,
    buffer_bytes: usize,
    /// One `__kernel_timespec` for each slot.
    delays: ManuallyDrop<Pages>,
    /// Slots in [`State::Kernel`] and [`State::Server`].
    live: u16,
    /// Slots whose memory the kernel may use: in [`State::Kernel`], or with a delay under way.
    lent: u32,
}

const IDLE: Request = Request { operation: Operation::Flush, offset: 0, len_bytes: 0 };

impl Slots {
    /// `depth` slots that can hold requests of up to `buffer_bytes`. Touches no page of theirs.
    pub(crate) fn new(depth: u16, buffer_bytes: u32) -> Result<Self, Errno> {
        let slot = Slot { state: State::New, sqe: 0, delay: None, answer: None, request: IDLE };
        let buffer_bytes = buffer_bytes as usize;
        let depth = usize::from(depth);
        let total = depth.checked_mul(buffer_bytes).ok_or(Errno::ENOMEM)?;
        Ok(Self {
            slots: vec![slot; depth].into_boxed_slice(),
            buffers: ManuallyDrop::new(Pages::new(total)?),
            buffer_bytes,
            delays: ManuallyDrop::new(Pages::new(depth * size_of::<__kernel_timespec>())?),
            live: 0,
            lent: 0,
        })
    }

    /// How many slots there are.
    pub(crate) fn depth(&self) -> u16 {
        u16::try_from(self.slots.len()).expect("made from a u16")
    }

    /// How many slots the kernel or the server has.
    pub(crate) fn live(&self) -> u16 {
        self.live
    }

    /// Whether there is such a tag: the kernel's word is checked before anything else.
    pub(crate) fn exists(&self, tag: u16) -> bool {
        usize::from(tag) < self.slots.len()
    }

    fn slot(&mut self, tag: u16) -> &mut Slot {
        &mut self.slots[usize::from(tag)]
    }

    /// Lends the slot's buffer to the kernel; the address belongs into the next command of the
    /// slot, whose SQE will have number `sqe`. From here on the kernel owns the slot.
    ///
    /// # Panics
    ///
    /// When the kernel has it already, or a delay is under way: a defect of the queue.
    pub(crate) fn lend(&mut self, tag: u16, sqe: u64) -> Address {
        let slot = self.slot(tag);
        assert!(matches!(slot.state, State::New | State::Server) && slot.delay.is_none());
        if slot.state == State::New {
            self.live += 1;
        }
        let slot = self.slot(tag);
        slot.state = State::Kernel;
        slot.sqe = sqe;
        slot.answer = None;
        self.lent += 1;
        let buffer = self.buffers.at(usize::from(tag) * self.buffer_bytes, self.buffer_bytes);
        // SAFETY: inside the mapping (`at`), which is unmapped only when nothing is lent.
        // References are made in `data` alone, not while the state is Kernel; that ends with the
        // command's completion (`take`, `gone`).
        unsafe { Address::new(buffer) }
    }

    /// The slot's command completed with a request: the server owns the slot again. The kernel has
    /// `taken` so many SQEs; `false` when the slot's is not among them, so that this cannot be.
    #[must_use]
    pub(crate) fn take(&mut self, tag: u16, taken: u64) -> bool {
        self.leave_kernel(tag, taken, State::Server)
    }

    /// The slot's command completed because the driver takes the slot away.
    #[must_use]
    pub(crate) fn gone(&mut self, tag: u16, taken: u64) -> bool {
        let was = self.leave_kernel(tag, taken, State::Gone);
        self.live -= u16::from(was);
        was
    }

    fn leave_kernel(&mut self, tag: u16, taken: u64, to: State) -> bool {
        let slot = self.slot(tag);
        if slot.state != State::Kernel || slot.sqe >= taken {
            return false;
        }
        slot.state = to;
        slot.request = IDLE;
        self.lent -= 1;
        true
    }

    /// Whether the server has a request to answer.
    pub(crate) fn is_servers(&self, tag: u16) -> bool {
        self.slots[usize::from(tag)].state == State::Server
    }

    /// Notes what the server is asked.
    pub(crate) fn set_request(&mut self, tag: u16, request: Request) {
        assert!(request.data_bytes() as usize <= self.buffer_bytes, "decoded against the device");
        self.slot(tag).request = request;
    }

    pub(crate) fn request(&self, tag: u16) -> Request {
        self.slots[usize::from(tag)].request
    }

    /// The data of the server's request.
    pub(crate) fn data(&mut self, tag: u16) -> &mut [u8] {
        let offset = usize::from(tag) * self.buffer_bytes;
        let slot = self.slot(tag);
        assert!(slot.state == State::Server, "only the server's own requests have data");
        let len = slot.request.data_bytes() as usize;
        let start = self.buffers.at(offset, len).as_ptr();
        // SAFETY: inside the mapping (`at`), which is zeroed, so initialised. In State::Server the
        // kernel does not use this buffer, other slots' buffers do not overlap it (`set_request`
        // checked len <= buffer_bytes), and `&mut self` excludes a second reference.
        unsafe { core::slice::from_raw_parts_mut(start, len) }
    }

    /// Begins the request's delay, whose SQE will have number `sqe`, and gives the place of its
    /// time. `EBUSY`: it has one already.
    pub(crate) fn begin_delay(
        &mut self,
        tag: u16,
        time: Duration,
        cookie: u8,
        sqe: u64,
    ) -> Result<Address, Errno> {
        let slot = self.slot(tag);
        assert!(slot.state == State::Server, "only the server's own requests have delays");
        if slot.delay.is_some() {
            return Err(Errno::EBUSY);
        }
        slot.delay = Some(Delay { sqe, cookie });
        self.lent += 1;
        let len = size_of::<__kernel_timespec>();
        let place = self.delays.at(usize::from(tag) * len, len);
        // SAFETY: inside the mapping (`at`) and aligned (pages hold whole timespecs). No reference
        // to it is ever made, and the kernel is not reading it: the slot had no delay under way.
        unsafe { place.cast::<__kernel_timespec>().write(timespec(time)) };
        // SAFETY: as above, and unmapped only when no delay is under way (`lent`).
        Ok(unsafe { Address::new(place) })
    }

    /// The request's delay has ended. The kernel has `taken` so many SQEs; `false` when there was
    /// no such delay among them, so that this cannot be.
    #[must_use]
    pub(crate) fn end_delay(&mut self, tag: u16, cookie: u8, taken: u64) -> bool {
        let delay = &mut self.slot(tag).delay;
        let ended = delay.take_if(|delay| delay.cookie == cookie && delay.sqe < taken).is_some();
        self.lent -= u32::from(ended);
        ended
    }

    /// The request's delay never was under way: its SQE could not be queued.
    pub(crate) fn drop_delay(&mut self, tag: u16) {
        let dropped = self.slot(tag).delay.take();
        self.lent -= u32::from(dropped.is_some());
    }

    /// The queue ends before the request's delay does: the request is answered all the same. What
    /// the delay names stays lent, and so is never given back.
    pub(crate) fn abandon_delay(&mut self, tag: u16) {
        self.slot(tag).delay = None;
    }

    /// Whether the request has a delay under way.
    pub(crate) fn delayed(&self, tag: u16) -> bool {
        self.slots[usize::from(tag)].delay.is_some()
    }

    /// Settles what the client will be answered, once its delay has ended. The first answer
    /// stands.
    pub(crate) fn settle(&mut self, tag: u16, answer: Result<(), Errno>) {
        self.slot(tag).answer.get_or_insert(answer);
    }

    /// The answer, once it is settled.
    pub(crate) fn answer(&self, tag: u16) -> Option<Result<(), Errno>> {
        self.slots[usize::from(tag)].answer
    }
}

#[cfg(any(test, fuzzing))]
impl Slots {
    /// Panics unless the counts are those of the slots.
    pub(crate) fn check(&self) {
        let count = |test: fn(&Slot) -> bool| self.slots.iter().filter(|slot| test(slot)).count();
        let kernels = count(|slot| slot.state == State::Kernel);
        let servers = count(|slot| slot.state == State::Server);
        assert_eq!(usize::from(self.live), kernels + servers);
        assert_eq!(self.lent as usize, kernels + count(|slot| slot.delay.is_some()));
    }

    /// A kernel that is played will not use what it was lent any more: nothing is leaked.
    pub(crate) fn take_all_back(&mut self) {
        self.lent = 0;
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        if self.lent > 0 {
            return; // the kernel may still write: leaked
        }
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut self.buffers) };
        // SAFETY: dropped here only, once.
        unsafe { ManuallyDrop::drop(&mut self.delays) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(len_bytes: u64) -> Request {
        Request { operation: Operation::Read, offset: 0, len_bytes }
    }

    #[test]
    fn a_slot_goes_round() {
        let mut slots = Slots::new(2, 4096).unwrap();
        assert_eq!(slots.live(), 0);
        let first = slots.lend(0, 0);
        assert_eq!(slots.lend(1, 1).get() - first.get(), 4096);
        assert_eq!((slots.live(), slots.lent), (2, 2));
        assert!(!slots.take(1, 1), "the kernel does not have this command yet");
        assert!(slots.take(1, 2));
        assert!(!slots.take(1, 2), "a second completion of one command cannot be");
        slots.set_request(1, read(512));
        assert_eq!(slots.data(1), [0; 512]);
        slots.data(1).fill(7);
        slots.lend(1, 2);
        assert!(!slots.gone(1, 2));
        assert!(slots.gone(0, 3) && slots.gone(1, 3));
        assert!(!slots.gone(0, 3));
        assert_eq!((slots.live(), slots.lent), (0, 0));
    }

    #[test]
    fn an_answer_waits_for_the_delay() {
        let mut slots = Slots::new(1, 4096).unwrap();
        slots.lend(0, 0);
        assert!(slots.take(0, 1));
        slots.begin_delay(0, Duration::from_millis(3), 7, 1).unwrap();
        assert_eq!(slots.begin_delay(0, Duration::ZERO, 8, 2), Err(Errno::EBUSY));
        slots.settle(0, Err(Errno::EIO));
        slots.settle(0, Ok(()));
        assert_eq!((slots.delayed(0), slots.answer(0)), (true, Some(Err(Errno::EIO))));
        assert!(!slots.end_delay(0, 7, 1), "the kernel does not have it yet");
        assert!(!slots.end_delay(0, 8, 2), "a delay with another cookie");
        assert!(slots.end_delay(0, 7, 2));
        assert!(!slots.end_delay(0, 7, 2));
        slots.lend(0, 2);
        assert_eq!(slots.answer(0), None);
        assert!(slots.gone(0, 3));
    }

    #[test]
    fn tags_below_the_depth_exist() {
        let slots = Slots::new(2, 4096).unwrap();
        assert_eq!([0, 1, 2, u16::MAX].map(|tag| slots.exists(tag)), [true, true, false, false]);
    }

    #[test]
    fn each_delay_has_a_time_of_its_own() {
        let mut slots = Slots::new(3, 4096).unwrap();
        let mut places = [0; 3];
        for (tag, place) in (0..).zip(&mut places) {
            slots.lend(tag, 0);
            assert!(slots.take(tag, 1));
            *place = slots.begin_delay(tag, Duration::from_millis(3), 0, 1).unwrap().get();
        }
        assert_eq!([places[1] - places[0], places[2] - places[1]], [16, 16]);
        slots.check();
        // One that could not be queued never was.
        slots.drop_delay(1);
        assert_eq!((slots.delayed(1), slots.delayed(2), slots.lent), (false, true, 2));
        slots.drop_delay(1);
        slots.check();
        slots.begin_delay(1, Duration::ZERO, 0, 1).unwrap();
        // What an abandoned one names is the kernel's for ever.
        slots.abandon_delay(1);
        assert_eq!((slots.delayed(1), slots.lent), (false, 3));
    }

    /// How much of the process's memory from `address` on is mapped.
    fn mapped_bytes(address: u64, len_bytes: u64) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let inside = |line: &str| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split(' ').next().unwrap();
            let hex = |digits| u64::from_str_radix(digits, 16).unwrap();
            hex(end).min(address + len_bytes).saturating_sub(hex(start).max(address))
        };
        maps.lines().map(inside).sum()
    }

    /// So large that what other threads map meanwhile does not fill its place.
    const LARGE: u64 = 1 << 30;

    #[test]
    fn lent_buffers_are_leaked() {
        let mut slots = Slots::new(1, 1 << 30).unwrap();
        let address = slots.lend(0, 0).get();
        drop(slots);
        assert_eq!(mapped_bytes(address, LARGE), LARGE);
    }

    #[test]
    fn other_buffers_are_given_back() {
        let mut slots = Slots::new(1, 1 << 30).unwrap();
        let address = slots.lend(0, 0).get();
        assert!(slots.gone(0, 1));
        assert_eq!(mapped_bytes(address, LARGE), LARGE);
        drop(slots);
        assert!(mapped_bytes(address, LARGE) < LARGE / 2);
    }
}
