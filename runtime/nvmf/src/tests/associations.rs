//! Which controllers and queues hosts get.

use alloc::vec::Vec;

use basalt_nvme_spec::identify::{IdentifyController, Oncs};
use basalt_nvme_spec::log_page::CommandEffects;
use basalt_nvme_spec::registers::{self, Cc};
use basalt_nvme_spec::{Cns, Command, LogPageId, NvmOpcode, Status};
use zerocopy::FromBytes;

use super::host::{HOST_NQN, Host};
use super::world::World;
use crate::pdu::Digests;
use crate::{DEFAULT_NQN, DuplicateHosts, FusedOperations, TransportConfig};
use basalt_bdev::suite::disk::Disk;

const OTHER: &str = "nqn.2014-08.org.nvmexpress:uuid:other-host";

/// Byte of a Connect's data, as a refusal names it.
const DATA: u32 = 1 << 16;

#[test]
fn a_controller_is_asked_for_by_no_number_as_they_are_given_out() {
    let mut world = World::new();
    for (cntlid, is_accepted) in [(0xffff, true), (0xfffe, false), (0, false), (1, false)] {
        let mut host = Host::dial(&world, 0, 4420);
        host.greet(&mut world, Digests::default());
        let done = host.try_connect(&mut world, 0, 32, cntlid, 0);
        assert_eq!(done.status().is_success(), is_accepted, "{cntlid:#x}");
        if !is_accepted {
            assert!(done.status().is(Status::CONNECT_INVALID_PARAMETERS) && done.status().dnr());
            assert_eq!(done.dw0.get(), DATA | 16);
        }
    }
}

#[test]
fn the_queues_of_a_controller_say_by_name_and_identifier_that_they_are_its_hosts() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    for (name, id, at) in [(OTHER, [9; 16], 512), (HOST_NQN, [8; 16], 0)] {
        let mut io = Host::dial(&world, 0, 4420);
        (io.name, io.id) = (name, id);
        io.greet(&mut world, Digests::default());
        let refused = io.try_connect(&mut world, 1, 16, cntlid, 0);
        assert!(refused.status().is(Status::CONNECT_INVALID_PARAMETERS));
        assert_eq!(refused.dw0.get(), DATA | at);
    }
}

#[test]
fn a_host_has_as_many_controllers_as_it_connects_unless_the_policy_says_otherwise() {
    let mut world = World::new();
    world.listen(DEFAULT_NQN, 4421);
    let connect = |world: &mut World, name, port| {
        let mut host = Host::dial(world, 0, port);
        host.name = name;
        host.greet(world, Digests::default());
        let status = host.try_connect(world, 0, 32, 0xffff, 0).status();
        (host, status)
    };
    let twins = [(); 2].map(|()| connect(&mut world, HOST_NQN, 4420));
    assert!(twins.iter().all(|(_, status)| status.is_success()));
    world.target.set_duplicate_hosts(DuplicateHosts::RestrictPerListener);
    let (_, refused) = connect(&mut world, HOST_NQN, 4420);
    assert_eq!(refused, Status::CONNECT_CONTROLLER_BUSY, "it may come back");
    for (name, port) in [(HOST_NQN, 4421), (OTHER, 4420)] {
        assert!(connect(&mut world, name, port).1.is_success(), "{name} {port}");
    }
    twins.iter().for_each(|(host, _)| host.hang_up(&world));
    world.rounds(60);
    assert!(connect(&mut world, HOST_NQN, 4420).1.is_success());
}

#[test]
fn eight_controllers_with_all_their_queues_make_a_thousand_connections() {
    let mut world = World::with(2, alloc::sync::Arc::new(Disk::new(512, 64)));
    let mut queues = Vec::new();
    for _ in 0..8 {
        let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        for qid in 1..=127_u16 {
            queues.push(Host::io(
                &mut world,
                usize::from(qid % 2),
                cntlid,
                qid,
                Digests::default(),
            ));
        }
        let mut beyond = Host::dial(&world, 0, 4420);
        beyond.greet(&mut world, Digests::default());
        let refused = beyond.try_connect(&mut world, 128, 16, cntlid, 0);
        assert!(refused.status().is(Status::CONNECT_INVALID_PARAMETERS));
        beyond.hang_up(&world);
        queues.push(admin);
    }
    world.rounds(20);
    assert_eq!([0, 1].map(|core| world.stats(core).connections).iter().sum::<u32>(), 1024);
    assert!(world.target.controllers().iter().all(|controller| controller.queues.len() == 128));
    for io in queues.iter_mut().step_by(101) {
        assert!(io.run(&mut world, Command::flush(1), &[], &[]).0.status().is_success());
    }
}

#[test]
fn a_keep_alive_timeout_is_no_shorter_than_the_transport_has_it() {
    let config = TransportConfig { kato_min_ms: 10_000, ..TransportConfig::default() };
    let mut world = World::configured(1, config, alloc::sync::Arc::new(Disk::new(512, 64)));
    for (asked, given) in [(0, 0), (1, 10_000), (12_000, 12_000)] {
        let mut host = Host::dial(&world, 0, 4420);
        host.greet(&mut world, Digests::default());
        let cntlid = host.try_connect(&mut world, 0, 32, 0xffff, asked).dw0.get() as u16;
        let controllers = world.target.controllers();
        let kato = controllers.iter().find(|c| c.cntlid == cntlid).map(|c| c.kato_ms);
        assert_eq!(kato, Some(given));
    }
}

#[test]
fn masked_commands_are_neither_announced_nor_carried_out() {
    let config = TransportConfig {
        masked_oncs: Oncs::WRITE_ZEROES | Oncs::COMPARE,
        fused: FusedOperations::Masked,
        ..TransportConfig::default()
    };
    let mut world = World::configured(1, config, alloc::sync::Arc::new(Disk::new(512, 64)));
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (_, bytes) = admin.fetch(&mut world, Command::identify(Cns::CONTROLLER, 0), 4096);
    let id = IdentifyController::read_from_bytes(&bytes).unwrap();
    let told = Oncs::from_bits_retain(id.oncs.get());
    assert!(!told.intersects(config.masked_oncs) && told.contains(Oncs::DATASET_MANAGEMENT));
    assert_eq!(id.fuses.get(), 0);
    let log = Command::get_log_page(LogPageId::COMMANDS_SUPPORTED, 0, 0, 4096);
    let (_, bytes) = admin.fetch(&mut world, log, 4096);
    let effects = CommandEffects::read_from_bytes(&bytes).unwrap();
    let supports = |opcode: NvmOpcode| effects.io[usize::from(opcode.0)].get() & 1 != 0;
    assert!(!supports(NvmOpcode::WRITE_ZEROES) && !supports(NvmOpcode::COMPARE));
    assert!(supports(NvmOpcode::WRITE));
    let mut io = admin.join(&mut world, 0, cntlid);
    let (refused, _) = io.run(&mut world, Command::write_zeroes(1, 0, 1), &[], &[]);
    assert!(refused.status().is(Status::INVALID_OPCODE));
    let mut half = Command::write(1, 0, 1);
    half.flags |= Command::FUSE_SECOND;
    let (refused, _) = io.run(&mut world, half, &[], &[]);
    assert!(refused.status().is(Status::INVALID_FIELD));
}

#[test]
fn a_controller_that_was_reset_keeps_its_place_under_a_limiting_policy() {
    let mut world = World::new();
    world.target.set_duplicate_hosts(DuplicateHosts::RestrictPerListener);
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    assert!(admin.property_set(&mut world, registers::CC, 0).status().is_success());
    let enabled = u64::from(Cc::enabled(Cc::CSS_NVM).0);
    assert!(admin.property_set(&mut world, registers::CC, enabled).status().is_success());
    let mut io = admin.join(&mut world, 0, cntlid);
    assert!(io.run(&mut world, Command::flush(1), &[], &[]).0.status().is_success());
}
