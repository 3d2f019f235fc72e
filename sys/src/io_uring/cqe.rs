//! The completion queue entry.
use crate::{constants, layout};

/// One answer of the ring: 16 bytes. Written by the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_cqe {
    /// As in the request.
    pub user_data: u64,
    /// The operation's result, or a negative errno.
    pub res: i32,
    /// [`CQE_FLAGS`]; with [`IORING_CQE_F_BUFFER`] the high half names a provided buffer.
    pub flags: u32,
}
layout!(io_uring_cqe: 16 { 0 user_data: u64, 8 res: i32, 12 flags: u32 });

/// A 32-byte answer. Not a struct of the header, where the tail is a flexible array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_cqe32 {
    /// What every answer has.
    pub head: io_uring_cqe,
    /// The operation's own.
    pub big_cqe: [u64; 2],
}
layout!(io_uring_cqe32: 32 { 0 head: io_uring_cqe, 16 big_cqe: [u64; 2] });

constants! {
    /// [`io_uring_cqe::flags`].
    pub CQE_FLAGS {
        /// A provided buffer was used; its number is in the high half.
        pub IORING_CQE_F_BUFFER: u32 = 1 << 0;
        /// The request will complete again.
        pub IORING_CQE_F_MORE: u32 = 1 << 1;
        /// The socket has more to read.
        pub IORING_CQE_F_SOCK_NONEMPTY: u32 = 1 << 2;
        /// A zero-copy send no longer needs its buffer.
        pub IORING_CQE_F_NOTIF: u32 = 1 << 3;
        /// The provided buffer will be used further. Since 6.12.
        pub IORING_CQE_F_BUF_MORE: u32 = 1 << 4;
        /// Only fills a gap: skip it. Since 6.18.
        pub IORING_CQE_F_SKIP: u32 = 1 << 5;
        /// This entry has 32 bytes, in a ring of both sizes. Since 6.18.
        pub IORING_CQE_F_32: u32 = 1 << 15;
        /// Where a provided buffer's number begins.
        pub IORING_CQE_BUFFER_SHIFT: u32 = 16;
    }
}
