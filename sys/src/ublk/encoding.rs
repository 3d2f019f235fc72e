//! Words that carry more than one number, and where a queue's descriptors are mapped.
use crate::{constants, layout};

use super::ublksrv_io_desc;

/// Bytes of a sector, whatever the logical block size is.
pub const SECTOR_BYTES: u64 = 512;

constants! {
    /// Offsets and ranges in `/dev/ublkcN`.
    pub ENCODING_NUMBERS {
        /// Where descriptors are mapped from.
        pub UBLKSRV_CMD_BUF_OFFSET: u64 = 0;
        /// Where [`user_copy_offset`] begins to count. Added, not or-ed: bit 31 is also bit 6 of a
        /// tag.
        pub UBLKSRV_IO_BUF_OFFSET: u64 = 0x8000_0000;
        /// The most slots a queue has; also what the descriptors of queues are apart.
        pub UBLK_MAX_QUEUE_DEPTH: u16 = 4096;
        /// First bit of the byte offset.
        pub UBLK_IO_BUF_OFF: u32 = 0;
        /// Bits of the byte offset: 32 MiB.
        pub UBLK_IO_BUF_BITS: u32 = 25;
        /// The byte offset's bits, unshifted.
        pub UBLK_IO_BUF_BITS_MASK: u64 = (1 << UBLK_IO_BUF_BITS) - 1;
        /// First bit of the tag.
        pub UBLK_TAG_OFF: u32 = UBLK_IO_BUF_BITS;
        /// Bits of the tag.
        pub UBLK_TAG_BITS: u32 = 16;
        /// The tag's bits, unshifted.
        pub UBLK_TAG_BITS_MASK: u64 = (1 << UBLK_TAG_BITS) - 1;
        /// First bit of the queue.
        pub UBLK_QID_OFF: u32 = UBLK_TAG_OFF + UBLK_TAG_BITS;
        /// Bits of the queue.
        pub UBLK_QID_BITS: u32 = 12;
        /// The queue's bits, unshifted.
        pub UBLK_QID_BITS_MASK: u64 = (1 << UBLK_QID_BITS) - 1;
        /// The most queues a device has.
        pub UBLK_MAX_NR_QUEUES: u16 = 1 << UBLK_QID_BITS;
        /// Bits of queue, tag and byte offset together.
        pub UBLKSRV_IO_BUF_TOTAL_BITS: u32 = UBLK_QID_OFF + UBLK_QID_BITS;
        /// How many offsets they make.
        pub UBLKSRV_IO_BUF_TOTAL_SIZE: u64 = 1 << UBLKSRV_IO_BUF_TOTAL_BITS;
        /// The bit of [`UBLKSRV_IO_INTEGRITY_FLAG`].
        pub UBLK_INTEGRITY_FLAG_OFF: u32 = 62;
        /// Set in an offset that means the integrity buffer. Since 7.0.
        pub UBLKSRV_IO_INTEGRITY_FLAG: u64 = 1 << UBLK_INTEGRITY_FLAG_OFF;
    }
}

/// Where `pread` and `pwrite` on `/dev/ublkcN` find byte `byte_offset` of a request's data, with
/// [`UBLK_F_USER_COPY`](super::UBLK_F_USER_COPY).
///
/// # Panics
///
/// Unless `queue_id` is below [`UBLK_MAX_NR_QUEUES`] and `byte_offset` below 2^25 (32 MiB), which
/// is all that the encoding has room for. Every tag fits.
///
/// ```
/// use ublkit_sys::ublk::{UBLKSRV_IO_BUF_OFFSET, user_copy_offset};
/// assert_eq!(user_copy_offset(1, 64, 512), UBLKSRV_IO_BUF_OFFSET + (1 << 41) + (64 << 25) + 512);
/// ```
pub const fn user_copy_offset(queue_id: u16, tag: u16, byte_offset: u32) -> u64 {
    assert!(queue_id < UBLK_MAX_NR_QUEUES, "a device has at most 4096 queues");
    assert!(byte_offset as u64 <= UBLK_IO_BUF_BITS_MASK, "user copy reaches 32 MiB of a request");
    let position = (queue_id as u64) << UBLK_QID_OFF
        | (tag as u64) << UBLK_TAG_OFF
        | (byte_offset as u64) << UBLK_IO_BUF_OFF;
    UBLKSRV_IO_BUF_OFFSET + position
}

/// As [`user_copy_offset`], for the request's integrity buffer. Since Linux 7.0.
///
/// # Panics
///
/// As [`user_copy_offset`].
pub const fn user_copy_integrity_offset(queue_id: u16, tag: u16, byte_offset: u32) -> u64 {
    user_copy_offset(queue_id, tag, byte_offset) | UBLKSRV_IO_INTEGRITY_FLAG
}

/// The operation in [`ublksrv_io_desc::op_flags`]: one of [`IO_OPS`](super::IO_OPS), or one that
/// this crate does not know yet.
pub const fn op(op_flags: u32) -> u8 {
    op_flags.to_le_bytes()[0]
}

/// The flags in [`ublksrv_io_desc::op_flags`]: the word without its operation, to be compared with
/// [`IO_FLAGS`](super::IO_FLAGS).
///
/// The header's own helper shifts them right by 8 although its `UBLK_IO_F_*` are not shifted;
/// compare the two and every test is wrong.
pub const fn flags(op_flags: u32) -> u32 {
    op_flags & !0xff
}

/// Bytes to map for one queue's descriptors: `depth` of them, `desc_bytes` apart, in whole pages.
///
/// # Panics
///
/// Unless `depth` is 1 to [`UBLK_MAX_QUEUE_DEPTH`], `desc_bytes` is 24 to 256 and a multiple of 8,
/// and `page_bytes` is a power of two.
pub const fn descriptors_len_bytes(depth: u16, desc_bytes: u16, page_bytes: usize) -> usize {
    assert!(depth >= 1 && depth <= UBLK_MAX_QUEUE_DEPTH, "a queue has 1 to 4096 slots");
    assert!(
        desc_bytes as usize >= size_of::<ublksrv_io_desc>()
            && desc_bytes <= 256
            && desc_bytes.is_multiple_of(8),
        "descriptors are 24 to 256 bytes apart, in steps of 8"
    );
    assert!(page_bytes.is_power_of_two(), "the size of a page is a power of two");
    (depth as usize * desc_bytes as usize).next_multiple_of(page_bytes)
}

/// Where to map queue `queue_id`'s descriptors from: as if every queue had
/// [`UBLK_MAX_QUEUE_DEPTH`] slots, whatever the device's depth is.
///
/// # Panics
///
/// Unless `queue_id` is below [`UBLK_MAX_NR_QUEUES`]; and as [`descriptors_len_bytes`].
pub const fn descriptors_offset_bytes(queue_id: u16, desc_bytes: u16, page_bytes: usize) -> u64 {
    assert!(queue_id < UBLK_MAX_NR_QUEUES, "a device has at most 4096 queues");
    let stride = descriptors_len_bytes(UBLK_MAX_QUEUE_DEPTH, desc_bytes, page_bytes);
    UBLKSRV_CMD_BUF_OFFSET + queue_id as u64 * stride as u64
}

constants! {
    /// [`ublk_auto_buf_reg::flags`].
    pub AUTO_BUF_REG_FLAGS {
        /// When registration fails, deliver the request with
        /// [`UBLK_IO_F_NEED_REG_BUF`](super::UBLK_IO_F_NEED_REG_BUF) instead of failing it.
        pub UBLK_AUTO_BUF_REG_FALLBACK: u8 = 1 << 0;
        /// All flags there are.
        pub UBLK_AUTO_BUF_REG_F_MASK: u8 = UBLK_AUTO_BUF_REG_FALLBACK;
    }
}

/// Where the kernel registers a slot's pages, with
/// [`UBLK_F_AUTO_BUF_REG`](super::UBLK_F_AUTO_BUF_REG). Written by the server, as the `addr` of a
/// fetch's or commit's SQE; since Linux 6.16.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_auto_buf_reg {
    /// Index of the ring's buffer table.
    pub index: u16,
    /// [`AUTO_BUF_REG_FLAGS`].
    pub flags: u8,
    /// Zero.
    pub reserved0: u8,
    /// Zero.
    pub reserved1: u32,
}
layout!(ublk_auto_buf_reg: 8 { 0 index: u16, 2 flags: u8, 3 reserved0: u8, 4 reserved1: u32 });

impl ublk_auto_buf_reg {
    /// The word for the SQE's `addr`: index in bits 0 to 15, flags in 16 to 23, zeros above.
    pub const fn to_sqe_addr(self) -> u64 {
        self.index as u64
            | (self.flags as u64) << 16
            | (self.reserved0 as u64) << 24
            | (self.reserved1 as u64) << 32
    }

    /// What the driver reads out of such a word. It refuses unknown flags and reserved bits.
    pub const fn from_sqe_addr(word: u64) -> Self {
        let b = word.to_le_bytes();
        Self {
            index: u16::from_le_bytes([b[0], b[1]]),
            flags: b[2],
            reserved0: b[3],
            reserved1: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }
}

constants! {
    /// [`ublksrv_io_desc::addr`] with [`UBLK_IO_F_SHMEM_ZC`](super::UBLK_IO_F_SHMEM_ZC). Since 7.1.
    pub SHMEM_ZC_NUMBERS {
        /// The byte offset's bits.
        pub UBLK_SHMEM_ZC_OFF_MASK: u64 = 0xffff_ffff;
        /// First bit of the index.
        pub UBLK_SHMEM_ZC_IDX_OFF: u32 = 32;
        /// The index's bits, shifted down.
        pub UBLK_SHMEM_ZC_IDX_MASK: u64 = 0xffff;
    }
}

/// The word for byte `offset_bytes` of registered memory `index`.
pub const fn shmem_addr(index: u16, offset_bytes: u32) -> u64 {
    (index as u64) << UBLK_SHMEM_ZC_IDX_OFF | offset_bytes as u64
}

/// Which registered memory such a word means: the result of its
/// [`UBLK_U_CMD_REG_BUF`](super::UBLK_U_CMD_REG_BUF).
pub const fn shmem_index(addr: u64) -> u16 {
    let b = addr.to_le_bytes();
    u16::from_le_bytes([b[4], b[5]])
}

/// Which byte of it.
pub const fn shmem_offset_bytes(addr: u64) -> u32 {
    let b = addr.to_le_bytes();
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}
