//! [`basalt_fuzz::targets::nvme_device`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("nvme_device", bytes));
