//! The smallest server there can be, by hand: what the library's [`Builder`](ublkit::Builder) does
//! not serve yet is shown with it, and the driver's answers do not depend on the library's queues.
#![expect(unsafe_code, reason = "drives a ring by hand")]

use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use ublkit::kernel::{Access, Kernel, Linux, Memory, RingName};
use ublkit::sys::abi::{Abi, as_bytes};
use ublkit::sys::io_uring as uring;
use ublkit::sys::ublk::{
    SECTOR_BYTES, UBLK_IO_OP_WRITE, UBLK_IO_RES_ABORT, UBLK_IO_RES_OK,
    UBLK_U_IO_COMMIT_AND_FETCH_REQ, UBLK_U_IO_FETCH_REQ, descriptors_len_bytes, ublksrv_io_cmd,
    ublksrv_io_desc,
};

type File = <Linux as Kernel>::File;
type Mapping = <Linux as Kernel>::Mapping;

/// What devices of the smallest server have: one queue of so many slots, and requests of so much.
pub const DEPTH: u16 = 8;
pub const MAX_IO_BYTES: u32 = 64 << 10;
const DESCRIPTOR_BYTES: u16 = 24;
const PAGE_BYTES: usize = 4096;

/// Serves device `id` on a thread: answers everything with success, reads with zeros. Ends when the
/// driver has taken all slots, or, with its requests unanswered, when one begins at `fatal_sector`.
/// Answers how many bytes were written.
pub fn serve(id: u32, fatal_sector: Option<u64>) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut buffers = vec![0_u8; usize::from(DEPTH) * MAX_IO_BYTES as usize];
        let address = buffers.as_mut_ptr().expose_provenance() as u64;
        let ended = Raw::new(id, address).run(fatal_sector);
        drop(buffers); // the ring is closed: the kernel does not write to them any more
        ended
    })
}

/// A server's ring, device and descriptors. The ring is closed first.
struct Raw {
    ring: File,
    indices: Mapping,
    sqes: Mapping,
    params: uring::io_uring_params,
    descriptors: Mapping,
    device: File,
    /// Of the first slot's buffer.
    address: u64,
}

impl Raw {
    fn new(id: u32, address: u64) -> Self {
        let device = Linux.open(&CString::new(super::char_path(id)).unwrap()).unwrap();
        let len_bytes = descriptors_len_bytes(DEPTH, DESCRIPTOR_BYTES, PAGE_BYTES);
        let descriptors = Linux.map(&device, 0, len_bytes, Access::Read).unwrap();
        let mut params = uring::io_uring_params::default();
        let ring = Linux.ring_setup(DEPTH.into(), &mut params).unwrap();
        let map = |offset, len| Linux.map(&ring, offset, len, Access::ReadWrite).unwrap();
        let indices = map(uring::IORING_OFF_SQ_RING, PAGE_BYTES);
        let sqes =
            map(uring::IORING_OFF_SQES, usize::from(DEPTH) * size_of::<uring::io_uring_sqe>());
        Self { ring, indices, sqes, params, descriptors, device, address }
    }

    fn run(self, fatal_sector: Option<u64>) -> u64 {
        (0..DEPTH).for_each(|tag| self.send(UBLK_U_IO_FETCH_REQ, tag, 0));
        let (mut live, mut written_bytes) = (DEPTH, 0);
        while live > 0 {
            let cqe = self.receive();
            let tag = u16::try_from(cqe.user_data).unwrap();
            match cqe.res {
                UBLK_IO_RES_OK => {}
                UBLK_IO_RES_ABORT => {
                    live -= 1;
                    continue;
                }
                other => panic!("tag {tag}: {other}"),
            }
            let request: ublksrv_io_desc = read(&self.descriptors, tag.into());
            if Some(request.start_sector) == fatal_sector {
                break;
            }
            let bytes = u64::from(request.nr_sectors) * SECTOR_BYTES;
            if request.op_flags & 0xff == u32::from(UBLK_IO_OP_WRITE) {
                written_bytes += bytes;
            }
            self.send(UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, i32::try_from(bytes).unwrap());
        }
        written_bytes
    }

    /// Submits one command for a slot.
    fn send(&self, op: u32, tag: u16, result: i32) {
        let addr = self.address + u64::from(tag) * u64::from(MAX_IO_BYTES);
        let command = ublksrv_io_cmd { q_id: 0, tag, result, addr };
        let sqe = uring::io_uring_sqe {
            opcode: uring::IORING_OP_URING_CMD,
            fd: Linux.number(&self.device),
            off: op.into(),
            user_data: tag.into(),
            cmd: [0, 8]
                .map(|at| u64::from_ne_bytes(as_bytes(&command)[at..][..8].try_into().unwrap())),
            ..uring::io_uring_sqe::default()
        };
        let offsets = &self.params.sq_off;
        let tail = self.index(offsets.tail);
        let position = tail.load(Ordering::Relaxed) & (self.params.sq_entries - 1);
        write(&self.sqes, position, 0, sqe);
        write(&self.indices, position, offsets.array, position);
        tail.fetch_add(1, Ordering::Release);
        assert_eq!(Linux.ring_enter(RingName::File(&self.ring), 1, 0, 0, None), Ok(1));
    }

    /// Waits for a completion.
    fn receive(&self) -> uring::io_uring_cqe {
        let offsets = &self.params.cq_off;
        let (head, tail) = (self.index(offsets.head), self.index(offsets.tail));
        let next = head.load(Ordering::Relaxed);
        while tail.load(Ordering::Acquire) == next {
            let flags = uring::IORING_ENTER_GETEVENTS;
            let _ = Linux.ring_enter(RingName::File(&self.ring), 0, 1, flags, None);
        }
        let first = offsets.cqes / 16;
        let cqe = read(&self.indices, first + (next & (self.params.cq_entries - 1)));
        head.store(next.wrapping_add(1), Ordering::Release);
        cqe
    }

    fn index(&self, offset: u32) -> &AtomicU32 {
        let place = self.indices.place::<AtomicU32>(offset as usize, 1).expect("mapped");
        // SAFETY: mapped as long as `self`, aligned, and shared with the kernel as an atomic.
        unsafe { place.as_ref() }
    }
}

/// Copies an element of an array out that fills a mapping.
fn read<T: Abi>(mapping: &Mapping, index: u32) -> T {
    let place = mapping.place::<T>(index as usize * size_of::<T>(), 1).expect("mapped");
    // SAFETY: mapped and aligned; any bits make a T; the kernel wrote it before what we acquired.
    unsafe { place.read_volatile() }
}

/// Writes an element of the array that begins at `offset`.
fn write<T>(mapping: &Mapping, index: u32, offset: u32, value: T) {
    let at = offset as usize + index as usize * size_of::<T>();
    let place = mapping.place::<T>(at, 1).expect("mapped");
    // SAFETY: mapped for writing and aligned; the kernel reads it only after the tail's release.
    unsafe { place.write(value) };
}
