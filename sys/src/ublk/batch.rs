//! Many slots with one command, for devices with [`UBLK_F_BATCH_IO`](super::UBLK_F_BATCH_IO).
//! Since Linux 7.0.
use crate::abi::iowr;
use crate::{constants, layout};

constants! {
    /// I/O commands of many slots: `cmd_op` of an SQE that carries a [`ublk_batch_io`]. The driver
    /// compares the whole word.
    pub BATCH_OPCODES {
        /// Offers slots for the first time.
        pub UBLK_U_IO_PREP_IO_CMDS: u32 = iowr::<ublk_batch_io>(b'u', 0x25);
        /// Answers requests; the result is the number of bytes of elements taken.
        pub UBLK_U_IO_COMMIT_IO_CMDS: u32 = iowr::<ublk_batch_io>(b'u', 0x26);
        /// Multishot: each completion brings tags, as u16, in a provided buffer.
        pub UBLK_U_IO_FETCH_IO_CMDS: u32 = iowr::<ublk_batch_io>(b'u', 0x27);
    }
}

/// The head of each element at the `addr` of a prepare or commit. Written by the server.
///
/// With [`UBLK_BATCH_F_HAS_BUF_ADDR`] the slot's buffer follows as a u64, and then with
/// [`UBLK_BATCH_F_HAS_ZONE_LBA`] the appended sector as another.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_elem_header {
    /// The slot.
    pub tag: u16,
    /// Where to register its pages, with
    /// [`UBLK_F_AUTO_BUF_REG`](super::UBLK_F_AUTO_BUF_REG).
    pub buf_index: u16,
    /// Of a commit: bytes done or a negative errno.
    pub result: i32,
}
layout!(ublk_elem_header: 8 { 0 tag: u16, 2 buf_index: u16, 4 result: i32 });

/// The payload of a batch command: 16 bytes at byte 48 of the SQE. Written by the server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_batch_io {
    /// The queue.
    pub q_id: u16,
    /// [`BATCH_FLAGS`]; 0 for a fetch.
    pub flags: u16,
    /// How many elements there are.
    pub nr_elem: u16,
    /// Bytes of one element: 8, and 8 for each of the two optional words; 2 for a fetch.
    pub elem_bytes: u8,
    /// Zero.
    pub reserved: u8,
    /// Zero.
    pub reserved2: u64,
}
layout!(ublk_batch_io: 16 {
    0 q_id: u16, 2 flags: u16, 4 nr_elem: u16, 6 elem_bytes: u8, 7 reserved: u8, 8 reserved2: u64,
});

constants! {
    /// [`ublk_batch_io::flags`].
    pub BATCH_FLAGS {
        /// Each element carries the sector of a zone append.
        pub UBLK_BATCH_F_HAS_ZONE_LBA: u16 = 1 << 0;
        /// Each element carries its slot's buffer.
        pub UBLK_BATCH_F_HAS_BUF_ADDR: u16 = 1 << 1;
        /// As [`UBLK_AUTO_BUF_REG_FALLBACK`](super::UBLK_AUTO_BUF_REG_FALLBACK).
        pub UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK: u16 = 1 << 2;
    }
}
