//! The ABI of ublk and of the io_uring parts that a ublk server needs, written by hand.
//!
//! | module | header of Linux 7.3 |
//! |---|---|
//! | [`ublk`] | `linux/ublk_cmd.h`, complete; of `linux/fs.h` the `LBMD_PI_*` numbers |
//! | [`blkdev`] | `linux/blkdev.h`, complete |
//! | [`blkzoned`] | `linux/blkzoned.h`, complete |
//! | [`io_uring`] | `linux/io_uring.h` and `linux/io_uring/query.h`, without sockets |
//! | [`abi`] | how the above is written down and checked |
//!
//! What is left out of a header, and why, stands in `tests/witness/left-out.txt`.
//!
//! # Rules
//!
//! * Names are the header's. Fields stand in its order, and padding that the header leaves to the
//!   compiler is a named field.
//! * A C union is one field of its widest integer; its documentation names the other members.
//! * Every struct is followed by its table of offsets ([`layout!`]), which the compiler checks and
//!   the tests compare with what a C compiler makes of the header.
//! * Numbers only: no policy, no system call, no allocation, no dependency at run time.
//! * "Since" says in which kernel a thing first worked, as far as we know. Distributions carry
//!   features backwards, so ask the kernel rather than its version.
#![no_std]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!(
    "ublkit-sys describes 64-bit little-endian Linux: words and pointers differ elsewhere"
);

pub mod abi;
pub mod blkdev;
pub mod blkzoned;
pub mod io_uring;
pub mod ublk;
