use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

mod outbox;

/// Remembers what it is told, and refuses each PDU a few times.
#[derive(Default)]
struct Journal {
    begun: Vec<(u8, u32)>,
    data: Vec<u8>,
    ended: usize,
    refusals: u8,
    refuse: u8,
    left: u32,
}

impl Sink for Journal {
    fn begin(&mut self, pdu: &Pdu<'_>, data_len: u32) -> Result<Admit, Fault> {
        if self.refusals > 0 {
            self.refusals -= 1;
            return Ok(Admit::Wait);
        }
        self.refusals = self.refuse;
        self.left = data_len;
        let kind = match pdu {
            Pdu::IcReq(_) => wire::kind::IC_REQ,
            Pdu::TermReq(_) => wire::kind::H2C_TERM_REQ,
            Pdu::Command(_) => wire::kind::CAPSULE_CMD,
            Pdu::Data(_) => wire::kind::H2C_DATA,
        };
        self.begun.push((kind, data_len));
        match pdu {
            Pdu::IcReq(request) => Ok(Admit::Negotiated(request.digests)),
            _ => Ok(Admit::Ready),
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        self.left = self.left.checked_sub(bytes.len() as u32).expect("more data than announced");
        self.data.extend_from_slice(bytes);
    }

    fn end(&mut self, digest: DataDigest) -> Result<(), Fault> {
        assert_eq!((self.left, digest), (0, DataDigest::Good));
        self.ended += 1;
        Ok(())
    }
}

const LIMITS: Limits = Limits { in_capsule: 8192, data: 1 << 20 };

/// Feeds `bytes` in chunks of the sizes given, over and over; bounded by construction.
fn feed(bytes: &[u8], chunks: &[usize], refuse: u8) -> (Journal, Option<Fault>) {
    let mut journal = Journal { refusals: refuse, refuse, ..Journal::default() };
    let mut receiver = Receiver::new(LIMITS);
    let (mut at, mut turn) = (0, 0);
    while at < bytes.len() || receiver.is_waiting() {
        let size = chunks[turn % chunks.len()];
        turn += 1;
        let end = bytes.len().min(at + size);
        match receiver.push(&bytes[at..end], &mut journal) {
            Ok(taken) => {
                assert!(taken == end - at || receiver.is_waiting());
                at += taken;
            }
            Err(fault) => {
                assert_eq!(receiver.push(b"more", &mut journal), Ok(4));
                return (journal, Some(fault));
            }
        }
    }
    (journal, None)
}

fn stream(lens: &[u16], header: bool, data: bool) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = Vec::from([0; 128]);
    bytes[..8].copy_from_slice(&[0, 0, 128, 0, 128, 0, 0, 0]);
    bytes[11] = u8::from(header) | u8::from(data) << 1;
    let mut payload = Vec::new();
    for (n, &len) in lens.iter().enumerate() {
        let body: Vec<u8> = (0..len).map(|at| (at as u8) ^ n as u8).collect();
        let prefix = 72 + if header { 4 } else { 0 };
        let pdo = if len == 0 { 0 } else { prefix + 4 * (n % 3) };
        let trailer = if data && len != 0 { 4 } else { 0 };
        let plen = if len == 0 { prefix } else { pdo + body.len() + trailer } as u32;
        let flags = u8::from(header) | if trailer != 0 { 2 } else { 0 };
        let mut pdu = Vec::from([4, flags, 72, pdo as u8]);
        pdu.extend(plen.to_le_bytes());
        pdu.resize(72, n as u8);
        if header {
            pdu.extend(crc32c(&pdu).to_le_bytes());
        }
        if len != 0 {
            pdu.resize(pdo, 0);
            pdu.extend(&body);
        }
        if trailer != 0 {
            pdu.extend(crc32c(&body).to_le_bytes());
        }
        bytes.extend(pdu);
        payload.extend(body);
    }
    (bytes, payload)
}

proptest! {
    #[test]
    fn any_bytes_in_any_chunks_neither_panic_nor_hang(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        chunks in prop::collection::vec(1_usize..200, 1..8),
        greeted: bool,
        kind in prop::sample::select(&[0_u8, 2, 4, 6, 9, 255]),
    ) {
        let mut all = Vec::new();
        if greeted {
            all = stream(&[], false, false).0;
        }
        all.push(kind);
        all.extend(bytes);
        feed(&all, &chunks, 1);
    }

    #[test]
    fn almost_valid_streams_neither_panic_nor_hang(
        lens in prop::collection::vec(0_u16..600, 1..5),
        chunks in prop::collection::vec(1_usize..200, 1..8),
        at in any::<prop::sample::Index>(),
        value: u8,
    ) {
        let (mut bytes, _) = stream(&lens, false, false);
        let at = at.index(bytes.len());
        bytes[at] = value;
        feed(&bytes, &chunks, 0);
    }

    #[test]
    fn a_valid_stream_gives_the_same_pdus_whatever_the_chunks(
        lens in prop::collection::vec(0_u16..2000, 1..6),
        chunks in prop::collection::vec(1_usize..500, 1..8),
        refuse in 0_u8..3,
        header: bool,
        data: bool,
    ) {
        let (bytes, payload) = stream(&lens, header, data);
        let (journal, fault) = feed(&bytes, &chunks, refuse);
        prop_assert_eq!(fault, None);
        prop_assert_eq!(journal.ended, lens.len() + 1);
        prop_assert_eq!(journal.data, payload);
        let found: Vec<u32> = journal.begun[1..].iter().map(|(_, len)| *len).collect();
        let expected: Vec<u32> = lens.iter().map(|&len| u32::from(len)).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn crc32c_matches_the_published_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    let mut crc = Crc::new();
    crc.update(b"1234");
    crc.update(b"56789");
    assert_eq!(crc.finish(), 0xe306_9283);
}

#[test]
fn a_term_request_copies_at_most_the_largest_header() {
    let (bytes, len) = term_request(wire::kind::C2H_TERM_REQ, Fault::field(4), &[7; 300]);
    assert_eq!((len, bytes[0], bytes[2]), (152, wire::kind::C2H_TERM_REQ, 24));
    assert_eq!(bytes[8..14], [1, 0, 4, 0, 0, 0]);
    let (_, len) = term_request(wire::kind::C2H_TERM_REQ, Fault::new(FaultKind::Sequence), &[1; 8]);
    assert_eq!(len, 32);
}
