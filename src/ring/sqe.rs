//! Typed SQE constructors. Each starts from zeros, so that nothing stale reaches the kernel.
#![expect(unsafe_code, reason = "an Address is a promise about memory; docs/safety.md, `ring`")]

use core::ptr::NonNull;
use ublkit_sys::abi::{Abi, as_bytes};
use ublkit_sys::io_uring::{
    IORING_OP_POLL_ADD, IORING_OP_TIMEOUT, IORING_OP_URING_CMD, IOSQE_FIXED_FILE, io_uring_sqe,
    io_uring_sqe128,
};
use ublkit_sys::ublk::{
    UBLK_U_IO_COMMIT_AND_FETCH_REQ, UBLK_U_IO_FETCH_REQ, ublksrv_ctrl_cmd, ublksrv_io_cmd,
};

/// An address that may be handed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// The number that goes into a command.
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

/// A 64-byte SQE.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Sqe(io_uring_sqe);

impl Sqe {
    fn new(opcode: u8, user_data: u64) -> Self {
        Self(io_uring_sqe { opcode, user_data, ..io_uring_sqe::default() })
    }

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
    pub(crate) fn fetch(file: FileName, queue: u16, tag: u16, buffer: Address, id: u64) -> Self {
        Self::io_command(UBLK_U_IO_FETCH_REQ, file, queue, tag, 0, buffer, id)
    }

    /// Answers the slot's request and offers the slot again.
    pub(crate) fn commit_and_fetch(
        file: FileName,
        queue: u16,
        tag: u16,
        result: i32,
        buffer: Address,
        id: u64,
    ) -> Self {
        Self::io_command(UBLK_U_IO_COMMIT_AND_FETCH_REQ, file, queue, tag, result, buffer, id)
    }

    fn io_command(
        op: u32,
        file: FileName,
        q_id: u16,
        tag: u16,
        result: i32,
        buffer: Address,
        id: u64,
    ) -> Self {
        let mut sqe = Self::new(IORING_OP_URING_CMD, id).on(file);
        sqe.0.off = u64::from(op); // cmd_op; the upper half must be 0
        let command = ublksrv_io_cmd { q_id, tag, result, addr: buffer.get() };
        sqe.0.cmd = words(&command);
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
fn words<T: Abi, const N: usize>(payload: &T) -> [u64; N] {
    const { assert!(size_of::<T>() == N * 8, "the payload fills its words") };
    let bytes = as_bytes(payload);
    core::array::from_fn(|index| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[index * 8..][..8]);
        u64::from_ne_bytes(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(sqe: &Sqe) -> &[u8] {
        as_bytes(&sqe.0)
    }

    #[test]
    fn a_commit_has_its_fields_and_zeros() {
        let buffer = Address(0x1122_3344_5566_7788);
        let sqe = Sqe::commit_and_fetch(FileName::Fixed(3), 0x0102, 0x0304, -5, buffer, 0xabcd);
        let mut expected = [0_u8; 64];
        expected[0] = 46; // IORING_OP_URING_CMD
        expected[1] = 1; // IOSQE_FIXED_FILE
        expected[4] = 3;
        expected[8..12].copy_from_slice(&0xc010_7521_u32.to_le_bytes());
        expected[32..40].copy_from_slice(&0xabcd_u64.to_le_bytes());
        expected[48..50].copy_from_slice(&0x0102_u16.to_le_bytes());
        expected[50..52].copy_from_slice(&0x0304_u16.to_le_bytes());
        expected[52..56].copy_from_slice(&(-5_i32).to_le_bytes());
        expected[56..64].copy_from_slice(&0x1122_3344_5566_7788_u64.to_le_bytes());
        assert_eq!(bytes(&sqe), expected);
    }

    #[test]
    fn a_timeout_and_a_poll_have_their_fields_and_zeros() {
        let mut expected = [0_u8; 64];
        expected[0] = 11; // IORING_OP_TIMEOUT
        expected[4..8].copy_from_slice(&(-1_i32).to_le_bytes());
        expected[16..24].copy_from_slice(&0x1122_3344_5566_7788_u64.to_le_bytes());
        expected[24] = 1; // one time
        expected[32..40].copy_from_slice(&0xabcd_u64.to_le_bytes());
        assert_eq!(bytes(&Sqe::timeout(Address(0x1122_3344_5566_7788), 0xabcd)), expected);

        let mut expected = [0_u8; 64];
        expected[0] = 6; // IORING_OP_POLL_ADD
        expected[4] = 5;
        expected[28] = 1; // POLLIN
        expected[32..40].copy_from_slice(&0xabcd_u64.to_le_bytes());
        assert_eq!(bytes(&Sqe::poll_readable(FileName::Number(5), 0xabcd)), expected);
    }

    #[test]
    fn a_control_command_ends_at_byte_80() {
        let command = ublksrv_ctrl_cmd {
            dev_id: 7,
            queue_id: 0xffff,
            len: 64,
            addr: 0x1000,
            data: [9],
            ..ublksrv_ctrl_cmd::default()
        };
        let sqe = Sqe128::control(FileName::Number(5), 0xc020_7504, &command, 1);
        let bytes = as_bytes(&sqe.0);
        assert_eq!(bytes[4], 5);
        assert_eq!(bytes[8..12], 0xc020_7504_u32.to_le_bytes());
        assert_eq!(bytes[48..80], *as_bytes(&command));
        assert!(bytes[80..].iter().all(|byte| *byte == 0));
    }
}
