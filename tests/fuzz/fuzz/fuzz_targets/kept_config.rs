//! [`basalt_fuzz::targets::kept_config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("kept_config", bytes));
