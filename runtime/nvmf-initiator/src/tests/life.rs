use core::sync::atomic::Ordering;

use basalt_bdev::IoError;

use super::*;

#[test]
fn ios_outlive_a_cut_of_the_network() {
    let mut two = Two::new(2, 2, disk());
    let options = two.options();
    two.attach(options).unwrap();
    let mut channel = two.channel(1);
    two.cable.unplug();
    for at in 0..32 {
        let bytes = [at as u8 + 1; 1024];
        channel.submit(two.write(1, at * 2, &bytes, at)).unwrap();
    }
    // Longer than the target keeps a host that it does not hear of.
    two.pass(Duration::from_secs(5));
    let mut ended = 0;
    let _ = channel.poll(|_| ended += 1);
    assert_eq!(ended, 0, "nothing can have been answered");
    assert_eq!(two.remotes().list()[0].paths[0].state, PathState::Connecting);
    two.cable.plug_in();
    let written = two.drain(&mut channel, 32);
    assert!(written.iter().all(|io| io.status == Ok(())));
    for at in 0..32 {
        channel.submit(two.read(1, at * 2, 2, at)).unwrap();
    }
    for (at, io) in two.drain(&mut channel, 32).iter().enumerate() {
        let bytes = io.data.as_slice()[0].as_slice();
        assert!(bytes.iter().all(|byte| *byte == at as u8 + 1), "Io {at}");
    }
    assert_eq!(two.remotes().list()[0].paths[0].state, PathState::Live);
}

#[test]
fn an_idle_path_is_kept_alive_and_its_loss_is_noticed() {
    let mut two = Two::new(1, 1, disk());
    let options = two.options();
    two.attach(options).unwrap();
    two.pass(Duration::from_secs(6));
    assert_eq!(two.at_target().0, 2, "the target heard nothing for too long");
    two.cable.unplug();
    two.pass(Duration::from_secs(13));
    assert_eq!(two.remotes().list()[0].paths[0].state, PathState::Connecting);
    two.cable.plug_in();
    two.pass(Duration::from_secs(4));
    assert_eq!(two.remotes().list()[0].paths[0].state, PathState::Live);
}

#[test]
fn ios_fail_when_the_time_to_wait_is_over_and_work_again_later() {
    let mut two = Two::new(1, 1, disk());
    let mut options = two.options();
    options.reconnect.fast_io_fail = Some(Duration::from_secs(3));
    two.attach(options).unwrap();
    let mut channel = two.channel(0);
    two.cable.unplug();
    channel.submit(two.read(0, 0, 1, 1)).unwrap();
    let failed = two.drain(&mut channel, 1);
    assert!(matches!(failed[0].status, Err(IoError::Nvme { sct: 3, .. })), "{:?}", failed[0]);
    // Now they need not wait at all.
    let before = two.now;
    channel.submit(two.read(0, 0, 1, 2)).unwrap();
    let _ = two.drain(&mut channel, 1);
    assert!(two.now.since(before) < Duration::from_millis(10));
    two.cable.plug_in();
    two.pass(Duration::from_secs(4));
    channel.submit(two.read(0, 0, 1, 3)).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
}

#[test]
fn a_controller_that_is_away_for_too_long_goes_with_its_bdevs() {
    let mut two = Two::new(2, 1, disk());
    let mut options = two.options();
    options.reconnect.loss = Loss::After(Duration::from_secs(5));
    two.attach(options).unwrap();
    let mut channel = two.channel(1);
    two.cable.unplug();
    channel.submit(two.read(1, 0, 1, 1)).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Err(IoError::Removed));
    two.pass(Duration::from_secs(1));
    assert!(two.remotes().list().is_empty());
    assert!(two.host.registry.get("Nvme0n1").is_none());
    drop(channel);
    two.cable.plug_in();
    let options = two.options();
    assert!(two.attach(options).is_ok(), "it can be attached again");
}

#[test]
fn without_a_delay_it_is_tried_once_and_then_when_asked_to() {
    let mut two = Two::new(1, 1, disk());
    let mut options = two.options();
    options.reconnect.delay = Duration::ZERO;
    two.attach(options).unwrap();
    two.cable.unplug();
    two.pass(Duration::from_secs(20));
    assert_eq!(two.remotes().list()[0].paths[0].state, PathState::Failed);
    two.cable.plug_in();
    two.pass(Duration::from_secs(2));
    assert_eq!(two.remotes().list()[0].paths[0].state, PathState::Failed);
    let remotes = two.remotes();
    assert_eq!(two.wait_for(async move { remotes.reset("Nvme0", None).await }), Ok(()));
    assert_eq!(two.remotes().list()[0].paths[0].state, PathState::Live);
    let mut channel = two.channel(0);
    channel.submit(two.read(0, 0, 1, 1)).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
}

#[test]
fn ios_wait_for_a_disabled_controller_until_it_is_enabled() {
    let mut two = Two::new(1, 1, disk());
    let options = two.options();
    two.attach(options).unwrap();
    let cntlid = two.remotes().list()[0].paths[0].cntlid;
    assert_eq!(two.switch(Switch::Enable, None), Err(RemoteError::Path(PathError::Enabled)));
    let other = two.switch(Switch::Disable, Some(cntlid + 1));
    assert_eq!(other, Err(RemoteError::NoSuchController));
    assert_eq!(two.switch(Switch::Disable, Some(cntlid)), Ok(()));
    for again in [Switch::Disable, Switch::Reset] {
        assert_eq!(two.switch(again, None), Err(RemoteError::Path(PathError::Disabled)));
    }
    assert_eq!(two.remotes().list()[0].paths[0].state, PathState::Disabled);
    let mut channel = two.channel(0);
    channel.submit(two.read(0, 0, 1, 1)).unwrap();
    two.pass(Duration::from_secs(30));
    assert_eq!((channel.in_flight(), two.at_target()), (1, (0, 0)), "nobody connects meanwhile");
    assert_eq!(two.switch(Switch::Enable, None), Ok(()));
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
    two.switch(Switch::Disable, None).unwrap();
    drop(channel);
    assert_eq!(two.detach(), Ok(()));
    assert!(two.remotes().list().is_empty());
}

#[test]
fn namespaces_come_and_go_and_grow_as_they_do_at_the_target() {
    let mut two = Two::new(2, 1, disk());
    let options = two.options();
    two.attach(options).unwrap();
    two.add_ns(Arc::new(Disk::new(512, 4096).called("Other", [8; 16])));
    two.pass(Duration::from_millis(50));
    assert!(two.host.registry.get("Nvme0n2").is_some());
    two.far.registry.resize("Other", 9000).unwrap();
    two.pass(Duration::from_millis(50));
    let blocks = two.host.registry.get("Nvme0n2").map(|bdev| bdev.info().num_blocks.get());
    assert_eq!(blocks, Some(9000));
    let mut channel = two.open("Nvme0n2").channel(&two.host.core(1)).unwrap();
    two.far.registry.remove("Other").unwrap();
    two.pass(Duration::from_millis(50));
    assert!(two.host.registry.get("Nvme0n2").is_none());
    let refused = channel.submit(two.read(1, 0, 1, 1)).unwrap_err();
    assert_eq!(refused.reason, basalt_bdev::RejectReason::Removed);
    assert_eq!(two.remotes().list()[0].bdevs.len(), 1);
}

#[test]
fn another_path_takes_over_when_one_is_gone() {
    let mut two = Two::new(1, 1, disk());
    two.listen(DEFAULT_NQN, 4421);
    let options = two.options();
    two.attach(options.clone()).unwrap();
    two.attach_by(options, 4421).unwrap();
    assert_eq!(two.at_target().0, 4);
    let mut channel = two.channel(0);
    for at in 0..8 {
        channel.submit(two.write(0, at, &[9; 512], at)).unwrap();
    }
    let remotes = two.remotes();
    let transport = TransportId { peer: Endpoint::from((TARGET, 4420)) };
    let gone = two.wait_for(async move { remotes.detach("Nvme0", Some(transport)).await });
    assert_eq!(gone, Ok(()));
    assert!(two.drain(&mut channel, 8).iter().all(|io| io.status == Ok(())));
    channel.submit(two.read(0, 3, 1, 1)).unwrap();
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
    assert_eq!(two.remotes().list()[0].paths.len(), 1);
}

#[test]
fn both_paths_carry_ios_if_they_are_to_take_turns() {
    let drive = Arc::new(Disk::new(512, 8192));
    let shared = Arc::clone(&drive.shared);
    let mut two = Two::new(1, 1, drive);
    two.listen(DEFAULT_NQN, 4421);
    let options = two.options();
    two.attach(options.clone()).unwrap();
    two.attach_by(options, 4421).unwrap();
    let mut channel = two.channel(0);
    for (policy, expected) in [
        (Policy::ActivePassive, [0, 32]),
        (Policy::RoundRobin { min_io: 4 }, [16, 16]),
        (Policy::QueueDepth, [16, 16]),
    ] {
        let remotes = two.remotes();
        let set = two.wait_for(async move { remotes.set_policy("Nvme0n1", policy).await });
        assert_eq!(set, Ok(()));
        shared.hold.store(true, Ordering::Relaxed);
        for at in 0..32 {
            channel.submit(two.read(0, at, 1, at)).unwrap();
        }
        two.rounds(500);
        assert_eq!(under_way(&two), expected, "{policy:?}");
        shared.hold.store(false, Ordering::Relaxed);
        assert!(two.drain(&mut channel, 32).iter().all(|io| io.status == Ok(())));
    }
}

/// Commands that each of the target's I/O connections has, ascending.
fn under_way(two: &Two) -> Vec<u16> {
    let queues = two.groups.iter().flat_map(|group| group.queues());
    let io = queues.filter(|queue| queue.qid.is_some_and(|qid| qid > 0));
    let mut counts: Vec<_> = io.map(|queue| queue.in_use).collect();
    counts.sort_unstable();
    counts
}

#[test]
fn what_a_controller_does_not_answer_is_done_by_another_connection() {
    let drive = Arc::new(Disk::new(512, 8192));
    let shared = Arc::clone(&drive.shared);
    let mut two = Two::new(1, 1, drive);
    let options = RemoteOptions { io_timeout: Some(Duration::from_secs(2)), ..two.options() };
    two.attach(options).unwrap();
    let mut channel = two.channel(0);
    shared.hold.store(true, Ordering::Relaxed);
    channel.submit(two.read(0, 0, 1, 1)).unwrap();
    two.pass(Duration::from_millis(2700));
    shared.hold.store(false, Ordering::Relaxed);
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
    assert!(two.groups[0].stats().lost >= 2, "the connections were not made anew");
}

#[test]
fn ios_go_where_the_namespace_is_reached_best_and_wait_while_it_is_not() {
    use basalt_nvme_spec::AnaState::{self, Inaccessible, NonOptimized, Optimized};

    let drive = Arc::new(Disk::new(512, 8192));
    let shared = Arc::clone(&drive.shared);
    let mut two = Two::reporting_ana(drive);
    two.listen(DEFAULT_NQN, 4421);
    let set = |two: &mut Two, port: u16, ana: AnaState| {
        let (target, local) = (Rc::clone(&two.target), two.far.core(0));
        let listener = basalt_nvmf::Listener::from(port);
        let set = async move { target.set_ana_state(DEFAULT_NQN, listener, ana, None).await };
        two.wait_on(local, set).unwrap();
        two.pass(Duration::from_millis(200));
    };
    set(&mut two, 4420, NonOptimized);
    let options = two.options();
    two.attach(options.clone()).unwrap();
    two.attach_by(options, 4421).unwrap();
    let mut channel = two.channel(0);
    let mut busy_port = |two: &mut Two| {
        shared.hold.store(true, Ordering::Relaxed);
        for at in 0..8 {
            channel.submit(two.read(0, at, 1, at)).unwrap();
        }
        two.rounds(500);
        let busy = busy_ports(two);
        shared.hold.store(false, Ordering::Relaxed);
        assert!(two.drain(&mut channel, 8).iter().all(|io| io.status == Ok(())));
        busy
    };
    assert_eq!(busy_port(&mut two), [4421]);
    set(&mut two, 4421, Inaccessible);
    assert_eq!(busy_port(&mut two), [4420]);
    set(&mut two, 4421, Optimized);
    assert_eq!(busy_port(&mut two), [4421]);

    set(&mut two, 4421, Inaccessible);
    set(&mut two, 4420, Inaccessible);
    assert!(two.host.registry.get("Nvme0n1").is_some(), "it is there, if out of reach");
    channel.submit(two.read(0, 0, 1, 1)).unwrap();
    two.pass(Duration::from_secs(2));
    let mut ended = 0;
    let _ = channel.poll(|_| ended += 1);
    assert_eq!(ended, 0);
    set(&mut two, 4420, NonOptimized);
    assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()));
}

/// The ports of the target whose I/O connections have commands.
fn busy_ports(two: &Two) -> Vec<u16> {
    let queues = two.groups.iter().flat_map(|group| group.queues());
    let busy = queues.filter(|queue| queue.qid.is_some_and(|qid| qid > 0) && queue.in_use > 0);
    busy.filter_map(|queue| queue.reached_at.map(|at| at.port())).collect()
}

#[test]
fn an_io_that_is_to_be_tried_again_when_its_namespace_has_gone_ends() {
    let drive = Arc::new(Disk::new(512, 4096).called("Other", [8; 16]));
    let shared = Arc::clone(&drive.shared);
    let mut two = Two::new(1, 1, disk());
    two.add_ns(drive);
    let options = RemoteOptions { io_timeout: Some(Duration::from_secs(2)), ..two.options() };
    two.attach(options).unwrap();
    let mut channel = two.open("Nvme0n2").channel(&two.host.core(0)).unwrap();
    shared.hold.store(true, Ordering::Relaxed);
    channel.submit(two.read(0, 0, 1, 1)).unwrap();
    two.rounds(200);
    let (target, nqn) = (Rc::clone(&two.target), DEFAULT_NQN);
    target.remove_ns(nqn, 2).unwrap();
    two.pass(Duration::from_millis(100));
    assert!(two.host.registry.get("Nvme0n2").is_none());
    // The controller never answers, and the connection is given up.
    let ended = two.drain(&mut channel, 1);
    assert_eq!(ended[0].status, Err(IoError::Removed));
    shared.hold.store(false, Ordering::Relaxed);
}

#[test]
fn what_is_aborted_just_before_its_connection_ends_comes_back() {
    let mut two = Two::new(2, 1, disk());
    let options = two.options();
    two.attach(options).unwrap();
    let mut channel = two.channel(1);
    channel.submit(two.read(1, 0, 1, 7)).unwrap();
    assert!(channel.abort(7), "it was not sent yet");
    let host = basalt_nvmf_host::CoreHost::of(&two.host.core(1)).unwrap();
    host.drop_path(host.links()[0].path);
    assert_eq!(two.drain(&mut channel, 1)[0].status, Err(IoError::Aborted));
    assert_eq!(channel.in_flight(), 0);
}
