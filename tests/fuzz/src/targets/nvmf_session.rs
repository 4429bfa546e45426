//! Hosts whose PDUs are well formed and whose commands are not: any opcode, any fields, any data
//! pointer, in any order and state, on admin and I/O queues of two cores, with namespaces that go
//! and come, disks that dawdle, and connections that end. Every answer is checked against its
//! command, and each command must have one.

use std::time::Duration;

use basalt_nvme_spec::{Command, SglDescriptor};
use basalt_nvmf::pdu::Digests;
use zerocopy::{FromBytes, IntoBytes};

use crate::input::Input;
use crate::nvmf::{Host, Manners, TEMPLATES, World, natural_len};
use crate::seed::Seed;

/// Things that hosts do in a run at most.
const TURNS_MAX: usize = 96;
/// Queues at once: one of admin commands, and two of I/O.
const QUEUES: u16 = 3;
/// Commands of a queue at a time: as many as it has entries, less one.
const DEPTH: usize = 31;
/// The first template of an I/O queue.
const IO_TEMPLATES: u8 = 25;
/// Data that a capsule carries at most.
const CAPSULE_MAX: usize = 8192;

struct Session {
    world: World,
    /// By queue.
    hosts: Vec<Host>,
    /// Those that were left.
    gone: Vec<Host>,
    cntlid: u16,
    mode: u8,
}

/// Byte 0: digests (bits 0, 1), how much comes at once (3:2), how much of an answer is taken
/// (5:4). Then turns, each a byte that says what and what else that takes.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let mut session =
        Session { world: World::new(), hosts: Vec::new(), gone: Vec::new(), cntlid: 0, mode };
    session.dial();
    for stack in &session.world.stacks {
        let mut stack = stack.borrow_mut();
        stack.chunk = [usize::MAX, 5, 100, 1000][usize::from(mode >> 2 & 3)];
        stack.window = [usize::MAX, 1, 300, 9000][usize::from(mode >> 4 & 3)];
    }
    for _ in 0..TURNS_MAX {
        if input.is_empty() {
            break;
        }
        session.turn(&mut input);
        session.pump();
    }
    let Session { world, mut hosts, gone, .. } = session;
    hosts.extend(gone);
    world.end(&mut hosts);
}

impl Session {
    fn digests(&self) -> Digests {
        Digests { header: self.mode & 1 != 0, data: self.mode & 2 != 0 }
    }

    /// Connects all queues anew.
    fn dial(&mut self) {
        for host in self.hosts.drain(..) {
            host.hang_up(&self.world);
            self.gone.push(host);
        }
        self.world.machine.rounds(60);
        for qid in 0..QUEUES {
            let mut host = self.world.dial(usize::from(qid % 2), Manners::Formal);
            let digests = self.digests();
            host.greet(&mut self.world, digests, 0);
            let cntlid = if qid == 0 { 0xffff } else { self.cntlid };
            let connected = host.connect(&mut self.world, qid, cntlid);
            self.cntlid = connected.unwrap_or(self.cntlid);
            self.hosts.push(host);
        }
    }

    fn pump(&mut self) {
        let all = self.hosts.iter_mut().chain(&mut self.gone);
        all.for_each(|host| host.pump(&self.world));
    }

    fn turn(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        let queue = input.below(QUEUES.into());
        match what % 16 {
            0..8 => self.submit(queue, input),
            8 => self.world.machine.rounds(input.byte().into()),
            9 => self.world.machine.pass(Duration::from_millis(40) * u32::from(input.byte())),
            10 | 11 => {
                let piece = [usize::MAX, 512, 4096, 100][input.below(4)];
                self.hosts[queue].answer_r2t(&self.world, piece, |_| {});
            }
            12 => self.answer_wrongly(queue, input),
            13 => match input.below(4) {
                0 => self.dial(),
                1 => self.hosts[queue].hang_up(&self.world),
                _ => self.world.toggle_namespace(),
            },
            14 => self.world.set_delay_us(1 << input.below(26)),
            _ => self.world.look(),
        }
    }

    fn answer_wrongly(&mut self, queue: usize, input: &mut Input<'_>) {
        let (at, value) = (input.below(28), input.byte());
        let host = &mut self.hosts[queue];
        if host.answer_r2t(&self.world, usize::MAX, |pdu| pdu[at] = value) {
            host.run_wild();
        }
    }

    fn submit(&mut self, queue: usize, input: &mut Input<'_>) {
        let mut command = TEMPLATES[input.below(TEMPLATES.len())]();
        let shape = input.byte();
        // Everything but the number, which the host gives.
        for _ in 0..shape & 3 {
            let mut bytes: [u8; 64] = zerocopy::transmute!(command);
            let at = [0, 1].into_iter().chain(4..64).nth(input.below(62)).unwrap_or(0);
            bytes[at] = input.byte();
            command = Command::read_from_bytes(bytes.as_bytes()).unwrap();
        }
        let natural = natural_len(&command, queue as u16);
        let mut carried = 0;
        match shape >> 2 & 7 {
            0 | 1 => command.set_sgl1(SglDescriptor::transport(natural)),
            2 | 3 => {
                carried = (natural as usize).min(CAPSULE_MAX);
                command.set_sgl1(SglDescriptor::in_capsule(0, carried as u32));
            }
            4 => {}
            5 => command.set_sgl1(SglDescriptor::transport(input.dword())),
            6 => {
                carried = usize::from(input.word()) % (CAPSULE_MAX + 1);
                let (offset, len) = (input.word().into(), input.word().into());
                command.set_sgl1(SglDescriptor::in_capsule(offset, len));
            }
            _ => command.dptr = input.array(),
        }
        let host = &mut self.hosts[queue];
        if host.in_flight() < DEPTH && host.greeted {
            let data = vec![shape; carried];
            host.submit(&self.world, command, &data);
        }
    }
}

/// All kinds of commands once with each kind of data pointer, and some that keep one another
/// company.
pub fn seeds() -> Vec<Seed> {
    let last = TEMPLATES.len() as u8;
    // Of each kind what else it takes: nothing, a length, a place in the capsule, 16 bytes.
    let pointers: [(u8, &[u8]); 6] = [
        (0, &[]),
        (2, &[]),
        (4, &[]),
        (5, &[0, 0, 16, 0]),
        (6, &[0, 2, 0, 1, 0, 2]),
        (7, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0x40]),
    ];
    let mut seeds = Vec::new();
    for (shape, rest) in pointers {
        for (queue, kinds) in [(0, 0..IO_TEMPLATES), (1, IO_TEMPLATES..last)] {
            let whole = kinds.fold(Seed::starting(&[0]), |seed, kind| {
                let submits = [&[0, queue, kind, shape << 2][..], rest].concat();
                seed.part(&submits).part(&[8, 0, 20]).part(&[10, queue, 0])
            });
            seeds.push(whole);
        }
    }
    let busy = (0..20).fold(Seed::starting(&[0x17]), |seed, turn: u8| {
        let (queue, kind) = (1 + turn % 2, 25 + turn % 9);
        seed.part(&[0, queue, kind, 0]).part(&[10, queue, turn]).part(&[8, 0, turn])
    });
    seeds.push(busy.clone().part(&[13, 0, 0]).part(&[15, 0]));
    seeds.push(
        Seed::starting(&[0x2b])
            .part(&[14, 0, 24])
            .part(&[0, 1, 28, 0])
            .part(&[8, 0, 50])
            .part(&[10, 1, 0])
            .part(&[8, 0, 50])
            .part(&[0, 0, 17, 0])
            .part(&[13, 0, 2])
            .part(&[9, 0, 200])
            .part(&[12, 1, 9, 200]),
    );
    let fused = |kind: u8, half: u8| [0, 1, kind, 9, 1, half];
    seeds.push(Seed::starting(&[3]).part(&fused(29, 1)).part(&fused(27, 2)).part(&[8, 0, 99]));
    seeds
}
