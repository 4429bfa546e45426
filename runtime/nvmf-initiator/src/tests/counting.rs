use core::sync::atomic::Ordering;

use basalt_bdev::IoStat;

use super::*;

/// Two paths to a drive, of which both carry Ios in turn.
fn two_paths(drive: Arc<dyn Bdev>, change: impl FnOnce(&mut RemoteOptions)) -> Two {
    let mut two = Two::new(2, 1, drive);
    two.listen(DEFAULT_NQN, 4421);
    let mut options = two.options();
    options.policy = Policy::RoundRobin { min_io: 1 };
    change(&mut options);
    two.attach(options.clone()).unwrap();
    two.attach_by(options, 4421).unwrap();
    two
}

/// What each path has carried: operations of one kind, bytes, failures.
fn carried(two: &Two, op: Op) -> Vec<Option<(u64, u64, u64)>> {
    let paths = two.remotes().path_stats("Nvme0n1").unwrap();
    let of = |stat: IoStat| (stat.op(op).ops, stat.op(op).bytes, stat.op(op).errors);
    paths.into_iter().map(|path| path.stat.map(of)).collect()
}

#[test]
fn what_goes_by_each_path_is_counted_on_every_core_if_it_is_to_be() {
    let drive = Arc::new(Disk::new(512, 8192));
    let shared = Arc::clone(&drive.shared);
    let mut two = two_paths(drive, |options| options.io_path_stat = true);
    for core in 0..2 {
        let mut channel = two.channel(core);
        for tag in 0..6 {
            channel.submit(two.read(core, 8 * tag, 8, tag)).unwrap();
            assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
        }
    }
    assert_eq!(carried(&two, Op::Read), [Some((6, 6 * 4096, 0)); 2]);
    shared.fail.store(true, Ordering::Relaxed);
    let mut channel = two.channel(1);
    channel.submit(two.read(1, 0, 1, 1)).unwrap();
    assert!(two.drain(&mut channel, 1)[0].status.is_err());
    let failed: u64 = carried(&two, Op::Read).into_iter().flatten().map(|path| path.2).sum();
    assert_eq!(failed, 1);
}

#[test]
fn a_path_that_comes_back_goes_on_counting() {
    let mut two = two_paths(disk(), |options| options.io_path_stat = true);
    let mut channel = two.channel(0);
    for tag in 0..4 {
        channel.submit(two.write(0, tag, &[1; 512], tag)).unwrap();
    }
    assert!(two.drain(&mut channel, 4).iter().all(|io| io.status == Ok(())));
    let remotes = two.remotes();
    two.wait_for(async move { remotes.reset("Nvme0", None).await }).unwrap();
    channel.submit(two.write(0, 0, &[1; 512], 9)).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
    let all: u64 = carried(&two, Op::Write).into_iter().flatten().map(|path| path.0).sum();
    assert_eq!(all, 5);
}

#[test]
fn paths_are_not_counted_unless_they_are_to_be() {
    let mut two = two_paths(disk(), |_| {});
    let mut channel = two.channel(0);
    channel.submit(two.read(0, 0, 1, 1)).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
    assert_eq!(carried(&two, Op::Read), [None, None]);
    assert_eq!(two.remotes().path_stats("Nvme0n9"), None);
}

#[test]
fn a_core_counts_what_its_connections_do() {
    let mut two = two_paths(disk(), |options| options.io_queues = 1);
    assert_eq!(HostStats::of(&two.far.core(0)), None, "it is no initiator");
    let before = HostStats::of(&two.host.core(0)).unwrap();
    let mut channel = two.channel(0);
    for tag in 0..200 {
        channel.submit(two.read(0, tag, 1, tag)).unwrap();
    }
    assert!(two.drain(&mut channel, 200).iter().all(|io| io.status == Ok(())));
    two.rounds(50);
    let after = HostStats::of(&two.host.core(0)).unwrap();
    let done = after.nvme_completions - before.nvme_completions;
    assert_eq!((done, after.submitted_requests - before.submitted_requests), (200, 200));
    assert!(after.socket_completions > before.socket_completions);
    assert!(after.idle_polls > before.idle_polls && after.polls > after.idle_polls);
    assert_eq!(after.queued_requests - before.queued_requests, 0, "there was room for all");
}

#[test]
fn ios_that_find_no_path_are_counted_as_queued() {
    let mut two = two_paths(disk(), |_| {});
    let remotes = two.remotes();
    two.wait_for(async move { remotes.disable("Nvme0", None).await }).unwrap();
    let before = HostStats::of(&two.host.core(0)).unwrap().queued_requests;
    let mut channel = two.channel(0);
    channel.submit(two.read(0, 0, 1, 1)).unwrap();
    two.rounds(50);
    let after = HostStats::of(&two.host.core(0)).unwrap().queued_requests;
    assert_eq!(after - before, 1, "once, however often it is tried");
    let remotes = two.remotes();
    two.wait_for(async move { remotes.enable("Nvme0", None).await }).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
}
