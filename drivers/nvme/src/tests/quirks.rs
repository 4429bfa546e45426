use basalt_nvme_spec::identify::Oncs;

use super::*;
use crate::RejectReason;

const fn ids(vendor: u32, device: u32) -> u32 {
    device << 16 | vendor
}

#[test]
fn a_boundary_is_the_namespaces_own_or_what_the_vendor_tells() {
    let boundary = |pci_ids, boundary, vendor_stripe| {
        let ready = Ready::new(Config { pci_ids, boundary, vendor_stripe, ..Config::default() }, 8);
        ready.ns.optimal_boundary()
    };
    let intel = ids(0x8086, 0x0953);
    assert_eq!(boundary(intel, 0, 5), 256, "128 KiB in blocks of 512");
    assert_eq!(boundary(intel, 64, 5), 64);
    assert_eq!(boundary(intel, 0, 0), 0);
    assert_eq!(boundary(intel, 0, 200), 0, "nonsense");
    assert_eq!(boundary(Config::default().pci_ids, 0, 5), 0, "of others it says nothing");
}

#[test]
fn a_command_that_is_not_to_be_relied_on_is_not_used() {
    let config = Config { pci_ids: ids(0x8086, 0x5845), ..Config::default() };
    let mut ready = Ready::new(config, 8);
    assert_eq!(ready.controller.optional_commands(), Oncs::DATASET_MANAGEMENT);
    let refused = ready.queue.write_zeroes(&ready.ns, 0, 1, (0, Vec::new())).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Unsupported);
}

#[test]
fn a_controller_that_needs_a_delay_is_left_alone_before_it_is_looked_at() {
    let took = |pci_ids| {
        let bench = Bench::new(Config { pci_ids, ..Config::default() });
        bench.controller(Options::default());
        bench.time.get()
    };
    assert!(took(ids(0x1c58, 0x0003)) >= 4_600_000_000, "2.3 s after each change");
    let shares_them = "the 970 series, with the portable X5 that needs a delay";
    assert!(took(ids(0x144d, 0xa808)) < 1_000_000_000, "{shares_them}");
    assert!(took(Config::default().pci_ids) < 1_000_000_000);
}
