//! What the methods of the target take.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::uuid::Uuid;
use basalt_net::IpAddress;
use basalt_nvmf::{
    AnaState, C2hSuccess, FusedOperations, Listener, Oncs, SubsystemReset, TransportConfig,
};

use crate::methods::bdev::read_uuid;
use crate::{Params, RpcError, errno};

/// The NVMe/TCP port (NVM Express TCP Transport §3.1.1).
const PORT: u16 = 4420;

/// `nvmf_create_transport` parameters of other transports, or of machinery that is not here.
/// SPDK's client sends some of them always, a saved configuration all.
const FOREIGN: [&str; 22] = [
    "io_unit_size",
    "num_shared_buffers",
    "buf_cache_size",
    "iobuf_small_cache_size",
    "iobuf_large_cache_size",
    "zcopy",
    "num_cqe",
    "max_srq_depth",
    "no_srq",
    "acceptor_backlog",
    "acceptor_poll_rate",
    "no_wr_batching",
    "control_msg_num",
    "disable_mappable_bar0",
    "disable_adaptive_irq",
    "disable_shadow_doorbells",
    "disable_command_passthru",
    "data_wr_pool_size",
    "ack_timeout",
    "transport_specific",
    "kas",
    "tgt_name",
];

/// Reads `{trtype, adrfam, traddr, trsvcid}`; address family and port may be left out.
pub(super) fn read_listener(params: Params) -> Result<Listener, RpcError> {
    let (address, port) = read_address(params)?;
    Ok(Listener { address, port: port.unwrap_or(PORT) })
}

/// The same for a service elsewhere, whose port has to be said.
pub(super) fn read_service(params: Params) -> Result<Listener, RpcError> {
    let (address, port) = read_address(params)?;
    let port = port.ok_or_else(|| RpcError::params("Service ID is required: 'trsvcid'"))?;
    Ok(Listener { address, port })
}

fn read_address(mut params: Params) -> Result<(IpAddress, Option<u16>), RpcError> {
    read_trtype(&mut params)?;
    let adrfam: Option<String> = params.optional("adrfam")?;
    let traddr: String = params.required("traddr")?;
    let trsvcid: Option<String> = params.optional("trsvcid")?;
    params.ignore(&["priority", "transport"]);
    params.finish()?;
    let address: IpAddress = traddr
        .parse()
        .map_err(|_| RpcError::params(format_args!("'traddr': '{traddr}' is not an IP address")))?;
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    if adrfam.is_some_and(|named| !named.eq_ignore_ascii_case(family)) {
        let message = format_args!("'adrfam': '{traddr}' is of family {family}");
        return Err(RpcError::params(message));
    }
    let Some(trsvcid) = trsvcid else { return Ok((address, None)) };
    let port = trsvcid.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| RpcError::params("'trsvcid' is not a TCP port"))?;
    Ok((address, Some(port)))
}

/// How a listener is to reach namespaces: SPDK's three states, and the two more there are.
pub(super) fn ana_state(name: &str) -> Result<AnaState, RpcError> {
    let found = AnaState::ALL.into_iter().find(|state| ana_name(*state).eq_ignore_ascii_case(name));
    found.ok_or_else(|| RpcError::params(format_args!("'ana_state': there is no state '{name}'")))
}

/// SPDK's name of a state.
pub(super) const fn ana_name(state: AnaState) -> &'static str {
    match state {
        AnaState::Optimized => "optimized",
        AnaState::NonOptimized => "non_optimized",
        AnaState::Inaccessible => "inaccessible",
        AnaState::PersistentLoss => "persistent_loss",
        AnaState::Change => "change",
    }
}

/// Checks that the transport is TCP, in whatever case.
fn read_trtype(params: &mut Params) -> Result<(), RpcError> {
    let trtype: String = params.required("trtype")?;
    if trtype.eq_ignore_ascii_case("tcp") {
        return Ok(());
    }
    Err(RpcError::params(format_args!("Transport type '{trtype}' unavailable; there is TCP")))
}

/// Reads the transport's configuration: what is not given is the default.
pub(super) fn read_transport(mut params: Params) -> Result<TransportConfig, RpcError> {
    read_trtype(&mut params)?;
    if params.optional::<bool>("dif_insert_or_strip")? == Some(true) {
        let message = "dif_insert_or_strip: block metadata is not supported";
        return Err(RpcError::errno(errno::EOPNOTSUPP, message));
    }
    for name in ["sock_priority", "association_timeout"] {
        if params.optional::<u32>(name)?.unwrap_or(0) != 0 {
            let message = format_args!("{name} is not supported; leave it out");
            return Err(RpcError::errno(errno::EOPNOTSUPP, message));
        }
    }
    let default = TransportConfig::default();
    let admin_queue_size_max = params.optional("max_aq_depth")?;
    let kato_min_ms = params.optional("min_kato")?;
    let masked_oncs = read_oncs(&mut params)?;
    let fused = read_fuses(&mut params)?;
    let queue_size_max = params.optional("max_queue_depth")?;
    let io_queues_max = params.optional("max_io_qpairs_per_ctrlr")?;
    let in_capsule_len = params.optional("in_capsule_data_size")?;
    let io_len_max = params.optional("max_io_size")?;
    let c2h_success = match params.optional("c2h_success")? {
        None => default.c2h_success,
        Some(true) => C2hSuccess::Always,
        Some(false) => C2hSuccess::WithoutFlowControl,
    };
    let abort_timeout: Option<u32> = params.optional("abort_timeout_sec")?;
    params.ignore(&FOREIGN);
    params.finish()?;
    let abort_timeout = abort_timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let config = TransportConfig {
        queue_size_max: queue_size_max.unwrap_or(default.queue_size_max),
        admin_queue_size_max: admin_queue_size_max.unwrap_or(default.admin_queue_size_max),
        io_queues_max: io_queues_max.unwrap_or(default.io_queues_max),
        in_capsule_len: in_capsule_len.unwrap_or(default.in_capsule_len),
        io_len_max: io_len_max.unwrap_or(default.io_len_max),
        c2h_success,
        abort_timeout: abort_timeout.unwrap_or(default.abort_timeout),
        kato_min_ms: kato_min_ms.unwrap_or(default.kato_min_ms),
        masked_oncs,
        fused,
        ..default
    };
    Ok(config)
}

/// Optional commands by SPDK's names of their bits in ONCS.
pub(super) const ONCS: [(&str, Oncs); 5] = [
    ("nvmcmps", Oncs::COMPARE),
    ("nvmdsmsv", Oncs::DATASET_MANAGEMENT),
    ("nvmwzsv", Oncs::WRITE_ZEROES),
    ("reservs", Oncs::RESERVATIONS),
    ("nvmcpys", Oncs::COPY),
];

fn read_oncs(params: &mut Params) -> Result<Oncs, RpcError> {
    let mut masked = Oncs::empty();
    for name in params.optional::<Vec<String>>("masked_oncs")?.unwrap_or_default() {
        let Some((_, bit)) = ONCS.iter().find(|(known, _)| *known == name) else {
            return Err(RpcError::params(format_args!("'masked_oncs': there is no '{name}'")));
        };
        masked |= *bit;
    }
    Ok(masked)
}

fn read_fuses(params: &mut Params) -> Result<FusedOperations, RpcError> {
    let names = params.optional::<Vec<String>>("masked_fuses")?.unwrap_or_default();
    if let Some(name) = names.iter().find(|name| *name != FCWS) {
        return Err(RpcError::params(format_args!("'masked_fuses': there is no '{name}'")));
    }
    let is_masked = !names.is_empty();
    Ok(if is_masked { FusedOperations::Masked } else { FusedOperations::Announced })
}

/// SPDK's name of Compare and Write in FUSES.
pub(super) const FCWS: &str = "fcws";

/// What a new subsystem is to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SubsystemParams {
    pub nqn: String,
    pub serial_number: Option<String>,
    pub model_number: Option<String>,
    pub max_namespaces: Option<u32>,
    pub allow_any_host: bool,
    pub min_cntlid: Option<u16>,
    pub max_cntlid: Option<u16>,
    pub ana_reporting: bool,
    pub nssr: SubsystemReset,
}

impl SubsystemParams {
    pub fn read(mut params: Params) -> Result<Self, RpcError> {
        let subsystem = Self {
            nqn: params.required("nqn")?,
            serial_number: params.optional("serial_number")?,
            model_number: params.optional("model_number")?,
            // As in SPDK, none means that it does not matter.
            max_namespaces: params.optional("max_namespaces")?.filter(|max| *max != 0),
            allow_any_host: params.optional("allow_any_host")?.unwrap_or(false),
            min_cntlid: params.optional("min_cntlid")?,
            max_cntlid: params.optional("max_cntlid")?,
            ana_reporting: params.optional("ana_reporting")?.unwrap_or(false),
            nssr: match params.optional("enable_nssr")? {
                Some(true) => SubsystemReset::Supported,
                _ => SubsystemReset::Unsupported,
            },
        };
        if params.optional::<bool>("passthrough")? == Some(true) {
            let message = format_args!("passthrough is not supported");
            return Err(RpcError::errno(errno::EOPNOTSUPP, message));
        }
        params.ignore(&["dmrsl", "wzsl", "max_discard_size_kib", "max_write_zeroes_size_kib"]);
        params.ignore(&["admin_label", "tgt_name"]);
        params.finish()?;
        Ok(subsystem)
    }
}

/// A namespace to be added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NamespaceParams {
    pub nqn: String,
    pub bdev_name: String,
    pub nsid: Option<u32>,
    pub nguid: Option<[u8; 16]>,
    pub uuid: Option<Uuid>,
    pub anagrpid: Option<u32>,
    pub no_auto_visible: bool,
}

impl NamespaceParams {
    pub fn read(mut params: Params) -> Result<Self, RpcError> {
        let nqn = params.required("nqn")?;
        let mut inner = params.object("namespace")?;
        let namespace = Self {
            nqn,
            bdev_name: inner.required("bdev_name")?,
            nsid: inner.optional("nsid")?,
            nguid: read_hex(&mut inner, "nguid")?,
            uuid: read_uuid(&mut inner)?,
            // As in SPDK, none means that it does not matter.
            anagrpid: inner.optional("anagrpid")?.filter(|group| *group != 0),
            no_auto_visible: inner.optional("no_auto_visible")?.unwrap_or(false),
        };
        refuse_namespace_options(&mut inner)?;
        inner.ignore(&["hide_metadata"]);
        inner.finish()?;
        params.ignore(&["tgt_name"]);
        params.finish()?;
        Ok(namespace)
    }
}

/// Refuses what would be promised and not kept.
fn refuse_namespace_options(params: &mut Params) -> Result<(), RpcError> {
    let refused = if params.optional::<String>("eui64")?.is_some() {
        "eui64: namespaces have an NGUID and a UUID"
    } else if params.optional::<String>("ptpl_file")?.is_some() {
        "ptpl_file: reservations do not survive a restart; leave it out"
    } else {
        return Ok(());
    };
    Err(RpcError::errno(errno::EOPNOTSUPP, refused))
}

/// The parameter `nqn` of a method that takes nothing else.
pub(super) fn read_nqn(mut params: Params) -> Result<String, RpcError> {
    let nqn = params.required("nqn")?;
    params.ignore(&["tgt_name"]);
    params.finish()?;
    Ok(nqn)
}

/// The optional parameter `nqn` of a method that takes nothing else.
pub(super) fn read_optional_nqn(mut params: Params) -> Result<Option<String>, RpcError> {
    let nqn = params.optional("nqn")?;
    params.ignore(&["tgt_name"]);
    params.finish()?;
    Ok(nqn)
}

fn read_hex<const N: usize>(params: &mut Params, name: &str) -> Result<Option<[u8; N]>, RpcError> {
    let Some(text) = params.optional::<String>(name)? else { return Ok(None) };
    let bytes = hex(&text);
    bytes.map(Some).ok_or_else(|| {
        RpcError::params(format_args!("'{name}' is {N} bytes in hexadecimal, not '{text}'"))
    })
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            *byte = *byte << 4 | (*digit as char).to_digit(16)? as u8;
        }
    }
    Some(bytes)
}
