use alloc::vec;
use alloc::vec::Vec;

use basalt_bdev::Op;
use basalt_nvme_spec::identify::{
    IDENTIFY_LEN, IdentifyController, IdentifyNamespace, LbaFormat, NamespaceDescriptor,
    NsFeatures, Oncs,
};
use basalt_nvme_spec::registers::Version;
use basalt_nvme_spec::{AnaState, Cns, Csi, NSID_ALL, Status, set_ascii_field};
use zerocopy::IntoBytes;

use super::controller::{AER_MAX, Controller, KEEP_ALIVE_UNIT};
use super::events::{WANT_DISCOVERY, WANT_NAMESPACE};
use super::subsystem::{Namespace, Subsystem};
use super::{State, error_log, zoned};
use crate::DISCOVERY_NQN;
use crate::config::{FusedOperations, TransportConfig};
use crate::connection::{AdminRequest, copy};

/// Identify (§5.17) for the controller at index `at`.
pub(super) fn identify(
    state: &State,
    at: usize,
    request: &AdminRequest,
    config: &TransportConfig,
) -> Result<Vec<u8>, Status> {
    let controller = &state.controllers[at];
    let command = &request.command;
    if (request.len_max as usize) < IDENTIFY_LEN {
        return Err(Status::SGL_LENGTH_INVALID.with_dnr());
    }
    let cns = Cns(command.cdw10.get() as u8);
    let csi = Csi((command.cdw11.get() >> 24) as u8);
    let nsid = command.nsid.get();
    let Some(subsystem) = controller.subsystem.and_then(|id| state.subsystem(id)) else {
        return match cns {
            Cns::CONTROLLER => Ok(discovery_controller(controller, config)),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        };
    };
    let is_spoken = csi == Csi::NVM || csi == Csi::ZONED && controller.command_sets().include(csi);
    match cns {
        Cns::CONTROLLER => {
            let mut identify = io_controller(controller, subsystem, config);
            identify.crdt = state.crdt.map(Into::into);
            Ok(identify.as_bytes().to_vec())
        }
        Cns::NAMESPACE => namespace(controller, subsystem, nsid),
        Cns::ACTIVE_NAMESPACES => active(controller, subsystem, nsid, None),
        ACTIVE_FOR_CSI if is_spoken => active(controller, subsystem, nsid, Some(csi)),
        Cns::NAMESPACE_DESCRIPTORS => {
            let namespace = subsystem.namespace_for(controller, nsid);
            namespace.map(descriptors).ok_or(Status::INVALID_NAMESPACE.with_dnr())
        }
        // The NVM command set has nothing to say there that is not zero (NVM §4.1.5.3, §4.1.5.4),
        // of zoned namespaces either.
        Cns::NAMESPACE_FOR_CSI if is_spoken && csi == Csi::ZONED => {
            zoned::namespace(controller, subsystem, nsid)
        }
        Cns::NAMESPACE_FOR_CSI if csi == Csi::NVM => {
            check_valid(subsystem, nsid).map(|()| vec![0; IDENTIFY_LEN])
        }
        Cns::CONTROLLER_FOR_CSI if is_spoken && csi == Csi::ZONED => {
            Ok(zoned::controller(subsystem, config))
        }
        Cns::CONTROLLER_FOR_CSI if csi == Csi::NVM => Ok(vec![0; IDENTIFY_LEN]),
        Cns::IO_COMMAND_SETS => zoned::command_sets(state, controller, command),
        Cns::NAMESPACE_INDEPENDENT => independent(controller, subsystem, nsid),
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

/// CNS 07h: active namespaces of one command set.
const ACTIVE_FOR_CSI: Cns = Cns(0x07);
/// NMIC: several controllers may use the namespace.
const SHARED: u8 = 1;
/// RESCAP: all types of reservations, and IEKEY as from revision 1.3 on. None survives a restart.
const RESERVATIONS: u8 = 0xfe;

/// Whether there can be a namespace `nsid`; if there is none now, or none for this host, its
/// structures read as zeroes.
pub(super) fn check_valid(subsystem: &Subsystem, nsid: u32) -> Result<(), Status> {
    match (1..=subsystem.options.namespaces_max).contains(&nsid) {
        true => Ok(()),
        false => Err(Status::INVALID_NAMESPACE.with_dnr()),
    }
}

fn common(controller: &Controller) -> IdentifyController {
    let mut identify = IdentifyController::default();
    set_ascii_field(&mut identify.fr, env!("CARGO_PKG_VERSION"));
    identify.cntlid = controller.cntlid.into();
    identify.ver = Version::V2_0.0.into();
    identify.aerl = AER_MAX as u8 - 1;
    identify.lpa = EXTENDED_LOG | SUPPORTED_LOG;
    identify.kas = ((KEEP_ALIVE_UNIT.as_millis() / 100) as u16).into();
    identify
}

/// LPA: the log page offset is supported.
const EXTENDED_LOG: u8 = 1 << 2;
/// LPA: commands supported and effects log.
const EFFECTS_LOG: u8 = 1 << 1;
/// LPA: logs of the supported log pages and features.
const SUPPORTED_LOG: u8 = 1 << 5;

fn discovery_controller(controller: &Controller, config: &TransportConfig) -> Vec<u8> {
    const DISCOVERY: u8 = 2;
    let mut identify = common(controller);
    set_ascii_field(&mut identify.sn, "");
    set_ascii_field(&mut identify.mn, "Basalt discovery");
    identify.cntrltype = DISCOVERY;
    identify.oaes = WANT_DISCOVERY.into();
    identify.mdts = config.mdts();
    identify.maxcmd = config.queue_size_max.into();
    identify.sgls = SGLS.into();
    identify.subnqn[..DISCOVERY_NQN.len()].copy_from_slice(DISCOVERY_NQN.as_bytes());
    identify.as_bytes().to_vec()
}

/// SGLS: supported without alignment, may be longer than the data, offsets into the capsule,
/// transport data blocks.
const SGLS: u32 = 1 | 1 << 18 | 1 << 20 | 1 << 21;

fn io_controller(
    controller: &Controller,
    subsystem: &Subsystem,
    config: &TransportConfig,
) -> IdentifyController {
    const IO: u8 = 1;
    const MANY_PORTS: u8 = 1 << 0;
    const MANY_CONTROLLERS: u8 = 1 << 1;
    const ONE_FIRMWARE_SLOT_READ_ONLY: u8 = 0b011;
    // Present; a Flush names one namespace.
    const CACHE: u8 = 1 | 0b10 << 1;
    let mut identify = common(controller);
    set_ascii_field(&mut identify.sn, &subsystem.options.serial);
    set_ascii_field(&mut identify.mn, &subsystem.options.model);
    identify.cntrltype = IO;
    identify.cmic = MANY_PORTS | MANY_CONTROLLERS;
    identify.oaes = WANT_NAMESPACE.into();
    identify.ctratt = EXTENDED_HOST_ID.into();
    identify.mdts = config.mdts();
    identify.acl = 3;
    identify.frmw = ONE_FIRMWARE_SLOT_READ_ONLY;
    identify.lpa |= EFFECTS_LOG;
    identify.elpe = (error_log::ENTRIES - 1) as u8;
    identify.wctemp = 0x157.into();
    identify.cctemp = 0x175.into();
    identify.sqes = 0x66;
    identify.cqes = 0x44;
    identify.maxcmd = config.queue_size_max.into();
    identify.nn = subsystem.options.namespaces_max.into();
    identify.mnan = subsystem.options.namespaces_max.into();
    let changing = Oncs::DATASET_MANAGEMENT | Oncs::WRITE_ZEROES | Oncs::COPY;
    let optional = changing | Oncs::COMPARE | Oncs::VERIFY | Oncs::SAVE | Oncs::RESERVATIONS;
    // Copy ranges in format 0.
    identify.cdfs = 1.into();
    identify.oncs = optional.difference(config.masked_oncs).bits().into();
    // Compare and Write. One block is promised; more is as atomic.
    identify.fuses = u16::from(config.fused == FusedOperations::Announced).into();
    identify.vwc = CACHE;
    identify.sgls = SGLS.into();
    identify.ioccsz = ((64 + config.in_capsule_len) / 16).into();
    identify.iorcsz = 1.into();
    identify.msdbd = 1;
    let nqn = subsystem.nqn.as_bytes();
    identify.subnqn[..nqn.len()].copy_from_slice(nqn);
    subsystem.describe_ana(&mut identify);
    identify
}

/// CTRATT: 128-bit host identifiers.
const EXTENDED_HOST_ID: u32 = 1;

fn namespace(controller: &Controller, subsystem: &Subsystem, nsid: u32) -> Result<Vec<u8>, Status> {
    let mut identify = IdentifyNamespace::default();
    check_valid(subsystem, nsid)?;
    if let Some(namespace) = subsystem.namespace_for(controller, nsid) {
        describe(namespace, &mut identify);
        identify.anagrpid = subsystem.anagrpid(namespace).into();
        let state = subsystem.state_for(controller, namespace);
        // Who cannot reach it is told no capacities (base §8.1.4).
        if matches!(state, AnaState::Inaccessible | AnaState::PersistentLoss) {
            identify.nuse = 0.into();
            identify.nvmcap = 0.into();
        }
    }
    Ok(identify.as_bytes().to_vec())
}

fn describe(namespace: &Namespace, identify: &mut IdentifyNamespace) {
    let info = namespace.bdev.info();
    let blocks = info.num_blocks.get();
    identify.nsze = blocks.into();
    identify.ncap = blocks.into();
    identify.nuse = blocks.into();
    identify.nmic = SHARED;
    identify.rescap = RESERVATIONS;
    identify.noiob = u16::try_from(info.optimal_io_boundary).unwrap_or(0).into();
    identify.nguid = namespace.nguid;
    identify.nvmcap = u128::from(info.size_bytes()).into();
    // Logical blocks of less than a page gain from whole pages, unless there are units that writes
    // have to be of.
    let blocks = match namespace.bdev.bdev().write_unit() {
        1 => (4096 / info.block_size).max(1),
        unit => unit,
    };
    let zeroes_based = u16::try_from(blocks - 1).unwrap_or(u16::MAX);
    identify.nsfeat = NsFeatures::OPTIMAL_IO.bits();
    identify.npwg = zeroes_based.into();
    identify.npwa = zeroes_based.into();
    identify.npdg = zeroes_based.into();
    identify.npda = zeroes_based.into();
    identify.nows = zeroes_based.into();
    identify.mssrl = copy::RANGE_MAX.into();
    identify.mcl = copy::BLOCKS_MAX.into();
    identify.msrc = (copy::RANGES_MAX - 1) as u8;
    identify.nsattr = attributes(namespace);
    let data_size_log2 = info.block_size.trailing_zeros() as u8;
    identify.lbaf[0] = LbaFormat { data_size_log2, ..LbaFormat::default() };
}

/// NSATTR.
fn attributes(namespace: &Namespace) -> u8 {
    const WRITE_PROTECTED: u8 = 1;
    if namespace.bdev.allows(Op::Write) { 0 } else { WRITE_PROTECTED }
}

/// The namespaces above `after`, of all command sets or of one.
fn active(
    controller: &Controller,
    subsystem: &Subsystem,
    after: u32,
    set: Option<Csi>,
) -> Result<Vec<u8>, Status> {
    if after >= NSID_ALL - 1 {
        return Err(Status::INVALID_NAMESPACE.with_dnr());
    }
    let mut list = Vec::with_capacity(IDENTIFY_LEN);
    let is_asked_for = |(nsid, namespace): &(u32, &Namespace)| {
        *nsid > after && set.is_none_or(|set| set == namespace.command_set())
    };
    let seen = subsystem.namespaces_for(controller).filter(is_asked_for);
    for (nsid, _) in seen.take(IDENTIFY_LEN / 4) {
        list.extend_from_slice(&nsid.to_le_bytes());
    }
    list.resize(IDENTIFY_LEN, 0);
    Ok(list)
}

fn descriptors(namespace: &Namespace) -> Vec<u8> {
    let mut list = vec![0; IDENTIFY_LEN];
    let mut at = 0;
    let nguid = (namespace.nguid != [0; 16]).then_some(NamespaceDescriptor::Nguid(namespace.nguid));
    let uuid = (namespace.uuid != [0; 16]).then_some(NamespaceDescriptor::Uuid(namespace.uuid));
    let csi = Some(NamespaceDescriptor::CommandSet(namespace.command_set()));
    for descriptor in [nguid, uuid, csi].into_iter().flatten() {
        at += descriptor.write(&mut list[at..]).unwrap_or(0);
    }
    list
}

/// CNS 08h (§5.17.2.8): multi-path capabilities and readiness.
fn independent(
    controller: &Controller,
    subsystem: &Subsystem,
    nsid: u32,
) -> Result<Vec<u8>, Status> {
    const NMIC: usize = 1;
    const ANAGRPID: usize = 4;
    const RESCAP: usize = 2;
    const NSATTR: usize = 8;
    const NSTAT: usize = 14;
    const READY: u8 = 1;
    check_valid(subsystem, nsid)?;
    let mut bytes = vec![0; IDENTIFY_LEN];
    if let Some(namespace) = subsystem.namespace_for(controller, nsid) {
        bytes[NMIC] = SHARED;
        let anagrpid = subsystem.anagrpid(namespace).to_le_bytes();
        bytes[ANAGRPID..ANAGRPID + 4].copy_from_slice(&anagrpid);
        bytes[RESCAP] = RESERVATIONS;
        bytes[NSATTR] = attributes(namespace);
        bytes[NSTAT] = READY;
    }
    Ok(bytes)
}
