//! Cores with queues of their own.

extern crate std;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use basalt_env::{CoreId, Instant};
use basalt_hosted::Machine;
use basalt_models::virtio_net::{Fault, VirtioNetModel, WirePlan, feature};
use proptest::prelude::*;

use super::cores::{World, pattern};
use super::{ACK, SYN, from_peer, from_us};
use crate::steer::flows::{Flows, Side, Sighting};
use crate::tests::{CLIENT, PORT, SERVER_V6, read};
use crate::wire::TcpFlags;
use crate::{Endpoint, NetHandle, NetStack, QueueStats, queue_stats};

const FIN: TcpFlags = TcpFlags::FIN;

/// What each core's queues have moved.
fn queues(world: &mut World) -> Vec<(CoreId, QueueStats)> {
    let local = world.reactors[0].local();
    let stats = Rc::new(RefCell::new(None));
    let (task, done) = (local.clone(), Rc::clone(&stats));
    local.spawn("stats", async move {
        *done.borrow_mut() = Some(queue_stats(&task).await);
    });
    world.run(Duration::from_millis(4));
    stats.take().expect("all cores have answered")
}

/// The cores whose queues have carried more than that both ways.
fn busy(world: &mut World, bytes: u64) -> Vec<u16> {
    let busy = |stats: &QueueStats| stats.card.rx_bytes.min(stats.card.tx_bytes) > bytes;
    let queues = queues(world);
    queues.iter().filter(|(_, stats)| busy(stats)).map(|(core, _)| core.0).collect()
}

#[test]
fn each_core_receives_and_sends_its_flows_by_its_own_queues() {
    let mut world = World::with_pairs(3, 3, WirePlan::default(), feature::ALL);
    let mut sockets = world.connect(6);
    sockets.extend(world.connect_to(SERVER_V6.into(), 3));
    world.echo(&sockets, &pattern(100_000));
    assert_eq!(world.connections(), [3; 3]);
    let bytes: Vec<_> = world.seen.iter().map(|seen| seen.borrow().bytes).collect();
    assert_eq!(bytes, [300_000; 3]);
    let queues = queues(&mut world);
    assert_eq!(queues.len(), 3);
    for (_, stats) in queues {
        assert!(stats.card.rx_bytes > 300_000 && stats.card.tx_bytes > 300_000, "{stats:?}");
        // Handshakes and questions for neighbours, no more.
        assert!(stats.steered < 30, "{stats:?}");
    }
}

#[test]
fn cores_without_queues_go_by_the_cards_core() {
    for (cores, pairs, with_queues) in [(4, 2, vec![0, 1]), (2, 4, vec![0, 1]), (3, 1, vec![0])] {
        let mut world = World::with_pairs(cores, pairs, WirePlan::default(), feature::ALL);
        let sockets = world.connect(4 * cores);
        world.echo(&sockets, &pattern(20_000));
        assert_eq!(world.connections(), vec![4; cores]);
        assert_eq!(busy(&mut world, 80_000), with_queues, "{cores} cores, {pairs} pairs");
    }
}

#[test]
fn a_core_short_of_memory_goes_by_the_cards_core_and_the_next_has_queues() {
    let machine = Machine::new();
    let mac = [0x52, 0x54, 0, 0, 0, 1];
    let model = VirtioNetModel::new(machine.bus(), mac).with_pairs(3);
    let memory = [16 << 20, 4 << 20, 16 << 20];
    let mut world = World::of(&machine, model, &memory, WirePlan::default(), feature::ALL);
    let sockets = world.connect(6);
    world.echo(&sockets, &pattern(50_000));
    assert_eq!(world.connections(), [2; 3]);
    assert_eq!(busy(&mut world, 50_000), [0, 2]);
}

#[test]
fn a_card_that_refuses_several_queues_serves_all_cores_by_one() {
    let machine = Machine::new();
    let mac = [0x52, 0x54, 0, 0, 0, 1];
    let model = VirtioNetModel::new(machine.bus(), mac).with_pairs(3);
    model.set_fault(Some(Fault::RefusesCommands));
    let memory = [16 << 20; 3];
    let mut world = World::of(&machine, model, &memory, WirePlan::default(), feature::ALL);
    let sockets = world.connect(6);
    world.echo(&sockets, &pattern(20_000));
    assert_eq!(world.connections(), [2; 3]);
    assert_eq!(busy(&mut world, 20_000), [0]);
}

#[test]
fn echoes_survive_a_bad_wire_and_any_features_with_several_queues() {
    let plan = WirePlan { lost: 20, doubled: 10, overtaken: 50, damaged: 0 };
    let plain = feature::VERSION_1 | feature::MAC | feature::QUEUES;
    for (plan, features) in
        [(plan, feature::ALL), (plan, plain), (WirePlan { damaged: 20, ..plan }, plain)]
    {
        let mut world = World::with_pairs(3, 2, plan, features);
        let sockets = world.connect(6);
        world.echo(&sockets, &pattern(20_000));
    }
}

#[test]
fn frames_that_come_by_the_wrong_queue_all_the_time_still_arrive() {
    let mut world = World::with_pairs(3, 3, WirePlan::default(), feature::ALL);
    let sockets = world.connect(6);
    for _ in 0..10 {
        world.models[0].forget_flows();
        world.echo(&sockets, &pattern(3_000));
    }
    let steered: u64 = queues(&mut world).iter().map(|(_, stats)| stats.steered).sum();
    assert!(steered > 0, "some came by another's queue");
    assert_eq!(world.connections(), [2; 3]);
}

#[test]
fn connections_of_any_cores_own_find_their_answers() {
    let mut world = World::with_pairs(3, 3, WirePlan::default(), feature::ALL);
    let listener = world.client.listen(PORT).unwrap();
    let peer = Endpoint::new(CLIENT.into(), PORT);
    for round in 0..12 {
        world.models[0].forget_flows();
        let local = world.reactors[round % 3].local();
        let stack = local.service::<NetHandle>().unwrap().stack();
        let socket = stack.borrow_mut().connect(peer).unwrap();
        world.run(Duration::from_millis(5));
        let far = world.client.accept(listener).expect("it is asked for");
        assert_eq!(stack.borrow_mut().send(socket, b"hello"), Ok(5));
        world.run(Duration::from_millis(5));
        assert_eq!(read(&mut world.client, far).unwrap(), b"hello");
        assert_eq!(world.client.send(far, b"yes"), Ok(3));
        world.models[0].forget_flows();
        world.run(Duration::from_millis(5));
        assert_eq!(read(&mut *stack.borrow_mut(), socket).unwrap(), b"yes");
    }
}

#[test]
fn a_flow_that_was_silent_for_minutes_is_still_its_cores() {
    let mut world = World::with_pairs(2, 2, WirePlan::default(), feature::ALL);
    let sockets = world.connect(4);
    world.echo(&sockets, b"before");
    for _ in 0..700 {
        world.step_by(Duration::from_secs(1));
        world.run(Duration::from_millis(1));
    }
    world.models[0].forget_flows();
    world.echo(&sockets, b"after");
    assert_eq!(world.connections(), [2; 2]);
}

#[test]
fn the_same_ports_again_may_be_another_cores() {
    let mut world = World::with_pairs(2, 2, WirePlan::default(), feature::ALL);
    for _ in 0..20 {
        let sockets = world.connect(3);
        world.echo(&sockets, b"short");
        sockets.into_iter().for_each(|socket| world.client.close(socket));
        world.run(Duration::from_millis(20));
        world.models[0].forget_flows();
    }
    assert_eq!(world.connections().iter().sum::<usize>(), 60);
    assert_eq!(world.client.stats().connections, 0);
}

fn lane_with_flow() -> Flows {
    let mut lane = Flows::of_lane(64, 3);
    lane.age(Instant::ZERO);
    assert!(lane.insert(&from_peer(50_000, SYN), Side::Peer, 0));
    lane
}

#[test]
fn a_lane_tells_of_beginning_end_and_life_and_of_nothing_else() {
    let mut lane = lane_with_flow();
    let told = |lane: &mut Flows, segment, side| {
        let mut told = false;
        assert!(lane.follow(&segment, side, &mut |_| {
            told = true;
            true
        }));
        told
    };
    assert!(told(&mut lane, from_us(50_000, SYN | ACK), Side::Ours));
    assert!(told(&mut lane, from_peer(50_000, ACK), Side::Peer), "the first answer");
    for second in 1..600 {
        lane.age(super::at(second));
        let news = told(&mut lane, from_us(50_000, ACK), Side::Ours);
        assert_eq!(news, (second + 200) % 64 == 0, "after {second} seconds");
        assert!(!told(&mut lane, from_peer(50_000, ACK), Side::Peer));
    }
    assert!(told(&mut lane, from_peer(50_000, FIN | ACK), Side::Peer));
    assert!(told(&mut lane, from_us(50_000, FIN | ACK), Side::Ours));
    assert!(!lane.follow(&from_peer(50_001, ACK), Side::Peer, &mut |_| true), "not its own");
}

#[test]
fn what_could_not_be_told_is_told_with_the_next_segment() {
    let mut lane = lane_with_flow();
    for told in [false, false, true] {
        let mut asked = false;
        assert!(lane.follow(&from_peer(50_000, ACK), Side::Peer, &mut |_| {
            asked = true;
            told
        }));
        assert!(asked);
    }
    assert!(lane.follow(&from_peer(50_000, ACK), Side::Peer, &mut |_| panic!("it was told")));
}

proptest! {
    #[test]
    fn what_a_lane_knows_the_table_of_all_lanes_knows_too(
        steps in prop::collection::vec((0u8..24, any::<bool>(), 0u64..150), 1..300),
    ) {
        let (mut all, mut lane) = (Flows::new(64, 3, 5), Flows::of_lane(64, 9));
        let mut seconds = 0;
        for (flags, ours, wait) in steps {
            seconds += wait / 3;
            for _ in 0..8 {
                all.age(super::at(seconds));
                lane.age(super::at(seconds));
            }
            let flags = TcpFlags::from_bits_truncate(flags);
            let (segment, side) = match ours {
                true => (from_us(50_000, flags), Side::Ours),
                false => (from_peer(50_000, flags), Side::Peer),
            };
            if segment.opens() && side == Side::Peer {
                // By way of the switch, which gives the flow to the lane, once more if it knows it.
                if all.lane_of(&segment, side).is_none() {
                    all.insert(&segment, side, 2);
                }
                if lane.lane_of(&segment, side).is_none() {
                    lane.insert(&segment, side, 0);
                }
            } else {
                let mut tell = |seen: Sighting| {
                    all.see(&seen);
                    true
                };
                lane.follow(&segment, side, &mut tell);
            }
            let known = lane.follow(&from_peer(50_000, ACK), Side::Peer, &mut |seen| {
                all.see(&seen);
                true
            });
            if known {
                prop_assert_eq!(all.lane_of(&from_peer(50_000, ACK), Side::Peer), Some(2));
            }
        }
    }
}
