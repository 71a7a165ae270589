#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smartrouter_fuzz::recovery::run(data));
