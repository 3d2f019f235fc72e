//! What the disk is like: limits, abilities, zones.
use crate::{constants, layout};

constants! {
    /// [`ublk_param_basic::attrs`].
    pub ATTRIBUTES {
        /// Writing is refused.
        pub UBLK_ATTR_READ_ONLY: u32 = 1 << 0;
        /// Seeking costs time.
        pub UBLK_ATTR_ROTATIONAL: u32 = 1 << 1;
        /// A completed write may be lost until a flush: ask for flushes.
        pub UBLK_ATTR_VOLATILE_CACHE: u32 = 1 << 2;
        /// A write may be asked to be durable by itself; needs the bit above.
        pub UBLK_ATTR_FUA: u32 = 1 << 3;
    }
}

/// Limits of every disk. Written by the server; since Linux 6.0. Shifts are powers of two of bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_param_basic {
    /// [`ATTRIBUTES`].
    pub attrs: u32,
    /// Logical block size, 9 to that of a page.
    pub logical_bs_shift: u8,
    /// Physical block size, at least the logical one.
    pub physical_bs_shift: u8,
    /// The best size of a request.
    pub io_opt_shift: u8,
    /// The smallest size of a request that is not slow.
    pub io_min_shift: u8,
    /// The largest request, in sectors of 512 bytes.
    pub max_sectors: u32,
    /// Requests do not cross multiples of this many sectors; the size of a zone. 0 for none.
    pub chunk_sectors: u32,
    /// Size of the disk, in sectors of 512 bytes.
    pub dev_sectors: u64,
    /// Pieces of a request join only at addresses with these bits clear.
    pub virt_boundary_mask: u64,
}
layout!(ublk_param_basic: 32 {
    0 attrs: u32, 4 logical_bs_shift: u8, 5 physical_bs_shift: u8, 6 io_opt_shift: u8,
    7 io_min_shift: u8, 8 max_sectors: u32, 12 chunk_sectors: u32, 16 dev_sectors: u64,
    24 virt_boundary_mask: u64,
});

/// Discarding and zeroing. Written by the server; since Linux 6.0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_param_discard {
    /// Where the first unit begins, in bytes.
    pub discard_alignment: u32,
    /// The unit, in bytes; not 0.
    pub discard_granularity: u32,
    /// The largest discard, in sectors of 512 bytes; 0 for no discards.
    pub max_discard_sectors: u32,
    /// The largest zeroing, in sectors of 512 bytes; 0 for none.
    pub max_write_zeroes_sectors: u32,
    /// 1 if there are discards.
    pub max_discard_segments: u16,
    /// Zero.
    pub reserved0: u16,
}
layout!(ublk_param_discard: 20 {
    0 discard_alignment: u32, 4 discard_granularity: u32, 8 max_discard_sectors: u32,
    12 max_write_zeroes_sectors: u32, 16 max_discard_segments: u16, 18 reserved0: u16,
});

/// Device numbers. Written by the kernel, refused from the server; since Linux 6.3.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_param_devt {
    /// Major number of `/dev/ublkcN`.
    pub char_major: u32,
    /// Minor number of `/dev/ublkcN`.
    pub char_minor: u32,
    /// Major number of `/dev/ublkbN`, 0 without a disk.
    pub disk_major: u32,
    /// Minor number of `/dev/ublkbN`, 0 without a disk.
    pub disk_minor: u32,
}
layout!(ublk_param_devt: 16 {
    0 char_major: u32, 4 char_minor: u32, 8 disk_major: u32, 12 disk_minor: u32,
});

/// Zones. Written by the server; since Linux 6.6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_param_zoned {
    /// Zones that may be open at once; 0 for no limit.
    pub max_open_zones: u32,
    /// Zones that may be open or closed at once; 0 for no limit.
    pub max_active_zones: u32,
    /// The largest append, in sectors of 512 bytes; not 0.
    pub max_zone_append_sectors: u32,
    /// Zero.
    pub reserved: [u8; 20],
}
layout!(ublk_param_zoned: 32 {
    0 max_open_zones: u32, 4 max_active_zones: u32, 8 max_zone_append_sectors: u32,
    12 reserved: [u8; 20],
});

/// How clients' buffers are aligned. Written by the server; since Linux 6.15.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_param_dma_align {
    /// A mask, in bytes: one less than the alignment.
    pub alignment: u32,
    /// Zero.
    pub pad: [u8; 4],
}
layout!(ublk_param_dma_align: 8 { 0 alignment: u32, 4 pad: [u8; 4] });

constants! {
    /// Bounds of [`ublk_param_segment`].
    pub SEGMENT_LIMITS {
        /// The least that a segment and its boundary may be, in bytes.
        pub UBLK_MIN_SEGMENT_SIZE: u32 = 4096;
    }
}

/// Into what pieces a request may be cut in memory. Written by the server; since Linux 6.15.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_param_segment {
    /// One less than the power of two that no segment crosses, in bytes.
    pub seg_boundary_mask: u64,
    /// The largest segment, in bytes.
    pub max_segment_size: u32,
    /// How many segments a request has at most.
    pub max_segments: u16,
    /// Zero.
    pub pad: [u8; 2],
}
layout!(ublk_param_segment: 16 {
    0 seg_boundary_mask: u64, 8 max_segment_size: u32, 12 max_segments: u16, 14 pad: [u8; 2],
});

constants! {
    /// Numbers of `linux/fs.h` that [`ublk_param_integrity`] uses.
    pub INTEGRITY_NUMBERS {
        /// Flag: the kernel checks integrity data.
        pub LBMD_PI_CAP_INTEGRITY: u32 = 1 << 0;
        /// Flag: the reference tag, too.
        pub LBMD_PI_CAP_REFTAG: u32 = 1 << 1;
        /// No checksum.
        pub LBMD_PI_CSUM_NONE: u8 = 0;
        /// The Internet checksum.
        pub LBMD_PI_CSUM_IP: u8 = 1;
        /// The 16-bit CRC of T10 DIF.
        pub LBMD_PI_CSUM_CRC16_T10DIF: u8 = 2;
        /// The 64-bit CRC of NVMe.
        pub LBMD_PI_CSUM_CRC64_NVME: u8 = 4;
    }
}

/// Integrity data beside the data. Written by the server; since Linux 7.0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_param_integrity {
    /// `LBMD_PI_CAP_*`.
    pub flags: u32,
    /// How many segments the integrity buffer has at most; 0 for no limit.
    pub max_integrity_segments: u16,
    /// Bytes of data for each piece of metadata, as a power of two.
    pub interval_exp: u8,
    /// Bytes of metadata for each interval; not 0.
    pub metadata_size: u8,
    /// Where the checksum stands in it, in bytes.
    pub pi_offset: u8,
    /// One of `LBMD_PI_CSUM_*`.
    pub csum_type: u8,
    /// Bytes of the application's tag.
    pub tag_size: u8,
    /// Zero.
    pub pad: [u8; 5],
}
layout!(ublk_param_integrity: 16 {
    0 flags: u32, 4 max_integrity_segments: u16, 6 interval_exp: u8, 7 metadata_size: u8,
    8 pi_offset: u8, 9 csum_type: u8, 10 tag_size: u8, 11 pad: [u8; 5],
});

constants! {
    /// [`ublk_params::types`].
    pub PARAM_TYPES {
        /// `basic` counts; every device needs it.
        pub UBLK_PARAM_TYPE_BASIC: u32 = 1 << 0;
        /// `discard` counts.
        pub UBLK_PARAM_TYPE_DISCARD: u32 = 1 << 1;
        /// `devt` counts; only ever set by the kernel. Since 6.3.
        pub UBLK_PARAM_TYPE_DEVT: u32 = 1 << 2;
        /// `zoned` counts. Since 6.6.
        pub UBLK_PARAM_TYPE_ZONED: u32 = 1 << 3;
        /// `dma` counts. Since 6.15.
        pub UBLK_PARAM_TYPE_DMA_ALIGN: u32 = 1 << 4;
        /// `seg` counts. Since 6.15.
        pub UBLK_PARAM_TYPE_SEGMENT: u32 = 1 << 5;
        /// `integrity` counts. Since 7.0.
        pub UBLK_PARAM_TYPE_INTEGRITY: u32 = 1 << 6;
    }
}

/// All parameters. Written by the server for a set, by the kernel for a get.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_params {
    /// Bytes of this struct that count, also before a get.
    pub len: u32,
    /// [`PARAM_TYPES`]: which of the parts below count.
    pub types: u32,
    /// Limits of every disk.
    pub basic: ublk_param_basic,
    /// Discarding and zeroing.
    pub discard: ublk_param_discard,
    /// Device numbers.
    pub devt: ublk_param_devt,
    /// Zones.
    pub zoned: ublk_param_zoned,
    /// Alignment of buffers.
    pub dma: ublk_param_dma_align,
    /// Zero: padding that the header leaves to the compiler.
    pub _pad: u32,
    /// Segments.
    pub seg: ublk_param_segment,
    /// Integrity data.
    pub integrity: ublk_param_integrity,
}
layout!(ublk_params: 152 {
    0 len: u32, 4 types: u32, 8 basic: ublk_param_basic, 40 discard: ublk_param_discard,
    60 devt: ublk_param_devt, 76 zoned: ublk_param_zoned, 108 dma: ublk_param_dma_align,
    116 _pad: u32, 120 seg: ublk_param_segment, 136 integrity: ublk_param_integrity,
});
