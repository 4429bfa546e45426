//! Tests of aborts, through layers that hold Ios back in their own ways.

use alloc::vec::Vec;

use super::delay::{self, Latencies};
use super::error::{self, Fault, Faults, Injection};
use super::raid::{self, Level, RaidOptions};
use super::split::{self, SplitOptions};
use super::tests::Rig;
use crate::{Access, Channel, Io, IoError, IoStatus, Op, SgList, remote_channel};

const ABORTED: IoStatus = Err(IoError::Aborted);
/// Longer than any test waits, µs.
const NEVER: u64 = 1_000_000_000;

/// A RAM disk, whose reads and writes last so long; its name is `Slow<disk>`.
fn slow(rig: &Rig, disk: &str, us: u64) -> Latencies {
    rig.add_disk(disk, 400);
    let latencies = Latencies::new([us; 4]);
    let name = alloc::format!("Slow{disk}");
    rig.create(delay::recipe(&name, disk, latencies.clone(), None));
    latencies
}

fn statuses(rig: &mut Rig, channel: &mut Channel, rounds: usize) -> Vec<(u64, IoStatus)> {
    let mut ended: Vec<_> =
        rig.finished(channel, rounds).into_iter().map(|(tag, status, _)| (tag, status)).collect();
    ended.sort_by_key(|(tag, _)| *tag);
    ended
}

#[test]
fn an_abort_reaches_what_a_layer_far_below_holds_back() {
    let mut rig = Rig::new();
    slow(&rig, "M", NEVER);
    rig.create(split::recipe("SlowM", SplitOptions { count: 2, size_mib: 0 }));
    rig.passthru("P", "SlowMp1");
    rig.create(error::recipe("P", Faults::default(), None));
    assert!(rig.cores.registry.get("EE_P").unwrap().can_abort());
    let mut channel = rig.channel("EE_P");
    for tag in 0..4 {
        channel.submit(rig.io(Op::Write, tag, 7, tag)).unwrap();
    }
    assert_eq!(statuses(&mut rig, &mut channel, 10), []);
    assert!(channel.abort(1) && channel.abort(3));
    assert!(!channel.abort(1) && !channel.abort(4), "those are on their way, or never were");
    assert_eq!(statuses(&mut rig, &mut channel, 10), [(1, ABORTED), (3, ABORTED)]);
    assert_eq!(channel.in_flight(), 2, "the others stay");
}

#[test]
fn what_was_made_to_hang_is_ended_by_an_abort() {
    let mut rig = Rig::new();
    rig.add_disk("M", 100);
    let faults = Faults::default();
    rig.create(error::recipe("M", faults.clone(), None));
    faults.inject(Op::Read, Injection { fault: Fault::Pending, count: 2, queue_depth: 0 });
    let mut channel = rig.channel("EE_M");
    for tag in [5, 6, 7] {
        channel.submit(rig.io(Op::Read, 1, 0, tag)).unwrap();
    }
    assert_eq!(statuses(&mut rig, &mut channel, 10), [(7, Ok(()))]);
    assert!(channel.abort(6));
    assert_eq!(statuses(&mut rig, &mut channel, 10), [(6, ABORTED)]);
}

#[test]
fn an_io_on_several_bases_is_aborted_on_each() {
    let mut rig = Rig::new();
    slow(&rig, "A", NEVER);
    slow(&rig, "B", NEVER);
    let bases = ["SlowA", "SlowB"].map(Into::into).to_vec();
    let options =
        RaidOptions { name: "R".into(), level: Level::Raid0, strip_size_kib: 2, bases, uuid: None };
    rig.create(raid::recipe(options));
    let mut channel = rig.channel("R");
    let wide = rig.cores.pool.alloc(16 * 512).unwrap();
    channel.submit(Io::with_data(Op::Write, 0, 16, SgList::One(wide), 1)).unwrap();
    channel.submit(rig.io(Op::Write, 40, 1, 2)).unwrap();
    channel.submit(rig.io(Op::Write, 44, 1, 3)).unwrap();
    assert_eq!(statuses(&mut rig, &mut channel, 10), []);
    assert!(channel.abort(1) && channel.abort(3));
    assert_eq!(statuses(&mut rig, &mut channel, 10), [(1, ABORTED), (3, ABORTED)]);
    assert_eq!(channel.in_flight(), 1);
}

#[test]
fn what_is_made_of_other_operations_ends_between_two_of_them() {
    let mut rig = Rig::new();
    let latencies = slow(&rig, "M", 20);
    let mut channel = rig.channel("SlowM");
    channel.submit(Io::copy(0, 100, 50, 1)).unwrap();
    channel.submit(Io::new(Op::Verify, 0, 50, 2)).unwrap();
    assert_eq!(statuses(&mut rig, &mut channel, 5), []);
    assert!(channel.abort(1));
    assert_eq!(statuses(&mut rig, &mut channel, 50), [(1, ABORTED), (2, Ok(()))]);
    // While one keeps others away, the one that waits for its turn ends at once.
    latencies.set_us(delay::Latency::AvgRead, NEVER);
    latencies.set_us(delay::Latency::P99Read, NEVER);
    for tag in [3, 4] {
        let io = rig.io(Op::Read, 0, 0, 0);
        let SgList::One(mut buf) = io.data else { panic!("one buffer") };
        let other = rig.cores.pool.alloc(512).unwrap();
        buf.as_mut_slice().fill(0);
        let data = SgList::Many([buf, other].into());
        channel.submit(Io::with_data(Op::CompareAndWrite, 0, 1, data, tag)).unwrap();
    }
    assert_eq!(statuses(&mut rig, &mut channel, 100), []);
    assert!(channel.abort(4));
    assert_eq!(statuses(&mut rig, &mut channel, 10), [(4, ABORTED)]);
    assert!(channel.abort(3));
    assert_eq!(statuses(&mut rig, &mut channel, 10), [(3, ABORTED)]);
    channel.submit(rig.io(Op::Write, 0, 1, 5)).unwrap();
    assert_eq!(statuses(&mut rig, &mut channel, 50), [(5, Ok(()))], "nobody is kept away");
}

#[test]
fn an_abort_goes_to_the_core_that_lends_its_queue() {
    let mut rig = Rig::new();
    slow(&rig, "M", NEVER);
    let disk = rig.cores.registry.open("SlowM", Access::ReadWrite).unwrap();
    let bdev = alloc::sync::Arc::clone(disk.bdev());
    let (borrower, lender) = (rig.cores.core(1), rig.cores.core(0).core());
    let mut channel = remote_channel(&borrower, lender, move |local| bdev.channel(local)).unwrap();
    for tag in [1, 2] {
        channel.submit(&mut rig.io(Op::Read, tag, 0, tag)).unwrap();
    }
    (0..10).for_each(|_| rig.cores.round());
    assert!(channel.abort(2));
    (0..10).for_each(|_| rig.cores.round());
    let mut ended = Vec::new();
    let _ = channel.poll(&mut |io| ended.push((io.tag, io.status)));
    assert_eq!(ended, [(2, ABORTED)]);
}
