use super::*;

const FIN: TcpFlags = TcpFlags::FIN;

fn fin(rig: &mut Rig, offset: usize, acked: usize) {
    rig.takes(Header::plain(THEIRS + offset, OURS + acked, ACK | FIN, 60_000), b"");
}

#[test]
fn we_end_first_and_remember() {
    let mut rig = Rig::open();
    rig.write(1500);
    rig.tcp.finish();
    assert_eq!(rig.tcp.write(b"late"), 0);
    let sent = rig.sent();
    let ends: Vec<bool> = sent.iter().map(|sent| sent.header.flags.contains(FIN)).collect();
    assert_eq!(ends, [false, true]);
    rig.acks(1501, 60_000);
    assert!(!rig.tcp.is_done());
    rig.data(0, b"their rest");
    assert_eq!(rig.read(), b"their rest");
    fin(&mut rig, 10, 1501);
    assert!(rig.tcp.is_done() && rig.tcp.lingers());
    assert_eq!(rig.sent()[0].header.ack, THEIRS + 11);
}

#[test]
fn the_peer_ends_first_and_what_it_sent_is_read_before() {
    let mut rig = Rig::open();
    rig.takes(Header::plain(THEIRS, OURS, ACK | FIN, 60_000), b"last");
    assert!(rig.tcp.peer_finished());
    assert_eq!(rig.read(), b"last");
    assert_eq!(rig.sent()[0].header.ack, THEIRS + 5);
    rig.write(100);
    rig.tcp.finish();
    assert_eq!(rig.sent()[0].header.flags, ACK | TcpFlags::PSH | FIN);
    assert!(!rig.tcp.is_done());
    let ack = Header::plain(THEIRS + 5, OURS + 101, ACK, 60_000);
    rig.takes(ack, b"");
    assert!(rig.tcp.is_done() && !rig.tcp.lingers());
}

#[test]
fn both_end_at_once() {
    let mut rig = Rig::open();
    rig.tcp.finish();
    assert_eq!(rig.sent()[0].header.flags, ACK | FIN);
    fin(&mut rig, 0, 0);
    assert!(!rig.tcp.is_done());
    rig.takes(Header::plain(THEIRS + 1, OURS + 1, ACK, 60_000), b"");
    assert!(rig.tcp.is_done() && rig.tcp.lingers());
}

#[test]
fn a_lost_end_is_sent_again() {
    let mut rig = Rig::open();
    rig.tcp.finish();
    assert_eq!(rig.sent().len(), 1);
    while rig.sent().iter().all(|sent| !sent.header.flags.contains(FIN)) {
        rig.pass_to_deadline();
    }
    rig.acks(1, 60_000);
    let quiet = rig.pass_to_deadline();
    assert!(quiet > Duration::from_secs(10), "nothing is waited for any more");
}

#[test]
fn an_end_that_came_early_counts_once_all_before_it_is_there() {
    let mut rig = Rig::open();
    rig.takes(Header::plain(THEIRS + 4, OURS, ACK | FIN, 60_000), b"word");
    assert!(!rig.tcp.peer_finished());
    rig.data(0, b"last");
    assert!(rig.tcp.peer_finished());
    assert_eq!(rig.read(), b"lastword");
    assert_eq!(rig.sent()[0].header.ack, THEIRS + 9);
}

#[test]
fn nothing_is_taken_behind_the_end() {
    let mut rig = Rig::open();
    fin(&mut rig, 0, 0);
    let _ = rig.sent();
    rig.data(1, b"more");
    rig.data(0, b"other");
    assert_eq!(rig.tcp.front(), b"");
    assert_eq!(rig.sent()[0].header.ack, THEIRS + 1);
    rig.pass(Duration::from_secs(1));
    fin(&mut rig, 0, 0);
    assert_eq!(rig.sent()[0].header.ack, THEIRS + 1, "said again, to a peer that says it again");
}

#[test]
fn an_abort_says_so_once() {
    let mut rig = Rig::open();
    rig.write(2000);
    let _ = rig.sent();
    rig.tcp.abort();
    let sent = rig.sent();
    assert_eq!((sent[0].header.flags, sent[0].header.seq), (TcpFlags::RST | ACK, OURS + 2000));
    assert_eq!((rig.sent(), rig.tcp.deadline()), (vec![], None));
}

#[test]
fn what_is_not_read_is_given_back_with_the_rest() {
    let mut rig = Rig::open();
    rig.data(0, b"one");
    rig.data(3, b"two");
    let mut given_back = 0;
    rig.tcp.clear(&mut |_| given_back += 1);
    assert_eq!(given_back, 2);
}
