//! [`Errno`]: what a kernel answers, and what the kernel is told.

use core::fmt;

/// A Linux error number, 1 to 4095.
///
/// A backend answers one of these for a failed request. The block layer passes a few on to the
/// client as they are (`ENOSPC`, `EOPNOTSUPP`, `ETIMEDOUT`, `ENODATA`, `EILSEQ`, …); every other
/// becomes `EIO` there (`blk_mq` `errno_to_blk_status`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident $sentence:literal;)+) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`: ", $sentence, ".")]
                #[expect(clippy::cast_possible_truncation, reason = "they are 1 to 4095")]
                pub const $name: Self = Self(libc::$name as u16);
            )+

            /// The C name, or `None` for a number that this list does not know.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)+
                    _ => None,
                }
            }

            /// What the number means, in a few words.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)+
                    _ => "an error that has no name here",
                }
            }
        }
    };
}

errnos! {
    EPERM "not permitted";
    ENOENT "no such file";
    EINTR "interrupted";
    EIO "input/output error";
    ENXIO "no such device or address";
    E2BIG "too many elements";
    EBADF "bad file descriptor";
    EAGAIN "try again";
    ENOMEM "out of memory";
    EACCES "access denied";
    EFAULT "bad address";
    EBUSY "busy";
    EEXIST "exists already";
    ENODEV "no such device";
    ENOTDIR "not a directory";
    EISDIR "a directory";
    EINVAL "invalid argument";
    ENFILE "too many open files in the system";
    ENOBUFS "no room for what was to be told";
    EMFILE "too many open files in this process";
    EFBIG "too large";
    ENOSPC "no space left";
    EROFS "read-only";
    ERANGE "out of range";
    ENOSYS "the kernel has no such call";
    ENODATA "no data (a medium error)";
    ETIME "the timer ran out";
    ENOLINK "the link is gone";
    EBADE "invalid exchange";
    EBADR "completions were dropped";
    EBADFD "the file is in a bad state";
    EOVERFLOW "the value is too large";
    EILSEQ "bad checksum (a protection error)";
    EOPNOTSUPP "not supported";
    EOWNERDEAD "the owner is dead";
    ECANCELED "cancelled";
    ETIMEDOUT "timed out";
    EREMOTEIO "remote input/output error";
    ETOOMANYREFS "too many references";
}

impl Errno {
    /// The error number `number`, or `None` when it is not 1 to 4095.
    pub const fn new(number: i32) -> Option<Self> {
        if number < 1 || number > 4095 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just checked")]
        Some(Self(number as u16))
    }

    /// The number, 1 to 4095.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Reads a kernel's answer: a count from 0 on, or a negated error number.
    ///
    /// A negative number that no kernel sends (below -4095) becomes `EIO`.
    pub const fn from_result(result: i32) -> Result<u32, Self> {
        if result >= 0 {
            return Ok(result.unsigned_abs());
        }
        match Self::new(result.wrapping_neg()) {
            Some(errno) => Err(errno),
            None => Err(Self::EIO),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.meaning()),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Errno {}

impl From<std::io::Error> for Errno {
    /// The error's own number, or `EIO` when it has none.
    fn from(error: std::io::Error) -> Self {
        error.raw_os_error().and_then(Self::new).unwrap_or(Self::EIO)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Self {
        Self::new(error.raw_os_error()).unwrap_or(Self::EIO)
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn results_of_the_kernel() {
        assert_eq!(Errno::from_result(0), Ok(0));
        assert_eq!(Errno::from_result(i32::MAX), Ok(0x7fff_ffff));
        assert_eq!(Errno::from_result(-19), Err(Errno::ENODEV));
        assert_eq!(Errno::from_result(-4095).unwrap_err().number(), 4095);
        assert_eq!(Errno::from_result(-4096), Err(Errno::EIO));
        assert_eq!(Errno::from_result(i32::MIN), Err(Errno::EIO));
    }

    #[test]
    fn numbers_out_of_range_are_no_errno() {
        assert_eq!(Errno::new(0), None);
        assert_eq!(Errno::new(-5), None);
        assert_eq!(Errno::new(4096), None);
        assert_eq!(Errno::new(5), Some(Errno::EIO));
    }

    #[test]
    fn says_its_name() {
        assert_eq!(Errno::EBUSY.to_string(), "EBUSY (busy)");
        assert_eq!(Errno::new(4000).unwrap().to_string(), "errno 4000");
    }
}
