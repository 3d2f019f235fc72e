//! [`Slot`]: who owns it, what it is asked, and where the data is.

use crate::errno::Errno;
use crate::request::{Operation as Asked, Request};
use core::ptr::NonNull;
use static_assertions::const_assert_eq;

/// Who owns a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody yet: it was never offered to the driver.
    New,
    /// The kernel: a command for it is under way, and the buffer may be written at any time.
    Kernel,
    /// The kernel as well, which was told where to put a write's data.
    Fetching,
    /// The server: it has a request to answer.
    Server,
    /// Nobody any more: the driver took it away.
    Gone,
}

/// Where the data of the server's request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the slot's buffer: a write's data, or room for a read's.
    Buffer,
    /// In the slot's buffer, as a copy: a read's is to be given to the kernel.
    Copy,
    /// With the kernel: it is to be asked for, or given.
    Kernel,
    /// With the kernel, and a read's was given.
    Given,
    /// With the kernel, which has put its pages into the ring's table, at the tag's place.
    Table,
    /// In a region from so many bytes on, from where the kernel takes it.
    Region(u16, usize),
    /// Where nobody looks: a write's data that nobody wants, but that must be fetched.
    Waste,
    /// With the kernel, which took the request back and has sent another one to the slot, whose
    /// data is to be fetched or not.
    TakenBack(bool),
}

/// One slot, as everybody may see it; what becomes of it is said through [`At`](super::At).
#[derive(Debug)]
pub(crate) struct Slot {
    /// Where its buffer begins.
    pub(super) buffer: NonNull<u8>,
    pub(super) state: State,
    pub(super) data: Where,
    /// The number of its command: before the kernel took that, it cannot complete.
    pub(super) command: u64,
    /// In [`State::Fetching`] the handler's own number, who waits for that.
    pub(super) cookie: u8,
    /// The answer, once it is known, until the request's operations have ended.
    pub(super) answer: Option<Result<(), Errno>>,
    pub(super) request: Request,
    /// How much data the request has.
    pub(super) data_bytes: u32,
    /// Bytes of a read's data that operations have filled.
    pub(super) filled_bytes: u32,
    /// What it waits for: operations under way, and a waker.
    pub(super) waits: u16,
    /// Whether it waits for a waker: the handler's own number.
    pub(super) parked: Option<u8>,
    /// Up to a power of two, so that it is found by a shift.
    _rest: [u64; 6],
}

const_assert_eq!(size_of::<Slot>(), 128);

pub(super) const IDLE: Request = Request { operation: Asked::Flush, offset: 0, len_bytes: 0 };

impl Slot {
    pub(super) fn new(buffer: NonNull<u8>, state: State) -> Self {
        Self {
            buffer,
            state,
            data: Where::Buffer,
            command: 0,
            cookie: 0,
            answer: None,
            request: IDLE,
            data_bytes: 0,
            filled_bytes: 0,
            waits: 0,
            parked: None,
            _rest: [0; 6],
        }
    }

    /// Whether the kernel has it.
    #[inline]
    pub(super) fn is_kernels(&self) -> bool {
        matches!(self.state, State::Kernel | State::Fetching)
    }

    /// Whether the server has a request to answer.
    #[inline]
    pub(crate) fn is_servers(&self) -> bool {
        self.state == State::Server
    }

    /// Whether its command is to bring a write's data.
    #[inline]
    pub(crate) fn is_fetching(&self) -> bool {
        self.state == State::Fetching
    }

    #[inline]
    pub(crate) fn request(&self) -> Request {
        self.request
    }

    /// What the server is asked, and for how much data.
    #[inline(always)]
    pub(crate) fn asked(&self) -> (Asked, u32) {
        (self.request.operation, self.data_bytes)
    }

    /// Whether the request can be answered as it is: it waits for nothing, and its data is in the
    /// slot's buffer.
    #[inline(always)]
    pub(crate) fn is_done(&self) -> bool {
        self.is_servers() && self.waits == 0 && self.data == Where::Buffer
    }

    /// Whether the request waits: for operations, for a write's data, or for a waker.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits > 0 || self.is_fetching()
    }

    /// The answer, once it is settled.
    #[inline]
    pub(crate) fn answer(&self) -> Option<Result<(), Errno>> {
        self.answer
    }

    /// Where the data of the server's request is.
    #[inline]
    pub(crate) fn place(&self) -> Where {
        self.data
    }

    /// Whether a read's data is a copy that the kernel is still to be given.
    #[inline]
    pub(crate) fn has_copy_to_give(&self) -> bool {
        self.data == Where::Copy && self.request.operation == Asked::Read
    }

    /// Whether success would show a client memory that nobody filled: a read whose data stayed with
    /// the kernel.
    #[inline]
    pub(crate) fn is_unfilled(&self) -> bool {
        let unfilled = match self.data {
            Where::Kernel => true,
            Where::Table => self.filled_bytes < self.data_bytes,
            _ => false,
        };
        unfilled && self.request.operation == Asked::Read
    }

    /// Its command will have that number. Whether it is the first one.
    #[inline(always)]
    pub(super) fn hand_over(&mut self, command: u64, to: State) -> bool {
        assert!(matches!(self.state, State::New | State::Server) && self.waits == 0);
        let is_first = self.state == State::New;
        (self.state, self.command) = (to, command);
        is_first
    }

    /// Its command has completed, if that can be.
    #[inline(always)]
    pub(super) fn leave_kernel(&mut self, taken: u64, to: State) -> bool {
        let was = self.is_kernels() && self.command < taken;
        self.state = if was { to } else { self.state };
        was
    }
}
