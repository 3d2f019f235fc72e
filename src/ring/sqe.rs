//! Typed SQE constructors. Each starts from zeros, so that nothing stale reaches the kernel.
#![expect(unsafe_code, reason = "an Address is a promise about memory; docs/safety.md, `ring`")]

#[cfg(test)]
mod tests;

use core::ptr::NonNull;
use ublkit_sys::abi::{Abi, as_bytes};
use ublkit_sys::blkdev::BLOCK_URING_CMD_DISCARD;
use ublkit_sys::io_uring::{
    IORING_FSYNC_DATASYNC, IORING_OP_ASYNC_CANCEL, IORING_OP_FALLOCATE, IORING_OP_FSYNC,
    IORING_OP_POLL_ADD, IORING_OP_READ, IORING_OP_READ_FIXED, IORING_OP_TIMEOUT,
    IORING_OP_URING_CMD, IORING_OP_WRITE, IORING_OP_WRITE_FIXED, IORING_URING_CMD_MULTISHOT,
    IOSQE_BUFFER_SELECT, IOSQE_CQE_SKIP_SUCCESS, IOSQE_FIXED_FILE, io_uring_sqe, io_uring_sqe128,
};
use ublkit_sys::ublk::{
    UBLK_AUTO_BUF_REG_FALLBACK, UBLK_U_IO_COMMIT_AND_FETCH_REQ, UBLK_U_IO_COMMIT_IO_CMDS,
    UBLK_U_IO_FETCH_IO_CMDS, UBLK_U_IO_FETCH_REQ, UBLK_U_IO_NEED_GET_DATA, UBLK_U_IO_PREP_IO_CMDS,
    UBLK_U_IO_REGISTER_IO_BUF, UBLK_U_IO_UNREGISTER_IO_BUF, ublk_auto_buf_reg, ublk_batch_io,
    ublksrv_ctrl_cmd, ublksrv_io_cmd,
};

/// An address that may be handed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Address(u64);

impl Address {
    /// No memory at all.
    pub(crate) const NONE: Self = Self(0);

    /// The address of memory that the kernel may use.
    ///
    /// # Safety
    ///
    /// The memory is as long as the command that will name it says, stays mapped until that command
    /// has ended (or for ever, when nobody will know), and meanwhile is not accessed through Rust
    /// references.
    pub(crate) unsafe fn new(memory: NonNull<u8>) -> Self {
        Self(memory.as_ptr().expose_provenance() as u64)
    }

    /// The same where the `mask` is all ones, and none where it is nothing: a choice that each
    /// request makes costs less so.
    #[inline]
    pub(crate) fn masked(self, mask: u64) -> Self {
        debug_assert!(mask == 0 || mask == u64::MAX, "of this address, or of none");
        Self(self.0 & mask)
    }

    /// The number that goes into a command.
    #[inline]
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

/// How an SQE names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    /// By its number in the process.
    Number(i32),
    /// By its index in the ring's table of fixed files.
    Fixed(i32),
}

/// What an operation on a file moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// Memory of so many bytes.
    Memory(Address, u32),
    /// A part of the pages at a place of the ring's table.
    Table { place: u16, start: u32, len_bytes: u32 },
}

/// A slot of a queue, as its commands name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) char_device: FileName,
    pub(crate) queue: u16,
    pub(crate) tag: u16,
    /// Whether the next request's pages go into the ring's table, at the tag's place.
    pub(crate) registers: bool,
}

/// What a batch command says of slots: `count` elements of `each_bytes` bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elements {
    pub(crate) address: Address,
    pub(crate) count: u16,
    pub(crate) each_bytes: u8,
    /// `BATCH_FLAGS`.
    pub(crate) flags: u16,
}

/// A 64-byte SQE.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Sqe(io_uring_sqe);

/// What answers requests of a queue, and offers their slots again: made once, but for what differs
/// from slot to slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitAndFetch(Sqe);

impl CommitAndFetch {
    /// Of the queue of such a slot.
    pub(crate) fn new(slot: Slot) -> Self {
        Self(Sqe::io_command(UBLK_U_IO_COMMIT_AND_FETCH_REQ, slot, 0, Address::NONE, 0))
    }

    /// Answers a slot's request with a result.
    #[inline(always)]
    pub(crate) fn of(&self, slot: Slot, result: i32, buffer: Address, id: u64) -> Sqe {
        let mut sqe = self.0.about(slot, result, buffer);
        sqe.0.user_data = id;
        sqe
    }
}

impl Sqe {
    #[inline]
    fn new(opcode: u8, user_data: u64) -> Self {
        Self(io_uring_sqe { opcode, user_data, ..io_uring_sqe::default() })
    }

    #[inline]
    fn on(mut self, file: FileName) -> Self {
        match file {
            FileName::Number(number) => self.0.fd = number,
            FileName::Fixed(index) => {
                self.0.fd = index;
                self.0.flags |= IOSQE_FIXED_FILE;
            }
        }
        self
    }

    /// Offers a slot of a queue to the driver: completes when a request arrives.
    #[inline]
    pub(crate) fn fetch(slot: Slot, buffer: Address, id: u64) -> Self {
        Self::io_command(UBLK_U_IO_FETCH_REQ, slot, 0, buffer, id)
    }

    /// Offers slots of a queue to the driver for the first time.
    pub(crate) fn prepare(device: FileName, queue: u16, slots: Elements, id: u64) -> Self {
        Self::batch(UBLK_U_IO_PREP_IO_CMDS, device, queue, slots, id)
    }

    /// Answers slots' requests and offers the slots again. Completes with the number of bytes of
    /// elements that were taken.
    #[inline]
    pub(crate) fn commit_batch(device: FileName, queue: u16, slots: Elements, id: u64) -> Self {
        Self::batch(UBLK_U_IO_COMMIT_IO_CMDS, device, queue, slots, id)
    }

    #[inline]
    fn batch(op: u32, device: FileName, queue: u16, slots: Elements, id: u64) -> Self {
        let mut sqe = Self::new(IORING_OP_URING_CMD, id).on(device);
        let Elements { address, count, each_bytes, flags } = slots;
        sqe.0.off = u64::from(op); // cmd_op; the upper half must be 0
        sqe.0.addr = address.get();
        let command = ublk_batch_io {
            q_id: queue,
            flags,
            nr_elem: count,
            elem_bytes: each_bytes,
            ..ublk_batch_io::default()
        };
        sqe.0.cmd = words(&command);
        sqe
    }

    /// Completes each time that requests arrive for a queue's slots, with their tags in a buffer of
    /// `group`.
    pub(crate) fn fetch_tags(device: FileName, queue: u16, group: u16, id: u64) -> Self {
        let mut sqe = Self::new(IORING_OP_URING_CMD, id).on(device);
        sqe.0.flags |= IOSQE_BUFFER_SELECT;
        sqe.0.off = u64::from(UBLK_U_IO_FETCH_IO_CMDS);
        (sqe.0.op_flags, sqe.0.buf_index) = (IORING_URING_CMD_MULTISHOT, group);
        let command = ublk_batch_io { q_id: queue, elem_bytes: 2, ..ublk_batch_io::default() };
        sqe.0.cmd = words(&command);
        sqe
    }

    /// Says where a write's data is to go: completes when it is there.
    pub(crate) fn get_data(slot: Slot, buffer: Address, id: u64) -> Self {
        Self::io_command(UBLK_U_IO_NEED_GET_DATA, slot, 0, buffer, id)
    }

    /// Puts the pages of the slot's request into the ring's table, at the tag's place.
    pub(crate) fn register_pages(slot: Slot, id: u64) -> Self {
        Self::io_command(UBLK_U_IO_REGISTER_IO_BUF, slot, 0, Address(slot.tag.into()), id)
    }

    /// Empties the tag's place of the ring's table. Completes only when that fails.
    pub(crate) fn unregister_pages(slot: Slot, id: u64) -> Self {
        let place = Address(slot.tag.into());
        let mut sqe = Self::io_command(UBLK_U_IO_UNREGISTER_IO_BUF, slot, 0, place, id);
        sqe.0.flags |= IOSQE_CQE_SKIP_SUCCESS;
        sqe
    }

    #[inline]
    fn io_command(op: u32, slot: Slot, result: i32, buffer: Address, id: u64) -> Self {
        let mut sqe = Self::new(IORING_OP_URING_CMD, id).on(slot.char_device);
        sqe.0.off = u64::from(op); // cmd_op; the upper half must be 0
        sqe.about(slot, result, buffer)
    }

    /// Which slot it is about, and what is said of it.
    #[inline(always)]
    fn about(mut self, slot: Slot, result: i32, buffer: Address) -> Self {
        let Slot { queue, tag, registers, .. } = slot;
        if registers {
            let place = ublk_auto_buf_reg {
                index: tag,
                flags: UBLK_AUTO_BUF_REG_FALLBACK,
                ..ublk_auto_buf_reg::default()
            };
            self.0.addr = place.to_sqe_addr();
        }
        let command = ublksrv_io_cmd { q_id: queue, tag, result, addr: buffer.get() };
        self.0.cmd = words(&command);
        self
    }

    /// Reads `data` from a file, from `offset` on.
    pub(crate) fn read(file: FileName, offset: u64, data: Data, id: u64) -> Self {
        Self::transfer([IORING_OP_READ, IORING_OP_READ_FIXED], file, offset, data, id)
    }

    /// Writes `data` to a file, from `offset` on; with `durable` it ends when that is durable.
    pub(crate) fn write(file: FileName, offset: u64, data: Data, durable: bool, id: u64) -> Self {
        let mut sqe =
            Self::transfer([IORING_OP_WRITE, IORING_OP_WRITE_FIXED], file, offset, data, id);
        if durable {
            sqe.0.op_flags = libc::RWF_DSYNC.unsigned_abs();
        }
        sqe
    }

    fn transfer(opcodes: [u8; 2], file: FileName, offset: u64, data: Data, id: u64) -> Self {
        let [plain, fixed] = opcodes;
        let mut sqe = match data {
            Data::Memory(address, len_bytes) => {
                let mut sqe = Self::new(plain, id);
                (sqe.0.addr, sqe.0.len) = (address.get(), len_bytes);
                sqe
            }
            Data::Table { place, start, len_bytes } => {
                let mut sqe = Self::new(fixed, id);
                (sqe.0.buf_index, sqe.0.addr, sqe.0.len) = (place, start.into(), len_bytes);
                sqe
            }
        };
        sqe.0.off = offset;
        sqe.on(file)
    }

    /// Makes what was written to a file durable, with what is needed to find it, or with all that
    /// is known of the file.
    pub(crate) fn sync(file: FileName, data_only: bool, id: u64) -> Self {
        let mut sqe = Self::new(IORING_OP_FSYNC, id).on(file);
        sqe.0.op_flags = if data_only { IORING_FSYNC_DATASYNC } else { 0 };
        sqe
    }

    /// `fallocate(2)` with these flags.
    pub(crate) fn allocate(
        file: FileName,
        flags: u32,
        offset: u64,
        len_bytes: u64,
        id: u64,
    ) -> Self {
        let mut sqe = Self::new(IORING_OP_FALLOCATE, id).on(file);
        (sqe.0.len, sqe.0.off, sqe.0.addr) = (flags, offset, len_bytes);
        sqe
    }

    /// A block device's own discard.
    pub(crate) fn discard(file: FileName, offset: u64, len_bytes: u64, id: u64) -> Self {
        let mut sqe = Self::new(IORING_OP_URING_CMD, id).on(file);
        sqe.0.off = u64::from(BLOCK_URING_CMD_DISCARD); // cmd_op; the upper half must be 0
        (sqe.0.addr, sqe.0.cmd) = (offset, [len_bytes, 0]); // the first word is addr3
        sqe
    }

    /// Asks the kernel to end what was asked for as `target`. It may answer that it cannot.
    pub(crate) fn cancel(target: u64, id: u64) -> Self {
        let mut sqe = Self::new(IORING_OP_ASYNC_CANCEL, id);
        (sqe.0.fd, sqe.0.addr) = (-1, target);
        sqe
    }

    /// Completes once `file` is readable.
    pub(crate) fn poll_readable(file: FileName, id: u64) -> Self {
        let mut sqe = Self::new(IORING_OP_POLL_ADD, id).on(file);
        sqe.0.op_flags = libc::POLLIN.unsigned_abs().into();
        sqe
    }

    /// Completes with `ETIME` after `time` has passed. The kernel copies `time` when it takes the
    /// SQE, but that is after this call: it must stay until the submission.
    pub(crate) fn timeout(time: Address, id: u64) -> Self {
        let mut sqe = Self::new(IORING_OP_TIMEOUT, id);
        sqe.0.fd = -1;
        sqe.0.addr = time.get();
        sqe.0.len = 1;
        sqe
    }
}

/// A 128-byte SQE.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Sqe128(io_uring_sqe128);

impl Sqe128 {
    /// A command to the control device.
    pub(crate) fn control(file: FileName, op: u32, command: &ublksrv_ctrl_cmd, id: u64) -> Self {
        let mut head = Sqe::new(IORING_OP_URING_CMD, id).on(file).0;
        head.off = u64::from(op); // cmd_op; the upper half must be 0
        let mut sqe = io_uring_sqe128 { head, ..io_uring_sqe128::default() };
        let [first, second, third, fourth] = words(command);
        sqe.head.cmd = [first, second];
        sqe.tail[..2].copy_from_slice(&[third, fourth]);
        Self(sqe)
    }
}

/// A payload as the words of an SQE's end.
#[inline(always)]
fn words<T: Abi, const N: usize>(payload: &T) -> [u64; N] {
    const { assert!(size_of::<T>() == N * 8, "the payload fills its words") };
    let bytes = as_bytes(payload);
    core::array::from_fn(|index| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[index * 8..][..8]);
        u64::from_ne_bytes(word)
    })
}
