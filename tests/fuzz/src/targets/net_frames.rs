//! Frames into the TCP/IP stacks of two cores, by the switch that gives each flow to one: whatever
//! comes, what they send is well formed, what they hold is bounded, it goes in the end, and a
//! client is served afterwards.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use basalt_env::Instant;
use basalt_net::{
    Address, InterfaceConfig, IpStack, Ipv4Cidr, LocalPort, NetStack, RemotePort, SocketId,
    StackOptions, Switch,
};

use crate::input::Input;
use crate::seed::Seed;
use crate::wire::{Card, Lane, MTU};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
const PORT: u16 = 4420;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
const OPTIONS: StackOptions =
    StackOptions { rx_buffer_len: 4096, tx_buffer_len: 4096, connections_max: 8, backlog_max: 4 };
/// Frames of a run at most.
const FRAMES_MAX: usize = 96;
const ETHERNET_LEN: usize = 14;
const TCP: usize = ETHERNET_LEN + 20;
const BOOTP: usize = TCP + 8;

/// What the next segment of a flow has to say, by the peer's port: its number, and what it
/// acknowledges.
type Flows = BTreeMap<u16, (u32, u32)>;

struct Rig {
    switch: Rc<RefCell<Switch<Card>>>,
    near: IpStack<LocalPort<Card>>,
    far: IpStack<RemotePort<Card>>,
    inbound: Lane,
    outbound: Lane,
    sockets: [Vec<SocketId>; 2],
    flows: Flows,
    /// The transaction of the last DHCP message sent.
    xid: [u8; 4],
    now: Instant,
}

/// Byte 0: whether the address comes by DHCP (bit 0), and whether what is received is sent back
/// (1). Then records: a byte that says what of the frame is made right (lengths and header
/// checksum; numbers of the flow; the DHCP transaction; time that passes first), and the frame.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let mut rig = Rig::started(mode);
    for _ in 0..FRAMES_MAX {
        let record = input.record();
        if record.is_empty() {
            break;
        }
        rig.take(mode, record);
    }
    rig.end();
}

fn address(of: Ipv4Addr) -> Address {
    Address { cidr: Ipv4Cidr::new(of, 24).unwrap(), gateway: None }
}

fn fixed(of: Ipv4Addr) -> InterfaceConfig {
    InterfaceConfig::Static(address(of).into())
}

impl Rig {
    fn new() -> Self {
        let (inbound, outbound) = (Lane::default(), Lane::default());
        let card = Card { mac: MAC, inbound: inbound.clone(), outbound: outbound.clone() };
        let (switch, mut ends) = Switch::new(card, 1, 7);
        let switch = Rc::new(RefCell::new(switch));
        let local = LocalPort::new(Rc::clone(&switch));
        let now = Instant::ZERO;
        let mut near = IpStack::new(local, OPTIONS, 1, now);
        let port = RemotePort::new(ends.pop().unwrap(), None, 7);
        let mut far = IpStack::new(port, OPTIONS, 2, now);
        near.listen(PORT).unwrap();
        far.listen(PORT).unwrap();
        let (sockets, flows) = (Default::default(), Flows::new());
        Self { switch, near, far, inbound, outbound, sockets, flows, xid: [0; 4], now }
    }

    /// One whose address is known, or asked for.
    fn started(mode: u8) -> Self {
        let mut rig = Self::new();
        if mode & 1 == 0 {
            rig.near.configure(fixed(OURS));
            rig.far.set_addresses(address(OURS).into());
        } else {
            rig.near.configure(InterfaceConfig::Dhcp);
        }
        rig.settle(4);
        rig
    }

    /// A record of the input.
    fn take(&mut self, mode: u8, record: &[u8]) {
        let &[how, ref frame @ ..] = record else { return };
        if how & 8 != 0 {
            self.pass(Duration::from_millis(10) * u32::from(how >> 4) * u32::from(how >> 4));
        }
        let frame = self.prepared(how, frame);
        self.inbound.borrow_mut().push_back(frame);
        self.settle(3);
        if mode & 2 != 0 {
            self.echo();
        }
    }

    fn step(&mut self, time: Duration) {
        self.now = self.now + time;
        let _ = self.near.poll(self.now);
        let _ = self.far.poll(self.now);
        let _ = self.switch.borrow_mut().poll(self.now);
        let listener = basalt_net::ListenerId(0);
        self.sockets[0].extend(self.near.accept(listener));
        self.sockets[1].extend(self.far.accept(listener));
        for stats in [self.near.stats(), self.far.stats()] {
            assert!(stats.connections <= OPTIONS.connections_max, "{stats:?}");
        }
    }

    fn settle(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.step(Duration::from_micros(100));
            self.take_sent();
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(Duration::from_millis(50));
            self.take_sent();
        }
    }

    fn take_sent(&mut self) -> Vec<Vec<u8>> {
        let sent: Vec<Vec<u8>> = self.outbound.borrow_mut().drain(..).collect();
        for frame in &sent {
            check(frame);
            self.follow(frame);
            self.inbound.borrow_mut().extend(is_at(frame));
        }
        sent
    }

    /// Remembers what the peer's next segment has to say.
    fn follow(&mut self, frame: &[u8]) {
        if frame[12..14] != [8, 0] {
            return;
        }
        let total = usize::from(be16(frame, 16));
        if frame[23] == 17 && frame.len() >= BOOTP + 8 {
            self.xid.copy_from_slice(&frame[BOOTP + 4..BOOTP + 8]);
        }
        if frame[23] != 6 {
            return;
        }
        let header_len = usize::from(frame[TCP + 12] >> 4) * 4;
        let data = (total - 20 - header_len) as u32;
        let ends = u32::from(frame[TCP + 13] & 3 != 0);
        let next = be32(frame, TCP + 4).wrapping_add(data + ends);
        self.flows.insert(be16(frame, TCP + 2), (be32(frame, TCP + 8), next));
    }

    /// The frame with that much of it made right.
    fn prepared(&self, how: u8, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        if how & 2 != 0 && frame.len() >= TCP + 20 {
            let port = be16(&frame, TCP);
            if let Some((number, acknowledged)) = self.flows.get(&port) {
                frame[TCP + 4..TCP + 8].copy_from_slice(&number.to_be_bytes());
                frame[TCP + 8..TCP + 12].copy_from_slice(&acknowledged.to_be_bytes());
            }
        }
        if how & 4 != 0 && frame.len() >= BOOTP + 8 {
            frame[BOOTP + 4..BOOTP + 8].copy_from_slice(&self.xid);
        }
        if how & 1 != 0 && frame.len() >= TCP {
            let total = (frame.len() - ETHERNET_LEN) as u16;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            frame[24..26].fill(0);
            let sum = ip_sum(&frame[ETHERNET_LEN..TCP]);
            frame[24..26].copy_from_slice(&(!sum).to_be_bytes());
        }
        frame
    }

    /// Sends back what came.
    fn echo(&mut self) {
        let stacks: [&mut dyn NetStack; 2] = [&mut self.near, &mut self.far];
        for (stack, sockets) in stacks.into_iter().zip(&mut self.sockets) {
            sockets.retain(|socket| echo(stack, *socket));
        }
    }

    /// Hangs up on everybody; once all timers have run out nobody is left, and a client is served.
    fn end(mut self) {
        self.near.configure(fixed(OURS));
        self.far.set_addresses(address(OURS).into());
        for (stack, sockets) in
            [&mut self.near as &mut dyn NetStack, &mut self.far].into_iter().zip(&mut self.sockets)
        {
            sockets.drain(..).for_each(|socket| stack.close(socket));
        }
        // Longer than the stack keeps what is closed, or not opened; and than it knows neighbours.
        self.pass(Duration::from_secs(100));
        for socket in std::mem::take(&mut self.sockets).concat() {
            self.near.close(socket);
            self.far.close(socket);
        }
        self.pass(Duration::from_secs(40));
        let left = [self.near.stats(), self.far.stats()].map(|stats| stats.connections);
        assert_eq!(left, [0, 0], "connections are left");
        self.serve_client();
    }

    fn serve_client(&mut self) {
        let (to, from) = (Lane::default(), Lane::default());
        let card = Card { mac: PEER_MAC, inbound: to.clone(), outbound: from.clone() };
        let mut client = IpStack::new(card, OPTIONS, 3, self.now);
        client.configure(fixed(CLIENT));
        let socket = client.connect(SocketAddrV4::new(OURS, PORT).into()).unwrap();
        let mut answer = Vec::new();
        let mut asked = false;
        for _ in 0..2000 {
            self.step(Duration::from_millis(2));
            self.echo();
            let _ = client.poll(self.now);
            to.borrow_mut().extend(self.take_sent());
            self.inbound.borrow_mut().extend(from.borrow_mut().drain(..));
            asked = asked || client.send(socket, b"hello").is_ok_and(|sent| sent == 5);
            let _ = client.recv(socket, &mut |bytes| {
                answer.extend_from_slice(bytes);
                bytes.len()
            });
            if answer == b"hello" {
                return;
            }
        }
        panic!("a client is not served: {answer:?}");
    }
}

/// Whether the connection goes on.
fn echo(stack: &mut dyn NetStack, socket: SocketId) -> bool {
    let mut bytes = Vec::new();
    let received = stack.recv(socket, &mut |chunk| {
        bytes.extend_from_slice(chunk);
        chunk.len()
    });
    let sent = stack.send(socket, &bytes);
    if received.is_err() || sent.is_err() {
        stack.close(socket);
        return false;
    }
    true
}

/// What a stack sends is well formed: no longer than it may be, ARP or IP, its header right.
fn check(frame: &[u8]) {
    assert!(frame.len() >= ETHERNET_LEN && frame.len() <= MTU + ETHERNET_LEN, "{}", frame.len());
    assert_eq!(frame[6..12], MAC, "{frame:x?}");
    match be16(frame, 12) {
        0x0806 => assert!(frame.len() >= ETHERNET_LEN + 28, "{frame:x?}"),
        0x0800 => {
            let total = usize::from(be16(frame, 16));
            assert!(frame.len() >= TCP && frame[14] == 0x45, "{frame:x?}");
            assert!(total >= 20 && total + ETHERNET_LEN <= frame.len(), "{frame:x?}");
            assert_eq!(ip_sum(&frame[ETHERNET_LEN..TCP]), 0xffff, "{frame:x?}");
        }
        0x86dd => {
            let payload = usize::from(be16(frame, 18));
            assert!(frame.len() >= ETHERNET_LEN + 40 && frame[14] >> 4 == 6, "{frame:x?}");
            assert!(ETHERNET_LEN + 40 + payload <= frame.len(), "{frame:x?}");
        }
        other => panic!("a frame of type {other:#x}"),
    }
}

/// What the peer says when it is asked for its address.
fn is_at(frame: &[u8]) -> Option<Vec<u8>> {
    let asks = frame[12..14] == [8, 6] && be16(frame, 20) == 1 && frame[38..42] == PEER.octets();
    let header = [&frame[6..12], &PEER_MAC[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    asks.then(|| [&header[..], &PEER_MAC, &PEER.octets(), &frame[22..32]].concat())
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn ip_sum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(be16(pair, 0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

/// ARP, echo, whole connections, and what a DHCP server says.
pub fn seeds() -> Vec<Seed> {
    let segment = |flags: u8, data: &[u8]| {
        let mut tcp = vec![0xc3, 0x50, 0x11, 0x44, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 16, 0];
        tcp.extend([0; 4]);
        tcp.extend(data);
        packet(6, &tcp)
    };
    let syn = {
        let mut syn = segment(2, &[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 1, 1]);
        syn[TCP + 12] = 0x80;
        syn
    };
    let record = |how: u8, frame: &[u8]| [&[how], frame].concat();
    let connection = Seed::starting(&[2])
        .record(&record(0, &arp()))
        .record(&record(1, &syn))
        .record(&record(3, &segment(16, &[])))
        .record(&record(3, &segment(24, &[7; 900])))
        .record(&record(3, &segment(24, b"more")))
        .record(&record(0x5b, &segment(16, &[])))
        .record(&record(3, &segment(17, &[])))
        .record(&record(3, &segment(16, &[])));
    let reset = Seed::starting(&[0])
        .record(&record(1, &syn))
        .record(&record(3, &segment(16, &[])))
        .record(&record(3, &segment(4, &[])))
        .record(&record(0xfb, &segment(24, b"late")))
        .record(&record(1, &packet(1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0])))
        .record(&record(1, &packet(17, &[0, 9, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4])));
    let lease = Seed::starting(&[3])
        .record(&record(0x5d, &dhcp(2)))
        .record(&record(0x5d, &dhcp(5)))
        .record(&record(0, &arp()))
        .record(&record(1, &syn));
    vec![connection, reset, lease]
}

fn arp() -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &PEER_MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.extend(PEER_MAC.iter().chain(&PEER.octets()).chain(&[0; 6]).chain(&OURS.octets()));
    frame
}

fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame =
        [&MAC[..], &PEER_MAC, &[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol]].concat();
    frame.extend([0, 0, 10, 0, 0, 2].iter().chain(&OURS.octets()).chain(payload));
    frame
}

/// An offer (2) or an acknowledgement (5).
fn dhcp(kind: u8) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[16..20].copy_from_slice(&[10, 0, 0, 1]);
    message[20..24].copy_from_slice(&[10, 0, 0, 254]);
    message[28..34].copy_from_slice(&MAC);
    message[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend([53, 1, kind, 51, 4, 0, 0, 0, 60, 1, 4, 255, 255, 255, 0]);
    message.extend([3, 4, 10, 0, 0, 254, 54, 4, 10, 0, 0, 254, 255]);
    let len = (message.len() + 8) as u16;
    let udp = [&[0, 67, 0, 68][..], &len.to_be_bytes(), &[0, 0], &message].concat();
    let mut frame = packet(17, &udp);
    frame[30..34].fill(0xff);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stacks after the frames of a seed.
    fn after(seed: &Seed) -> Rig {
        let mut input = Input::new(&seed.bytes);
        let mode = input.byte();
        let mut rig = Rig::started(mode);
        while !input.is_empty() {
            rig.take(mode, input.record());
        }
        rig
    }

    #[test]
    fn the_seeds_make_connections_and_leases() {
        let [connection, reset, lease] = seeds().try_into().unwrap();
        let accepted = |rig: &Rig| rig.near.stats().accepted + rig.far.stats().accepted;
        assert_eq!(accepted(&after(&connection)), 1);
        assert_eq!(accepted(&after(&reset)), 1);
        let leased = after(&lease).near.interface_address();
        assert_eq!(leased.map(|address| address.cidr.address()), Some(OURS));
    }
}
