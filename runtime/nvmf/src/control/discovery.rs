//! The discovery service (§5.16.1.23, NVMe/TCP §3.1).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use basalt_net::{Endpoint, IpAddress};
use basalt_nvme_spec::fabrics::{CNTLID_DYNAMIC, NQN_LEN_MAX};
use basalt_nvme_spec::log_page::{DiscoveryEntry, DiscoveryHeader};
use basalt_nvme_spec::set_ascii_field;
use zerocopy::IntoBytes;

use super::configure::ConfigError;
use super::subsystem::{Listener, SubsystemListener};
use super::{State, Target};
use crate::DISCOVERY_NQN;
use crate::config::TransportConfig;

/// TREQ: hosts may disable submission queue flow control. About a secure channel nothing is
/// specified, as the security type (TSAS) says "none" already.
const TREQ_NO_FLOW_CONTROL: u8 = 1 << 2;
/// EFLAGS: every entry of this page reaches the same information.
const SAME_INFORMATION: u16 = 1 << 0;
/// EFLAGS: connections to this discovery service may persist.
const PERSISTENT: u16 = 1 << 1;
/// Entries that every admin queue may have, of services we know nothing of.
const ADMIN_QUEUE_SIZE_MIN: u16 = 32;

/// Which listeners a host is told of, as it has reached this service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiscoveryFilter {
    /// Only those at the address that the host used.
    pub address: bool,
    /// Only those at the port that the host used.
    pub port: bool,
}

/// Another service that hosts are told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Referral {
    /// Where it is.
    pub at: Listener,
    /// Its name: the one of every discovery service, or that of an NVM subsystem.
    pub subnqn: String,
    /// Whether it is reached by a secure channel only.
    pub secure_channel: bool,
}

/// What a discovery controller has told its host.
#[derive(Default)]
pub(super) struct Told {
    /// The generation of it.
    pub(super) genctr: u64,
    pub(super) entries: Vec<Found>,
}

/// What an entry of the log page says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    subtype: u8,
    treq: u8,
    eflags: u16,
    admin_queue_size: u16,
    subnqn: String,
    place: Place,
}

/// What a host may see that reached us at `reached`: this service, every subsystem that admits the
/// host wherever it listens, and referrals. Where that is on all addresses, the host is told the
/// one by which it reached us.
pub(super) fn entries(
    state: &State,
    host: &str,
    reached: Option<Endpoint>,
    config: &TransportConfig,
) -> Vec<Found> {
    let address = reached.map(|at| at.ip());
    let filter = state.discovery_filter;
    let is_told = |place: &Place| {
        let same_address = !filter.address || place.0 == address;
        same_address && (!filter.port || reached.is_none_or(|at| at.port() == place.1))
    };
    let own = |subtype, eflags, subnqn: &str, place| Found {
        subtype,
        treq: TREQ_NO_FLOW_CONTROL,
        eflags,
        admin_queue_size: config.admin_queue_size_max,
        subnqn: String::from(subnqn),
        place,
    };
    let is_filtered = filter != DiscoveryFilter::default();
    let same = if is_filtered { 0 } else { SAME_INFORMATION };
    let service = state.ports().into_iter().map(|port| (address, port));
    let service = service.filter(is_told).map(|place| {
        let subtype = DiscoveryEntry::SUBTYPE_CURRENT_DISCOVERY;
        own(subtype, same | PERSISTENT, DISCOVERY_NQN, place)
    });
    let mut entries: Vec<Found> = service.collect();
    for subsystem in state.subsystems.iter().filter(|subsystem| subsystem.admits(host)) {
        let told = places(&subsystem.listeners, address).into_iter().filter(is_told);
        entries
            .extend(told.map(|place| own(DiscoveryEntry::SUBTYPE_NVM, 0, &subsystem.nqn, place)));
    }
    entries.extend(state.referrals.iter().map(referred));
    entries
}

fn referred(referral: &Referral) -> Found {
    Found {
        subtype: match referral.subnqn.as_str() {
            DISCOVERY_NQN => DiscoveryEntry::SUBTYPE_REFERRAL,
            _ => DiscoveryEntry::SUBTYPE_NVM,
        },
        treq: match referral.secure_channel {
            true => DiscoveryEntry::TREQ_REQUIRED,
            false => DiscoveryEntry::TREQ_NOT_REQUIRED,
        },
        eflags: 0,
        admin_queue_size: ADMIN_QUEUE_SIZE_MIN,
        subnqn: referral.subnqn.clone(),
        place: (Some(referral.at.address), referral.at.port),
    }
}

/// `len` bytes of the discovery log page from `offset` on, or what there is of them; `None` if it
/// does not reach as far. Hosts read a long one in many parts, so no more is made than is wanted.
pub(super) fn log_page(told: &Told, offset: u64, len: usize) -> Option<Vec<u8>> {
    // The header is as long as an entry.
    const UNIT: usize = size_of::<DiscoveryEntry>();
    const _: () = assert!(size_of::<DiscoveryHeader>() == UNIT);
    let offset = usize::try_from(offset).ok()?;
    if offset > (told.entries.len() + 1) * UNIT {
        return None;
    }
    let (first, skip) = (offset / UNIT, offset % UNIT);
    let mut bytes = Vec::with_capacity(skip + len + UNIT);
    if first == 0 {
        let header = DiscoveryHeader {
            genctr: told.genctr.into(),
            numrec: (told.entries.len() as u64).into(),
            ..DiscoveryHeader::default()
        };
        bytes.extend_from_slice(header.as_bytes());
    }
    for found in told.entries.iter().skip(first.saturating_sub(1)) {
        if bytes.len() >= skip + len {
            break;
        }
        bytes.extend_from_slice(entry(found).as_bytes());
    }
    bytes.drain(..skip.min(bytes.len()));
    Some(bytes)
}

impl Target {
    /// Tells hosts of another service.
    pub fn add_referral(&self, referral: Referral) -> Result<(), ConfigError> {
        if referral.subnqn.len() > NQN_LEN_MAX || referral.subnqn.contains('\0') {
            return Err(ConfigError::BadNqn);
        }
        let state = &mut *self.state.borrow_mut();
        let same = |other: &Referral| other.at == referral.at && other.subnqn == referral.subnqn;
        if state.referrals.iter().any(same) {
            return Err(ConfigError::ReferralExists);
        }
        state.referrals.push(referral);
        self.discovery_changed(state);
        Ok(())
    }

    /// Tells hosts of it no longer.
    pub fn remove_referral(&self, at: Listener, subnqn: &str) -> Result<(), ConfigError> {
        let state = &mut *self.state.borrow_mut();
        let same = |other: &Referral| other.at == at && other.subnqn == subnqn;
        let place = state.referrals.iter().position(same).ok_or(ConfigError::NoSuchReferral)?;
        state.referrals.remove(place);
        self.discovery_changed(state);
        Ok(())
    }

    /// The other services that hosts are told of.
    pub fn referrals(&self) -> Vec<Referral> {
        self.state.borrow().referrals.clone()
    }

    /// Which listeners hosts are told of.
    pub fn set_discovery_filter(&self, filter: DiscoveryFilter) {
        let state = &mut *self.state.borrow_mut();
        state.discovery_filter = filter;
        self.discovery_changed(state);
    }
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

fn entry(found: &Found) -> DiscoveryEntry {
    let (address, port) = found.place;
    let mut entry = DiscoveryEntry {
        trtype: DiscoveryEntry::TRTYPE_TCP,
        adrfam: match address {
            Some(IpAddress::V6(_)) => DiscoveryEntry::ADRFAM_IPV6,
            _ => DiscoveryEntry::ADRFAM_IPV4,
        },
        subtype: found.subtype,
        treq: found.treq,
        portid: port.into(),
        cntlid: CNTLID_DYNAMIC.into(),
        asqsz: found.admin_queue_size.into(),
        eflags: found.eflags.into(),
        ..DiscoveryEntry::default()
    };
    set_ascii_field(&mut entry.trsvcid, &port.to_string());
    entry.subnqn[..found.subnqn.len()].copy_from_slice(found.subnqn.as_bytes());
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    set_ascii_field(&mut entry.traddr, &address);
    entry
}
