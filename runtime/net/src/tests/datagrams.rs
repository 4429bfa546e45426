//! Datagrams that are sent.

use super::*;

use basalt_reactor::Doze;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress as SmolAddress, IpProtocol, Ipv4Packet, Ipv6Packet,
    UdpPacket,
};

use crate::{ConnectError, DatagramError, DatagramId};

const LIMIT: Duration = Duration::from_secs(5);
const SYSLOG: u16 = 514;
const PLAIN: u64 = feature::VERSION_1 | feature::MAC;

/// The payload of a frame with a datagram to that port, all checksums of which are right.
fn payload(frame: &[u8], port: u16) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    let of = |packet: &[u8], from: SmolAddress, to: SmolAddress| {
        let udp = UdpPacket::new_checked(packet).unwrap();
        assert!(udp.verify_checksum(&from, &to), "checksum");
        (udp.dst_port() == port).then(|| udp.payload().to_vec())
    };
    match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
            assert!(ip.verify_checksum());
            let is_udp = ip.next_header() == IpProtocol::Udp;
            let ends = (ip.src_addr().into(), ip.dst_addr().into());
            is_udp.then(|| of(ip.payload(), ends.0, ends.1)).flatten()
        }
        EthernetProtocol::Ipv6 => {
            let ip = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
            let is_udp = ip.next_header() == IpProtocol::Udp;
            let ends = (ip.src_addr().into(), ip.dst_addr().into());
            is_udp.then(|| of(ip.payload(), ends.0, ends.1)).flatten()
        }
        _ => None,
    }
}

/// Steps until the client has sent so many datagrams to port 514; gives them.
fn sent(pair: &mut Pair, count: usize) -> Vec<Vec<u8>> {
    let (mut all, end) = (vec![], pair.now + LIMIT);
    while all.len() < count {
        assert!(pair.now < end, "only {} were sent", all.len());
        pair.now = pair.now + TICK;
        let _ = (pair.server.poll(pair.now), pair.client.poll(pair.now));
        while let Some(frame) = pair.models[0].take_sent() {
            pair.models[1].inject(frame);
        }
        while let Some(frame) = pair.models[1].take_sent() {
            all.extend(payload(&frame, SYSLOG));
            pair.models[0].inject(frame);
        }
    }
    all
}

fn plain(cidr: Ipv4Addr) -> Pair {
    let mut pair = Pair::with(WirePlan::default(), 3, SMALL, PLAIN);
    pair.client.configure(fixed(cidr));
    pair
}

#[test]
fn datagrams_arrive_in_order_once_the_neighbour_is_known() {
    for to in [Endpoint::from((SERVER, SYSLOG)), Endpoint::from((SERVER_V6, SYSLOG))] {
        let mut pair = plain(CLIENT);
        let id = pair.client.open_datagrams(to).unwrap();
        let texts: Vec<Vec<u8>> = (1..20_usize).map(|n| vec![n as u8; n * n]).collect();
        for text in &texts {
            assert_eq!(pair.client.send_datagram(id, text), Ok(()), "{to}");
        }
        assert_eq!(sent(&mut pair, texts.len()), texts, "{to}");
        let stats = pair.client.stats();
        assert_eq!((stats.datagrams, stats.datagrams_dropped), (19, 0));
        assert_eq!(pair.server.stats().frames_dropped, 0);
        pair.run(Duration::from_millis(10));
        assert_ne!(pair.client.doze(), Doze::Polled, "nothing is left to send, so it may rest");
    }
}

#[test]
fn a_card_that_completes_checksums_completes_those_of_datagrams() {
    let mut pair = Pair::new(WirePlan::default(), 4);
    let id = pair.client.open_datagrams((SERVER, SYSLOG).into()).unwrap();
    pair.client.send_datagram(id, b"odd").unwrap();
    assert_eq!(sent(&mut pair, 1), [b"odd"]);
}

#[test]
fn what_waits_for_a_neighbour_is_bounded_and_nothing_that_was_taken_is_lost() {
    let mut pair = plain(CLIENT);
    let late = Ipv4Addr::new(10, 0, 0, 9);
    let id = pair.client.open_datagrams((late, SYSLOG).into()).unwrap();
    let mut taken = vec![];
    for n in 0..100_u8 {
        match pair.client.send_datagram(id, &[n]) {
            Ok(()) => taken.push(vec![n]),
            Err(error) => assert_eq!(error, DatagramError::Full),
        }
        pair.run(TICK * 5);
    }
    assert_eq!(taken.len(), 33, "one on its way, and those behind it");
    let Doze::Until(next) = pair.client.doze() else { panic!("{:?}", pair.client.doze()) };
    assert!(next > pair.now, "it rests until it asks again");
    // Another peer does not wait for that one.
    let known = pair.client.open_datagrams((SERVER, SYSLOG + 1).into()).unwrap();
    pair.client.send_datagram(known, b"now").unwrap();
    pair.until(Duration::from_secs(3), |pair| pair.client.stats().datagrams == 1);
    pair.server.configure(fixed(late));
    assert_eq!(sent(&mut pair, taken.len()), taken);
    assert_eq!(pair.client.stats().datagrams_dropped, 0);
}

#[test]
fn what_cannot_be_sent_is_refused_and_what_is_given_up_is_counted() {
    let mut pair = plain(CLIENT);
    let client = &mut pair.client;
    for bad in [(CLIENT, SYSLOG), (Ipv4Addr::BROADCAST, SYSLOG), (SERVER, 0)] {
        assert_eq!(client.open_datagrams(bad.into()), Err(ConnectError::BadAddress), "{bad:?}");
    }
    let id = client.open_datagrams((SERVER, SYSLOG).into()).unwrap();
    assert_eq!(client.send_datagram(id, &[0; 1473]), Err(DatagramError::TooLong(1472)));
    assert_eq!(client.send_datagram(id, &[0; 1472]), Ok(()));
    let v6 = client.open_datagrams((SERVER_V6, SYSLOG).into()).unwrap();
    assert_eq!(client.send_datagram(v6, &[0; 1453]), Err(DatagramError::TooLong(1452)));
    assert_eq!(sent(&mut pair, 1), [[0; 1472]]);
    // An address that goes takes what waits with it.
    let nobody = Endpoint::from(([10, 0, 0, 77], SYSLOG));
    let waits = pair.client.open_datagrams(nobody).unwrap();
    (0..3).for_each(|_| pair.client.send_datagram(waits, b"lost").unwrap());
    pair.run(TICK);
    pair.client.configure(InterfaceConfig::Static(Addresses::default()));
    assert_eq!(pair.client.send_datagram(waits, b"x"), Err(DatagramError::NoAddress));
    let counted = |pair: &Pair| {
        let stats = pair.client.stats();
        (stats.datagrams, stats.datagrams_dropped)
    };
    assert_eq!(counted(&pair), (1, 3));
    pair.client.configure(fixed(CLIENT));
    (0..2).for_each(|_| pair.client.send_datagram(waits, b"lost").unwrap());
    pair.client.close_datagrams(waits);
    assert_eq!(counted(&pair), (1, 5));
    assert_eq!(pair.client.send_datagram(waits, b"x"), Err(DatagramError::Closed));
    assert_eq!(pair.client.send_datagram(DatagramId(99), b"x"), Err(DatagramError::Closed));
}

#[test]
fn there_is_room_for_few_peers() {
    let mut pair = plain(CLIENT);
    let open = |pair: &mut Pair, last| {
        pair.client.open_datagrams(Endpoint::from(([10, 0, 0, last], SYSLOG)))
    };
    let ids: Vec<DatagramId> = (10..14).map(|last| open(&mut pair, last).unwrap()).collect();
    assert_eq!(open(&mut pair, 14), Err(ConnectError::NoRoom));
    pair.client.close_datagrams(ids[1]);
    assert!(open(&mut pair, 14).is_ok());
}
