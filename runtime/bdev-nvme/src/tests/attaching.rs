use alloc::string::ToString;
use alloc::vec;

use basalt_bdev::{Io, Op, RejectReason, uuid};
use basalt_models::nvme::{Config, Fault, Model, NamespaceConfig, admin, enable};
use basalt_nvme_spec::AdminOpcode;
use basalt_nvme_spec::identify::Oncs;

use super::Rig;
use crate::{AttachError, ControlError, ControllerState, NvmeControllers};

#[test]
fn every_namespace_becomes_a_bdev() {
    let namespaces = vec![NamespaceConfig::new(1, 512, 2048), NamespaceConfig::new(5, 4096, 100)];
    let mut rig = Rig::new(1, Config { namespaces, ..Config::default() });
    assert_eq!(rig.attach().unwrap(), ["Nvme0n1", "Nvme0n5"]);
    let one = rig.registry.get("Nvme0n1").unwrap();
    assert_eq!((one.info().block_size, one.info().num_blocks.get()), (512, 2048));
    let five = rig.registry.get("Nvme0n5").unwrap();
    assert_eq!((five.info().block_size, five.info().num_blocks.get()), (4096, 100));
    assert_eq!(five.info().uuid, NamespaceConfig::new(5, 4096, 100).uuid);
    assert_eq!(five.info().product_name, "NVMe disk");
    let json = five.driver_specific();
    assert!(json.contains(r#""pci_address":"0000:00:00.0""#), "{json}");
    assert!(json.contains(r#""serial_number":"BASALT0001""#), "{json}");
    assert!(json.contains(r#""ns_data":{"id":5}"#), "{json}");
    rig.assert_no_violations();
}

#[test]
fn the_controller_is_listed_with_what_it_says_of_itself() {
    let rig = Rig::attached(2, Config::default());
    let info = rig.info();
    assert_eq!((info.name.as_str(), info.serial.as_str()), ("Nvme0", "BASALT0001"));
    assert_eq!((info.state, info.queues.len(), info.resets), (ControllerState::Enabled, 2, 0));
    assert_eq!(info.bdevs, ["Nvme0n1"]);
    assert_eq!(info.state.to_string(), "enabled");
}

#[test]
fn a_name_is_used_once() {
    let mut rig = Rig::attached(1, Config::default());
    assert_eq!(rig.attach(), Err(AttachError::NameTaken));
}

#[test]
fn two_controllers_with_the_same_identifiers_get_different_uuids() {
    let mut rig = Rig::attached(1, Config::default());
    let twin = Config { pci_bus: 1, ..Config::default() };
    let device = Model::new(rig.machine.bus(), twin).device();
    let local = rig.core(0);
    let (path, options) = (crate::IoPath::new(), crate::Options::named("Nvme1"));
    let names = rig.wait_for(async move { crate::attach(&local, device, path, options).await });
    assert_eq!(names.unwrap(), ["Nvme1n1"]);
    let [one, two] = ["Nvme0n1", "Nvme1n1"].map(|name| rig.registry.get(name).unwrap());
    assert_ne!(one.info().uuid, two.info().uuid);
    assert!(rig.registry.get(&uuid::format(&two.info().uuid)).is_some());
}

#[test]
fn what_the_controller_lacks_the_bdev_does_not_do() {
    let rig = Rig::attached(1, Config { oncs: Oncs::empty(), ..Config::default() });
    let disk = rig.open("Nvme0n1");
    let can: vec::Vec<_> = Op::ALL.into_iter().filter(|op| disk.bdev().supports(*op)).collect();
    let always = [Op::Read, Op::Write, Op::Flush, Op::NvmeIo, Op::NvmeAdmin, Op::Reset];
    assert_eq!(can, always);
    let not: vec::Vec<_> = Op::ALL.into_iter().filter(|op| !disk.allows(*op)).collect();
    let of_zones = Op::ALL.into_iter().filter(|op| op.is_zoned());
    let own = [Op::Unmap, Op::WriteUncorrectable];
    let lacks = own.into_iter().chain(of_zones).collect::<vec::Vec<_>>();
    assert_eq!(not, lacks, "the others are made of reads and writes");
}

#[test]
fn a_controller_that_never_gets_ready_is_an_error_in_bounded_time() {
    let mut rig = Rig::new(1, Config::default());
    rig.model.plan(|plan| {
        plan.on(enable().every(), Fault::StuckReady);
    });
    assert!(matches!(rig.attach(), Err(AttachError::Init(_))));
    assert!(rig.registry.list().is_empty());
    assert!(NvmeControllers::of(&rig.core(0)).list().is_empty());
    rig.model.plan(|plan| plan.clear());
    rig.attach().unwrap();
}

#[test]
fn a_controller_without_any_queue_is_let_go_of() {
    let mut rig = Rig::new(2, Config::default());
    let free = rig.pools.iter().map(|pool| pool.stats().bytes_free).collect::<vec::Vec<_>>();
    rig.model.plan(|plan| {
        plan.on(admin(AdminOpcode::CREATE_IO_SQ).every(), Fault::Status(1, 1));
    });
    assert_eq!(rig.attach(), Err(AttachError::NoQueues));
    assert!(rig.registry.list().is_empty());
    rig.rounds(5);
    let now = rig.pools.iter().map(|pool| pool.stats().bytes_free).collect::<vec::Vec<_>>();
    assert_eq!(now, free);
}

#[test]
fn a_detached_controller_leaves_nothing_behind() {
    let mut rig = Rig::new(2, Config::default());
    let free = rig.pools.iter().map(|pool| pool.stats().bytes_free).collect::<vec::Vec<_>>();
    rig.attach().unwrap();
    let disk = rig.open("Nvme0n1");
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.wait_for(async move { controllers.detach("Nvme0").await }).unwrap();
    assert!(disk.is_removed() && rig.registry.list().is_empty());
    rig.rounds(5);
    let now = rig.pools.iter().map(|pool| pool.stats().bytes_free).collect::<vec::Vec<_>>();
    assert_eq!(now, free);
    assert!(rig.core(1).pollers().is_empty());
    let controllers = NvmeControllers::of(&rig.core(0));
    let again = rig.wait_for(async move { controllers.detach("Nvme0").await });
    assert_eq!(again, Err(ControlError::NoSuchController));
    rig.attach().unwrap();
    rig.assert_no_violations();
}

#[test]
fn bdevs_follow_the_namespaces_that_the_controller_tells_of() {
    let mut rig = Rig::attached(2, Config::default());
    let disk = rig.registry.get("Nvme0n1").unwrap();
    let mut channels = [0, 1].map(|core| rig.channel(core));
    let at = |lba, rig: &Rig| Io::with_data(Op::Write, lba, 1, rig.filled(0, &[7; 512]), 0);
    let beyond = at(16_384, &rig);
    assert_eq!(channels[0].submit(beyond).unwrap_err().reason, RejectReason::OutOfRange);
    rig.model.resize_namespace(1, 20_000);
    rig.model.add_namespace(NamespaceConfig::new(4, 4096, 50));
    rig.rounds(1_000);
    assert_eq!(disk.info().num_blocks.get(), 20_000, "the same bdev, larger");
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n4"]);
    for core in [0, 1] {
        let data = rig.filled(core, &[7; 512]);
        let io = Io::with_data(Op::Write, 19_999, 1, data, 0);
        channels[core].submit(io).unwrap();
        assert_eq!(rig.drain(&mut channels[core], 1)[0].status, Ok(()));
    }
    let mut fresh = rig.channel(0);
    let io = at(19_998, &rig);
    fresh.submit(io).unwrap();
    assert_eq!(rig.drain(&mut fresh, 1)[0].status, Ok(()));
    assert_eq!(rig.model.contents(1, 19_998, 1), [7]);

    rig.model.remove_namespace(4);
    rig.model.resize_namespace(1, 100);
    rig.rounds(1_000);
    assert_eq!(rig.info().bdevs, ["Nvme0n1"]);
    assert_eq!(disk.info().num_blocks.get(), 100);
    let beyond = at(100, &rig);
    assert_eq!(channels[1].submit(beyond).unwrap_err().reason, RejectReason::OutOfRange);
    rig.assert_no_violations();
}
