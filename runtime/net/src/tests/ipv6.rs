use super::tcp::{exchange, pattern};
use super::*;

use crate::wire::Ip;

pub const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xff);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const PEER_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x99];

/// A frame with an ICMPv6 message and the checksum it needs.
fn icmp(to: [u8; 6], source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend(PEER_MAC.iter().chain(&[0x86, 0xdd, 0x60, 0, 0, 0]));
    frame.extend((message.len() as u16).to_be_bytes().iter().chain(&[58, 255]));
    frame.extend(source.octets().iter().chain(&destination.octets()).chain(message));
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|p| u32::from(u16::from_be_bytes([p[0], *p.get(1).unwrap_or(&0)])))
            .sum()
    };
    let sum = words(&frame[22..]) + message.len() as u32 + 58;
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// A router's advertisement of the prefix `first::/64` for so many seconds (RFC 4861 §4.2).
pub fn advertisement(first: u16, seconds: u16) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(seconds.to_be_bytes().iter().chain(&[0; 8]));
    message.extend([3, 4, 64, 0xc0]);
    let lifetime = u32::from(seconds).to_be_bytes();
    message.extend(lifetime.iter().chain(&lifetime).chain(&[0; 4]));
    message.extend(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0).octets());
    icmp([0x33, 0x33, 0, 0, 0, 1], ROUTER, ALL_NODES, &message)
}

#[test]
fn bytes_survive_a_lossy_wire_over_ipv6_with_and_without_offloads() {
    let plan = WirePlan { lost: 20, doubled: 10, overtaken: 30, damaged: 0 };
    let plain = feature::VERSION_1 | feature::MAC;
    let checksums = plain | feature::CSUM | feature::GUEST_CSUM;
    for (seed, features) in [(1, plain), (2, checksums), (3, feature::ALL)] {
        let mut pair = Pair::with(plan, seed, SMALL, features).at(SERVER_V6);
        exchange(&mut pair, &pattern(60_000, 5));
        assert_eq!(pair.models.each_ref().map(VirtioNetModel::refused), [0, 0]);
    }
}

#[test]
fn stacks_reach_each_other_by_their_link_local_addresses() {
    let link_local = Ipv6Cidr::link_local([0x52, 0x54, 0, 0, 0, 1]).address();
    assert_eq!(link_local, "fe80::5054:ff:fe00:1".parse::<Ipv6Addr>().unwrap());
    let mut pair = Pair::new(WirePlan::default(), 1).at(link_local);
    exchange(&mut pair, b"hello");
}

#[test]
fn each_end_knows_both_endpoints_over_ipv6() {
    let mut pair = Pair::new(WirePlan::default(), 1).at(SERVER_V6);
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    assert_eq!(pair.server.local(far), Some((SERVER_V6, PORT).into()));
    assert_eq!(pair.server.local(far), pair.client.peer(near));
    assert_eq!(pair.server.peer(far), pair.client.local(near));
}

#[test]
fn much_is_sent_in_few_segments_over_ipv6_too() {
    let big = StackOptions { rx_buffer_len: 128 << 10, tx_buffer_len: 128 << 10, ..SMALL };
    let mut pair = Pair::with(WirePlan::default(), 1, big, feature::ALL).at(SERVER_V6);
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    let (bytes, mut sent, mut got) = (pattern(1 << 20, 3), 0, vec![]);
    pair.until(Duration::from_secs(60), |pair| {
        sent += pair.server.send(far, &bytes[sent..]).unwrap();
        got.extend(read(&mut pair.client, near).unwrap());
        got.len() >= bytes.len()
    });
    assert_eq!(got, bytes);
    let frames = pair.server.port().stats().tx_frames;
    assert!(frames < 100, "{frames} frames for a mebibyte");
    assert_eq!(pair.wire.longest()[0], 1514);
}

/// A stack that nobody has configured, and its card.
fn alone(features: u64) -> (VirtioNetModel, IpStack<Card>) {
    let (model, card) = card(1, features);
    (model, IpStack::new(card, SMALL, 1, Instant::ZERO))
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

#[test]
fn routers_are_asked_for_and_what_they_give_is_used_as_long_as_they_say() {
    for features in [feature::ALL, feature::VERSION_1 | feature::MAC] {
        let (model, mut stack) = alone(features);
        let _ = stack.poll(at(1));
        let asked = core::iter::from_fn(|| model.take_sent())
            .filter(|frame| Ip::parse(frame).is_some_and(|ip| ip.protocol == 58))
            .any(|frame| frame[54] == 133);
        assert!(asked, "a router solicitation");
        model.inject(advertisement(0xfd07, 600));
        let _ = stack.poll(at(2));
        let learnt = stack.addresses();
        let address: Ipv6Cidr = "fd07::5054:ff:fe00:1/64".parse().unwrap();
        assert_eq!(learnt.v6().collect::<Vec<_>>(), [address]);
        assert_eq!(learnt.gateway_v6, Some(ROUTER));
        // A fixed address comes beside it, and goes again.
        stack.configure(fixed(SERVER));
        assert_eq!(stack.addresses().v6().count(), 2);
        stack.configure(InterfaceConfig::Dhcp);
        assert_eq!(stack.addresses().v6().collect::<Vec<_>>(), [address]);
        for second in 3..700 {
            let _ = stack.poll(at(second));
        }
        assert_eq!(stack.addresses(), Addresses::default());
    }
}

#[test]
fn an_advertisement_that_came_through_a_router_is_not_believed() {
    let (model, mut stack) = alone(feature::ALL);
    let mut forged = advertisement(0xfd07, 600);
    forged[21] = 254;
    model.inject(forged);
    let _ = stack.poll(at(1));
    assert_eq!(stack.addresses(), Addresses::default());
}

#[test]
fn a_machine_without_a_router_comes_to_rest() {
    let (_, mut stack) = alone(feature::ALL);
    stack.configure(fixed(SERVER));
    let mut polls = 0;
    let mut now = Instant::ZERO;
    while now < at(60) {
        let _ = stack.poll(now);
        now = match stack.doze() {
            basalt_reactor::Doze::Until(timer) => timer.max(now + Duration::from_micros(1)),
            basalt_reactor::Doze::Polled => now + Duration::from_micros(100),
            _ => at(60),
        };
        polls += 1;
    }
    // Fifty a second, where smoltcp would have a thousand.
    assert!(polls < 60 * 110, "{polls} polls in a minute");
}

#[test]
fn neighbours_and_pings_are_answered() {
    let (model, mut stack) = alone(feature::ALL);
    stack.configure(fixed(SERVER));
    let _ = stack.poll(at(1));
    while model.take_sent().is_some() {}
    let peer = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
    let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
    let mut question = vec![135, 0, 0, 0, 0, 0, 0, 0];
    question.extend(SERVER_V6.octets().iter().chain(&[1, 1]).chain(&PEER_MAC));
    model.inject(icmp([0x33, 0x33, 0xff, 0, 0, 1], peer, solicited, &question));
    let _ = stack.poll(at(2));
    let reply = model.take_sent().unwrap();
    assert_eq!((&reply[..6], reply[54]), (&PEER_MAC[..], 136), "neighbour advertisement");
    let ping = [128, 0, 0, 0, 0, 1, 0, 2, 0xaa, 0xbb];
    model.inject(icmp([0x52, 0x54, 0, 0, 0, 1], peer, SERVER_V6, &ping));
    let _ = stack.poll(at(3));
    let pong = model.take_sent().unwrap();
    assert_eq!((pong[54], &pong[58..64]), (129, &ping[4..]), "echo reply");
}

#[test]
fn a_link_of_a_small_mtu_has_no_ipv6() {
    let (model, card) = card_of_mtu(1, feature::ALL, 1200);
    let mut stack = IpStack::new(card, SMALL, 1, Instant::ZERO);
    let _ = stack.poll(at(1));
    model.inject(advertisement(0xfd07, 600));
    let _ = stack.poll(at(2));
    assert!(model.take_sent().is_none());
    assert_eq!(stack.addresses(), Addresses::default());
}

#[test]
fn an_ipv6_address_that_goes_resets_its_connections_and_no_others() {
    let mut pair = Pair::new(WirePlan::default(), 11).at(SERVER_V6);
    let listener = pair.server.listen(PORT).unwrap();
    let (_, gone) = pair.connect(listener);
    let mut pair = pair.at(SERVER);
    let (near, kept) = pair.connect(listener);
    let InterfaceConfig::Static(addresses) = fixed(SERVER) else { panic!() };
    pair.server.configure(InterfaceConfig::Static(addresses.v4.unwrap().into()));
    assert_eq!(read(&mut pair.server, gone), Err(SocketError::Reset));
    pair.server.send(kept, b"still here").unwrap();
    pair.until(Duration::from_secs(9), |pair| !read(&mut pair.client, near).unwrap().is_empty());
}
