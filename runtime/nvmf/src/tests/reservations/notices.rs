//! What hosts are told.

use alloc::vec;
use alloc::vec::Vec;

use basalt_nvme_spec::reservation::{ReservationNotification, ReservationType};
use basalt_nvme_spec::{AsyncEvent, Command, FeatureId, LogPageId, NSID_ALL, Status};
use zerocopy::FromBytes;

use super::*;

const WRITE_EXCLUSIVE: ReservationType = ReservationType::WRITE_EXCLUSIVE;
const REGISTRANTS: ReservationType = ReservationType::WRITE_EXCLUSIVE_REGISTRANTS;
const ALL: ReservationType = ReservationType::WRITE_EXCLUSIVE_ALL;

const REGISTRATION_PREEMPTED: u8 = 1;
const RESERVATION_RELEASED: u8 = 2;
const RESERVATION_PREEMPTED: u8 = 3;

impl Bench {
    fn page(&mut self, peer: usize, command: Command) -> ReservationNotification {
        let (done, bytes) = self.peers[peer].admin.fetch(&mut self.world, command, 64);
        assert!(done.status().is_success());
        ReservationNotification::read_from_bytes(&bytes).unwrap()
    }

    /// The notices that wait for each host, in order.
    fn notices(&mut self) -> Vec<Vec<u8>> {
        let log = Command::get_log_page(LogPageId::RESERVATION_NOTIFICATION, 0, 0, 64);
        let mut all = Vec::new();
        for peer in 0..self.peers.len() {
            let mut found = Vec::new();
            loop {
                let page = self.page(peer, log);
                if page.count.get() == 0 {
                    assert_eq!((page.notice, page.nsid.get(), page.available), (0, 0, 0));
                    break;
                }
                assert_eq!(page.nsid.get(), 1);
                found.push(page.notice);
            }
            all.push(found);
        }
        all
    }

    fn feature(&mut self, peer: usize, command: Command) -> Result<u32, Status> {
        let (done, _) = self.peers[peer].admin.run(&mut self.world, command, &[], &[]);
        if done.status().is_success() { Ok(done.dw0.get()) } else { Err(done.status()) }
    }
}

#[test]
fn who_loses_its_registration_or_outlives_a_reservation_is_told() {
    let mut bench = Bench::new(4);
    bench.registered(&[0, 1, 2]);
    let none = || -> Vec<Vec<u8>> { vec![vec![]; 4] };
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    assert!(bench.release(0, RELEASE, WRITE_EXCLUSIVE).is_success());
    assert_eq!(bench.notices(), none(), "registrants had no part in it");
    assert!(bench.acquire(0, ACQUIRE, REGISTRANTS, 0).is_success());
    assert!(bench.release(0, RELEASE, REGISTRANTS).is_success());
    let released = vec![vec![], vec![RESERVATION_RELEASED], vec![RESERVATION_RELEASED], vec![]];
    assert_eq!(bench.notices(), released);
    assert!(bench.acquire(0, ACQUIRE, REGISTRANTS, 0).is_success());
    assert!(bench.register(0, UNREGISTER, key(0), 0).is_success());
    assert_eq!(bench.notices(), released, "by unregistering");
    bench.registered(&[0]);
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    assert!(bench.register(0, UNREGISTER, key(0), 0).is_success());
    assert_eq!(bench.notices(), none());
}

#[test]
fn who_is_preempted_is_told_and_so_are_the_others_of_a_new_type() {
    let mut bench = Bench::new(4);
    bench.registered(&[0, 1, 2]);
    assert!(bench.acquire(0, ACQUIRE, WRITE_EXCLUSIVE, 0).is_success());
    assert!(bench.acquire(1, PREEMPT, REGISTRANTS, key(0)).is_success());
    let expected = vec![vec![REGISTRATION_PREEMPTED], vec![], vec![RESERVATION_RELEASED], vec![]];
    assert_eq!(bench.notices(), expected);
    bench.registered(&[0]);
    assert!(bench.acquire(2, PREEMPT, REGISTRANTS, key(1)).is_success());
    let expected = vec![vec![], vec![REGISTRATION_PREEMPTED], vec![], vec![]];
    assert_eq!(bench.notices(), expected, "of the same type as before");
    assert!(bench.acquire(2, PREEMPT, ALL, key(0)).is_success());
    let expected = vec![vec![REGISTRATION_PREEMPTED], vec![], vec![], vec![]];
    assert_eq!(bench.notices(), expected, "the reservation is as it was");
    bench.registered(&[0, 1]);
    assert!(bench.release(0, CLEAR, ALL).is_success());
    let cleared = vec![vec![], vec![RESERVATION_PREEMPTED], vec![RESERVATION_PREEMPTED], vec![]];
    assert_eq!(bench.notices(), cleared);
}

#[test]
fn every_controller_of_a_host_is_told() {
    let mut bench = Bench::new(2);
    let twin = bench.join([2; 16], 0);
    bench.registered(&[0, 1]);
    assert!(bench.acquire(0, PREEMPT, WRITE_EXCLUSIVE, key(1)).is_success());
    let told = bench.notices();
    assert_eq!((&told[1], &told[twin]), (&vec![REGISTRATION_PREEMPTED], &told[1]));
}

#[test]
fn notices_are_counted_and_announced_by_an_event() {
    let mut bench = Bench::new(2);
    bench.registered(&[0, 1]);
    let held = bench.peers[1].admin.submit(&bench.world, Command::async_event_request(), &[]);
    for _ in 0..3 {
        assert!(bench.acquire(0, ACQUIRE, REGISTRANTS, 0).is_success());
        assert!(bench.release(0, RELEASE, REGISTRANTS).is_success());
    }
    let (event, _) = bench.peers[1].admin.complete(&mut bench.world, &[]);
    let expected = AsyncEvent::new(6, 0, LogPageId::RESERVATION_NOTIFICATION.0);
    assert_eq!((event.cid.get(), AsyncEvent(event.dw0.get())), (held, expected));
    bench.peers[1].admin.submit(&bench.world, Command::async_event_request(), &[]);
    bench.peers[1].admin.expect_silence(&mut bench.world);
    let log = Command::get_log_page(LogPageId::RESERVATION_NOTIFICATION, 0, 0, 64);
    let retaining = Command { cdw10: (log.cdw10.get() | 1 << 15).into(), ..log };
    let seen = |page: ReservationNotification| (page.count.get(), page.available);
    assert_eq!(seen(bench.page(1, retaining)), (1, 2));
    assert_eq!(seen(bench.page(1, log)), (1, 2), "was only looked at");
    assert_eq!(seen(bench.page(1, log)), (2, 1));
    assert!(bench.acquire(0, ACQUIRE, REGISTRANTS, 0).is_success());
    assert!(bench.release(0, RELEASE, REGISTRANTS).is_success());
    let (again, _) = bench.peers[1].admin.complete(&mut bench.world, &[]);
    assert_eq!(AsyncEvent(again.dw0.get()), expected, "the log was read since");
    assert_eq!(seen(bench.page(1, log)), (3, 1));
    assert_eq!(seen(bench.page(1, log)), (4, 0));
    assert_eq!(seen(bench.page(1, log)), (0, 0));
}

#[test]
fn the_log_keeps_the_latest_notices() {
    let mut bench = Bench::new(2);
    bench.registered(&[0, 1]);
    for _ in 0..300 {
        assert!(bench.acquire(0, ACQUIRE, REGISTRANTS, 0).is_success());
        assert!(bench.release(0, RELEASE, REGISTRANTS).is_success());
    }
    let log = Command::get_log_page(LogPageId::RESERVATION_NOTIFICATION, 0, 0, 64);
    let oldest = bench.page(1, log);
    assert_eq!((oldest.count.get(), oldest.available), (300 - 255, 255));
    assert_eq!(bench.notices()[1].len(), 255);
}

#[test]
fn masked_notices_are_not_made() {
    let mut bench = Bench::new(3);
    bench.registered(&[0, 1, 2]);
    let feature = FeatureId::RESERVATION_NOTIFICATION_MASK;
    let set =
        |mask, nsid: u32| Command { nsid: nsid.into(), ..Command::set_features(feature, mask) };
    assert_eq!(bench.feature(1, set(1 << RESERVATION_RELEASED, 1)), Ok(0));
    assert_eq!(bench.feature(2, set(u32::MAX, NSID_ALL)), Ok(0));
    assert_eq!(bench.feature(0, Command::get_features(feature, 1)), Ok(0));
    assert_eq!(bench.feature(1, Command::get_features(feature, 1)), Ok(0b100));
    assert_eq!(bench.feature(2, Command::get_features(feature, 1)), Ok(0b1110));
    assert!(bench.acquire(0, ACQUIRE, REGISTRANTS, 0).is_success());
    assert!(bench.release(0, RELEASE, REGISTRANTS).is_success());
    for victim in [1, 2] {
        assert!(bench.acquire(0, PREEMPT, REGISTRANTS, key(victim)).is_success());
    }
    assert_eq!(bench.notices(), [vec![], vec![REGISTRATION_PREEMPTED], vec![]]);
    for nsid in [0, 2, NSID_ALL] {
        let refused = bench.feature(1, Command::get_features(feature, nsid)).unwrap_err();
        assert!(refused.is(Status::INVALID_NAMESPACE), "{nsid}");
    }
    for nsid in [0, 2] {
        assert!(bench.feature(1, set(0, nsid)).unwrap_err().is(Status::INVALID_NAMESPACE));
    }
    let mut saved = set(0, 1);
    saved.cdw10 = (saved.cdw10.get() | 1 << 31).into();
    assert!(bench.feature(1, saved).unwrap_err().is(Status::FEATURE_NOT_SAVEABLE));
}

#[test]
fn nothing_survives_a_loss_of_power() {
    let mut bench = Bench::new(1);
    let feature = FeatureId::RESERVATION_PERSISTENCE;
    let set = |ptpl| Command { nsid: 1.into(), ..Command::set_features(feature, ptpl) };
    assert_eq!(bench.feature(0, Command::get_features(feature, 1)), Ok(0));
    assert_eq!(bench.feature(0, set(0)), Ok(0));
    assert!(bench.feature(0, set(1)).unwrap_err().is(Status::INVALID_FIELD));
    let mut asked = Command::get_features(feature, 1);
    asked.cdw10 = (asked.cdw10.get() | 3 << 8).into();
    assert_eq!(bench.feature(0, asked), Ok(0b010), "per namespace, and as it is");
}
