//! [`Blocking`]: serves a [`Backend`] by calling it on the queue's thread.

use super::{Backend, Target};
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::handler::{Handler, Io, Step};
use crate::needs::{Needs, QueueInfo};
use crate::request::{Operation, Request};
use std::sync::Arc;

/// Serves a [`Backend`]: each queue's thread calls it, one request after the other.
#[derive(Debug)]
pub struct Blocking<B>(Arc<B>);

impl<B: Backend> Blocking<B> {
    /// Serves `backend`, which can be shared with others.
    pub fn new(backend: impl Into<Arc<B>>) -> Self {
        Self(backend.into())
    }
}

impl<B: Backend> Target for Blocking<B> {
    type Handler = Self;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn handler(&self, _queue: &QueueInfo) -> Result<Self, Errno> {
        Ok(Self(Arc::clone(&self.0)))
    }
}

impl<B: Backend> Handler for Blocking<B> {
    #[inline(always)] // the queue calls it in one place
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let Request { operation, offset, len_bytes } = io.request();
        let backend = &*self.0;
        Step::Done(match operation {
            Operation::Read => backend.read(offset, io.data()),
            Operation::Write { fua: false } => backend.write(offset, io.data()),
            Operation::Write { fua: true } => backend.write_durably(offset, io.data()),
            Operation::Flush => backend.flush(),
            Operation::Discard => backend.discard(offset, len_bytes),
            Operation::WriteZeroes { may_unmap } => {
                backend.write_zeroes(offset, len_bytes, may_unmap)
            }
        })
    }
}
