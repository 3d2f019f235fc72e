//! `io_uring_setup(2)` and the map of the rings.
use crate::{constants, layout};

constants! {
    /// [`io_uring_params::flags`]: wanted in.
    pub SETUP_FLAGS {
        /// Busy-wait for devices; ublk commands cannot.
        pub IORING_SETUP_IOPOLL: u32 = 1 << 0;
        /// A kernel thread submits.
        pub IORING_SETUP_SQPOLL: u32 = 1 << 1;
        /// `sq_thread_cpu` counts.
        pub IORING_SETUP_SQ_AFF: u32 = 1 << 2;
        /// `cq_entries` counts. Since 5.5.
        pub IORING_SETUP_CQSIZE: u32 = 1 << 3;
        /// Lower sizes that are too large. Since 5.6.
        pub IORING_SETUP_CLAMP: u32 = 1 << 4;
        /// Share the workers of the ring `wq_fd`.
        pub IORING_SETUP_ATTACH_WQ: u32 = 1 << 5;
        /// Begin disabled. Since 5.10.
        pub IORING_SETUP_R_DISABLED: u32 = 1 << 6;
        /// Submit on after an entry that fails. Since 5.18.
        pub IORING_SETUP_SUBMIT_ALL: u32 = 1 << 7;
        /// No interrupts for completions. Since 5.19.
        pub IORING_SETUP_COOP_TASKRUN: u32 = 1 << 8;
        /// Say in the submission ring's flags when there is work to run. Since 5.19.
        pub IORING_SETUP_TASKRUN_FLAG: u32 = 1 << 9;
        /// Submission entries have 128 bytes. Since 5.19.
        pub IORING_SETUP_SQE128: u32 = 1 << 10;
        /// Completion entries have 32 bytes. Since 5.19.
        pub IORING_SETUP_CQE32: u32 = 1 << 11;
        /// Only one task submits. Since 6.0.
        pub IORING_SETUP_SINGLE_ISSUER: u32 = 1 << 12;
        /// Completions come about only in `io_uring_enter` that waits for them. Since 6.1.
        pub IORING_SETUP_DEFER_TASKRUN: u32 = 1 << 13;
        /// The caller brings the rings' memory. Since 6.5.
        pub IORING_SETUP_NO_MMAP: u32 = 1 << 14;
        /// Return a registered index, not a descriptor. Since 6.5.
        pub IORING_SETUP_REGISTERED_FD_ONLY: u32 = 1 << 15;
        /// No index array before the entries. Since 6.6.
        pub IORING_SETUP_NO_SQARRAY: u32 = 1 << 16;
        /// Sleep before busy-waiting. Since 6.13.
        pub IORING_SETUP_HYBRID_IOPOLL: u32 = 1 << 17;
        /// Completion entries of both sizes. Since 6.18.
        pub IORING_SETUP_CQE_MIXED: u32 = 1 << 18;
        /// Submission entries of both sizes. Since 6.19.
        pub IORING_SETUP_SQE_MIXED: u32 = 1 << 19;
        /// Submission entries are always read from index 0 on. Since 7.0.
        pub IORING_SETUP_SQ_REWIND: u32 = 1 << 20;
    }
}

constants! {
    /// Where to map a ring's parts from.
    pub MMAP_OFFSETS {
        /// Both rings; the submission ring alone on kernels before 5.4.
        pub IORING_OFF_SQ_RING: u64 = 0;
        /// The completion ring; the same pages.
        pub IORING_OFF_CQ_RING: u64 = 0x800_0000;
        /// The submission entries.
        pub IORING_OFF_SQES: u64 = 0x1000_0000;
        /// Rings of provided buffers, plus the group's number shifted.
        pub IORING_OFF_PBUF_RING: u64 = 0x8000_0000;
        /// By how much the number is shifted.
        pub IORING_OFF_PBUF_SHIFT: u32 = 16;
        /// The bits that tell these apart.
        pub IORING_OFF_MMAP_MASK: u64 = 0xf800_0000;
    }
}

/// Where the submission ring's words stand, in bytes from the start of the map. Written by the
/// kernel, `user_addr` by the caller.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_sqring_offsets {
    /// How far the kernel has read; free running.
    pub head: u32,
    /// How far the caller has written; free running.
    pub tail: u32,
    /// Entries less one.
    pub ring_mask: u32,
    /// Entries.
    pub ring_entries: u32,
    /// [`SQ_FLAGS`].
    pub flags: u32,
    /// Indices that were out of range.
    pub dropped: u32,
    /// The index array.
    pub array: u32,
    /// Zero.
    pub resv1: u32,
    /// The caller's memory for the entries, with [`IORING_SETUP_NO_MMAP`].
    pub user_addr: u64,
}
layout!(io_sqring_offsets: 40 {
    0 head: u32, 4 tail: u32, 8 ring_mask: u32, 12 ring_entries: u32, 16 flags: u32,
    20 dropped: u32, 24 array: u32, 28 resv1: u32, 32 user_addr: u64,
});

constants! {
    /// The submission ring's flags. Written by the kernel.
    pub SQ_FLAGS {
        /// The kernel's thread sleeps.
        pub IORING_SQ_NEED_WAKEUP: u32 = 1 << 0;
        /// Completions wait for room.
        pub IORING_SQ_CQ_OVERFLOW: u32 = 1 << 1;
        /// There is work to run in the kernel. Since 5.19.
        pub IORING_SQ_TASKRUN: u32 = 1 << 2;
    }
}

/// Where the completion ring's words stand, in bytes from the start of the map. Written by the
/// kernel, `user_addr` by the caller.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_cqring_offsets {
    /// How far the caller has read; free running.
    pub head: u32,
    /// How far the kernel has written; free running.
    pub tail: u32,
    /// Entries less one.
    pub ring_mask: u32,
    /// Entries.
    pub ring_entries: u32,
    /// Completions that were lost.
    pub overflow: u32,
    /// The entries.
    pub cqes: u32,
    /// [`CQ_FLAGS`].
    pub flags: u32,
    /// Zero.
    pub resv1: u32,
    /// The caller's memory for the rings, with [`IORING_SETUP_NO_MMAP`].
    pub user_addr: u64,
}
layout!(io_cqring_offsets: 40 {
    0 head: u32, 4 tail: u32, 8 ring_mask: u32, 12 ring_entries: u32, 16 overflow: u32,
    20 cqes: u32, 24 flags: u32, 28 resv1: u32, 32 user_addr: u64,
});

constants! {
    /// The completion ring's flags. Written by the caller.
    pub CQ_FLAGS {
        /// Do not signal the eventfd.
        pub IORING_CQ_EVENTFD_DISABLED: u32 = 1 << 0;
    }
}

/// What `io_uring_setup(2)` is asked and answers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_params {
    /// Submission entries; written by the kernel.
    pub sq_entries: u32,
    /// Completion entries; read with [`IORING_SETUP_CQSIZE`], and written by the kernel.
    pub cq_entries: u32,
    /// [`SETUP_FLAGS`].
    pub flags: u32,
    /// CPU of the kernel's thread.
    pub sq_thread_cpu: u32,
    /// Milliseconds until that thread sleeps.
    pub sq_thread_idle: u32,
    /// [`RING_FEATURES`]; written by the kernel.
    pub features: u32,
    /// Whose workers to share.
    pub wq_fd: u32,
    /// Zero.
    pub resv: [u32; 3],
    /// The submission ring's map.
    pub sq_off: io_sqring_offsets,
    /// The completion ring's map.
    pub cq_off: io_cqring_offsets,
}
layout!(io_uring_params: 120 {
    0 sq_entries: u32, 4 cq_entries: u32, 8 flags: u32, 12 sq_thread_cpu: u32,
    16 sq_thread_idle: u32, 20 features: u32, 24 wq_fd: u32, 28 resv: [u32; 3],
    40 sq_off: io_sqring_offsets, 80 cq_off: io_cqring_offsets,
});

constants! {
    /// [`io_uring_params::features`].
    pub RING_FEATURES {
        /// One map for both rings.
        pub IORING_FEAT_SINGLE_MMAP: u32 = 1 << 0;
        /// Completions without room are kept.
        pub IORING_FEAT_NODROP: u32 = 1 << 1;
        /// Entries are consumed when they are submitted.
        pub IORING_FEAT_SUBMIT_STABLE: u32 = 1 << 2;
        /// Offset -1 is the file's position.
        pub IORING_FEAT_RW_CUR_POS: u32 = 1 << 3;
        /// Requests have the credentials of who submits them.
        pub IORING_FEAT_CUR_PERSONALITY: u32 = 1 << 4;
        /// The kernel polls by itself.
        pub IORING_FEAT_FAST_POLL: u32 = 1 << 5;
        /// Poll events have 32 bits.
        pub IORING_FEAT_POLL_32BITS: u32 = 1 << 6;
        /// A submitting kernel thread takes any descriptor.
        pub IORING_FEAT_SQPOLL_NONFIXED: u32 = 1 << 7;
        /// [`io_uring_getevents_arg`](super::io_uring_getevents_arg) is understood. Since 5.11.
        pub IORING_FEAT_EXT_ARG: u32 = 1 << 8;
        /// Workers are threads of the caller.
        pub IORING_FEAT_NATIVE_WORKERS: u32 = 1 << 9;
        /// Tables have tags and updates.
        pub IORING_FEAT_RSRC_TAGS: u32 = 1 << 10;
        /// [`IOSQE_CQE_SKIP_SUCCESS`](super::IOSQE_CQE_SKIP_SUCCESS) is understood. Since 5.17.
        pub IORING_FEAT_CQE_SKIP: u32 = 1 << 11;
        /// Linked entries look up their file when they begin.
        pub IORING_FEAT_LINKED_FILE: u32 = 1 << 12;
        /// Registering works through a registered ring. Since 6.3.
        pub IORING_FEAT_REG_REG_RING: u32 = 1 << 13;
        /// Sends and receives take several buffers.
        pub IORING_FEAT_RECVSEND_BUNDLE: u32 = 1 << 14;
        /// Waiting has a second, shorter time. Since 6.12.
        pub IORING_FEAT_MIN_TIMEOUT: u32 = 1 << 15;
        /// Reads and writes take attributes.
        pub IORING_FEAT_RW_ATTR: u32 = 1 << 16;
        /// [`IORING_ENTER_NO_IOWAIT`](super::IORING_ENTER_NO_IOWAIT) is understood. Since 6.15.
        pub IORING_FEAT_NO_IOWAIT: u32 = 1 << 17;
    }
}
