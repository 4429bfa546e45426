//! [`basalt_fuzz::targets::pci_config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("pci_config", bytes));
