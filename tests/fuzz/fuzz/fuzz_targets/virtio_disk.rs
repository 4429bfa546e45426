//! [`basalt_fuzz::targets::virtio_disk`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("virtio_disk", bytes));
