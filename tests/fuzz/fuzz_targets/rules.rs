#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smartrouter_fuzz::rules::run(data));
