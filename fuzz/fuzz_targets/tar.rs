#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| compute_ctl::fuzzing::tar(data));
