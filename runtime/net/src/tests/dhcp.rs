use super::*;

use super::checksum::complete;

/// A DHCP server of one lease: answers DISCOVER with OFFER and REQUEST with ACK (RFC 2131 §3.1).
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    const BOOTP: usize = 14 + 20 + 8;
    if frame.len() < BOOTP + 244 || frame[36..38] != 67u16.to_be_bytes() {
        return None;
    }
    let request = &frame[BOOTP..];
    let size = request.windows(2).position(|option| option == [57, 2])?;
    assert_eq!(request[size + 2..][..2], (1500u16 - 68).to_be_bytes(), "largest message");
    // Options start after the cookie; the first is the message type.
    let kind = match request[240..243] {
        [53, 1, 1] => 2,
        [53, 1, 3] => 5,
        _ => return None,
    };
    let mut reply = vec![0; 240];
    reply[..4].copy_from_slice(&[2, 1, 6, 0]);
    reply[4..8].copy_from_slice(&request[4..8]);
    reply[16..20].copy_from_slice(&CLIENT.octets());
    reply[20..24].copy_from_slice(&SERVER.octets());
    reply[28..44].copy_from_slice(&request[28..44]);
    reply[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    let lease = [51, 4, 0, 0, 0, 60];
    let (mask, router, server) = ([1, 4, 255, 255, 0, 0], [3, 4], [54, 4]);
    reply.extend([53, 1, kind].iter().chain(&lease).chain(&mask));
    reply.extend(router.iter().chain(&SERVER.octets()));
    reply.extend(server.iter().chain(&SERVER.octets()).chain(&[255]));
    Some(packet(&frame[6..12], &reply))
}

/// A UDP packet from port 67 to port 68, with the header checksum that IPv4 wants.
fn packet(to: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([0x52, 0x54, 0, 0, 0, 0x67, 8, 0]);
    let udp_len = payload.len() as u16 + 8;
    let mut ip = vec![0x45, 0];
    ip.extend((udp_len + 20).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(SERVER.octets().iter().chain(&[255; 4]));
    let sum: u32 = ip.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend([0, 67, 0, 68].iter().chain(&udp_len.to_be_bytes()).chain(&[0, 0]));
    frame.extend(payload);
    complete(&mut frame);
    frame
}

#[test]
fn an_address_comes_from_dhcp_and_goes_when_the_lease_ends() {
    for features in [feature::ALL, feature::VERSION_1 | feature::MAC] {
        let (model, card) = card(2, features);
        let mut stack = IpStack::new(card, SMALL, 1, Instant::ZERO);
        stack.configure(InterfaceConfig::Dhcp);
        let mut now = Instant::ZERO;
        let mut run = |stack: &mut IpStack<Card>, time: Duration, serve: Serve| {
            let end = now + time;
            while now < end {
                now = now + Duration::from_millis(5);
                let _ = stack.poll(now);
                let sent: Vec<_> = core::iter::from_fn(|| model.take_sent()).collect();
                if serve == Serve::Yes {
                    sent.iter().filter_map(|f| answer(f)).for_each(|f| model.inject(f));
                }
            }
        };
        run(&mut stack, Duration::from_secs(2), Serve::Yes);
        let address = stack.interface_address().unwrap();
        assert_eq!((address.cidr.address(), address.cidr.prefix_len()), (CLIENT, 16));
        assert_eq!(address.gateway, Some(SERVER));
        run(&mut stack, Duration::from_secs(300), Serve::Yes);
        assert_eq!(stack.interface_address(), Some(address), "the lease is renewed");
        run(&mut stack, Duration::from_secs(70), Serve::No);
        assert_eq!(stack.interface_address(), None);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Serve {
    Yes,
    No,
}

#[test]
fn arp_and_ping_are_answered() {
    let (model, card) = card(1, feature::ALL);
    let mut stack = IpStack::new(card, SMALL, 1, Instant::ZERO);
    stack.configure(fixed(SERVER));
    let peer = [0x52, 0x54, 0, 0, 0, 9];
    let mut request = [0xff; 6].to_vec();
    request.extend(peer.iter().chain(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]));
    request.extend(peer.iter().chain(&CLIENT.octets()).chain(&[0; 6]).chain(&SERVER.octets()));
    model.inject(request);
    let _ = stack.poll(Instant::from_ns(1));
    let reply = model.take_sent().unwrap();
    assert_eq!((&reply[..6], &reply[20..22]), (&peer[..], &[0, 2][..]));

    let mut ping = [0x52, 0x54, 0, 0, 0, 1].to_vec();
    ping.extend(peer.iter().chain(&[8, 0]));
    let mut ip = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 1, 0, 0];
    ip.extend(CLIENT.octets().iter().chain(&SERVER.octets()));
    let sum: u32 = ip.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ping.extend(ip);
    ping.extend([8, 0, 0xf7, 0xfc, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    model.inject(ping);
    let _ = stack.poll(Instant::from_ns(2));
    let mut sent = core::iter::from_fn(|| model.take_sent());
    let pong = sent.find(|frame| frame[12..14] == [8, 0]).unwrap(); // Not a router solicitation.
    assert_eq!((pong[23], pong[34]), (1, 0), "ICMP echo reply");
}

#[test]
fn addresses_are_read_with_their_prefix() {
    let cidr: Ipv4Cidr = "10.0.0.1/24".parse().unwrap();
    assert_eq!((cidr.address(), cidr.prefix_len()), (SERVER, 24));
    for bad in ["10.0.0.1", "10.0.0.1/33", "10.0.0.1/0", "0.0.0.0/8", "224.0.0.1/4", "x/1", ""] {
        assert!(bad.parse::<Ipv4Cidr>().is_err(), "{bad}");
    }
    let cidr: Ipv6Cidr = "fd00::1/64".parse().unwrap();
    assert_eq!((cidr.address(), cidr.prefix_len()), (SERVER_V6, 64));
    for bad in
        ["fd00::1", "fd00::1/129", "fd00::1/0", "::/64", "::1/128", "ff02::1/64", "1.2.3.4/8"]
    {
        assert!(bad.parse::<Ipv6Cidr>().is_err(), "{bad}");
    }
}
