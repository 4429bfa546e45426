//! Bytes on a connection of the NVMe/TCP target, at any point of its life, in any pieces.

use basalt_nvme_spec::fabrics::Property;
use basalt_nvme_spec::{Cns, Command, SglDescriptor};
use basalt_nvmf::pdu::Digests;

use crate::input::Input;
use crate::nvmf::{Manners, World, capsule, connect_capsule, h2c_data, ic_req, term_req};
use crate::seed::Seed;

/// How far the connection has come before the bytes do.
const STAGES: u8 = 4;
const PLAIN: Digests = Digests { header: false, data: false };
const BOTH: Digests = Digests { header: true, data: true };

/// Byte 0: how far the connection has come (bits 1:0), header and data digests (2, 3), whether
/// digests are renewed (4). Byte 1: how much the target gets at once. Then the stream.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, chunk) = (input.byte(), input.byte());
    let digests = Digests { header: mode & 4 != 0, data: mode & 8 != 0 };
    let mut world = World::new();
    let mut admin = world.dial(0, Manners::Formal);
    admin.greet(&mut world, PLAIN, 0);
    let cntlid = admin.connect(&mut world, 0, 0xffff).expect("an admin queue");
    let mut host = world.dial(1, Manners::Formal);
    if mode % STAGES > 0 {
        host.greet(&mut world, digests, chunk % 32);
    }
    match mode % STAGES {
        2 => drop(host.connect(&mut world, 0, 0xffff)),
        3 => drop(host.connect(&mut world, 1, cntlid)),
        _ => {}
    }
    host.run_wild();
    let stream = input.rest();
    let renewed = if mode & 16 != 0 { renew(stream, digests) } else { stream.to_vec() };
    world.stacks[1].borrow_mut().chunk = [usize::MAX, 1, 7, 200][usize::from(chunk >> 6)];
    host.write(&world, &renewed);
    for _ in 0..20 {
        world.machine.rounds(50);
        host.pump(&world);
    }
    world.look();
    world.end(&mut [admin, host]);
}

/// The stream with the digests of its headers right, as far as it is made of PDUs.
fn renew(stream: &[u8], digests: Digests) -> Vec<u8> {
    let mut bytes = stream.to_vec();
    let mut at = 0;
    while digests.header && bytes.len() - at >= 8 {
        let plen = u32::from_le_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]);
        let (hlen, plen) = (usize::from(bytes[at + 2]), plen as usize);
        if plen < hlen + 4 || plen > bytes.len() - at {
            break;
        }
        let digest = basalt_nvmf::pdu::crc32c(&bytes[at..at + hlen]).to_le_bytes();
        bytes[at + hlen..at + hlen + 4].copy_from_slice(&digest);
        at += plen;
    }
    bytes
}

/// A session of each stage.
pub fn seeds() -> Vec<Seed> {
    let opening = Seed::starting(&[0, 0])
        .part(&ic_req(PLAIN, 0))
        .part(&connect_capsule(PLAIN, 0, 0xffff, 0))
        .part(&capsule(PLAIN, &Property::get(0, 8).into(), &[]));
    let mut seeds = vec![opening];
    for digests in [PLAIN, BOTH] {
        let mode = if digests == BOTH { 4 | 8 | 16 } else { 0 };
        seeds.push(
            Seed::starting(&[mode | 1, 0])
                .part(&connect_capsule(digests, 0, 0xffff, 4))
                .part(&connect_capsule(digests, 1, 1, 0)),
        );
        seeds.push(admin(digests, mode | 2));
        seeds.push(io(digests, mode | 3));
    }
    seeds
}

fn admin(digests: Digests, mode: u8) -> Seed {
    let mut identify = Command::identify(Cns::CONTROLLER, 0);
    identify.set_sgl1(SglDescriptor::transport(4096));
    let mut send = Command::admin(basalt_nvme_spec::AdminOpcode::SECURITY_SEND);
    send.set_sgl1(SglDescriptor::transport(512));
    let commands = [identify, Command::async_event_request(), Command::keep_alive(), send];
    let seed = Seed::starting(&[mode, 64]);
    let seed = numbered(&commands)
        .iter()
        .fold(seed, |seed, (command, data)| seed.part(&capsule(digests, command, data)));
    seed.part(&h2c_data(digests, 1004, 0, 0, &[5; 512])).part(&term_req(2))
}

fn io(digests: Digests, mode: u8) -> Seed {
    let mut read = Command::read(1, 0, 8);
    read.set_sgl1(SglDescriptor::transport(4096));
    let mut asked = Command::write(2, 8, 8);
    asked.set_sgl1(SglDescriptor::transport(4096));
    let mut carried = Command::write(1, 0, 1);
    carried.set_sgl1(SglDescriptor::in_capsule(0, 512));
    let mut fused = Command::compare(1, 0, 1);
    fused.set_sgl1(SglDescriptor::in_capsule(0, 512));
    fused.flags |= Command::FUSE_FIRST;
    let commands = [asked, read, carried, fused, Command::flush(1)];
    let seed = Seed::starting(&[mode, 128]);
    let seed = numbered(&commands)
        .iter()
        .fold(seed, |seed, (command, data)| seed.part(&capsule(digests, command, data)));
    // Transfer tags are numbers of slots, of which the last is taken first.
    let answers = [0, 1, 31].map(|ttag| h2c_data(digests, 1001, ttag, 0, &[7; 4096]));
    answers.iter().fold(seed, |seed, answer| seed.part(answer))
}

/// The commands with numbers, and the data they carry.
fn numbered(commands: &[Command]) -> Vec<(Command, Vec<u8>)> {
    let with_data = |(command, cid): (&Command, u16)| {
        let mut command = *command;
        command.cid = cid.into();
        let sgl = command.sgl1();
        let carried = sgl.subtype() == SglDescriptor::SUBTYPE_OFFSET;
        let len = if carried { sgl.length.get() as usize } else { 0 };
        (command, vec![3; len])
    };
    commands.iter().zip(1001..).map(with_data).collect()
}
