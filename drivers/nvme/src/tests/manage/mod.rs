//! What a host administers.

use alloc::string::String;
use alloc::vec;

use basalt_models::nvme::{Fault, ManageConfig, admin};
use basalt_nvme_spec::identify::Oacs;
use basalt_nvme_spec::manage::*;
use basalt_nvme_spec::{AdminOpcode, NSID_ALL};

use super::*;
use crate::{AdminError, LongLimits};

mod background;
mod firmware;
mod namespaces;

fn managed(change: impl FnOnce(&mut ManageConfig)) -> Config {
    let mut manage = ManageConfig::full();
    change(&mut manage);
    Config { manage, ..two_namespaces() }
}

fn status_of<T: core::fmt::Debug>(result: Result<T, AdminError>) -> Status {
    let Err(AdminError::Status(status)) = result else { panic!("{result:?}") };
    status
}

#[track_caller]
fn expect<T: core::fmt::Debug>(result: Result<T, AdminError>, expected: Status) {
    let status = status_of(result);
    assert!(status.is(expected), "{status} instead of {expected}");
}

#[test]
fn what_a_controller_does_not_offer_it_is_not_asked_for() {
    let bench = Bench::with_defaults();
    let controller = bench.controller(Options::default());
    for opcode in [
        AdminOpcode::FORMAT_NVM,
        AdminOpcode::NAMESPACE_MANAGEMENT,
        AdminOpcode::NAMESPACE_ATTACHMENT,
        AdminOpcode::FIRMWARE_DOWNLOAD,
        AdminOpcode::FIRMWARE_COMMIT,
        AdminOpcode::DEVICE_SELF_TEST,
        AdminOpcode::SANITIZE,
    ] {
        // A command that gets there all the same is answered by no refusal of the driver's.
        bench.model.inject(admin(opcode).every(), Fault::DropCompletion);
    }
    let unsupported = Err(AdminError::Unsupported);
    let size = BlockFormat::Size(512);
    let settings = FormatSettings::default();
    let sanitize = Sanitize {
        action: SanitizeAction::BlockErase,
        on_failure: OnFailure::Restricted,
        deallocation: Deallocation::After,
    };
    let done = [
        bench.run(controller.format(FormatTarget::Namespace(1), size, settings)),
        bench.run(controller.create_namespace(8, size)).map(drop),
        bench.run(controller.delete_namespace(1)),
        bench.run(controller.attach_namespace(1)),
        bench.run(controller.detach_namespace(1)),
        bench.run(controller.allocated_namespaces()).map(drop),
        bench.run(controller.controllers()).map(drop),
        bench.run(controller.download_firmware(0, &[0; 4096])),
        bench.run(controller.commit_firmware(1, FirmwareAction::Store)).map(drop),
        bench.run(controller.self_test(0, SelfTest::Short)),
        bench.run(controller.self_test_log()).map(drop),
        bench.run(controller.sanitize(sanitize)),
        bench.run(controller.sanitize_status()).map(drop),
    ];
    assert_eq!(done, [unsupported; 13]);
}

#[test]
fn a_format_has_longer_than_other_commands_but_not_for_ever() {
    let long = LongLimits { format: Duration::from_secs(20), ..LongLimits::default() };
    let bench = Bench::new(managed(|_| ()));
    let controller = bench.controller(Options { long, ..Options::default() });
    let format = || {
        let target = FormatTarget::Namespace(2);
        controller.format(target, BlockFormat::Size(512), FormatSettings::default())
    };
    // A millisecond at each look: twelve seconds, then for ever.
    bench.model.inject(admin(AdminOpcode::FORMAT_NVM), Fault::Delay(12_000));
    assert_eq!(bench.run(format()), Ok(()));
    bench.model.inject(admin(AdminOpcode::FORMAT_NVM), Fault::DropCompletion);
    assert_eq!(bench.run(format()), Err(AdminError::Timeout));
}

#[test]
fn a_device_that_goes_during_a_format_is_noticed() {
    let bench = Bench::new(managed(|_| ()));
    let controller = bench.controller(Options::default());
    bench.model.inject(admin(AdminOpcode::FORMAT_NVM), Fault::AllOnes);
    let target = FormatTarget::Namespace(2);
    let format = controller.format(target, BlockFormat::Size(512), FormatSettings::default());
    assert_eq!(bench.run(format), Err(AdminError::Removed));
}

#[test]
fn the_effects_of_commands_are_told() {
    use basalt_nvme_spec::log_page::CommandEffects;
    let bench = Bench::new(managed(|config| config.oacs.remove(Oacs::SELF_TEST)));
    let controller = bench.controller(Options::default());
    let effects = bench.run(controller.command_effects()).unwrap();
    let of = |opcode: AdminOpcode| effects.admin[usize::from(opcode.0)].get();
    assert_eq!(of(AdminOpcode::DEVICE_SELF_TEST), 0);
    let changes = CommandEffects::SUPPORTED | CommandEffects::INVENTORY_CHANGE;
    assert_eq!(of(AdminOpcode::NAMESPACE_MANAGEMENT), changes);
}
