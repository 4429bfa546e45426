//! [`basalt_fuzz::targets::elf_image`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("elf_image", bytes));
