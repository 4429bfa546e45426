//! [`basalt_fuzz::targets::config_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("config_file", bytes));
