//! What is said to `/dev/ublkcN` about one request.
use crate::abi::iowr;
use crate::{constants, layout};

constants! {
    /// Plain I/O command numbers; see
    /// [`LEGACY_CONTROL_OPCODES`](super::LEGACY_CONTROL_OPCODES).
    pub LEGACY_IO_OPCODES {
        /// Plain number of [`UBLK_U_IO_FETCH_REQ`].
        pub UBLK_IO_FETCH_REQ: u8 = 0x20;
        /// Plain number of [`UBLK_U_IO_COMMIT_AND_FETCH_REQ`].
        pub UBLK_IO_COMMIT_AND_FETCH_REQ: u8 = 0x21;
        /// Plain number of [`UBLK_U_IO_NEED_GET_DATA`].
        pub UBLK_IO_NEED_GET_DATA: u8 = 0x22;
    }
}

constants! {
    /// I/O commands of one slot: `cmd_op` of an SQE that carries a [`ublksrv_io_cmd`]. Encoded as
    /// ioctl numbers since Linux 6.4.
    pub IO_OPCODES {
        /// Offers a slot for the first time; completes when it has a request. Since 6.0.
        pub UBLK_U_IO_FETCH_REQ: u32 = iowr::<ublksrv_io_cmd>(b'u', UBLK_IO_FETCH_REQ);
        /// Answers a slot's request and offers the slot again. Since 6.0.
        pub UBLK_U_IO_COMMIT_AND_FETCH_REQ: u32 =
            iowr::<ublksrv_io_cmd>(b'u', UBLK_IO_COMMIT_AND_FETCH_REQ);
        /// Names the buffer for a write's data, after [`UBLK_IO_RES_NEED_GET_DATA`]. Since 6.0.
        pub UBLK_U_IO_NEED_GET_DATA: u32 = iowr::<ublksrv_io_cmd>(b'u', UBLK_IO_NEED_GET_DATA);
        /// Puts a request's pages into the ring's buffer table at index `addr`. Since 6.15.
        pub UBLK_U_IO_REGISTER_IO_BUF: u32 = iowr::<ublksrv_io_cmd>(b'u', 0x23);
        /// Takes them out again. Since 6.15.
        pub UBLK_U_IO_UNREGISTER_IO_BUF: u32 = iowr::<ublksrv_io_cmd>(b'u', 0x24);
    }
}

constants! {
    /// `res` of a completed fetch or commit. Any other negative value: the SQE was refused.
    pub IO_RESULTS {
        /// The slot has a request.
        pub UBLK_IO_RES_OK: i32 = 0;
        /// The slot has a write that waits for [`UBLK_U_IO_NEED_GET_DATA`].
        pub UBLK_IO_RES_NEED_GET_DATA: i32 = 1;
        /// The slot was taken away (`-ENODEV`); do not offer it again.
        pub UBLK_IO_RES_ABORT: i32 = -19;
    }
}

constants! {
    /// The low byte of [`ublksrv_io_desc::op_flags`]; see [`op`](super::op).
    pub IO_OPS {
        /// Read `nr_sectors` from `start_sector`.
        pub UBLK_IO_OP_READ: u8 = 0;
        /// Write them.
        pub UBLK_IO_OP_WRITE: u8 = 1;
        /// Make completed writes durable; sector and count say nothing.
        pub UBLK_IO_OP_FLUSH: u8 = 2;
        /// The contents are no longer needed.
        pub UBLK_IO_OP_DISCARD: u8 = 3;
        /// Defined, and never sent.
        pub UBLK_IO_OP_WRITE_SAME: u8 = 4;
        /// Read back as zeros from now on.
        pub UBLK_IO_OP_WRITE_ZEROES: u8 = 5;
        /// Open a zone. Since 6.6, as all that follow.
        pub UBLK_IO_OP_ZONE_OPEN: u8 = 10;
        /// Close a zone.
        pub UBLK_IO_OP_ZONE_CLOSE: u8 = 11;
        /// Make a zone full.
        pub UBLK_IO_OP_ZONE_FINISH: u8 = 12;
        /// Write at the zone's write pointer, and say where that was.
        pub UBLK_IO_OP_ZONE_APPEND: u8 = 13;
        /// Empty all zones.
        pub UBLK_IO_OP_ZONE_RESET_ALL: u8 = 14;
        /// Empty a zone.
        pub UBLK_IO_OP_ZONE_RESET: u8 = 15;
        /// Describe zones as an array of [`blk_zone`](crate::blkzoned::blk_zone).
        pub UBLK_IO_OP_REPORT_ZONES: u8 = 18;
    }
}

constants! {
    /// Bits of the whole [`ublksrv_io_desc::op_flags`]: compare them with [`flags`](super::flags),
    /// never with the word shifted right by 8.
    pub IO_FLAGS {
        /// Do not retry device errors.
        pub UBLK_IO_F_FAILFAST_DEV: u32 = 1 << 8;
        /// Do not retry transport errors.
        pub UBLK_IO_F_FAILFAST_TRANSPORT: u32 = 1 << 9;
        /// Do not retry driver errors.
        pub UBLK_IO_F_FAILFAST_DRIVER: u32 = 1 << 10;
        /// A file system's metadata.
        pub UBLK_IO_F_META: u32 = 1 << 11;
        /// Durable before it completes.
        pub UBLK_IO_F_FUA: u32 = 1 << 13;
        /// Write zeros without giving up the space.
        pub UBLK_IO_F_NOUNMAP: u32 = 1 << 15;
        /// Swapping.
        pub UBLK_IO_F_SWAP: u32 = 1 << 16;
        /// Automatic registration failed; do it by hand. Since 6.16.
        pub UBLK_IO_F_NEED_REG_BUF: u32 = 1 << 17;
        /// The request has an integrity buffer. Since 7.0.
        pub UBLK_IO_F_INTEGRITY: u32 = 1 << 18;
        /// `addr` is an index and an offset; see [`shmem_index`](super::shmem_index). Since 7.1.
        pub UBLK_IO_F_SHMEM_ZC: u32 = 1 << 19;
    }
}

/// One request, indexed by tag in the queue's mapped descriptors. Written by the kernel; valid from
/// the completion until the commit is submitted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublksrv_io_desc {
    /// Bits 0 to 7 are one of [`IO_OPS`], bits 8 to 31 are [`IO_FLAGS`].
    pub op_flags: u32,
    /// Length in sectors of 512 bytes. For [`UBLK_IO_OP_REPORT_ZONES`] it is `nr_zones`: how many
    /// zones to report at most.
    pub nr_sectors: u32,
    /// Where, in sectors of 512 bytes.
    pub start_sector: u64,
    /// The buffer that the slot's last fetch or commit named, or with [`UBLK_IO_F_SHMEM_ZC`] a
    /// place in registered memory.
    pub addr: u64,
}
layout!(ublksrv_io_desc: 24 {
    0 op_flags: u32, 4 nr_sectors: u32, 8 start_sector: u64, 16 addr: u64,
});

/// The payload of an I/O command: 16 bytes at byte 48 of the SQE. Written by the server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublksrv_io_cmd {
    /// The queue.
    pub q_id: u16,
    /// The slot.
    pub tag: u16,
    /// Of a commit: bytes done or a negative errno.
    pub result: i32,
    /// The slot's buffer, or an index of the ring's buffer table; 0 where the device takes none. A
    /// commit of [`UBLK_IO_OP_ZONE_APPEND`] puts the first written sector here, under the header's
    /// other name `zone_append_lba`.
    pub addr: u64,
}
layout!(ublksrv_io_cmd: 16 { 0 q_id: u16, 2 tag: u16, 4 result: i32, 8 addr: u64 });
