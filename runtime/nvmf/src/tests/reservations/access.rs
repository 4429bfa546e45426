//! Who may do what in the presence of a reservation.

use alloc::vec;

use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::reservation::ReservationType;
use basalt_nvme_spec::{
    Cns, Command, CopyRange, DsmAttributes, DsmRange, IdentifyController, IdentifyNamespace,
    SglDescriptor, Status,
};
use zerocopy::{FromBytes, IntoBytes};

use super::super::world::opened;
use super::{ACQUIRE, Arc, Bench, Disk, RELEASE, TYPES};
use crate::DEFAULT_NQN;

const HOLDER: usize = 0;
const REGISTRANT: usize = 1;
const STRANGER: usize = 2;

/// Base specification 2.0 §8.19.1: may (read, write) for registrants and for strangers.
const TABLE: [[(bool, bool); 2]; 6] = [
    [(true, false), (true, false)],
    [(false, false), (false, false)],
    [(true, true), (true, false)],
    [(true, true), (false, false)],
    [(true, true), (true, false)],
    [(true, true), (false, false)],
];

/// A host of each sort, and a reservation of that type.
fn reserved(kind: ReservationType) -> Bench {
    let mut bench = Bench::new(3);
    bench.registered(&[HOLDER, REGISTRANT]);
    assert!(bench.acquire(HOLDER, ACQUIRE, kind, 0).is_success());
    bench
}

impl Bench {
    fn reads(&mut self, peer: usize) -> [Status; 3] {
        let block = self.shared.bytes.lock()[..512].to_vec();
        [
            self.read(peer),
            self.run(peer, Command::compare(1, 0, 1), &block),
            self.run(peer, Command::verify(1, 0, 1), &[]),
        ]
    }

    fn writes(&mut self, peer: usize) -> [Status; 6] {
        let range = DsmRange::new(8, 8);
        let trim = Command::dataset_management(1, 1, DsmAttributes::DEALLOCATE);
        let hint = Command::dataset_management(1, 1, DsmAttributes::INTEGRAL_READ);
        let copy = CopyRange::new(0, 1);
        [
            self.write(peer),
            self.run(peer, Command::write_zeroes(1, 1, 1), &[]),
            self.run(peer, trim, range.as_bytes()),
            self.run(peer, hint, range.as_bytes()),
            self.run(peer, Command::copy(1, 4, 1), copy.as_bytes()),
            self.run(peer, Command::flush(1), &[]),
        ]
    }

    /// Compare and Write as one; the status of each half.
    fn fused(&mut self, peer: usize) -> [Status; 2] {
        let block = self.shared.bytes.lock()[..512].to_vec();
        for (mut command, fuse) in [
            (Command::compare(1, 0, 1), Command::FUSE_FIRST),
            (Command::write(1, 0, 1), Command::FUSE_SECOND),
        ] {
            command.set_sgl1(SglDescriptor::in_capsule(0, 512));
            command.flags |= fuse;
            self.peers[peer].io.submit(&self.world, command, &block);
        }
        let mut ended = [(0, Status::SUCCESS); 2];
        for half in &mut ended {
            let (done, _) = self.peers[peer].io.complete(&mut self.world, &[]);
            *half = (done.cid.get(), done.status());
        }
        ended.sort_by_key(|(cid, _)| *cid);
        ended.map(|(_, status)| status)
    }

    fn check(&mut self, peer: usize, (may_read, may_write): (bool, bool), name: &str) {
        let expected =
            |may| if may { Status::SUCCESS } else { Status::RESERVATION_CONFLICT.with_dnr() };
        for status in self.reads(peer) {
            assert_eq!(status, expected(may_read), "{name}: host {peer} reads");
        }
        for status in self.writes(peer) {
            assert_eq!(status, expected(may_write), "{name}: host {peer} writes");
        }
        let first = if may_write { Status::SUCCESS } else { Status::FAILED_FUSED };
        assert_eq!(self.fused(peer), [first, expected(may_write)], "{name}: host {peer}");
    }
}

#[test]
fn every_command_of_every_host_ends_as_the_table_says() {
    for (kind, [registrant, stranger]) in TYPES.into_iter().zip(TABLE) {
        let mut bench = reserved(kind);
        let name = kind.name().unwrap();
        bench.check(HOLDER, (true, true), name);
        bench.check(REGISTRANT, registrant, name);
        let before = bench.shared.bytes.lock().clone();
        bench.check(STRANGER, stranger, name);
        assert!(*bench.shared.bytes.lock() == before, "{name}: nothing has changed");
        assert!(bench.release(HOLDER, RELEASE, kind).is_success());
        for peer in [HOLDER, REGISTRANT, STRANGER] {
            bench.check(peer, (true, true), "released");
        }
    }
}

#[test]
fn other_namespaces_are_nobodys() {
    let mut bench = reserved(ReservationType::EXCLUSIVE_ACCESS);
    let other = opened(Arc::new(Disk::new(512, 64)));
    let nsid = bench.world.target.add_ns(DEFAULT_NQN, other, Default::default());
    assert_eq!(nsid, Ok(2));
    bench.world.rounds(20);
    let refused = bench.write(STRANGER);
    assert!(refused.is(Status::RESERVATION_CONFLICT), "a reservation stays through changes");
    assert!(bench.run(STRANGER, Command::write(2, 0, 1), &[1; 512]).is_success());
    bench.world.target.remove_ns(DEFAULT_NQN, 1).unwrap();
    bench.world.rounds(20);
    assert!(bench.write(STRANGER).is(Status::INVALID_NAMESPACE));
}

#[test]
fn a_reservation_ends_with_its_namespace() {
    let mut bench = reserved(ReservationType::EXCLUSIVE_ACCESS);
    bench.world.target.remove_ns(DEFAULT_NQN, 1).unwrap();
    let anew = opened(Arc::new(Disk::new(512, 64)));
    let nsid = bench.world.target.add_ns(DEFAULT_NQN, anew, Default::default());
    assert_eq!(nsid, Ok(1));
    bench.world.rounds(20);
    assert!(bench.write(STRANGER).is_success());
    assert_eq!(bench.state(), (vec![], vec![], 0, 0));
}

#[test]
fn data_that_comes_late_is_refused_as_well() {
    let mut bench = Bench::new(3);
    bench.registered(&[HOLDER]);
    let mut write = Command::write(1, 0, 64);
    write.set_sgl1(SglDescriptor::transport(64 * 512));
    bench.peers[STRANGER].io.submit(&bench.world, write, &[]);
    bench.world.rounds(20);
    assert!(bench.acquire(HOLDER, ACQUIRE, ReservationType::WRITE_EXCLUSIVE, 0).is_success());
    let (done, _) = bench.peers[STRANGER].io.complete(&mut bench.world, &[3; 64 * 512]);
    assert!(done.status().is(Status::RESERVATION_CONFLICT));
    assert!(bench.shared.bytes.lock()[..512] == [0xee; 512]);
}

#[test]
fn reservations_are_announced() {
    let mut bench = Bench::new(1);
    let admin = &mut bench.peers[0].admin;
    let identify = |cns| Command::identify(cns, 1);
    let (_, bytes) = admin.fetch(&mut bench.world, identify(Cns::NAMESPACE), 4096);
    let namespace = IdentifyNamespace::read_from_bytes(&bytes).unwrap();
    assert_eq!((namespace.rescap, namespace.nmic), (0xfe, 1), "all types, lost at a restart");
    let independent = identify(Cns::NAMESPACE_INDEPENDENT);
    let (_, bytes) = admin.fetch(&mut bench.world, independent, 4096);
    assert_eq!(bytes[2], 0xfe);
    let (_, bytes) = admin.fetch(&mut bench.world, Command::identify(Cns::CONTROLLER, 0), 4096);
    let controller = IdentifyController::read_from_bytes(&bytes).unwrap();
    assert!(controller.oncs().contains(Oncs::RESERVATIONS));
    assert_eq!(controller.ctratt.get() & 1, 1, "128-bit host identifiers");
}
