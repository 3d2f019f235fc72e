//! [`Elements`]: what batch commands say of slots, in memory that the kernel reads.
#![expect(unsafe_code, reason = "writes to memory that is lent; docs/safety.md, island `slots`")]

use crate::errno::Errno;
use crate::kernel::timespec;
use crate::memory::Pages;
use crate::ring::{self, Address};
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr::NonNull;
use core::time::Duration;
use ublkit_sys::io_uring::__kernel_timespec;
use ublkit_sys::ublk::ublk_elem_header;

#[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
const TIME_BYTES: u32 = size_of::<__kernel_timespec>() as u32;
const TWO_WORDS: u8 = 16;

/// Room for the elements of two commands, while the kernel may read one half, the other is filled;
/// before them a time, which is never written again.
///
/// The invariant that makes them sound: a half is written only while it is not lent (the next
/// element goes behind the `filled` ones of the open half), and all is leaked when one is lent at
/// the end.
#[derive(Debug)]
pub(crate) struct Elements {
    memory: ManuallyDrop<Pages>,
    /// The length of an element: two words where it carries its slot's buffer, otherwise one.
    each_bytes: u8,
    /// `BATCH_FLAGS` of the commands.
    flags: u16,
    /// How many a half holds.
    most: u16,
    /// The half that is being filled,
    open: u8,
    /// how many it has,
    filled: u16,
    /// and where the next one goes: known, because to compute it costs each request something.
    next_bytes: u32,
    /// How many the kernel was told of in the other half, while it may read that.
    lent: Option<u16>,
}

impl Elements {
    /// Room for two times so many elements, and for a time.
    pub(crate) fn new(
        most: u16,
        has_address: bool,
        flags: u16,
        time: Duration,
    ) -> Result<Self, Errno> {
        let each_bytes = if has_address { TWO_WORDS } else { 8 };
        let bytes = TIME_BYTES + u32::from(most) * 2 * u32::from(each_bytes);
        let memory = ManuallyDrop::new(Pages::new(bytes as usize)?);
        // SAFETY: inside the mapping (`at`) and aligned (its begin); nobody knows of it yet.
        unsafe { memory.at(0, TIME_BYTES as usize).cast().write(timespec(time)) };
        Ok(Self {
            memory,
            each_bytes,
            flags,
            most,
            open: 0,
            filled: 0,
            next_bytes: TIME_BYTES,
            lent: None,
        })
    }

    /// Where the time is, for a timer that is submitted before this is dropped.
    pub(crate) fn time(&self) -> Address {
        // SAFETY: inside the mapping, written once, in `new`. The kernel copies it when it takes
        // the timer, which is queued while commands of elements are lent or soon after: the queue
        // submits it before it ends, or its ring goes with it unsubmitted.
        unsafe { Address::new(self.memory.at(0, TIME_BYTES as usize)) }
    }

    /// Where an element begins.
    #[inline]
    fn start_bytes(&self, half: u8, index: u16) -> u32 {
        let index = u32::from(half) * u32::from(self.most) + u32::from(index);
        TIME_BYTES + index * u32::from(self.each_bytes)
    }

    /// The places of an element, all of which is inside the mapping, and aligned: its head, and the
    /// buffer that it carries, if it does.
    #[inline]
    fn at(&self, start_bytes: u32) -> (NonNull<ublk_elem_header>, Option<NonNull<Address>>) {
        let place = self.memory.at(start_bytes as usize, usize::from(self.each_bytes));
        // SAFETY: two words were just looked for, this is the second one.
        let second = (self.each_bytes == TWO_WORDS).then(|| unsafe { place.byte_add(8) });
        (place.cast(), second.map(NonNull::cast))
    }

    /// Puts an element into the open half.
    ///
    /// # Panics
    ///
    /// When it is full: a defect of the queue, for no slot has two.
    #[inline(always)] // where requests are told of
    pub(crate) fn add(&mut self, tag: u16, place: u16, result: i32, buffer: Address) {
        assert!(self.filled < self.most, "there is room for so many elements");
        debug_assert_eq!(self.next_bytes, self.start_bytes(self.open, self.filled));
        let (head_at, buffer_at) = self.at(self.next_bytes);
        self.filled += 1;
        self.next_bytes += u32::from(self.each_bytes);
        // SAFETY: inside the mapping and aligned (`at`), and in the open half (`new` and `lend`
        // begin there, and fewer than it holds were added since), which is not lent, so that nobody
        // reads it.
        unsafe { head_at.write(ublk_elem_header { tag, buf_index: place, result }) };
        if let Some(buffer_at) = buffer_at {
            // SAFETY: as above.
            unsafe { buffer_at.write(buffer) };
        }
    }

    /// Lends the open half to the kernel, until [`end`](Self::end) says that its command is over,
    /// and opens the other one. Answers what the command says; `None` when there is nothing in it,
    /// or the other one is still lent.
    #[inline]
    pub(crate) fn lend(&mut self) -> Option<ring::Elements> {
        let (half, count) = (self.open, self.filled);
        if count == 0 || self.lent.is_some() {
            return None;
        }
        (self.open, self.filled, self.lent) = (half ^ 1, 0, Some(count));
        self.next_bytes = self.start_bytes(self.open, 0);
        // SAFETY: inside the mapping, unmapped only when nothing is lent; no reference to it is
        // ever made, and it is not written before `end`.
        let address = unsafe { Address::new(self.at(self.start_bytes(half, 0)).0.cast()) };
        let Self { each_bytes, flags, .. } = *self;
        Some(ring::Elements { address, count, each_bytes, flags })
    }

    /// Whether there are elements in the open half.
    #[inline]
    pub(crate) fn has_some(&self) -> bool {
        self.filled > 0
    }

    /// Whether a command is under way.
    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.lent.is_some()
    }

    /// The command is over and took so many bytes of elements. Answers which ones it did not take;
    /// `None` when that cannot be.
    #[inline]
    pub(crate) fn end(&mut self, bytes: u32) -> Option<Range<u16>> {
        let each = u32::from(self.each_bytes);
        let taken = u16::try_from(bytes / each).ok().filter(|_| bytes.is_multiple_of(each))?;
        let count = self.lent.filter(|count| taken <= *count)?;
        self.lent = None;
        Some(taken..count)
    }

    /// The command is over, and what it took is told otherwise.
    pub(crate) fn end_all(&mut self) {
        self.lent = None;
    }

    /// The tag of an element that the last command did not take.
    pub(crate) fn tag_left(&self, index: u16) -> u16 {
        self.left(index).0.tag
    }

    fn left(&self, index: u16) -> (ublk_elem_header, Address) {
        assert!(self.lent.is_none(), "the half is ours again");
        assert!(index < self.most, "there is no such element");
        let (head_at, buffer_at) = self.at(self.start_bytes(self.open ^ 1, index));
        // SAFETY: inside the mapping and aligned (`at`), and written by `add`, or zeros. The kernel
        // does not read it any more, and never writes.
        let head = unsafe { head_at.read() };
        // SAFETY: as above.
        (head, buffer_at.map_or(Address::NONE, |buffer_at| unsafe { buffer_at.read() }))
    }

    /// Puts such an element into the open half, once more.
    ///
    /// # Panics
    ///
    /// As of [`add`](Self::add).
    pub(crate) fn add_again(&mut self, index: u16) {
        let (head, buffer) = self.left(index);
        self.add(head.tag, head.buf_index, head.result, buffer);
    }
}

impl Drop for Elements {
    fn drop(&mut self) {
        if !self.is_lent() {
            // SAFETY: dropped here only, once; the kernel reads it no more.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::mapped_bytes;

    #[test]
    fn a_half_is_filled_while_the_other_is_lent() {
        let mut elements = Elements::new(2, true, 2, Duration::ZERO).unwrap();
        assert!(elements.lend().is_none(), "nothing is in it");
        elements.add(1, 0, 512, Address::NONE);
        let told = elements.lend().unwrap();
        assert_eq!((told.count, told.each_bytes, told.flags), (1, 16, 2));
        elements.add(0, 0, -5, Address::NONE);
        elements.add(1, 0, 0, Address::NONE);
        assert!(elements.lend().is_none(), "the other half is lent");
        assert_eq!(elements.end(32), None, "more than there was");
        assert_eq!(elements.end(15), None, "no whole elements");
        assert_eq!(elements.end(16), Some(1..1));
        assert_eq!(elements.end(16), None, "it is over");
    }

    #[test]
    fn what_was_not_taken_is_told_again() {
        let mut elements = Elements::new(2, false, 0, Duration::ZERO).unwrap();
        elements.add(0, 7, 512, Address::NONE);
        elements.add(1, 8, -5, Address::NONE);
        assert_eq!(elements.lend().unwrap().count, 2);
        assert_eq!(elements.end(8), Some(1..2));
        assert_eq!(elements.tag_left(1), 1);
        elements.add_again(1);
        assert_eq!(elements.lend().unwrap().count, 1);
        assert_eq!(elements.end(8), Some(1..1));
        let (told, _) = elements.at(elements.start_bytes(1, 0));
        // SAFETY: inside the mapping, and nobody writes it.
        let head = unsafe { told.read() };
        assert_eq!(head, ublk_elem_header { tag: 1, buf_index: 8, result: -5 });
    }

    /// All the room that there is, of both kinds: nothing is written twice, nor over the time.
    #[test]
    fn both_halves_have_room_for_all() {
        let most: u16 = 2047; // with the time, whole pages
        for has_address in [false, true] {
            let time = Duration::new(3, 5);
            let mut elements = Elements::new(most, has_address, 0, time).unwrap();
            let addresses = [1, 2].map(|half| {
                for tag in 0..most {
                    elements.add(tag, tag, half, elements.time());
                    assert!(elements.has_some());
                }
                let told = elements.lend().unwrap();
                assert!(elements.is_lent() && !elements.has_some());
                assert_eq!(told.count, most);
                let bytes = u32::from(most) * u32::from(told.each_bytes);
                assert_eq!(elements.end(bytes), Some(most..most));
                assert!(!elements.is_lent());
                told.address.get()
            });
            let each_bytes = if has_address { 16 } else { 8 };
            let begins = [0, u64::from(most) * each_bytes].map(|from| from + u64::from(TIME_BYTES));
            assert_eq!(addresses.map(|address| address - elements.time().get()), begins);
            for (half, result) in [(0, 1), (1, 2)] {
                for tag in 0..most {
                    let (head, _) = elements.at(elements.start_bytes(half, tag));
                    // SAFETY: inside the mapping, and nobody writes it.
                    let head = unsafe { head.read() };
                    assert_eq!(head, ublk_elem_header { tag, buf_index: tag, result });
                }
            }
            // SAFETY: inside the mapping, and nobody writes it.
            let told = unsafe { elements.memory.at(0, TIME_BYTES as usize).cast().read() };
            let __kernel_timespec { tv_sec, tv_nsec } = told;
            assert_eq!((tv_sec, tv_nsec), (3, 5));
        }
    }

    /// Buffers, and whichever half is open.
    #[test]
    fn an_element_is_told_again_as_it_was() {
        let mut elements = Elements::new(3, true, 0, Duration::ZERO).unwrap();
        for _ in 0..2 {
            for tag in 0..3 {
                elements.add(tag, tag + 4, i32::from(tag) - 9, elements.time());
            }
            let half = elements.open;
            assert!(elements.lend().is_some());
            assert_eq!(elements.end(16), Some(1..3));
            assert_eq!([1, 2].map(|index| elements.tag_left(index)), [1, 2]);
            (1..3).for_each(|index| elements.add_again(index));
            // SAFETY: inside the mapping, and nobody writes it.
            let words = |half, index| unsafe {
                elements.at(elements.start_bytes(half, index)).0.cast::<[u64; 2]>().read()
            };
            assert_eq!([0, 1].map(|at| words(half ^ 1, at)), [1, 2].map(|at| words(half, at)));
            assert_eq!(words(half, 1)[1], elements.time().get());
            assert_eq!(elements.lend().unwrap().count, 2);
            assert_eq!(elements.end(32), Some(2..2));
            elements.add(0, 0, 0, Address::NONE); // the next time round from the other half
            assert!(elements.lend().is_some());
            assert_eq!(elements.end(16), Some(1..1));
        }
    }

    #[test]
    fn elements_are_leaked_while_they_may_be_read() {
        let len_bytes = 65535 * 2 * 16;
        let left_bytes = |is_lent: bool| {
            let mut elements = Elements::new(u16::MAX, true, 0, Duration::ZERO).unwrap();
            elements.add(0, 0, 0, Address::NONE);
            let address = elements.lend().unwrap().address.get();
            if !is_lent {
                elements.end_all();
            }
            drop(elements);
            mapped_bytes(address, len_bytes)
        };
        assert_eq!(left_bytes(true), len_bytes);
        // Other threads may map something there at that moment, but not each time.
        assert!((0..20).any(|_| left_bytes(false) < len_bytes));
    }

    #[test]
    #[should_panic(expected = "room for so many elements")]
    fn no_more_than_there_is_room_for() {
        let mut elements = Elements::new(1, false, 0, Duration::ZERO).unwrap();
        elements.add(0, 0, 0, Address::NONE);
        elements.add(0, 0, 0, Address::NONE);
    }
}
