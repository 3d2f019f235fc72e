//! What the fuzz targets of the command line run; the library's are in `src/fuzz`.
//!
//! The package in `fuzz` compiles the command's sources once more, for a program has no library to
//! call; each target then uses one function of these.
#![cfg_attr(fuzzing, allow(dead_code, unused_imports, reason = "one target, one function"))]

mod arguments;
mod btf;
#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;
mod doctor;
mod records;

#[cfg(fuzzing)]
pub(crate) use {arguments::arguments, btf::btf, doctor::doctor, records::records};
