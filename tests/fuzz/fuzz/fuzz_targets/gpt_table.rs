//! [`basalt_fuzz::targets::gpt_table`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("gpt_table", bytes));
