//! A Linux userspace block device (ublk) driver, by hand down to the syscall.
//!
//! A process serves `/dev/ublkbN`, and the machine uses it as a disk. Three steps:
//!
//! 1. Say what the disk is and what its contents are: implement [`Backend`] (sync, over slices), or
//!    take [`Memory`] or [`Null`]. What wants several requests of a queue under way at one time
//!    implements [`Handler`] and [`Target`].
//! 2. [`Builder`] makes the device and its queues' threads, and gives a [`Server`].
//! 3. [`Server::wait`] until somebody stops it, or [`Server::stop`] it.
//!
//! ```no_run
//! use ublkit::{Blocking, Builder, Geometry, Memory};
//!
//! let memory = Memory::new(Geometry::new(1 << 30))?;
//! let server = Builder::new().queues(4).serve(Blocking::new(memory))?;
//! println!("{} is live", server.block_path());
//! server.wait();
//! server.stop()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The layers below are for those who look closer. [`Control`] speaks to the control device, one
//! method for every command of the driver. [`kernel`] is the seam through which all is said to the
//! kernel. [`sys`] is the ABI, written by hand. All sizes are in bytes.
//!
//! Making a device needs `CAP_SYS_ADMIN`, or [`Features::UNPRIVILEGED_DEV`] and nodes that the user
//! may open; the driver `ublk_drv`; and io_uring.
mod backend;
mod control;
mod data_path;
mod device;
mod errno;
mod error;
mod features;
#[cfg(all(any(test, fuzzing), feature = "sim"))]
#[doc(hidden)]
pub mod fuzz;
mod geometry;
mod handler;
mod id;
pub mod kernel;
mod latency;
mod memory;
mod needs;
mod queue;
mod recovery;
mod region;
#[cfg(feature = "replay")]
pub mod replay;
mod request;
mod ring;
#[cfg(all(test, feature = "sim"))]
mod sentences;
mod shared;
#[cfg(feature = "sim")]
pub mod sim;
mod slots;
pub mod trace;
mod wake;
mod watch;

pub use backend::{
    Backend, Blocking, File, FileOptions, FileQueue, Job, MadeFile, Memory, Null, Offload,
    OffloadQueue, Target, Task, TaskQueue, Tasks, join,
};
pub use control::{Control, DEFAULT_TIMEOUT, DeviceControl, DeviceInfo, DeviceState};
pub use data_path::{DataPath, PathReason};
pub use device::{Builder, Server};
pub use errno::Errno;
pub use error::{Error, ErrorKind};
pub use features::Features;
pub use geometry::{Durability, Geometry};
pub use handler::{Completion, FileIndex, Handler, Io, RegionIndex, Space, Step};
pub use kernel::{Kernel, Linux};
pub use latency::Latencies;
pub use needs::{Access, Needs, QueueInfo};
pub use queue::{Meter, QueueError, QueueStats, Reading};
pub use recovery::Recovery;
pub use region::Region;
pub use request::{Operation, Request};
pub use ring::RingError;
pub use shared::SharedBuffer;
pub use ublkit_sys as sys;
pub use wake::Wakers;
pub use watch::{Stuck, Watchdog};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "sim"))]
#[doc = include_str!("../docs/testing.md")]
struct Testing;
