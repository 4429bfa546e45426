//! Compare and Write as one.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use basalt_nvme_spec::{Command, IdentifyController, IoFlags, SglDescriptor, Status};
use zerocopy::FromBytes;

use super::host::Host;
use super::world::World;
use crate::pdu::Digests;
use crate::{DEFAULT_NQN, TransportConfig};
use basalt_bdev::suite::disk::{Disk, Shared};

struct Bench {
    world: World,
    shared: Arc<Shared>,
    admin: Host,
    io: Host,
}

/// The identifier and status of each command, in order of the former.
type Ended = Vec<(u16, Status)>;

impl Bench {
    fn new() -> Self {
        let disk = Disk::new(512, 8192);
        let shared = Arc::clone(&disk.shared);
        let mut world = World::configured(2, TransportConfig::default(), Arc::new(disk));
        let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let io = Host::io(&mut world, 1, cntlid, 1, Digests { header: true, data: true });
        Self { world, shared, admin, io }
    }

    /// Sends a command with its data; if that is too much for the capsule it waits for an R2T.
    fn send(&mut self, mut command: Command, fuse: u8, data: &[u8]) -> u16 {
        command.flags |= fuse;
        let (len, inside) = (data.len() as u32, data.len() <= 8192);
        let sgl =
            if inside { SglDescriptor::in_capsule(0, len) } else { SglDescriptor::transport(len) };
        command.set_sgl1(sgl);
        command.flags |= fuse;
        self.io.submit(&self.world, command, if inside { data } else { &[] })
    }

    fn compare(&mut self, lba: u64, data: &[u8]) -> u16 {
        let command = Command::compare(1, lba, (data.len() / 512) as u32);
        self.send(command, Command::FUSE_FIRST, data)
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> u16 {
        let command = Command::write(1, lba, (data.len() / 512) as u32);
        self.send(command, Command::FUSE_SECOND, data)
    }

    fn ended(&mut self, count: usize, outgoing: &[u8]) -> Ended {
        let mut ended: Ended = (0..count)
            .map(|_| {
                let (completion, _) = self.io.complete(&mut self.world, outgoing);
                let status = completion.status();
                (completion.cid.get(), Status::new(status.sct(), status.sc()))
            })
            .collect();
        ended.sort_by_key(|(cid, _)| *cid);
        ended
    }

    fn contents(&self, lba: usize, len: usize) -> Vec<u8> {
        self.shared.bytes.lock()[lba * 512..][..len].to_vec()
    }
}

#[test]
fn blocks_are_written_if_they_are_as_the_host_expects() {
    let mut bench = Bench::new();
    let page = bench.admin.fetch(
        &mut bench.world,
        Command::identify(basalt_nvme_spec::Cns::CONTROLLER, 0),
        4096,
    );
    let identify = IdentifyController::read_from_bytes(&page.1).unwrap();
    assert!(identify.compares_and_writes());
    for len in [512, 4096, 32768] {
        let (old, new, other) = (vec![0xee; len], vec![0xee; len], vec![3; len]);
        let [first, second] = [bench.compare(8, &old), bench.write(8, &new)];
        // Both halves have the same data here, as R2Ts are answered from one.
        assert_eq!(bench.ended(2, &old), [(first, Status::SUCCESS), (second, Status::SUCCESS)]);
        assert_eq!(bench.contents(8, len), new);
        let [first, second] = [bench.compare(8, &other), bench.write(8, &other)];
        let expected = [(first, Status::COMPARE_FAILURE), (second, Status::FAILED_FUSED)];
        assert_eq!(bench.ended(2, &other), expected);
        assert_eq!(bench.contents(8, len), new, "nothing was written");
    }
    let [first, second] = [bench.compare(8, &[0xee; 512]), bench.write(8, &[5; 512])];
    assert_eq!(bench.ended(2, &[]), [(first, Status::SUCCESS), (second, Status::SUCCESS)]);
    assert_eq!(bench.contents(8, 512), [5; 512]);
}

#[test]
fn a_forced_write_is_made_durable() {
    let mut bench = Bench::new();
    bench.compare(0, &[0xee; 512]);
    let mut write = Command::write(1, 0, 1);
    write.cdw12 = (write.cdw12.get() | IoFlags::FUA.bits()).into();
    bench.send(write, Command::FUSE_SECOND, &[5; 512]);
    assert!(bench.ended(2, &[]).iter().all(|(_, status)| status.is_success()));
    assert_eq!(bench.shared.flushes.load(core::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn a_half_without_the_other_is_missed() {
    let mut bench = Bench::new();
    let second = bench.write(0, &[1; 512]);
    assert_eq!(bench.ended(1, &[]), [(second, Status::MISSING_FUSED)]);
    // One that the host still owes data to is told once that has come.
    for len in [512, 32768] {
        let data = vec![0xee; len];
        let first = bench.compare(0, &data);
        let plain = bench.send(Command::write(1, 100, 1), 0, &[2; 512]);
        let expected = [(first, Status::MISSING_FUSED), (plain, Status::SUCCESS)];
        assert_eq!(bench.ended(2, &data), expected);
    }
    let [first, again] = [(); 2].map(|()| bench.compare(0, &[0xee; 512]));
    let second = bench.write(0, &[7; 512]);
    let expected =
        [(first, Status::MISSING_FUSED), (again, Status::SUCCESS), (second, Status::SUCCESS)];
    assert_eq!(bench.ended(3, &[]), expected);
    assert_eq!(bench.contents(0, 512), [7; 512]);
}

#[test]
fn halves_that_do_not_fit_each_other_both_fail() {
    let mut bench = Bench::new();
    let [first, second] = [bench.compare(0, &[0xee; 512]), bench.write(1, &[7; 512])];
    let both = [(first, Status::INVALID_FIELD), (second, Status::INVALID_FIELD)];
    assert_eq!(bench.ended(2, &[]), both, "not the same blocks");
    let [first, second] = [bench.compare(9000, &[0; 512]), bench.write(9000, &[7; 512])];
    let ended = bench.ended(2, &[]);
    assert_eq!(ended[0], (first, Status::LBA_OUT_OF_RANGE));
    assert_eq!(ended[1].0, second);
    assert!(!ended[1].1.is_success());
    let [first, second] = [bench.compare(0, &[0xee; 512]), bench.write(9000, &[7; 512])];
    let both = [(first, Status::FAILED_FUSED), (second, Status::LBA_OUT_OF_RANGE)];
    assert_eq!(bench.ended(2, &[]), both);
    let wrong = bench.send(Command::write(1, 0, 1), Command::FUSE_FIRST, &[7; 512]);
    assert_eq!(bench.ended(1, &[]), [(wrong, Status::INVALID_FIELD)]);
    assert_eq!(bench.contents(0, 512), [0xee; 512]);
    bench.io.expect_silence(&mut bench.world);
}

#[test]
fn nothing_is_left_of_halves_whose_host_goes() {
    let mut bench = Bench::new();
    let before = bench.world.in_use();
    bench.compare(0, &[0xee; 512]);
    bench.world.rounds(20);
    bench.io.hang_up(&bench.world);
    bench.world.rounds(100);
    let after = bench.world.in_use();
    assert_eq!(after[1].2, 0, "{before:?} {after:?}");
}
