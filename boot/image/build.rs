//! Link arguments that turn the host's executable into a free-standing image.
//!
//! A static PIE linked at 2 MiB: loaded there (PVH) it needs no relocation, loaded elsewhere (UEFI)
//! it relocates itself. No start files, no C library, no dynamic linker.
//!
//! Cargo hands them to the programs of the crate whose build script this is: an application's
//! `Cargo.toml` names this file too.

/// Passed to the linker driver in this order.
const LINK_ARGS: [&str; 9] = [
    "-nostartfiles",
    "-nostdlib",
    "-static-pie",
    "-Wl,--no-dynamic-linker",
    "-Wl,--image-base=0x200000",
    "-Wl,--apply-dynamic-relocs",
    // Most words that hold addresses stand next to each other: one bit each, not 24 bytes. Both
    // `entry::pvh` and the runner read that form.
    "-Wl,-z,pack-relative-relocs",
    "-Wl,-z,norelro",
    "-Wl,--no-eh-frame-hdr",
];

fn main() {
    for arg in LINK_ARGS {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../image/discard.ld");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{script}");
    println!("cargo:rerun-if-changed=../image/build.rs");
    println!("cargo:rerun-if-changed={script}");
}
