extern crate std;

mod offloads;
mod pairs;

use std::cell::Cell;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use basalt_env::{CoreId, DmaPool, Instant};
use basalt_hosted::Machine;
use basalt_models::virtio_net::{Fault, ModelDevice, NoticeWish, VirtioNetModel, feature};
use basalt_virtio::{QueueError, TransportError};
use proptest::prelude::*;

use crate::pair::SEVERAL_FRAMES;
use crate::{BringUpError, ChecksumState, PartialChecksum, TxFull, VirtioNet};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const PLAIN: u64 = feature::VERSION_1 | feature::MAC;

fn machine() -> (VirtioNetModel, DmaPool) {
    let machine = Machine::new();
    let pool = machine.pool(8 << 20);
    (VirtioNetModel::new(machine.bus(), MAC), pool)
}

fn bring_up(
    model: &VirtioNetModel,
    pool: &DmaPool,
) -> Result<VirtioNet<ModelDevice>, BringUpError> {
    let now = Cell::new(Instant::ZERO);
    let clock = || {
        now.set(now.get() + Duration::from_micros(10));
        now.get()
    };
    VirtioNet::bring_up(model.device(), pool, &clock, CoreId::BOOT)
}

fn up(features: u64) -> (VirtioNetModel, VirtioNet<ModelDevice>) {
    let (model, pool) = machine();
    let model = model.with_features(features);
    let net = bring_up(&model, &pool).unwrap();
    (model, net)
}

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7) as u8).collect()
}

fn send(net: &mut VirtioNet<ModelDevice>, bytes: &[u8]) -> Result<(), TxFull> {
    net.transmit(bytes.len(), |out| {
        out.copy_from_slice(bytes);
        None
    })
}

/// All bytes of a frame.
pub fn whole(frame: &crate::Frame) -> Vec<u8> {
    let mut bytes = vec![];
    while let part @ [_, ..] = frame.from(bytes.len()) {
        bytes.extend_from_slice(part);
    }
    assert_eq!(bytes.len(), frame.len());
    bytes
}

#[test]
fn bring_up_learns_what_the_card_is() {
    let (model, pool) = machine();
    let model = model.with_mtu(9000);
    let net = bring_up(&model, &pool).unwrap();
    assert_eq!((net.mac(), net.mtu()), (MAC, 9000));
    assert!(net.link_up() && net.completes_checksums());
    model.set_link(0);
    assert!(!net.link_up());
    let (_, plain) = up(PLAIN);
    assert!(plain.link_up() && !plain.completes_checksums());
    assert_eq!(plain.mtu(), 1500);
}

#[test]
fn every_failure_of_bring_up_has_its_error_and_leaks_no_memory() {
    let transport = BringUpError::Transport;
    let cases = [
        (Some(Fault::ResetHangs), feature::ALL, 1500, transport(TransportError::ResetTimeout)),
        (None, feature::MAC, 1500, transport(TransportError::Legacy)),
        (None, feature::VERSION_1, 1500, BringUpError::BadMac),
        (None, feature::ALL, 67, BringUpError::BadMtu(67)),
        (
            Some(Fault::RefusesFeatures),
            feature::ALL,
            1500,
            transport(TransportError::FeaturesRefused),
        ),
        (
            Some(Fault::NotifyOutside),
            feature::ALL,
            1500,
            transport(TransportError::NotifyOffset(0)),
        ),
    ];
    for (fault, features, mtu, error) in cases {
        let (model, pool) = machine();
        let model = model.with_features(features).with_mtu(mtu);
        model.set_fault(fault);
        let before = pool.stats();
        assert_eq!(bring_up(&model, &pool).unwrap_err(), error);
        assert_eq!(pool.stats(), before);
    }
}

#[test]
fn a_clock_that_stands_still_does_not_hang_bring_up() {
    let (model, pool) = machine();
    model.set_fault(Some(Fault::ResetHangs));
    let failed = VirtioNet::bring_up(model.device(), &pool, &|| Instant::ZERO, CoreId::BOOT);
    assert_eq!(failed.unwrap_err(), BringUpError::Transport(TransportError::ResetTimeout));
}

#[test]
fn frames_go_both_ways_and_memory_comes_back() {
    for features in [PLAIN, PLAIN | feature::MRG_RXBUF, feature::ALL] {
        let (model, pool) = machine();
        let model = model.with_features(features);
        let before = pool.stats();
        let mut net = bring_up(&model, &pool).unwrap();
        for round in 0..2000 {
            let sent = frame(60 + round % 1455);
            send(&mut net, &sent).unwrap();
            net.commit();
            assert_eq!(model.take_sent().unwrap(), sent);
            model.inject(sent.clone());
            let got = net.receive().unwrap();
            assert_eq!(whole(&got), sent);
            net.recycle(got);
            let _ = net.poll();
        }
        assert_eq!((net.stats().rx_frames, net.stats().tx_frames), (2000, 2000));
        drop(net);
        assert_eq!(pool.stats(), before);
    }
}

#[test]
fn a_round_is_one_notification_and_none_where_it_is_not_wanted() {
    let (model, mut net) = up(PLAIN);
    let before = model.notices();
    for _ in 0..10 {
        send(&mut net, &frame(64)).unwrap();
    }
    assert!(model.take_sent().is_none());
    net.commit();
    assert_eq!(model.notices() - before, 1);
    model.set_wants_notice(NoticeWish::Silent);
    send(&mut net, &frame(64)).unwrap();
    net.commit();
    assert_eq!(model.notices() - before, 1);
    model.set_wants_notice(NoticeWish::Notify);
    net.commit();
    assert_eq!(model.notices() - before, 2);
}

#[test]
fn large_frames_are_put_together_from_many_buffers() {
    let (model, mut net) = up(feature::ALL);
    for len in [4096 - 12, 4096 - 11, 8192, 40_000, 65_549] {
        let sent = frame(len);
        model.inject(sent.clone());
        let got = net.receive().unwrap();
        assert_eq!(whole(&got), sent);
        assert_eq!(got.checksum(), ChecksumState::Good);
        net.recycle(got);
        net.commit();
    }
}

#[test]
fn frames_larger_than_any_packet_are_dropped() {
    let (model, mut net) = up(feature::ALL);
    model.inject(frame(70_000));
    model.inject(frame(100));
    assert_eq!(net.receive().unwrap().len(), 100);
    assert_eq!(net.stats().rx_dropped, 1);
}

#[test]
fn a_full_transmit_queue_refuses_and_recovers() {
    let (model, mut net) = up(PLAIN);
    let mut sent = 0;
    while send(&mut net, &frame(100)).is_ok() {
        sent += 1;
    }
    assert_eq!((sent, net.can_transmit(1)), (256, false));
    net.commit();
    assert!(net.can_transmit(1));
    assert_eq!(core::iter::from_fn(|| model.take_sent()).count(), 256);
    assert_eq!(send(&mut net, &frame(5000)), Err(TxFull));
}

#[test]
fn the_card_completes_a_partial_checksum() {
    let (model, mut net) = up(feature::ALL);
    net.transmit(64, |out| {
        out.fill(0x11);
        out[50..52].copy_from_slice(&[0, 0]);
        Some(PartialChecksum { start: 34, offset: 16, cut: None })
    })
    .unwrap();
    net.commit();
    let sent = model.take_sent().unwrap();
    let sum: u32 =
        sent[34..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}

#[test]
fn checksums_are_vouched_for_only_if_that_was_agreed() {
    let (model, mut net) = up(PLAIN);
    model.inject(frame(100));
    assert_eq!(net.receive().unwrap().checksum(), ChecksumState::Unverified);
}

#[test]
fn a_lying_card_is_left_alone_with_its_error() {
    let lies = [
        (Fault::BadUsedId, QueueError::UsedId),
        (Fault::OverlongUsed, QueueError::UsedLength),
        (Fault::UsedIndexJumps, QueueError::UsedIndex),
    ];
    for (fault, error) in lies {
        let (model, mut net) = up(feature::ALL);
        model.set_fault(Some(fault));
        model.inject(frame(100));
        assert!(net.receive().is_none());
        assert_eq!(net.failure(), Some(error));
        for _ in 0..300 {
            let _ = (net.poll(), send(&mut net, &frame(60)));
            net.commit();
            assert!(net.receive().is_none());
        }
    }
}

#[test]
fn malformed_frames_are_dropped_and_counted() {
    let (model, mut net) = up(feature::ALL);
    model.set_fault(Some(Fault::NoHeader));
    model.inject(frame(100));
    assert!(net.receive().is_none());
    assert_eq!(net.stats().rx_dropped, 1);
    // A frame that claims four buffers eats the next three.
    model.set_fault(Some(Fault::BufferCount(4)));
    for _ in 0..4 {
        model.inject(frame(100));
    }
    assert!(net.receive().is_some());
    model.set_fault(Some(Fault::BufferCount(0)));
    model.inject(frame(100));
    assert_eq!(whole(&net.receive().unwrap()), frame(100));
    assert_eq!(net.failure(), None);
}

#[test]
fn holding_frames_starves_nobody_but_oneself() {
    let (model, mut net) = up(feature::ALL);
    let held: Vec<_> = (0..SEVERAL_FRAMES + 2)
        .filter_map(|_| {
            model.inject(frame(9000));
            net.receive()
        })
        .collect();
    assert_eq!((held.len(), net.stats().rx_dropped), (SEVERAL_FRAMES, 2));
    held.into_iter().for_each(|frame| net.recycle(frame));
    net.commit();
    model.inject(frame(9000));
    assert!(net.receive().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_mix_of_frames_and_lies_keeps_the_driver_standing(
        steps in prop::collection::vec((0usize..5000, 0u8..12, any::<u16>()), 1..80),
    ) {
        let (model, mut net) = up(feature::ALL);
        for (len, kind, count) in steps {
            model.set_fault(match kind {
                0 => Some(Fault::NoHeader),
                1 | 2 => Some(Fault::BufferCount(count)),
                3 => Some(Fault::BufferCount(count % 4)),
                _ => None,
            });
            model.inject(vec![0; len]);
            let _ = send(&mut net, &frame(len % 1500));
            net.commit();
            for _ in 0..4 {
                let _ = net.poll();
                if let Some(got) = net.receive() {
                    prop_assert!(got.len() <= 65_553);
                    net.recycle(got);
                }
            }
            net.commit();
        }
        prop_assert_eq!(net.failure(), None);
    }
}
