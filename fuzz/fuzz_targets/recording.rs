#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ublkit::fuzz::recording(bytes));
