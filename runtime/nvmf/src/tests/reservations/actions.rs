//! What the commands do to registrations and to the reservation.

use alloc::vec;

use basalt_nvme_spec::reservation::ReservationType;
use basalt_nvme_spec::{Command, NvmOpcode, SglDescriptor, Status};
use zerocopy::IntoBytes;

use super::*;

const CONFLICT: Status = Status::RESERVATION_CONFLICT;
const WRITE_EXCLUSIVE: ReservationType = ReservationType::WRITE_EXCLUSIVE;
const REGISTRANTS: ReservationType = ReservationType::WRITE_EXCLUSIVE_REGISTRANTS;
const ALL: ReservationType = ReservationType::EXCLUSIVE_ACCESS_ALL;

#[test]
fn a_host_registers_replaces_its_key_and_unregisters() {
    let mut bench = Bench::new(1);
    assert!(bench.register(0, UNREGISTER, 0, 0).is(CONFLICT), "not registered");
    assert!(bench.register(0, REPLACE, 0, 5).is(CONFLICT));
    assert!(bench.register(0, REGISTER, 0, 0).is(Status::INVALID_FIELD), "no key");
    assert!(bench.register(0, REGISTER, 77, 5).is_success(), "the old key does not matter");
    assert!(bench.register(0, REGISTER, 0, 5).is_success(), "the same again");
    assert!(bench.register(0, REGISTER, 5, 6).is(CONFLICT), "that is for Replace");
    assert!(bench.register(0, REGISTER | IEKEY, 5, 6).is(CONFLICT));
    assert!(bench.register(0, REPLACE, 4, 6).is(CONFLICT), "not its key");
    assert!(bench.register(0, REPLACE, 5, 0).is(Status::INVALID_FIELD));
    assert!(bench.register(0, REPLACE, 5, 6).is_success());
    assert!(bench.register(0, REPLACE | IEKEY, 1, 7).is_success());
    let (_, entries) = bench.report(0);
    assert_eq!((entries.len(), entries[0].key.get()), (1, 7));
    assert!(bench.register(0, UNREGISTER, 6, 0).is(CONFLICT));
    assert!(bench.register(0, UNREGISTER, 7, 0).is_success());
    assert!(bench.register(0, UNREGISTER | IEKEY, 0, 0).is(CONFLICT), "no more registered");
    assert!(bench.register(0, REPLACE | IEKEY, 0, 8).is_success(), "registers, too");
    assert!(bench.register(0, UNREGISTER | IEKEY, 0, 0).is_success());
    assert_eq!(bench.state(), (vec![], vec![], 0, 7), "as often as it succeeded");
}

#[test]
fn one_registration_is_for_all_controllers_of_a_host_and_outlives_them() {
    let mut bench = Bench::new(2);
    bench.registered(&[0]);
    assert!(bench.acquire(0, ACQUIRE, ReservationType::EXCLUSIVE_ACCESS, 0).is_success());
    let hostid = bench.peers[0].hostid;
    let twin = bench.join(hostid, 1);
    assert!(bench.write(twin).is_success());
    for peer in [0, twin] {
        bench.peers[peer].admin.hang_up(&bench.world);
    }
    bench.world.rounds(50);
    assert!(bench.read(1).is(CONFLICT), "held by a host that is not there");
    assert_eq!(bench.world.target.controllers().len(), 1);
    let back = bench.join(hostid, 0);
    assert!(bench.write(back).is_success());
    let (status, entries) = bench.report(back);
    assert_eq!((status.registered.get(), status.kind, entries[0].status), (1, 2, 1));
    assert_eq!(entries[0].cntlid.get(), 0xffff);
}

#[test]
fn a_host_without_an_identifier_has_no_reservations() {
    let mut bench = Bench::new(1);
    let nobody = bench.join([0; 16], 1);
    let refused = bench.register(nobody, REGISTER, 0, 5);
    assert!(refused.is(Status::HOST_ID_NOT_INITIALIZED), "{refused}");
    let mut report = Command::nvm(NvmOpcode::RESERVATION_REPORT, 1);
    report.cdw10 = 15.into();
    report.cdw11 = 1.into();
    let (refused, _) = bench.peers[nobody].io.fetch(&mut bench.world, report, 64);
    assert!(refused.status().is(Status::HOST_ID_NOT_INITIALIZED));
    bench.registered(&[0]);
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    assert!(bench.write(nobody).is(CONFLICT));
    assert!(bench.read(nobody).is_success());
}

#[test]
fn there_is_one_reservation_at_a_time() {
    let mut bench = Bench::new(3);
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is(CONFLICT), "not registered");
    bench.registered(&[0, 1]);
    assert!(bench.register(0, REPLACE, key(0), 5).is_success());
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is(CONFLICT), "not its key");
    assert!(bench.register(0, REPLACE, 5, key(0)).is_success());
    assert!(bench.acquire(0, ACQUIRE | IEKEY, WRITE_EXCLUSIVE, 0).is(Status::INVALID_FIELD));
    for unknown in [ReservationType(0), ReservationType(7), ReservationType(0x81)] {
        assert!(bench.acquire(0, ACQUIRE, unknown, 0).is(Status::INVALID_FIELD));
    }
    assert!(bench.acquire(0, 3, WRITE_EXCLUSIVE, 0).is(Status::INVALID_FIELD), "no such action");
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success(), "has it already");
    assert!(bench.acquire(0, ACQUIRE, ALL, 0).is(CONFLICT), "of another type");
    assert!(bench.acquire(1, ACQUIRE, WRITE_EXCLUSIVE, 0).is(CONFLICT));
    assert_eq!(bench.state(), (vec![0, 1], vec![0], 1, 4), "acquiring does not count");
    assert!(bench.release(0, RELEASE, WRITE_EXCLUSIVE).is_success());
    assert!(bench.acquire(1, ACQUIRE, ALL, 0).is_success());
    assert!(bench.acquire(0, ACQUIRE, ALL, 0).is_success(), "all registrants hold it");
    assert_eq!(bench.state(), (vec![0, 1], vec![0, 1], 6, 4));
}

#[test]
fn only_a_holder_releases_and_says_what() {
    let mut bench = Bench::new(2);
    assert!(bench.release(0, RELEASE, WRITE_EXCLUSIVE).is(CONFLICT), "not registered");
    bench.registered(&[0, 1]);
    assert!(bench.release(0, RELEASE, WRITE_EXCLUSIVE).is_success(), "nothing to release");
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    assert!(bench.release(0, RELEASE, REGISTRANTS).is(Status::INVALID_FIELD));
    assert!(bench.release(0, RELEASE | IEKEY, WRITE_EXCLUSIVE).is(Status::INVALID_FIELD));
    assert!(bench.release(0, 2, WRITE_EXCLUSIVE).is(Status::INVALID_FIELD), "no such action");
    assert!(bench.release(1, RELEASE, WRITE_EXCLUSIVE).is_success(), "and does nothing");
    assert_eq!(bench.state(), (vec![0, 1], vec![0], 1, 2));
    assert!(bench.release(0, RELEASE, WRITE_EXCLUSIVE).is_success());
    assert_eq!(bench.state(), (vec![0, 1], vec![], 0, 2));
    assert!(bench.acquire(0, ACQUIRE, ALL, 0).is_success());
    assert!(bench.release(1, RELEASE, ALL).is_success(), "every registrant is a holder");
    assert_eq!(bench.state(), (vec![0, 1], vec![], 0, 2));
}

#[test]
fn a_reservation_ends_with_the_registration_of_its_last_holder() {
    for kind in TYPES {
        let mut bench = Bench::new(3);
        bench.registered(&[0, 1]);
        assert!(bench.acquire(0, ACQUIRE, kind, 0).is_success());
        assert!(bench.register(0, UNREGISTER, key(0), 0).is_success());
        let left = if kind.is_held_by_all() { (vec![1], kind.0) } else { (vec![], 0) };
        assert_eq!(bench.state(), (vec![1], left.0, left.1, 3), "{kind}");
        let may = bench.write(2).is_success();
        assert_eq!(may, !kind.is_held_by_all(), "{kind}");
        assert!(bench.register(1, UNREGISTER, key(1), 0).is_success());
        assert_eq!(bench.state(), (vec![], vec![], 0, 4), "{kind}");
        assert!(bench.write(2).is_success());
    }
}

#[test]
fn clear_ends_everything() {
    let mut bench = Bench::new(3);
    bench.registered(&[0, 1]);
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    assert!(bench.release(2, CLEAR, WRITE_EXCLUSIVE).is(CONFLICT), "not registered");
    assert!(bench.release(1, CLEAR, ReservationType(0)).is_success(), "of whatever type");
    assert_eq!(bench.state(), (vec![], vec![], 0, 3));
    assert!(bench.write(2).is_success());
}

#[test]
fn the_holder_is_preempted_by_its_key() {
    for kind in [ReservationType::EXCLUSIVE_ACCESS, REGISTRANTS] {
        let mut bench = Bench::new(4);
        bench.registered(&[0, 1, 2]);
        // Others may have the same key, even who preempts.
        for peer in [1, 2] {
            assert!(bench.register(peer, REPLACE, key(peer), key(0)).is_success());
        }
        assert!(bench.acquire(0, ACQUIRE, kind, 0).is_success());
        let command = with_action(
            NvmOpcode::RESERVATION_ACQUIRE,
            PREEMPT | u32::from(WRITE_EXCLUSIVE.0) << 8,
        );
        assert!(bench.run(1, command, &keys(&[key(0), key(0)])).is_success());
        assert_eq!(bench.state(), (vec![1], vec![1], 1, 6));
        assert!(bench.write(1).is_success());
        for peer in [0, 2, 3] {
            assert!(bench.write(peer).is(CONFLICT));
            assert!(bench.read(peer).is_success());
        }
    }
}

#[test]
fn registrations_are_preempted_by_their_keys_and_the_reservation_stays() {
    let mut bench = Bench::new(4);
    bench.registered(&[0, 1, 2, 3]);
    assert!(bench.acquire(0, PREEMPT, WRITE_EXCLUSIVE, key(3)).is_success());
    assert_eq!(bench.state(), (vec![0, 1, 2], vec![], 0, 5), "there was no reservation");
    assert!(bench.acquire(0, ACQUIRE, REGISTRANTS, 0).is_success());
    assert!(bench.acquire(1, PREEMPT, WRITE_EXCLUSIVE, key(2)).is_success());
    assert_eq!(bench.state(), (vec![0, 1], vec![0], 3, 6));
    assert!(bench.write(2).is(CONFLICT), "no registrant any more");
    assert!(bench.acquire(1, PREEMPT, WRITE_EXCLUSIVE, 0).is(Status::INVALID_FIELD));
    assert!(bench.acquire(2, PREEMPT, WRITE_EXCLUSIVE, key(0)).is(CONFLICT));
    assert_eq!(bench.state(), (vec![0, 1], vec![0], 3, 6));
}

#[test]
fn a_holder_preempts_itself_to_change_the_type() {
    let mut bench = Bench::new(2);
    bench.registered(&[0, 1]);
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    assert!(bench.acquire(0, PREEMPT, REGISTRANTS, key(0)).is_success());
    assert_eq!(bench.state(), (vec![0, 1], vec![0], 3, 3));
    assert!(bench.write(1).is_success());
}

#[test]
fn a_reservation_of_all_registrants_is_preempted_by_no_key() {
    let mut bench = Bench::new(3);
    bench.registered(&[0, 1, 2]);
    assert!(bench.acquire(0, ACQUIRE, ALL, 0).is_success());
    assert!(bench.acquire(0, PREEMPT, ALL, 999).is(CONFLICT), "nobody's key");
    assert!(bench.acquire(0, PREEMPT, ALL, key(2)).is_success());
    assert_eq!(bench.state(), (vec![0, 1], vec![0, 1], 6, 4));
    assert!(bench.acquire(1, PREEMPT, WRITE_EXCLUSIVE, 0).is_success());
    assert_eq!(bench.state(), (vec![1], vec![1], 1, 5));
    assert!(bench.read(0).is_success());
    assert!(bench.write(0).is(CONFLICT));
}

#[test]
fn the_last_registrant_takes_a_reservation_of_all_along_when_it_preempts_itself() {
    let mut bench = Bench::new(2);
    bench.registered(&[0]);
    assert!(bench.acquire(0, ACQUIRE, ALL, 0).is_success());
    assert!(bench.acquire(0, PREEMPT, ALL, key(0)).is_success());
    assert_eq!(bench.state(), (vec![], vec![], 0, 2));
    assert!(bench.write(1).is_success());
}

#[test]
fn a_report_is_as_long_as_asked_for_and_counts_all_registrants() {
    let mut bench = Bench::with(1, 20);
    bench.registered(&(0..20).collect::<Vec<_>>());
    assert!(bench.acquire(3, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    let (status, entries) = bench.report(0);
    assert_eq!((status.registered.get(), status.ptpls, entries.len()), (20, 0, 20));
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!(entry.hostid, [number as u8 + 1; 16]);
        assert_eq!((entry.key.get(), entry.status), (key(number), u8::from(number == 3)));
    }
    let whole = [status.as_bytes(), entries.as_bytes()].concat();
    let mut report = Command::nvm(NvmOpcode::RESERVATION_REPORT, 1);
    report.cdw11 = 1.into();
    for len in [4, 64, 128, 100 * 64, 8192] {
        report.cdw10 = (len / 4 - 1).into();
        let (done, bytes) = bench.peers[5].io.fetch(&mut bench.world, report, len);
        assert!(done.status().is_success());
        let mut expected = whole.clone();
        expected.resize(len as usize, 0);
        assert!(bytes == expected, "{len} bytes");
    }
}

#[test]
fn what_is_not_as_it_should_be_is_refused() {
    let mut bench = Bench::new(1);
    let io = &mut bench.peers[0].io;
    let mut report = Command::nvm(NvmOpcode::RESERVATION_REPORT, 1);
    report.cdw10 = 15.into();
    let (refused, _) = io.fetch(&mut bench.world, report, 64);
    assert!(refused.status().is(Status::HOST_ID_INCONSISTENT), "64-bit identifiers");
    report.cdw11 = 1.into();
    let (refused, _) = io.fetch(&mut bench.world, report, 60);
    assert!(refused.status().is(Status::SGL_LENGTH_INVALID));
    report.cdw10 = u32::MAX.into();
    let (refused, _) = io.fetch(&mut bench.world, report, 64);
    assert!(refused.status().is(Status::INVALID_FIELD), "more than a transfer may have");
    let mut elsewhere = with_action(NvmOpcode::RESERVATION_REGISTER, REGISTER);
    for nsid in [0, 2, u32::MAX] {
        elsewhere.nsid = nsid.into();
        assert!(bench.run(0, elsewhere, &[0; 16]).is(Status::INVALID_NAMESPACE));
    }
    let short = with_action(NvmOpcode::RESERVATION_REGISTER, REGISTER);
    assert!(bench.run(0, short, &[1; 8]).is(Status::SGL_LENGTH_INVALID));
    let persistent = REGISTER | 3 << 30;
    assert!(bench.register(0, persistent, 0, 5).is(Status::INVALID_FIELD), "nothing is kept");
    assert!(bench.register(0, REGISTER | 1 << 30, 0, 5).is(Status::INVALID_FIELD), "reserved");
    assert!(bench.register(0, 5, 0, 5).is(Status::INVALID_FIELD), "no such action");
    assert_eq!(bench.state(), (vec![], vec![], 0, 0));
    assert!(bench.register(0, REGISTER | 2 << 30, 0, 5).is_success(), "lost, as all is");
    let mut by_transfer = with_action(NvmOpcode::RESERVATION_REGISTER, UNREGISTER);
    by_transfer.set_sgl1(SglDescriptor::transport(16));
    let io = &mut bench.peers[0].io;
    let (done, _) = io.run(&mut bench.world, by_transfer, &[], &keys(&[5, 0]));
    assert!(done.status().is_success(), "keys may come when asked for");
}
