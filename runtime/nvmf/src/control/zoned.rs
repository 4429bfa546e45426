//! Identify structures of the Zoned Namespace Command Set 1.1, and of command sets as such.

use alloc::vec;
use alloc::vec::Vec;

use basalt_nvme_spec::identify::IDENTIFY_LEN;
use basalt_nvme_spec::{Command, Csi, IdentifyZonedNamespace, Status};
use zerocopy::IntoBytes;

use super::State;
use super::controller::Controller;
use super::identify::check_valid;
use super::subsystem::{Namespace, Subsystem};
use crate::config::TransportConfig;

/// Zones of a namespace, ZNS §4.1.5.1; zeroes if it is none of them.
pub(super) fn namespace(
    controller: &Controller,
    subsystem: &Subsystem,
    nsid: u32,
) -> Result<Vec<u8>, Status> {
    // Reads may cross from one zone to the next: bdevs cut them where a drive wants that.
    const READ_ACROSS: u16 = 1;
    check_valid(subsystem, nsid)?;
    let found = subsystem.namespace_for(controller, nsid);
    let mut identify = IdentifyZonedNamespace::empty();
    match found.map(|namespace| namespace.bdev.bdev().zones()) {
        None => {}
        // It is no namespace of that command set (base §5.17.2.5).
        Some(None) => return Err(Status::INVALID_COMMAND_SET.with_dnr()),
        Some(Some(zones)) => {
            identify.ozcs = READ_ACROSS.into();
            identify.mar = zones.active_max.wrapping_sub(1).into();
            identify.mor = zones.open_max.wrapping_sub(1).into();
            identify.lbafe[0].zsze = zones.blocks.into();
        }
    }
    Ok(identify.as_bytes().to_vec())
}

/// The size limit of appends (ZASL, ZNS §4.1.5.2), for all namespaces there are now: a power of two
/// of pages. 0 stands for that of any transfer, so the least there can be is two pages.
pub(super) fn controller(subsystem: &Subsystem, config: &TransportConfig) -> Vec<u8> {
    const PAGE: u64 = 4096;
    let bytes = |namespace: &Namespace| {
        let zones = namespace.bdev.bdev().zones()?;
        Some(u64::from(zones.append_max) * u64::from(namespace.bdev.info().block_size))
    };
    let least = subsystem.namespaces.values().filter_map(bytes).min();
    let limit = least.filter(|bytes| *bytes < u64::from(config.io_len_max));
    let zasl = limit.map_or(0, |bytes| (bytes / PAGE).max(2).ilog2());
    let mut page = vec![0; IDENTIFY_LEN];
    page[0] = zasl as u8;
    page
}

/// CNS 1Ch (base §5.17.2.21): the combinations of command sets a controller supports, of which
/// there is one.
pub(super) fn command_sets(
    state: &State,
    own: &Controller,
    command: &Command,
) -> Result<Vec<u8>, Status> {
    const OWN: u16 = 0xffff;
    let cntid = (command.cdw10.get() >> 16) as u16;
    let is_one = |other: &Controller| other.subsystem == own.subsystem && other.cntlid == cntid;
    if cntid != OWN && !state.controllers.iter().any(is_one) {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let mut page = vec![0; IDENTIFY_LEN];
    page[0] = 1 << Csi::NVM.0 | 1 << Csi::ZONED.0;
    Ok(page)
}
