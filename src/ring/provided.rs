//! [`Provided`]: small buffers that the completions of one command fill, one after the other.
#![expect(unsafe_code, reason = "reads memory that the kernel writes; docs/safety.md, `ring`")]

use super::mapped::Mapped;
use super::{Cqe, Entry, Ring, RingError, broken};
use crate::kernel::{Access, Kernel, Registration};
use crate::memory::{Pages, page_bytes};
use core::array::IntoIter;
use core::iter::Take;
use core::mem::ManuallyDrop;
use core::sync::atomic::AtomicU16;
use std::sync::Arc;
use ublkit_sys::io_uring::{
    IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_BUFFER, IORING_OFF_PBUF_RING, IORING_OFF_PBUF_SHIFT,
    io_uring_buf, io_uring_buf_ring,
};

/// How long each buffer is: a cache line.
const BUFFER_BYTES: u16 = 64;

/// How many words a buffer holds at the most.
const WORDS: usize = BUFFER_BYTES as usize / 2;

/// A buffer as it is read: no compiler joins volatile reads, and there are thirty-two words.
type Eighths = [u64; BUFFER_BYTES as usize / 8];

/// What words a completion has brought, copied out.
pub(crate) type Words = Take<IntoIter<u16, WORDS>>;

/// Where a buffer begins.
#[inline]
fn offset(number: u16) -> usize {
    usize::from(number) * usize::from(BUFFER_BYTES)
}

/// The group's number. A ring has one.
const GROUP: u16 = 0;

/// Where the tail lies, over the first entry.
#[expect(clippy::cast_possible_truncation, reason = "14 bytes")]
const TAIL: u32 = core::mem::offset_of!(io_uring_buf_ring, tail) as u32;

/// A ring's group of provided buffers, for one multishot command.
///
/// The kernel takes them in turn, and each is given back in turn once it was read, so that entry n
/// of the ring names buffer n for ever; only the tail moves. The kernel may write to buffers while
/// the command is under way, between the tail that covers them and the completion that names them.
#[derive(Debug)]
pub(crate) struct Provided {
    tail: Mapped<AtomicU16>,
    buffers: ManuallyDrop<Pages>,
    /// A power of two.
    count: u16,
    /// The number of the buffer that is filled next; free running.
    next: u16,
    /// Whether a command may fill them.
    is_lent: bool,
}

impl<K: Kernel, S: Entry> Ring<K, S> {
    /// Makes the ring's group of at least so many provided buffers (`IOU_PBUF_RING_MMAP`, since
    /// 6.4).
    pub(crate) fn provide(&mut self, buffers: u16) -> Result<Provided, RingError> {
        let count = buffers
            .checked_next_power_of_two()
            .ok_or(RingError::Impossible(broken::LONG_PROVIDED))?;
        let registration = Registration::BufferRing { group: GROUP, entries: count };
        self.kernel.ring_register(&self.file, registration).map_err(RingError::Provide)?;
        let entries_bytes = usize::from(count) * size_of::<io_uring_buf>();
        let entries_bytes = entries_bytes.next_multiple_of(page_bytes());
        let where_it_is = IORING_OFF_PBUF_RING | u64::from(GROUP) << IORING_OFF_PBUF_SHIFT;
        let mapping = self.kernel.map(&self.file, where_it_is, entries_bytes, Access::ReadWrite);
        let mapping = Arc::new(mapping.map_err(RingError::Map)?);
        let entries = Mapped::<io_uring_buf>::locate(&mapping, 0, count.into())?;
        let tail = Mapped::locate(&mapping, TAIL, 1)?;
        let buffers =
            Pages::new(usize::from(count) * usize::from(BUFFER_BYTES)).map_err(RingError::Map)?;
        for bid in 0..count {
            let place = buffers.at(offset(bid), BUFFER_BYTES.into());
            let entry = io_uring_buf {
                addr: place.as_ptr().expose_provenance() as u64,
                len: BUFFER_BYTES.into(),
                bid,
                resv: 0,
            };
            // SAFETY: one of `count`, and the kernel looks at none before the tail says so.
            unsafe { entries.put(bid.into(), entry) };
        }
        tail.publish(count);
        Ok(Provided { tail, buffers: ManuallyDrop::new(buffers), count, next: 0, is_lent: false })
    }
}

impl Provided {
    /// The group's number, for the command that fills the buffers; until [`end`](Self::end) the
    /// kernel may write to them.
    pub(crate) fn lend(&mut self) -> u16 {
        self.is_lent = true;
        GROUP
    }

    /// The command has ended.
    pub(crate) fn end(&mut self) {
        self.is_lent = false;
    }

    /// What words a completion has brought, in the next buffer, which is given back. Whoever calls
    /// this has acquired the completion. `None` when it cannot be that it brought some.
    #[inline]
    pub(crate) fn take(&mut self, cqe: Cqe) -> Option<Words> {
        let number = self.next & (self.count - 1);
        let names = cqe.flags & IORING_CQE_F_BUFFER != 0
            && cqe.flags >> IORING_CQE_BUFFER_SHIFT == u32::from(number);
        let bytes = usize::try_from(cqe.result).ok().filter(|bytes| bytes.is_multiple_of(2))?;
        if !names || !(1..=WORDS).contains(&(bytes / 2)) {
            return None;
        }
        let place = self.buffers.at(offset(number), BUFFER_BYTES.into());
        // SAFETY: inside the mapping (`at`) and aligned, for buffers begin at whole lines. What the
        // kernel brought it wrote before the completion (the rest is older, or zeros, and not
        // used), and it does not write again before the buffer is given back; volatile, so that it
        // is read once whatever the kernel does meanwhile.
        let eighths = unsafe { place.cast::<Eighths>().read_volatile() };
        // SAFETY: of one size, and any bits are words.
        let words = unsafe { core::mem::transmute::<Eighths, [u16; WORDS]>(eighths) };
        self.next = self.next.wrapping_add(1);
        self.tail.publish(self.next.wrapping_add(self.count));
        Some(words.into_iter().take(bytes / 2))
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        if !self.is_lent {
            // SAFETY: dropped here only, once; the kernel writes to it no more.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::mapped_bytes;
    use crate::ring::{Played, RingPlan, Sqe};

    fn provided(buffers: u16) -> Provided {
        let plan = RingPlan { submissions: 3, completions: 4, one_task: false, tells: false };
        let mut ring = Ring::<_, Sqe>::new(Played::default(), plan).unwrap();
        ring.provide(buffers).unwrap()
    }

    /// A completion that filled a buffer.
    fn brought(number: u32, bytes: i32) -> Cqe {
        let flags = IORING_CQE_F_BUFFER | number << IORING_CQE_BUFFER_SHIFT;
        Cqe { user_data: 0, result: bytes, flags }
    }

    #[test]
    fn buffers_lie_one_behind_the_other() {
        assert_eq!([0, 1, 2, u16::MAX].map(offset), [0, 64, 128, 65535 * 64]);
    }

    #[test]
    fn words_come_in_whole_and_in_turn() {
        let mut tags = provided(3);
        for at in 0..4 * 32 {
            let place = tags.buffers.at(usize::from(at) * 2, 2).cast::<u16>();
            // SAFETY: inside the mapping and aligned, and no kernel knows of it.
            unsafe { place.write(100 + at) };
        }
        for round in 0..9 {
            let next = round % 4; // three are made four
            for bytes in [66, 0, 3, -2] {
                assert!(tags.take(brought(next, bytes)).is_none(), "{round}: {bytes}");
            }
            assert!(tags.take(brought(next + 1, 2)).is_none(), "it is not the next");
            assert!(tags.take(Cqe { flags: next << 16, ..brought(next, 2) }).is_none(), "none");
            let (bytes, count) = if round % 2 == 0 { (2, 1) } else { (64, 32) };
            let words = tags.take(brought(next, bytes)).expect("so many");
            let first = 100 + 32 * next;
            assert!(words.map(u32::from).eq(first..first + count), "{round}");
        }
    }

    #[test]
    fn buffers_are_leaked_while_they_may_be_filled() {
        let len_bytes = 32768 * 64;
        let left_bytes = |is_lent: bool| {
            let mut tags = provided(32768);
            tags.lend();
            if !is_lent {
                tags.end();
            }
            let address = tags.buffers.at(0, 1).as_ptr().expose_provenance() as u64;
            drop(tags);
            mapped_bytes(address, len_bytes)
        };
        assert_eq!(left_bytes(true), len_bytes);
        // Other threads may map something there at that moment, but not each time.
        assert!((0..20).any(|_| left_bytes(false) < len_bytes));
    }
}
