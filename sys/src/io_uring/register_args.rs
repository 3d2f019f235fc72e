//! What the argument of `io_uring_register(2)` points to. All written by the caller, unless said
//! otherwise.
use crate::layout;

use super::__kernel_timespec;

/// Which file entries to change. The header calls it outdated in favour of
/// [`io_uring_rsrc_update`], which is laid out alike.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_files_update {
    /// The first entry.
    pub offset: u32,
    /// Zero.
    pub resv: u32,
    /// A pointer to descriptors, as i32.
    pub fds: u64,
}
layout!(io_uring_files_update: 16 { 0 offset: u32, 4 resv: u32, 8 fds: u64 });

/// Memory that is shared with a ring. Since Linux 6.13.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_region_desc {
    /// Where it is, if it is the caller's.
    pub user_addr: u64,
    /// Its length in bytes.
    pub size: u64,
    /// [`REGION_TYPES`](super::REGION_TYPES).
    pub flags: u32,
    /// Zero.
    pub id: u32,
    /// Where to map it from, otherwise; written by the kernel.
    pub mmap_offset: u64,
    /// Zero.
    pub __resv: [u64; 4],
}
layout!(io_uring_region_desc: 64 {
    0 user_addr: u64, 8 size: u64, 16 flags: u32, 20 id: u32, 24 mmap_offset: u64,
    32 __resv: [u64; 4],
});

/// What a shared memory is for. Since Linux 6.13.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_mem_region_reg {
    /// A pointer to an [`io_uring_region_desc`].
    pub region_uptr: u64,
    /// [`REGION_FLAGS`](super::REGION_FLAGS).
    pub flags: u64,
    /// Zero.
    pub __resv: [u64; 2],
}
layout!(io_uring_mem_region_reg: 32 { 0 region_uptr: u64, 8 flags: u64, 16 __resv: [u64; 2] });

/// A table of files or buffers. Since Linux 5.13.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_rsrc_register {
    /// Its entries.
    pub nr: u32,
    /// [`RSRC_FLAGS`](super::RSRC_FLAGS).
    pub flags: u32,
    /// Zero.
    pub resv2: u64,
    /// A pointer to descriptors or vectors.
    pub data: u64,
    /// A pointer to a u64 for each entry, or 0.
    pub tags: u64,
}
layout!(io_uring_rsrc_register: 32 {
    0 nr: u32, 4 flags: u32, 8 resv2: u64, 16 data: u64, 24 tags: u64,
});

/// Which entries to change; with `IORING_REGISTER_RING_FDS`, one ring to register.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_rsrc_update {
    /// The first entry; for a ring `u32::MAX` asks the kernel to choose, which writes its choice
    /// here.
    pub offset: u32,
    /// Zero.
    pub resv: u32,
    /// A pointer to descriptors or vectors; for a ring its descriptor.
    pub data: u64,
}
layout!(io_uring_rsrc_update: 16 { 0 offset: u32, 4 resv: u32, 8 data: u64 });

/// Which entries to change, and their tags. Since Linux 5.13.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_rsrc_update2 {
    /// The first entry.
    pub offset: u32,
    /// Zero.
    pub resv: u32,
    /// A pointer to descriptors or vectors.
    pub data: u64,
    /// A pointer to a u64 for each entry, or 0.
    pub tags: u64,
    /// How many.
    pub nr: u32,
    /// Zero.
    pub resv2: u32,
}
layout!(io_uring_rsrc_update2: 32 {
    0 offset: u32, 4 resv: u32, 8 data: u64, 16 tags: u64, 24 nr: u32, 28 resv2: u32,
});

/// Whether one operation is there. Written by the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_probe_op {
    /// The operation.
    pub op: u8,
    /// Zero.
    pub resv: u8,
    /// [`PROBE_FLAGS`](super::PROBE_FLAGS).
    pub flags: u16,
    /// Zero.
    pub resv2: u32,
}
layout!(io_uring_probe_op: 8 { 0 op: u8, 1 resv: u8, 2 flags: u16, 4 resv2: u32 });

/// Which operations are there; room for [`io_uring_probe_op`] follows it. Zero before, written by
/// the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_probe {
    /// The last operation that the kernel knows.
    pub last_op: u8,
    /// How many entries follow.
    pub ops_len: u8,
    /// Zero.
    pub resv: u16,
    /// Zero.
    pub resv2: [u32; 3],
}
layout!(io_uring_probe: 16 { 0 last_op: u8, 1 ops_len: u8, 2 resv: u16, 4 resv2: [u32; 3] });

/// One thing that a ring may do. Since Linux 5.10.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_restriction {
    /// One of [`RESTRICTION_OPS`](super::RESTRICTION_OPS).
    pub opcode: u16,
    /// What it allows; also `sqe_op` and `sqe_flags`.
    pub register_op: u8,
    /// Zero.
    pub resv: u8,
    /// Zero.
    pub resv2: [u32; 3],
}
layout!(io_uring_restriction: 16 {
    0 opcode: u16, 2 register_op: u8, 3 resv: u8, 4 resv2: [u32; 3],
});

/// What all rings of a task may do; [`io_uring_restriction`] follow it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_task_restriction {
    /// Zero.
    pub flags: u16,
    /// How many follow.
    pub nr_res: u16,
    /// Zero.
    pub resv: [u32; 3],
}
layout!(io_uring_task_restriction: 16 { 0 flags: u16, 2 nr_res: u16, 4 resv: [u32; 3] });

/// Which clock waiting uses. Since Linux 6.12.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_clock_register {
    /// As `clock_gettime(2)` takes it.
    pub clockid: u32,
    /// Zero.
    pub __resv: [u32; 3],
}
layout!(io_uring_clock_register: 16 { 0 clockid: u32, 4 __resv: [u32; 3] });

/// Which buffers of another ring to share. Since Linux 6.12.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_clone_buffers {
    /// The other ring.
    pub src_fd: u32,
    /// [`CLONE_FLAGS`](super::CLONE_FLAGS).
    pub flags: u32,
    /// Its first entry.
    pub src_off: u32,
    /// The first entry here.
    pub dst_off: u32,
    /// How many; 0 for all.
    pub nr: u32,
    /// Zero.
    pub pad: [u32; 3],
}
layout!(io_uring_clone_buffers: 32 {
    0 src_fd: u32, 4 flags: u32, 8 src_off: u32, 12 dst_off: u32, 16 nr: u32, 20 pad: [u32; 3],
});

/// One provided buffer, in a ring of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_buf {
    /// Where it is.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Its number, which completions name.
    pub bid: u16,
    /// Not looked at. In entry 0 this is the ring's tail.
    pub resv: u16,
}
layout!(io_uring_buf: 16 { 0 addr: u64, 8 len: u32, 12 bid: u16, 14 resv: u16 });

/// The head of a ring of provided buffers, which lies over its first [`io_uring_buf`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_buf_ring {
    /// Entry 0: `addr`.
    pub resv1: u64,
    /// Entry 0: `len`.
    pub resv2: u32,
    /// Entry 0: `bid`.
    pub resv3: u16,
    /// How far the caller has written; free running.
    pub tail: u16,
}
layout!(io_uring_buf_ring: 16 { 0 resv1: u64, 8 resv2: u32, 12 resv3: u16, 14 tail: u16 });

/// A ring of provided buffers. Since Linux 5.19.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_buf_reg {
    /// Where it is, page aligned; 0 if the kernel allocates it.
    pub ring_addr: u64,
    /// Its entries, a power of two.
    pub ring_entries: u32,
    /// The group's number.
    pub bgid: u16,
    /// [`PBUF_RING_FLAGS`](super::PBUF_RING_FLAGS).
    pub flags: u16,
    /// Least bytes left for a buffer to be used on, when used in pieces. Newer than Linux 6.12,
    /// zero before.
    pub min_left: u32,
    /// Zero.
    pub resv: [u32; 5],
}
layout!(io_uring_buf_reg: 40 {
    0 ring_addr: u64, 8 ring_entries: u32, 12 bgid: u16, 14 flags: u16, 16 min_left: u32,
    20 resv: [u32; 5],
});

/// How far a ring of provided buffers was used. Since Linux 6.8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_buf_status {
    /// The group's number.
    pub buf_group: u32,
    /// How far the kernel has read; written by the kernel.
    pub head: u32,
    /// Zero.
    pub resv: [u32; 8],
}
layout!(io_uring_buf_status: 40 { 0 buf_group: u32, 4 head: u32, 8 resv: [u32; 8] });

/// What to cancel, and how long to wait for that. Since Linux 6.0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_sync_cancel_reg {
    /// The `user_data` to match.
    pub addr: u64,
    /// The descriptor to match.
    pub fd: i32,
    /// [`CANCEL_FLAGS`](super::CANCEL_FLAGS).
    pub flags: u32,
    /// How long; -1 in both for no limit.
    pub timeout: __kernel_timespec,
    /// The operation to match.
    pub opcode: u8,
    /// Zero.
    pub pad: [u8; 7],
    /// Zero.
    pub pad2: [u64; 3],
}
layout!(io_uring_sync_cancel_reg: 64 {
    0 addr: u64, 8 fd: i32, 12 flags: u32, 16 timeout: __kernel_timespec, 32 opcode: u8,
    33 pad: [u8; 7], 40 pad2: [u64; 3],
});

/// Where the kernel may put files. Since Linux 6.0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct io_uring_file_index_range {
    /// The first entry.
    pub off: u32,
    /// How many.
    pub len: u32,
    /// Zero.
    pub resv: u64,
}
layout!(io_uring_file_index_range: 16 { 0 off: u32, 4 len: u32, 8 resv: u64 });
