use super::*;

#[test]
fn what_is_in_order_stays_in_its_frame_until_it_is_read() {
    let mut rig = Rig::open();
    let before = rig.returned;
    rig.data(0, b"one");
    let place = rig.tcp.front().as_ptr();
    rig.data(3, b"two");
    assert_eq!(rig.returned, before, "no frame is given back, nothing copied");
    assert_eq!(rig.tcp.front().as_ptr(), place);
    assert_eq!(rig.tcp.read(2).map(|frame| frame.0), None);
    assert_eq!(rig.tcp.front(), b"e");
    assert_eq!(rig.tcp.read(1).map(|frame| frame.0), Some(b"one".to_vec()));
    assert_eq!(rig.read(), b"two");
}

#[test]
fn frames_that_cannot_be_spared_go_back_at_once() {
    let mut rig = Rig::open();
    rig.keep = Keep::Copy;
    let before = rig.returned;
    for at in 0..9 {
        rig.data(3 * at, &[at as u8; 3]);
    }
    assert_eq!(rig.returned, before + 9);
    assert_eq!(rig.tcp.front().len(), 27, "small ones share memory");
    assert_eq!(
        rig.read(),
        [[0; 3], [1; 3], [2; 3], [3; 3], [4; 3], [5; 3], [6; 3], [7; 3], [8; 3]].concat()
    );
}

#[test]
fn a_small_segment_waits_for_its_answer_and_large_ones_do_not() {
    let mut rig = Rig::open();
    rig.data(0, b"request");
    assert_eq!(rig.sent(), []);
    rig.pass(Duration::from_micros(999));
    assert_eq!(rig.sent(), []);
    rig.pass(Duration::from_micros(1));
    assert_eq!(rig.sent()[0].header.ack, THEIRS + 7);
    rig.data(7, b"request");
    rig.write(5);
    let answer = rig.sent();
    assert_eq!((answer.len(), answer[0].header.ack), (1, THEIRS + 14));
    rig.data(14, &[0; MSS]);
    assert_eq!(rig.sent(), []);
    rig.data(14 + MSS, &[0; MSS]);
    assert_eq!(rig.sent()[0].header.ack, THEIRS + 14 + 2 * MSS);
}

#[test]
fn gaps_are_told_of_and_closed() {
    let mut rig = Rig::open();
    let bytes = pattern(0, 700);
    for (offset, expected) in [
        (100, vec![(100, 200)]),
        (300, vec![(300, 400), (100, 200)]),
        (500, vec![(500, 600), (100, 200), (300, 400)]),
        (200, vec![(100, 400), (500, 600)]),
        (500, vec![(500, 600), (100, 400)]),
    ] {
        rig.data(offset, &bytes[offset..offset + 100]);
        let sent = rig.sent();
        assert_eq!((sent.len(), sent[0].header.ack), (1, THEIRS), "at once, each");
        assert_eq!(blocks(&sent[0]), expected);
    }
    rig.data(0, &bytes[..100]);
    let sent = rig.sent();
    assert_eq!((sent[0].header.ack, blocks(&sent[0])), (THEIRS + 400, vec![(500, 600)]));
    rig.data(400, &bytes[400..700]);
    let sent = rig.sent();
    assert_eq!((sent[0].header.ack, blocks(&sent[0])), (THEIRS + 700, vec![]));
    assert_eq!(rig.read(), bytes);
}

#[test]
fn what_comes_twice_or_in_part_is_taken_once() {
    let mut rig = Rig::open();
    let bytes = pattern(0, 300);
    rig.data(0, &bytes[..100]);
    rig.data(0, &bytes[..100]);
    assert_eq!(rig.sent()[0].header.ack, THEIRS + 100, "its sender waits for that");
    rig.data(50, &bytes[50..200]);
    rig.data(10, &bytes[10..300]);
    assert_eq!(rig.read(), bytes);
}

#[test]
fn no_more_is_taken_than_there_is_room_for() {
    let mut rig = Rig::open();
    let bytes = pattern(0, CAPACITY + 1000);
    for offset in (0..CAPACITY + 1000).step_by(MSS) {
        rig.data(offset, &bytes[offset..offset + MSS]);
    }
    let sent = rig.sent();
    let last = sent.last().unwrap().header;
    assert_eq!((last.ack, last.window), (THEIRS + CAPACITY, 0));
    // A peer that asks for room, with a byte or without, is told each time.
    rig.pass(Duration::from_secs(1));
    rig.data(CAPACITY, &bytes[CAPACITY..CAPACITY + 1]);
    assert_eq!(rig.sent()[0].header.window, 0);
    rig.pass(Duration::from_secs(1));
    rig.data(CAPACITY - 1, b"");
    assert_eq!(rig.sent()[0].header.window, 0);
    assert_eq!(rig.read(), bytes[..CAPACITY]);
    assert_eq!(rig.sent()[0].header.window, CAPACITY as u16, "it opens, and says so by itself");
}

#[test]
fn the_window_opens_by_much_or_not_at_all() {
    let mut rig = Rig::open();
    for offset in (0..CAPACITY).step_by(MSS) {
        rig.data(offset, &[0; MSS]);
    }
    let _ = rig.sent();
    let mut told = 0;
    for _ in 0..CAPACITY / 10 {
        let _ = rig.tcp.read(10);
        told += rig.sent().len();
    }
    assert!((1..8).contains(&told), "{told} times");
}

#[test]
fn early_segments_are_bounded() {
    let mut rig = Rig::open();
    let before = rig.returned;
    for offset in (1..CAPACITY).rev().step_by(2) {
        rig.data(offset, b"x");
    }
    assert_eq!(rig.returned - before, CAPACITY / 2, "all frames are given back");
    let kept = (0..CAPACITY).filter(|_| rig.tcp.deadline().is_some()).count();
    assert_eq!(kept, CAPACITY);
    // Whatever was not kept is sent again.
    rig.data(0, &pattern(0, CAPACITY));
    assert_eq!(rig.read().len(), CAPACITY);
}

#[test]
fn segments_out_of_place_are_answered_and_change_nothing() {
    let mut rig = Rig::open();
    rig.write(10);
    let _ = rig.sent();
    rig.acks(10, 60_000);
    let (next, acked) = (THEIRS, OURS + 10);
    let elsewhere = Header::plain(next + CAPACITY + 1, acked, ACK, 1000);
    for (header, why) in [
        (elsewhere, "behind the window"),
        (Header { seq: next - 1, ..elsewhere }, "before it: is anybody there?"),
        (Header { flags: TcpFlags::SYN, seq: next + 1, ..elsewhere }, "SYN, RFC 5961 section 4"),
        (Header { flags: TcpFlags::RST, seq: next + 1, ..elsewhere }, "RST, RFC 5961 section 3"),
        (Header { seq: next, ack: acked + 1, ..elsewhere }, "of what was never sent"),
        (Header { seq: next, ack: OURS - 70_000, ..elsewhere }, "long ago, section 5"),
    ] {
        rig.pass(Duration::from_millis(100));
        assert_eq!(rig.takes(header, b""), None);
        let sent = rig.sent();
        assert_eq!(sent.len(), 1, "{why}");
        assert_eq!((sent[0].header.flags, sent[0].header.ack), (ACK, next), "{why}");
        assert_eq!(sent[0].header.seq, OURS + 10, "{why}");
        assert_eq!((rig.tcp.state(), rig.tcp.front()), (State::Open, &b""[..]));
        assert_eq!(rig.takes(header, b""), None);
        assert_eq!(rig.sent(), [], "not again so soon: {why}");
    }
    let data = Header { seq: next, ack: acked + 1, ..elsewhere };
    rig.takes(data, b"forged");
    rig.takes(Header { flags: TcpFlags::empty(), seq: next, ..elsewhere }, b"no ACK");
    rig.takes(Header { flags: TcpFlags::RST, ..elsewhere }, b"");
    assert_eq!((rig.tcp.state(), rig.tcp.front()), (State::Open, &b""[..]));
    rig.takes(Header { flags: TcpFlags::RST, seq: next, ..elsewhere }, b"");
    assert_eq!(rig.tcp.state(), State::Closed);
}
