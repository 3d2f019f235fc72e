//! What the fuzz targets run: one function each, from any bytes to a verdict.
//!
//! A function returns when the bytes did no harm and panics when they did. It does not only look
//! for crashes: each compares what the crate did with a second opinion, which is written next to
//! it. `cargo test` runs all of them over `fuzz/corpus`; `fuzz/run` lets libFuzzer look for more.
//!
//! Backends that panic are left out: libFuzzer aborts at the panic, before anybody can catch it.

mod completions;
mod control;
#[cfg(test)]
mod corpus;
mod decode;
#[cfg(test)]
mod found;
mod input;
mod machine;
mod params;
#[cfg(feature = "replay")]
mod recording;
mod schedule;
mod scripted;
mod slots;

pub use completions::completions;
pub use control::control;
pub use decode::decode;
pub use params::params;
#[cfg(feature = "replay")]
pub use recording::recording;
pub use schedule::schedule;
