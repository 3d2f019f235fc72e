//! Rings in ordinary memory, where a test plays the kernel.
#![expect(unsafe_code, reason = "plays the shared memory; docs/safety.md, in tests")]

mod asked;
mod orderings;
mod stress;

pub(crate) use asked::Played;

use super::{Sqe, SubmissionQueue};
use crate::kernel::Memory;
use crate::memory::Pages;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use ublkit_sys::io_uring::{
    IORING_SETUP_NO_SQARRAY, io_cqring_offsets, io_sqring_offsets, io_uring_params,
};

pub(super) const SQ_HEAD: u32 = 0;
pub(super) const SQ_TAIL: u32 = 4;
pub(super) const CQ_HEAD: u32 = 8;
pub(super) const CQ_TAIL: u32 = 12;
pub(super) const CQES: u32 = 64;

/// A mapping, and its length.
#[derive(Debug)]
pub(crate) struct Fake(Pages, usize);

// SAFETY: Pages are page aligned, that long, and handed out as pointers only.
unsafe impl Memory for Fake {
    fn base(&self) -> NonNull<u8> {
        self.0.at(0, self.1)
    }

    fn len_bytes(&self) -> usize {
        self.1
    }
}

pub(super) fn fake(len_bytes: usize) -> Arc<Fake> {
    Arc::new(Fake(Pages::new(len_bytes).unwrap(), len_bytes))
}

pub(super) fn word(memory: &Fake, offset: u32) -> &AtomicU32 {
    // SAFETY: inside the page, aligned, and only ever used as an atomic.
    unsafe { memory.place::<AtomicU32>(offset as usize, 1).unwrap().as_ref() }
}

/// Two queues of so many entries each.
pub(super) fn params(entries: u32) -> io_uring_params {
    io_uring_params {
        sq_entries: entries,
        cq_entries: entries,
        flags: IORING_SETUP_NO_SQARRAY,
        sq_off: io_sqring_offsets { head: SQ_HEAD, tail: SQ_TAIL, ..Default::default() },
        cq_off: io_cqring_offsets {
            head: CQ_HEAD,
            tail: CQ_TAIL,
            cqes: CQES,
            ..Default::default()
        },
        ..Default::default()
    }
}

/// The memory of the indices and the CQEs; all indices begin at `start`.
pub(super) fn indices(start: u32) -> Arc<Fake> {
    let memory = fake(4096);
    for offset in [SQ_HEAD, SQ_TAIL, CQ_HEAD, CQ_TAIL] {
        word(&memory, offset).store(start, Ordering::Relaxed);
    }
    memory
}

/// A queue of four SQEs that nobody takes.
pub(crate) fn fake_submissions() -> SubmissionQueue<Sqe> {
    SubmissionQueue::new(&indices(0), &fake(4096), &params(4)).unwrap()
}
