//! Who on the link takes what goes to an address: asked for by ARP (RFC 826) and neighbour
//! discovery (RFC 4861 §7.2), for connections whose peer has not been heard yet, or no more.
//!
//! smoltcp does the same for what it sends itself. Its way is one question a second for all
//! neighbours together; here a connection asks for its own, and waits for no other's.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use super::IpStack;
use super::path::{Flow, Path};
use crate::port::FramePort;
use crate::wire::{self, ETHERNET_LEN, Ip, protocol};
use crate::{IpAddress, checksum};

/// How long an answer is waited for (RFC 4861 §10).
pub const PATIENCE: Duration = Duration::from_secs(1);
const BROADCAST: [u8; 6] = [0xff; 6];
/// An ARP packet for IPv4 on Ethernet.
const ARP_LEN: usize = 28;
/// Hardware and protocol, lengths of their addresses, and the operation: a request.
const ARP_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
/// A neighbour solicitation with our link-layer address (RFC 4861 §4.3).
const SOLICITATION_LEN: usize = 32;
const V6_LEN: usize = 40;
/// Nothing of neighbour discovery may have come from further away.
const HOPS: u8 = 255;
/// Kind and length, in units of eight bytes, of the option with the sender's link-layer address.
const SOURCE_LINK: [u8; 2] = [1, 1];

impl<P: FramePort> IpStack<P> {
    /// Asks who takes what goes the way of `flow`. Without a router to what is far there is nobody
    /// to ask for.
    #[cold]
    pub(super) fn ask(&mut self, flow: &Flow) {
        let hop = self.next_hop(flow.peer.ip());
        let (mac, port) = (self.mac, &mut self.phy.port);
        let sent = match (flow.local.ip(), hop) {
            (IpAddress::V4(own), Some(IpAddress::V4(hop))) => {
                port.transmit(ETHERNET_LEN + ARP_LEN, |frame| {
                    write_request(frame, mac, own, hop);
                    None
                })
            }
            (IpAddress::V6(own), Some(IpAddress::V6(hop))) => {
                port.transmit(ETHERNET_LEN + V6_LEN + SOLICITATION_LEN, |frame| {
                    write_solicitation(frame, mac, own, hop);
                    None
                })
            }
            _ => Ok(()),
        };
        self.phy.tx_dropped += u64::from(sent.is_err());
    }

    /// The neighbour that takes what goes to `peer`.
    fn next_hop(&self, peer: IpAddress) -> Option<IpAddress> {
        let addresses = self.addresses();
        match peer {
            IpAddress::V4(peer) => {
                let own = addresses.v4?;
                let hop = if own.cidr.contains(peer) { Some(peer) } else { own.gateway };
                hop.map(IpAddress::V4)
            }
            IpAddress::V6(peer) => {
                let is_near =
                    peer.is_unicast_link_local() || addresses.v6().any(|cidr| cidr.contains(peer));
                let hop = if is_near { Some(peer) } else { addresses.gateway_v6 };
                hop.map(IpAddress::V6)
            }
        }
    }

    /// A frame that is not TCP's may say who somebody is that is asked for.
    #[cold]
    pub(super) fn hear_neighbour(&mut self, frame: &[u8]) {
        let Some((address, link)) = wire::tells_of(frame) else { return };
        let unknown = |path: &Path| !path.is_known();
        let waiting = self.table.iter().filter(|connection| unknown(&connection.path));
        let peers = waiting.map(|connection| connection.path.flow().peer.ip());
        let answered = peers.filter(|peer| self.next_hop(*peer) == Some(address));
        let answered: Vec<IpAddress> = answered.collect();
        if answered.is_empty() {
            return;
        }
        let Self { table, queued, .. } = self;
        for (slot, connection) in table.iter_mut() {
            let peer = connection.path.flow().peer.ip();
            if unknown(&connection.path) && answered.contains(&peer) {
                connection.path.learn(link);
                connection.asked_at = None;
                connection.join(queued, slot);
            }
        }
    }
}

fn write_request(frame: &mut [u8], mac: [u8; 6], own: Ipv4Addr, asked: Ipv4Addr) {
    let (ethernet, arp) = frame.split_at_mut(ETHERNET_LEN);
    ethernet[..6].copy_from_slice(&BROADCAST);
    ethernet[6..12].copy_from_slice(&mac);
    ethernet[12..].copy_from_slice(&wire::ETHERTYPE_ARP.to_be_bytes());
    arp[..8].copy_from_slice(&ARP_REQUEST);
    arp[8..14].copy_from_slice(&mac);
    arp[14..18].copy_from_slice(&own.octets());
    arp[18..24].fill(0);
    arp[24..].copy_from_slice(&asked.octets());
}

fn write_solicitation(frame: &mut [u8], mac: [u8; 6], own: Ipv6Addr, asked: Ipv6Addr) {
    let [.., a, b, c] = asked.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), 0);
    let mut group = group.octets();
    group[14..].copy_from_slice(&[b, c]);
    let (ethernet, ip) = frame.split_at_mut(ETHERNET_LEN);
    ethernet[..6].copy_from_slice(&[0x33, 0x33, 0xff, a, b, c]);
    ethernet[6..12].copy_from_slice(&mac);
    ethernet[12..].copy_from_slice(&wire::ETHERTYPE_IPV6.to_be_bytes());
    ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    ip[4..8].copy_from_slice(&[0, SOLICITATION_LEN as u8, protocol::ICMPV6, HOPS]);
    ip[8..24].copy_from_slice(&own.octets());
    ip[24..40].copy_from_slice(&group);
    let message = &mut ip[V6_LEN..];
    message[..8].copy_from_slice(&[wire::discovery::SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
    message[8..24].copy_from_slice(&asked.octets());
    message[24..26].copy_from_slice(&SOURCE_LINK);
    message[26..].copy_from_slice(&mac);
    let packet = Ip {
        source: own.into(),
        destination: Ipv6Addr::from(group).into(),
        protocol: protocol::ICMPV6,
        start: ETHERNET_LEN + V6_LEN,
        end: frame.len(),
    };
    checksum::complete_icmp_v6(frame, &packet);
}
