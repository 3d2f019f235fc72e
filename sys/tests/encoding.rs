//! Packed words, mapped places, and opcodes, against numbers and rules from elsewhere.
use std::collections::HashSet;

use ublkit_sys::abi::{Abi, as_bytes, from_bytes};
use ublkit_sys::io_uring::{io_uring_sqe, io_uring_sqe128};
use ublkit_sys::ublk::*;

#[test]
fn opcodes_are_the_known_numbers() {
    // As a C program on Linux 7.3 prints them.
    let known = [
        (UBLK_U_CMD_GET_QUEUE_AFFINITY, 0x8020_7501),
        (UBLK_U_CMD_GET_DEV_INFO, 0x8020_7502),
        (UBLK_U_CMD_ADD_DEV, 0xc020_7504),
        (UBLK_U_CMD_DEL_DEV, 0xc020_7505),
        (UBLK_U_CMD_START_DEV, 0xc020_7506),
        (UBLK_U_CMD_STOP_DEV, 0xc020_7507),
        (UBLK_U_CMD_SET_PARAMS, 0xc020_7508),
        (UBLK_U_CMD_GET_PARAMS, 0x8020_7509),
        (UBLK_U_CMD_START_USER_RECOVERY, 0xc020_7510),
        (UBLK_U_CMD_END_USER_RECOVERY, 0xc020_7511),
        (UBLK_U_CMD_GET_DEV_INFO2, 0x8020_7512),
        (UBLK_U_CMD_GET_FEATURES, 0x8020_7513),
        (UBLK_U_CMD_DEL_DEV_ASYNC, 0x8020_7514),
        (UBLK_U_CMD_UPDATE_SIZE, 0xc020_7515),
        (UBLK_U_CMD_QUIESCE_DEV, 0xc020_7516),
        (UBLK_U_CMD_TRY_STOP_DEV, 0xc020_7517),
        (UBLK_U_CMD_REG_BUF, 0xc020_7518),
        (UBLK_U_CMD_UNREG_BUF, 0xc020_7519),
        (UBLK_U_IO_FETCH_REQ, 0xc010_7520),
        (UBLK_U_IO_COMMIT_AND_FETCH_REQ, 0xc010_7521),
        (UBLK_U_IO_NEED_GET_DATA, 0xc010_7522),
        (UBLK_U_IO_REGISTER_IO_BUF, 0xc010_7523),
        (UBLK_U_IO_UNREGISTER_IO_BUF, 0xc010_7524),
        (UBLK_U_IO_PREP_IO_CMDS, 0xc010_7525),
        (UBLK_U_IO_COMMIT_IO_CMDS, 0xc010_7526),
        (UBLK_U_IO_FETCH_IO_CMDS, 0xc010_7527),
    ];
    for (ours, number) in known {
        assert_eq!(ours, number, "{ours:#x}");
    }
    let listed = CONTROL_OPCODES.len() + IO_OPCODES.len() + BATCH_OPCODES.len();
    assert_eq!(listed, known.len());
}

#[test]
fn legacy_opcodes_are_the_low_bytes() {
    let tables = [
        (LEGACY_CONTROL_OPCODES, CONTROL_OPCODES, "UBLK_CMD_", "UBLK_U_CMD_"),
        (LEGACY_IO_OPCODES, IO_OPCODES, "UBLK_IO_", "UBLK_U_IO_"),
    ];
    for (legacy, encoded, from, to) in tables {
        for old in legacy {
            let name = old.name.replace(from, to);
            let new = encoded.iter().find(|new| new.name == name).expect(&name);
            assert_eq!(old.value, new.value & 0xff, "{name}");
            assert_eq!(new.value >> 8 & 0xff, u64::from(b'u'), "{name}");
        }
    }
}

#[test]
fn op_and_flags_share_a_word_without_a_shift() {
    for op_constant in IO_OPS {
        for flag_constant in IO_FLAGS {
            let op_bits = u32::try_from(op_constant.value).unwrap();
            let flag_bits = u32::try_from(flag_constant.value).unwrap();
            let word = op_bits | flag_bits;
            assert_eq!(u32::from(op(word)), op_bits);
            assert_eq!(flags(word), flag_bits, "{}", flag_constant.name);
            assert_ne!(word >> 8, flag_bits, "the header's helper would be right");
        }
    }
    assert_eq!((op(u32::MAX), flags(u32::MAX)), (u8::MAX, 0xffff_ff00));
}

const QUEUES: [u16; 7] = [0, 1, 2, 63, 2048, 4094, 4095];
const TAGS: [u16; 10] = [0, 1, 63, 64, 65, 127, 128, 4095, 4096, 65535];
const BYTES: [u32; 8] = [0, 1, 511, 512, 4096, 1 << 20, (1 << 25) - 512, (1 << 25) - 1];

/// P9: they are added, not or-ed.
#[test]
fn user_copy_offsets_are_sums_and_all_different() {
    let mut seen = HashSet::new();
    for queue in QUEUES {
        for tag in TAGS {
            for byte in BYTES {
                let offset = user_copy_offset(queue, tag, byte);
                let position = u64::from(queue) * (1 << 41) + u64::from(tag) * (1 << 25);
                assert_eq!(offset, 0x8000_0000 + position + u64::from(byte));
                assert!(seen.insert(offset), "queue {queue}, tag {tag}, byte {byte}");
                // What the driver does: subtract, then take apart.
                let taken = offset - UBLKSRV_IO_BUF_OFFSET;
                assert_eq!(taken & UBLK_IO_BUF_BITS_MASK, u64::from(byte));
                assert_eq!(taken >> UBLK_TAG_OFF & UBLK_TAG_BITS_MASK, u64::from(tag));
                assert_eq!(taken >> UBLK_QID_OFF & UBLK_QID_BITS_MASK, u64::from(queue));
                let integrity = user_copy_integrity_offset(queue, tag, byte);
                assert_eq!(integrity, offset + (1 << 62));
                assert!(i64::try_from(integrity).is_ok(), "an offset is a positive off_t");
            }
        }
    }
    // Tag 64 shares bit 31 with the start: an "or" would give what tag 0 has.
    assert_ne!(user_copy_offset(0, 64, 0), user_copy_offset(0, 0, 0));
    assert_eq!(UBLKSRV_IO_BUF_OFFSET | 64 << UBLK_TAG_OFF, user_copy_offset(0, 0, 0));
}

#[test]
fn every_tag_of_a_queue_has_its_own_user_copy_range() {
    let starts: Vec<u64> = (0..=u16::MAX).map(|tag| user_copy_offset(9, tag, 0)).collect();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 32 << 20));
    assert_eq!(user_copy_offset(10, 0, 0) - starts[65535], 32 << 20);
}

#[test]
#[should_panic(expected = "at most 4096 queues")]
fn a_queue_beyond_the_encoding_panics() {
    user_copy_offset(4096, 0, 0);
}

#[test]
#[should_panic(expected = "32 MiB")]
fn a_byte_beyond_the_encoding_panics() {
    user_copy_offset(0, 0, 1 << 25);
}

#[test]
fn the_auto_buffer_word_is_made_and_taken_apart() {
    for index in 0..=u16::MAX {
        for bits in [0, UBLK_AUTO_BUF_REG_FALLBACK] {
            let reg = ublk_auto_buf_reg { index, flags: bits, ..Default::default() };
            let word = reg.to_sqe_addr();
            assert_eq!(word, u64::from(index) + (u64::from(bits) << 16));
            assert_eq!(ublk_auto_buf_reg::from_sqe_addr(word), reg);
        }
    }
    // Every bit survives, so that the driver can refuse what is reserved.
    for bit in 0..64 {
        assert_eq!(ublk_auto_buf_reg::from_sqe_addr(1 << bit).to_sqe_addr(), 1 << bit);
    }
    let all = ublk_auto_buf_reg::from_sqe_addr(0x8877_6655_4433_2211);
    let expected =
        ublk_auto_buf_reg { index: 0x2211, flags: 0x33, reserved0: 0x44, reserved1: 0x8877_6655 };
    assert_eq!(all, expected);
    // On a little-endian machine the word is the struct.
    assert_eq!(as_bytes(&all), 0x8877_6655_4433_2211_u64.to_le_bytes());
}

#[test]
fn a_shared_memory_address_is_an_index_and_an_offset() {
    for index in [0, 1, 255, 256, 65535] {
        for offset_bytes in [0, 1, 4096, u32::MAX] {
            let addr = shmem_addr(index, offset_bytes);
            assert_eq!(addr, u64::from(index) << 32 | u64::from(offset_bytes));
            assert_eq!((shmem_index(addr), shmem_offset_bytes(addr)), (index, offset_bytes));
            // As the header's masks say, whatever the reserved bits are.
            let dirty = addr | 0xffff << 48;
            let by_masks = dirty >> UBLK_SHMEM_ZC_IDX_OFF & UBLK_SHMEM_ZC_IDX_MASK;
            assert_eq!(u64::from(shmem_index(dirty)), by_masks);
            assert_eq!(u64::from(shmem_offset_bytes(dirty)), dirty & UBLK_SHMEM_ZC_OFF_MASK);
        }
    }
}

#[test]
fn descriptors_fit_their_map_and_queues_do_not_overlap() {
    for page_bytes in [4096_usize, 16 << 10, 64 << 10] {
        for desc_bytes in (24..=256_u16).step_by(8) {
            let stride = descriptors_offset_bytes(1, desc_bytes, page_bytes);
            assert_eq!(stride % page_bytes as u64, 0);
            for queue in QUEUES {
                let offset = descriptors_offset_bytes(queue, desc_bytes, page_bytes);
                assert_eq!(offset, u64::from(queue) * stride, "the stride is fixed");
            }
            for depth in 1..=UBLK_MAX_QUEUE_DEPTH {
                let len = descriptors_len_bytes(depth, desc_bytes, page_bytes);
                let needed = usize::from(depth) * usize::from(desc_bytes);
                assert!(
                    len >= needed && len < needed + page_bytes && len.is_multiple_of(page_bytes)
                );
                assert!(len as u64 <= stride, "it reaches into the next queue");
            }
        }
    }
    assert_eq!(descriptors_len_bytes(128, 24, 4096), 4096);
    assert_eq!(descriptors_offset_bytes(1, 24, 4096), 98304);
}

#[test]
fn impossible_queues_panic() {
    let impossible: [fn() -> u64; 7] = [
        || descriptors_len_bytes(0, 24, 4096) as u64,
        || descriptors_len_bytes(4097, 24, 4096) as u64,
        || descriptors_len_bytes(1, 16, 4096) as u64,
        || descriptors_len_bytes(1, 25, 4096) as u64,
        || descriptors_len_bytes(1, 264, 4096) as u64,
        || descriptors_len_bytes(1, 24, 4095) as u64,
        || descriptors_offset_bytes(4096, 24, 4096),
    ];
    for (at, call) in impossible.into_iter().enumerate() {
        assert!(std::panic::catch_unwind(call).is_err(), "call {at} was accepted");
    }
}

#[test]
fn bytes_become_structs_and_back() {
    let pattern: Vec<u8> = (0..=255).collect();
    fn both_ways<T: Abi>(pattern: &[u8]) {
        let size = T::LAYOUT.size_bytes;
        let value: T = from_bytes(&pattern[1..]).expect("there are enough bytes"); // unaligned
        assert_eq!(as_bytes(&value), &pattern[1..=size]);
        assert!(from_bytes::<T>(&pattern[..size - 1]).is_none(), "too few bytes");
    }
    both_ways::<ublksrv_ctrl_cmd>(&pattern);
    both_ways::<ublksrv_ctrl_dev_info>(&pattern);
    both_ways::<ublksrv_io_desc>(&pattern);
    both_ways::<ublk_params>(&pattern);
    both_ways::<io_uring_sqe>(&pattern);
    both_ways::<io_uring_sqe128>(&pattern);
    let cmd: ublksrv_io_cmd = from_bytes(&pattern).unwrap();
    assert_eq!((cmd.q_id, cmd.tag, cmd.result), (0x0100, 0x0302, 0x0706_0504));
}

#[test]
fn a_control_command_fits_into_two_entries_and_an_io_command_into_one() {
    let payload = 48;
    assert_eq!(io_uring_sqe::LAYOUT.fields.last().unwrap().offset_bytes, payload);
    assert_eq!(payload + ublksrv_io_cmd::LAYOUT.size_bytes, 64);
    assert_eq!(payload + ublk_batch_io::LAYOUT.size_bytes, 64);
    assert_eq!(payload + 80, io_uring_sqe128::LAYOUT.size_bytes);
    assert!(payload + ublksrv_ctrl_cmd::LAYOUT.size_bytes > 64, "hence 128 bytes");
}
