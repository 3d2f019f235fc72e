//! `linux/ublk_cmd.h`: how a server and the ublk driver talk.
//!
//! Names are flat, as in the header; the files follow its parts.
#![allow(non_camel_case_types, reason = "the kernel's names")]

mod batch;
mod control;
mod encoding;
mod features;
mod io;
mod params;

pub use batch::*;
pub use control::*;
pub use encoding::*;
pub use features::*;
pub use io::*;
pub use params::*;

use crate::abi::{Abi, Constant, Layout};

/// Every struct of this module.
pub const LAYOUTS: &[Layout] = &[
    ublk_shmem_buf_reg::LAYOUT,
    ublksrv_ctrl_cmd::LAYOUT,
    ublksrv_ctrl_dev_info::LAYOUT,
    ublksrv_io_desc::LAYOUT,
    ublk_auto_buf_reg::LAYOUT,
    ublksrv_io_cmd::LAYOUT,
    ublk_elem_header::LAYOUT,
    ublk_batch_io::LAYOUT,
    ublk_param_basic::LAYOUT,
    ublk_param_discard::LAYOUT,
    ublk_param_devt::LAYOUT,
    ublk_param_zoned::LAYOUT,
    ublk_param_dma_align::LAYOUT,
    ublk_param_segment::LAYOUT,
    ublk_param_integrity::LAYOUT,
    ublk_params::LAYOUT,
];

/// Every constant of this module, in groups.
pub const CONSTANTS: &[&[Constant]] = &[
    LEGACY_CONTROL_OPCODES,
    CONTROL_OPCODES,
    SHMEM_BUF_FLAGS,
    CONTROL_LIMITS,
    DEVICE_STATES,
    LEGACY_IO_OPCODES,
    IO_OPCODES,
    BATCH_OPCODES,
    IO_RESULTS,
    ENCODING_NUMBERS,
    FEATURES,
    IO_OPS,
    IO_FLAGS,
    AUTO_BUF_REG_FLAGS,
    BATCH_FLAGS,
    ATTRIBUTES,
    SEGMENT_LIMITS,
    PARAM_TYPES,
    INTEGRITY_NUMBERS,
    SHMEM_ZC_NUMBERS,
];
