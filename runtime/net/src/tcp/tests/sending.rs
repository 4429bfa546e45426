use super::*;

#[test]
fn bytes_are_sent_as_queued_and_the_last_is_pushed() {
    let mut rig = Rig::open();
    rig.write(2500);
    let sent = rig.sent();
    let lens: Vec<usize> = sent.iter().map(|sent| sent.payload.len()).collect();
    assert_eq!(lens, [1000, 1000, 500]);
    let pushed = sent.iter().map(|sent| sent.header.flags.contains(TcpFlags::PSH));
    assert_eq!(pushed.collect::<Vec<_>>(), [false, false, true]);
    let bytes: Vec<u8> = sent.iter().flat_map(|sent| sent.payload.clone()).collect();
    assert_eq!(bytes, pattern(0, 2500));
}

#[test]
fn what_a_card_cuts_is_whole_segments_but_the_last() {
    let mut rig = Rig::open();
    rig.write(9999);
    let sent = rig.sent_by(4500);
    let lens: Vec<usize> = sent.iter().map(|sent| sent.payload.len()).collect();
    assert_eq!(lens, [4000, 4000, 1999]);
}

#[test]
fn the_first_window_is_ten_segments_and_grows_with_what_is_acknowledged() {
    let mut rig = Rig::open();
    rig.write(CAPACITY);
    assert_eq!(rig.spans().len(), 10);
    rig.acks(2000, 60_000);
    assert_eq!(rig.spans(), [(10_000, 1000), (11_000, 1000), (12_000, 1000), (13_000, 1000)]);
}

#[test]
fn a_lost_segment_is_sent_again_after_three_duplicates() {
    let mut rig = Rig::open();
    rig.write(CAPACITY);
    assert_eq!(rig.spans().len(), 10);
    rig.acks(0, 60_000);
    assert_eq!(rig.spans(), [(10_000, 1000)], "limited transmit");
    rig.acks(0, 60_000);
    assert_eq!(rig.spans(), [(11_000, 1000)]);
    rig.acks(0, 60_000);
    assert_eq!(rig.spans(), [(0, 1000)]);
    for _ in 0..5 {
        rig.acks(0, 60_000);
    }
    let more = rig.spans();
    assert!(more.iter().all(|span| span.0 >= 12_000), "one that arrives lets one go: {more:?}");
    // The next is lost too.
    rig.acks(1000, 60_000);
    assert_eq!(rig.spans()[0], (1000, 1000));
    rig.acks(12_000, 60_000);
    assert!(rig.spans().iter().all(|span| span.0 >= 12_000));
}

#[test]
fn holes_that_the_peer_names_are_filled_and_nothing_else() {
    let mut rig = Rig::open();
    rig.write(CAPACITY);
    assert_eq!(rig.spans().len(), 10);
    // The first, third and sixth of ten are lost.
    rig.acks_with(0, &[(1000, 2000)]);
    rig.acks_with(0, &[(3000, 4000), (1000, 2000)]);
    let _ = rig.spans();
    let mut resent = vec![];
    for blocks in [
        vec![(3000, 5000), (1000, 2000)],
        vec![(6000, 7000), (3000, 5000), (1000, 2000)],
        vec![(6000, 8000), (3000, 5000), (1000, 2000)],
        vec![(6000, 10_000), (3000, 5000), (1000, 2000)],
    ] {
        rig.acks_with(0, &blocks);
        resent.extend(rig.spans().into_iter().filter(|span| span.0 < 10_000));
    }
    assert_eq!(resent, [(0, 1000), (2000, 1000), (5000, 1000)]);
}

#[test]
fn blocks_that_cannot_be_are_not_believed() {
    let mut rig = Rig::open();
    rig.write(5000);
    assert_eq!(rig.spans().len(), 5);
    for blocks in [[(4000, 6000)], [(2000, 1000)], [(0, 2000)], [(9000, 10_000)]] {
        for _ in 0..4 {
            rig.acks_with(0, &blocks);
        }
    }
    let resent = rig.spans();
    assert_eq!(resent, [(0, 1000)], "as without any");
}

#[test]
fn without_an_answer_it_begins_again_later_and_later() {
    let mut rig = Rig::open();
    rig.write(3000);
    assert_eq!(rig.spans().len(), 3);
    let mut waited = vec![];
    for _ in 0..4 {
        let mut time = Duration::ZERO;
        let resent = loop {
            time += rig.pass_to_deadline();
            let spans = rig.spans();
            if spans.iter().any(|span| span.1 > 0) {
                break spans;
            }
        };
        assert_eq!(resent, [(0, 1000)]);
        waited.push(time.as_millis());
    }
    assert_eq!(waited, [200, 400, 800, 1600]);
    rig.acks(1000, 60_000);
    assert_eq!(rig.spans(), [(1000, 1000), (2000, 1000)]);
    rig.acks(3000, 60_000);
    assert_eq!(rig.spans(), []);
}

#[test]
fn all_that_arrived_behind_what_was_lost_is_skipped_once_it_is_acknowledged() {
    let mut rig = Rig::open();
    rig.write(5000);
    assert_eq!(rig.spans().len(), 5);
    while rig.spans().is_empty() {
        rig.pass_to_deadline();
    }
    rig.acks(5000, 60_000);
    rig.write(1000);
    assert_eq!(rig.spans(), [(5000, 1000)]);
}

#[test]
fn a_closed_window_is_asked_for_as_long_as_the_peer_answers() {
    let mut rig = Rig::open();
    rig.acks(0, 0);
    rig.write(3000);
    assert_eq!(rig.spans(), []);
    let end = rig.now + Duration::from_secs(600);
    let mut probes = 0;
    while rig.now < end {
        rig.pass_to_deadline();
        let spans = rig.spans();
        probes += spans.len();
        if let Some(span) = spans.first() {
            assert_eq!((span.0 as isize, span.1), (-1, 0));
            rig.acks(0, 0);
        }
    }
    assert_eq!(rig.tcp.state(), State::Open);
    assert!((10..60).contains(&probes), "{probes}");
    rig.acks(0, 60_000);
    assert_eq!(rig.spans().len(), 3);
}

#[test]
fn a_window_that_closes_on_what_is_under_way_is_asked_for_too() {
    let mut rig = Rig::open();
    rig.write(3000);
    assert_eq!(rig.spans().len(), 3);
    rig.acks(1000, 0);
    for _ in 0..20 {
        rig.pass_to_deadline();
        if !rig.spans().is_empty() {
            rig.acks(1000, 0);
        }
    }
    assert_eq!(rig.tcp.state(), State::Open);
    rig.acks(1000, 60_000);
    assert_eq!(rig.spans(), [(1000, 1000)], "and then sent again, carefully");
}

#[test]
fn small_windows_get_no_small_segments() {
    let mut rig = Rig::open();
    rig.write(3000);
    let _ = rig.spans();
    rig.acks(3000, 1000);
    rig.write(3000);
    assert_eq!(rig.spans(), [(3000, 1000)]);
    rig.acks(3000, 1300);
    assert_eq!(rig.spans(), [], "300 bytes would do, and are not sent");
    rig.acks(4000, 1300);
    assert_eq!(rig.spans(), [(4000, 1000)]);
}

#[test]
fn a_silent_peer_is_asked_and_given_up_after_a_minute() {
    let mut rig = Rig::open();
    let start = rig.now;
    for seconds in [20, 40] {
        rig.pass_to_deadline();
        assert_eq!(rig.now.since(start), Duration::from_secs(seconds));
        assert_eq!(rig.spans(), [(0usize.wrapping_sub(1), 0)]);
    }
    rig.pass_to_deadline();
    let sent = rig.sent();
    assert_eq!(rig.now.since(start), Duration::from_secs(60));
    assert_eq!(sent[0].header.flags, TcpFlags::RST | ACK);
    assert_eq!((rig.tcp.state(), rig.sent()), (State::Closed, vec![]));
}

#[test]
fn a_peer_that_answers_stays() {
    let mut rig = Rig::open();
    for _ in 0..50 {
        rig.pass_to_deadline();
        assert_eq!(rig.sent().len(), 1);
        rig.acks(0, 60_000);
    }
    assert_eq!(rig.tcp.state(), State::Open);
}

#[test]
fn a_peer_that_answers_and_never_takes_the_next_byte_is_given_up() {
    let mut rig = Rig::open();
    rig.write(1000);
    let start = rig.now;
    while rig.tcp.state() == State::Open {
        let _ = rig.sent();
        rig.pass_to_deadline();
        rig.acks(0, 60_000);
        assert!(rig.now.since(start) < Duration::from_secs(300));
    }
    assert!(rig.now.since(start) >= Duration::from_secs(100));
}

#[test]
fn after_a_rest_little_is_sent_at_first() {
    let mut rig = Rig::open();
    for round in 0..10 {
        rig.write(CAPACITY);
        let mut acked = round * CAPACITY;
        while acked < (round + 1) * CAPACITY {
            acked += rig.spans().iter().map(|span| span.1).sum::<usize>();
            rig.acks(acked, 60_000);
        }
    }
    rig.write(CAPACITY);
    assert_eq!(rig.spans().len(), 32, "all at once");
    rig.acks(11 * CAPACITY, 60_000);
    rig.pass(Duration::from_secs(5));
    rig.write(CAPACITY);
    assert_eq!(rig.spans().len(), 10);
}
