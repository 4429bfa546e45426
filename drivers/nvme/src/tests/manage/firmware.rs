//! Firmware images.

use super::*;

fn image(revision: &str, len: usize) -> Vec<u8> {
    let mut image = revision.as_bytes().to_vec();
    image.resize(len, 0x5a);
    image
}

fn revision(controller: &Controller<ModelDevice>) -> String {
    String::from(basalt_nvme_spec::ascii_field(&controller.identify().fr).unwrap())
}

#[test]
fn an_image_goes_in_pieces_and_runs_after_a_reset() {
    // Pieces of 16 KiB at most, and lists of their pages.
    let bench = Bench::new(Config { mdts: 2, ..managed(|_| ()) });
    let controller = bench.controller(Options::default());
    let image = image("2.0-beta", (100 << 10) + 12);
    let (first, second) = image.split_at(40 << 10);
    bench.run(controller.download_firmware(0, first)).unwrap();
    bench.run(controller.download_firmware(40 << 10, second)).unwrap();
    let action = FirmwareAction::StoreAndActivateAtReset;
    let committed = bench.run(controller.commit_firmware(2, action));
    assert_eq!(committed, Ok(Activation::ControllerReset));
    let slots = bench.run(controller.firmware_slots()).unwrap();
    assert_eq!((slots.current(), slots.next(), &slots.revision[1]), (1, 2, b"2.0-beta"));
    assert_eq!(revision(&controller), "1.0");
    bench.run(controller.restart()).unwrap();
    assert_eq!(revision(&controller), "2.0-beta");
    assert_eq!(bench.run(controller.firmware_slots()).unwrap().active, 2);
    assert_eq!(bench.model.violations(), Vec::<String>::new());
}

#[test]
fn an_image_can_be_kept_first_and_run_at_once_later() {
    let bench = Bench::new(managed(|_| ()));
    let controller = bench.controller(Options::default());
    bench.run(controller.download_firmware(0, &image("3.0     ", 4096))).unwrap();
    let commit = |slot, action| bench.run(controller.commit_firmware(slot, action));
    assert_eq!(commit(0, FirmwareAction::Store), Ok(Activation::NotAsked));
    assert_eq!(commit(3, FirmwareAction::ActivateNow), Ok(Activation::Done));
    assert_eq!(bench.run(controller.firmware_slots()).unwrap().current(), 3);
    assert_eq!(commit(1, FirmwareAction::ActivateAtReset), Ok(Activation::ControllerReset));
}

#[test]
fn what_an_activation_asks_for_is_no_failure() {
    let bench = Bench::new(managed(|_| ()));
    let controller = bench.controller(Options::default());
    let commit = || bench.run(controller.commit_firmware(1, FirmwareAction::ActivateNow));
    for (sc, activation) in [
        (0x0b, Activation::ConventionalReset),
        (0x10, Activation::SubsystemReset),
        (0x11, Activation::ControllerReset),
        (0x12, Activation::ResetForLackOfTime),
    ] {
        bench.model.inject(admin(AdminOpcode::FIRMWARE_COMMIT), Fault::Status(1, sc));
        assert_eq!(commit(), Ok(activation));
        bench.model.plan(|plan| plan.clear());
    }
    bench.model.inject(admin(AdminOpcode::FIRMWARE_COMMIT), Fault::Status(1, 0x13));
    expect(commit(), Status::FIRMWARE_ACTIVATION_PROHIBITED);
}

#[test]
fn images_and_slots_that_make_no_sense_are_refused() {
    let bench = Bench::new(managed(|config| config.activates_now = false));
    let controller = bench.controller(Options::default());
    let download = |offset, len| bench.run(controller.download_firmware(offset, &vec![0; len]));
    for (offset, len) in [(0, 0), (0, 6), (4, 8), (u32::MAX - 4095, 8192)] {
        assert_eq!(download(offset, len), Err(AdminError::BadArgument), "{offset} {len}");
    }
    let commit = |slot, action| bench.run(controller.commit_firmware(slot, action));
    let bad = Err(AdminError::BadArgument);
    assert_eq!(commit(4, FirmwareAction::Store), bad, "there are three");
    assert_eq!(commit(1, FirmwareAction::Store), bad, "it cannot be written");
    assert_eq!(commit(0, FirmwareAction::ActivateAtReset), bad, "which?");
    assert_eq!(commit(2, FirmwareAction::ActivateNow), Err(AdminError::Unsupported));
    expect(commit(2, FirmwareAction::ActivateAtReset), Status::INVALID_FIRMWARE_IMAGE);
}

#[test]
fn a_piece_that_comes_twice_and_an_image_with_a_gap_are_the_controllers_to_refuse() {
    let bench = Bench::new(managed(|_| ()));
    let controller = bench.controller(Options::default());
    let download = |offset| bench.run(controller.download_firmware(offset, &[1; 8192]));
    assert_eq!(download(4096), Ok(()));
    expect(download(8192), Status::OVERLAPPING_RANGE);
    let commit = bench.run(controller.commit_firmware(2, FirmwareAction::Store));
    expect(commit, Status::INVALID_FIRMWARE_IMAGE);
}
