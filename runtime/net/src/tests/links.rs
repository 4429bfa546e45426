//! Who on the link takes a connection's segments.

use super::*;

use basalt_reactor::Doze;

use crate::wire::Segment;

const LIMIT: Duration = Duration::from_secs(20);
const MOVED: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x77];
const ARP: [u8; 2] = [8, 6];

fn plain_pair() -> Pair {
    Pair::with(WirePlan::default(), 5, SMALL, feature::VERSION_1 | feature::MAC)
}

/// Everything in a frame that names the client's card names another, or the other way round.
fn renamed(mut frame: Vec<u8>, from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
    let is_arp = frame[12..14] == ARP;
    let in_arp = [22, 32].into_iter().filter(|_| is_arp);
    for at in [0, 6].into_iter().chain(in_arp) {
        if frame[at..at + 6] == from {
            frame[at..at + 6].copy_from_slice(&to);
        }
    }
    frame
}

/// A step in which the client's card has another address than it believes.
fn step_moved(pair: &mut Pair) {
    pair.now = pair.now + TICK;
    let _ = pair.server.poll(pair.now);
    let _ = pair.client.poll(pair.now);
    let own = [0x52, 0x54, 0, 0, 0, 2];
    while let Some(frame) = pair.models[0].take_sent() {
        if !frame.starts_with(&own) {
            pair.models[1].inject(renamed(frame, MOVED, own));
        }
    }
    while let Some(frame) = pair.models[1].take_sent() {
        pair.models[0].inject(renamed(frame, own, MOVED));
    }
}

#[test]
fn a_peer_whose_card_changes_is_found_again() {
    let mut pair = plain_pair();
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    pair.run(Duration::from_millis(10));
    let end = pair.now + LIMIT;
    pair.server.send(far, b"where are you?").unwrap();
    let mut got = vec![];
    while got.is_empty() {
        assert!(pair.now < end, "never found");
        step_moved(&mut pair);
        got = read(&mut pair.client, near).unwrap();
    }
    assert_eq!(got, b"where are you?");
}

#[test]
fn peers_that_nobody_knows_keep_nobody_else_waiting() {
    let mut pair = plain_pair();
    let listener = pair.server.listen(PORT).unwrap();
    for last in 50..80 {
        let nobody = Endpoint::from(([10, 0, 0, last], PORT));
        pair.client.connect(nobody).unwrap();
    }
    pair.run(Duration::from_millis(100));
    let start = pair.now;
    let _ = pair.connect(listener);
    assert!(pair.now.since(start) < Duration::from_millis(100), "{:?}", pair.now.since(start));
    // They end, and leave nothing.
    pair.run(Duration::from_secs(70));
    assert_eq!(pair.client.stats().connections, 31, "users hold them");
    let Doze::Until(next) = pair.client.doze() else { panic!("{:?}", pair.client.doze()) };
    assert!(next > pair.now, "nobody is asked for any more, so its core may rest");
    for slot in 0..30 {
        pair.client.close(SocketId { slot, generation: 0 });
    }
    pair.run(Duration::from_millis(10));
    assert_eq!(pair.client.stats().connections, 1);
}

#[test]
fn segments_for_another_card_or_from_nowhere_are_passed_over() {
    let mut pair = plain_pair();
    pair.server.listen(PORT).unwrap();
    let _ = pair.client.connect(pair.target).unwrap();
    let mut syn = None;
    while syn.is_none() {
        pair.now = pair.now + TICK;
        let _ = (pair.client.poll(pair.now), pair.server.poll(pair.now));
        while let Some(frame) = pair.models[0].take_sent() {
            pair.models[1].inject(frame);
        }
        while let Some(frame) = pair.models[1].take_sent() {
            if Segment::parse(&frame).is_some() {
                syn = Some(frame);
            } else {
                pair.models[0].inject(frame);
            }
        }
    }
    let syn = syn.unwrap();
    let changed = |at: usize, bytes: &[u8]| {
        let mut frame = syn.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        checksum::complete(&mut frame);
        if at < 34 && at != 24 {
            crate::checksum::complete_v4_header(&mut frame[14..34]);
        }
        frame
    };
    for (frame, why) in [
        (changed(0, &[0xff; 6]), "to everybody on the link"),
        (changed(0, &[2, 2, 2, 2, 2, 2]), "to another card"),
        (changed(24, &[1, 2]), "a damaged IPv4 header"),
        (changed(26, &[224, 0, 0, 1]), "from a group"),
        (changed(26, &[10, 0, 0, 1]), "from ourselves"),
        (changed(30, &[10, 0, 0, 255]), "to all"),
        (changed(34, &[0, 0]), "from port 0"),
        (changed(46, &[0x40, 2]), "a header that is too short"),
        (changed(46, &[0xf0, 2]), "a header that ends behind the packet"),
    ] {
        pair.models[0].inject(frame);
        pair.now = pair.now + TICK;
        let _ = pair.server.poll(pair.now);
        assert_eq!(pair.server.stats().connections, 0, "{why}");
        assert_eq!(pair.models[0].take_sent(), None, "{why}");
    }
    pair.models[0].inject(syn);
    pair.now = pair.now + TICK;
    let _ = pair.server.poll(pair.now);
    assert_eq!(pair.server.stats().connections, 1);
}

/// A connection that the server was the first to end, and is over: the client's last segment, and
/// the server's answer to it, which is lost.
fn ended(pair: &mut Pair) -> [Vec<u8>; 2] {
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    pair.server.close(far);
    pair.until(LIMIT, |pair| read(&mut pair.client, near) == Err(SocketError::Closed));
    pair.client.close(near);
    pair.now = pair.now + TICK;
    let _ = pair.client.poll(pair.now);
    let end = std::iter::from_fn(|| pair.models[1].take_sent()).last().unwrap();
    pair.models[0].inject(end.clone());
    pair.now = pair.now + TICK;
    let _ = pair.server.poll(pair.now);
    assert_eq!(pair.server.stats().connections, 0, "of the connection nothing is left");
    [end, pair.models[0].take_sent().unwrap()]
}

#[test]
fn the_last_acknowledgement_is_said_again_and_a_new_connection_is_let_in() {
    let mut pair = plain_pair();
    let [end, answer] = ended(&mut pair);
    pair.now = pair.now + Duration::from_secs(30);
    pair.models[0].inject(end);
    let _ = pair.server.poll(pair.now);
    let again = Segment::parse(&pair.models[0].take_sent().unwrap()).unwrap();
    assert_eq!(Some(again), Segment::parse(&answer));
    // The peer begins anew from the same port: behind the old connection it is let in at once, and
    // before it once it has said that it knows nothing of that.
    let expected = u32::from_be_bytes([answer[42], answer[43], answer[44], answer[45]]);
    let mut ask = |flags: u8, seq: u32| {
        let mut frame = answer_to(&answer);
        frame[38..42].copy_from_slice(&seq.to_be_bytes());
        frame[47] = flags;
        checksum::complete(&mut frame);
        pair.models[0].inject(frame);
        pair.now = pair.now + TICK;
        let _ = pair.server.poll(pair.now);
        pair.models[0].take_sent().map(|frame| frame[47])
    };
    assert_eq!(ask(SYN, expected.wrapping_sub(7)), Some(ACK));
    assert_eq!(ask(RST, expected.wrapping_sub(7)), None);
    assert_eq!(ask(SYN, expected.wrapping_sub(7)), Some(ACK));
    assert_eq!(ask(RST, expected), None);
    assert_eq!(ask(SYN, expected.wrapping_sub(7)), Some(SYN | ACK));
}

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A segment the other way round.
fn answer_to(frame: &[u8]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    for (one, other, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        answer[one..one + len].copy_from_slice(&frame[other..other + len]);
        answer[other..other + len].copy_from_slice(&frame[one..one + len]);
    }
    answer
}

#[test]
fn a_new_connection_behind_one_that_lingers_is_let_in_at_once() {
    let mut pair = plain_pair();
    let [_, answer] = ended(&mut pair);
    let mut frame = answer_to(&answer);
    let next = u32::from_be_bytes([frame[42], frame[43], frame[44], frame[45]]);
    frame[38..42].copy_from_slice(&next.wrapping_add(1000).to_be_bytes());
    frame[47] = SYN;
    checksum::complete(&mut frame);
    pair.models[0].inject(frame);
    pair.now = pair.now + TICK;
    let _ = pair.server.poll(pair.now);
    assert_eq!(pair.models[0].take_sent().map(|frame| frame[47]), Some(SYN | ACK));
}
