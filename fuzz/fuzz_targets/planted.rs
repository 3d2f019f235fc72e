//! The control of the others: a crash that `fuzz/run --self-test` must find and report.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| assert!(bytes != b"ublk", "planted"));
