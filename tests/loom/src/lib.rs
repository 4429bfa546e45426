//! Runs `loom` models, which need a build of their own, from the ordinary tests of their crate.

use std::path::Path;
use std::process::Command;

/// Builds the tests that `selection` (of `cargo test`) names with `--cfg loom`, in a directory of
/// `temporary` (the caller's `CARGO_TARGET_TMPDIR`), and runs them.
///
/// # Panics
/// A model does not hold, or there is none.
pub fn assert_models_hold(selection: &[&str], temporary: &str) {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--release"])
        .args(selection)
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", Path::new(temporary).join("loom"))
        .output();
    let output = output.unwrap_or_else(|error| panic!("cargo does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    // A filter or a feature that leaves the models out must not pass for models that hold.
    assert!(said.contains("running ") && !said.contains("running 0 tests"), "{said}");
}
