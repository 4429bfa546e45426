//! Reservations, with several hosts on several cores.

mod access;
mod actions;
mod cores;
mod notices;
mod paths;

use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_nvme_spec::reservation::{RegisteredController, ReservationStatus, ReservationType};
use basalt_nvme_spec::{Command, NvmOpcode, SglDescriptor, Status};
use zerocopy::FromBytes;

use super::host::Host;
use super::world::World;
use crate::TransportConfig;
use crate::pdu::Digests;
use basalt_bdev::suite::disk::{Disk, Shared};

const TYPES: [ReservationType; 6] = [
    ReservationType::WRITE_EXCLUSIVE,
    ReservationType::EXCLUSIVE_ACCESS,
    ReservationType::WRITE_EXCLUSIVE_REGISTRANTS,
    ReservationType::EXCLUSIVE_ACCESS_REGISTRANTS,
    ReservationType::WRITE_EXCLUSIVE_ALL,
    ReservationType::EXCLUSIVE_ACCESS_ALL,
];

/// Actions of the commands: dword 10, bits 2:0.
const REGISTER: u32 = 0;
const UNREGISTER: u32 = 1;
const REPLACE: u32 = 2;
const ACQUIRE: u32 = 0;
const PREEMPT: u32 = 1;
const PREEMPT_AND_ABORT: u32 = 2;
const RELEASE: u32 = 0;
const CLEAR: u32 = 1;
/// Ignore the existing key.
const IEKEY: u32 = 1 << 3;

/// A host: its admin queue and an I/O queue.
struct Peer {
    admin: Host,
    io: Host,
    hostid: [u8; 16],
}

/// Hosts 0, 1, … of a disk, on one core after the other; the key of host `n` is `n` + 100.
struct Bench {
    world: World,
    shared: Arc<Shared>,
    peers: Vec<Peer>,
}

const fn key(peer: usize) -> u64 {
    100 + peer as u64
}

impl Bench {
    fn new(hosts: usize) -> Self {
        Self::with(2, hosts)
    }

    fn with(cores: usize, hosts: usize) -> Self {
        let disk = Disk::new(512, 8192);
        let shared = Arc::clone(&disk.shared);
        let world = World::configured(cores, TransportConfig::default(), Arc::new(disk));
        let mut bench = Self { world, shared, peers: Vec::new() };
        for number in 0..hosts {
            bench.join([number as u8 + 1; 16], number % cores);
        }
        bench
    }

    /// One more controller, with its I/O queue on `core`.
    fn join(&mut self, hostid: [u8; 16], core: usize) -> usize {
        let mut admin = Host::dial(&self.world, 0, 4420);
        admin.id = hostid;
        let cntlid = admin.enable(&mut self.world);
        let io = self.queue(hostid, core, cntlid, 1);
        self.peers.push(Peer { admin, io, hostid });
        self.peers.len() - 1
    }

    fn queue(&mut self, hostid: [u8; 16], core: usize, cntlid: u16, qid: u16) -> Host {
        let mut io = Host::dial(&self.world, core, 4420);
        io.id = hostid;
        io.greet(&mut self.world, Digests::default());
        let connected = io.try_connect(&mut self.world, qid, 16, cntlid, 0);
        assert!(connected.status().is_success(), "{:?}", connected.status());
        io
    }

    /// A command of host `peer` with data from it, all in the capsule.
    fn run(&mut self, peer: usize, mut command: Command, data: &[u8]) -> Status {
        command.set_sgl1(SglDescriptor::in_capsule(0, data.len() as u32));
        self.peers[peer].io.run(&mut self.world, command, data, &[]).0.status()
    }

    fn start(&mut self, peer: usize, mut command: Command, data: &[u8]) -> u16 {
        command.set_sgl1(SglDescriptor::in_capsule(0, data.len() as u32));
        self.peers[peer].io.submit(&self.world, command, data)
    }

    fn register(&mut self, peer: usize, cdw10: u32, old: u64, new: u64) -> Status {
        self.run(peer, with_action(NvmOpcode::RESERVATION_REGISTER, cdw10), &keys(&[old, new]))
    }

    /// Registers hosts with their keys.
    fn registered(&mut self, peers: &[usize]) {
        for &peer in peers {
            assert!(self.register(peer, REGISTER, 0, key(peer)).is_success());
        }
    }

    fn acquire(&mut self, peer: usize, action: u32, kind: ReservationType, other: u64) -> Status {
        let cdw10 = action | u32::from(kind.0) << 8;
        let command = with_action(NvmOpcode::RESERVATION_ACQUIRE, cdw10);
        self.run(peer, command, &keys(&[key(peer), other]))
    }

    fn release(&mut self, peer: usize, action: u32, kind: ReservationType) -> Status {
        let cdw10 = action | u32::from(kind.0) << 8;
        let command = with_action(NvmOpcode::RESERVATION_RELEASE, cdw10);
        self.run(peer, command, &keys(&[key(peer)]))
    }

    fn write(&mut self, peer: usize) -> Status {
        self.run(peer, Command::write(1, 0, 1), &[peer as u8; 512])
    }

    fn read(&mut self, peer: usize) -> Status {
        let world = &mut self.world;
        self.peers[peer].io.fetch(world, Command::read(1, 0, 1), 512).0.status()
    }

    /// As host `peer` sees it.
    fn report(&mut self, peer: usize) -> (ReservationStatus, Vec<RegisteredController>) {
        let mut command = Command::nvm(NvmOpcode::RESERVATION_REPORT, 1);
        command.cdw10 = (4096 / 4 - 1).into();
        command.cdw11 = 1.into();
        let (done, bytes) = self.peers[peer].io.fetch(&mut self.world, command, 4096);
        assert!(done.status().is_success(), "{:?}", done.status());
        let (status, rest) = ReservationStatus::read_from_prefix(&bytes).unwrap();
        let entries = rest.chunks_exact(64).take(usize::from(status.registered.get()));
        let read = |bytes| RegisteredController::read_from_bytes(bytes).unwrap();
        (status, entries.map(read).collect())
    }

    /// Who is registered, who holds, what, and the generation.
    fn state(&mut self) -> (Vec<usize>, Vec<usize>, u8, u32) {
        let (status, entries) = self.report(0);
        let number = |entry: &RegisteredController| usize::from(entry.hostid[0]) - 1;
        let holders = entries.iter().filter(|entry| entry.status & 1 != 0).map(number).collect();
        let registered = entries.iter().map(number).collect();
        (registered, holders, status.kind, status.generation.get())
    }
}

fn with_action(opcode: NvmOpcode, cdw10: u32) -> Command {
    Command { cdw10: cdw10.into(), ..Command::nvm(opcode, 1) }
}

fn keys(keys: &[u64]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.to_le_bytes()).collect()
}
