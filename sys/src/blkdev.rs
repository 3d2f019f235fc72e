//! `linux/blkdev.h`: what a block device does by itself on a ring.
use crate::abi::{Constant, Layout, io};
use crate::constants;

constants! {
    /// Commands of [`IORING_OP_URING_CMD`](crate::io_uring::IORING_OP_URING_CMD) to a block device.
    /// Their numbers are not those of ioctls, though they are made the same way.
    pub URING_COMMANDS {
        /// Forgets a range: `addr` is its start and `addr3` its length, in bytes, both multiples of
        /// the logical block; the rest of the SQE is zero. Since 6.12.
        pub BLOCK_URING_CMD_DISCARD: u32 = io(0x12, 0);
        /// Empties all zones of a zoned disk. In 7.3, and not in 6.12.
        pub BLOCK_URING_CMD_ZONE_RESET_ALL: u32 = io(0x12, 1);
    }
}

/// Every struct of this module.
pub const LAYOUTS: &[Layout] = &[];

/// Every constant of this module, in groups.
pub const CONSTANTS: &[&[Constant]] = &[URING_COMMANDS];
