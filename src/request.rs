//! [`Request`]: an I/O descriptor, decoded once and checked once. Sectors end here.

use crate::errno::Errno;
use crate::geometry::Geometry;
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::SECTOR_BYTES;
use ublkit_sys::ublk::ublksrv_io_desc;

/// What a client asks of the disk.
///
/// Checked already: the range lies in the disk and is whole blocks, data fits its buffer, and the
/// operation is one that the disk's geometry declares. Flushes have no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// What is to be done.
    pub operation: Operation,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub len_bytes: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Fill the data from the disk.
    Read,
    /// Put the data on the disk.
    Write {
        /// It must be durable before the answer.
        fua: bool,
    },
    /// Make all writes that were answered before durable.
    Flush,
    /// The contents are no longer needed.
    Discard,
    /// The range reads as zeros from now on.
    WriteZeroes {
        /// Its space may be given up.
        may_unmap: bool,
    },
}

/// What descriptors are checked against: the disk and the device that the kernel granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    geometry: Geometry,
    max_io_bytes: u32,
    /// The same in the unit of descriptors: the disk's size,
    size_sectors: u64,
    /// the most that a read or a write has,
    max_sectors: u64,
    /// and the bits that are zero in the number of a block's first sector.
    block_mask: u64,
}

impl Limits {
    /// Those of a disk that [can be](Geometry::check), and of requests with so much data.
    pub(crate) fn new(geometry: Geometry, max_io_bytes: u32) -> Self {
        // Another program may have made the device with more, which no result can say.
        let max_io_bytes = max_io_bytes.min(i32::MAX.unsigned_abs());
        Self {
            geometry,
            max_io_bytes,
            size_sectors: geometry.size_bytes / SECTOR_BYTES,
            max_sectors: u64::from(max_io_bytes) / SECTOR_BYTES,
            // A power of two, and a sector at least.
            block_mask: u64::from(geometry.logical_block_bytes) / SECTOR_BYTES - 1,
        }
    }

    /// The disk.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The most data of a read or a write.
    pub(crate) fn max_io_bytes(&self) -> u32 {
        self.max_io_bytes
    }

    /// The disk has become so large, if it was smaller. Whether it was.
    pub(crate) fn grow(&mut self, size_bytes: u64) -> bool {
        let grows = size_bytes > self.geometry.size_bytes;
        if grows {
            *self = Self::new(Geometry { size_bytes, ..self.geometry }, self.max_io_bytes);
        }
        grows
    }
}

impl Request {
    /// Decodes a descriptor that was copied out of the kernel's memory.
    ///
    /// The error is what the client gets: `EOPNOTSUPP` for an operation that this disk does not
    /// have or that nobody knows, `EROFS` for a change to a read-only disk (the kernel only warns
    /// about those and sends them on), `EINVAL` for a range that cannot be.
    #[inline(always)]
    pub(crate) fn decode(descriptor: ublksrv_io_desc, limits: &Limits) -> Result<Self, Errno> {
        let ublksrv_io_desc { op_flags, start_sector: start, nr_sectors: count, .. } = descriptor;
        match sys::op(op_flags) {
            sys::UBLK_IO_OP_READ => Self::of_range(Operation::Read, start, count, limits),
            sys::UBLK_IO_OP_WRITE => {
                let fua = sys::flags(op_flags) & sys::UBLK_IO_F_FUA != 0;
                Self::of_range(Operation::Write { fua }, start, count, limits)
            }
            // Taken apart, so that reads and writes do not go through the memory of its result:
            // twelve instructions of each of them.
            _ => {
                let other = Self::decode_other(op_flags, start, count, limits)?;
                let Self { operation, offset, len_bytes } = other;
                Ok(Self { operation, offset, len_bytes })
            }
        }
    }

    /// Decodes what is neither a read nor a write.
    #[inline(never)]
    fn decode_other(op_flags: u32, start: u64, count: u32, limits: &Limits) -> Result<Self, Errno> {
        let geometry = &limits.geometry;
        let operation = match sys::op(op_flags) {
            // A flush's sector is all ones and its count 0: neither means anything.
            sys::UBLK_IO_OP_FLUSH => {
                return Ok(Self { operation: Operation::Flush, offset: 0, len_bytes: 0 });
            }
            sys::UBLK_IO_OP_DISCARD if geometry.discard_bytes != 0 => Operation::Discard,
            sys::UBLK_IO_OP_WRITE_ZEROES if geometry.write_zeroes => {
                let flags = sys::flags(op_flags);
                Operation::WriteZeroes { may_unmap: flags & sys::UBLK_IO_F_NOUNMAP == 0 }
            }
            _ => return Err(Errno::EOPNOTSUPP),
        };
        Self::of_range(operation, start, count, limits)
    }

    #[inline(always)]
    fn of_range(
        operation: Operation,
        start: u64,
        count: u32,
        limits: &Limits,
    ) -> Result<Self, Errno> {
        if limits.geometry.read_only && operation != Operation::Read {
            return Err(Errno::EROFS);
        }
        let count = u64::from(count);
        let has_data = matches!(operation, Operation::Read | Operation::Write { .. });
        let is_in_disk =
            start <= limits.size_sectors && count <= limits.size_sectors - start && count != 0;
        let is_whole = (start | count) & limits.block_mask == 0;
        if !is_in_disk || !is_whole || has_data && count > limits.max_sectors {
            return Err(Errno::EINVAL);
        }
        // No overflow: the disk's size is a number of bytes.
        let (offset, len_bytes) = (start * SECTOR_BYTES, count * SECTOR_BYTES);
        Ok(Self { operation, offset, len_bytes })
    }

    /// How many bytes of data belong to the request; only reads and writes have any.
    #[inline]
    pub fn data_bytes(&self) -> u32 {
        // Saturated only until `decode` has compared it with the largest request.
        u32::try_from(self.data_len()).unwrap_or(u32::MAX)
    }

    /// The same, not yet compared with anything.
    #[inline]
    pub(crate) fn data_len(&self) -> u64 {
        match self.operation {
            Operation::Read | Operation::Write { .. } => self.len_bytes,
            _ => 0,
        }
    }
}

/// The result that tells the kernel of success: all of the data, never a part. What a part means
/// changed with Linux 7.3.
#[inline]
pub(crate) fn success(data_bytes: u32) -> i32 {
    debug_assert!(i32::try_from(data_bytes).is_ok(), "`Limits::new` sees to it");
    data_bytes.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let geometry =
            Geometry { discard_bytes: 4096, write_zeroes: true, ..Geometry::new(1 << 20) };
        Limits::new(geometry, 64 << 10)
    }

    fn descriptor(op_flags: u32, start_sector: u64, nr_sectors: u32) -> ublksrv_io_desc {
        ublksrv_io_desc { op_flags, start_sector, nr_sectors, addr: 0 }
    }

    fn decode(op_flags: u32, start: u64, count: u32) -> Result<Request, Errno> {
        Request::decode(descriptor(op_flags, start, count), &limits())
    }

    #[test]
    fn flags_are_bits_of_the_whole_word() {
        let write = |flags| decode(u32::from(sys::UBLK_IO_OP_WRITE) | flags, 0, 1).unwrap();
        assert_eq!(write(1 << 13).operation, Operation::Write { fua: true });
        assert_eq!(write(!(1 << 13) & !0xff).operation, Operation::Write { fua: false });
        let zeroes = u32::from(sys::UBLK_IO_OP_WRITE_ZEROES);
        let operation = |word| decode(word, 0, 1).unwrap().operation;
        assert_eq!(operation(zeroes), Operation::WriteZeroes { may_unmap: true });
        assert_eq!(operation(zeroes | 1 << 15), Operation::WriteZeroes { may_unmap: false });
    }

    #[test]
    fn ranges_are_checked_without_overflow() {
        let read = |start, count| decode(0, start, count);
        assert_eq!(read(2047, 1).map(|r| r.offset), Ok(2047 * 512));
        assert_eq!(read(0, 128).map(|r| success(r.data_bytes())), Ok(64 << 10), "the largest");
        for (start, count) in
            [(2048, 1), (2047, 2), (0, 0), (0, 129), (u64::MAX, 1), (u64::MAX / 512, u32::MAX)]
        {
            assert_eq!(read(start, count), Err(Errno::EINVAL), "{start} {count}");
        }
    }

    /// Another program's device may have any: a result says no more than 31 bits.
    #[test]
    fn no_request_is_longer_than_a_result_can_say() {
        let limits = Limits::new(Geometry::new(1 << 40), u32::MAX);
        assert_eq!(limits.max_io_bytes(), i32::MAX.unsigned_abs());
        let read = |count| Request::decode(descriptor(0, 0, count), &limits);
        let most = read((1 << 22) - 1).map(|request| success(request.data_bytes()));
        assert_eq!((most, read(1 << 22)), (Ok(i32::MAX - 511), Err(Errno::EINVAL)));
    }

    #[test]
    fn a_flush_has_no_range() {
        let flush = decode(u32::from(sys::UBLK_IO_OP_FLUSH), u64::MAX, 0).unwrap();
        assert_eq!(flush.operation, Operation::Flush);
        assert_eq!(success(flush.data_bytes()), 0);
    }

    #[test]
    fn long_ranges_are_for_operations_without_data() {
        let discard = decode(u32::from(sys::UBLK_IO_OP_DISCARD), 0, 2048).unwrap();
        assert_eq!((discard.len_bytes, discard.data_bytes()), (1 << 20, 0));
    }

    #[test]
    fn unknown_and_undeclared_operations() {
        for op in [4, 6, 10, 13, 18, 0xff] {
            assert_eq!(decode(op, 0, 1), Err(Errno::EOPNOTSUPP), "{op}");
        }
        let plain = Limits::new(Geometry::new(1 << 20), 4096);
        for op in [sys::UBLK_IO_OP_DISCARD, sys::UBLK_IO_OP_WRITE_ZEROES] {
            let got = Request::decode(descriptor(op.into(), 0, 1), &plain);
            assert_eq!(got, Err(Errno::EOPNOTSUPP));
        }
    }

    #[test]
    fn a_read_only_disk_is_only_read() {
        let mut limits = limits();
        limits.geometry.read_only = true;
        for op in [sys::UBLK_IO_OP_WRITE, sys::UBLK_IO_OP_DISCARD, sys::UBLK_IO_OP_WRITE_ZEROES] {
            let got = Request::decode(descriptor(op.into(), 0, 1), &limits);
            assert_eq!(got, Err(Errno::EROFS));
        }
        assert!(Request::decode(descriptor(0, 0, 1), &limits).is_ok());
    }

    #[test]
    fn whole_blocks_of_4096() {
        let geometry = Geometry { logical_block_bytes: 4096, ..limits().geometry };
        let limits = Limits::new(geometry, 64 << 10);
        let read = |start, count| Request::decode(descriptor(0, start, count), &limits);
        assert!(read(8, 8).is_ok());
        assert_eq!(read(4, 8), Err(Errno::EINVAL));
        assert_eq!(read(8, 4), Err(Errno::EINVAL));
        assert_eq!(read(4, 4), Err(Errno::EINVAL));
    }
}
