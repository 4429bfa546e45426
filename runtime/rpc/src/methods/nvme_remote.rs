//! NVMe controllers of other machines (`trtype` TCP).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use basalt_net::{Endpoint, NetHandle};
use basalt_nvme_spec::ascii_field;
use basalt_nvmf_initiator::{
    Access, Digests, Host, Loss, Multipath, PathError, Policy, Reconnect, RemoteError, RemoteInfo,
    RemoteOptions, Remotes, TransportId, Way,
};
use serde_json::{Value, json};

use super::nvme::{NvmeControl, NvmeSwitch};
use super::nvme_local;
use super::nvme_options::NvmeOptions;
use super::object;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// The NVMe/TCP port (NVM Express TCP Transport §3.1.1).
const PORT: u16 = 4420;

/// Bdevs of one controller, if `max_bdevs` does not say otherwise: SPDK's number.
const BDEVS_MAX: u32 = 128;

/// Parameters of other transports, or of what is not here and does no harm; SPDK's client sends
/// some of them always.
const FOREIGN: [&str; 5] = [
    "prchk_reftag",
    "prchk_guard",
    "allow_unrecognized_csi",
    "disable_sq_flow_control",
    "priority",
];

/// What tells one path from another besides `traddr`; SPDK's client may send all of it.
pub(super) const PATH: [&str; 6] =
    ["trtype", "adrfam", "trsvcid", "subnqn", "hostaddr", "hostsvcid"];

/// What would be promised and not kept.
const REFUSED: [(&str, &str); 4] = [
    ("psk", "TLS is not supported"),
    ("dhchap_key", "authentication is not supported"),
    ("dhchap_ctrlr_key", "authentication is not supported"),
    ("hostsvcid", "connections come from ports of our own choice"),
];

pub(super) fn register(router: &mut Router) {
    router.register_async("bdev_nvme_attach_controller", When::Runtime, attach_controller);
    router.register_async("bdev_nvme_set_multipath_policy", When::Runtime, set_multipath_policy);
    router.register_async("bdev_nvme_set_preferred_path", When::Runtime, set_preferred_path);
}

async fn attach_controller(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    if nvme_local::is_meant(&mut params)? {
        return nvme_local::attach_controller(cx, name, params).await;
    }
    check_trtype(&mut params)?;
    let transport = read_transport(&mut params, PORT)?;
    let subnqn: String = params.required("subnqn")?;
    let multipath = read_multipath(&mut params)?;
    check_hostaddr(&cx, &mut params)?;
    let bdevs_max: u32 = params.optional("max_bdevs")?.unwrap_or(BDEVS_MAX);
    let options = read_options(&cx, RemoteOptions::new(cx.local(), name, subnqn), &mut params)?;
    params.ignore(&FOREIGN);
    params.finish()?;
    let name = options.name.clone();
    if cx.service::<NvmeControl>().is_ok_and(|control| control.has(&name)) {
        return Err(RpcError::errno(errno::EEXIST, RemoteError::NameTaken));
    }
    let attached = Remotes::of(cx.local()).attach(options, transport, multipath).await;
    let bdevs = attached.map_err(|error| refusal(&error))?;
    if bdevs.len() > bdevs_max as usize {
        let _ = Remotes::of(cx.local()).detach(&name, Some(transport)).await;
        let message = format_args!("there are {} bdevs, more than 'max_bdevs'", bdevs.len());
        return Err(RpcError::errno(errno::ERANGE, message));
    }
    cx.remember("bdev", key(&name, Some(transport)));
    Ok(json!(bdevs))
}

/// Checks that the transport is TCP, in whatever case.
pub(super) fn check_trtype(params: &mut Params) -> Result<(), RpcError> {
    let trtype: String = params.required("trtype")?;
    if trtype.eq_ignore_ascii_case("tcp") {
        return Ok(());
    }
    Err(RpcError::params(format_args!(
        "'trtype': there are TCP and, for the machine's own drives, PCIe, not '{trtype}'"
    )))
}

/// What the call is saved as that made a path, or, of none, all paths.
fn key(name: &str, transport: Option<TransportId>) -> String {
    match transport {
        Some(TransportId { peer }) => format!("nvme {name}/{peer}"),
        None => format!("nvme {name}"),
    }
}

/// Reads `traddr`, `trsvcid`, which is `port` if it is not there, and `adrfam`.
pub(super) fn read_transport(params: &mut Params, port: u16) -> Result<TransportId, RpcError> {
    let traddr: String = params.required("traddr")?;
    read_peer(params, &traddr, port)
}

fn read_peer(params: &mut Params, traddr: &str, port: u16) -> Result<TransportId, RpcError> {
    let adrfam: Option<String> = params.optional("adrfam")?;
    let trsvcid: Option<String> = params.optional("trsvcid")?;
    let address: IpAddr = traddr
        .parse()
        .map_err(|_| RpcError::params(format_args!("'traddr': '{traddr}' is not an IP address")))?;
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    if adrfam.is_some_and(|named| !named.eq_ignore_ascii_case(family)) {
        return Err(RpcError::params(format_args!("'adrfam': '{traddr}' is of {family}")));
    }
    let port = trsvcid.map_or(Some(port), |text| text.parse().ok().filter(|port| *port != 0));
    let port = port.ok_or_else(|| RpcError::params("'trsvcid' is not a TCP port"))?;
    Ok(TransportId { peer: Endpoint::new(address, port) })
}

/// There is one address to connect from: another one cannot be had.
fn check_hostaddr(cx: &Context, params: &mut Params) -> Result<(), RpcError> {
    let Some(hostaddr) = params.optional::<String>("hostaddr")? else { return Ok(()) };
    let ours = cx.local().service::<NetHandle>().and_then(|net| net.stack().borrow().address());
    if ours.is_some_and(|ours| hostaddr.parse() == Ok(ours)) {
        return Ok(());
    }
    let message = format_args!("'hostaddr': {hostaddr} is no address of this machine");
    Err(RpcError::errno(errno::EADDRNOTAVAIL, message))
}

fn read_multipath(params: &mut Params) -> Result<Multipath, RpcError> {
    let text: Option<String> = params.optional("multipath")?;
    match text.as_deref() {
        None | Some("multipath") => Ok(Multipath::Multipath),
        Some("failover") => Ok(Multipath::Failover),
        Some("disable") => Ok(Multipath::Disable),
        Some(other) => Err(RpcError::params(format_args!(
            "'multipath' is 'disable', 'failover' or 'multipath', not '{other}'"
        ))),
    }
}

pub(super) fn read_options(
    cx: &Context,
    default: RemoteOptions,
    params: &mut Params,
) -> Result<RemoteOptions, RpcError> {
    let general = cx.local().service::<NvmeOptions>();
    let general = general.map_or_else(Default::default, |options| options.remote);
    for (name, why) in REFUSED {
        if params.optional::<Value>(name)?.is_some() {
            return Err(RpcError::errno(errno::EOPNOTSUPP, format_args!("{name}: {why}")));
        }
    }
    let hostnqn: Option<String> = params.optional("hostnqn")?;
    let header = params.optional("hdgst")?.unwrap_or(false);
    let data = params.optional("ddgst")?.unwrap_or(false);
    let connect_timeout_us: Option<u64> = params.optional("fabrics_connect_timeout_us")?;
    let io_queues: Option<u16> = params.optional("num_io_queues")?;
    if io_queues == Some(0) {
        return Err(RpcError::params("'num_io_queues' is at least 1"));
    }
    let reconnect = general.reconnect.unwrap_or(default.reconnect);
    let connect_timeout = connect_timeout_us.filter(|us| *us > 0).map(Duration::from_micros);
    Ok(RemoteOptions {
        host: hostnqn.map_or(default.host, |nqn| Host::named(&nqn)),
        digests: Digests { header, data },
        connect_timeout: connect_timeout.unwrap_or(default.connect_timeout),
        io_queues: io_queues.unwrap_or(default.io_queues),
        keep_alive: general.keep_alive.unwrap_or(default.keep_alive),
        io_timeout: general.io_timeout.unwrap_or(default.io_timeout),
        reconnect: read_reconnect(params, reconnect)?.unwrap_or(reconnect),
        policy: read_multipath_opts(params)?.or(general.policy).unwrap_or(default.policy),
        io_path_stat: general.io_path_stat,
        ..default
    })
}

/// Reads SPDK's three times, of which those not given are as in `general`. `None` if none is given.
pub(super) fn read_reconnect(
    params: &mut Params,
    general: Reconnect,
) -> Result<Option<Reconnect>, RpcError> {
    let loss: Option<i64> = params.optional("ctrlr_loss_timeout_sec")?;
    let delay: Option<u32> = params.optional("reconnect_delay_sec")?;
    let fast: Option<u32> = params.optional("fast_io_fail_timeout_sec")?;
    if loss.is_none() && delay.is_none() && fast.is_none() {
        return Ok(None);
    }
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let delay = delay.map_or(general.delay, seconds);
    let fast_io_fail = fast.map_or(general.fast_io_fail, |fast| (fast > 0).then(|| seconds(fast)));
    let loss = match loss {
        None => general.loss,
        Some(-1) => Loss::Never,
        Some(loss) => {
            let loss = u32::try_from(loss).map_err(|_| {
                RpcError::params("'ctrlr_loss_timeout_sec' is -1 for no limit, or at least 0")
            })?;
            Loss::After(seconds(loss))
        }
    };
    check_reconnect(Reconnect { loss, delay, fast_io_fail }).map(Some)
}

/// SPDK's rules for the three.
fn check_reconnect(times: Reconnect) -> Result<Reconnect, RpcError> {
    let Reconnect { loss, delay, fast_io_fail } = times;
    let limit = match loss {
        Loss::Never => None,
        Loss::After(limit) => Some(limit),
    };
    let wrong = match limit {
        Some(Duration::ZERO) if !delay.is_zero() || fast_io_fail.is_some() => {
            "if 'ctrlr_loss_timeout_sec' is 0, 'reconnect_delay_sec' and \
             'fast_io_fail_timeout_sec' are 0 as well"
        }
        None if delay.is_zero() => {
            "if 'ctrlr_loss_timeout_sec' is not 0, neither is 'reconnect_delay_sec'"
        }
        Some(limit) if !limit.is_zero() && delay.is_zero() => {
            "if 'ctrlr_loss_timeout_sec' is not 0, neither is 'reconnect_delay_sec'"
        }
        Some(limit) if delay > limit || fast_io_fail.is_some_and(|fast| fast > limit) => {
            "'reconnect_delay_sec' and 'fast_io_fail_timeout_sec' are not longer than \
             'ctrlr_loss_timeout_sec'"
        }
        _ if fast_io_fail.is_some_and(|fast| fast < delay) => {
            "'fast_io_fail_timeout_sec' is 0 or not shorter than 'reconnect_delay_sec'"
        }
        _ => return Ok(times),
    };
    Err(RpcError::errno(errno::EINVAL, wrong))
}

pub(super) fn refusal(error: &RemoteError) -> RpcError {
    let errno = match error {
        RemoteError::NameTaken | RemoteError::PathTaken => errno::EEXIST,
        RemoteError::NoSuchController | RemoteError::NoSuchPath | RemoteError::NoSuchBdev => {
            errno::ENODEV
        }
        RemoteError::Path(PathError::Timeout) => errno::ETIMEDOUT,
        RemoteError::Path(PathError::Disabled | PathError::Enabled) => errno::EALREADY,
        RemoteError::Path(_) => errno::EIO,
        _ => errno::EINVAL,
    };
    RpcError::errno(errno, error)
}

/// The remote controllers that are attached.
pub(super) fn list(cx: &Context) -> Vec<RemoteInfo> {
    Remotes::of(cx.local()).list()
}

/// Whether there is one of that name.
pub(super) fn has(cx: &Context, name: &str) -> bool {
    list(cx).iter().any(|remote| remote.name == name)
}

/// Ends the path that the rest of `params` names, or all of them.
pub(super) async fn detach(cx: &Context, name: &str, mut params: Params) -> Outcome {
    let traddr: Option<String> = params.optional("traddr")?;
    let transport = traddr.map(|traddr| read_peer(&mut params, &traddr, PORT)).transpose()?;
    params.ignore(&PATH);
    params.finish()?;
    let detached = Remotes::of(cx.local()).detach(name, transport).await;
    detached.map_err(|error| refusal(&error))?;
    cx.forget("bdev", &key(name, transport));
    Ok(Value::Bool(true))
}

/// Connects all paths anew, or lets them go, or ends that; or the path of one identifier. Errors
/// are injected into all of them.
pub(super) async fn switch(
    cx: &Context,
    name: &str,
    cntlid: Option<u16>,
    to: NvmeSwitch,
) -> Outcome {
    let remotes = Remotes::of(cx.local());
    let switched = match to {
        NvmeSwitch::Reset => remotes.reset(name, cntlid),
        NvmeSwitch::Disable => remotes.disable(name, cntlid),
        NvmeSwitch::Enable => remotes.enable(name, cntlid),
        NvmeSwitch::Errors(queues, change) => remotes.inject(name, queues, change),
    };
    switched.await.map_err(|error| refusal(&error))?;
    Ok(Value::Bool(true))
}

/// As `bdev_nvme_get_controllers` shows one.
pub(super) fn to_json(remote: &RemoteInfo) -> Value {
    let path = |path: &basalt_nvmf_initiator::PathInfo| {
        json!({
            "state": path.state.to_string(),
            "trid": trid(path.transport, &remote.subnqn),
            "cntlid": path.cntlid,
            "host": {"nqn": remote.hostnqn, "addr": "", "svcid": ""},
            "numa_id": -1,
        })
    };
    let paths: Vec<Value> = remote.paths.iter().map(path).collect();
    json!({"name": remote.name, "ctrlrs": paths})
}

pub(super) fn trid(transport: TransportId, subnqn: &str) -> Value {
    let peer = transport.peer;
    json!({
        "trtype": "TCP",
        "adrfam": if peer.is_ipv4() { "IPv4" } else { "IPv6" },
        "traddr": peer.ip().to_string(),
        "trsvcid": peer.port().to_string(),
        "subnqn": subnqn,
    })
}

/// The method of SPDK before 26.09, by bdev.
async fn set_multipath_policy(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let policy: String = params.required("policy")?;
    let policy = read_policy(&policy, &mut params, "rr_min_io")?;
    params.finish()?;
    let set = Remotes::of(cx.local()).set_policy(&name, policy).await;
    set.map_err(|error| refusal(&error))?;
    cx.remember("bdev", format!("nvme {}/policy {name}", controller_of(&cx, &name)));
    Ok(Value::Bool(true))
}

/// Reads `multipath_opts`, which may be missing.
pub(super) fn read_multipath_opts(params: &mut Params) -> Result<Option<Policy>, RpcError> {
    let Some(mut inner) = params.optional_object("multipath_opts")? else { return Ok(None) };
    let policy: String = inner.required("policy")?;
    let policy = read_policy(&policy, &mut inner, "min_io")?;
    inner.finish()?;
    Ok(Some(policy))
}

/// The same as it would be given.
pub(super) fn policy_to_json(policy: Policy) -> Value {
    match policy {
        Policy::ActivePassive => json!({"policy": "active_passive"}),
        Policy::RoundRobin { min_io } => {
            json!({"policy": "active_active", "selector": "round_robin", "min_io": min_io})
        }
        Policy::QueueDepth => json!({"policy": "active_active", "selector": "queue_depth"}),
    }
}

/// Reads what belongs to a policy.
fn read_policy(policy: &str, params: &mut Params, min_name: &str) -> Result<Policy, RpcError> {
    let selector: Option<String> = params.optional("selector")?;
    let min_io: Option<u32> = params.optional(min_name)?;
    let policy = match (policy, selector.as_deref()) {
        ("active_passive", None) => Policy::ActivePassive,
        ("active_active", None | Some("round_robin")) => {
            Policy::RoundRobin { min_io: min_io.unwrap_or(1).max(1) }
        }
        ("active_active", Some("queue_depth")) => Policy::QueueDepth,
        ("active_passive", Some(_)) => {
            return Err(RpcError::params("'selector' is for 'active_active' only"));
        }
        ("active_active", Some(other)) => {
            let wanted = "'selector' is 'round_robin' or 'queue_depth'";
            return Err(RpcError::params(format_args!("{wanted}, not '{other}'")));
        }
        (other, _) => {
            let wanted = "'policy' is 'active_passive' or 'active_active'";
            return Err(RpcError::params(format_args!("{wanted}, not '{other}'")));
        }
    };
    if min_io.is_some() && !matches!(policy, Policy::RoundRobin { .. }) {
        return Err(RpcError::params(format_args!("'{min_name}' is for 'round_robin' only")));
    }
    Ok(policy)
}

async fn set_preferred_path(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let cntlid: u16 = params.required("cntlid")?;
    params.finish()?;
    let preferred = Remotes::of(cx.local()).prefer(&name, cntlid).await;
    preferred.map_err(|error| refusal(&error))?;
    // Another connection has another identifier: it is not kept.
    Ok(Value::Bool(true))
}

/// The controller whose bdev has that name.
fn controller_of(cx: &Context, bdev: &str) -> String {
    let has = |remote: &RemoteInfo| remote.bdevs.iter().any(|known| known.name == bdev);
    list(cx).into_iter().find(has).map_or_else(String::new, |remote| remote.name)
}

/// The module-specific part of `bdev_get_bdevs`, if it is a bdev of a remote controller: an entry
/// for each of its paths.
pub(super) fn driver_specific(cx: &Context, bdev: &str) -> Option<Value> {
    list(cx).iter().find_map(|remote| {
        let known = remote.bdevs.iter().find(|known| known.name == bdev)?;
        let paths: Vec<Value> =
            known.paths.iter().map(|way| namespace_by(remote, known.nsid, way)).collect();
        let mut fields = json!({"nvme": paths});
        match known.policy {
            Policy::ActivePassive => fields["mp_policy"] = "active_passive".into(),
            Policy::RoundRobin { min_io } => {
                fields["mp_policy"] = "active_active".into();
                fields["selector"] = "round_robin".into();
                fields["rr_min_io"] = min_io.into();
            }
            Policy::QueueDepth => {
                fields["mp_policy"] = "active_active".into();
                fields["selector"] = "queue_depth".into();
            }
        }
        Some(fields)
    })
}

/// A namespace as one path leads to it.
fn namespace_by(remote: &RemoteInfo, nsid: u32, way: &Way) -> Value {
    const SEVERAL_CONTROLLERS: u8 = 1 << 1;
    const REPORTS_ANA: u8 = 1 << 3;
    let path = &remote.paths[way.path];
    let mut fields = json!({"trid": trid(path.transport, &remote.subnqn), "ns_data": {"id": nsid}});
    let Some(controller) = path.controller else { return fields };
    let text = |field: &[u8]| ascii_field(field).unwrap_or("").to_string();
    let reports_ana = controller.cmic & REPORTS_ANA != 0;
    fields["ctrlr_data"] = object(&mut [
        ("cntlid", Value::from(path.cntlid)),
        ("vendor_id", Value::from(format!("{:#06x}", controller.vid))),
        ("model_number", Value::from(text(&controller.model))),
        ("serial_number", Value::from(text(&controller.serial))),
        ("firmware_revision", Value::from(text(&controller.firmware))),
        ("subnqn", Value::from(remote.subnqn.as_str())),
        ("multi_ctrlr", Value::from(controller.cmic & SEVERAL_CONTROLLERS != 0)),
        ("ana_reporting", Value::from(reports_ana)),
    ]);
    if reports_ana {
        fields["ns_data"]["ana_state"] = match way.access {
            Access::Optimized => "optimized",
            Access::NonOptimized => "non_optimized",
            Access::Inaccessible => "inaccessible",
            Access::PersistentLoss => "persistent_loss",
            Access::Changing => "change",
        }
        .into();
    }
    fields
}
