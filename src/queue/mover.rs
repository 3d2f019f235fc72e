//! Moving requests' data by `pread` and `pwrite` on the char device (user copy).

use super::QueuePlan;
use crate::errno::Errno;
use crate::handler::Mover;
use crate::kernel::{Destination, Kernel, Source};
use crate::ring::{Ring, Sqe};
use ublkit_sys::ublk::user_copy_offset;

/// How often in a row a call may be interrupted.
const TRIES: u32 = 100;

/// The requests of one queue, as the char device shows them.
#[derive(Debug)]
pub(super) struct CharDevice<'a, K: Kernel> {
    pub(super) kernel: &'a K,
    pub(super) plan: &'a QueuePlan<K::File>,
}

impl<'a, K: Kernel> CharDevice<'a, K> {
    /// That of a queue.
    pub(super) fn of(ring: &'a Ring<K, Sqe>, plan: &'a QueuePlan<K::File>) -> Self {
        Self { kernel: ring.kernel(), plan }
    }

    /// Where the data of a tag's request lies, from so many bytes on.
    fn offset(&self, tag: u16, bytes: usize) -> Result<u64, Errno> {
        let bytes = u32::try_from(bytes).map_err(|_| Errno::EINVAL)?;
        Ok(user_copy_offset(self.plan.queue, tag, bytes))
    }
}

/// What a call moved of `wanted` bytes, at least one. A count of 0 means memory that faults, or a
/// request that is shorter than its descriptor said.
fn moved(answer: Result<usize, Errno>, wanted: usize, tries: &mut u32) -> Result<usize, Errno> {
    match answer {
        Ok(count) if (1..=wanted).contains(&count) => {
            *tries = 0;
            Ok(count)
        }
        Err(Errno::EINTR | Errno::EAGAIN) if *tries < TRIES => {
            *tries += 1;
            Ok(0)
        }
        Ok(_) => Err(Errno::EIO),
        Err(errno) => Err(errno),
    }
}

impl<K: Kernel> Mover for CharDevice<'_, K> {
    fn fetch(&self, tag: u16, mut data: Destination<'_>) -> Result<(), Errno> {
        let (mut done, mut tries) = (0, 0);
        while data.len_bytes() > 0 {
            let answer =
                self.kernel.read_at(&self.plan.char_device, data.again(), self.offset(tag, done)?);
            let count = moved(answer, data.len_bytes(), &mut tries)?;
            done += count;
            data = data.after(count);
        }
        Ok(())
    }

    fn give(&self, tag: u16, mut data: Source<'_>) -> Result<(), Errno> {
        let (mut done, mut tries) = (0, 0);
        while data.len_bytes() > 0 {
            let answer =
                self.kernel.write_at(&self.plan.char_device, data, self.offset(tag, done)?);
            let count = moved(answer, data.len_bytes(), &mut tries)?;
            done += count;
            data = data.after(count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_moves_something_or_fails() {
        for count in [1, 511, 512] {
            assert_eq!(moved(Ok(count), 512, &mut 0), Ok(count));
        }
        for count in [0, 513] {
            assert_eq!(moved(Ok(count), 512, &mut 0), Err(Errno::EIO), "{count}");
        }
        assert_eq!(moved(Err(Errno::EFAULT), 512, &mut 0), Err(Errno::EFAULT));
    }

    #[test]
    fn interruptions_in_a_row_have_an_end() {
        let mut tries = 0;
        for _ in 0..TRIES {
            assert_eq!(moved(Err(Errno::EINTR), 512, &mut tries), Ok(0));
        }
        assert_eq!(moved(Err(Errno::EAGAIN), 512, &mut tries), Err(Errno::EAGAIN));
        assert_eq!(moved(Ok(1), 512, &mut tries), Ok(1));
        assert_eq!(moved(Err(Errno::EAGAIN), 512, &mut tries), Ok(0), "counted anew");
    }
}
