//! `io_uring_register(2)`: opcodes and small numbers. The structs are in `register_args`.
use crate::constants;

constants! {
    /// The call's opcode. "By" names the struct that its argument points to.
    pub REGISTER_OPCODES {
        /// Buffers, from an array of vectors.
        pub IORING_REGISTER_BUFFERS: u32 = 0;
        /// Drops the buffer table.
        pub IORING_UNREGISTER_BUFFERS: u32 = 1;
        /// Files, from an array of descriptors; -1 is an empty entry.
        pub IORING_REGISTER_FILES: u32 = 2;
        /// Drops the file table.
        pub IORING_UNREGISTER_FILES: u32 = 3;
        /// An eventfd that completions signal.
        pub IORING_REGISTER_EVENTFD: u32 = 4;
        /// Drops it.
        pub IORING_UNREGISTER_EVENTFD: u32 = 5;
        /// Changes file entries; returns how many.
        pub IORING_REGISTER_FILES_UPDATE: u32 = 6;
        /// An eventfd that only asynchronous completions signal.
        pub IORING_REGISTER_EVENTFD_ASYNC: u32 = 7;
        /// Which operations there are, as [`io_uring_probe`](super::io_uring_probe).
        pub IORING_REGISTER_PROBE: u32 = 8;
        /// Remembers the caller's credentials; returns their number.
        pub IORING_REGISTER_PERSONALITY: u32 = 9;
        /// Forgets them.
        pub IORING_UNREGISTER_PERSONALITY: u32 = 10;
        /// Allows only some operations.
        pub IORING_REGISTER_RESTRICTIONS: u32 = 11;
        /// Enables a ring made disabled; the caller becomes its issuer. Since 5.10.
        pub IORING_REGISTER_ENABLE_RINGS: u32 = 12;
        /// Files, by [`io_uring_rsrc_register`](super::io_uring_rsrc_register).
        pub IORING_REGISTER_FILES2: u32 = 13;
        /// Changes them, by [`io_uring_rsrc_update2`](super::io_uring_rsrc_update2).
        pub IORING_REGISTER_FILES_UPDATE2: u32 = 14;
        /// Buffers, by [`io_uring_rsrc_register`](super::io_uring_rsrc_register).
        pub IORING_REGISTER_BUFFERS2: u32 = 15;
        /// Changes them, by [`io_uring_rsrc_update2`](super::io_uring_rsrc_update2).
        pub IORING_REGISTER_BUFFERS_UPDATE: u32 = 16;
        /// On which CPUs workers run.
        pub IORING_REGISTER_IOWQ_AFF: u32 = 17;
        /// On any again.
        pub IORING_UNREGISTER_IOWQ_AFF: u32 = 18;
        /// Two u32, by [`WORKER_TYPES`]: limits in, old limits out; 0 leaves one. Since 5.15.
        pub IORING_REGISTER_IOWQ_MAX_WORKERS: u32 = 19;
        /// Registers ring descriptors, by `io_uring_rsrc_update`. Since 5.18.
        pub IORING_REGISTER_RING_FDS: u32 = 20;
        /// Forgets them.
        pub IORING_UNREGISTER_RING_FDS: u32 = 21;
        /// A ring of provided buffers, by `io_uring_buf_reg`. Since 5.19.
        pub IORING_REGISTER_PBUF_RING: u32 = 22;
        /// Drops it.
        pub IORING_UNREGISTER_PBUF_RING: u32 = 23;
        /// Cancels and waits, by `io_uring_sync_cancel_reg`. Since 6.0.
        pub IORING_REGISTER_SYNC_CANCEL: u32 = 24;
        /// Where the kernel may put files, by `io_uring_file_index_range`.
        pub IORING_REGISTER_FILE_ALLOC_RANGE: u32 = 25;
        /// How far a buffer ring was used, by `io_uring_buf_status`.
        pub IORING_REGISTER_PBUF_STATUS: u32 = 26;
        /// Busy polling of the network.
        pub IORING_REGISTER_NAPI: u32 = 27;
        /// None again.
        pub IORING_UNREGISTER_NAPI: u32 = 28;
        /// The clock for waiting, by `io_uring_clock_register`.
        pub IORING_REGISTER_CLOCK: u32 = 29;
        /// Another ring's buffers, by `io_uring_clone_buffers`.
        pub IORING_REGISTER_CLONE_BUFFERS: u32 = 30;
        /// Sends a message to a ring, without having one.
        pub IORING_REGISTER_SEND_MSG_RING: u32 = 31;
        /// A network receive queue.
        pub IORING_REGISTER_ZCRX_IFQ: u32 = 32;
        /// Other sizes for the rings, by `io_uring_params`.
        pub IORING_REGISTER_RESIZE_RINGS: u32 = 33;
        /// Memory for waiting arguments, by `io_uring_mem_region_reg`.
        pub IORING_REGISTER_MEM_REGION: u32 = 34;
        /// What the kernel can, by `io_uring_query_hdr`; needs no ring. Since 6.18.
        pub IORING_REGISTER_QUERY: u32 = 35;
        /// More about network receive queues.
        pub IORING_REGISTER_ZCRX_CTRL: u32 = 36;
        /// Filters requests by a program.
        pub IORING_REGISTER_BPF_FILTER: u32 = 37;
        /// Added to an opcode: the descriptor is a registered index. Since 6.3.
        pub IORING_REGISTER_USE_REGISTERED_RING: u32 = 1 << 31;
    }
}

constants! {
    /// Which limit is which in [`IORING_REGISTER_IOWQ_MAX_WORKERS`].
    pub WORKER_TYPES {
        /// Work on files and devices; ublk's control commands are of this kind.
        pub IO_WQ_BOUND: u32 = 0;
        /// Work that may take for ever.
        pub IO_WQ_UNBOUND: u32 = 1;
    }
}

constants! {
    /// [`io_uring_region_desc::flags`](super::io_uring_region_desc::flags).
    pub REGION_TYPES {
        /// The memory is the caller's.
        pub IORING_MEM_REGION_TYPE_USER: u32 = 1;
    }
}

constants! {
    /// [`io_uring_mem_region_reg::flags`](super::io_uring_mem_region_reg::flags).
    pub REGION_FLAGS {
        /// It holds [`io_uring_reg_wait`](super::io_uring_reg_wait).
        pub IORING_MEM_REGION_REG_WAIT_ARG: u64 = 1;
    }
}

constants! {
    /// [`io_uring_rsrc_register::flags`](super::io_uring_rsrc_register::flags).
    pub RSRC_FLAGS {
        /// All entries begin empty, and `data` is 0. Since 5.19.
        pub IORING_RSRC_REGISTER_SPARSE: u32 = 1 << 0;
    }
}

constants! {
    /// Descriptors with a meaning of their own in [`IORING_REGISTER_FILES_UPDATE`].
    pub FILES_UPDATE_NUMBERS {
        /// Leaves the entry as it is.
        pub IORING_REGISTER_FILES_SKIP: i32 = -2;
    }
}

constants! {
    /// [`io_uring_probe_op::flags`](super::io_uring_probe_op::flags).
    pub PROBE_FLAGS {
        /// The kernel has this operation.
        pub IO_URING_OP_SUPPORTED: u16 = 1 << 0;
    }
}

constants! {
    /// [`io_uring_restriction::opcode`](super::io_uring_restriction::opcode).
    pub RESTRICTION_OPS {
        /// Allows an opcode of `io_uring_register(2)`.
        pub IORING_RESTRICTION_REGISTER_OP: u16 = 0;
        /// Allows an operation.
        pub IORING_RESTRICTION_SQE_OP: u16 = 1;
        /// Allows entry flags.
        pub IORING_RESTRICTION_SQE_FLAGS_ALLOWED: u16 = 2;
        /// Demands entry flags.
        pub IORING_RESTRICTION_SQE_FLAGS_REQUIRED: u16 = 3;
    }
}

constants! {
    /// [`io_uring_clone_buffers::flags`](super::io_uring_clone_buffers::flags).
    pub CLONE_FLAGS {
        /// The other ring is a registered index.
        pub IORING_REGISTER_SRC_REGISTERED: u32 = 1 << 0;
        /// Entries of this ring may be overwritten.
        pub IORING_REGISTER_DST_REPLACE: u32 = 1 << 1;
    }
}

constants! {
    /// [`io_uring_buf_reg::flags`](super::io_uring_buf_reg::flags).
    pub PBUF_RING_FLAGS {
        /// The kernel allocates the ring, and the caller maps it.
        pub IOU_PBUF_RING_MMAP: u16 = 1;
        /// Buffers are used up in pieces. Since 6.12.
        pub IOU_PBUF_RING_INC: u16 = 2;
    }
}
