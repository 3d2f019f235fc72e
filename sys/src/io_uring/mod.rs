//! `linux/io_uring.h` and `linux/io_uring/query.h`: the ring that carries ublk's commands.
//!
//! Names are flat, as in the header. Sockets and what belongs to them are left out.
#![allow(non_camel_case_types, reason = "the kernel's names")]

mod cqe;
mod enter;
mod flags;
mod opcode;
mod query;
mod register;
mod register_args;
mod setup;
mod sqe;

pub use cqe::*;
pub use enter::*;
pub use flags::*;
pub use opcode::*;
pub use query::*;
pub use register::*;
pub use register_args::*;
pub use setup::*;
pub use sqe::*;

use crate::abi::{Abi, Constant, Layout};

/// Every struct of this module.
pub const LAYOUTS: &[Layout] = &[
    io_uring_sqe::LAYOUT,
    io_uring_sqe128::LAYOUT,
    io_uring_cqe::LAYOUT,
    io_uring_cqe32::LAYOUT,
    io_sqring_offsets::LAYOUT,
    io_cqring_offsets::LAYOUT,
    io_uring_params::LAYOUT,
    __kernel_timespec::LAYOUT,
    io_uring_getevents_arg::LAYOUT,
    io_uring_reg_wait::LAYOUT,
    io_uring_files_update::LAYOUT,
    io_uring_region_desc::LAYOUT,
    io_uring_mem_region_reg::LAYOUT,
    io_uring_rsrc_register::LAYOUT,
    io_uring_rsrc_update::LAYOUT,
    io_uring_rsrc_update2::LAYOUT,
    io_uring_probe_op::LAYOUT,
    io_uring_probe::LAYOUT,
    io_uring_restriction::LAYOUT,
    io_uring_task_restriction::LAYOUT,
    io_uring_clock_register::LAYOUT,
    io_uring_clone_buffers::LAYOUT,
    io_uring_buf::LAYOUT,
    io_uring_buf_ring::LAYOUT,
    io_uring_buf_reg::LAYOUT,
    io_uring_buf_status::LAYOUT,
    io_uring_sync_cancel_reg::LAYOUT,
    io_uring_file_index_range::LAYOUT,
    io_uring_query_hdr::LAYOUT,
    io_uring_query_opcode::LAYOUT,
    io_uring_query_scq::LAYOUT,
];

/// Every constant of this module, in groups.
pub const CONSTANTS: &[&[Constant]] = &[
    SQE_FLAG_BITS,
    SQE_FLAGS,
    CQE_FLAGS,
    SETUP_FLAGS,
    MMAP_OFFSETS,
    SQ_FLAGS,
    CQ_FLAGS,
    RING_FEATURES,
    ENTER_FLAGS,
    REG_WAIT_FLAGS,
    OPCODES,
    URING_CMD_FLAGS,
    FSYNC_FLAGS,
    TIMEOUT_FLAGS,
    SPLICE_FLAGS,
    POLL_FLAGS,
    CANCEL_FLAGS,
    MSG_RING_COMMANDS,
    MSG_RING_FLAGS,
    NOP_FLAGS,
    FILE_INDICES,
    REGISTER_OPCODES,
    WORKER_TYPES,
    REGION_TYPES,
    REGION_FLAGS,
    RSRC_FLAGS,
    FILES_UPDATE_NUMBERS,
    PROBE_FLAGS,
    RESTRICTION_OPS,
    CLONE_FLAGS,
    PBUF_RING_FLAGS,
    QUERY_OPS,
];
