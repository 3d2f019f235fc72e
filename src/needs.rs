//! [`Needs`]: what a backend uses of its queues, and [`QueueInfo`]: what it is told of one.

use crate::data_path::DataPath;
use crate::region::Region;
use crate::wake::Wakers;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How a backend reaches requests' data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// As a slice of bytes ([`Io::data`](crate::Io::data)).
    #[default]
    Slices,
    /// Through operations on files alone ([`Io::read`](crate::Io::read) and its like), so that
    /// nobody need copy it. `Io::data` panics where the data stayed in the kernel.
    Operations,
    /// As memory to move to and from ([`Io::load`](crate::Io::load),
    /// [`Io::store`](crate::Io::store)). `Io::data` panics where the data stayed in the kernel.
    Regions,
}

/// What a backend uses of its queues.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// How it reaches requests' data.
    pub access: Access,
    /// The data path that it is served on where nobody has a wish
    /// ([`Builder::data_path`](crate::Builder::data_path)); without one, the best for its access.
    pub data_path: Option<DataPath>,
    /// How many operations one request may have under way at one time; 0 for a backend that never
    /// waits for any.
    pub operations: u8,
    /// Whether requests are woken from other threads ([`Io::park`](crate::Io::park)).
    pub wakers: bool,
    /// The files that operations name, by their index here. The queues keep them open.
    pub files: Vec<Arc<OwnedFd>>,
    /// The memory that data is moved to and from, by its index here. The queues keep it.
    pub regions: Vec<Arc<Region>>,
}

/// What a backend is told of a queue that it shall serve.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// The queue's number, from 0 on.
    pub queue: u16,
    /// Which of the queue's threads this is, from 0 on: each has a handler of its own, and its own
    /// part of the tags.
    pub thread: u16,
    /// How many requests it can have at one time: tags are below that.
    pub depth: u16,
    /// The most data that a request has.
    pub max_io_bytes: u32,
    /// How data moves.
    pub data_path: DataPath,
    /// What wakes its requests, from any thread; nothing unless [`Needs::wakers`] says so.
    pub wakers: Wakers,
}
