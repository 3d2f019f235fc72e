//! [`DataPath`]: how a request's data moves, and which way is taken.

use crate::features::Features;
use crate::needs::Access;
use core::fmt;
use core::str::FromStr;

/// How a request's data moves between its client and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataPath {
    /// The driver copies between the request and a buffer of the queue's: a write's data before
    /// the request is delivered, a read's when it is answered. Every kernel can.
    Copy,
    /// The same, but the server says for each write where its data is to go (`NEED_GET_DATA`),
    /// which takes one command more. So the kernel copies straight into and out of a backend's
    /// own memory. Every kernel can.
    GetData,
    /// The server moves the data itself, by `pread` and `pwrite` on the char device: straight into
    /// and out of a backend's own memory, with one system call more. Since 6.5.
    UserCopy,
    /// Nobody copies: the kernel hands the request's own pages to the ring, for operations on
    /// files. What cannot be handed over is moved as in [`UserCopy`](Self::UserCopy). Since 6.16.
    ZeroCopy,
    /// The same, but the server has each request's pages handed over when it comes, and let go of
    /// when it is answered, which takes two commands more. Since 6.15.
    ZeroCopyByHand,
}

/// Why data moves the way that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathReason {
    /// It was wished for.
    Wished,
    /// It is the best for a backend that reaches data so.
    Best(Access),
    /// That path would be better, and the kernel's driver lacks these features.
    Lacking(DataPath, Features),
    /// That path would be better, and is not for devices without privileges.
    Unprivileged(DataPath),
    /// That path would be better, and is not served in batches, which were wished for.
    Batches(DataPath),
    /// That path was asked for, and the driver granted less.
    Granted(DataPath),
    /// The device was there before: it is as it was made.
    Made,
}

impl fmt::Display for PathReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wished => write!(f, "as was asked for"),
            Self::Best(Access::Slices) => write!(f, "the best for a backend that takes bytes"),
            Self::Best(Access::Operations) => write!(f, "the best for what a file holds"),
            Self::Best(Access::Regions) => write!(f, "the best for what memory holds"),
            Self::Lacking(better, features) => {
                write!(f, "{better} would be better, and this kernel's driver lacks {features}")
            }
            Self::Unprivileged(better) => {
                write!(f, "{better} would be better, and is not for unprivileged devices")
            }
            Self::Batches(better) => {
                write!(f, "{better} would be better, and cannot be served in batches")
            }
            Self::Granted(asked) => write!(f, "{asked} was asked for, and the driver refused it"),
            Self::Made => write!(f, "as it was made"),
        }
    }
}

impl DataPath {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Copy, Self::GetData, Self::UserCopy, Self::ZeroCopy, Self::ZeroCopyByHand];

    /// The features that a device needs for it.
    pub fn features(self) -> Features {
        match self {
            Self::Copy => Features::empty(),
            Self::GetData => Features::NEED_GET_DATA,
            Self::UserCopy => Features::USER_COPY,
            Self::ZeroCopy => {
                Features::AUTO_BUF_REG | Features::SUPPORT_ZERO_COPY | Features::USER_COPY
            }
            Self::ZeroCopyByHand => Features::SUPPORT_ZERO_COPY | Features::USER_COPY,
        }
    }

    /// All features that some path needs.
    pub(crate) fn any_features() -> Features {
        Self::ALL.iter().fold(Features::empty(), |all, path| all | path.features())
    }

    /// The path that a device with these features takes.
    pub fn of(features: Features) -> Option<Self> {
        let asked = features & Self::any_features();
        Self::ALL.iter().copied().find(|path| path.features() == asked)
    }

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::GetData => "get-data",
            Self::UserCopy => "user-copy",
            Self::ZeroCopy => "zero-copy",
            Self::ZeroCopyByHand => "zero-copy-by-hand",
        }
    }

    /// Whether commands of slots name memory of the server.
    #[inline]
    pub(crate) const fn names_memory(self) -> bool {
        matches!(self, Self::Copy | Self::GetData)
    }

    /// Whether nobody copies a request's data, so that it can be used by operations on files alone
    /// ([`Access::Operations`]).
    #[inline]
    pub const fn is_zero_copy(self) -> bool {
        matches!(self, Self::ZeroCopy | Self::ZeroCopyByHand)
    }

    /// Whether a backend that wants its data so can be served on it.
    pub(crate) const fn suits(self, access: Access) -> bool {
        !self.is_zero_copy() || matches!(access, Access::Operations)
    }

    /// What such a backend is served best on, the best first; else on [`Copy`](Self::Copy).
    const fn best(access: Access) -> &'static [Self] {
        match access {
            Access::Slices => &[],
            Access::Operations => &[Self::ZeroCopy, Self::ZeroCopyByHand],
            Access::Regions => &[Self::GetData],
        }
    }

    /// Why [`choose`](Self::choose) took this path.
    pub(crate) fn reason(
        self,
        wanted: Option<Self>,
        access: Access,
        batches: Option<bool>,
        offered: Features,
    ) -> PathReason {
        let better = Self::best(access).first().filter(|best| **best != self);
        match (wanted, better) {
            (Some(_), _) => PathReason::Wished,
            (None, None) => PathReason::Best(access),
            (None, Some(Self::GetData)) if batches == Some(true) => {
                PathReason::Batches(Self::GetData)
            }
            (None, Some(better)) => PathReason::Lacking(*better, better.features() - offered),
        }
    }

    /// The path to take: `wanted`, or without a wish the best that the kernel offers for such a
    /// backend, which can be served in batches if that is wished. The error is a sentence.
    pub(crate) fn choose(
        wanted: Option<Self>,
        access: Access,
        batches: Option<bool>,
        offered: Features,
    ) -> Result<Self, String> {
        let Some(path) = wanted else {
            let can_be = |path: &&Self| {
                let fits = batches != Some(true) || **path != Self::GetData;
                fits && offered.contains(path.features())
            };
            return Ok(Self::best(access).iter().find(can_be).copied().unwrap_or(Self::Copy));
        };
        if !path.suits(access) {
            return Err(format!(
                "{path} cannot be: this backend wants the data in its own memory; choose another \
                 path, or let ublkit choose"
            ));
        }
        let lacking = path.features() - offered;
        if !lacking.is_empty() {
            return Err(format!(
                "{path} cannot be: this kernel's driver lacks {lacking}; see 'ublkit features', or \
                 let ublkit choose"
            ));
        }
        Ok(path)
    }

    /// Whether one command shall do for many slots: as `wanted`, or without a wish not. The error
    /// is a sentence.
    pub(crate) fn batches(
        self,
        wanted: Option<bool>,
        depth: u16,
        offered: Features,
    ) -> Result<bool, String> {
        let (can, fits) = (offered.contains(Features::BATCH_IO), self != Self::GetData);
        match wanted {
            Some(true) if !fits => Err(format!(
                "batches cannot be: {self} has a command for the data of each request; choose \
                 another path"
            )),
            Some(true) if depth < 2 => {
                Err("batches cannot be: the queue has one slot; choose a depth of 2 or more".into())
            }
            Some(true) if !can => {
                Err("batches cannot be: this kernel's driver lacks BATCH_IO; see \
                 'ublkit features', or let ublkit choose"
                    .into())
            }
            Some(wanted) => Ok(wanted),
            None => Ok(false),
        }
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DataPath {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|path| path.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|path| path.name()).collect();
            format!("there is no data path '{name}': choose {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_features_tell_its_path() {
        for path in DataPath::ALL {
            let granted = path.features() | Features::CMD_IOCTL_ENCODE | Features::PER_IO_DAEMON;
            assert_eq!(DataPath::of(granted), Some(*path));
            assert_eq!(path.name().parse(), Ok(*path));
        }
        assert_eq!(DataPath::of(Features::AUTO_BUF_REG), None, "nothing to fall back to");
        assert!("teleport".parse::<DataPath>().unwrap_err().contains("user-copy"));
    }

    #[test]
    fn wishes_are_kept_or_refused() {
        let choose = DataPath::choose;
        let (all, none) = (DataPath::any_features(), Features::empty());
        assert_eq!(choose(None, Access::Operations, None, all), Ok(DataPath::ZeroCopy));
        assert_eq!(
            choose(None, Access::Operations, None, all - Features::USER_COPY),
            Ok(DataPath::Copy)
        );
        assert_eq!(
            choose(None, Access::Operations, None, all - Features::AUTO_BUF_REG),
            Ok(DataPath::ZeroCopyByHand)
        );
        assert_eq!(choose(None, Access::Slices, None, all), Ok(DataPath::Copy));
        assert_eq!(choose(None, Access::Regions, None, none), Ok(DataPath::Copy));
        for (batches, path) in [(None, DataPath::GetData), (Some(false), DataPath::GetData)] {
            assert_eq!(choose(None, Access::Regions, batches, all), Ok(path), "{batches:?}");
        }
        assert_eq!(choose(None, Access::Regions, Some(true), all), Ok(DataPath::Copy));
        let lacking = choose(Some(DataPath::UserCopy), Access::Slices, None, none).unwrap_err();
        assert!(lacking.starts_with("user-copy cannot be"), "{lacking}");
        assert!(lacking.contains("lacks USER_COPY"), "{lacking}");
        for access in [Access::Slices, Access::Regions] {
            for path in [DataPath::ZeroCopy, DataPath::ZeroCopyByHand] {
                assert!(choose(Some(path), access, None, all).is_err(), "{path} {access:?}");
            }
        }
        for path in DataPath::ALL {
            assert_eq!(choose(Some(*path), Access::Operations, None, all), Ok(*path));
        }
    }

    #[test]
    fn a_path_has_a_reason() {
        use PathReason::{Batches, Best, Lacking, Wished};
        let (all, none) = (DataPath::any_features(), Features::empty());
        let (zero_copy, get_data) = (DataPath::ZeroCopy, DataPath::GetData);
        let registers = Features::AUTO_BUF_REG;
        for (access, wanted, batches, offered, reason) in [
            (Access::Slices, None, None, all, Best(Access::Slices)),
            (Access::Slices, Some(DataPath::Copy), None, all, Wished),
            (Access::Operations, None, Some(true), all, Best(Access::Operations)),
            (Access::Operations, Some(DataPath::Copy), None, all, Wished),
            (Access::Operations, Some(zero_copy), None, all, Wished),
            (Access::Operations, None, None, all - registers, Lacking(zero_copy, registers)),
            (Access::Operations, None, None, none, Lacking(zero_copy, zero_copy.features())),
            (Access::Regions, None, Some(false), all, Best(Access::Regions)),
            (Access::Regions, None, Some(true), all, Batches(get_data)),
            (Access::Regions, None, None, none, Lacking(get_data, get_data.features())),
        ] {
            let path = DataPath::choose(wanted, access, batches, offered).unwrap();
            assert_eq!(path.reason(wanted, access, batches, offered), reason, "{path} {access:?}");
        }
    }

    #[test]
    fn batches_are_as_was_wished_or_refused() {
        let (can, cannot) = (Features::all(), Features::all() - Features::BATCH_IO);
        for path in DataPath::ALL {
            assert_eq!(path.batches(None, 128, can), Ok(false), "{path}: they are not faster yet");
            assert_eq!(path.batches(Some(false), 1, cannot), Ok(false), "{path}");
            let fits = *path != DataPath::GetData;
            assert_eq!(path.batches(Some(true), 2, can).is_ok(), fits, "{path}");
        }
        let batches = |depth, offered| DataPath::Copy.batches(Some(true), depth, offered);
        assert_eq!(batches(2, can), Ok(true));
        assert!(batches(1, can).unwrap_err().contains("one slot"));
        assert!(batches(2, cannot).unwrap_err().contains("lacks BATCH_IO"));
    }

    #[test]
    fn memory_is_named_where_the_driver_copies() {
        let named: Vec<_> = DataPath::ALL.iter().filter(|path| path.names_memory()).collect();
        assert_eq!(named, [&DataPath::Copy, &DataPath::GetData]);
    }
}
