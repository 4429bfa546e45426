use super::tcp::{exchange, pattern};
use super::*;

use crate::wire::Segment;

const LIMIT: Duration = Duration::from_secs(60);
/// Buffers that hold a segment of 64 KiB.
const BIG: StackOptions =
    StackOptions { rx_buffer_len: 128 << 10, tx_buffer_len: 128 << 10, ..SMALL };

fn pair_of_mtus(plan: WirePlan, features: u64, mtus: [u16; 2]) -> Pair {
    let cards = [card_of_mtu(1, features, mtus[0]), card_of_mtu(2, features, mtus[1])];
    Pair::of(plan, 3, BIG, cards)
}

/// Sends `len` bytes from the server; gives how many frames it gave to its card for them.
fn send_from_server(pair: &mut Pair, len: usize) -> u64 {
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    let (bytes, mut sent, mut got) = (pattern(len, 3), 0, vec![]);
    let before = pair.server.port().stats().tx_frames;
    pair.until(LIMIT, |pair| {
        sent += pair.server.send(far, &bytes[sent..]).unwrap();
        got.extend(read(&mut pair.client, near).unwrap());
        got.len() >= bytes.len()
    });
    assert_eq!(got, bytes);
    assert_eq!(pair.models.each_ref().map(VirtioNetModel::refused), [0, 0]);
    pair.server.port().stats().tx_frames - before
}

#[test]
fn much_is_sent_in_few_frames_and_goes_over_the_wire_in_small_ones() {
    let mut pair = pair_of_mtus(WirePlan::default(), feature::ALL, [1500, 1500]);
    let frames = send_from_server(&mut pair, 1 << 20);
    assert!(frames < 60, "{frames} frames for a mebibyte");
    assert_eq!(pair.wire.longest()[0], 1514);
    assert!(pair.client.stats().frames_in < 60, "and few came");
}

#[test]
fn what_a_peer_of_a_small_mtu_gets_is_cut_to_it() {
    for (mtus, longest) in [([9000, 1500], 1514), ([1500, 9000], 1514), ([9000, 9000], 9014)] {
        let mut pair = pair_of_mtus(WirePlan::default(), feature::ALL, mtus);
        let frames = send_from_server(&mut pair, 1 << 20);
        assert!(frames < 60, "{frames} frames for a mebibyte");
        assert_eq!(pair.wire.longest()[0], longest);
    }
}

#[test]
fn what_our_mtu_allows_but_not_the_peers_is_cut_too() {
    let without = feature::ALL & !(feature::HOST_TSO4 | feature::HOST_TSO6);
    for features in [feature::ALL, without, without & !feature::CSUM] {
        for len in [1461, 4120, 8000, 9000] {
            let mut pair = pair_of_mtus(WirePlan::default(), features, [9000, 1500]);
            send_from_server(&mut pair, len);
            assert_eq!(pair.wire.longest()[0], 1514, "{len} bytes, {features:x}");
        }
    }
}

#[test]
fn a_card_that_cuts_nothing_sends_no_more_than_either_end_takes() {
    let without = feature::ALL & !feature::HOST_TSO4;
    for (features, mtus) in [
        (without, [1500, 9000]), // It cuts IPv6 only.
        (without, [9000, 1500]),
        (without & !feature::HOST_TSO6, [1500, 9000]),
    ] {
        let mut pair = pair_of_mtus(WirePlan::default(), features, mtus);
        send_from_server(&mut pair, 100 << 10);
        assert_eq!(pair.wire.longest()[0], 1514);
    }
}

#[test]
fn bytes_survive_with_every_subset_of_offloads_on_a_lossy_wire() {
    let optional = [
        feature::CSUM,
        feature::GUEST_CSUM,
        feature::MRG_RXBUF,
        feature::GUEST_TSO4,
        feature::HOST_TSO4,
    ];
    let plan = WirePlan { lost: 20, doubled: 10, overtaken: 30, damaged: 0 };
    for subset in 0..1usize << optional.len() {
        let chosen = (0..optional.len()).filter(|bit| subset >> bit & 1 != 0);
        let plain = feature::VERSION_1 | feature::MAC;
        let features = chosen.fold(plain, |features, bit| features | optional[bit]);
        let mut pair = Pair::with(plan, subset as u64, SMALL, features);
        exchange(&mut pair, &pattern(30_000, 1));
        assert_eq!(pair.models.each_ref().map(VirtioNetModel::refused), [0, 0]);
        assert!(pair.wire.longest().into_iter().all(|len| len <= 1514));
    }
}

/// Where a SYN of ours over IPv4 has its maximum segment size.
const MSS_AT: usize = 14 + 20 + 20 + 2;

/// The next frame with a SYN that the client has sent, and the MSS in it.
fn syn_of_client(pair: &mut Pair) -> (Vec<u8>, u16) {
    for _ in 0..100 {
        pair.now = pair.now + TICK;
        let _ = pair.client.poll(pair.now);
        while let Some(frame) = pair.models[1].take_sent() {
            if Segment::parse(&frame).is_some_and(|segment| segment.opens()) {
                let mss = u16::from_be_bytes([frame[MSS_AT], frame[MSS_AT + 1]]);
                return (frame, mss);
            }
            pair.models[0].inject(frame);
        }
        let _ = pair.server.poll(pair.now);
        while let Some(frame) = pair.models[0].take_sent() {
            pair.models[1].inject(frame);
        }
    }
    panic!("no SYN");
}

#[test]
fn the_mss_announced_is_that_of_the_mtu() {
    for mtu in [1500, 9000] {
        let mut pair = pair_of_mtus(WirePlan::default(), feature::ALL, [1500, mtu]);
        pair.client.connect(SocketAddrV4::new(SERVER, PORT).into()).unwrap();
        assert_eq!(syn_of_client(&mut pair).1, mtu - 40);
    }
}

#[test]
fn a_forged_request_does_not_change_how_a_connection_is_cut() {
    let mut pair = pair_of_mtus(WirePlan::default(), feature::ALL, [9000, 1500]);
    let listener = pair.server.listen(PORT).unwrap();
    let near = pair.client.connect(SocketAddrV4::new(SERVER, PORT).into()).unwrap();
    let (mut frame, mss) = syn_of_client(&mut pair);
    assert_eq!(mss, 1460);
    pair.models[0].inject(frame.clone());
    let mut far = None;
    pair.until(LIMIT, |pair| {
        far = pair.server.accept(listener);
        far.is_some()
    });
    // The same request again, now with the MSS of a jumbo frame and its checksum made good.
    frame[MSS_AT..MSS_AT + 2].copy_from_slice(&8960u16.to_be_bytes());
    checksum::complete(&mut frame);
    pair.models[0].inject(frame);
    pair.run(Duration::from_millis(5));
    let bytes = pattern(100_000, 1);
    let mut got = vec![];
    let mut sent = 0;
    pair.until(LIMIT, |pair| {
        sent += pair.server.send(far.unwrap(), &bytes[sent..]).unwrap();
        got.extend(read(&mut pair.client, near).unwrap());
        got.len() == bytes.len()
    });
    assert_eq!(pair.wire.longest()[0], 1514);
}
