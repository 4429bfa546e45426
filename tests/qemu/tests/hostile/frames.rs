//! Frames that no network stack would send, thrown at the card of an image that is in use.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use basalt_qemu_tests::BasaltGuest;
use basalt_qemu_tests::initiator::{Initiator, PATIENCE, Random, pattern};
use tempfile::TempDir;

use crate::siege::{GUEST_PORTS, Siege};

const SEED: u64 = 0x00f2_a3e5;
/// What QEMU gives to the first card.
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const BROADCAST: [u8; 6] = [0xff; 6];
/// What QEMU's DHCP server gives.
const IMAGE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const IPV4: u16 = 0x0800;
const SYN: u8 = 0x02;

/// Puts frames on the wire to the image's card, past QEMU's own network, which would choke on them.
struct Thrower {
    stream: UnixStream,
    thrown: u32,
    _directory: TempDir,
}

impl Thrower {
    fn throw(&mut self, frame: &[u8]) {
        let length = (frame.len() as u32).to_be_bytes();
        self.stream.write_all(&length).and_then(|()| self.stream.write_all(frame)).unwrap();
        self.thrown += 1;
        if self.thrown.is_multiple_of(32) {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// An image that the test can throw frames at.
fn begin() -> (Siege, Thrower) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("frames");
    let (machine, ports) = BasaltGuest::new("basalt").user_network_ports(GUEST_PORTS);
    let machine = machine
        .qemu_arg("-chardev")
        .qemu_arg(&format!("socket,id=frames,path={},server=on,wait=off", path.display()))
        .qemu_arg("-object")
        .qemu_arg("filter-redirector,id=thrower,netdev=net0,queue=tx,indev=frames");
    let siege = Siege::begin_on(machine, ports);
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    (siege, Thrower { stream, thrown: 0, _directory: directory })
}

fn frame(destination: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let source = [0x02, 0, 0, 0, 0, 0x66];
    [&destination[..], &source, &kind.to_be_bytes(), payload].concat()
}

fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}

fn ipv4(source: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    (header[8], header[9]) = (64, protocol);
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&IMAGE.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    [&header[..], payload].concat()
}

fn tcp(source: Ipv4Addr, ports: (u16, u16), flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = [0; 20];
    header[..2].copy_from_slice(&ports.0.to_be_bytes());
    header[2..4].copy_from_slice(&ports.1.to_be_bytes());
    header[4..8].copy_from_slice(&0x0101_0101_u32.to_be_bytes());
    (header[12], header[13]) = (((5 + options.len() / 4) << 4) as u8, flags);
    header[14..16].copy_from_slice(&4096_u16.to_be_bytes());
    let mut segment = [&header[..], options, data].concat();
    let length = (segment.len() as u16).to_be_bytes();
    let sum = checksum(&[&source.octets(), &IMAGE.octets(), &[0, 6], &length, &segment]);
    segment[16..18].copy_from_slice(&sum);
    ipv4(source, 6, &segment)
}

/// Somebody in the image's network other than QEMU's own hosts.
fn stranger(random: &mut Random) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 2, 32 + random.below(200) as u8)
}

#[test]
fn frames_of_noise_change_nothing() {
    let (siege, mut thrower) = begin();
    let mut random = Random::new(SEED);
    for count in 0..2000 {
        let to = if random.below(4) == 0 { BROADCAST } else { MAC };
        let kind = [IPV4, 0x0806, 0x86dd, 0x8100, random.number() as u16][random.below(5)];
        let noise = pattern(SEED + count, random.below(1500));
        thrower.throw(&frame(to, kind, &noise));
        let protocol = [1, 2, 6, 17, random.number() as u8][random.below(5)];
        thrower.throw(&frame(to, IPV4, &ipv4(stranger(&mut random), protocol, &noise)));
    }
    // QEMU stops a card that is given a frame of no bytes at all.
    for len in [1, 13, 14, 15, 33, 34, 53, 54, 1514, 1515, 2048, 9000, 60_000] {
        let mut bytes = frame(MAC, IPV4, &tcp(stranger(&mut random), (9, 4420), SYN, &[], &[]));
        bytes.resize(len, 0x5a);
        thrower.throw(&bytes);
    }
    siege.end();
}

#[test]
fn segments_that_lie_change_nothing() {
    let (siege, mut thrower) = begin();
    let mut random = Random::new(SEED);
    for _ in 0..3000 {
        let port = [4420, 8009, 5260, 1234, random.number() as u16][random.below(5)];
        let (options, data) = (4 * random.below(11), random.below(300));
        let (options, data) = (pattern(random.number(), options), pattern(random.number(), data));
        let ports = (random.number() as u16, port);
        let flags = random.number() as u8;
        let mut packet = tcp(stranger(&mut random), ports, flags, &options, &data);
        // Behind the addresses: lengths, fragments and header sizes that do not match.
        if random.below(2) == 0 {
            let at = [0, 2, 3, 6, 7, 8, 32, 33][random.below(8)];
            packet[at] = random.number() as u8;
            packet[10..12].fill(0);
            let sum = checksum(&[&packet[..20]]);
            packet[10..12].copy_from_slice(&sum);
        }
        thrower.throw(&frame(MAC, IPV4, &packet));
    }
    // From the image to itself.
    for port in [4420, 5260] {
        thrower.throw(&frame(MAC, IPV4, &tcp(IMAGE, (port, port), SYN, &[], &[])));
    }
    siege.end();
}

#[test]
fn a_flood_of_requests_for_connections_that_nobody_completes_is_survived() {
    let (siege, mut thrower) = begin();
    let mut random = Random::new(SEED);
    for _ in 0..4000 {
        let ports = (random.number() as u16 | 1, GUEST_PORTS[random.below(3)]);
        let source = stranger(&mut random);
        thrower.throw(&frame(MAC, IPV4, &tcp(source, ports, SYN, &[], &[])));
    }
    // Half-made connections are given up after ten seconds; then there is room again.
    thread::sleep(Duration::from_secs(12));
    drop(Initiator::connect(siege.nvmf).unwrap());
    siege.end();
}
