//! `linux/io_uring/query.h`: what the kernel can, without trying. Since Linux 6.18.
use crate::{constants, layout};

/// One question; they can be chained. Written by the caller, but for the result.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_query_hdr {
    /// A pointer to the next one, or 0.
    pub next_entry: u64,
    /// A pointer to where the answer goes.
    pub query_data: u64,
    /// One of [`QUERY_OPS`].
    pub query_op: u32,
    /// Bytes there; the kernel writes how many it knows.
    pub size: u32,
    /// 0 or a negative errno; written by the kernel.
    pub result: i32,
    /// Zero.
    pub __resv: [u32; 3],
}
layout!(io_uring_query_hdr: 40 {
    0 next_entry: u64, 8 query_data: u64, 16 query_op: u32, 20 size: u32, 24 result: i32,
    28 __resv: [u32; 3],
});

constants! {
    /// [`io_uring_query_hdr::query_op`].
    pub QUERY_OPS {
        /// Answers [`io_uring_query_opcode`].
        pub IO_URING_QUERY_OPCODES: u32 = 0;
        /// About network receive queues.
        pub IO_URING_QUERY_ZCRX: u32 = 1;
        /// Answers [`io_uring_query_scq`].
        pub IO_URING_QUERY_SCQ: u32 = 2;
        /// About notifications of network receive queues.
        pub IO_URING_QUERY_ZCRX_EVENT: u32 = 3;
    }
}

/// Opcodes and flags that the kernel knows. Written by the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_query_opcode {
    /// How many operations.
    pub nr_request_opcodes: u32,
    /// How many opcodes of `io_uring_register(2)`.
    pub nr_register_opcodes: u32,
    /// `IORING_FEAT_*`.
    pub feature_flags: u64,
    /// `IORING_SETUP_*`.
    pub ring_setup_flags: u64,
    /// `IORING_ENTER_*`.
    pub enter_flags: u64,
    /// `IOSQE_*`.
    pub sqe_flags: u64,
    /// How many questions.
    pub nr_query_opcodes: u32,
    /// Zero.
    pub __pad: u32,
}
layout!(io_uring_query_opcode: 48 {
    0 nr_request_opcodes: u32, 4 nr_register_opcodes: u32, 8 feature_flags: u64,
    16 ring_setup_flags: u64, 24 enter_flags: u64, 32 sqe_flags: u64, 40 nr_query_opcodes: u32,
    44 __pad: u32,
});

/// What rings in the caller's memory need. Written by the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_query_scq {
    /// Bytes before the entries.
    pub hdr_size: u64,
    /// Alignment of the whole, in bytes.
    pub hdr_alignment: u64,
}
layout!(io_uring_query_scq: 16 { 0 hdr_size: u64, 8 hdr_alignment: u64 });
