#![no_main]

#[allow(dead_code, reason = "of the command line only its reading is run")]
#[path = "../../src/cli/mod.rs"]
mod cli;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cli::fuzz::doctor(bytes));
