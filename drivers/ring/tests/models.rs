//! Runs the models of `loom.rs`.
#![cfg(not(loom))]

#[test]
fn the_models_of_every_ordering_claim_hold() {
    let models = ["--package", "basalt-ring", "--test", "loom"];
    basalt_loom_models::assert_models_hold(&models, env!("CARGO_TARGET_TMPDIR"));
}
