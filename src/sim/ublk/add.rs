//! ADD_DEV: what a wish for a device comes to.

use crate::errno::Errno;
use crate::sim::profile::{Profile, Rule};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{ublksrv_ctrl_cmd, ublksrv_ctrl_dev_info, ublksrv_io_desc};

/// Who sends a control command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Caller {
    /// Whether it has `CAP_SYS_ADMIN`.
    pub(in crate::sim) admin: bool,
    pub(in crate::sim) uid: u32,
    pub(in crate::sim) gid: u32,
}

/// The simulated machine's page.
pub(in crate::sim) const PAGE_BYTES: u32 = 4096;

/// Devices, queues and slots that can be at the most.
pub(in crate::sim) const MAX_DEVICES: u32 = 1 << 20;
const MAX_QUEUES: u16 = 4096;
const MAX_DEPTH: u16 = 4096;
/// Bytes from one descriptor to the next at the most.
const MAX_DESCRIPTOR_BYTES: usize = 256;

const RECOVERY: u64 = sys::UBLK_F_USER_RECOVERY;
const REISSUE: u64 = sys::UBLK_F_USER_RECOVERY_REISSUE;
const FAIL_IO: u64 = sys::UBLK_F_USER_RECOVERY_FAIL_IO;
/// Ways of moving data that a server without privileges is not trusted with.
const NOT_UNPRIVILEGED: u64 =
    sys::UBLK_F_USER_COPY | sys::UBLK_F_SUPPORT_ZERO_COPY | sys::UBLK_F_AUTO_BUF_REG;
/// With any of these, a write does not ask for its buffer.
const ASKS_FOR_NOTHING: u64 = NOT_UNPRIVILEGED | sys::UBLK_F_BATCH_IO;
/// What the driver sets by itself, where it knows it.
const FORCED: u64 = sys::UBLK_F_URING_CMD_COMP_IN_TASK
    | sys::UBLK_F_CMD_IOCTL_ENCODE
    | sys::UBLK_F_PER_IO_DAEMON
    | sys::UBLK_F_BUF_REG_OFF_DAEMON
    | sys::UBLK_F_SAFE_STOP_DEV;

/// The checks before a number is chosen, in the driver's order. The answer has the flags that the
/// driver goes on with, those that it does not know still among them.
pub(in crate::sim) fn check(
    profile: Profile,
    caller: &Caller,
    cmd: &ublksrv_ctrl_cmd,
    wish: &ublksrv_ctrl_dev_info,
) -> Result<ublksrv_ctrl_dev_info, Errno> {
    let is_short = usize::from(cmd.len) < size_of::<ublksrv_ctrl_dev_info>();
    refuse_if(is_short || cmd.addr == 0 || cmd.queue_id != u16::MAX)?;
    let is_sized = (1..=MAX_QUEUES).contains(&wish.nr_hw_queues)
        && (1..=MAX_DEPTH).contains(&wish.queue_depth);
    refuse_if(!is_sized)?;
    let mut info = *wish;
    if caller.admin {
        info.flags &= !sys::UBLK_F_UNPRIVILEGED_DEV;
    } else if info.flags & sys::UBLK_F_UNPRIVILEGED_DEV == 0 {
        return Err(Errno::EPERM);
    }
    // A check of a feature came with the feature.
    let known = info.flags & profile.features();
    refuse_if(!recovers_sensibly(profile, known))?;
    refuse_if(known & sys::UBLK_F_QUIESCE != 0 && known & RECOVERY == 0)?;
    if info.flags & sys::UBLK_F_UNPRIVILEGED_DEV != 0 {
        info.flags &= !(RECOVERY | REISSUE);
        refuse_if(known & NOT_UNPRIVILEGED != 0)?;
    }
    refuse_if(known & sys::UBLK_F_INTEGRITY != 0 && known & sys::UBLK_F_USER_COPY == 0)?;
    refuse_if(known & sys::UBLK_F_IO_DESC_SIZE != 0 && !is_descriptor_size(info.io_desc_size))?;
    info.owner_uid = caller.uid;
    info.owner_gid = caller.gid;
    let is_numbered = cmd.dev_id == u32::MAX || cmd.dev_id < MAX_DEVICES;
    refuse_if(cmd.dev_id != info.dev_id || !is_numbered)?;
    Ok(info)
}

/// What is settled once the device has the number `id`; `wish` is what [`check`] made of the wish.
pub(in crate::sim) fn settle(
    profile: Profile,
    cpus: u16,
    wish: ublksrv_ctrl_dev_info,
    id: u32,
) -> Result<ublksrv_ctrl_dev_info, Errno> {
    let known = profile.features();
    let mut flags = wish.flags & known | FORCED & known;
    if flags & sys::UBLK_F_BATCH_IO != 0 {
        flags &= !sys::UBLK_F_PER_IO_DAEMON;
    }
    if flags & ASKS_FOR_NOTHING != 0 {
        flags &= !sys::UBLK_F_NEED_GET_DATA;
    }
    let moves_zones = sys::UBLK_F_USER_COPY | sys::UBLK_F_SUPPORT_ZERO_COPY;
    refuse_if(flags & sys::UBLK_F_ZONED != 0 && flags & moves_zones == 0)?;
    // Its queue of tags is a power of two, and not one.
    refuse_if(flags & sys::UBLK_F_BATCH_IO != 0 && wish.queue_depth < 2)?;
    // Who knows the field says it, asked or not; before, it was padding and comes back as it was.
    let says_size = known & !flags & sys::UBLK_F_IO_DESC_SIZE != 0;
    let descriptor_bytes = 24;
    Ok(ublksrv_ctrl_dev_info {
        io_desc_size: if says_size { descriptor_bytes } else { wish.io_desc_size },
        nr_hw_queues: wish.nr_hw_queues.min(cpus),
        max_io_buf_bytes: wish.max_io_buf_bytes / PAGE_BYTES * PAGE_BYTES,
        state: sys::UBLK_S_DEV_DEAD,
        ublksrv_pid: -1,
        dev_id: id,
        flags,
        ..wish
    })
}

/// `EINVAL` if so: what nearly all refusals are.
pub(in crate::sim) fn refuse_if(is_wrong: bool) -> Result<(), Errno> {
    if is_wrong { Err(Errno::EINVAL) } else { Ok(()) }
}

fn recovers_sensibly(profile: Profile, flags: u64) -> bool {
    let wanted = flags & (RECOVERY | REISSUE | FAIL_IO);
    let is_lone_reissue = wanted == REISSUE && !profile.has(Rule::RecoveryIsOneOfFour);
    let sensible = [0, RECOVERY, RECOVERY | REISSUE, RECOVERY | FAIL_IO];
    sensible.contains(&wanted) || is_lone_reissue
}

fn is_descriptor_size(bytes: u16) -> bool {
    let bytes = usize::from(bytes);
    let range = size_of::<ublksrv_io_desc>()..=MAX_DESCRIPTOR_BYTES;
    range.contains(&bytes) && bytes.is_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADMIN: Caller = Caller { admin: true, uid: 0, gid: 0 };
    const USER: Caller = Caller { admin: false, uid: 1000, gid: 100 };

    fn command() -> ublksrv_ctrl_cmd {
        let dev_id = u32::MAX;
        ublksrv_ctrl_cmd { dev_id, queue_id: u16::MAX, len: 64, addr: 1, ..Default::default() }
    }

    fn wish(flags: u64) -> ublksrv_ctrl_dev_info {
        ublksrv_ctrl_dev_info {
            nr_hw_queues: 8,
            queue_depth: 128,
            max_io_buf_bytes: 100_000,
            dev_id: u32::MAX,
            flags,
            io_desc_size: 24,
            ..Default::default()
        }
    }

    fn granted(profile: Profile, caller: &Caller, flags: u64) -> Result<u64, Errno> {
        let checked = check(profile, caller, &command(), &wish(flags))?;
        settle(profile, 4, checked, 7).map(|info| info.flags)
    }

    #[track_caller]
    fn refused(profile: &str, caller: &Caller, flags: u64, errno: Errno) {
        let profile = Profile::named(profile).unwrap();
        assert_eq!(granted(profile, caller, flags), Err(errno), "{profile}");
    }

    #[test]
    fn the_command_is_looked_at_before_the_wish() {
        let bad = [
            ublksrv_ctrl_cmd { len: 63, ..command() },
            ublksrv_ctrl_cmd { addr: 0, ..command() },
            ublksrv_ctrl_cmd { queue_id: 0, ..command() },
        ];
        for cmd in bad {
            let answer = check(Profile::NEWEST, &USER, &cmd, &wish(0));
            assert_eq!(answer, Err(Errno::EINVAL), "not EPERM: {cmd:?}");
        }
        let odd = ublksrv_ctrl_cmd { len: 65, ..command() };
        assert!(check(Profile::NEWEST, &ADMIN, &odd, &wish(0)).is_ok());
    }

    #[test]
    fn sizes_come_before_rights() {
        let sized = |nr_hw_queues, queue_depth| {
            let wish = ublksrv_ctrl_dev_info { nr_hw_queues, queue_depth, ..wish(0) };
            check(Profile::NEWEST, &USER, &command(), &wish).unwrap_err()
        };
        for (queues, depth) in [(0, 1), (4097, 1), (1, 0), (1, 4097)] {
            assert_eq!(sized(queues, depth), Errno::EINVAL);
        }
        assert_eq!((sized(1, 1), sized(4096, 4096)), (Errno::EPERM, Errno::EPERM));
    }

    #[test]
    fn rights_come_before_features() {
        refused("7.3", &USER, REISSUE, Errno::EPERM);
        refused("7.3", &USER, sys::UBLK_F_UNPRIVILEGED_DEV | REISSUE, Errno::EINVAL);
        refused("7.3", &ADMIN, REISSUE, Errno::EINVAL);
    }

    #[test]
    fn ways_to_recover() {
        for set in [REISSUE, FAIL_IO, REISSUE | FAIL_IO, RECOVERY | REISSUE | FAIL_IO] {
            for caller in [&ADMIN, &USER] {
                refused("6.16", caller, set | sys::UBLK_F_UNPRIVILEGED_DEV, Errno::EINVAL);
            }
        }
        for set in [0, RECOVERY, RECOVERY | REISSUE, RECOVERY | FAIL_IO] {
            assert_eq!(granted(Profile::NEWEST, &ADMIN, set).unwrap() & !FORCED, set);
        }
        // The oldest knows two of the bits, and takes any set of them.
        for set in 0..8 {
            let wanted = [REISSUE, RECOVERY, FAIL_IO].iter().enumerate();
            let wanted =
                wanted.filter(|(bit, _)| set >> bit & 1 == 1).fold(0, |all, (_, f)| all | f);
            let answer = granted(Profile::OLDEST, &ADMIN, wanted).unwrap();
            assert_eq!(answer & (RECOVERY | REISSUE | FAIL_IO), wanted & !FAIL_IO);
        }
        refused("7.3", &ADMIN, sys::UBLK_F_QUIESCE, Errno::EINVAL);
        refused("7.3", &ADMIN, sys::UBLK_F_QUIESCE | REISSUE | FAIL_IO, Errno::EINVAL);
        assert_eq!(granted(Profile::OLDEST, &ADMIN, sys::UBLK_F_QUIESCE).unwrap() & !FORCED, 0);
    }

    #[test]
    fn without_privileges() {
        let own = sys::UBLK_F_UNPRIVILEGED_DEV;
        for copy in [sys::UBLK_F_USER_COPY, sys::UBLK_F_SUPPORT_ZERO_COPY, sys::UBLK_F_AUTO_BUF_REG]
        {
            refused("7.3", &USER, own | copy, Errno::EINVAL);
            assert_eq!(granted(Profile::NEWEST, &ADMIN, own | copy).unwrap() & !FORCED, copy);
        }
        refused("6.12", &USER, own | sys::UBLK_F_USER_COPY, Errno::EINVAL);
        let dropped = granted(Profile::OLDEST, &USER, own | sys::UBLK_F_SUPPORT_ZERO_COPY);
        assert_eq!(dropped.unwrap() & !FORCED, own);
        // What recovery leaves behind.
        let all = own | RECOVERY | FAIL_IO | sys::UBLK_F_QUIESCE;
        let left = granted(Profile::NEWEST, &USER, all).unwrap() & !FORCED;
        assert_eq!(left, own | FAIL_IO | sys::UBLK_F_QUIESCE);
        let info = check(Profile::NEWEST, &USER, &command(), &wish(own)).unwrap();
        assert_eq!((info.owner_uid, info.owner_gid), (1000, 100));
    }

    #[test]
    fn needs() {
        let (integrity, zoned) = (sys::UBLK_F_INTEGRITY, sys::UBLK_F_ZONED);
        let (copy, zero_copy) = (sys::UBLK_F_USER_COPY, sys::UBLK_F_SUPPORT_ZERO_COPY);
        refused("7.0", &ADMIN, integrity | zero_copy, Errno::EINVAL);
        assert!(granted(Profile::NEWEST, &ADMIN, integrity | copy).is_ok());
        refused("7.3", &ADMIN, zoned | sys::UBLK_F_AUTO_BUF_REG, Errno::EINVAL);
        assert!(granted(Profile::NEWEST, &ADMIN, zoned | zero_copy).is_ok());
        refused("6.12", &ADMIN, zoned | zero_copy, Errno::EINVAL);
        assert!(granted(Profile::OLDEST, &ADMIN, zoned | copy).is_ok());
    }

    #[test]
    fn descriptors_of_a_chosen_size() {
        let sized = |profile, io_desc_size| {
            let wish = ublksrv_ctrl_dev_info { io_desc_size, ..wish(sys::UBLK_F_IO_DESC_SIZE) };
            check(profile, &ADMIN, &command(), &wish).map(|info| info.io_desc_size)
        };
        for good in [24, 32, 256] {
            assert_eq!(sized(Profile::NEWEST, good), Ok(good));
        }
        for bad in [0, 16, 23, 28, 264, u16::MAX] {
            assert_eq!(sized(Profile::NEWEST, bad), Err(Errno::EINVAL), "{bad}");
            assert_eq!(sized(Profile::OLDEST, bad), Ok(bad), "padding");
        }
    }

    #[test]
    fn numbers() {
        let numbered = |asked, repeated| {
            let cmd = ublksrv_ctrl_cmd { dev_id: asked, ..command() };
            let wish = ublksrv_ctrl_dev_info { dev_id: repeated, ..wish(0) };
            check(Profile::NEWEST, &ADMIN, &cmd, &wish).is_ok()
        };
        assert!(numbered(0, 0) && numbered(MAX_DEVICES - 1, MAX_DEVICES - 1));
        assert!(!numbered(0, 1) && !numbered(MAX_DEVICES, MAX_DEVICES) && !numbered(0, u32::MAX));
    }

    #[test]
    fn granted_not_wished() {
        let asked = wish(sys::UBLK_F_NEED_GET_DATA | 1 << 63);
        let checked = check(Profile::NEWEST, &ADMIN, &command(), &asked).unwrap();
        let info = settle(Profile::NEWEST, 4, checked, 7).unwrap();
        assert_eq!((info.nr_hw_queues, info.queue_depth, info.dev_id), (4, 128, 7));
        assert_eq!((info.max_io_buf_bytes, info.ublksrv_pid), (98_304, -1));
        assert_eq!(info.flags, FORCED | sys::UBLK_F_NEED_GET_DATA);
        let batch = sys::UBLK_F_BATCH_IO | sys::UBLK_F_NEED_GET_DATA;
        let batch = granted(Profile::NEWEST, &ADMIN, batch).unwrap();
        assert_eq!(batch, FORCED & !sys::UBLK_F_PER_IO_DAEMON | sys::UBLK_F_BATCH_IO);
        let oldest = sys::UBLK_F_URING_CMD_COMP_IN_TASK | sys::UBLK_F_CMD_IOCTL_ENCODE;
        assert_eq!(granted(Profile::OLDEST, &ADMIN, 0), Ok(oldest));
    }

    prop_compose! {
        fn any_info()(
            bytes in any::<[u8; 64]>(),
            queues in prop_oneof![0_u16..9, Just(4096), any::<u16>()],
            depth in prop_oneof![1_u16..4096, any::<u16>()],
            number in prop_oneof![Just(u32::MAX), 0_u32..9, any::<u32>()],
            flags in prop_oneof![any::<u64>(), 0_u64..1 << 21],
        ) -> ublksrv_ctrl_dev_info {
            ublksrv_ctrl_dev_info {
                nr_hw_queues: queues,
                queue_depth: depth,
                dev_id: number,
                flags,
                ..ublkit_sys::abi::from_bytes(&bytes).expect("64 bytes")
            }
        }
    }

    proptest! {
        #[test]
        fn a_grant_is_what_can_be(wish in any_info(), admin: bool, cpus in 1_u16..9, len: u16) {
            let caller = Caller { admin, ..USER };
            let cmd = ublksrv_ctrl_cmd { dev_id: wish.dev_id, len, ..command() };
            for profile in Profile::ALL {
                let Ok(checked) = check(*profile, &caller, &cmd, &wish) else { continue };
                let Ok(info) = settle(*profile, cpus, checked, 3) else { continue };
                prop_assert!((1..=cpus).contains(&info.nr_hw_queues));
                prop_assert!(info.nr_hw_queues <= wish.nr_hw_queues);
                prop_assert!(info.max_io_buf_bytes <= wish.max_io_buf_bytes);
                prop_assert!(info.max_io_buf_bytes.is_multiple_of(PAGE_BYTES));
                prop_assert_eq!(info.flags & !profile.features(), 0);
                prop_assert_eq!(info.flags & !(wish.flags | FORCED), 0);
                prop_assert_eq!(admin, info.flags & sys::UBLK_F_UNPRIVILEGED_DEV == 0);
                prop_assert_eq!((info.dev_id, info.queue_depth), (3, wish.queue_depth));
                prop_assert_eq!((info.owner_uid, info.state), (1000, sys::UBLK_S_DEV_DEAD));
            }
        }
    }
}
