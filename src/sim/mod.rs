//! A kernel to test with: io_uring and the ublk driver, played in the same shared memory.

mod asked;
mod profile;
mod ublk;

pub use asked::{Limits, Zones, accepts, disk, grant};
pub use profile::{Profile, Rule};
