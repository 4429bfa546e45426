//! [`basalt_fuzz::targets::nvmf_initiator`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("nvmf_initiator", bytes));
