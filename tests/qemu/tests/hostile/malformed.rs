//! Every rule for PDUs is broken once (NVMe/TCP transport specification 1.0, §3.6); the answer is
//! a C2HTermReq with the fatal error status the rule has, and the end of the connection.

use std::time::Duration;

use basalt_qemu_tests::initiator::command::{Connect, blank};
use basalt_qemu_tests::initiator::pdu::{self, get16, get32, put16, put32};
use basalt_qemu_tests::initiator::{Queue, TRANSPORT, point};

use crate::siege::on_both;

/// Fatal error status (§3.6.2.5, FES).
const FIELD: u16 = 1;
const SEQUENCE: u16 = 2;
const HEADER_DIGEST: u16 = 3;
const OUT_OF_RANGE: u16 = 4;
const LIMIT: u16 = 5;
const UNSUPPORTED: u16 = 6;

/// How soon a connection is closed after its last words.
const SOON: Duration = Duration::from_secs(5);

/// A PDU that breaks a rule, and the status and information (FEI) expected.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    fes: u16,
    fei: u32,
}

fn case(name: &'static str, bytes: Vec<u8>, fes: u16, fei: u32) -> Case {
    Case { name, bytes, fes, fei }
}

/// The same PDU with one byte changed.
fn with(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

/// The same PDU with another length announced.
fn with_plen(mut bytes: Vec<u8>, plen: u32) -> Vec<u8> {
    put32(&mut bytes, 4, plen);
    bytes
}

fn check(queue: &mut Queue, case: &Case) {
    let name = case.name;
    queue.send(&case.bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let answer = queue.receive().unwrap_or_else(|error| panic!("{name}: {error:#}"));
    assert_eq!(answer.kind(), pdu::C2H_TERM_REQ, "{name}: {answer:?}");
    assert_eq!(get16(&answer.header, 8), case.fes, "{name}: {answer:?}");
    assert_eq!(get32(&answer.header, 10), case.fei, "{name}: {answer:?}");
    let is_quoted = !answer.data.is_empty() && case.bytes.starts_with(&answer.data);
    assert!(is_quoted, "{name}: the offending header is not in {answer:?}");
    assert!(queue.ends_within(SOON), "{name}: the connection does not end");
}

fn connect_capsule() -> Vec<u8> {
    let connect = Connect::admin();
    let mut command = connect.command();
    point(&mut command, 1024, 1);
    pdu::capsule(&command, &connect.data())
}

/// Broken in the first PDU of a connection.
fn openings() -> Vec<Case> {
    let ic = pdu::ic_req;
    vec![
        case("unknown type", with(ic(), 0, 0x0a), FIELD, 0),
        case("all ones", vec![0xff; 128], FIELD, 0),
        case("ICResp from a host", with(ic(), 0, pdu::IC_RESP), FIELD, 0),
        case("C2HData from a host", with(ic(), 0, pdu::C2H_DATA), FIELD, 0),
        case("command before ICReq", connect_capsule(), SEQUENCE, 0),
        case("data before ICReq", pdu::h2c_data(1, 0, 0, true, &[0; 512]), SEQUENCE, 0),
        case("ICReq with HLEN 127", with(ic(), 2, 127), FIELD, 2),
        case("ICReq with HLEN 0", with(ic(), 2, 0), FIELD, 2),
        case("ICReq with PLEN 127", with_plen(ic(), 127), FIELD, 4),
        case("ICReq with PLEN 0", with_plen(ic(), 0), FIELD, 4),
        case("ICReq with PLEN 129", with_plen(ic(), 129), FIELD, 4),
        case("ICReq with a huge PLEN", with_plen(ic(), u32::MAX), FIELD, 4),
        case("PFV 1", with(ic(), 8, 1), UNSUPPORTED, 8),
        case("PFV 0x100", with(ic(), 9, 1), UNSUPPORTED, 8),
        case("HPDA 32", with(ic(), 10, 32), FIELD, 10),
    ]
}

/// Broken after ICReq.
fn capsules() -> Vec<Case> {
    let capsule = connect_capsule;
    let bare = || pdu::capsule(&blank(0), &[]);
    let too_long = pdu::capsule(&blank(1), &vec![0; 8192 + 4]);
    let mut wide = pdu::h2c_data(1, 0, 0, true, &[]);
    (wide[3], wide[2]) = (24, 24);
    put32(&mut wide, 16, (1 << 20) + 4);
    let wide = with_plen(wide, 24 + (1 << 20) + 4);
    vec![
        case("a second ICReq", pdu::ic_req(), SEQUENCE, 0),
        case("unknown type", with(bare(), 0, 0x08), FIELD, 0),
        case("R2T from a host", with(pdu::h2c_data(1, 0, 0, true, &[0; 4]), 0, 9), FIELD, 0),
        case("HLEN 71", with(capsule(), 2, 71), FIELD, 2),
        case("HLEN 73", with(capsule(), 2, 73), FIELD, 2),
        case("HLEN 0", with(capsule(), 2, 0), FIELD, 2),
        case("HLEN 255", with(capsule(), 2, 255), FIELD, 2),
        case("PLEN 0", with_plen(capsule(), 0), FIELD, 4),
        case("PLEN 71", with_plen(capsule(), 71), FIELD, 4),
        case("PDO 0 with data", with(capsule(), 3, 0), FIELD, 3),
        case("PDO inside the header", with(capsule(), 3, 68), FIELD, 3),
        case("PDO not aligned", with(capsule(), 3, 74), FIELD, 3),
        case("PDO beyond PLEN", with_plen(with(capsule(), 3, 80), 76), FIELD, 3),
        case("header digest never negotiated", with(capsule(), 1, pdu::HEADER_DIGEST), FIELD, 1),
        case("data digest never negotiated", with(capsule(), 1, pdu::DATA_DIGEST), FIELD, 1),
        case("more data than IOCCSZ allows", too_long, LIMIT, 0),
        case("a huge PLEN", with_plen(capsule(), u32::MAX), LIMIT, 0),
        case("more data than MAXH2CDATA", wide, LIMIT, 0),
        case("data nobody asked for", pdu::h2c_data(1, 0, 0, true, &[0; 512]), FIELD, 10),
        case("data with HLEN 72", with(pdu::h2c_data(1, 0, 0, true, &[0; 512]), 2, 72), FIELD, 2),
    ]
}

#[test]
fn a_malformed_pdu_is_answered_with_its_error_status() {
    on_both(|siege| {
        for case in openings() {
            check(&mut Queue::open(siege.nvmf).unwrap(), &case);
        }
        for case in capsules() {
            check(&mut Queue::greet(siege.nvmf).unwrap(), &case);
        }
        data_out_of_order(siege.nvmf);
        digests(siege.nvmf);
        let mut leaving = Queue::greet(siege.nvmf).unwrap();
        leaving.send(&with(pdu::header(pdu::H2C_TERM_REQ, 24, 0), 8, 1)).unwrap();
        assert!(leaving.ends_within(SOON), "the target stays though the host left");
    });
}

/// Asks to send a Connect's data when told, and gives identifier and tag of the R2T.
fn asked_for_data(port: u16) -> (Queue, u16, u16) {
    let mut queue = Queue::greet(port).unwrap();
    let mut command = Connect::admin().command();
    let cid = queue.next_cid();
    put16(&mut command, 2, cid);
    point(&mut command, 1024, TRANSPORT);
    queue.send(&pdu::capsule(&command, &[])).unwrap();
    let r2t = queue.receive().unwrap();
    assert_eq!((r2t.kind(), get16(&r2t.header, 8)), (pdu::R2T, cid));
    assert_eq!((get32(&r2t.header, 12), get32(&r2t.header, 16)), (0, 1024));
    (queue, cid, get16(&r2t.header, 10))
}

/// Makes a wrong answer to the R2T of a command with this identifier and tag.
type Breach<'a> = &'a dyn Fn(u16, u16) -> Vec<u8>;

fn data_out_of_order(port: u16) {
    let data = [7; 1028];
    let all = |cid, ttag| pdu::h2c_data(cid, ttag, 0, true, &data[..1024]);
    let breaches: [(&'static str, u16, u32, Breach<'_>); 10] = [
        ("wrong CCCID", FIELD, 8, &|cid, ttag| all(cid ^ 1, ttag)),
        ("wrong TTAG", FIELD, 10, &|cid, ttag| all(cid, ttag ^ 1)),
        ("TTAG out of range", FIELD, 10, &|cid, _| all(cid, 0xffff)),
        ("offset beyond", OUT_OF_RANGE, 0, &|c, t| pdu::h2c_data(c, t, 1024, true, &data[..4])),
        ("offset not next", OUT_OF_RANGE, 0, &|c, t| pdu::h2c_data(c, t, 4, true, &data[..1020])),
        ("offset wraps", OUT_OF_RANGE, 0, &|c, t| {
            pdu::h2c_data(c, t, u32::MAX - 3, true, &data[..8])
        }),
        ("too long", OUT_OF_RANGE, 0, &|c, t| pdu::h2c_data(c, t, 0, true, &data)),
        ("LAST too early", FIELD, 1, &|c, t| pdu::h2c_data(c, t, 0, true, &data[..512])),
        ("LAST missing", FIELD, 1, &|c, t| pdu::h2c_data(c, t, 0, false, &data[..1024])),
        ("DATAL differs from PLEN", FIELD, 4, &|c, t| with(all(c, t), 17, 3)),
    ];
    for (name, fes, fei, breach) in breaches {
        let (mut queue, cid, ttag) = asked_for_data(port);
        check(&mut queue, &case(name, breach(cid, ttag), fes, fei));
    }
    let (mut queue, cid, ttag) = asked_for_data(port);
    let empty = with(pdu::h2c_data(cid, ttag, 0, false, &[]), 3, 24);
    check(&mut queue, &case("no data", empty, FIELD, 16));
}

/// With header digests negotiated, one that is wrong or missing ends the connection.
fn digests(port: u16) {
    let greeted = || {
        let mut queue = Queue::open(port).unwrap();
        queue.send(&with(pdu::ic_req(), 11, 1)).unwrap();
        let answer = queue.receive().unwrap();
        assert_eq!((answer.kind(), answer.header[11]), (pdu::IC_RESP, 1));
        queue
    };
    let missing = pdu::capsule(&blank(0), &[]);
    let digest_wrong = || {
        let mut bytes = with_plen(with(missing.clone(), 1, pdu::HEADER_DIGEST), 76);
        bytes.extend(0x1234_5678_u32.to_le_bytes());
        bytes
    };
    for (name, bytes, fes, fei) in [
        ("header digest missing", missing.clone(), FIELD, 1),
        ("header digest wrong", digest_wrong(), HEADER_DIGEST, 0x1234_5678),
    ] {
        let mut queue = greeted();
        queue.send(&bytes).unwrap();
        let answer = receive_any(&mut queue, name);
        assert_eq!((get16(&answer, 8), get32(&answer, 10)), (fes, fei), "{name}");
        assert!(queue.ends_within(SOON), "{name}: the connection does not end");
    }
}

/// A C2HTermReq never carries digests.
fn receive_any(queue: &mut Queue, name: &str) -> Vec<u8> {
    let answer = queue.receive().unwrap_or_else(|error| panic!("{name}: {error:#}"));
    assert_eq!((answer.kind(), answer.header[1]), (pdu::C2H_TERM_REQ, 0), "{name}");
    answer.header
}

#[test]
fn pieces_of_any_size_are_put_together_and_broken_off_ones_forgotten() {
    on_both(|siege| {
        let greeting = pdu::ic_req();
        let capsule = connect_capsule();
        let mut slow = Queue::open(siege.nvmf).unwrap();
        for byte in &greeting {
            slow.send(&[*byte]).unwrap();
        }
        assert_eq!(slow.receive().unwrap().kind(), pdu::IC_RESP);
        for byte in &capsule {
            slow.send(&[*byte]).unwrap();
        }
        let answer = slow.receive().unwrap();
        assert_eq!((answer.kind(), get16(&answer.header, 22) >> 1), (pdu::CAPSULE_RESP, 0));
        for len in [0, 1, 7, 8, 9, 127] {
            Queue::open(siege.nvmf).unwrap().send(&greeting[..len]).unwrap();
        }
        for len in [1, 7, 8, 71, 72, 73, 600, capsule.len() - 1] {
            Queue::greet(siege.nvmf).unwrap().send(&capsule[..len]).unwrap();
        }
        let whole = [greeting, capsule].concat();
        let mut at_once = Queue::open(siege.nvmf).unwrap();
        at_once.send(&whole).unwrap();
        assert_eq!(at_once.receive().unwrap().kind(), pdu::IC_RESP);
        assert_eq!(at_once.receive().unwrap().kind(), pdu::CAPSULE_RESP);
        drop((slow, at_once));
    });
}
