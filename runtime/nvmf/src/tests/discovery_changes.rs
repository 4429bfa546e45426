//! What hosts are told of services, and when they are told again.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use basalt_nvme_spec::log_page::{DiscoveryEntry, DiscoveryHeader};
use basalt_nvme_spec::{AsyncEvent, Command, FeatureId, LogPageId, ascii_field};
use zerocopy::FromBytes;

use super::host::{HOST_NQN, Host};
use super::world::World;
use crate::pdu::Digests;
use crate::{
    ConfigError, DEFAULT_NQN, DISCOVERY_NQN, DiscoveryFilter, HostPolicy, Listener, Referral,
    SubsystemOptions,
};

const OTHER: &str = "nqn.2014-08.org.nvmexpress:uuid:other-host";
const SECRET: &str = "nqn.2026-11.io.basalt:secret";

/// The generation of a host's log page, and its entries.
fn page(world: &mut World, host: &mut Host) -> (u64, Vec<DiscoveryEntry>) {
    let log = |offset, len| Command::get_log_page(LogPageId::DISCOVERY, 0, offset, len);
    let (_, bytes) = host.fetch(world, log(0, 1024), 1024);
    let header = DiscoveryHeader::read_from_bytes(&bytes).unwrap();
    let len = header.numrec.get() as u32 * 1024;
    let (_, bytes) = host.fetch(world, log(1024, len), len);
    let entries = bytes.chunks(1024).map(|entry| DiscoveryEntry::read_from_bytes(entry).unwrap());
    (header.genctr.get(), entries.collect())
}

/// Subtype, name, address and port of each entry.
fn found(entries: &[DiscoveryEntry]) -> Vec<(u8, String, String)> {
    let text = |field: &[u8]| String::from(ascii_field(field).unwrap());
    let name = |entry: &DiscoveryEntry| {
        let len = entry.subnqn.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(entry.subnqn[..len].to_vec()).unwrap()
    };
    let place = |entry: &DiscoveryEntry| [text(&entry.traddr), text(&entry.trsvcid)].join(":");
    entries.iter().map(|entry| (entry.subtype, name(entry), place(entry))).collect()
}

fn discover(world: &mut World, name: &'static str, port: u16) -> Host {
    Host::admin_of(world, name, DISCOVERY_NQN, port).0
}

/// Has a host hear of its log page and hold a request.
fn listen(world: &mut World, host: &mut Host) -> u16 {
    let want = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 1 << 31);
    assert!(host.run(world, want, &[], &[]).0.status().is_success());
    host.submit(world, Command::async_event_request(), &[])
}

#[test]
fn a_host_is_told_of_a_change_exactly_when_its_own_log_page_changes() {
    let mut world = World::new();
    world.target.create_subsystem(SECRET, SubsystemOptions::default()).unwrap();
    let (mut host, mut other) =
        (discover(&mut world, HOST_NQN, 8009), discover(&mut world, OTHER, 8009));
    let (before, _) = page(&mut world, &mut host);
    let (other_before, _) = page(&mut world, &mut other);
    let held = listen(&mut world, &mut host);
    let _ = listen(&mut world, &mut other);
    world.listen(SECRET, 4420);
    host.expect_silence(&mut world);
    assert_eq!(page(&mut world, &mut host).0, before, "it may not use that subsystem");
    world.target.add_host(SECRET, HOST_NQN).unwrap();
    let (event, _) = host.complete(&mut world, &[]);
    let told = AsyncEvent(event.dw0.get());
    assert_eq!((event.cid.get(), told.info(), told.log_page()), (held, 0xf0, 0x70));
    let (after, entries) = page(&mut world, &mut host);
    assert!(after > before && found(&entries).iter().any(|entry| entry.1 == SECRET));
    let held = listen(&mut world, &mut host);
    world.target.remove_host(SECRET, HOST_NQN).unwrap();
    assert_eq!(host.complete(&mut world, &[]).0.cid.get(), held);
    assert!(page(&mut world, &mut host).0 > after);
    world.target.delete_subsystem(SECRET).unwrap();
    host.expect_silence(&mut world);
    other.expect_silence(&mut world);
    assert_eq!(page(&mut world, &mut other).0, other_before);
}

#[test]
fn a_new_port_is_news_to_every_host() {
    let mut world = World::new();
    let mut host = discover(&mut world, HOST_NQN, 8009);
    let (before, _) = page(&mut world, &mut host);
    let held = listen(&mut world, &mut host);
    world.listen(DISCOVERY_NQN, 8010);
    assert_eq!(host.complete(&mut world, &[]).0.cid.get(), held);
    let (after, entries) = page(&mut world, &mut host);
    assert!(after > before);
    let services = entries.iter().filter(|entry| entry.subtype == 3);
    assert!(services.clone().all(|entry| entry.eflags.get() == 0b11));
    assert_eq!(services.count(), 3);
}

#[test]
fn referrals_are_listed_with_what_they_ask_for() {
    let mut world = World::new();
    let mut host = discover(&mut world, HOST_NQN, 8009);
    let held = listen(&mut world, &mut host);
    let at = Listener { address: [192, 0, 2, 1].into(), port: 8009 };
    for (subnqn, secure_channel) in [(DISCOVERY_NQN, false), (SECRET, true)] {
        let subnqn = subnqn.to_string();
        let referral = Referral { at, subnqn, secure_channel };
        world.target.add_referral(referral.clone()).unwrap();
        assert_eq!(world.target.add_referral(referral), Err(ConfigError::ReferralExists));
    }
    assert_eq!(host.complete(&mut world, &[]).0.cid.get(), held);
    let (before, entries) = page(&mut world, &mut host);
    let elsewhere = || String::from("192.0.2.1:8009");
    let referred: Vec<_> = found(&entries).split_off(entries.len() - 2);
    let expected =
        [(1, DISCOVERY_NQN.to_string(), elsewhere()), (2, SECRET.to_string(), elsewhere())];
    assert_eq!(referred, expected);
    let tail = &entries[entries.len() - 2..];
    assert_eq!([tail[0].treq, tail[1].treq], [2, 1]);
    assert!(tail.iter().all(|entry| entry.eflags.get() == 0 && entry.cntlid.get() == 0xffff));
    world.target.remove_referral(at, SECRET).unwrap();
    let gone = world.target.remove_referral(at, SECRET);
    assert_eq!(gone, Err(ConfigError::NoSuchReferral));
    let (after, entries) = page(&mut world, &mut host);
    assert!(after > before && found(&entries).iter().all(|entry| entry.1 != SECRET));
    assert_eq!(world.target.referrals().len(), 1);
}

#[test]
fn a_filter_shows_hosts_only_what_is_where_they_came() {
    let mut world = World::new();
    world.listen(DEFAULT_NQN, Listener { address: [192, 0, 2, 7].into(), port: 4420 });
    world.listen(DEFAULT_NQN, 4421);
    let filter = |address, port| DiscoveryFilter { address, port };
    for (filter, expected) in [
        (filter(false, false), &["10.0.0.1:4420", "192.0.2.7:4420", "10.0.0.1:4421"][..]),
        (filter(true, false), &["10.0.0.1:4420", "10.0.0.1:4421"]),
        (filter(false, true), &["10.0.0.1:4420", "192.0.2.7:4420"]),
        (filter(true, true), &["10.0.0.1:4420"]),
    ] {
        world.target.set_discovery_filter(filter);
        let mut host = discover(&mut world, HOST_NQN, 4420);
        let (_, entries) = page(&mut world, &mut host);
        let found = found(&entries);
        let nvm = found.iter().filter(|entry| entry.0 == 2).map(|entry| entry.2.as_str());
        assert_eq!(nvm.collect::<Vec<_>>(), expected, "{filter:?}");
        let service = entries.iter().find(|entry| entry.subtype == 3).unwrap();
        let is_same_everywhere = service.eflags.get() & 1 != 0;
        assert_eq!(is_same_everywhere, filter == DiscoveryFilter::default());
    }
}

#[test]
fn a_discovery_controller_lives_by_its_keep_alive_timer() {
    let mut world = World::new();
    let mut hosts = [300, 10_000].map(|kato_ms| {
        let mut host = Host::dial(&world, 0, 8009);
        host.nqn = DISCOVERY_NQN;
        host.greet(&mut world, Digests::default());
        assert!(host.try_connect(&mut world, 0, 32, 0xffff, kato_ms).status().is_success());
        host
    });
    world.pass(Duration::from_secs(2));
    assert_eq!(hosts.each_mut().map(|host| host.is_closed(&world)), [true, false]);
}

#[test]
fn hosts_that_lose_access_are_disconnected_and_others_stay() {
    let mut world = World::new();
    world.target.add_host(DEFAULT_NQN, OTHER).unwrap();
    world.target.add_host(DEFAULT_NQN, HOST_NQN).unwrap();
    let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let io = admin.join(&mut world, 0, cntlid);
    let (other, _) = Host::admin_of(&mut world, OTHER, DEFAULT_NQN, 4420);
    world.target.allow_any_host(DEFAULT_NQN, HostPolicy::Listed).unwrap();
    world.rounds(60);
    assert!([&admin, &io, &other].iter().all(|host| !host.is_closed(&world)));
    world.target.remove_host(DEFAULT_NQN, HOST_NQN).unwrap();
    world.rounds(60);
    let closed = [&admin, &io, &other].map(|host| host.is_closed(&world));
    assert_eq!(closed, [true, true, false]);
    let target = Rc::clone(&world.target);
    assert_eq!(target.controllers().len(), 1);
}
