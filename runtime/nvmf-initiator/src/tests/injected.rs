//! Errors that are injected into commands.

use basalt_bdev::suite::disk::Shared;
use basalt_bdev::{IoError, IoStatus};
use basalt_nvme_spec::{
    AdminOpcode, ErrorChange, Fate, InjectedError, NvmOpcode, QueueKind, Status,
};

use super::*;

const READ: u8 = NvmOpcode::READ.0;
const UNREADABLE: IoStatus = Err(IoError::Nvme { sct: 2, sc: 0x81, dnr: false });

impl Two {
    fn change(&mut self, queues: QueueKind, change: ErrorChange) -> Result<(), RemoteError> {
        let remotes = self.remotes();
        self.wait_for(async move { remotes.inject("Nvme0", queues, change).await })
    }

    /// Injects the error that a block cannot be read.
    fn inject(&mut self, queues: QueueKind, opcode: u8, fate: Fate, count: u32) {
        let error = InjectedError { opcode, fate, count, status: Status::UNRECOVERED_READ };
        self.change(queues, ErrorChange::Add(error)).unwrap();
    }

    /// How so many reads end on a core.
    fn reads(&mut self, core: usize, count: u64) -> Vec<IoStatus> {
        let mut channel = self.channel(core);
        for tag in 0..count {
            channel.submit(self.read(core, tag, 1, tag)).unwrap();
        }
        let ended = self.drain(&mut channel, count as usize);
        assert_eq!(channel.in_flight(), 0);
        ended.iter().map(|io| io.status).collect()
    }
}

/// A remote drive, and what its reads leave behind.
fn attached(cores: usize) -> (Two, Arc<Shared>) {
    let drive = Arc::new(Disk::new(512, 8192));
    let shared = Arc::clone(&drive.shared);
    let mut two = Two::new(cores, 1, drive);
    let options = two.options();
    two.attach(options).unwrap();
    (two, shared)
}

fn sent(shared: &Shared) -> usize {
    shared.reads.lock().len()
}

#[test]
fn as_many_commands_of_each_core_fail_as_were_asked_for_and_no_others() {
    let (mut two, shared) = attached(2);
    two.inject(QueueKind::Io, READ, Fate::Submitted, 9);
    two.inject(QueueKind::Io, READ, Fate::Submitted, 2);
    for core in 0..2 {
        let mut channel = two.channel(core);
        channel.submit(two.write(core, 1, &[7; 512], 0)).unwrap();
        assert_eq!(two.drain(&mut channel, 1)[0].status, Ok(()), "another opcode");
        assert_eq!(two.reads(core, 3), [UNREADABLE, UNREADABLE, Ok(())]);
    }
    assert_eq!(sent(&shared), 2 * 3, "the controller got them all");
    two.inject(QueueKind::Io, READ, Fate::Submitted, 9);
    two.change(QueueKind::Io, ErrorChange::Remove(READ)).unwrap();
    assert_eq!(two.reads(0, 2), [Ok(()); 2]);
    let remotes = two.remotes();
    let other = two.wait_for(async move {
        remotes.inject("Nvme1", QueueKind::Io, ErrorChange::Remove(READ)).await
    });
    assert_eq!(other, Err(RemoteError::NoSuchController));
}

#[test]
fn what_is_held_back_never_reaches_the_controller_and_ends_in_time() {
    let (mut two, shared) = attached(1);
    let time = Duration::from_millis(20);
    two.inject(QueueKind::Io, READ, Fate::Held(time), 3);
    let mut channel = two.channel(0);
    for tag in 0..4 {
        channel.submit(two.read(0, tag, 1, tag)).unwrap();
    }
    let start = two.now;
    let first = two.drain(&mut channel, 1);
    assert_eq!((first[0].tag, first[0].status), (3, Ok(())), "there is one more than errors");
    let ended = two.drain(&mut channel, 3);
    assert!(ended.iter().all(|io| io.status == UNREADABLE));
    let took = two.now.since(start);
    assert!(took >= time && took < time + Duration::from_millis(2), "{took:?}");
    assert_eq!(sent(&shared), 1);

    let fate = Fate::Held(Duration::ZERO);
    let done = InjectedError { opcode: READ, fate, count: 1, status: Status::SUCCESS };
    two.change(QueueKind::Io, ErrorChange::Add(done)).unwrap();
    let data = two.filled(0, &[7; 512]);
    channel.submit(Io::with_data(Op::Read, 0, 1, data, 0)).unwrap();
    let ended = two.drain(&mut channel, 1);
    assert_eq!((ended[0].status, sent(&shared)), (Ok(()), 1));
    assert_eq!(ended[0].data.as_slice()[0].as_slice(), [0; 512], "it brings zeroes");
}

#[test]
fn a_new_connection_ends_what_is_held_back_and_has_no_errors() {
    let (mut two, shared) = attached(2);
    for how in 0..3 {
        two.inject(QueueKind::Io, READ, Fate::Held(Duration::MAX), 9);
        let mut channel = two.channel(1);
        for tag in 0..3 {
            channel.submit(two.read(1, tag, 1, tag)).unwrap();
        }
        two.rounds(100);
        assert_eq!(channel.in_flight(), 3);
        match how {
            0 => two.switch(Switch::Reset, None).unwrap(),
            1 => {
                two.cable.unplug();
                two.pass(Duration::from_secs(13));
                two.cable.plug_in();
                two.pass(Duration::from_secs(4));
            }
            _ => two.detach().unwrap(),
        }
        let ended = two.drain(&mut channel, 3);
        assert!(ended.iter().all(|io| io.status == Err(IoError::Aborted)), "{how}");
        assert_eq!((channel.in_flight(), sent(&shared)), (0, how.min(1)));
        if how < 1 {
            assert_eq!(two.reads(1, 1), [Ok(())]);
        }
    }
    let used = two.host.in_use();
    two.pass(Duration::from_secs(1));
    assert!(two.host.in_use() <= used);
}

#[test]
fn what_is_held_back_can_be_aborted_and_a_passing_error_is_tried_again() {
    let (mut two, shared) = attached(1);
    two.inject(QueueKind::Io, READ, Fate::Held(Duration::MAX), 2);
    let mut channel = two.channel(0);
    for tag in [4, 5] {
        channel.submit(two.read(0, 0, 1, tag)).unwrap();
    }
    two.rounds(100);
    assert!(channel.abort(5));
    let ended = two.drain(&mut channel, 1);
    assert_eq!((ended[0].tag, ended[0].status), (5, Err(IoError::Aborted)));
    assert_eq!((channel.in_flight(), sent(&shared)), (1, 0));
    let status = Status::NAMESPACE_NOT_READY;
    let error = InjectedError { opcode: READ, fate: Fate::Submitted, count: 3, status };
    two.change(QueueKind::Io, ErrorChange::Add(error)).unwrap();
    assert_eq!(two.reads(0, 1), [Ok(())]);
    assert_eq!(sent(&shared), 4);
}

#[test]
fn admin_commands_fail_too_until_the_path_is_connected_anew() {
    let (mut two, _) = attached(1);
    let connections = |two: &Two| two.groups[0].stats().accepted;
    let before = connections(&two);
    let alive = AdminOpcode::KEEP_ALIVE.0;
    two.inject(QueueKind::Io, alive, Fate::Submitted, 9);
    two.pass(Duration::from_secs(4));
    assert_eq!(connections(&two), before, "of another queue");
    for (fate, seconds) in [(Fate::Submitted, 4), (Fate::Held(Duration::MAX), 6)] {
        let before = connections(&two);
        two.inject(QueueKind::Admin, alive, fate, 9);
        two.pass(Duration::from_secs(seconds));
        assert_eq!(connections(&two), before + 2, "{fate:?}: an admin queue and an I/O queue");
        assert_eq!(two.remotes().list()[0].paths[0].state, PathState::Live);
        assert_eq!(two.reads(0, 1), [Ok(())]);
    }
}
