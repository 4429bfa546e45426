//! Runs the models of blocks that return to their pool.
#![cfg(not(loom))]

#[test]
fn the_models_of_returning_blocks_hold() {
    let models = ["--package", "basalt-env", "--lib", "loom"];
    basalt_loom_models::assert_models_hold(&models, env!("CARGO_TARGET_TMPDIR"));
}
