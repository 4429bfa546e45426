use alloc::vec::Vec;

use basalt_net::IpAddress;
use basalt_nvme_spec::Status;

use super::host::Host;
use super::world::World;
use crate::pdu::Digests;
use crate::{ConfigError, HostPolicy, Listener, SubsystemOptions, TransportConfig};

const NQN: &str = "nqn.2026-11.org.example:configured";

/// A machine of one core with an empty subsystem for any host.
fn serving(options: SubsystemOptions, config: TransportConfig) -> World {
    let world = World::empty(1, config, 16 << 20);
    world.target.create_subsystem(NQN, options).unwrap();
    world.target.allow_any_host(NQN, HostPolicy::Any).unwrap();
    world
}

fn listen(world: &mut World, address: [u8; 4]) {
    let (target, address) = (world.target.clone(), IpAddress::from(address));
    world.reactors[0].local().spawn("test", async move {
        target.add_listener(NQN, Listener { address, port: 4420 }).await.unwrap();
    });
    world.rounds(16);
}

fn connect(world: &mut World) -> Status {
    connect_with(world, 32)
}

/// Connects an admin queue of `entries` entries.
fn connect_with(world: &mut World, entries: u16) -> Status {
    let mut host = Host::dial(world, 0, 4420);
    host.nqn = NQN;
    host.greet(world, Digests::default());
    host.try_connect(world, 0, entries, 0xffff, 0).status()
}

#[test]
fn a_subsystem_is_reached_by_the_addresses_it_listens_on_and_no_others() {
    let mut world = serving(SubsystemOptions::default(), TransportConfig::default());
    listen(&mut world, [10, 0, 0, 2]);
    assert_eq!(connect(&mut world), Status::CONNECT_INVALID_PARAMETERS.with_dnr());
    listen(&mut world, [10, 0, 0, 1]);
    assert!(connect(&mut world).is_success());
    let listener = Listener { address: [10, 0, 0, 1].into(), port: 4420 };
    world.target.remove_listener(NQN, listener).unwrap();
    assert_eq!(world.target.remove_listener(NQN, listener), Err(ConfigError::NoSuchListener));
    assert_eq!(connect(&mut world), Status::CONNECT_INVALID_PARAMETERS.with_dnr());
}

#[test]
fn controllers_are_numbered_within_the_subsystems_range() {
    let options = SubsystemOptions { cntlid_min: 7, cntlid_max: 8, ..Default::default() };
    let mut world = serving(options, TransportConfig::default());
    listen(&mut world, [0, 0, 0, 0]);
    assert!(connect(&mut world).is_success() && connect(&mut world).is_success());
    let numbers: Vec<u16> = world.target.controllers().iter().map(|c| c.cntlid).collect();
    assert_eq!(numbers, [7, 8]);
    assert_eq!(connect(&mut world), Status::CONNECT_CONTROLLER_BUSY);
}

#[test]
fn the_transports_options_hold_for_connections_made_after_they_were_set() {
    let mut world = serving(SubsystemOptions::default(), TransportConfig::default());
    listen(&mut world, [0, 0, 0, 0]);
    assert!(connect_with(&mut world, 33).is_success());
    let target = world.target.clone();
    world.reactors[0].local().spawn("test", async move {
        let config = TransportConfig { admin_queue_size_max: 16, ..TransportConfig::default() };
        target.set_transport(config).await.unwrap();
    });
    world.rounds(16);
    assert_eq!(world.target.transport().admin_queue_size_max, 32);
    assert!(connect_with(&mut world, 32).is_success(), "every admin queue may have 32 entries");
    let refused = connect_with(&mut world, 33);
    assert_eq!(refused, Status::CONNECT_INVALID_PARAMETERS.with_dnr());
}
