use super::*;
use proptest::prelude::*;

use std::collections::BTreeSet;

use crate::{Addresses, ConnectError, Endpoint, ListenError, SegmentStats};

const MINUTES: Duration = Duration::from_secs(600);

/// Echoes what arrives on `socket`, as far as there is room.
fn echo(stack: &mut dyn NetStack, socket: SocketId, backlog: &mut Vec<u8>) {
    if backlog.len() < 8192 {
        let _ = stack.recv(socket, &mut |bytes| {
            backlog.extend_from_slice(bytes);
            bytes.len()
        });
    }
    let sent = stack.send(socket, backlog).unwrap_or(0);
    backlog.drain(..sent);
}

pub fn exchange(pair: &mut Pair, bytes: &[u8]) {
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    let (mut sent, mut got, mut backlog) = (0, vec![], vec![]);
    pair.until(MINUTES, |pair| {
        echo(&mut pair.server, far, &mut backlog);
        sent += pair.client.send(near, &bytes[sent..]).unwrap();
        got.extend(read(&mut pair.client, near).unwrap());
        got.len() >= bytes.len()
    });
    assert_eq!(got, bytes);
    pair.client.close(near);
    pair.until(MINUTES, |pair| read(&mut pair.server, far) == Err(SocketError::Closed));
    pair.server.close(far);
    let freed =
        |pair: &mut Pair| pair.server.stats().connections + pair.client.stats().connections == 0;
    pair.until(MINUTES, freed);
}

pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ seed).collect()
}

#[test]
fn segments_that_do_not_simply_come_and_go_are_counted_beyond_the_end_of_their_connection() {
    let segments = |plan: WirePlan| {
        let mut pair = Pair::with(plan, 9, SMALL, feature::VERSION_1 | feature::MAC);
        exchange(&mut pair, &pattern(200_000, 1));
        let [server, client] = [pair.server.stats(), pair.client.stats()];
        assert_eq!((server.connections, client.connections), (0, 0));
        server.segments.unwrap().plus(client.segments.unwrap())
    };
    let quiet = WirePlan::default();
    assert_eq!(segments(quiet), SegmentStats::default());
    let doubled = segments(WirePlan { doubled: 100, ..quiet });
    assert!(doubled.repeated > 3 && doubled.early == 0, "{doubled:?}");
    let overtaken = segments(WirePlan { overtaken: 100, ..quiet });
    assert!(overtaken.early > 3, "{overtaken:?}");
    let lost = segments(WirePlan { lost: 50, ..quiet });
    assert!(lost.resent > 3 && lost.early > 3, "{lost:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn bytes_survive_a_lossy_reordering_wire(
        seed: u64,
        len in 1usize..60_000,
        lost in 0u32..60,
        doubled in 0u32..40,
        overtaken in 0u32..150,
    ) {
        let plan = WirePlan { lost, doubled, overtaken, damaged: 0 };
        exchange(&mut Pair::new(plan, seed), &pattern(len, seed as u8));
    }

    #[test]
    fn bytes_survive_damage_where_the_stack_checks_sums(seed: u64, len in 1usize..40_000) {
        let plan = WirePlan { damaged: 30, ..WirePlan::default() };
        let plain = feature::VERSION_1 | feature::MAC;
        exchange(&mut Pair::with(plan, seed, SMALL, plain), &pattern(len, seed as u8));
    }
}

#[test]
fn each_end_knows_both_endpoints() {
    let mut pair = Pair::new(WirePlan::default(), 1);
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    assert_eq!(pair.server.local(far), pair.client.peer(near));
    assert_eq!(pair.server.peer(far), pair.client.local(near));
    assert_eq!(pair.server.local(far).unwrap(), SocketAddrV4::new(SERVER, PORT).into());
    assert_eq!(pair.server.address(), Some(SERVER.into()));
}

#[test]
fn a_socket_that_is_still_connecting_has_nothing_yet() {
    let mut pair = Pair::new(WirePlan::default(), 12);
    let near = pair.client.connect(SocketAddrV4::new(SERVER, PORT).into()).unwrap();
    assert_eq!(read(&mut pair.client, near), Ok(vec![]));
    assert_eq!(pair.client.send(near, b"early"), Ok(0));
}

#[test]
fn many_peers_are_accepted_up_to_the_backlog_and_the_rest_later() {
    let options = StackOptions { backlog_max: 4, ..SMALL };
    let mut pair = Pair::with(WirePlan::default(), 2, options, feature::ALL);
    let listener = pair.server.listen(PORT).unwrap();
    let near: Vec<_> = (0..10)
        .map(|_| pair.client.connect(SocketAddrV4::new(SERVER, PORT).into()).unwrap())
        .collect();
    pair.run(Duration::from_millis(500));
    assert_eq!(pair.server.stats().connections, 4);
    assert!(pair.server.stats().refused >= 6);
    let mut far = vec![];
    pair.until(MINUTES, |pair| {
        far.extend(pair.server.accept(listener));
        far.len() == near.len()
    });
    assert_eq!(pair.server.accept(listener), None);
}

#[test]
fn connections_are_bounded() {
    let options = StackOptions { connections_max: 3, ..SMALL };
    let mut pair = Pair::with(WirePlan::default(), 3, options, feature::ALL);
    for _ in 0..3 {
        pair.client.connect(SocketAddrV4::new(SERVER, PORT).into()).unwrap();
    }
    assert_eq!(
        pair.client.connect(SocketAddrV4::new(SERVER, PORT).into()),
        Err(ConnectError::NoRoom)
    );
}

#[test]
fn nobody_listening_means_a_reset_and_listening_twice_an_error() {
    let mut pair = Pair::new(WirePlan::default(), 4);
    let near = pair.client.connect(SocketAddrV4::new(SERVER, PORT).into()).unwrap();
    pair.until(MINUTES, |pair| read(&mut pair.client, near) == Err(SocketError::Reset));
    assert_eq!(pair.server.stats().connections, 0);
    let listener = pair.server.listen(PORT).unwrap();
    assert_eq!(pair.server.listen(PORT), Err(ListenError::InUse));
    pair.server.unlisten(listener);
    assert!(pair.server.listen(PORT).is_ok());
}

#[test]
fn an_abort_is_a_reset_at_the_other_end_and_frees_both() {
    let mut pair = Pair::new(WirePlan::default(), 5);
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    pair.client.send(near, b"unread").unwrap();
    pair.client.abort(near);
    assert_eq!(pair.client.send(near, b"stale"), Err(SocketError::Reset));
    pair.until(MINUTES, |pair| pair.server.send(far, b"x") == Err(SocketError::Reset));
    pair.server.close(far);
    pair.run(Duration::from_millis(10));
    assert_eq!((pair.server.stats().connections, pair.client.stats().connections), (0, 0));
}

#[test]
fn close_sends_what_is_queued_first() {
    let mut pair = Pair::new(WirePlan { lost: 100, ..WirePlan::default() }, 6);
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    let bytes = pattern(16 << 10, 9);
    assert_eq!(pair.server.send(far, &bytes), Ok(bytes.len()));
    pair.server.close(far);
    assert_eq!((pair.server.peer(far), pair.server.local(far)), (None, None));
    let mut got = vec![];
    pair.until(MINUTES, |pair| match read(&mut pair.client, near) {
        Ok(more) => {
            got.extend(more);
            false
        }
        Err(error) => error == SocketError::Closed,
    });
    assert_eq!(got, bytes);
}

#[test]
fn a_peer_that_vanishes_is_forgotten() {
    let mut pair = Pair::new(WirePlan::default(), 7);
    let listener = pair.server.listen(PORT).unwrap();
    let (_, far) = pair.connect(listener);
    let (_, closing) = pair.connect(listener);
    pair.wire = Wire::new(WirePlan { lost: 1000, ..WirePlan::default() }, 7);
    pair.server.close(closing);
    pair.run(Duration::from_secs(31));
    assert_eq!(pair.server.stats().connections, 1, "a close is cut off");
    pair.until(MINUTES, |pair| read(&mut pair.server, far) == Err(SocketError::Reset));
}

#[test]
fn a_handshake_that_never_ends_is_cut_off() {
    let mut pair = Pair::new(WirePlan::default(), 8);
    pair.server.listen(PORT).unwrap();
    let near = pair.client.connect(SocketAddrV4::new(SERVER, PORT).into()).unwrap();
    pair.until(MINUTES, |pair| pair.server.stats().connections == 1);
    pair.wire = Wire::new(WirePlan { lost: 1000, ..WirePlan::default() }, 8);
    pair.run(Duration::from_secs(12));
    assert_eq!(pair.server.stats().connections, 0);
    pair.client.abort(near);
}

#[test]
fn unaccepted_connections_go_with_their_listener() {
    let mut pair = Pair::new(WirePlan::default(), 9);
    let listener = pair.server.listen(PORT).unwrap();
    let (kept_near, kept) = pair.connect(listener);
    let near = pair.client.connect(SocketAddrV4::new(SERVER, PORT).into()).unwrap();
    pair.until(MINUTES, |pair| pair.server.stats().accepted == 2);
    pair.server.unlisten(listener);
    pair.until(MINUTES, |pair| read(&mut pair.client, near) == Err(SocketError::Reset));
    assert_eq!(pair.server.stats().connections, 1);
    pair.server.send(kept, b"still here").unwrap();
    pair.until(MINUTES, |pair| !read(&mut pair.client, kept_near).unwrap().is_empty());
}

#[test]
fn a_thousand_connections_leave_nothing_behind() {
    let mut pair = Pair::new(WirePlan::default(), 10);
    let listener = pair.server.listen(PORT).unwrap();
    let (first_near, first) = pair.connect(listener);
    for round in 0..1000 {
        let (near, far) = pair.connect(listener);
        assert_ne!(far, first);
        match round % 4 {
            0 => pair.client.close(near),
            1 => pair.server.close(far),
            2 => pair.client.abort(near),
            _ => pair.server.abort(far),
        }
        pair.run(Duration::from_millis(1));
        pair.client.close(near);
        pair.server.close(far);
        pair.run(Duration::from_millis(2));
        assert_eq!((pair.server.stats().connections, pair.client.stats().connections), (1, 1));
    }
    pair.client.send(first_near, b"alive").unwrap();
    pair.until(MINUTES, |pair| !read(&mut pair.server, first).unwrap().is_empty());
}

#[test]
fn a_new_address_resets_the_connections_of_the_old_one() {
    let mut pair = Pair::new(WirePlan::default(), 11);
    let listener = pair.server.listen(PORT).unwrap();
    let (_, far) = pair.connect(listener);
    pair.server.configure(fixed(Ipv4Addr::new(10, 0, 0, 9)));
    assert_eq!(read(&mut pair.server, far), Err(SocketError::Reset));
}

#[test]
fn a_connection_is_asked_for_only_where_one_can_go() {
    let mut pair = Pair::new(WirePlan::default(), 3);
    let nowhere = Endpoint::from(([0; 8], PORT));
    assert_eq!(pair.client.connect(nowhere), Err(ConnectError::BadAddress));
    for address in [Ipv4Addr::UNSPECIFIED, CLIENT] {
        let peer = Endpoint::from((address, PORT));
        assert_eq!(pair.client.connect(peer), Err(ConnectError::BadAddress), "{address}");
    }
    let peer = Endpoint::from((SERVER, 0));
    assert_eq!(pair.client.connect(peer), Err(ConnectError::BadAddress));
    pair.client.set_addresses(Addresses::default());
    let peer = Endpoint::from((SERVER, PORT));
    assert_eq!(pair.client.connect(peer), Err(ConnectError::NoAddress));
}

#[test]
fn stacks_that_share_an_address_connect_from_ports_of_their_own() {
    let mut seen = BTreeSet::new();
    for index in 0..3 {
        let mut pair = Pair::new(WirePlan::default(), 7);
        pair.client.share_ports(u64::MAX, index, 3);
        for _ in 0..8 {
            let socket = pair.client.connect(Endpoint::from((SERVER, PORT))).unwrap();
            let port = pair.client.local(socket).unwrap().port();
            assert!(port >= 49152 && seen.insert(port), "{port} was another's");
        }
    }
}

/// What is sent again may all have come: the other end, which sends again as well, has to hear so.
#[test]
fn ends_that_both_send_again_hear_each_other() {
    let plan = WirePlan { damaged: 30, ..WirePlan::default() };
    let plain = feature::VERSION_1 | feature::MAC;
    exchange(&mut Pair::with(plan, 12747640552324741968, SMALL, plain), &pattern(9996, 1));
}
