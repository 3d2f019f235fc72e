//! [`Profile`]: which kernel is simulated, and [`Rule`]: what changed between them.
//!
//! A rule that differs by version is data here, never an `if` elsewhere that names a version.

use core::fmt;
use ublkit_sys::ublk as sys;

/// A series of kernels, by the numbers of its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Version(u8, u8);

/// A kernel to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    version: Version,
    witnessed: bool,
}

impl Profile {
    /// All profiles, oldest first.
    pub const ALL: &'static [Self] = &[
        Self { version: Version(6, 12), witnessed: true },
        Self { version: Version(6, 16), witnessed: false },
        Self { version: Version(6, 18), witnessed: false },
        Self { version: Version(7, 0), witnessed: false },
        Self { version: Version(7, 2), witnessed: false },
        Self { version: Version(7, 3), witnessed: true },
    ];

    /// The oldest one that is simulated.
    pub const OLDEST: Self = Self::ALL[0];
    /// The newest one.
    pub const NEWEST: Self = Self::ALL[Self::ALL.len() - 1];

    /// The profile of a series, such as `6.12`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|profile| profile.to_string() == name)
    }

    /// Whether the simulation was compared with a real kernel of this series. What an unwitnessed
    /// profile does was read, not seen.
    pub fn is_witnessed(self) -> bool {
        self.witnessed
    }

    /// What `GET_FEATURES` answers (`UBLK_F_*`).
    pub fn features(self) -> u64 {
        let known = FEATURES.iter().filter(|(since, _)| self.version >= *since);
        known.fold(0, |bits, (_, bit)| bits | bit)
    }

    /// Whether this kernel follows a rule.
    pub fn has(self, rule: Rule) -> bool {
        self.version >= rule.since() || rule.backports().contains(&self.version)
    }
}

impl fmt::Display for Profile {
    /// Such as `7.3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor) = self;
        write!(f, "{major}.{minor}")
    }
}

/// Since when the driver knows each feature.
const FEATURES: &[(Version, u64)] = &[
    (Version(6, 15), sys::UBLK_F_SUPPORT_ZERO_COPY),
    (Version(6, 0), sys::UBLK_F_URING_CMD_COMP_IN_TASK),
    (Version(6, 0), sys::UBLK_F_NEED_GET_DATA),
    (Version(6, 1), sys::UBLK_F_USER_RECOVERY),
    (Version(6, 1), sys::UBLK_F_USER_RECOVERY_REISSUE),
    (Version(6, 3), sys::UBLK_F_UNPRIVILEGED_DEV),
    (Version(6, 4), sys::UBLK_F_CMD_IOCTL_ENCODE),
    (Version(6, 5), sys::UBLK_F_USER_COPY),
    (Version(6, 6), sys::UBLK_F_ZONED),
    (Version(6, 13), sys::UBLK_F_USER_RECOVERY_FAIL_IO),
    (Version(6, 16), sys::UBLK_F_UPDATE_SIZE),
    (Version(6, 16), sys::UBLK_F_AUTO_BUF_REG),
    (Version(6, 16), sys::UBLK_F_QUIESCE),
    (Version(6, 16), sys::UBLK_F_PER_IO_DAEMON),
    (Version(6, 17), sys::UBLK_F_BUF_REG_OFF_DAEMON),
    (Version(7, 0), sys::UBLK_F_BATCH_IO),
    (Version(7, 0), sys::UBLK_F_INTEGRITY),
    (Version(7, 0), sys::UBLK_F_SAFE_STOP_DEV),
    (Version(7, 0), sys::UBLK_F_NO_AUTO_PART_SCAN),
    (Version(7, 1), sys::UBLK_F_SHMEM_ZC),
    (Version(7, 3), sys::UBLK_F_IO_DESC_SIZE),
];

macro_rules! rules {
    (
        $(
            $(#[doc = $doc:literal])+
            $name:ident (
                $major:literal, $minor:literal $(, also $also_major:literal, $also_minor:literal)*,
                $source:literal
            );
        )+
    ) => {
        /// What kernels do differently: the newer way of each, and since when.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Rule { $($(#[doc = $doc])+ $name,)+ }

        impl Rule {
            /// All rules, in the order of a device's life.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            const fn since(self) -> Version {
                match self { $(Self::$name => Version($major, $minor),)+ }
            }

            /// The older series whose later releases follow it, too.
            const fn backports(self) -> &'static [Version] {
                match self { $(Self::$name => &[$(Version($also_major, $also_minor),)*],)+ }
            }

            /// The series of kernels that brought it, such as `6.13`, and those that were given it
            /// later: `7.2, late 6.12`.
            pub fn series(self) -> String {
                let late = self.backports().iter().map(|series| format!(", late {series}"));
                self.since().to_string() + &late.collect::<String>()
            }

            /// Where in the driver it is.
            pub const fn source(self) -> &'static str {
                match self { $(Self::$name => $source,)+ }
            }

            /// The rule in words.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

rules! {
    /// Of the three bits for recovery, ADD_DEV takes none, USER_RECOVERY, or that with one other; a
    /// USER_RECOVERY_REISSUE alone is refused.
    RecoveryIsOneOfFour (6, 13, "ublk_ctrl_add_dev");
    /// SET_PARAMS refuses sizes of blocks and of good requests above 256 MiB.
    ShiftsAreBounded (7, 2, "ublk_validate_params");
    /// SET_PARAMS refuses a largest request that is smaller than a page.
    RequestsHoldAPage (7, 2, also 6, 12, "ublk_validate_params");
    /// SET_PARAMS refuses zones whose size is no power of two; before, only zones of nothing.
    ZonesArePowersOfTwo (7, 2, also 6, 12, "ublk_validate_params");
    /// A refused SET_PARAMS leaves nothing of the parameters; before, only their types are cleared.
    RefusalForgetsAll (7, 2, "ublk_ctrl_set_params");
    /// Requests are cut at 4 MiB, not 1280 KiB, unless the disk says that larger ones are good.
    CutsAtFourMebibytes (6, 17, "blk_validate_limits");
    /// START_DEV takes the pid of the process that opened the char device, and no other.
    PidIsTheOpeners (6, 17, also 6, 16, "ublk_ctrl_start_dev");
    /// The disk may be started while its partitions are still being looked for.
    ScansLater (6, 19, "ublk_ctrl_start_dev");
    /// Slots of one queue may belong to several tasks; each to the one that fetched it.
    TaskPerSlot (6, 16, "ublk_fetch");
    /// A command's type byte is looked at before its queue and tag.
    KindComesFirst (6, 16, "ublk_ch_uring_cmd_local");
    /// What happens to a dead server's requests is decided when the char device is released, not by
    /// a work item at the server's death.
    ReleaseDecides (6, 15, "ublk_ch_release");
    /// The descriptor is filled in the server's task, just before the completion.
    DescribesLate (7, 3, "ublk_dispatch_req");
    /// `io_uring_enter` knows IORING_ENTER_NO_IOWAIT.
    WaitsNeedNotCount (6, 15, "io_uring_enter");
    /// A READ whose data cannot be copied fails; before, it is sent to the server again.
    FaultsFail (6, 16, also 6, 12, "ublk_complete_rq");
    /// User copy of a device without the flag is EACCES; before, it is EINVAL, after other checks.
    CopyIsAskedForFirst (6, 16, "ublk_check_and_get_req");
    /// User copy answers how many bytes were copied; before, of how many the caller's memory was
    /// pinned.
    CopyCountsBytes (7, 0, "ublk_copy_user_pages");
    /// A short result completes the whole request, but for a copied READ.
    ShortIsAll (7, 3, "__ublk_complete_rq");
    /// A stopped device can be started again once its char device was closed and opened anew.
    StopsAndRestarts (7, 3, "ublk_ctrl_stop_dev");
}
