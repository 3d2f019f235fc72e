//! [`Faults`]: what the simulated kernel does to the program that a real one may do, too.

use crate::errno::Errno;

/// How often things happen that a driver under test must take: each a number of times in 256.
///
/// None of them but [`lies`](Self::lies) breaks a rule of the kernel's; a driver that obeys the
/// protocol serves on, or ends with an error that says why, and every client is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// `io_uring_enter` takes fewer SQEs than there are, one at the least.
    pub short_submit: u8,
    /// A wait in `io_uring_enter` ends with `EINTR`, for a signal came.
    pub interrupt: u8,
    /// `io_uring_enter` has no memory for a moment: `EAGAIN`, and nothing is taken.
    pub no_memory: u8,
    /// A wait ends without what was waited for: `io_uring_enter` answers 0.
    pub wake_early: u8,
    /// A call fails for good with `ENOMEM`: opening, mapping, making rings, events or threads.
    pub refuse: u8,
    /// Registrations are refused with `EINVAL`, as by an older kernel.
    pub refuse_registration: u8,
    /// Setting up a ring with each of these flags (a mask) fails with `EINVAL`, as by an older
    /// kernel.
    pub unknown_setup_flags: u32,
    /// ADD_DEV grants fewer queues than asked.
    pub fewer_queues: u8,
    /// ADD_DEV grants none of the optional features that were asked for.
    pub fewer_features: u8,
    /// ADD_DEV leaves junk in the padding that later became `io_desc_size`.
    pub junk_padding: bool,
    /// The char device's node appears only after so many tries.
    pub late_node: u8,
    /// Descriptors are overwritten once their request was answered.
    pub scribble: bool,
    /// The indices of rings begin that near to their wrap; 0 is where real rings begin.
    pub indices_before_wrap: u32,
    /// A thread lets another one go first, at any call.
    pub preempt: u8,
    /// The call with this number, counted from 0, fails once with this errno.
    pub fail_call: Option<(u64, Errno)>,
    /// The control command with this number, in the order in which the driver begins them and
    /// counted from 0, is answered with this errno in place of being carried out.
    pub fail_command: Option<(u64, Errno)>,
    /// A signal ends each DEL_DEV's wait for the device's number to be free: `EINTR`, though the
    /// device is removed.
    pub interrupt_delete: bool,
    /// This control command (`UBLK_U_CMD_*`) is never answered, as by a kernel that crashed in it.
    pub never_answers: Option<u32>,
    /// An operation on a file, or user copy, moves less than it was asked: whole sectors, one at
    /// the least.
    pub short_transfer: u8,
    /// An operation on a file does nothing, and is to be tried again: `EINTR` or `EAGAIN`.
    pub interrupt_operation: u8,
    /// An operation on a file fails, with nothing done: `EIO`, or `ENOSPC` where it takes space.
    pub fail_operation: u8,
    /// An operation on a file hangs. A cancellation may end it, or not; then it is done ten seconds
    /// later, or when the ring closes.
    pub stuck_operation: u8,
    /// A request's pages find no room in a ring's table, as for lack of memory.
    pub refuse_pages: u8,
    /// The driver finds no memory for any of a write's data where the server has it put: the
    /// request comes again, at once and not after 3 ms; with 255 always.
    pub no_room: u8,
    /// A batch is not taken to its end: so many times in 256, after each of its elements.
    pub short_batch: u8,
    /// The command that brings tags finds no buffer, and ends with `ENOBUFS`; never two times in a
    /// row, but with 255 always.
    pub no_buffer: u8,
    /// The kernel breaks its rules: a completion or a descriptor says something else than it
    /// should. A server need not serve on, but ends with an error, and does not crash.
    pub lies: u8,
}

impl Faults {
    /// All that a well-behaved program takes without an error, often.
    pub const fn bearable() -> Self {
        Self {
            short_submit: 32,
            interrupt: 32,
            no_memory: 8,
            wake_early: 32,
            refuse_registration: 64,
            fewer_queues: 64,
            fewer_features: 64,
            junk_padding: true,
            late_node: 64,
            scribble: true,
            indices_before_wrap: 40,
            preempt: 32,
            short_transfer: 64,
            interrupt_operation: 32,
            refuse_pages: 64,
            no_room: 32,
            short_batch: 32,
            no_buffer: 32,
            fail_operation: 0,
            stuck_operation: 0,
            refuse: 0,
            unknown_setup_flags: 0,
            fail_call: None,
            fail_command: None,
            interrupt_delete: false,
            never_answers: None,
            lies: 0,
        }
    }

    /// The same, and calls and operations fail for good.
    pub const fn fatal() -> Self {
        Self { refuse: 16, fail_operation: 16, ..Self::bearable() }
    }
}
