//! [`Descriptors`]: the queue's I/O descriptors, which the kernel writes and we only read.
#![expect(unsafe_code, reason = "reads memory that the kernel writes; docs/safety.md, `queue`")]

use crate::errno::Errno;
use crate::kernel::{Access, Kernel, Memory};
use crate::memory::page_bytes;
use ublkit_sys::ublk::{descriptors_len_bytes, descriptors_offset_bytes, ublksrv_io_desc};

/// The mapped array of a queue's descriptors, one for each tag.
#[derive(Debug)]
pub(super) struct Descriptors<M> {
    _mapping: M,
    /// Where that begins.
    base: *const u8,
    depth: u16,
    stride_bytes: usize,
}

impl<M: Memory> Descriptors<M> {
    /// Maps those of `queue`. The place of a queue is computed from the largest depth that there
    /// can be, not from its own: with its own, every queue would silently get the first one's.
    pub(super) fn map<K: Kernel<Mapping = M>>(
        kernel: &K,
        char_device: &K::File,
        queue: u16,
        depth: u16,
        descriptor_bytes: u16,
    ) -> Result<Self, Errno> {
        let len_bytes = descriptors_len_bytes(depth, descriptor_bytes, page_bytes());
        let offset_bytes = descriptors_offset_bytes(queue, descriptor_bytes, page_bytes());
        let mapping = kernel.map(char_device, offset_bytes, len_bytes, Access::Read)?;
        let all = mapping.place::<u8>(0, usize::from(depth) * usize::from(descriptor_bytes));
        assert!(all.is_some(), "mapped for all tags");
        let base = mapping.base().as_ptr().cast_const();
        Ok(Self { _mapping: mapping, base, depth, stride_bytes: usize::from(descriptor_bytes) })
    }

    /// Copies the descriptor of `tag` out. It means something from the completion of the tag's
    /// command until the next one is submitted; the kernel may rewrite it after that.
    pub(super) fn copy(&self, tag: u16) -> ublksrv_io_desc {
        assert!(tag < self.depth, "mapped for so many tags");
        let place = self.base.wrapping_add(usize::from(tag) * self.stride_bytes);
        // SAFETY: inside the mapping, whose base is page aligned, and aligned (`map` checked the
        // length for all tags, and `descriptors_len_bytes` the stride); it lives as long as `self`.
        // The kernel wrote it before the CQE that we acquired; volatile, so that it is read once
        // whatever the kernel does meanwhile. Any bits make an ublksrv_io_desc (it is Abi).
        unsafe { place.cast::<ublksrv_io_desc>().read_volatile() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Played;

    /// Nothing is read behind the end of what was mapped.
    #[test]
    #[should_panic(expected = "mapped for all tags")]
    fn a_mapping_for_some_of_the_tags_is_none() {
        let half = Played::that_maps(4096);
        let _ = Descriptors::map(&half, &3, 0, 256, 32);
    }
}
