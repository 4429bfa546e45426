//! Runs the models of the wake queue and the task cell.
#![cfg(not(loom))]

#[test]
fn the_models_of_the_wake_queue_hold() {
    let models = ["--package", "basalt-reactor", "--lib", "loom"];
    basalt_loom_models::assert_models_hold(&models, env!("CARGO_TARGET_TMPDIR"));
}
