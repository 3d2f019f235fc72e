//! The submission queue entry and the flags that every operation shares.
use crate::{constants, layout};

/// One request to the ring: 64 bytes. Written by the server; zero what an operation does not use.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_sqe {
    /// One of [`OPCODES`](super::OPCODES).
    pub opcode: u8,
    /// [`SQE_FLAGS`].
    pub flags: u8,
    /// I/O priority, or flags of some operations.
    pub ioprio: u16,
    /// A file descriptor, or with [`IOSQE_FIXED_FILE`] an index of the ring's file table.
    pub fd: i32,
    /// Offset in the file; also `addr2`. Of a command the low half is `cmd_op` and the high half,
    /// `__pad1`, is zero.
    pub off: u64,
    /// A pointer to a buffer or to vectors; also `splice_off_in`, and `level` with `optname`.
    pub addr: u64,
    /// Bytes of the buffer, or number of vectors.
    pub len: u32,
    /// The operation's own flags: `rw_flags`, `fsync_flags`, `poll32_events`, `timeout_flags`,
    /// `cancel_flags`, `msg_ring_flags`, `uring_cmd_flags`, `nop_flags` and many more.
    pub op_flags: u32,
    /// Handed back in the completion.
    pub user_data: u64,
    /// Index of the ring's buffer table, or with [`IOSQE_BUFFER_SELECT`] the `buf_group`.
    pub buf_index: u16,
    /// Registered credentials to use, or 0.
    pub personality: u16,
    /// The second descriptor of a splice; also `file_index`, `optlen` and others, unsigned.
    pub splice_fd_in: i32,
    /// `addr3` and `__pad2`, or the first 16 bytes of a command's payload.
    pub cmd: [u64; 2],
}
layout!(io_uring_sqe: 64 {
    0 opcode: u8, 1 flags: u8, 2 ioprio: u16, 4 fd: i32, 8 off: u64, 16 addr: u64, 24 len: u32,
    28 op_flags: u32, 32 user_data: u64, 40 buf_index: u16, 42 personality: u16,
    44 splice_fd_in: i32, 48 cmd: [u64; 2],
});

/// A 128-byte entry: with `IORING_SETUP_SQE128` every entry, otherwise two neighbours. Not a struct
/// of the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_sqe128 {
    /// The first half. A command's payload begins at its `cmd`.
    pub head: io_uring_sqe,
    /// Bytes 16 to 79 of the payload.
    pub tail: [u64; 8],
}
layout!(io_uring_sqe128: 128 { 0 head: io_uring_sqe, 64 tail: [u64; 8] });

constants! {
    /// Bit numbers of [`SQE_FLAGS`].
    pub SQE_FLAG_BITS {
        /// Bit of [`IOSQE_FIXED_FILE`].
        pub IOSQE_FIXED_FILE_BIT: u32 = 0;
        /// Bit of [`IOSQE_IO_DRAIN`].
        pub IOSQE_IO_DRAIN_BIT: u32 = 1;
        /// Bit of [`IOSQE_IO_LINK`].
        pub IOSQE_IO_LINK_BIT: u32 = 2;
        /// Bit of [`IOSQE_IO_HARDLINK`].
        pub IOSQE_IO_HARDLINK_BIT: u32 = 3;
        /// Bit of [`IOSQE_ASYNC`].
        pub IOSQE_ASYNC_BIT: u32 = 4;
        /// Bit of [`IOSQE_BUFFER_SELECT`].
        pub IOSQE_BUFFER_SELECT_BIT: u32 = 5;
        /// Bit of [`IOSQE_CQE_SKIP_SUCCESS`].
        pub IOSQE_CQE_SKIP_SUCCESS_BIT: u32 = 6;
    }
}

constants! {
    /// [`io_uring_sqe::flags`].
    pub SQE_FLAGS {
        /// `fd` is an index of the ring's file table.
        pub IOSQE_FIXED_FILE: u8 = 1 << IOSQE_FIXED_FILE_BIT;
        /// Begins when all before it are complete.
        pub IOSQE_IO_DRAIN: u8 = 1 << IOSQE_IO_DRAIN_BIT;
        /// The next entry begins when this one succeeded.
        pub IOSQE_IO_LINK: u8 = 1 << IOSQE_IO_LINK_BIT;
        /// The next entry begins when this one completed.
        pub IOSQE_IO_HARDLINK: u8 = 1 << IOSQE_IO_HARDLINK_BIT;
        /// Given to a worker at once.
        pub IOSQE_ASYNC: u8 = 1 << IOSQE_ASYNC_BIT;
        /// The kernel takes a buffer of group `buf_index`.
        pub IOSQE_BUFFER_SELECT: u8 = 1 << IOSQE_BUFFER_SELECT_BIT;
        /// No completion unless it fails. Not for fetch or commit: 0 is their news. Since 5.17.
        pub IOSQE_CQE_SKIP_SUCCESS: u8 = 1 << IOSQE_CQE_SKIP_SUCCESS_BIT;
    }
}
