//! [`basalt_fuzz::targets::acpi_tables`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("acpi_tables", bytes));
