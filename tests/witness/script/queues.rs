//! The queues of a ring by address. Nothing here checks what is said; it only stays inside of the
//! mappings.
#![expect(unsafe_code, reason = "drives rings by hand, to say what the driver's own rings cannot")]

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use ublkit::kernel::Memory;
use ublkit::sys::abi::Abi;
use ublkit::sys::io_uring::{
    IORING_SETUP_CQE32, IORING_SETUP_NO_SQARRAY, IORING_SETUP_SQE128, io_uring_buf, io_uring_cqe,
    io_uring_params, io_uring_sqe, io_uring_sqe128,
};
use ublkit::sys::ublk::ublksrv_io_desc;

/// A ring's mapped queues.
#[derive(Debug)]
pub struct Queues<M> {
    indices: M,
    sqes: M,
    params: io_uring_params,
}

/// The lengths of the two mappings of a ring.
pub fn lengths_bytes(params: &io_uring_params) -> (usize, usize) {
    let cqes = params.cq_entries as usize * cqe_bytes(params);
    let mut indices = params.cq_off.cqes as usize + cqes;
    if params.flags & IORING_SETUP_NO_SQARRAY == 0 {
        indices = indices.max(params.sq_off.array as usize + 4 * params.sq_entries as usize);
    }
    (indices, params.sq_entries as usize * sqe_bytes(params))
}

fn sqe_bytes(params: &io_uring_params) -> usize {
    let long = params.flags & IORING_SETUP_SQE128 != 0;
    if long { size_of::<io_uring_sqe128>() } else { size_of::<io_uring_sqe>() }
}

fn cqe_bytes(params: &io_uring_params) -> usize {
    if params.flags & IORING_SETUP_CQE32 != 0 { 32 } else { 16 }
}

impl<M: Memory> Queues<M> {
    pub fn new(indices: M, sqes: M, params: io_uring_params) -> Self {
        Self { indices, sqes, params }
    }

    /// Queues an SQE, cut to the ring's length; false when the queue is full.
    pub fn put(&self, sqe: &io_uring_sqe128) -> bool {
        let (params, offsets) = (&self.params, &self.params.sq_off);
        let (head, tail) = (self.index(offsets.head), self.index(offsets.tail));
        let next = tail.load(Ordering::Relaxed);
        if next.wrapping_sub(head.load(Ordering::Acquire)) >= params.sq_entries {
            return false;
        }
        let slot = next & (params.sq_entries - 1);
        let at = slot as usize * sqe_bytes(params);
        if params.flags & IORING_SETUP_SQE128 != 0 {
            write(&self.sqes, at, *sqe);
        } else {
            write(&self.sqes, at, sqe.head);
        }
        if params.flags & IORING_SETUP_NO_SQARRAY == 0 {
            write(&self.indices, (offsets.array + 4 * slot) as usize, slot);
        }
        tail.store(next.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes all CQEs that there are.
    pub fn take(&self) -> Vec<io_uring_cqe> {
        let offsets = &self.params.cq_off;
        let (head, tail) = (self.index(offsets.head), self.index(offsets.tail));
        let end = tail.load(Ordering::Acquire);
        let mut next = head.load(Ordering::Relaxed);
        let mut taken = Vec::new();
        while next != end {
            let slot = (next & (self.params.cq_entries - 1)) as usize;
            taken.push(read(&self.indices, offsets.cqes as usize + slot * cqe_bytes(&self.params)));
            next = next.wrapping_add(1);
        }
        head.store(next, Ordering::Release);
        taken
    }

    fn index(&self, offset: u32) -> &AtomicU32 {
        let place = self.indices.place::<AtomicU32>(offset as usize, 1).expect("mapped");
        // SAFETY: mapped as long as `self`, aligned, and shared with the kernel as an atomic.
        unsafe { place.as_ref() }
    }
}

/// A ring of provided buffers, which fit in one page. A script gives it no more than there is room
/// for.
#[derive(Debug)]
pub struct Provided<M> {
    entries: M,
    tail: u16,
}

impl<M: Memory> Provided<M> {
    pub fn new(entries: M) -> Self {
        Self { entries, tail: 0 }
    }

    /// Gives the kernel a buffer.
    pub fn add(&mut self, addr: u64, len: u32, bid: u16) {
        let at = usize::from(self.tail) * size_of::<io_uring_buf>();
        // The tail lies in the last word of entry 0, and stays as it is.
        write(&self.entries, at, io_uring_buf { addr, len, bid, resv: self.tail });
        self.tail += 1;
        let tail = std::mem::offset_of!(io_uring_buf, resv);
        let place = self.entries.place::<AtomicU16>(tail, 1).expect("mapped");
        // SAFETY: mapped as long as `self`, aligned, and shared with the kernel as an atomic.
        unsafe { place.as_ref() }.store(self.tail, Ordering::Release);
    }
}

/// Copies a descriptor out, or `None` when it is not mapped.
pub fn descriptor<M: Memory>(mapping: &M, tag: u16) -> Option<ublksrv_io_desc> {
    let at = usize::from(tag) * size_of::<ublksrv_io_desc>();
    mapping.place::<ublksrv_io_desc>(at, 1)?;
    Some(read(mapping, at))
}

fn read<T: Abi>(mapping: &impl Memory, at: usize) -> T {
    let place = mapping.place::<T>(at, 1).expect("mapped");
    // SAFETY: mapped and aligned; any bits make a T; the kernel wrote it before what we acquired.
    unsafe { place.read_volatile() }
}

fn write<T>(mapping: &impl Memory, at: usize, value: T) {
    let place = mapping.place::<T>(at, 1).expect("mapped");
    // SAFETY: mapped for writing and aligned; the kernel reads it only after the tail's release.
    unsafe { place.write(value) };
}
