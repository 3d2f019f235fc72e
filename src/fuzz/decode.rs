//! `decode`: an I/O descriptor of any bits, against any disk.

use super::input::Input;
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::request::{Limits, Operation, Request, success};
use ublkit_sys::abi::from_bytes;
use ublkit_sys::ublk::ublksrv_io_desc;

/// The largest request that a device can be granted.
const MAX_IO_BYTES: u32 = 32 << 20;

/// A descriptor is decoded to just what the rules say, or refused with the errno that they say.
pub fn decode(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let geometry = Geometry {
        logical_block_bytes: 512 << (input.byte() % 4),
        write_zeroes: input.byte() % 2 == 1,
        read_only: input.byte() % 2 == 1,
        discard_bytes: input.one_of(&[0, 512, 4096, 1 << 20]),
        ..Geometry::new(input.u64())
    };
    let geometry = Geometry {
        physical_block_bytes: geometry.logical_block_bytes,
        size_bytes: geometry.size_bytes - geometry.size_bytes % 4096,
        ..geometry
    };
    if geometry.check().is_err() {
        return; // such a disk is never served
    }
    let limits = Limits::new(geometry, 1 + input.u32() % MAX_IO_BYTES);
    let descriptor: ublksrv_io_desc = from_bytes(&input.array::<24>()).expect("24 bytes");
    let decoded = Request::decode(descriptor, &limits);
    assert_eq!(decoded, expected(&descriptor, &limits), "{descriptor:?} on {limits:?}");
    let Ok(request) = decoded else { return };
    assert_eq!(success(request.data_bytes()).unsigned_abs(), request.data_bytes());
    assert!(request.data_bytes() <= limits.max_io_bytes());
    assert!(request.offset + request.len_bytes <= geometry.size_bytes);
}

/// The rules, in numbers that cannot overflow.
fn expected(descriptor: &ublksrv_io_desc, limits: &Limits) -> Result<Request, Errno> {
    let geometry = limits.geometry();
    let [op, flags @ ..] = descriptor.op_flags.to_le_bytes();
    let flag = |bit: usize| flags[bit / 8 - 1] >> (bit % 8) & 1 == 1;
    let (operation, has_data) = match op {
        0 => (Operation::Read, true),
        1 => (Operation::Write { fua: flag(13) }, true),
        2 => return Ok(Request { operation: Operation::Flush, offset: 0, len_bytes: 0 }),
        3 if geometry.discard_bytes > 0 => (Operation::Discard, false),
        5 if geometry.write_zeroes => (Operation::WriteZeroes { may_unmap: !flag(15) }, false),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if geometry.read_only && op != 0 {
        return Err(Errno::EROFS);
    }
    let offset = u128::from(descriptor.start_sector) * 512;
    let len = u128::from(descriptor.nr_sectors) * 512;
    let block = u128::from(geometry.logical_block_bytes);
    let fits = len > 0
        && offset + len <= u128::from(geometry.size_bytes)
        && offset % block == 0
        && len % block == 0
        && (!has_data || len <= u128::from(limits.max_io_bytes()));
    let narrow = |number: u128| u64::try_from(number).ok().filter(|_| fits).ok_or(Errno::EINVAL);
    Ok(Request { operation, offset: narrow(offset)?, len_bytes: narrow(len)? })
}

#[cfg(test)]
mod tests {
    use crate::fuzz::corpus;

    fn seed(disk: [u8; 4], size: u64, max: u32, op: u32, count: u32, start: u64) -> Vec<u8> {
        let mut seed = disk.to_vec();
        seed.extend(size.to_le_bytes());
        seed.extend(max.to_le_bytes());
        seed.extend(op.to_le_bytes());
        seed.extend(count.to_le_bytes());
        seed.extend(start.to_le_bytes());
        seed
    }

    #[test]
    fn corpus_of_decode() {
        let (plain, rich, read_only) = ([0, 0, 0, 0], [3, 1, 0, 2], [0, 1, 1, 2]);
        let seeds = [
            ("read", seed(plain, 1 << 20, 4095, 0, 8, 16)),
            ("write-fua", seed(plain, 1 << 20, 4095, 1 | 1 << 13, 8, 2040)),
            ("flush", seed(plain, 1 << 20, 4095, 2, 0, u64::MAX)),
            ("discard", seed(rich, 1 << 30, 4095, 3, 1 << 20, 8)),
            ("zeroes-no-unmap", seed(rich, 1 << 30, 4095, 5 | 1 << 15, 16, 8)),
            ("unaligned", seed(rich, 1 << 30, 4095, 0, 4, 4)),
            ("unknown", seed(plain, 1 << 20, 4095, 13, 8, 0)),
            ("beyond", seed(plain, 1 << 20, 4095, 0, 2, 2047)),
            ("wraps", seed(plain, 1 << 20, 4095, 1, u32::MAX, u64::MAX / 512)),
            ("too-much-data", seed(plain, 1 << 40, 4095, 0, 9, 0)),
            ("write-to-read-only", seed(read_only, 1 << 20, 4095, 1, 8, 0)),
        ];
        corpus::check("decode", super::decode, &seeds);
    }
}
