use basalt_env::DmaSlice;

use super::*;
use crate::{Cut, Insert, IpVersion};

/// Everything that a card may offer or not.
const OPTIONAL: [u64; 9] = [
    feature::CSUM,
    feature::GUEST_CSUM,
    feature::MTU,
    feature::MRG_RXBUF,
    feature::STATUS,
    feature::GUEST_TSO4,
    feature::GUEST_TSO6,
    feature::HOST_TSO4,
    feature::HOST_TSO6,
];

/// A TCP segment with so much payload; what a card looks at is right, the rest is not.
fn segment(version: IpVersion, payload: usize) -> (Vec<u8>, PartialChecksum) {
    let (tcp, mut frame) = match version {
        IpVersion::V4 => (34, vec![0; 34]),
        IpVersion::V6 => (54, vec![0; 54]),
    };
    frame.extend(super::frame(20 + payload));
    frame[tcp + 12] = 5 << 4;
    frame[tcp + 13] = 0x10;
    let len = (frame.len() - tcp) as u16;
    match version {
        IpVersion::V4 => {
            frame[12..15].copy_from_slice(&[8, 0, 0x45]);
            frame[16..18].copy_from_slice(&(len + 20).to_be_bytes());
            frame[23] = 6;
        }
        IpVersion::V6 => {
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            frame[18..20].copy_from_slice(&len.to_be_bytes());
            frame[20] = 6;
        }
    }
    // Both addresses are zero, so that this is all of the pseudo-header.
    frame[tcp + 16..tcp + 18].copy_from_slice(&(len + 6).to_be_bytes());
    (frame, PartialChecksum { start: tcp as u16, offset: 16, cut: None })
}

fn send_large(
    net: &mut VirtioNet<ModelDevice>,
    version: IpVersion,
    payload: usize,
) -> Result<(), TxFull> {
    let (bytes, partial) = segment(version, payload);
    let headers_len = partial.start + 20;
    let segment_len = net.mtu() as u16 + 14 - headers_len;
    let cut = Some(Cut { version, headers_len, segment_len });
    net.transmit(bytes.len(), |out| {
        out.copy_from_slice(&bytes);
        Some(PartialChecksum { cut, ..partial })
    })
}

#[test]
fn every_subset_of_what_a_card_may_offer_works() {
    for subset in 0..1usize << OPTIONAL.len() {
        let chosen = (0..OPTIONAL.len()).filter(|bit| subset >> bit & 1 != 0);
        let offered = chosen.fold(PLAIN, |features, bit| features | OPTIONAL[bit]);
        let (model, mut net) = up(offered);
        let has = |features| offered & features == features;
        assert_eq!(net.completes_checksums(), has(feature::CSUM));
        for (version, cuts) in
            [(IpVersion::V4, feature::HOST_TSO4), (IpVersion::V6, feature::HOST_TSO6)]
        {
            let cuts = has(cuts | feature::CSUM);
            assert_eq!(net.large_send_max(version) > net.mtu(), cuts, "{offered:#x}");
            if cuts {
                send_large(&mut net, version, 10_000).unwrap();
            }
        }
        send(&mut net, &frame(1514)).unwrap();
        net.commit();
        let sent: Vec<_> = core::iter::from_fn(|| model.take_sent()).collect();
        assert!(sent.iter().all(|frame| frame.len() <= 1514), "{offered:#x}");
        assert_eq!((sent.last().unwrap(), model.refused()), (&frame(1514), 0));
        let joined = [(IpVersion::V4, feature::GUEST_TSO4), (IpVersion::V6, feature::GUEST_TSO6)]
            .map(|(version, joins)| {
                receive_joined(&model, &mut net, version)
                    == has(joins | feature::GUEST_CSUM | feature::MRG_RXBUF)
            });
        assert_eq!(joined, [true; 2], "{offered:#x}");
    }
}

/// Lets three segments of a flow arrive; whether they come as one.
fn receive_joined(
    model: &VirtioNetModel,
    net: &mut VirtioNet<ModelDevice>,
    version: IpVersion,
) -> bool {
    let (mut one, partial) = segment(version, 1400);
    let at = usize::from(partial.start) + 4;
    let flow = [0u32, 1400, 2800].map(|sequence| {
        one[at..at + 4].copy_from_slice(&sequence.to_be_bytes());
        one.clone()
    });
    model.inject_all(flow);
    let mut lens = vec![];
    while let Some(got) = net.receive() {
        lens.push(got.len() - usize::from(partial.start) - 20);
        net.recycle(got);
    }
    net.commit();
    assert!(lens == [4200] || lens == [1400; 3], "{lens:?}");
    lens.len() == 1
}

#[test]
fn a_large_segment_is_cut_and_every_byte_of_it_arrives() {
    for version in [IpVersion::V4, IpVersion::V6] {
        let (model, mut net) = up(feature::ALL);
        let headers = segment(version, 0).0.len();
        let most = net.large_send_max(version) + 14 - headers;
        for len in [1, 1460, 1461, 30_000, most] {
            send_large(&mut net, version, len).unwrap();
            net.commit();
            let sent: Vec<_> = core::iter::from_fn(|| model.take_sent()).collect();
            let payload: Vec<_> =
                sent.iter().flat_map(|frame| &frame[headers..]).copied().collect();
            assert_eq!(payload, segment(version, len).0[headers..]);
            assert_eq!(sent.len(), len.div_ceil(1514 - headers));
        }
        assert_eq!(send_large(&mut net, version, most + 100), Err(TxFull));
        assert_eq!(model.refused(), 0);
    }
}

#[test]
fn large_buffers_run_out_and_come_back_and_small_frames_find_some_of_their_own() {
    let (model, mut net) = up(feature::ALL);
    let mut large = 0;
    while send_large(&mut net, IpVersion::V4, 20_000).is_ok() {
        large += 1;
    }
    // What asks before it sends is only told of room for the largest.
    assert!(large >= 16 && !net.can_transmit(1));
    net.commit();
    assert!(net.can_transmit(1));
    assert_eq!(core::iter::from_fn(|| model.take_sent()).count(), large * 14);
    for _ in 0..200 {
        send(&mut net, &frame(60)).unwrap();
    }
    assert!(net.can_transmit(1), "small frames leave the large buffers alone");
}

#[test]
fn jumbo_frames_go_both_ways_whatever_is_agreed() {
    for features in [PLAIN, PLAIN | feature::MRG_RXBUF, feature::ALL] {
        let (model, pool) = machine();
        let model = model.with_features(features | feature::MTU).with_mtu(9000);
        let mut net = bring_up(&model, &pool).unwrap();
        for len in [9014, 60, 5000] {
            send(&mut net, &frame(len)).unwrap();
            net.commit();
            assert_eq!(model.take_sent().unwrap(), frame(len));
            model.inject(frame(len));
            let got = net.receive().unwrap();
            assert_eq!(whole(&got), frame(len));
            net.recycle(got);
        }
    }
}

/// Sends `bytes` with those of `cuts` out of `slice`, which has the same bytes.
fn send_inserted(
    net: &mut VirtioNet<ModelDevice>,
    bytes: &[u8],
    slice: &DmaSlice,
    cuts: &[core::ops::Range<usize>],
    partial: Option<PartialChecksum>,
) -> Result<(), TxFull> {
    let (mut inserts, mut written, mut from) = (vec![], vec![], 0);
    for cut in cuts {
        written.extend_from_slice(&bytes[from..cut.start]);
        inserts.push(Insert { at: written.len(), bytes: slice.part(cut.start, cut.len()) });
        from = cut.end;
    }
    written.extend_from_slice(&bytes[from..]);
    net.transmit_with(written.len(), &mut inserts, |out| {
        out.copy_from_slice(&written);
        partial
    })
}

fn shared(pool: &DmaPool, bytes: &[u8]) -> DmaSlice {
    let mut buf = pool.alloc(bytes.len()).unwrap();
    buf.as_mut_slice().copy_from_slice(bytes);
    pool.share(buf).unwrap()
}

#[test]
fn inserts_are_read_where_they_lie_and_let_go_once_the_frame_is_sent() {
    for features in [PLAIN, feature::ALL] {
        let (model, pool) = machine();
        let model = model.with_features(features);
        let mut net = bring_up(&model, &pool).unwrap();
        let before = pool.stats();
        let bytes = frame(1514);
        let slice = shared(&pool, &bytes);
        let at = slice.phys().as_u64();
        model.take_sources();
        for round in 0..1000 {
            let cuts = [100..101 + round % 99, 200..700, 700..1514 - round % 3];
            send_inserted(&mut net, &bytes, &slice, &cuts, None).unwrap();
            net.commit();
            assert_eq!(model.take_sent().unwrap(), bytes);
            let sources = model.take_sources();
            let inside = |place: u64| (at..at + 1514).contains(&place);
            let read: usize = sources
                .iter()
                .filter(|source| inside(source.address.as_u64()))
                .map(|source| source.len)
                .sum();
            assert_eq!(read, cuts.iter().map(|cut| cut.len()).sum());
            let _ = net.poll();
        }
        assert_eq!((net.stats().tx_frames, net.stats().tx_bytes), (1000, 1000 * 1514));
        drop(slice);
        assert_eq!((pool.stats(), model.refused()), (before, 0));
    }
}

#[test]
fn a_large_segment_in_as_many_pieces_as_may_be_is_cut_and_arrives() {
    let (model, pool) = machine();
    let mut net = bring_up(&model, &pool).unwrap();
    let most = net.inserts_max();
    assert_eq!(most, 17);
    let version = IpVersion::V4;
    let (bytes, partial) = segment(version, 60_000);
    let cut = Some(Cut { version, headers_len: 54, segment_len: 1460 });
    let slice = shared(&pool, &bytes);
    let cuts: Vec<_> = (0..most).map(|at| 100 + at * 3500..3570 + at * 3500).collect();
    for _ in 0..50 {
        let partial = Some(PartialChecksum { cut, ..partial });
        send_inserted(&mut net, &bytes, &slice, &cuts, partial).unwrap();
        net.commit();
        let sent: Vec<_> = core::iter::from_fn(|| model.take_sent()).collect();
        let payload: Vec<_> = sent.iter().flat_map(|frame| &frame[54..]).copied().collect();
        assert_eq!((payload == bytes[54..], model.refused()), (true, 0));
    }
}

#[test]
fn descriptors_run_out_before_buffers_do_and_come_back() {
    let (model, pool) = machine();
    let mut net = bring_up(&model, &pool).unwrap();
    let slice = shared(&pool, &frame(1000));
    let cuts = [100..200, 300..400, 500..600];
    let mut sent = 0;
    while send_inserted(&mut net, &frame(1000), &slice, &cuts, None).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 256 / 7);
    assert_eq!(send_inserted(&mut net, &frame(1000), &slice, &cuts, None), Err(TxFull));
    net.commit();
    send_inserted(&mut net, &frame(1000), &slice, &cuts, None).unwrap();
    net.commit();
    assert_eq!(core::iter::from_fn(|| model.take_sent()).count(), sent + 1);
    drop((slice, net));
    assert_eq!(pool.stats().bytes_free, pool.stats().bytes_total);
}
