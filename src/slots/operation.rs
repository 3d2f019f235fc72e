//! [`Operation`]: what the ring is asked for a request, and what its answer means.

use crate::errno::Errno;
use crate::handler::{Completion, Space};
use core::ptr::NonNull;
use core::time::Duration;

/// How often in a row an operation may ask to try again before that is its answer.
const TRIES: u8 = 100;

/// What the ring is asked to do for a request. Ranges were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Part of a file is read to part of the request's data.
    Read(Transfer),
    /// Part of the request's data is written to part of a file.
    Write {
        transfer: Transfer,
        /// And is durable when that ends.
        durable: bool,
    },
    /// What was written to a file becomes durable.
    Sync { file: u16, data_only: bool },
    /// Space of a file is taken or given up.
    Allocate { file: u16, space: Space, offset: u64, len_bytes: u64 },
    /// A file becomes readable.
    Readable { file: u16 },
    /// Time passes.
    Delay(Duration),
    /// The request's pages go into the ring's table: the queue's own, before the handler's.
    Register,
}

/// A stretch of a file, and the part of a request's data that is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Which of the target's files.
    pub(crate) file: u16,
    /// Where in the file.
    pub(crate) offset: u64,
    /// Where in the request's data.
    pub(crate) start: u32,
    pub(crate) len_bytes: u32,
}

impl Transfer {
    /// What is left of it when so many bytes were moved.
    fn rest(self, moved: u32) -> Self {
        Self {
            offset: self.offset + u64::from(moved),
            start: self.start + moved,
            len_bytes: self.len_bytes - moved,
            ..self
        }
    }
}

impl Action {
    /// Which of the target's files it is about.
    pub(crate) fn file(&self) -> Option<u16> {
        match *self {
            Self::Read(transfer) | Self::Write { transfer, .. } => Some(transfer.file),
            Self::Sync { file, .. } | Self::Allocate { file, .. } | Self::Readable { file } => {
                Some(file)
            }
            Self::Delay(_) | Self::Register => None,
        }
    }

    /// The same action with another transfer, if it moves anything.
    fn rest(self, transfer: Transfer) -> Self {
        match self {
            Self::Read(_) => Self::Read(transfer),
            Self::Write { durable, .. } => Self::Write { transfer, durable },
            other => other,
        }
    }

    /// What it moves of the request's data.
    pub(crate) fn transfer(&self) -> Option<Transfer> {
        match *self {
            Self::Read(transfer) | Self::Write { transfer, .. } => Some(transfer),
            _ => None,
        }
    }
}

/// An operation under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// What the ring was asked last: after a short transfer only what is left.
    pub(crate) action: Action,
    /// The handler's own number.
    cookie: u8,
    /// Bytes that were moved before.
    moved: u32,
    /// How often in a row it was to be tried again.
    tries: u8,
    /// The number of its SQE: before the kernel took that, it cannot complete.
    pub(super) sqe: u64,
    /// The memory that it may still use, where its request has gone on without it.
    pub(super) left: Option<NonNull<u8>>,
}

/// What an operation that the ring has completed was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// One of the request that the slot has,
    Request {
        /// which put its pages into the ring's table,
        registers: bool,
        /// or read to its data.
        reads: bool,
        next: Next,
    },
    /// One of a former request, which was answered long ago: it may have used memory from here on.
    LeftBehind(NonNull<u8>),
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is not done, stays in its place, and is what is left to do.
    Again,
    /// It has ended,
    Ended(Completion),
    /// and with what cannot be.
    Nonsense,
}

impl Operation {
    pub(crate) fn new(action: Action, cookie: u8) -> Self {
        Self { action, cookie, moved: 0, tries: 0, sqe: 0, left: None }
    }

    /// The same, whose SQE will have this number.
    #[inline(always)] // into `Operations::begin`
    pub(super) fn numbered(self, sqe: u64) -> Self {
        Self { sqe, ..self }
    }

    /// Whether its request waits for it.
    pub(super) fn is_live(&self) -> bool {
        self.left.is_none()
    }

    /// What the ring's result means: a transfer ends when it is whole, at the file's end, or with
    /// an error.
    #[inline(always)] // once an operation
    pub(super) fn next(&mut self, result: i32) -> Next {
        let ended = |result| Next::Ended(Completion { cookie: self.cookie, result });
        match (&self.action, Errno::from_result(result)) {
            (Action::Read(transfer) | Action::Write { transfer, .. }, Ok(count)) => {
                if count > transfer.len_bytes {
                    return Next::Nonsense;
                }
                let moved = self.moved + count; // no more than there was to move at first
                if count == 0 || count == transfer.len_bytes {
                    return ended(Ok(moved));
                }
                self.action = self.action.rest(transfer.rest(count));
                (self.moved, self.tries) = (moved, 0);
                Next::Again
            }
            // The queue has another way where it cannot register.
            (action, Err(Errno::EINTR | Errno::EAGAIN))
                if self.tries < TRIES && *action != Action::Register =>
            {
                self.tries += 1;
                Next::Again
            }
            (_, result) => ended(result),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::slots) fn read(len_bytes: u32) -> Operation {
        let transfer = Transfer { file: 0, offset: 1 << 40, start: 512, len_bytes };
        Operation::new(Action::Read(transfer), 9)
    }

    #[test]
    fn short_transfers_go_on() {
        let mut short = read(4096);
        assert_eq!(short.next(1000), Next::Again);
        let left = Transfer { file: 0, offset: (1 << 40) + 1000, start: 1512, len_bytes: 3096 };
        assert_eq!(short.action, Action::Read(left));
        assert_eq!(short.next(3097), Next::Nonsense, "more than was asked");
        let mut ends = |result| match short.next(result) {
            Next::Ended(Completion { cookie: 9, result }) => result,
            other => panic!("{other:?}"),
        };
        assert_eq!(ends(3096), Ok(4096), "it is whole");
        assert_eq!(ends(0), Ok(1000), "the file ends");
        assert_eq!(ends(-libc::EIO), Err(Errno::EIO));
    }

    #[test]
    fn trying_again_has_an_end() {
        let mut operation = read(4096);
        for _ in 0..TRIES {
            assert_eq!(operation.next(-libc::EAGAIN), Next::Again);
        }
        let gives_up = Completion { cookie: 9, result: Err(Errno::EINTR) };
        assert_eq!(operation.next(-libc::EINTR), Next::Ended(gives_up), "enough");
        assert_eq!(operation.next(512), Next::Again, "it goes on");
        assert_eq!(operation.next(-libc::EAGAIN), Next::Again, "counted anew");
    }

    /// Where pages cannot be registered, the queue has another way at once.
    #[test]
    fn registering_is_not_tried_again() {
        let refused = Completion { cookie: 0, result: Err(Errno::EAGAIN) };
        let next = Operation::new(Action::Register, 0).next(-libc::EAGAIN);
        assert_eq!(next, Next::Ended(refused));
    }
}
