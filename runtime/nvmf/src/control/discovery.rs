//! The discovery service (§5.16.1.23, NVMe/TCP §3.1).

use alloc::string::ToString;
use alloc::vec::Vec;

use basalt_net::IpAddress;
use basalt_nvme_spec::fabrics::CNTLID_DYNAMIC;
use basalt_nvme_spec::log_page::{DiscoveryEntry, DiscoveryHeader};
use basalt_nvme_spec::set_ascii_field;
use zerocopy::IntoBytes;

use super::State;
use super::controller::Controller;
use super::subsystem::{Listener, SubsystemListener};
use crate::DISCOVERY_NQN;
use crate::config::TransportConfig;

/// TREQ: hosts may disable submission queue flow control. About a secure channel nothing is
/// specified, as the security type (TSAS) says "none" already.
const TREQ_NO_FLOW_CONTROL: u8 = 1 << 2;
/// EFLAGS: every entry of this page reaches the same information.
const SAME_INFORMATION: u16 = 1 << 0;
/// EFLAGS: connections to this discovery service may persist.
const PERSISTENT: u16 = 1 << 1;
/// The discovery log page as `controller`'s host may see it: this service, and every subsystem
/// that admits the host, wherever it listens. Where that is on all addresses, the host is told the
/// one by which it reached us.
pub(super) fn log_page(
    state: &State,
    controller: &Controller,
    config: &TransportConfig,
) -> Vec<u8> {
    let reached = controller.reached_at.map(|at| at.ip());
    let mut entries = Vec::new();
    for port in state.ports() {
        let flags = SAME_INFORMATION | PERSISTENT;
        let subtype = DiscoveryEntry::SUBTYPE_CURRENT_DISCOVERY;
        entries.push(entry(subtype, flags, DISCOVERY_NQN, (reached, port), config));
    }
    let admitted = state.subsystems.iter().filter(|s| s.admits(&controller.hostnqn));
    for subsystem in admitted {
        for place in places(&subsystem.listeners, reached) {
            let nqn = &subsystem.nqn;
            entries.push(entry(DiscoveryEntry::SUBTYPE_NVM, 0, nqn, place, config));
        }
    }
    let header = DiscoveryHeader {
        genctr: state.genctr.into(),
        numrec: (entries.len() as u64).into(),
        ..DiscoveryHeader::default()
    };
    let mut bytes = header.as_bytes().to_vec();
    for entry in &entries {
        bytes.extend_from_slice(entry.as_bytes());
    }
    bytes
}

/// An address, if known, and a port.
type Place = (Option<IpAddress>, u16);

/// Where `listeners` are, each place once.
fn places(listeners: &[SubsystemListener], reached: Option<IpAddress>) -> Vec<Place> {
    let own = |listener: &Listener| {
        let specified = Some(listener.address).filter(|address| !address.is_unspecified());
        (specified.or(reached), listener.port)
    };
    let mut places: Vec<Place> = Vec::new();
    for place in listeners.iter().map(|listener| own(&listener.at)) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn entry(
    subtype: u8,
    eflags: u16,
    nqn: &str,
    (address, port): Place,
    config: &TransportConfig,
) -> DiscoveryEntry {
    let mut entry = DiscoveryEntry {
        trtype: DiscoveryEntry::TRTYPE_TCP,
        adrfam: match address {
            Some(IpAddress::V6(_)) => DiscoveryEntry::ADRFAM_IPV6,
            _ => DiscoveryEntry::ADRFAM_IPV4,
        },
        subtype,
        treq: TREQ_NO_FLOW_CONTROL,
        portid: port.into(),
        cntlid: CNTLID_DYNAMIC.into(),
        asqsz: config.admin_queue_size_max().into(),
        eflags: eflags.into(),
        ..DiscoveryEntry::default()
    };
    set_ascii_field(&mut entry.trsvcid, &port.to_string());
    entry.subnqn[..nqn.len()].copy_from_slice(nqn.as_bytes());
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    set_ascii_field(&mut entry.traddr, &address);
    entry
}
