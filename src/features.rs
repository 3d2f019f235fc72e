//! [`Features`]: what a device may be asked to do, and which wishes exclude each other.

use bitflags::bitflags;
use core::fmt;
use ublkit_sys::ublk as sys;

bitflags! {
    /// `UBLK_F_*` of `ublk_cmd.h`. Bits that no header knew yet are kept, and print as numbers.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Features: u64 {
        /// A request's pages can be registered into a ring (6.15).
        const SUPPORT_ZERO_COPY = sys::UBLK_F_SUPPORT_ZERO_COPY;
        /// Commands complete in the server's task (6.0, always).
        const URING_CMD_COMP_IN_TASK = sys::UBLK_F_URING_CMD_COMP_IN_TASK;
        /// A write asks for its buffer before its data is copied (6.0).
        const NEED_GET_DATA = sys::UBLK_F_NEED_GET_DATA;
        /// The device survives its server (6.1).
        const USER_RECOVERY = sys::UBLK_F_USER_RECOVERY;
        /// Requests in flight when the server died are sent again (6.1).
        const USER_RECOVERY_REISSUE = sys::UBLK_F_USER_RECOVERY_REISSUE;
        /// Made and served without privileges (6.3).
        const UNPRIVILEGED_DEV = sys::UBLK_F_UNPRIVILEGED_DEV;
        /// Opcodes are ioctl numbers (6.4, always).
        const CMD_IOCTL_ENCODE = sys::UBLK_F_CMD_IOCTL_ENCODE;
        /// Data moves by pread and pwrite on the char device (6.5).
        const USER_COPY = sys::UBLK_F_USER_COPY;
        /// A zoned disk (6.6).
        const ZONED = sys::UBLK_F_ZONED;
        /// While there is no server, I/O fails (6.13).
        const USER_RECOVERY_FAIL_IO = sys::UBLK_F_USER_RECOVERY_FAIL_IO;
        /// The disk can be resized (6.16).
        const UPDATE_SIZE = sys::UBLK_F_UPDATE_SIZE;
        /// The kernel registers requests' pages itself (6.16).
        const AUTO_BUF_REG = sys::UBLK_F_AUTO_BUF_REG;
        /// A server can be replaced in an orderly way (6.16).
        const QUIESCE = sys::UBLK_F_QUIESCE;
        /// Slots of one queue may belong to several threads (6.16).
        const PER_IO_DAEMON = sys::UBLK_F_PER_IO_DAEMON;
        /// Any thread may register a request's pages (6.17).
        const BUF_REG_OFF_DAEMON = sys::UBLK_F_BUF_REG_OFF_DAEMON;
        /// Commands for many slots at once (7.0).
        const BATCH_IO = sys::UBLK_F_BATCH_IO;
        /// Requests carry integrity data (7.0).
        const INTEGRITY = sys::UBLK_F_INTEGRITY;
        /// A device can be stopped only if unused (7.0).
        const SAFE_STOP_DEV = sys::UBLK_F_SAFE_STOP_DEV;
        /// Partitions are not looked for at start (7.0).
        const NO_AUTO_PART_SCAN = sys::UBLK_F_NO_AUTO_PART_SCAN;
        /// Clients and server share memory (7.1).
        const SHMEM_ZC = sys::UBLK_F_SHMEM_ZC;
        /// I/O descriptors have a chosen size (7.3).
        const IO_DESC_SIZE = sys::UBLK_F_IO_DESC_SIZE;

        const _ = !0;
    }
}

impl Features {
    /// What this version of ublkit can serve a device with. All of the others it knows by name, and
    /// its control commands carry them, but its queues do not speak them yet.
    pub const SERVED: Self = Self::URING_CMD_COMP_IN_TASK
        .union(Self::SUPPORT_ZERO_COPY)
        .union(Self::NEED_GET_DATA)
        .union(Self::USER_RECOVERY)
        .union(Self::USER_RECOVERY_REISSUE)
        .union(Self::USER_COPY)
        .union(Self::USER_RECOVERY_FAIL_IO)
        .union(Self::AUTO_BUF_REG)
        .union(Self::CMD_IOCTL_ENCODE)
        .union(Self::UPDATE_SIZE)
        .union(Self::QUIESCE)
        .union(Self::PER_IO_DAEMON)
        .union(Self::BUF_REG_OFF_DAEMON)
        .union(Self::SAFE_STOP_DEV)
        .union(Self::BATCH_IO)
        .union(Self::NO_AUTO_PART_SCAN);

    /// What the driver sets by itself wherever it knows it.
    pub const FORCED: Self = Self::URING_CMD_COMP_IN_TASK
        .union(Self::CMD_IOCTL_ENCODE)
        .union(Self::PER_IO_DAEMON)
        .union(Self::BUF_REG_OFF_DAEMON)
        .union(Self::SAFE_STOP_DEV);

    /// Why the driver would refuse to add a device with these features, or `None`.
    ///
    /// The rules are `ublk_ctrl_add_dev`'s, as of Linux 7.3. `privileged` is whether the caller has
    /// `CAP_SYS_ADMIN`, for whom the driver drops [`UNPRIVILEGED_DEV`](Self::UNPRIVILEGED_DEV).
    pub fn conflict(self, privileged: bool) -> Option<&'static str> {
        if !privileged && !self.contains(Self::UNPRIVILEGED_DEV) {
            return Some("without CAP_SYS_ADMIN only UNPRIVILEGED_DEV devices can be made");
        }
        let wanted = if privileged { self - Self::UNPRIVILEGED_DEV } else { self };
        RULES.iter().find(|rule| rule.breaks(wanted)).map(|rule| rule.sentence)
    }
}

/// One line of the table of needs and conflicts.
struct Rule {
    /// The rule speaks of devices with all of these,
    with: Features,
    /// and they are refused with any of these,
    without_any: Features,
    /// or when these are not empty and the device has none of them.
    needs_one: Features,
    sentence: &'static str,
}

impl Rule {
    fn breaks(&self, wanted: Features) -> bool {
        wanted.contains(self.with)
            && (wanted.intersects(self.without_any)
                || (!self.needs_one.is_empty() && !wanted.intersects(self.needs_one)))
    }
}

const NONE: Features = Features::empty();

/// In the order of the driver's checks.
const RULES: &[Rule] = &[
    Rule {
        with: Features::USER_RECOVERY_REISSUE,
        without_any: Features::USER_RECOVERY_FAIL_IO,
        needs_one: NONE,
        sentence: "USER_RECOVERY_REISSUE and USER_RECOVERY_FAIL_IO exclude each other",
    },
    Rule {
        with: Features::USER_RECOVERY_REISSUE,
        without_any: NONE,
        needs_one: Features::USER_RECOVERY,
        sentence: "USER_RECOVERY_REISSUE needs USER_RECOVERY",
    },
    Rule {
        with: Features::USER_RECOVERY_FAIL_IO,
        without_any: NONE,
        needs_one: Features::USER_RECOVERY,
        sentence: "USER_RECOVERY_FAIL_IO needs USER_RECOVERY",
    },
    Rule {
        with: Features::QUIESCE,
        without_any: NONE,
        needs_one: Features::USER_RECOVERY,
        sentence: "QUIESCE needs USER_RECOVERY",
    },
    Rule {
        with: Features::UNPRIVILEGED_DEV,
        without_any: Features::USER_COPY
            .union(Features::SUPPORT_ZERO_COPY)
            .union(Features::AUTO_BUF_REG),
        needs_one: NONE,
        sentence: "an unprivileged device copies: USER_COPY, SUPPORT_ZERO_COPY and AUTO_BUF_REG \
                   are not for it",
    },
    Rule {
        with: Features::INTEGRITY,
        without_any: NONE,
        needs_one: Features::USER_COPY,
        sentence: "INTEGRITY needs USER_COPY",
    },
    Rule {
        with: Features::ZONED,
        without_any: NONE,
        needs_one: Features::USER_COPY.union(Features::SUPPORT_ZERO_COPY),
        sentence: "ZONED needs USER_COPY or SUPPORT_ZERO_COPY",
    },
];

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        bitflags::parser::to_writer(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Features;

    #[test]
    fn refusals_are_explained() {
        let zoned = Features::ZONED;
        assert_eq!(zoned.conflict(true), Some("ZONED needs USER_COPY or SUPPORT_ZERO_COPY"));
        assert_eq!((zoned | Features::USER_COPY).conflict(true), None);
        let lone = Features::USER_RECOVERY_REISSUE;
        assert_eq!(lone.conflict(true), Some("USER_RECOVERY_REISSUE needs USER_RECOVERY"));
        assert_eq!(Features::empty().conflict(true), None);
        assert!(Features::empty().conflict(false).unwrap().contains("CAP_SYS_ADMIN"));
        let copy = Features::UNPRIVILEGED_DEV | Features::USER_COPY;
        assert!(copy.conflict(false).is_some());
        assert_eq!(copy.conflict(true), None, "the driver drops the bit for the privileged");
    }

    #[test]
    fn unknown_bits_print() {
        let future = Features::from_bits_retain(1 << 40 | 1 << 8);
        assert_eq!(future.to_string(), "ZONED | 0x10000000000");
        assert_eq!(Features::empty().to_string(), "none");
    }

    /// The words here and the driver's rules, which know nothing of each other, refuse the same
    /// wishes: all there are.
    #[cfg(feature = "sim")]
    #[test]
    fn the_driver_refuses_what_has_a_reason() {
        use crate::sim::{Profile, grant};
        use ublkit_sys::ublk::ublksrv_ctrl_dev_info;

        let last = Features::IO_DESC_SIZE.bits();
        let mut refused = [0_u32; 2];
        for (flags, privileged) in (0..last << 1).flat_map(|set| [(set, false), (set, true)]) {
            let wish = ublksrv_ctrl_dev_info {
                nr_hw_queues: 1,
                queue_depth: 2, // the least for BATCH_IO
                io_desc_size: 24,
                dev_id: u32::MAX,
                flags,
                ..Default::default()
            };
            let features = Features::from_bits_retain(flags);
            let why = features.conflict(privileged);
            let answer = grant(Profile::NEWEST, privileged, 1, &wish);
            assert_eq!(why.is_some(), answer.is_err(), "{features}: {why:?}, {answer:?}");
            refused[usize::from(privileged)] += u32::from(why.is_some());
        }
        let all = 1 << 21;
        assert!(refused.iter().all(|count| (all / 2..all).contains(count)), "{refused:?} of {all}");
    }
}
