//! [`Error`]: what a person is told: what was tried on which device, the errno, and the remedy.

use crate::errno::Errno;
use crate::queue::QueueError;
use crate::ring::RingError;
use core::fmt;
use core::time::Duration;

/// Why something about a device could not be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A device node could not be opened.
    Open {
        /// The node.
        path: String,
        /// Why.
        errno: Errno,
    },
    /// The file that is to be a disk could not be opened.
    File {
        /// Which.
        path: String,
        /// Why.
        errno: Errno,
    },
    /// The control ring could not be made or used.
    Ring(RingError),
    /// The driver refused a control command.
    Command {
        /// The command's name in `ublk_cmd.h`, without its prefix.
        command: &'static str,
        /// Which device; none for commands that are about no device.
        device: Option<u32>,
        /// The driver's answer.
        errno: Errno,
        /// Why, where ublkit knows better than the number says.
        why: Option<&'static str>,
    },
    /// A control command was not answered in time. It keeps its memory and may still happen.
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// Which device.
        device: Option<u32>,
        /// How long.
        after: Duration,
    },
    /// What was asked for cannot be; nothing was tried.
    Refused(String),
    /// The driver answered what cannot be; the sentence says what.
    Impossible(String),
    /// A queue could not be set up, or ended for a reason other than the device's stop.
    Queue {
        /// Which device.
        device: u32,
        /// Which queue.
        queue: u16,
        /// Why.
        error: QueueError,
    },
    /// A thread could not be made.
    Thread(Errno),
    /// A step failed, and so did undoing what came before it.
    Undo {
        /// The step's own failure.
        first: Box<Self>,
        /// What went wrong afterwards.
        then: Box<Self>,
    },
}

/// The few kinds of failure that a program treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for makes no sense.
    Usage,
    /// The caller may not.
    Permission,
    /// This machine or kernel cannot.
    Unsupported,
    /// There is no such device.
    NotFound,
    /// The device or its number is in use.
    Busy,
    /// No answer came in time.
    Timeout,
    /// Anything else.
    Failed,
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { errno, .. } => match *errno {
                Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => ErrorKind::Unsupported,
                Errno::EACCES | Errno::EPERM => ErrorKind::Permission,
                Errno::EBUSY => ErrorKind::Busy,
                _ => ErrorKind::Failed,
            },
            Self::File { errno, .. } => match *errno {
                Errno::ENOENT => ErrorKind::Usage,
                Errno::EACCES | Errno::EPERM => ErrorKind::Permission,
                Errno::EBUSY => ErrorKind::Busy,
                _ => ErrorKind::Failed,
            },
            Self::Ring(RingError::Setup(Errno::EPERM | Errno::ENOSYS | Errno::EINVAL)) => {
                ErrorKind::Unsupported
            }
            Self::Command { errno, command, .. } => match *errno {
                Errno::EPERM | Errno::EACCES => ErrorKind::Permission,
                Errno::ENODEV if *command != "START_DEV" => ErrorKind::NotFound,
                Errno::EEXIST | Errno::EBUSY => ErrorKind::Busy,
                Errno::EOPNOTSUPP => ErrorKind::Unsupported,
                _ => ErrorKind::Failed,
            },
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Refused(_) => ErrorKind::Usage,
            Self::Undo { first, .. } => first.kind(),
            Self::Queue { error: QueueError::Ring(error), .. } => Self::Ring(*error).kind(),
            Self::Ring(_) | Self::Queue { .. } | Self::Thread(_) | Self::Impossible(_) => {
                ErrorKind::Failed
            }
        }
    }

    /// What the person can do, where something can be done.
    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Open { path, errno } if path.ends_with("ublk-control") => match *errno {
                Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => {
                    Some("load the driver with 'modprobe ublk_drv' (kernels since 6.0 can have it)")
                }
                Errno::EACCES | Errno::EPERM => {
                    Some("run as root, or let udev give you the control device")
                }
                Errno::EMFILE | Errno::ENFILE => Some(MANY_FILES),
                _ => Some(SEE_LOG),
            },
            Self::Open { errno, .. } => match *errno {
                Errno::ENOENT => Some("is /dev a devtmpfs, or does udev make the node?"),
                Errno::EACCES | Errno::EPERM => Some("run as root, or as the device's owner"),
                Errno::EBUSY => Some("another server has it open"),
                Errno::EMFILE | Errno::ENFILE => Some(MANY_FILES),
                _ => Some(SEE_LOG),
            },
            Self::File { errno, .. } => match *errno {
                Errno::ENOENT => Some("with '--size' it is made, in a folder that is there"),
                Errno::EACCES | Errno::EPERM | Errno::EROFS => {
                    Some("run as its owner, or serve it with '--read-only'")
                }
                Errno::EBUSY => Some("it is mounted, or another program has it for itself"),
                Errno::EINVAL => Some("its file system cannot do '--direct'"),
                Errno::EISDIR => Some("give a file, or another disk"),
                Errno::ENOSPC | Errno::EFBIG => Some("choose a smaller size, or another place"),
                Errno::EMFILE | Errno::ENFILE => Some(MANY_FILES),
                _ => Some(SEE_LOG),
            },
            Self::Command { command, errno, why, .. } => {
                Some(why.unwrap_or_else(|| command_remedy(command, *errno)))
            }
            Self::Timeout { what: "ADD_DEV", .. } => {
                Some("kernels 6.18.4, 6.18.5 and some 6.17 crash here: look at dmesg and update")
            }
            Self::Timeout { what: "DEL_DEV", .. } => Some(
                "something still holds the device: an open or mounted /dev/ublkb, or a server that \
                 does not end; it goes once they do",
            ),
            Self::Timeout { .. } | Self::Impossible(_) => Some(SEE_LOG),
            Self::Thread(_) => Some("raise the limit on processes (ulimit -u) or use fewer queues"),
            Self::Refused(_) | Self::Ring(_) | Self::Queue { .. } | Self::Undo { .. } => None,
        }
    }
}

fn command_remedy(command: &str, errno: Errno) -> &'static str {
    match (command, errno) {
        (_, Errno::EPERM) => "run as root: this needs CAP_SYS_ADMIN in the first user namespace",
        ("GET_DEV_INFO" | "GET_DEV_INFO2", Errno::EACCES | Errno::ENOENT) => {
            "the device's node is not its maker's: udev has to see to that (docs/udev); root can \
             delete the device"
        }
        ("ADD_DEV", Errno::EEXIST) => {
            "the number is taken: choose another or none; see 'ublkit list'"
        }
        ("ADD_DEV", Errno::EACCES) => {
            "too many devices of ordinary users: see /sys/module/ublk_drv/parameters/ublks_max"
        }
        ("ADD_DEV", Errno::EINVAL) => {
            "the driver did not like the queues, the depth or the features: choose fewer; see \
             'ublkit features'"
        }
        ("SET_PARAMS", Errno::EINVAL) => {
            "the driver did not like the sizes or limits of the disk: choose others, or a newer \
             kernel"
        }
        ("START_DEV" | "END_USER_RECOVERY", Errno::EINVAL) => {
            "in a PID namespace (a container) some kernels from 6.16 to 6.18 do not know their \
             server: serve outside of it, or boot 6.18.15 or newer; 'ublkit doctor' tells"
        }
        ("DEL_DEV", Errno::EINTR) => {
            "it was interrupted as it waited: the device goes once nobody holds it; see \
             'ublkit list'"
        }
        ("DEL_DEV_ASYNC", Errno::EINVAL) => {
            "of an ordinary user's device the kernel deletes none without waiting: leave \
             '--no-wait' out"
        }
        ("START_DEV", Errno::EBUSY) => "the device was stopped while it started: serve it again",
        (_, Errno::ENODEV) => "there is no such device: see 'ublkit list'",
        (_, Errno::EOPNOTSUPP) => "this kernel does not have the command: see 'ublkit features'",
        _ => SEE_LOG,
    }
}

/// Of more open files than there may be.
const MANY_FILES: &str = "too many files are open: raise the limit (ulimit -n)";

/// Of what only the kernel knows.
const SEE_LOG: &str = "the kernel's log (dmesg) may say why";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, errno } => write!(f, "cannot open {path}: {errno}")?,
            Self::File { path, errno } => write!(f, "cannot open {path}: {errno}")?,
            Self::Ring(error) => write!(f, "{error}")?,
            Self::Command { command, device: Some(id), errno, .. } => {
                write!(f, "{command} of ublk device {id} failed with {errno}")?;
            }
            Self::Command { command, device: None, errno, .. } => {
                write!(f, "{command} failed with {errno}")?;
            }
            Self::Timeout { what, device, after } => {
                write!(f, "{what}")?;
                if let Some(id) = device {
                    write!(f, " of ublk device {id}")?;
                }
                write!(f, " was not answered within {} s", after.as_secs_f64())?;
            }
            Self::Refused(why) => write!(f, "{why}")?,
            Self::Impossible(what) => write!(f, "the driver broke its rules: {what}")?,
            Self::Queue { device, queue, error } => {
                write!(f, "queue {queue} of ublk device {device}: {error}")?;
            }
            Self::Thread(errno) => write!(f, "cannot make a thread: {errno}")?,
            Self::Undo { first, then } => write!(f, "{first}; and afterwards: {then}")?,
        }
        match self.remedy() {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<RingError> for Error {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}
