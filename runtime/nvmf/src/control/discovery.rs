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
use super::subsystem::ports;
use crate::DISCOVERY_NQN;

/// TREQ: hosts may disable submission queue flow control.
const TREQ_NO_FLOW_CONTROL: u8 = 1 << 2;
/// EFLAGS: every entry of this page reaches the same information.
const SAME_INFORMATION: u16 = 1 << 0;
/// EFLAGS: connections to this discovery service may persist.
const PERSISTENT: u16 = 1 << 1;
/// Largest admin queue announced, entries.
const ADMIN_QUEUE_MAX: u16 = 128;

/// The discovery log page as `controller`'s host may see it: this service, and every subsystem
/// that admits the host, at every port it listens on. We listen on all addresses, so the host is
/// told the one by which it reached us.
pub(super) fn log_page(state: &State, controller: &Controller) -> Vec<u8> {
    let address = controller.reached_at.map(|at| at.ip());
    let mut entries = Vec::new();
    for port in state.ports() {
        let flags = SAME_INFORMATION | PERSISTENT;
        let subtype = DiscoveryEntry::SUBTYPE_CURRENT_DISCOVERY;
        entries.push(entry(subtype, flags, DISCOVERY_NQN, address, port));
    }
    let admitted = state.subsystems.iter().filter(|s| s.admits(&controller.hostnqn));
    for subsystem in admitted {
        for port in ports(&subsystem.listeners) {
            entries.push(entry(DiscoveryEntry::SUBTYPE_NVM, 0, &subsystem.nqn, address, port));
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

fn entry(
    subtype: u8,
    eflags: u16,
    nqn: &str,
    address: Option<IpAddress>,
    port: u16,
) -> DiscoveryEntry {
    let mut entry = DiscoveryEntry {
        trtype: DiscoveryEntry::TRTYPE_TCP,
        adrfam: match address {
            Some(IpAddress::V6(_)) => DiscoveryEntry::ADRFAM_IPV6,
            _ => DiscoveryEntry::ADRFAM_IPV4,
        },
        subtype,
        treq: DiscoveryEntry::TREQ_NOT_REQUIRED | TREQ_NO_FLOW_CONTROL,
        portid: port.into(),
        cntlid: CNTLID_DYNAMIC.into(),
        asqsz: ADMIN_QUEUE_MAX.into(),
        eflags: eflags.into(),
        ..DiscoveryEntry::default()
    };
    set_ascii_field(&mut entry.trsvcid, &port.to_string());
    entry.subnqn[..nqn.len()].copy_from_slice(nqn.as_bytes());
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    set_ascii_field(&mut entry.traddr, &address);
    entry
}
