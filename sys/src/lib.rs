//! The ABI of ublk and of the io_uring parts that a ublk server needs.
#![no_std]
