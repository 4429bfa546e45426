//! [`basalt_fuzz::targets::http_requests`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("http_requests", bytes));
