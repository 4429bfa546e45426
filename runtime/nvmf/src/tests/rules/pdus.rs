//! PDUs (NVMe/TCP §3.3.1, §3.4 to §3.6): a C2HTermReq with the fatal error status of §3.6.2.5.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use basalt_nvme_spec::{Command, SglDescriptor, Status};
use zerocopy::{FromBytes, IntoBytes};

use crate::DEFAULT_NQN;
use crate::pdu::FaultKind::{self, DataLimit, DataOutOfRange, InvalidHeaderField, Sequence};
use crate::pdu::wire::{self, CommonHeader, flags, kind};
use crate::pdu::{Digests, FaultKind::Unsupported};
use crate::tests::faults::{check, expect_term, header};
use crate::tests::host::{Host, ic_req};
use crate::tests::world::World;
use basalt_bdev::suite::disk::Disk;

/// What a host may send (§3.6.1).
const FROM_HOSTS: [u8; 4] = [kind::IC_REQ, kind::H2C_TERM_REQ, kind::CAPSULE_CMD, kind::H2C_DATA];

/// The ICReq with one byte changed.
fn greeting(at: usize, value: u8) -> Vec<u8> {
    let mut bytes = ic_req(Digests::default(), 0);
    bytes[at] = value;
    bytes
}

#[test]
fn a_type_that_hosts_do_not_send_is_invalid_at_any_time() {
    for unknown in (0..=u8::MAX).filter(|kind| !FROM_HOSTS.contains(kind)).step_by(3) {
        for greeted in [false, true] {
            let pdu = header(unknown, 0, 24, 0, 24);
            check(&format!("type {unknown:#x}"), greeted, &pdu, InvalidHeaderField, 0);
        }
    }
    for known in [kind::IC_RESP, kind::C2H_TERM_REQ, kind::CAPSULE_RESP, kind::C2H_DATA, kind::R2T]
    {
        check("what controllers send", true, &header(known, 0, 24, 24, 28), InvalidHeaderField, 0);
    }
}

#[test]
fn a_greeting_has_just_one_form() {
    for hlen in [0, 8, 24, 72, 255] {
        check("ICReq HLEN", false, &greeting(2, hlen), InvalidHeaderField, 2);
    }
    for plen in [0, 8, 127, 136, 0x8000_0080, u32::MAX] {
        let mut bytes = greeting(0, 0);
        bytes[4..8].copy_from_slice(&plen.to_le_bytes());
        check("ICReq PLEN", false, &bytes, InvalidHeaderField, 4);
    }
    check("ICReq PFV, high byte", false, &greeting(9, 0x80), Unsupported, 8);
    check("ICReq HPDA", false, &greeting(10, 255), InvalidHeaderField, 10);
    for kind in [kind::CAPSULE_CMD, kind::H2C_DATA] {
        let hlen = if kind == kind::CAPSULE_CMD { 72 } else { 24 };
        check("before ICReq", false, &header(kind, 0, hlen, hlen, 600), Sequence, 0);
    }
    check("ICReq again", true, &greeting(11, 3), Sequence, 0);
}

#[test]
fn a_capsule_and_data_say_where_their_parts_are() {
    let capsule = |flags, hlen, pdo, plen| header(kind::CAPSULE_CMD, flags, hlen, pdo, plen);
    let data = |flags, hlen, pdo, plen| header(kind::H2C_DATA, flags, hlen, pdo, plen);
    let cases = [
        ("capsule HLEN 0", capsule(0, 0, 0, 72), InvalidHeaderField, 2),
        ("capsule HLEN 71", capsule(0, 71, 0, 72), InvalidHeaderField, 2),
        ("capsule HLEN 73", capsule(0, 73, 0, 73), InvalidHeaderField, 2),
        ("capsule HLEN 255", capsule(0, 255, 0, 255), InvalidHeaderField, 2),
        ("capsule PLEN 0", capsule(0, 72, 0, 0), InvalidHeaderField, 4),
        ("capsule PLEN of its common header", capsule(0, 72, 0, 8), InvalidHeaderField, 4),
        ("capsule PDO 0 with data", capsule(0, 72, 0, 584), InvalidHeaderField, 3),
        ("capsule PDO 255", capsule(0, 72, 255, 584), InvalidHeaderField, 3),
        ("capsule data digest", capsule(flags::DATA_DIGEST, 72, 72, 584), InvalidHeaderField, 1),
        ("capsule without end", capsule(0, 72, 72, u32::MAX), DataLimit, 0),
        ("data HLEN 23", data(0, 23, 24, 536), InvalidHeaderField, 2),
        ("data HLEN 72", data(0, 72, 72, 584), InvalidHeaderField, 2),
        ("data PLEN 0", data(0, 24, 24, 0), InvalidHeaderField, 4),
        ("data PLEN 23", data(0, 24, 24, 23), InvalidHeaderField, 4),
        ("data PDO 0", data(0, 24, 0, 536), InvalidHeaderField, 3),
        ("data PDO inside", data(0, 24, 20, 536), InvalidHeaderField, 3),
        ("data PDO unaligned", data(0, 24, 26, 536), InvalidHeaderField, 3),
        ("data PDO beyond PLEN", data(0, 24, 32, 28), InvalidHeaderField, 3),
        ("data header digest", data(flags::HEADER_DIGEST, 24, 28, 540), InvalidHeaderField, 1),
        ("data data digest", data(flags::DATA_DIGEST, 24, 24, 540), InvalidHeaderField, 1),
        ("data over MAXH2CDATA", data(0, 24, 24, 24 + (1 << 20) + 1), DataLimit, 0),
        ("data without end", data(0, 24, 24, u32::MAX), DataLimit, 0),
        ("end HLEN", header(kind::H2C_TERM_REQ, 0, 23, 0, 24), InvalidHeaderField, 2),
        ("end PLEN 23", header(kind::H2C_TERM_REQ, 0, 24, 0, 23), InvalidHeaderField, 4),
        ("end PLEN 153", header(kind::H2C_TERM_REQ, 0, 24, 0, 153), InvalidHeaderField, 4),
    ];
    for (name, bytes, fes, fei) in cases {
        check(name, true, &bytes, fes, fei);
    }
    let mut nobodys = data(flags::LAST, 24, 24, 28);
    nobodys[16] = 4;
    check("data nobody asked for", true, &nobodys, InvalidHeaderField, 10);
}

/// A host with both digests in force whose PDU must end its connection so.
fn check_digests(name: &str, bytes: &[u8], fes: FaultKind, fei: u32) {
    std::println!("{name}");
    let mut world = World::new();
    let (mut other, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::dial(&world, 0, 4420);
    host.greet(&mut world, Digests { header: true, data: true });
    host.write(&world, bytes);
    expect_term(&mut world, &host, fes, fei, bytes);
    assert!(other.run(&mut world, Command::keep_alive(), &[], &[]).0.status().is_success());
}

#[test]
fn digests_that_were_agreed_on_are_not_left_out() {
    let both = flags::HEADER_DIGEST | flags::DATA_DIGEST;
    let capsule = |flags, pdo, plen| header(kind::CAPSULE_CMD, flags, 72, pdo, plen);
    let cases = [
        ("no header digest", capsule(0, 0, 72), 1),
        ("no header digest, but data's", capsule(flags::DATA_DIGEST, 72, 588), 1),
        ("no data digest", capsule(flags::HEADER_DIGEST, 76, 588), 1),
        ("no room for the header digest", capsule(flags::HEADER_DIGEST, 0, 75), 4),
        ("data where the header digest is", capsule(both, 72, 588), 3),
        ("no room for the data digest", capsule(both, 76, 79), 4),
        ("data without header digest", header(kind::H2C_DATA, 0, 24, 24, 28), 1),
    ];
    for (name, bytes, fei) in cases {
        check_digests(name, &bytes, InvalidHeaderField, fei);
    }
    let mut wrong = header(kind::H2C_DATA, both, 24, 28, 36);
    wrong.extend(0xdead_beef_u32.to_le_bytes());
    check_digests("wrong header digest", &wrong, FaultKind::HeaderDigest, 0xdead_beef);
}

/// A write of 8 KiB on a queue whose disk keeps what it gets, and its R2T.
struct Asked {
    world: World,
    host: Host,
    other: Host,
    r2t: wire::R2t,
}

impl Asked {
    fn new(digests: Digests) -> Self {
        let disk = Disk::new(512, 8192);
        disk.shared.hold.store(true, Ordering::Relaxed);
        let mut world = World::with(1, Arc::new(disk));
        let (other, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        let mut host = Host::io(&mut world, 0, cntlid, 1, digests);
        let mut write = Command::write(1, 0, 16);
        write.set_sgl1(SglDescriptor::transport(8192));
        host.submit(&world, write, &[]);
        let r2t = wire::R2t::read_from_bytes(&host.receive(&mut world).unwrap().header).unwrap();
        Self { world, host, other, r2t }
    }

    /// Data from `offset` on.
    fn data(&self, offset: u32, len: usize, last: bool) -> Vec<u8> {
        let header = wire::Data {
            common: CommonHeader::default(),
            cccid: self.r2t.cccid,
            ttag: self.r2t.ttag,
            datao: offset.into(),
            datal: (len as u32).into(),
            reserved: [0; 4],
        };
        let last = if last { flags::LAST } else { 0 };
        self.host.pdu(kind::H2C_DATA, last, &header.as_bytes()[8..], &alloc::vec![6; len])
    }

    fn expect(mut self, bytes: &[u8], fes: FaultKind, fei: u32) {
        self.host.write(&self.world, bytes);
        expect_term(&mut self.world, &self.host, fes, fei, bytes);
        let alive = self.other.run(&mut self.world, Command::keep_alive(), &[], &[]).0;
        assert!(alive.status().is_success());
    }
}

#[test]
fn data_that_came_already_ends_the_connection() {
    let plain = Digests::default();
    let asked = Asked::new(plain);
    let first = asked.data(0, 4096, false);
    asked.host.write(&asked.world, &first);
    asked.expect(&first, DataOutOfRange, 0);
    let asked = Asked::new(plain);
    let all = asked.data(0, 8192, true);
    asked.host.write(&asked.world, &all);
    // The disk has the transfer: its tag is nobody's.
    asked.expect(&all, InvalidHeaderField, 10);
}

#[test]
fn data_with_a_tag_that_no_r2t_gave_ends_the_connection() {
    for ttag in (0..18).chain([500, 0x7fff, 0xffff]) {
        let mut asked = Asked::new(Digests::default());
        if asked.r2t.ttag.get() != ttag {
            asked.r2t.ttag = ttag.into();
            let data = asked.data(0, 8192, true);
            asked.expect(&data, InvalidHeaderField, 10);
        }
    }
}

#[test]
fn data_that_is_damaged_fails_its_command_alone() {
    let mut asked = Asked::new(Digests { header: true, data: true });
    let mut all = asked.data(0, 8192, true);
    *all.last_mut().unwrap() ^= 0x10;
    asked.host.write(&asked.world, &all);
    let (completion, _) = asked.host.complete(&mut asked.world, &[]);
    assert!(completion.status().is(Status::TRANSIENT_TRANSPORT), "{}", completion.status());
    assert_eq!(asked.world.stats(0).faults, 0);
    let asked = Asked::new(Digests { header: true, data: false });
    let mut all = asked.data(0, 8192, true);
    all[24] ^= 1;
    let digest = u32::from_le_bytes(all[24..28].try_into().unwrap());
    asked.expect(&all, FaultKind::HeaderDigest, digest);
}

#[test]
fn a_host_that_ends_the_connection_gets_no_answer_whenever_it_does() {
    for fes in [0, 1, 6, 0xffff] {
        for greeted in [false, true] {
            let mut world = World::new();
            let mut host = Host::dial(&world, 0, 4420);
            if greeted {
                host.greet(&mut world, Digests::default());
            }
            let mut end = header(kind::H2C_TERM_REQ, 0, 24, 0, 24 + 128);
            end[8..10].copy_from_slice(&u16::to_le_bytes(fes));
            end.extend([0; 128]);
            host.write(&world, &end);
            world.rounds(40);
            assert!(host.is_closed(&world), "status {fes}");
            host.expect_silence(&mut world);
            assert_eq!((world.stats(0).connections, world.stats(0).faults), (0, 0));
        }
    }
}
