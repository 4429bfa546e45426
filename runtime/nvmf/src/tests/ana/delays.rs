//! Hosts that are told how long to wait before they try again.

use super::*;
use crate::behavior::{Delays, HostBehavior, LEN};

const CURRENT: u32 = 0;
const DEFAULT: u32 = 1;
const CAPABILITIES: u32 = 3;

/// Set Features of Host Behavior Support with `acre` in as many bytes.
fn say(world: &mut World, admin: &mut Host, acre: u8, len: usize) -> Status {
    let mut data = [0; LEN];
    data[0] = acre;
    let mut set = Command::set_features(FeatureId::HOST_BEHAVIOR, 0);
    set.set_sgl1(SglDescriptor::in_capsule(0, len as u32));
    admin.run(world, set, &data[..len], &[]).0.status()
}

fn said(world: &mut World, admin: &mut Host, select: u32) -> (u32, Vec<u8>) {
    let mut get = Command::get_features(FeatureId::HOST_BEHAVIOR, 0);
    get.cdw10 = (get.cdw10.get() | select << 8).into();
    let (done, data) = admin.fetch(world, get, LEN as u32);
    assert!(done.status().is_success(), "{:?}", done.status());
    (done.dw0.get(), data)
}

/// Types, codes and delays of what ends a read of namespace 1 in these states.
fn told(world: &mut World, io: &mut Host) -> Vec<(Status, u8)> {
    let states = [AnaState::Inaccessible, AnaState::Change, AnaState::PersistentLoss];
    let tell = |ana| {
        set(world, 4421, ana, Some(1));
        let status = read(world, io, 1);
        (status.with_crd(0), status.crd())
    };
    // What is lost stays so, which is why it is last.
    states.map(tell).to_vec()
}

#[test]
fn the_delays_are_told_to_controllers_that_have_namespaces() {
    let (mut world, _) = world();
    let (mut before, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    assert_eq!(identify(&mut world, &mut before).crdt.map(|time| time.get()), [0; 3]);
    world.target.set_crdt([5, 60, 700]);
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    assert_eq!(identify(&mut world, &mut admin).crdt.map(|time| time.get()), [5, 60, 700]);
    let (_, bytes) = admin.fetch(&mut world, Command::identify(Cns::CONTROLLER, 0), 4096);
    assert_eq!(bytes[128..134], [5, 0, 60, 0, 700_u16 as u8, (700_u16 >> 8) as u8]);
    let (mut discovery, _) = Host::admin(&mut world, crate::DISCOVERY_NQN, 4420);
    assert_eq!(identify(&mut world, &mut discovery).crdt.map(|time| time.get()), [0; 3]);
    assert!(say(&mut world, &mut discovery, 1, LEN).is(Status::INVALID_FIELD));
}

#[test]
fn what_a_host_says_of_itself_is_kept_until_its_controller_is_reset() {
    let (mut world, _) = world();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let (mut other, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    assert_eq!(said(&mut world, &mut admin, CURRENT), (0, [0; LEN].to_vec()));
    assert!(say(&mut world, &mut admin, 1, LEN).is_success());
    let mut expected = [0; LEN];
    expected[0] = 1;
    assert_eq!(said(&mut world, &mut admin, CURRENT), (0, expected.to_vec()));
    assert_eq!(said(&mut world, &mut admin, DEFAULT), (0, [0; LEN].to_vec()));
    assert_eq!(said(&mut world, &mut admin, CAPABILITIES).0, 0b100, "changeable, not saved");
    assert_eq!(said(&mut world, &mut other, CURRENT).1[0], 0, "each controller has its own");

    assert_eq!(say(&mut world, &mut admin, 2, LEN), Status::INVALID_FIELD.with_dnr());
    let short = Status::SGL_LENGTH_INVALID.with_dnr();
    assert_eq!(say(&mut world, &mut admin, 0, LEN - 1), short);
    let nothing = Command::set_features(FeatureId::HOST_BEHAVIOR, 1);
    assert_eq!(admin.run(&mut world, nothing, &[], &[]).0.status(), short);
    let get = Command::get_features(FeatureId::HOST_BEHAVIOR, 0);
    assert_eq!(admin.fetch(&mut world, get, LEN as u32 - 1).0.status(), short);
    assert_eq!(said(&mut world, &mut admin, CURRENT).1[0], 1, "what is refused changes nothing");

    for cc in [Cc::DISABLED, Cc::enabled(Cc::CSS_NVM)] {
        assert!(admin.property_set(&mut world, registers::CC, cc.0.into()).status().is_success());
    }
    assert_eq!(said(&mut world, &mut admin, CURRENT).1[0], 0);
}

#[test]
fn a_host_that_retries_as_it_is_told_is_told_a_delay() {
    const RETRIED: [Status; 3] =
        [Status::ANA_INACCESSIBLE, Status::ANA_TRANSITION, Status::ANA_PERSISTENT_LOSS];
    for (crdt, acre, delay) in [(5, 1, 1), (5, 0, 0), (0, 1, 0)] {
        let (mut world, _) = world();
        world.target.set_crdt([crdt, 7, 7]);
        let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4421);
        let (other, other_cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4421);
        // The queue is there first, and on another core.
        let mut io = admin.join(&mut world, 1, cntlid);
        let mut quiet = other.join(&mut world, 1, other_cntlid);
        assert!(say(&mut world, &mut admin, acre, LEN).is_success());
        let delays = [delay, delay, 0];
        let expected: Vec<_> = RETRIED.into_iter().zip(delays).collect();
        assert_eq!(told(&mut world, &mut io), expected);
        assert_eq!(read(&mut world, &mut quiet, 1), RETRIED[2]);
        set(&mut world, 4421, AnaState::Inaccessible, Some(2));
        assert_eq!(read(&mut world, &mut quiet, 2), RETRIED[0], "another host has said nothing");
        assert_eq!(read(&mut world, &mut io, 2), RETRIED[0].with_crd(delay));
        // Nor is what will never succeed to be retried, or what succeeds.
        let (done, _) = io.run(&mut world, Command::flush(9), &[], &[]);
        assert_eq!(done.status(), Status::INVALID_NAMESPACE.with_dnr());
        set(&mut world, 4421, AnaState::Optimized, Some(2));
        assert_eq!(read(&mut world, &mut io, 2), Status::SUCCESS);
    }
}

#[test]
fn only_who_retries_as_it_is_told_is_told_of_interruptions() {
    let mut data = [0; LEN];
    data[0] = 1;
    for delays in [Delays::Announced, Delays::None] {
        let crd = u8::from(delays == Delays::Announced);
        let behavior = HostBehavior::new(delays);
        let tell = |status| behavior.tell(status);
        assert_eq!(tell(Status::INTERRUPTED), Status::NAMESPACE_NOT_READY);
        assert_eq!(tell(Status::NAMESPACE_NOT_READY).crd(), 0);
        behavior.set(&data).unwrap();
        for status in [Status::INTERRUPTED, Status::NAMESPACE_NOT_READY] {
            assert_eq!(tell(status), status.with_crd(crd));
        }
        for status in [
            Status::NAMESPACE_NOT_READY.with_dnr(),
            Status::RESERVATION_CONFLICT,
            Status::ABORT_REQUESTED,
            Status::UNRECOVERED_READ,
        ] {
            assert_eq!(tell(status), status);
        }
        behavior.reset();
        assert_eq!(tell(Status::INTERRUPTED), Status::NAMESPACE_NOT_READY);
    }
}
