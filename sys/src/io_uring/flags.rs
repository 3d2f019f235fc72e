//! Flags that belong to single operations.
use crate::constants;

constants! {
    /// `op_flags` of a command, there called `uring_cmd_flags`.
    pub URING_CMD_FLAGS {
        /// `buf_index` names a registered buffer.
        pub IORING_URING_CMD_FIXED: u32 = 1 << 0;
        /// Completes many times; needs a provided buffer group. Since 6.18.
        pub IORING_URING_CMD_MULTISHOT: u32 = 1 << 1;
        /// All flags there are.
        pub IORING_URING_CMD_MASK: u32 = IORING_URING_CMD_FIXED | IORING_URING_CMD_MULTISHOT;
    }
}

constants! {
    /// `op_flags` of a sync, there called `fsync_flags`.
    pub FSYNC_FLAGS {
        /// As `fdatasync(2)`.
        pub IORING_FSYNC_DATASYNC: u32 = 1 << 0;
    }
}

constants! {
    /// `op_flags` of a timeout, there called `timeout_flags`.
    pub TIMEOUT_FLAGS {
        /// The time is absolute.
        pub IORING_TIMEOUT_ABS: u32 = 1 << 0;
        /// Changes another timeout.
        pub IORING_TIMEOUT_UPDATE: u32 = 1 << 1;
        /// The clock goes on while the machine sleeps.
        pub IORING_TIMEOUT_BOOTTIME: u32 = 1 << 2;
        /// The clock is the time of day.
        pub IORING_TIMEOUT_REALTIME: u32 = 1 << 3;
        /// Changes another linked timeout.
        pub IORING_LINK_TIMEOUT_UPDATE: u32 = 1 << 4;
        /// `-ETIME` counts as success.
        pub IORING_TIMEOUT_ETIME_SUCCESS: u32 = 1 << 5;
        /// Completes many times.
        pub IORING_TIMEOUT_MULTISHOT: u32 = 1 << 6;
        /// `addr` is the time itself, in nanoseconds.
        pub IORING_TIMEOUT_IMMEDIATE_ARG: u32 = 1 << 7;
        /// The bits that choose a clock.
        pub IORING_TIMEOUT_CLOCK_MASK: u32 = IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME;
        /// The bits that choose a change.
        pub IORING_TIMEOUT_UPDATE_MASK: u32 = IORING_TIMEOUT_UPDATE | IORING_LINK_TIMEOUT_UPDATE;
    }
}

constants! {
    /// `op_flags` of a splice, there called `splice_flags`, beside those of `splice(2)`.
    pub SPLICE_FLAGS {
        /// `splice_fd_in` is an index of the ring's file table.
        pub SPLICE_F_FD_IN_FIXED: u32 = 1 << 31;
    }
}

constants! {
    /// `len` of a poll.
    pub POLL_FLAGS {
        /// Completes many times.
        pub IORING_POLL_ADD_MULTI: u32 = 1 << 0;
        /// Changes another poll's events.
        pub IORING_POLL_UPDATE_EVENTS: u32 = 1 << 1;
        /// Changes another poll's `user_data`.
        pub IORING_POLL_UPDATE_USER_DATA: u32 = 1 << 2;
        /// Level triggered.
        pub IORING_POLL_ADD_LEVEL: u32 = 1 << 3;
    }
}

constants! {
    /// `op_flags` of a cancellation, there called `cancel_flags`. None reaches a ublk command.
    pub CANCEL_FLAGS {
        /// All that match, not only the first.
        pub IORING_ASYNC_CANCEL_ALL: u32 = 1 << 0;
        /// Match the descriptor.
        pub IORING_ASYNC_CANCEL_FD: u32 = 1 << 1;
        /// Match everything.
        pub IORING_ASYNC_CANCEL_ANY: u32 = 1 << 2;
        /// The descriptor is an index of the ring's file table.
        pub IORING_ASYNC_CANCEL_FD_FIXED: u32 = 1 << 3;
        /// Match `user_data`.
        pub IORING_ASYNC_CANCEL_USERDATA: u32 = 1 << 4;
        /// Match the opcode.
        pub IORING_ASYNC_CANCEL_OP: u32 = 1 << 5;
    }
}

constants! {
    /// `addr` of a message to another ring.
    pub MSG_RING_COMMANDS {
        /// `len` becomes the completion's `res` and `off` its `user_data`.
        pub IORING_MSG_DATA: u64 = 0;
        /// Sends an entry of the file table.
        pub IORING_MSG_SEND_FD: u64 = 1;
    }
}

constants! {
    /// `op_flags` of a message to another ring, there called `msg_ring_flags`.
    pub MSG_RING_FLAGS {
        /// No completion over there, when a file is sent.
        pub IORING_MSG_RING_CQE_SKIP: u32 = 1 << 0;
        /// `splice_fd_in` becomes the completion's flags.
        pub IORING_MSG_RING_FLAGS_PASS: u32 = 1 << 1;
    }
}

constants! {
    /// `op_flags` of a no-op, there called `nop_flags`.
    pub NOP_FLAGS {
        /// `len` becomes the completion's `res`.
        pub IORING_NOP_INJECT_RESULT: u32 = 1 << 0;
        /// Look up the file.
        pub IORING_NOP_FILE: u32 = 1 << 1;
        /// It is an index of the ring's file table.
        pub IORING_NOP_FIXED_FILE: u32 = 1 << 2;
        /// Look up the registered buffer.
        pub IORING_NOP_FIXED_BUFFER: u32 = 1 << 3;
        /// Complete from task work.
        pub IORING_NOP_TW: u32 = 1 << 4;
        /// Complete with 32 bytes.
        pub IORING_NOP_CQE32: u32 = 1 << 5;
    }
}

constants! {
    /// `splice_fd_in`, as the unsigned `file_index`, of what opens a file into the ring's table.
    pub FILE_INDICES {
        /// The kernel chooses.
        pub IORING_FILE_INDEX_ALLOC: u32 = !0;
    }
}
