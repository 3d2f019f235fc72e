//! A kernel to test with: io_uring and the ublk driver, played in the same shared memory.

mod profile;
mod ublk;

pub use profile::{Profile, Rule};
