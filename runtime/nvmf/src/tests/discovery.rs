use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_nvme_spec::identify::IdentifyController;
use basalt_nvme_spec::log_page::{DiscoveryEntry, DiscoveryHeader};
use basalt_nvme_spec::{Cns, Command, LogPageId, Status, ascii_field};
use zerocopy::FromBytes;

use super::host::Host;
use super::world::World;
use crate::pdu::Digests;
use crate::{DEFAULT_NQN, DISCOVERY_NQN, HostPolicy, Listener, SubsystemOptions, TransportConfig};
use basalt_bdev::suite::disk::Disk;

/// The entries of NVM subsystems a host at `port` is shown.
fn subsystems(world: &mut World, port: u16) -> Vec<DiscoveryEntry> {
    let (mut host, _) = Host::admin(world, DISCOVERY_NQN, port);
    let log = |offset, len| Command::get_log_page(LogPageId::DISCOVERY, 0, offset, len);
    let (_, bytes) = host.fetch(world, log(0, 1024), 1024);
    let count = DiscoveryHeader::read_from_bytes(&bytes).unwrap().numrec.get() as u32;
    let (_, bytes) = host.fetch(world, log(1024, count * 1024), count * 1024);
    let entries = bytes.chunks(1024).map(|entry| DiscoveryEntry::read_from_bytes(entry).unwrap());
    entries.filter(|entry| entry.subtype == DiscoveryEntry::SUBTYPE_NVM).collect()
}

#[test]
fn discovery_lists_every_subsystem_a_host_may_see_at_the_address_it_used() {
    let mut world = World::new();
    for (nqn, policy) in [
        ("nqn.2026-11.io.basalt:open", HostPolicy::Any),
        ("nqn.2026-11.io.basalt:secret", HostPolicy::Listed),
    ] {
        world.target.create_subsystem(nqn, SubsystemOptions::default()).unwrap();
        world.target.allow_any_host(nqn, policy).unwrap();
        world.listen(nqn, 4421);
    }
    let nvm = subsystems(&mut world, 8009);
    let names: Vec<_> = nvm.iter().filter_map(|entry| ascii_field(&entry.subnqn)).collect();
    assert_eq!(names, [DEFAULT_NQN, "nqn.2026-11.io.basalt:open"]);
    assert_eq!(ascii_field(&nvm[0].traddr), Some("10.0.0.1"));
    assert_eq!(ascii_field(&nvm[0].trsvcid), Some("4420"));
    assert_eq!(nvm[0].treq, 0b100, "flow control may be off, a secure channel is not specified");
    let (mut host, _) = Host::admin(&mut world, DISCOVERY_NQN, 8009);
    let (id, bytes) = host.fetch(&mut world, Command::identify(Cns::CONTROLLER, 0), 4096);
    assert!(id.status().is_success());
    assert_eq!(IdentifyController::read_from_bytes(&bytes).unwrap().cntrltype, 2);
}

#[test]
fn a_host_that_came_over_ipv6_is_sent_there() {
    let mut world = World::new();
    let ours: basalt_net::IpAddress = "fd00::1".parse().unwrap();
    world.stacks[0].borrow_mut().ours = ours;
    let nvm = subsystems(&mut world, 8009);
    let place = (ascii_field(&nvm[0].traddr), ascii_field(&nvm[0].trsvcid));
    assert_eq!(place, (Some("fd00::1"), Some("4420")));
    assert_eq!(nvm[0].adrfam, DiscoveryEntry::ADRFAM_IPV6);
    // One at an IPv6 address alone admits no others.
    let mut host = Host::dial(&world, 0, 4420);
    host.nqn = "nqn.2026-11.io.basalt:six";
    world.target.create_subsystem(host.nqn, SubsystemOptions::default()).unwrap();
    world.target.allow_any_host(host.nqn, HostPolicy::Any).unwrap();
    world.listen("nqn.2026-11.io.basalt:six", Listener { address: ours, port: 4420 });
    host.greet(&mut world, Digests::default());
    assert!(host.try_connect(&mut world, 0, 32, 0xffff, 0).status().is_success());
    world.stacks[0].borrow_mut().ours = [10, 0, 0, 1].into();
    let mut host = Host::dial(&world, 0, 4420);
    host.nqn = "nqn.2026-11.io.basalt:six";
    host.greet(&mut world, Digests::default());
    let refused = host.try_connect(&mut world, 0, 32, 0xffff, 0).status();
    assert_eq!(refused, Status::CONNECT_INVALID_PARAMETERS.with_dnr());
}

#[test]
fn a_listener_at_one_address_is_announced_there() {
    let mut world = World::new();
    let address = [192, 0, 2, 7].into();
    world.listen(DEFAULT_NQN, Listener { address, port: 4420 });
    let entries = subsystems(&mut world, 8009);
    let places: Vec<_> =
        entries.iter().map(|entry| String::from(ascii_field(&entry.traddr).unwrap())).collect();
    assert_eq!(places, ["10.0.0.1", "192.0.2.7"]);
}

#[test]
fn the_admin_queue_may_be_as_large_as_announced_and_no_larger() {
    let config = TransportConfig { admin_queue_size_max: 16, ..TransportConfig::default() };
    let mut world = World::configured(1, config, Arc::new(Disk::new(512, 8192)));
    let announced = subsystems(&mut world, 8009)[0].asqsz.get();
    assert_eq!(announced, 32);
    for (entries, accepted) in [(announced, true), (announced + 1, false)] {
        let mut host = Host::dial(&world, 0, 4420);
        host.greet(&mut world, Digests::default());
        let status = host.try_connect(&mut world, 0, entries, 0xffff, 0).status();
        assert_eq!(status.is_success(), accepted, "{entries}: {status:?}");
        assert!(accepted || status.is(Status::CONNECT_INVALID_PARAMETERS));
    }
}

#[test]
fn any_part_of_the_log_reads_as_in_the_whole() {
    let mut world = World::new();
    for nqn in ["nqn.2026-11.io.basalt:one", "nqn.2026-11.io.basalt:two"] {
        world.target.create_subsystem(nqn, SubsystemOptions::default()).unwrap();
        world.target.allow_any_host(nqn, HostPolicy::Any).unwrap();
        world.listen(nqn, 4421);
    }
    let (mut host, _) = Host::admin(&mut world, DISCOVERY_NQN, 8009);
    let mut part = |offset: u64, len: u32| {
        let log = Command::get_log_page(LogPageId::DISCOVERY, 0, offset, len);
        let (done, bytes) = host.fetch(&mut world, log, len);
        if done.status().is_success() { Ok(bytes) } else { Err(done.status()) }
    };
    let mut whole = part(0, 1024).unwrap();
    let count = DiscoveryHeader::read_from_bytes(&whole).unwrap().numrec.get() as usize;
    whole = part(0, (count as u32 + 1) * 1024).unwrap();
    let end = whole.len() as u64;
    whole.resize(whole.len() + 8192, 0);
    for offset in [0, 4, 1020, 1024, 1028, 2044, 3072, end - 4, end] {
        for len in [4, 1020, 1024, 1028, 4096] {
            let expected = &whole[offset as usize..][..len as usize];
            assert!(part(offset, len).unwrap() == expected, "{len} at {offset}");
        }
    }
    let past = part(end + 4, 4);
    assert!(past.is_err_and(|status| status.is(Status::INVALID_FIELD)));
}
