//! [`basalt_fuzz::targets::virtio_net`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("virtio_net", bytes));
