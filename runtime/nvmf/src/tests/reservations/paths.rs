//! Reservations of namespaces that are reached by several paths, or that not all hosts see.

use alloc::rc::Rc;
use core::sync::atomic::Ordering;

use basalt_nvme_spec::registers::{self, Cc, Csts};
use basalt_nvme_spec::reservation::ReservationNotification;
use basalt_nvme_spec::{AnaGroup, AnaHeader, FeatureId, LogPageId, NSID_ALL};

use super::*;
use crate::connection::{AdminReply, AdminRequest, ConnectionId, Source};
use crate::group::Tag;
use crate::tests::world::opened;
use crate::{
    AnaState, DEFAULT_NQN, HostPolicy, NamespaceOptions, SubsystemOptions, SubsystemReset,
};

const NEAR: u16 = 4420;
const FAR: u16 = 4421;
const NAMES: [&str; 2] = ["nqn.2026-11.io.basalt:first", "nqn.2026-11.io.basalt:second"];

/// Host 0 by either listener, and host 1 by either.
const FIRST: usize = 0;
const FIRST_FAR: usize = 1;
const SECOND: usize = 2;
const SECOND_FAR: usize = 3;

const WRITE_EXCLUSIVE: ReservationType = ReservationType::WRITE_EXCLUSIVE;
const EXCLUSIVE_ACCESS: ReservationType = ReservationType::EXCLUSIVE_ACCESS;

/// Two hosts by two listeners; namespace 1 is of ANA group 1 and seen by those whose name is added
/// to it: both.
fn bench() -> Bench {
    let mut world = World::empty(2, TransportConfig::default(), 16 << 20);
    let options = SubsystemOptions {
        ana_reporting: true,
        nssr: SubsystemReset::Supported,
        ..SubsystemOptions::default()
    };
    world.target.create_subsystem(DEFAULT_NQN, options).unwrap();
    world.target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
    let disk = Disk::new(512, 64);
    let shared = Arc::clone(&disk.shared);
    let options = NamespaceOptions { no_auto_visible: true, ..NamespaceOptions::default() };
    world.target.add_ns(DEFAULT_NQN, opened(Arc::new(disk)), options).unwrap();
    world.listen(DEFAULT_NQN, NEAR);
    world.listen(DEFAULT_NQN, FAR);
    let mut bench = Bench { world, shared, peers: Vec::new() };
    for host in [0, 1] {
        bench.show(host);
        for (core, port) in [NEAR, FAR].into_iter().enumerate() {
            bench.arrive(host, port, core);
        }
    }
    bench
}

impl Bench {
    /// One more controller of a host, by a listener.
    fn arrive(&mut self, host: usize, port: u16, core: usize) {
        let mut admin = Host::dial(&self.world, 0, port);
        (admin.name, admin.id) = (NAMES[host], [host as u8 + 1; 16]);
        let cntlid = admin.enable(&mut self.world);
        let io = admin.join(&mut self.world, core, cntlid);
        let hostid = admin.id;
        self.peers.push(Peer { admin, io, hostid });
    }

    fn show(&mut self, host: usize) {
        let target = Rc::clone(&self.world.target);
        let task = async move { target.ns_add_host(DEFAULT_NQN, 1, NAMES[host]).await };
        assert_eq!(self.world.run(task), Some(Ok(())));
    }

    fn hide(&mut self, host: usize) {
        let target = Rc::clone(&self.world.target);
        let task = async move { target.ns_remove_host(DEFAULT_NQN, 1, NAMES[host]).await };
        assert_eq!(self.world.run(task), Some(Ok(())));
    }

    fn set(&mut self, ana: AnaState) {
        let target = Rc::clone(&self.world.target);
        let task = async move { target.set_ana_state(DEFAULT_NQN, FAR.into(), ana, None).await };
        assert_eq!(self.world.run(task), Some(Ok(())));
    }

    /// How the four commands of a host end that would change nothing.
    fn commands(&mut self, peer: usize) -> [Status; 4] {
        let mut report = Command::nvm(NvmOpcode::RESERVATION_REPORT, 1);
        (report.cdw10, report.cdw11) = (15.into(), 1.into());
        let report = self.peers[peer].io.fetch(&mut self.world, report, 64).0.status();
        let register = self.register(peer, REGISTER, 0, key(peer));
        let acquire = self.acquire(peer, ACQUIRE, WRITE_EXCLUSIVE, 0);
        [report, register, acquire, self.release(peer, RELEASE, WRITE_EXCLUSIVE)]
    }

    fn waiting(&mut self, peer: usize) -> ReservationNotification {
        let log = Command::get_log_page(LogPageId::RESERVATION_NOTIFICATION, 0, 0, 64);
        let (_, bytes) = self.peers[peer].admin.fetch(&mut self.world, log, 64);
        ReservationNotification::read_from_bytes(&bytes).unwrap()
    }

    /// How a command ends that a core has let in.
    fn let_in(&mut self, peer: usize, command: Command, data: &[u8]) -> Option<Status> {
        let hosts = self.world.target.controllers().into_iter();
        let ours: Vec<_> = hosts.filter(|c| c.hostid == self.peers[peer].hostid).collect();
        let request = AdminRequest {
            connection: ConnectionId { core: basalt_env::CoreId::BOOT, slot: 999, generation: 0 },
            tag: Tag { connection: 999, slot: 0, generation: 0 },
            reached_at: None,
            from: Source::Io { cntlid: ours[peer % 2].cntlid },
            command,
            data: data.to_vec(),
            len_max: 64,
        };
        match self.world.target.handle(request) {
            AdminReply::Done(outcome, _) => Some(outcome.status),
            _ => None,
        }
    }
}

#[test]
fn a_host_reserves_by_any_path_that_reaches_the_namespace() {
    let mut bench = bench();
    bench.set(AnaState::NonOptimized);
    assert!(bench.register(FIRST, REGISTER, 0, key(FIRST_FAR)).is_success());
    assert!(bench.acquire(FIRST_FAR, ACQUIRE, EXCLUSIVE_ACCESS, 0).is_success());
    let (status, entries) = bench.report(SECOND_FAR);
    assert_eq!((status.kind, status.registered.get()), (EXCLUSIVE_ACCESS.0, 1), "one host");
    assert_eq!((entries[0].hostid, entries[0].key.get(), entries[0].status), ([1; 16], 101, 1));
    assert!([FIRST, FIRST_FAR].iter().all(|peer| bench.write(*peer).is_success()));
    for peer in [SECOND, SECOND_FAR] {
        assert!(bench.read(peer).is(Status::RESERVATION_CONFLICT));
    }
}

#[test]
fn reservation_commands_end_by_the_state_of_the_path_they_came_by() {
    let mut bench = bench();
    bench.registered(&[FIRST]);
    assert!(bench.acquire(FIRST, ACQUIRE, EXCLUSIVE_ACCESS, 0).is_success());
    let before = bench.state();
    for (ana, expected) in [
        (AnaState::Inaccessible, Status::ANA_INACCESSIBLE),
        (AnaState::Change, Status::ANA_TRANSITION),
        (AnaState::PersistentLoss, Status::ANA_PERSISTENT_LOSS),
    ] {
        bench.set(ana);
        assert_eq!(bench.commands(SECOND_FAR), [expected; 4], "{ana:?}: no DNR");
        assert_eq!(bench.write(SECOND_FAR), expected, "the path goes before the reservation");
        assert!(bench.write(SECOND).is(Status::RESERVATION_CONFLICT));
        let mask = Command { nsid: 1.into(), ..mask(2) };
        let (refused, _) = bench.peers[SECOND_FAR].admin.run(&mut bench.world, mask, &[], &[]);
        assert_eq!(refused.status(), expected);
    }
    assert_eq!(bench.state(), before, "nothing has changed");
}

fn mask(value: u32) -> Command {
    Command::set_features(FeatureId::RESERVATION_NOTIFICATION_MASK, value)
}

#[test]
fn a_path_that_opens_again_knows_of_the_reservation() {
    let mut bench = bench();
    bench.set(AnaState::Inaccessible);
    bench.registered(&[FIRST]);
    assert!(bench.acquire(FIRST, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    bench.set(AnaState::Optimized);
    assert!(bench.write(SECOND_FAR).is(Status::RESERVATION_CONFLICT));
    assert!(bench.read(SECOND_FAR).is_success() && bench.write(FIRST_FAR).is_success());
    assert!(bench.release(FIRST, RELEASE, WRITE_EXCLUSIVE).is_success());
    assert!(bench.write(SECOND_FAR).is_success());
}

#[test]
fn preempt_and_abort_reaches_commands_of_every_path() {
    let mut bench = bench();
    bench.registered(&[FIRST, SECOND]);
    bench.shared.hold.store(true, Ordering::Relaxed);
    bench.shared.aborts.store(true, Ordering::Relaxed);
    for peer in [SECOND, SECOND_FAR] {
        bench.start(peer, Command::write(1, 0, 1), &[7; 512]);
    }
    bench.world.rounds(20);
    assert!(bench.acquire(FIRST, PREEMPT_AND_ABORT, WRITE_EXCLUSIVE, key(SECOND)).is_success());
    for peer in [SECOND, SECOND_FAR] {
        let (done, _) = bench.peers[peer].io.complete(&mut bench.world, &[]);
        assert!(done.status().is(Status::ABORT_REQUESTED));
        assert_eq!(bench.waiting(peer).notice, 1, "and both controllers tell of it");
    }
}

#[test]
fn a_hidden_namespace_cannot_be_reserved_and_nothing_is_heard_of_it() {
    let mut bench = bench();
    bench.registered(&[FIRST, SECOND]);
    bench.hide(1);
    let hidden = Status::INVALID_NAMESPACE.with_dnr();
    assert_eq!(bench.commands(SECOND), [hidden; 4]);
    let of_one = Command { nsid: 1.into(), ..mask(2) };
    let (refused, _) = bench.peers[SECOND].admin.run(&mut bench.world, of_one, &[], &[]);
    assert_eq!(refused.status(), hidden);
    let of_all = Command { nsid: NSID_ALL.into(), ..mask(2) };
    let (set, _) = bench.peers[SECOND].admin.run(&mut bench.world, of_all, &[], &[]);
    assert!(set.status().is_success(), "of all that it sees: none");
    assert!(bench.acquire(FIRST, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    assert!(bench.acquire(FIRST, PREEMPT, WRITE_EXCLUSIVE, key(SECOND)).is_success());
    assert!([SECOND, SECOND_FAR].iter().all(|peer| bench.waiting(*peer).count.get() == 0));
    bench.show(1);
    assert!(bench.write(SECOND).is(Status::RESERVATION_CONFLICT), "as for any other host");
    bench.registered(&[SECOND]);
    assert!(bench.acquire(FIRST, PREEMPT, EXCLUSIVE_ACCESS, key(SECOND)).is_success());
    assert_eq!(bench.waiting(SECOND).notice, 1, "its mask was not touched");
}

#[test]
fn a_command_let_in_ends_by_what_the_control_plane_knows() {
    let mut bench = bench();
    let register = with_action(NvmOpcode::RESERVATION_REGISTER, REGISTER);
    let data = keys(&[0, 1]);
    bench.set(AnaState::Inaccessible);
    let refused = bench.let_in(FIRST_FAR, register, &data);
    assert_eq!(refused, Some(Status::ANA_INACCESSIBLE));
    bench.hide(1);
    let hidden = Status::INVALID_NAMESPACE.with_dnr();
    assert_eq!(bench.let_in(SECOND, register, &data), Some(hidden));
    assert_eq!(bench.report(FIRST).0.registered.get(), 0);
    assert_eq!(bench.let_in(FIRST, register, &data), None, "this one is under way");
    bench.world.rounds(50);
    assert_eq!(bench.report(FIRST).0.registered.get(), 1);
}

#[test]
fn reservations_and_the_states_of_paths_outlive_a_reset_of_the_subsystem() {
    let mut bench = bench();
    bench.set(AnaState::Inaccessible);
    bench.registered(&[FIRST, SECOND]);
    assert!(bench.acquire(FIRST, ACQUIRE, EXCLUSIVE_ACCESS, 0).is_success());
    assert!(bench.acquire(FIRST, PREEMPT, EXCLUSIVE_ACCESS, key(SECOND)).is_success());
    let before = bench.state();
    let nssr = u64::from(registers::NSSR_KEY);
    let Bench { world, peers, .. } = &mut bench;
    assert!(peers[SECOND].admin.property_set(world, registers::NSSR, nssr).status().is_success());
    for (peer, core) in [FIRST, FIRST_FAR, SECOND, SECOND_FAR].into_iter().zip([0, 1, 0, 1]) {
        let admin = &mut peers[peer].admin;
        let csts = admin.property_get(world, registers::CSTS, 4) as u32;
        assert_eq!(Csts::from_bits_retain(csts), Csts::SUBSYSTEM_RESET, "of either listener");
        let cc = u64::from(Cc::enabled(Cc::CSS_NVM).0);
        assert!(admin.property_set(world, registers::CC, cc).status().is_success());
        let controllers = world.target.controllers();
        peers[peer].io = peers[peer].admin.join(world, core, controllers[peer].cntlid);
    }
    assert_eq!(bench.state(), before);
    assert!(bench.read(SECOND).is(Status::RESERVATION_CONFLICT));
    assert_eq!(bench.read(FIRST_FAR), Status::ANA_INACCESSIBLE);
    assert_eq!(bench.waiting(SECOND).count.get(), 0, "logs are as at the start");
    let log = Command::get_log_page(LogPageId::ASYMMETRIC_NAMESPACE_ACCESS, 0, 0, 64);
    let (_, bytes) = bench.peers[FIRST_FAR].admin.fetch(&mut bench.world, log, 64);
    let (header, rest) = AnaHeader::read_from_prefix(&bytes).unwrap();
    let (group, _) = AnaGroup::read_from_prefix(rest).unwrap();
    assert_eq!((header.change_count.get(), group.change_count.get()), (0, 0));
    assert_eq!((group.anagrpid.get(), group.state), (1, AnaState::Inaccessible as u8));
}
