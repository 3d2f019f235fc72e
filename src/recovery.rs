//! [`Recovery`]: what becomes of a device whose server is gone.

use crate::features::Features;
use core::fmt;
use core::str::FromStr;

/// What becomes of a device, and of what its clients ask, when its server is gone.
///
/// With any but [`None`](Self::None) the disk stays, and
/// [`Builder::recover`](crate::Builder::recover) serves it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recovery {
    /// The disk goes with its server, and all requests fail.
    #[default]
    None,
    /// Clients wait for the next server. Requests that the old one had fail, for nobody knows how
    /// much of them was done. Since 6.1.
    Wait,
    /// Clients wait, and requests that the old server had are sent to the next one again: nobody
    /// sees an error. Writes may be done twice, so the old server must be gone, with all that it
    /// had under way, before the next one begins. Since 6.1.
    Reissue,
    /// Requests fail until the next server comes. Since 6.13.
    Fail,
}

impl Recovery {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::None, Self::Wait, Self::Reissue, Self::Fail];

    /// The features that a device needs for it.
    pub fn features(self) -> Features {
        match self {
            Self::None => Features::empty(),
            Self::Wait => Features::USER_RECOVERY,
            Self::Reissue => Features::USER_RECOVERY | Features::USER_RECOVERY_REISSUE,
            Self::Fail => Features::USER_RECOVERY | Features::USER_RECOVERY_FAIL_IO,
        }
    }

    /// All features that some of them needs, and those that are of use with all.
    pub(crate) fn any_features() -> Features {
        Self::ALL.iter().fold(Features::QUIESCE, |all, recovery| all | recovery.features())
    }

    /// What a device with these features does.
    pub fn of(features: Features) -> Self {
        let asked = features & (Self::any_features() - Features::QUIESCE);
        let found = Self::ALL.iter().find(|recovery| recovery.features() == asked);
        found.copied().unwrap_or_default()
    }

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Wait => "wait",
            Self::Reissue => "reissue",
            Self::Fail => "fail",
        }
    }

    /// What to ask the driver for, of what it offers; the error is a sentence.
    pub(crate) fn choose(self, offered: Features) -> Result<Features, String> {
        let lacking = self.features() - offered;
        if !lacking.is_empty() {
            return Err(format!(
                "recovery by '{self}' cannot be: this kernel's driver lacks {lacking}; see 'ublkit \
                 features'"
            ));
        }
        // Without it a server can only be replaced as if it had died.
        let orderly = if self == Self::None { Features::empty() } else { Features::QUIESCE };
        Ok(self.features() | (orderly & offered))
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Recovery {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|recovery| recovery.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|recovery| recovery.name()).collect();
            format!("there is no recovery '{name}': choose {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_features_tell_its_recovery() {
        for recovery in Recovery::ALL {
            let granted = recovery.features() | Features::QUIESCE | Features::CMD_IOCTL_ENCODE;
            assert_eq!(Recovery::of(granted), *recovery);
            assert_eq!(recovery.name().parse(), Ok(*recovery));
        }
        assert_eq!(Recovery::of(Features::USER_RECOVERY_REISSUE), Recovery::None, "alone");
        assert!("soon".parse::<Recovery>().unwrap_err().contains("reissue"));
    }

    #[test]
    fn what_the_kernel_lacks_is_said() {
        let old = Features::USER_RECOVERY | Features::USER_RECOVERY_REISSUE;
        assert_eq!(Recovery::Wait.choose(old), Ok(Features::USER_RECOVERY));
        let new = Recovery::any_features();
        let with = Recovery::Reissue.features() | Features::QUIESCE;
        assert_eq!(Recovery::Reissue.choose(new), Ok(with));
        assert_eq!(Recovery::None.choose(new), Ok(Features::empty()));
        assert!(Recovery::Fail.choose(old).unwrap_err().contains("lacks USER_RECOVERY_FAIL_IO"));
        for recovery in Recovery::ALL {
            assert_eq!(recovery.choose(new).unwrap().conflict(true), None);
        }
    }
}
