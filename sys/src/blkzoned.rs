//! `linux/blkzoned.h`: zones, as a zoned server reports them and a client sees them.
#![allow(non_camel_case_types, reason = "the kernel's names")]
use crate::abi::{Abi, Constant, Layout, ior, iow, iowr};
use crate::{constants, layout};

constants! {
    /// [`blk_zone::type_`].
    pub ZONE_TYPES {
        /// Written anywhere; has no write pointer.
        pub BLK_ZONE_TYPE_CONVENTIONAL: u8 = 1;
        /// Written at the write pointer only.
        pub BLK_ZONE_TYPE_SEQWRITE_REQ: u8 = 2;
        /// Better written at the write pointer.
        pub BLK_ZONE_TYPE_SEQWRITE_PREF: u8 = 3;
    }
}

constants! {
    /// [`blk_zone::cond`].
    pub ZONE_CONDITIONS {
        /// Has no write pointer: a conventional zone.
        pub BLK_ZONE_COND_NOT_WP: u8 = 0x0;
        /// Empty.
        pub BLK_ZONE_COND_EMPTY: u8 = 0x1;
        /// Opened by a write.
        pub BLK_ZONE_COND_IMP_OPEN: u8 = 0x2;
        /// Opened by a command.
        pub BLK_ZONE_COND_EXP_OPEN: u8 = 0x3;
        /// Closed, and neither empty nor full.
        pub BLK_ZONE_COND_CLOSED: u8 = 0x4;
        /// Can only be read.
        pub BLK_ZONE_COND_READONLY: u8 = 0xd;
        /// Full.
        pub BLK_ZONE_COND_FULL: u8 = 0xe;
        /// Can be neither read nor written.
        pub BLK_ZONE_COND_OFFLINE: u8 = 0xf;
        /// Open or closed; only in the kernel's cached reports, never a server's. Since 6.19.
        pub BLK_ZONE_COND_ACTIVE: u8 = 0xff;
    }
}

constants! {
    /// [`blk_zone_report::flags`].
    pub ZONE_REPORT_FLAGS {
        /// Out: capacities are given.
        pub BLK_ZONE_REP_CAPACITY: u32 = 1 << 0;
        /// In: from what the kernel remembers. Since 6.19.
        pub BLK_ZONE_REP_CACHED: u32 = 1 << 31;
    }
}

/// One zone; all positions and lengths in sectors of 512 bytes. Written by the server, in answer to
/// [`UBLK_IO_OP_REPORT_ZONES`](crate::ublk::UBLK_IO_OP_REPORT_ZONES).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct blk_zone {
    /// Where it begins.
    pub start: u64,
    /// Its length; 0 marks the end of a short report.
    pub len: u64,
    /// Where the next write goes.
    pub wp: u64,
    /// One of [`ZONE_TYPES`]; the header's `type`.
    pub type_: u8,
    /// One of [`ZONE_CONDITIONS`].
    pub cond: u8,
    /// 1 if it was not written sequentially although it prefers that.
    pub non_seq: u8,
    /// 1 if a reset is recommended.
    pub reset: u8,
    /// Zero.
    pub resv: [u8; 4],
    /// How much of it can be written.
    pub capacity: u64,
    /// Zero.
    pub reserved: [u8; 24],
}
layout!(blk_zone: 64 {
    0 start: u64, 8 len: u64, 16 wp: u64, 24 type_: u8, 25 cond: u8, 26 non_seq: u8, 27 reset: u8,
    28 resv: [u8; 4], 32 capacity: u64, 40 reserved: [u8; 24],
});

/// What [`BLKREPORTZONE`] asks and answers; room for `nr_zones` [`blk_zone`] follows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct blk_zone_report {
    /// From the zone with this sector of 512 bytes on.
    pub sector: u64,
    /// In: at most so many. Out: so many.
    pub nr_zones: u32,
    /// [`ZONE_REPORT_FLAGS`].
    pub flags: u32,
}
layout!(blk_zone_report: 16 { 0 sector: u64, 8 nr_zones: u32, 12 flags: u32 });

/// Which zones to open, close, finish or reset; in sectors of 512 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct blk_zone_range {
    /// Where the first of them begins.
    pub sector: u64,
    /// Their length together.
    pub nr_sectors: u64,
}
layout!(blk_zone_range: 16 { 0 sector: u64, 8 nr_sectors: u64 });

/// A u32 as an ioctl's payload.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct word {
    value: u32,
}
layout!(word: 4 { 0 value: u32 });

constants! {
    /// Ioctls of a client on a zoned disk.
    pub ZONE_IOCTLS {
        /// Describes zones.
        pub BLKREPORTZONE: u32 = iowr::<blk_zone_report>(0x12, 130);
        /// Empties zones.
        pub BLKRESETZONE: u32 = iow::<blk_zone_range>(0x12, 131);
        /// Reads the size of a zone, as u32, in sectors of 512 bytes.
        pub BLKGETZONESZ: u32 = ior::<word>(0x12, 132);
        /// Reads the number of zones, as u32.
        pub BLKGETNRZONES: u32 = ior::<word>(0x12, 133);
        /// Opens zones.
        pub BLKOPENZONE: u32 = iow::<blk_zone_range>(0x12, 134);
        /// Closes zones.
        pub BLKCLOSEZONE: u32 = iow::<blk_zone_range>(0x12, 135);
        /// Makes zones full.
        pub BLKFINISHZONE: u32 = iow::<blk_zone_range>(0x12, 136);
        /// As [`BLKREPORTZONE`], with input flags. Since 6.19.
        pub BLKREPORTZONEV2: u32 = iowr::<blk_zone_report>(0x12, 142);
    }
}

/// Every struct of this module.
pub const LAYOUTS: &[Layout] = &[blk_zone::LAYOUT, blk_zone_report::LAYOUT, blk_zone_range::LAYOUT];

/// Every constant of this module, in groups.
pub const CONSTANTS: &[&[Constant]] =
    &[ZONE_TYPES, ZONE_CONDITIONS, ZONE_REPORT_FLAGS, ZONE_IOCTLS];
