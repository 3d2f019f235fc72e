//! `io_uring_enter(2)`.
use crate::{constants, layout};

constants! {
    /// The call's flags.
    pub ENTER_FLAGS {
        /// Wait for completions.
        pub IORING_ENTER_GETEVENTS: u32 = 1 << 0;
        /// Wake the kernel's thread.
        pub IORING_ENTER_SQ_WAKEUP: u32 = 1 << 1;
        /// Wait for room in the submission ring.
        pub IORING_ENTER_SQ_WAIT: u32 = 1 << 2;
        /// The argument is an [`io_uring_getevents_arg`]. Since 5.11.
        pub IORING_ENTER_EXT_ARG: u32 = 1 << 3;
        /// The descriptor is a registered index.
        pub IORING_ENTER_REGISTERED_RING: u32 = 1 << 4;
        /// The time is absolute. Since 6.12.
        pub IORING_ENTER_ABS_TIMER: u32 = 1 << 5;
        /// The argument is the offset of a registered [`io_uring_reg_wait`]. Since 6.13.
        pub IORING_ENTER_EXT_ARG_REG: u32 = 1 << 6;
        /// Waiting does not count as waiting for I/O. Since 6.15.
        pub IORING_ENTER_NO_IOWAIT: u32 = 1 << 7;
    }
}

/// A time or duration, as the kernel takes it everywhere.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct __kernel_timespec {
    /// Seconds.
    pub tv_sec: i64,
    /// Nanoseconds beyond them, below 10^9.
    pub tv_nsec: i64,
}
layout!(__kernel_timespec: 16 { 0 tv_sec: i64, 8 tv_nsec: i64 });

/// How to wait, with [`IORING_ENTER_EXT_ARG`]. Written by the caller.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_getevents_arg {
    /// A pointer to a signal mask, or 0.
    pub sigmask: u64,
    /// Bytes of that mask.
    pub sigmask_sz: u32,
    /// Microseconds after which fewer completions will do. Since 6.12, zero before.
    pub min_wait_usec: u32,
    /// A pointer to a [`__kernel_timespec`], or 0.
    pub ts: u64,
}
layout!(io_uring_getevents_arg: 24 {
    0 sigmask: u64, 8 sigmask_sz: u32, 12 min_wait_usec: u32, 16 ts: u64,
});

constants! {
    /// [`io_uring_reg_wait::flags`].
    pub REG_WAIT_FLAGS {
        /// `ts` counts.
        pub IORING_REG_WAIT_TS: u32 = 1 << 0;
    }
}

/// How to wait, in registered memory, with [`IORING_ENTER_EXT_ARG_REG`]. Written by the caller;
/// since Linux 6.13.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_reg_wait {
    /// How long.
    pub ts: __kernel_timespec,
    /// Microseconds after which fewer completions will do.
    pub min_wait_usec: u32,
    /// [`REG_WAIT_FLAGS`].
    pub flags: u32,
    /// A pointer to a signal mask, or 0.
    pub sigmask: u64,
    /// Bytes of that mask.
    pub sigmask_sz: u32,
    /// Zero.
    pub pad: [u32; 3],
    /// Zero.
    pub pad2: [u64; 2],
}
layout!(io_uring_reg_wait: 64 {
    0 ts: __kernel_timespec, 16 min_wait_usec: u32, 20 flags: u32, 24 sigmask: u64,
    32 sigmask_sz: u32, 36 pad: [u32; 3], 48 pad2: [u64; 2],
});
