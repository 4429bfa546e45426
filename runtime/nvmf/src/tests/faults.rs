use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_nvme_spec::{AdminOpcode, Command, SglDescriptor, Status};
use zerocopy::{FromBytes, IntoBytes};

use super::host::{Host, ic_req};
use super::world::World;
use crate::pdu::wire::{self, CommonHeader, flags, kind};
use crate::pdu::{Digests, FaultKind};
use crate::{DEFAULT_NQN, TransportConfig};
use basalt_bdev::suite::disk::Disk;

/// The host must get a C2HTermReq with `fes` and `fei`, a copy of the header, and then the end.
pub fn expect_term(world: &mut World, host: &Host, fes: FaultKind, fei: u32, header: &[u8]) {
    let term = loop {
        let pdu = host.receive(world).expect("no C2HTermReq");
        if pdu.common.kind == kind::C2H_TERM_REQ {
            break pdu;
        }
    };
    let request = wire::TermReq::read_from_bytes(&term.header).unwrap();
    assert_eq!((request.fes.get(), request.fei.get()), (fes as u16, fei));
    assert_eq!(term.data, header[..term.data.len()], "the header comes back");
    assert!(term.data.len() >= 8);
    world.rounds(10);
    assert!(host.is_closed(world), "then the connection is closed");
}

/// `bytes` on a fresh connection (greeted or not) must end it so; another host must not notice.
pub fn check(name: &str, greeted: bool, bytes: &[u8], fes: FaultKind, fei: u32) {
    std::println!("{name}");
    let mut world = World::new();
    let (mut other, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::dial(&world, 0, 4420);
    if greeted {
        host.greet(&mut world, Digests::default());
    }
    host.write(&world, bytes);
    expect_term(&mut world, &host, fes, fei, bytes);
    let (alive, _) = other.run(&mut world, Command::keep_alive(), &[], &[]);
    assert!(alive.status().is_success());
    assert_eq!(world.stats(0).faults, 1);
}

pub fn header(kind: u8, flags: u8, hlen: u8, pdo: u8, plen: u32) -> Vec<u8> {
    let common = CommonHeader { kind, flags, hlen, pdo, plen: plen.into() };
    let mut bytes = common.as_bytes().to_vec();
    bytes.resize(usize::from(hlen).max(8), 0);
    bytes
}

#[test]
fn malformed_headers_are_answered_with_their_field() {
    use FaultKind::{DataLimit, InvalidHeaderField, Sequence, Unsupported};
    let mut version = ic_req(Digests::default(), 0);
    version[8] = 1;
    let align = ic_req(Digests::default(), 32);
    let cases: [(&str, bool, Vec<u8>, FaultKind, u32); 17] = [
        ("unknown type", true, header(0x0a, 0, 24, 0, 24), InvalidHeaderField, 0),
        (
            "a type only controllers send",
            true,
            header(kind::R2T, 0, 24, 0, 24),
            InvalidHeaderField,
            0,
        ),
        ("unknown type first", false, header(0xff, 0, 128, 0, 128), InvalidHeaderField, 0),
        ("second ICReq", true, ic_req(Digests::default(), 0), Sequence, 0),
        ("command before ICReq", false, header(kind::CAPSULE_CMD, 0, 72, 0, 72), Sequence, 0),
        ("data before ICReq", false, header(kind::H2C_DATA, 0, 24, 24, 28), Sequence, 0),
        ("ICReq HLEN", false, header(kind::IC_REQ, 0, 127, 0, 128), InvalidHeaderField, 2),
        ("ICReq PLEN", false, header(kind::IC_REQ, 0, 128, 0, 129), InvalidHeaderField, 4),
        ("ICReq PFV", false, version, Unsupported, 8),
        ("ICReq HPDA", false, align, InvalidHeaderField, 10),
        ("capsule HLEN", true, header(kind::CAPSULE_CMD, 0, 64, 0, 72), InvalidHeaderField, 2),
        ("capsule PLEN", true, header(kind::CAPSULE_CMD, 0, 72, 0, 71), InvalidHeaderField, 4),
        (
            "capsule PDO inside",
            true,
            header(kind::CAPSULE_CMD, 0, 72, 68, 584),
            InvalidHeaderField,
            3,
        ),
        (
            "capsule PDO unaligned",
            true,
            header(kind::CAPSULE_CMD, 0, 72, 74, 584),
            InvalidHeaderField,
            3,
        ),
        (
            "capsule PDO outside",
            true,
            header(kind::CAPSULE_CMD, 0, 72, 100, 90),
            InvalidHeaderField,
            3,
        ),
        (
            "digest not negotiated",
            true,
            header(kind::CAPSULE_CMD, 1, 72, 0, 76),
            InvalidHeaderField,
            1,
        ),
        (
            "capsule data too long",
            true,
            header(kind::CAPSULE_CMD, 0, 72, 72, 72 + 8196),
            DataLimit,
            0,
        ),
    ];
    for (name, greeted, bytes, fes, fei) in cases {
        check(name, greeted, &bytes, fes, fei);
    }
    let term = header(kind::H2C_TERM_REQ, 0, 24, 0, 200);
    check("TermReq PLEN", true, &term, InvalidHeaderField, 4);
}

/// Breaks the answer to an R2T for 8 KiB in one way.
fn check_data(name: &str, fes: FaultKind, fei: u32, break_it: impl Fn(&mut wire::Data)) {
    std::println!("{name}");
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut command = Command::write(1, 0, 16);
    command.set_sgl1(SglDescriptor::transport(8192));
    host.submit(&world, command, &[]);
    let r2t = wire::R2t::read_from_bytes(&host.receive(&mut world).unwrap().header).unwrap();
    let mut data = wire::Data {
        common: CommonHeader {
            kind: kind::H2C_DATA,
            flags: flags::LAST,
            hlen: 24,
            pdo: 24,
            plen: (24 + 8192).into(),
        },
        cccid: r2t.cccid,
        ttag: r2t.ttag,
        datao: 0.into(),
        datal: 8192.into(),
        reserved: [0; 4],
    };
    break_it(&mut data);
    host.write(&world, data.as_bytes());
    expect_term(&mut world, &host, fes, fei, data.as_bytes());
    let before = world.in_use()[0];
    assert_eq!((before.0, before.2), (1, 0), "only the admin queue is left");
}

#[test]
fn data_that_does_not_fit_its_transfer_ends_the_connection() {
    use FaultKind::{DataLimit, DataOutOfRange, InvalidHeaderField};
    let resize = |data: &mut wire::Data, len: u32| {
        data.datal = len.into();
        data.common.plen = (24 + len).into();
    };
    check_data("wrong tag", InvalidHeaderField, 10, |data| data.ttag = 500.into());
    check_data("tag of nobody", InvalidHeaderField, 10, |data| {
        data.ttag = (data.ttag.get() ^ 1).into();
    });
    check_data("wrong command", InvalidHeaderField, 8, |data| data.cccid = 77.into());
    check_data("gap", DataOutOfRange, 0, |data| data.datao = 512.into());
    check_data("offset far out", DataOutOfRange, 0, |data| data.datao = u32::MAX.into());
    check_data("too long", DataOutOfRange, 0, |data| resize(data, 8196));
    check_data("over the limit", DataLimit, 0, |data| resize(data, (1 << 20) + 4));
    check_data("empty", InvalidHeaderField, 16, |data| resize(data, 0));
    check_data("length lies", InvalidHeaderField, 4, |data| data.datal = 4096.into());
    check_data("last too early", InvalidHeaderField, 1, |data| resize(data, 4096));
    check_data("last missing", InvalidHeaderField, 1, |data| data.common.flags = 0);
}

#[test]
fn more_commands_than_the_queue_holds_end_the_connection() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = Host::dial(&world, 0, 4420);
    host.greet(&mut world, Digests::default());
    assert!(host.try_connect(&mut world, 0, 2, 0xffff, 0).status().is_success());
    let cc = basalt_nvme_spec::Cc::enabled(0).0;
    assert!(host.property_set(&mut world, 0x14, cc.into()).status().is_success());
    for _ in 0..3 {
        host.submit(&world, Command::async_event_request(), &[]);
    }
    let mut copy = Command::async_event_request();
    copy.cid = host.cid.into();
    let bytes = host.pdu(kind::CAPSULE_CMD, 0, copy.as_bytes(), &[]);
    expect_term(&mut world, &host, FaultKind::Sequence, 0, &bytes);
    assert!(admin.run(&mut world, Command::keep_alive(), &[], &[]).0.status().is_success());
}

#[test]
fn a_damaged_header_ends_the_connection_and_damaged_data_only_its_command() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let digests = Digests { header: true, data: true };
    let mut host = Host::io(&mut world, 0, cntlid, 1, digests);
    let mut command = Command::write(1, 0, 1);
    command.set_sgl1(SglDescriptor::in_capsule(0, 512));
    let mut damaged = host.pdu(kind::CAPSULE_CMD, 0, command.as_bytes(), &[1; 512]);
    *damaged.last_mut().unwrap() ^= 1;
    host.write(&world, &damaged);
    let (completion, _) = host.complete(&mut world, &[]);
    assert!(completion.status().is(Status::TRANSIENT_TRANSPORT));
    let mut damaged = host.pdu(kind::CAPSULE_CMD, 0, command.as_bytes(), &[1; 512]);
    damaged[30] ^= 1;
    let digest = u32::from_le_bytes(damaged[72..76].try_into().unwrap());
    host.write(&world, &damaged);
    expect_term(&mut world, &host, FaultKind::HeaderDigest, digest, &damaged);
}

#[test]
fn a_host_may_end_the_connection_itself() {
    let mut world = World::new();
    let (host, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut term = header(kind::H2C_TERM_REQ, 0, 24, 0, 24 + 8);
    term.extend([0; 8]);
    host.write(&world, &term);
    world.rounds(40);
    assert!(host.is_closed(&world));
    assert!(world.target.controllers().is_empty());
}

/// Three hosts have `stall` outstanding as often as their queues allow and go silent; a fourth one
/// must still get a transfer of the largest size through.
fn check_stalled(stall: Command) {
    const LEN: usize = 1 << 20;
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut command = stall;
    command.set_sgl1(SglDescriptor::transport(LEN as u32));
    world.stacks[0].borrow_mut().window = 64 << 10;
    for qid in 1..4 {
        let mut stalled = Host::io(&mut world, 0, cntlid, qid, Digests::default());
        for _ in 0..15 {
            stalled.submit(&world, command, &[]);
        }
    }
    world.rounds(100);
    let mut host = Host::io(&mut world, 0, cntlid, 4, Digests::default());
    let mut read = Command::read(1, 0, (LEN / 512) as u32);
    read.set_sgl1(SglDescriptor::transport(LEN as u32));
    let (completion, data) = host.run(&mut world, read, &[], &[]);
    assert!(completion.status().is_success(), "{:?}", completion.status());
    assert_eq!(data.len(), LEN);
}

#[test]
fn hosts_that_never_read_leave_memory_for_others() {
    check_stalled(Command::read(1, 0, 2048));
}

#[test]
fn hosts_that_owe_their_data_leave_memory_for_others() {
    check_stalled(Command::write(1, 0, 2048));
}

#[test]
fn an_admin_capsule_carries_8_kib_even_where_io_capsules_carry_less() {
    let config = TransportConfig { in_capsule_len: 4096, ..TransportConfig::default() };
    let mut world = World::configured(1, config, Arc::new(Disk::new(512, 8192)));
    let (mut admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut send = Command::admin(AdminOpcode::SECURITY_SEND);
    send.set_sgl1(SglDescriptor::in_capsule(0, 8192));
    let (refused, _) = admin.run(&mut world, send, &[7; 8192], &[]);
    assert!(refused.status().is(Status::INVALID_OPCODE), "the command fails, not the connection");
    let host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let mut write = Command::write(1, 0, 16);
    write.set_sgl1(SglDescriptor::in_capsule(0, 8192));
    let capsule = host.pdu(kind::CAPSULE_CMD, 0, write.as_bytes(), &[7; 8192]);
    host.write(&world, &capsule);
    expect_term(&mut world, &host, FaultKind::DataLimit, 0, &capsule);
}
