//! What the target looks like from outside.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use basalt_bdev::uuid;
use basalt_env::CoreId;
use basalt_net::{Endpoint, IpAddress};
use basalt_nvmf::{
    ControllerInfo, DISCOVERY_NQN, GroupStats, Listener, NamespaceInfo, QueueInfo, SubsystemInfo,
    Target,
};
use serde_json::{Value, json};

use super::params::{ana_name, read_nqn, read_optional_nqn};
use super::{no_such_subsystem, subsystem, transport};
use crate::methods::object;
use crate::methods::thread::{TICK_RATE, thread_name};
use crate::{Context, Outcome, Params, Router, RpcError, When};

pub(super) fn register(router: &mut Router) {
    router.register("nvmf_get_subsystems", When::Runtime, get_subsystems);
    router.register("nvmf_subsystem_get_controllers", When::Runtime, get_controllers);
    router.register_async("nvmf_subsystem_get_qpairs", When::Runtime, get_qpairs);
    router.register("nvmf_subsystem_get_listeners", When::Runtime, get_listeners);
    router.register_async("nvmf_get_stats", When::Runtime, get_stats);
}

fn get_subsystems(cx: Context, params: Params) -> Outcome {
    let nqn = read_optional_nqn(params)?;
    let target = cx.service::<Target>()?;
    let wanted = |name: &str| nqn.as_ref().is_none_or(|nqn| nqn == name);
    let discovery = wanted(DISCOVERY_NQN).then(|| discovery_to_json(&target));
    let others = target.subsystems();
    let others = others.iter().filter(|subsystem| wanted(&subsystem.nqn)).map(subsystem_to_json);
    let found: Vec<Value> = discovery.into_iter().chain(others).collect();
    match nqn {
        Some(nqn) if found.is_empty() => Err(no_such_subsystem(&nqn)),
        _ => Ok(Value::Array(found)),
    }
}

fn discovery_to_json(target: &Target) -> Value {
    let listeners: Vec<Value> = target.discovery_listeners().iter().map(listener).collect();
    json!({
        "nqn": DISCOVERY_NQN,
        "subtype": "Discovery",
        "listen_addresses": listeners,
        "allow_any_host": true,
        "hosts": [],
    })
}

fn subsystem_to_json(subsystem: &SubsystemInfo) -> Value {
    let hosts: Vec<Value> = subsystem.hosts.iter().map(|nqn| json!({"nqn": nqn})).collect();
    let (min_cntlid, max_cntlid) = subsystem.cntlids;
    let namespaces = subsystem.namespaces.iter().map(|info| namespace(subsystem, info));
    object(&mut [
        ("nqn", Value::from(subsystem.nqn.as_str())),
        ("subtype", "NVMe".into()),
        (
            "listen_addresses",
            Value::from(subsystem.listeners.iter().map(listener).collect::<Vec<_>>()),
        ),
        ("allow_any_host", Value::from(subsystem.allow_any_host)),
        ("hosts", Value::from(hosts)),
        ("serial_number", Value::from(subsystem.serial.as_str())),
        ("model_number", Value::from(subsystem.model.as_str())),
        ("max_namespaces", Value::from(subsystem.namespaces_max)),
        ("min_cntlid", Value::from(min_cntlid)),
        ("max_cntlid", Value::from(max_cntlid)),
        ("namespaces", Value::from(namespaces.collect::<Vec<_>>())),
    ])
}

fn namespace(subsystem: &SubsystemInfo, info: &NamespaceInfo) -> Value {
    let mut fields = json!({
        "nsid": info.nsid,
        "bdev_name": info.bdev,
        "name": info.bdev,
        "nguid": format!("{:032X}", u128::from_be_bytes(info.nguid)),
        "uuid": uuid::format(&info.uuid),
    });
    if subsystem.ana_reporting {
        fields["anagrpid"] = info.anagrpid.into();
    }
    if let Some(hosts) = &info.hosts {
        fields["no_auto_visible"] = true.into();
        fields["hosts"] = hosts.iter().map(|nqn| json!({"nqn": nqn})).collect();
    }
    fields
}

pub(super) fn listener(listener: &Listener) -> Value {
    transport_address(Endpoint::new(listener.address, listener.port))
}

fn transport_address(at: Endpoint) -> Value {
    let adrfam = match at.ip() {
        IpAddress::V4(_) => "IPv4",
        IpAddress::V6(_) => "IPv6",
    };
    json!({
        "trtype": "TCP",
        "adrfam": adrfam,
        "traddr": at.ip().to_string(),
        "trsvcid": at.port().to_string(),
    })
}

/// The controllers of the subsystem that a call names.
fn controllers(cx: &Context, params: Params) -> Result<Vec<ControllerInfo>, RpcError> {
    let nqn = read_nqn(params)?;
    let target = cx.service::<Target>()?;
    if nqn != DISCOVERY_NQN {
        subsystem(&target, &nqn)?;
    }
    Ok(target.controllers().into_iter().filter(|controller| controller.nqn == nqn).collect())
}

fn get_controllers(cx: Context, params: Params) -> Outcome {
    let to_json = |controller: &ControllerInfo| {
        json!({
            "cntlid": controller.cntlid,
            "hostnqn": controller.hostnqn,
            "hostid": uuid::format(&controller.hostid),
            "num_io_qpairs": controller.queues.iter().filter(|(qid, _)| *qid != 0).count(),
        })
    };
    Ok(controllers(&cx, params)?.iter().map(to_json).collect())
}

async fn get_qpairs(cx: Context, params: Params) -> Outcome {
    let controllers = controllers(&cx, params)?;
    let mut qpairs = Vec::new();
    for (core, _, queues) in cx.service::<Target>()?.groups().await {
        for queue in queues {
            let of = controllers.iter().find(|c| Some(c.cntlid) == queue.cntlid);
            qpairs.extend(of.map(|controller| queue_to_json(core, &queue, controller)));
        }
    }
    Ok(Value::Array(qpairs))
}

fn queue_to_json(core: CoreId, queue: &QueueInfo, controller: &ControllerInfo) -> Value {
    let mut fields = json!({
        "cntlid": controller.cntlid,
        "qid": queue.qid,
        "state": "enabled",
        "thread": thread_name(core),
        "hostnqn": controller.hostnqn,
    });
    for (name, end) in [("listen_address", queue.reached_at), ("peer_address", queue.peer)] {
        if let Some(end) = end {
            fields[name] = transport_address(end);
        }
    }
    fields
}

fn get_listeners(cx: Context, params: Params) -> Outcome {
    let nqn = read_nqn(params)?;
    let target = cx.service::<Target>()?;
    let listeners = match nqn.as_str() {
        DISCOVERY_NQN => target.discovery_listeners(),
        _ => subsystem(&target, &nqn)?.listeners,
    };
    let states = target.ana_states(&nqn);
    let to_json = |at: &Listener| {
        let mut fields = json!({"address": listener(at)});
        if let Some((_, states)) = states.iter().find(|(other, _)| other == at) {
            let states = (1..).zip(states);
            let states = states.map(|(group, state): (u32, _)| {
                json!({"ana_group": group, "ana_state": ana_name(*state)})
            });
            fields["ana_states"] = states.collect();
        }
        fields
    };
    Ok(listeners.iter().map(to_json).collect())
}

async fn get_stats(cx: Context, mut params: Params) -> Outcome {
    params.ignore(&["tgt_name"]);
    params.finish()?;
    let has_transport = transport::is_created(&cx);
    let groups = cx.service::<Target>()?.groups().await;
    let groups: Vec<Value> = groups
        .iter()
        .map(|(core, stats, queues)| group_to_json(*core, stats, queues, has_transport))
        .collect();
    Ok(json!({"tick_rate": TICK_RATE, "poll_groups": groups}))
}

fn group_to_json(core: CoreId, stats: &GroupStats, queues: &[QueueInfo], tcp: bool) -> Value {
    let count =
        |wanted: fn(Option<u16>) -> bool| queues.iter().filter(|queue| wanted(queue.qid)).count();
    let transport =
        tcp.then(|| json!({"trtype": "TCP", "pending_data_buffer": stats.buffer_waits}));
    object(&mut [
        ("name", Value::from(group_name(core))),
        ("admin_qpairs", Value::from(stats.admin_queues)),
        ("io_qpairs", Value::from(stats.io_queues)),
        ("current_admin_qpairs", Value::from(count(|qid| qid == Some(0)))),
        ("current_io_qpairs", Value::from(count(|qid| qid.is_some_and(|qid| qid != 0)))),
        ("current_unassociated_qpairs", Value::from(count(|qid| qid.is_none()))),
        ("pending_bdev_io", Value::from(stats.outstanding)),
        ("completed_nvme_io", Value::from(stats.ios)),
        ("transports", Value::from(transport.into_iter().collect::<Vec<_>>())),
    ])
}

fn group_name(core: CoreId) -> String {
    format!("nvmf_tgt_poll_group_{:03}", core.0)
}
