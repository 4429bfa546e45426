//! Runs the models of blocks that return to their pool, which need a build of their own.
#![cfg(not(loom))]

use std::path::Path;
use std::process::Command;

#[test]
fn the_models_of_returning_blocks_hold() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loom");
    let output = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--release", "--package", "basalt-env", "--lib", "loom"])
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", target)
        .output();
    let output = output.unwrap_or_else(|error| panic!("cargo does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    // A filter or a feature that leaves the models out must not pass for models that hold.
    assert!(said.contains("running ") && !said.contains("running 0 tests"), "{said}");
}
