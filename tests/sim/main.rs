//! The driver, unchanged, over the simulated kernel: properties, failures, control commands, all
//! schedules of small worlds. docs/testing.md has the table of the protocol's properties and their
//! tests.
//!
//! A failure prints its seed. `UBLKIT_SIM_CASES` says how many cases each random property has.

#![allow(unreachable_pub, reason = "a program: nobody else sees it")]

mod batches;
mod clumsy;
mod commands;
mod deadlines;
mod elsewhere;
mod ends;
mod failures;
mod file_disk;
mod files;
mod house;
mod judge;
mod lives;
mod meters;
mod properties;
mod recovery;
mod refusals;
mod regions;
mod shared_buffers;
mod shares;
mod small;
