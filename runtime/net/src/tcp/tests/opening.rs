use super::*;

#[test]
fn a_request_is_answered_with_what_both_can() {
    let mut rig = Rig::of(Connection::accept(TERMS, &syn(OFFER), Instant::ZERO));
    let [Sent { header, payload }] = &rig.sent()[..] else { panic!("not one answer") };
    assert_eq!((header.flags, header.ack), (TcpFlags::SYN | ACK, THEIRS));
    assert_eq!(header.offer, Offer { mss: Some(1000), shift: Some(0), sack: true });
    assert!(payload.is_empty());
}

#[test]
fn a_peer_that_knows_no_options_gets_none_and_small_segments() {
    let terms = Terms { rx_capacity: 1 << 20, ..TERMS };
    let now = Instant::ZERO;
    let mut rig = Rig::of(Connection::accept(terms, &syn(Offer::default()), now));
    let answer = rig.sent()[0].header;
    assert_eq!(answer.offer, Offer { mss: Some(1000), shift: None, sack: false });
    rig.takes(Header::plain(THEIRS, OURS, ACK, 60_000), b"");
    rig.write(2000);
    assert_eq!(rig.tcp.mss(), 536);
    let sent = rig.sent_by(536);
    assert_eq!(sent[0].payload.len(), 536);
    assert_eq!(sent[0].header.window, u16::MAX, "never more, as it is not scaled");
    rig.data(1000, b"early");
    assert_eq!(blocks(&rig.sent()[0]), []);
}

#[test]
fn windows_are_scaled_once_both_have_agreed() {
    let terms = Terms { rx_capacity: 1 << 20, ..TERMS };
    let offer = Offer { shift: Some(4), ..OFFER };
    let mut rig = Rig::of(Connection::accept(terms, &syn(offer), Instant::ZERO));
    let answer = rig.sent()[0].header;
    assert_eq!((answer.offer.shift, answer.window), (Some(5), u16::MAX));
    rig.takes(Header::plain(THEIRS, OURS, ACK, 125), b"");
    rig.write(CAPACITY);
    let sent: usize = rig.sent().iter().map(|sent| sent.payload.len()).sum();
    assert_eq!(sent, 2000, "a window of 125 units of 16 bytes");
    rig.data(0, b"x");
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.sent()[0].header.window, 0x7fff, "a mebibyte but one byte, in units of 32");
}

#[test]
fn a_lost_answer_is_repeated_when_asked_and_when_it_is_time() {
    let mut rig = Rig::of(Connection::accept(TERMS, &syn(OFFER), Instant::ZERO));
    rig.now = Instant::ZERO;
    let answer = rig.sent();
    assert_eq!(rig.sent(), []);
    rig.takes(syn(OFFER), b"");
    assert_eq!(rig.sent(), answer);
    for wait in [1, 2, 4] {
        assert_eq!(rig.pass_to_deadline(), Duration::from_secs(wait));
        assert_eq!(rig.sent(), answer);
    }
}

#[test]
fn what_acknowledges_something_else_does_not_open() {
    let mut rig = Rig::of(Connection::accept(TERMS, &syn(OFFER), Instant::ZERO));
    let _ = rig.sent();
    let reset = rig.takes(Header::plain(THEIRS, OURS + 1, ACK, 1000), b"").unwrap();
    assert_eq!((reset.seq, reset.flags), (OURS + 1, TcpFlags::RST));
    assert_eq!(rig.tcp.state(), State::SynReceived);
}

fn connecting() -> Rig {
    let mut rig = Rig::of(Connection::connect(TERMS, Instant::from_ns(1_000_000_000)));
    let sent = rig.sent();
    assert_eq!((sent[0].header.flags, sent[0].header.seq), (TcpFlags::SYN, OURS - 1));
    assert_eq!(sent.len(), 1);
    rig
}

#[test]
fn what_we_ask_for_opens_with_the_answer() {
    let mut rig = connecting();
    assert_eq!(rig.tcp.write(b"early"), 0);
    let answer = Header { flags: TcpFlags::SYN | ACK, ack: OURS, ..syn(OFFER) };
    rig.takes(answer, b"");
    assert_eq!(rig.tcp.state(), State::Open);
    let sent = rig.sent();
    assert_eq!((sent[0].header.flags, sent[0].header.ack), (ACK, THEIRS));
}

#[test]
fn two_that_ask_each_other_at_once_have_one_connection() {
    let mut rig = connecting();
    rig.takes(syn(OFFER), b"");
    assert_eq!(rig.tcp.state(), State::SynReceived);
    let sent = rig.sent();
    assert_eq!((sent[0].header.flags, sent[0].header.ack), (TcpFlags::SYN | ACK, THEIRS));
    rig.takes(Header { flags: TcpFlags::SYN | ACK, ack: OURS, ..syn(OFFER) }, b"");
    rig.takes(Header::plain(THEIRS, OURS, ACK, 1000), b"");
    assert_eq!(rig.tcp.state(), State::Open);
}

#[test]
fn only_a_reset_of_what_we_asked_for_ends_it() {
    let mut rig = connecting();
    let reset = Header::plain(Seq(0), Seq(0), TcpFlags::RST, 0);
    for harmless in [
        reset,
        Header { flags: TcpFlags::RST | ACK, ack: OURS + 5, ..reset },
        Header { flags: ACK, ack: OURS, ..reset },
    ] {
        assert_eq!(rig.takes(harmless, b""), None);
        assert_eq!(rig.tcp.state(), State::SynSent);
    }
    let old = rig.takes(Header { flags: TcpFlags::SYN | ACK, ack: OURS - 9, ..reset }, b"");
    assert_eq!(old.map(|reset| reset.seq), Some(OURS - 9), "of an earlier connection");
    rig.takes(Header { flags: TcpFlags::RST | ACK, ack: OURS, ..reset }, b"");
    assert_eq!(rig.tcp.state(), State::Closed);
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    let mut rig = connecting();
    let start = rig.now;
    while rig.tcp.state() != State::Closed {
        assert!(rig.pass_to_deadline() > Duration::ZERO);
        assert!(rig.sent().iter().all(|sent| sent.header.flags == TcpFlags::SYN));
    }
    assert_eq!(rig.now.since(start), Duration::from_secs(60));
}
