//! The driver's rules as questions: what it would grant, take, or make of a disk. No world is
//! needed for that, so that every answer can be compared with a real kernel's.

use super::profile::Profile;
use super::ublk::add::{self, Caller};
use super::ublk::{limits, params};
use crate::errno::Errno;
use ublkit_sys::abi::as_bytes;
use ublkit_sys::ublk::{ublk_params, ublksrv_ctrl_cmd, ublksrv_ctrl_dev_info};

pub use super::ublk::limits::{Limits, Zones};

/// What ADD_DEV answers to a well-formed command that carries `wish`, from a caller with or without
/// `CAP_SYS_ADMIN`, user and group 0, on a machine with so many CPUs that has no device yet.
pub fn grant(
    profile: Profile,
    is_admin: bool,
    cpus: u16,
    wish: &ublksrv_ctrl_dev_info,
) -> Result<ublksrv_ctrl_dev_info, Errno> {
    let caller = Caller { admin: is_admin, uid: 0, gid: 0 };
    #[expect(clippy::cast_possible_truncation, reason = "64 bytes")]
    let len = size_of::<ublksrv_ctrl_dev_info>() as u16;
    let cmd = ublksrv_ctrl_cmd {
        dev_id: wish.dev_id,
        queue_id: u16::MAX,
        len,
        addr: 1,
        ..ublksrv_ctrl_cmd::default()
    };
    let checked = add::check(profile, &caller, &cmd, wish)?;
    let id = if wish.dev_id == u32::MAX { 0 } else { wish.dev_id };
    add::settle(profile, cpus, checked, id)
}

/// What SET_PARAMS answers for a device that was granted these flags (`UBLK_F_*`) and this largest
/// request, and has no disk. `kept` is what it keeps, before and after; `sent` is the command's
/// data.
pub fn set_params(
    profile: Profile,
    device_flags: u64,
    max_io_buf_bytes: u32,
    kept: &mut ublk_params,
    sent: &[u8],
) -> Result<(), Errno> {
    let params = params::merged(profile, kept, sent)?;
    params::keep(profile, device_flags, max_io_buf_bytes, kept, params)
}

/// What [`set_params`] answers for a device that keeps none yet.
pub fn accepts(
    profile: Profile,
    device_flags: u64,
    max_io_buf_bytes: u32,
    params: &ublk_params,
) -> Result<(), Errno> {
    let mut kept = ublk_params::default();
    set_params(profile, device_flags, max_io_buf_bytes, &mut kept, as_bytes(params))
}

/// What START_DEV makes of parameters that were [accepted](accepts): the disk, or the block layer's
/// refusal.
pub fn disk(profile: Profile, device_flags: u64, params: &ublk_params) -> Result<Limits, Errno> {
    limits::limits(profile, device_flags, params)
}
