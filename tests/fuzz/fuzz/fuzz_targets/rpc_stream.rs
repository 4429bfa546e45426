//! [`basalt_fuzz::targets::rpc_stream`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basalt_fuzz::targets::run("rpc_stream", bytes));
