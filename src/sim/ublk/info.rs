//! Small answers about a device: its queues' CPUs, and who may send it what.

use super::add::refuse_if;
use crate::errno::Errno;
use crate::sim::profile::Profile;
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::ublksrv_ctrl_cmd;

/// The longest path in a command, in bytes.
const MAX_PATH_BYTES: u16 = 4096;

/// GET_QUEUE_AFFINITY: the mask of the CPUs whose requests come to `queue`, in a buffer of
/// `len_bytes`. CPUs are shared out evenly, neighbours together.
pub(in crate::sim) fn cpu_mask(
    nr_cpu_ids: u16,
    queues: u16,
    queue: u64,
    len_bytes: u16,
) -> Result<Vec<u8>, Errno> {
    refuse_if(u32::from(len_bytes) * 8 < u32::from(nr_cpu_ids) || !len_bytes.is_multiple_of(8))?;
    refuse_if(queue >= queues.into())?;
    let mut mask = vec![0; len_bytes.into()];
    let of_queue = |cpu: &u16| u64::from(*cpu) * u64::from(queues) / u64::from(nr_cpu_ids) == queue;
    for cpu in (0..nr_cpu_ids).filter(of_queue) {
        mask[usize::from(cpu / 8)] |= 1 << (cpu % 8);
    }
    Ok(mask)
}

/// What a command does with a device, by the rights on its char device that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Right {
    Read,
    ReadWrite,
}

/// A command whose path was taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Named {
    /// The path, and what its file must grant; `None` where none is asked for.
    pub(in crate::sim) path: Option<(Vec<u8>, Right)>,
    /// The command, about its payload alone.
    pub(in crate::sim) cmd: ublksrv_ctrl_cmd,
}

/// Whether a device's sender may send it the command with number `op`, and by what path. `read`
/// copies so many bytes at `cmd.addr`. The path is still to be looked up: its errno, then `EPERM`
/// if it is not this device's node, then `EACCES` without the [`Right`].
pub(in crate::sim) fn split_path(
    profile: Profile,
    device_flags: u64,
    is_admin: bool,
    op: u32,
    cmd: &ublksrv_ctrl_cmd,
    read: impl FnOnce(usize) -> Result<Vec<u8>, Errno>,
) -> Result<Named, Errno> {
    let number = op & 0xff;
    if device_flags & sys::UBLK_F_UNPRIVILEGED_DEV == 0 {
        if !is_admin {
            return Err(Errno::EPERM);
        }
        if number != u32::from(sys::UBLK_CMD_GET_DEV_INFO2) {
            return Ok(Named { path: None, cmd: *cmd });
        }
    }
    let path_bytes = cmd.dev_path_len;
    refuse_if(!(1..=MAX_PATH_BYTES).contains(&path_bytes) || cmd.len < path_bytes)?;
    let mut path = read(path_bytes.into())?;
    if let Some(end) = path.iter().position(|byte| *byte == 0) {
        path.truncate(end);
    }
    let known = |(candidate, _, needs): &&(u32, Right, u64)| {
        candidate & 0xff == number && profile.features() & needs == *needs
    };
    let (_, right, _) = BY_PATH.iter().find(known).ok_or(Errno::EINVAL)?;
    let len = cmd.len - path_bytes;
    let addr = cmd.addr.wrapping_add(path_bytes.into());
    Ok(Named { path: Some((path, *right)), cmd: ublksrv_ctrl_cmd { len, addr, ..*cmd } })
}

/// The commands that take a path, each with the feature that it came with. DEL_DEV_ASYNC is not
/// among them.
const BY_PATH: &[(u32, Right, u64)] = &[
    (sys::UBLK_U_CMD_GET_DEV_INFO, Right::Read, 0),
    (sys::UBLK_U_CMD_GET_DEV_INFO2, Right::Read, 0),
    (sys::UBLK_U_CMD_GET_QUEUE_AFFINITY, Right::Read, 0),
    (sys::UBLK_U_CMD_GET_PARAMS, Right::Read, 0),
    (sys::UBLK_U_CMD_START_DEV, Right::ReadWrite, 0),
    (sys::UBLK_U_CMD_STOP_DEV, Right::ReadWrite, 0),
    (sys::UBLK_U_CMD_DEL_DEV, Right::ReadWrite, 0),
    (sys::UBLK_U_CMD_SET_PARAMS, Right::ReadWrite, 0),
    (sys::UBLK_U_CMD_START_USER_RECOVERY, Right::ReadWrite, 0),
    (sys::UBLK_U_CMD_END_USER_RECOVERY, Right::ReadWrite, 0),
    (sys::UBLK_U_CMD_UPDATE_SIZE, Right::ReadWrite, sys::UBLK_F_UPDATE_SIZE),
    (sys::UBLK_U_CMD_QUIESCE_DEV, Right::ReadWrite, sys::UBLK_F_QUIESCE),
    (sys::UBLK_U_CMD_TRY_STOP_DEV, Right::ReadWrite, sys::UBLK_F_SAFE_STOP_DEV),
    (sys::UBLK_U_CMD_REG_BUF, Right::ReadWrite, sys::UBLK_F_SHMEM_ZC),
    (sys::UBLK_U_CMD_UNREG_BUF, Right::ReadWrite, sys::UBLK_F_SHMEM_ZC),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cpu_has_one_queue() {
        for (cpus, queues) in [(1, 1), (2, 2), (4, 2), (7, 3), (64, 5), (65, 65)] {
            let mut seen = [0_u8; 16];
            for queue in 0..u64::from(queues) {
                let mask = cpu_mask(cpus, queues, queue, 16).unwrap();
                assert!(mask.iter().any(|byte| *byte != 0), "a queue without CPUs");
                for (all, byte) in seen.iter_mut().zip(mask) {
                    assert_eq!(*all & byte, 0, "a CPU of two queues");
                    *all |= byte;
                }
            }
            assert_eq!(u128::from_le_bytes(seen), (1 << cpus) - 1);
        }
        assert_eq!(cpu_mask(4, 2, 1, 8), Ok(vec![0b1100, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn masks_that_do_not_fit() {
        for (cpus, queue, len) in [(4, 0, 0), (4, 0, 4), (4, 0, 12), (65, 0, 8), (4, 2, 8)] {
            assert_eq!(cpu_mask(cpus, 2, queue, len), Err(Errno::EINVAL), "{cpus} {queue} {len}");
        }
        assert_eq!(cpu_mask(4, 2, 1 << 32, 8), Err(Errno::EINVAL));
        assert_eq!(cpu_mask(64, 2, 0, 4096).map(|mask| mask.len()), Ok(4096));
    }

    const PATH: &[u8] = b"/dev/ublkc0\0";
    const OWN: u64 = sys::UBLK_F_UNPRIVILEGED_DEV;

    fn command(len: u16, dev_path_len: u16) -> ublksrv_ctrl_cmd {
        ublksrv_ctrl_cmd { len, dev_path_len, addr: 0x1000, ..Default::default() }
    }

    fn split(
        profile: Profile,
        flags: u64,
        is_admin: bool,
        op: u32,
        cmd: &ublksrv_ctrl_cmd,
    ) -> Result<Named, Errno> {
        split_path(profile, flags, is_admin, op, cmd, |bytes| {
            PATH.get(..bytes).map(<[u8]>::to_vec).ok_or(Errno::EFAULT)
        })
    }

    #[test]
    fn a_privileged_device_wants_the_privileged() {
        let cmd = command(64, 0);
        let of = |is_admin, op| split(Profile::NEWEST, 0, is_admin, op, &cmd);
        assert_eq!(of(false, sys::UBLK_U_CMD_GET_DEV_INFO2), Err(Errno::EPERM));
        assert_eq!(of(false, sys::UBLK_U_CMD_DEL_DEV_ASYNC), Err(Errno::EPERM));
        let plain = Ok(Named { path: None, cmd });
        assert_eq!(of(true, sys::UBLK_U_CMD_GET_DEV_INFO), plain);
        assert_eq!(of(true, 0x7f), plain, "unknown commands are refused later");
        assert_eq!(of(true, sys::UBLK_U_CMD_GET_DEV_INFO2), Err(Errno::EINVAL), "no path");
    }

    #[test]
    fn the_path_comes_first() {
        let op = sys::UBLK_U_CMD_SET_PARAMS;
        let cmd = command(164, 12);
        let named = split(Profile::NEWEST, OWN, false, op, &cmd).unwrap();
        assert_eq!(named.path, Some((b"/dev/ublkc0".to_vec(), Right::ReadWrite)));
        assert_eq!((named.cmd.len, named.cmd.addr), (152, 0x100c));
        let read = split(Profile::NEWEST, OWN, true, sys::UBLK_U_CMD_GET_PARAMS, &cmd);
        assert_eq!(read.unwrap().path.unwrap().1, Right::Read);
    }

    #[test]
    fn refusals_in_order() {
        let of = |op, cmd| split(Profile::NEWEST, OWN, false, op, &cmd).unwrap_err();
        let async_delete = sys::UBLK_U_CMD_DEL_DEV_ASYNC;
        assert_eq!(of(async_delete, command(0, 0)), Errno::EINVAL);
        assert_eq!(of(async_delete, command(9999, 4097)), Errno::EINVAL);
        assert_eq!(of(async_delete, command(11, 12)), Errno::EINVAL);
        assert_eq!(of(async_delete, command(13, 13)), Errno::EFAULT, "read before the command");
        assert_eq!(of(async_delete, command(12, 12)), Errno::EINVAL);
        let quiesce = sys::UBLK_U_CMD_QUIESCE_DEV;
        let old = split(Profile::OLDEST, OWN, false, quiesce, &command(12, 12));
        assert_eq!(old, Err(Errno::EINVAL), "a command that it does not know");
        assert!(split(Profile::NEWEST, OWN, false, quiesce, &command(12, 12)).is_ok());
    }
}
