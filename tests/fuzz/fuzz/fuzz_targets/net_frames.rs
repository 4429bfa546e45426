//! [`basalt_fuzz::targets::net_frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("net_frames", bytes));
