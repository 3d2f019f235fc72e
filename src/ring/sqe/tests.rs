//! SQEs byte for byte.

use super::*;

fn bytes(sqe: &Sqe) -> &[u8] {
    as_bytes(&sqe.0)
}

#[test]
fn a_commit_has_its_fields_and_zeros() {
    let buffer = Address(0x1122_3344_5566_7788);
    let slot =
        Slot { char_device: FileName::Fixed(3), queue: 0x0102, tag: 0x0304, registers: false };
    let sqe = CommitAndFetch::new(Slot { tag: 9, ..slot }).of(slot, -5, buffer, 0xabcd);
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
fn a_slot_that_registers_says_where() {
    let slot = Slot { char_device: FileName::Number(4), queue: 1, tag: 0x0203, registers: true };
    let sqe = Sqe::fetch(slot, Address::NONE, 7);
    assert_eq!(bytes(&sqe)[16..24], 0x0001_0203_u64.to_le_bytes()); // with the fallback
    assert_eq!(bytes(&sqe)[56..64], [0; 8], "no buffer");
}

#[test]
fn pages_go_to_the_tags_place_and_leave_it() {
    let slot =
        Slot { char_device: FileName::Fixed(3), queue: 0x0102, tag: 0x0304, registers: false };
    let mut expected = [0_u8; 64];
    expected[0] = 46; // IORING_OP_URING_CMD
    expected[1] = 1; // IOSQE_FIXED_FILE
    expected[4] = 3;
    expected[8..12].copy_from_slice(&0xc010_7523_u32.to_le_bytes());
    expected[32..40].copy_from_slice(&0xabcd_u64.to_le_bytes());
    expected[48..52].copy_from_slice(&[0x02, 0x01, 0x04, 0x03]);
    expected[56..58].copy_from_slice(&[0x04, 0x03]);
    assert_eq!(bytes(&Sqe::register_pages(slot, 0xabcd)), expected);
    expected[1] = 1 | 1 << 6; // IOSQE_CQE_SKIP_SUCCESS
    expected[8] = 0x24;
    assert_eq!(bytes(&Sqe::unregister_pages(slot, 0xabcd)), expected);
}

#[test]
fn batch_commands_have_their_fields_and_zeros() {
    let address = Address(0x1122_3344_5566_7788);
    let slots = Elements { address, count: 0x0304, each_bytes: 16, flags: 2 };
    let mut expected = [0_u8; 64];
    expected[0] = 46; // IORING_OP_URING_CMD
    expected[1] = 1; // IOSQE_FIXED_FILE
    expected[4] = 3;
    expected[8..12].copy_from_slice(&0xc010_7526_u32.to_le_bytes());
    expected[16..24].copy_from_slice(&address.0.to_le_bytes());
    expected[32..40].copy_from_slice(&0xabcd_u64.to_le_bytes());
    expected[48..56].copy_from_slice(&[0x02, 0x01, 2, 0, 0x04, 0x03, 16, 0]);
    let device = FileName::Fixed(3);
    assert_eq!(bytes(&Sqe::commit_batch(device, 0x0102, slots, 0xabcd)), expected);
    expected[8] = 0x25;
    assert_eq!(bytes(&Sqe::prepare(device, 0x0102, slots, 0xabcd)), expected);

    let mut expected = [0_u8; 64];
    expected[0] = 46;
    expected[1] = 1 | 1 << 5; // IOSQE_BUFFER_SELECT
    expected[4] = 3;
    expected[8..12].copy_from_slice(&0xc010_7527_u32.to_le_bytes());
    expected[28] = 2; // IORING_URING_CMD_MULTISHOT
    expected[32..40].copy_from_slice(&0xabcd_u64.to_le_bytes());
    expected[40..42].copy_from_slice(&[7, 0]);
    expected[48..56].copy_from_slice(&[0x02, 0x01, 0, 0, 0, 0, 2, 0]);
    assert_eq!(bytes(&Sqe::fetch_tags(device, 0x0102, 7, 0xabcd)), expected);
}

#[test]
fn operations_on_files() {
    let word = |sqe: &Sqe, at: usize, len: usize| bytes(sqe)[at..at + len].to_vec();
    let file = FileName::Fixed(2);
    let table = Data::Table { place: 9, start: 512, len_bytes: 4096 };
    let write = Sqe::write(file, 1 << 33, table, true, 5);
    assert_eq!(write.0.opcode, 5); // IORING_OP_WRITE_FIXED
    assert_eq!(word(&write, 8, 8), (1_u64 << 33).to_le_bytes());
    assert_eq!(word(&write, 16, 8), 512_u64.to_le_bytes(), "an offset into the pages");
    assert_eq!(word(&write, 24, 4), 4096_u32.to_le_bytes());
    assert_eq!(word(&write, 28, 4), 2_u32.to_le_bytes()); // RWF_DSYNC
    assert_eq!(word(&write, 40, 2), 9_u16.to_le_bytes());
    let read = Sqe::read(file, 3, Data::Memory(Address(0x1000), 7), 5);
    assert_eq!((read.0.opcode, read.0.addr, read.0.len, read.0.op_flags), (22, 0x1000, 7, 0));
    let hole = Sqe::allocate(file, 3, 4096, 1 << 40, 5);
    assert_eq!((hole.0.opcode, hole.0.off, hole.0.addr, hole.0.len), (17, 4096, 1 << 40, 3));
    assert_eq!(Sqe::sync(file, true, 5).0.op_flags, 1);

    let mut expected = [0_u8; 64];
    expected[0] = 46; // IORING_OP_URING_CMD
    expected[1] = 1; // IOSQE_FIXED_FILE
    expected[4] = 2;
    expected[8..10].copy_from_slice(&[0, 0x12]); // _IO(0x12, 0)
    expected[16..24].copy_from_slice(&4096_u64.to_le_bytes());
    expected[32] = 5;
    expected[48..56].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    assert_eq!(bytes(&Sqe::discard(file, 4096, 1 << 40, 5)), expected);
}

#[test]
fn timeouts_cancellations_and_polls_have_their_fields_and_zeros() {
    let mut expected = [0_u8; 64];
    expected[0] = 11; // IORING_OP_TIMEOUT
    expected[4..8].copy_from_slice(&(-1_i32).to_le_bytes());
    expected[16..24].copy_from_slice(&0x1122_3344_5566_7788_u64.to_le_bytes());
    expected[24] = 1; // one time
    expected[32..40].copy_from_slice(&0xabcd_u64.to_le_bytes());
    assert_eq!(bytes(&Sqe::timeout(Address(0x1122_3344_5566_7788), 0xabcd)), expected);

    let mut expected = [0_u8; 64];
    expected[0] = 14; // IORING_OP_ASYNC_CANCEL
    expected[4..8].copy_from_slice(&(-1_i32).to_le_bytes());
    expected[16..24].copy_from_slice(&0x1122_3344_5566_7788_u64.to_le_bytes());
    expected[32..40].copy_from_slice(&0xabcd_u64.to_le_bytes());
    assert_eq!(bytes(&Sqe::cancel(0x1122_3344_5566_7788, 0xabcd)), expected);

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
