//! The ways to NVMe namespaces, and what goes by them.

use alloc::string::String;
use alloc::vec::Vec;

use basalt_bdev::Registry;
use basalt_nvmf_initiator::{
    Access, HostStats, PathState, Policy, RemoteBdevInfo, RemoteInfo, Remotes, Way,
};
use serde_json::{Value, json};

use super::bdev::no_such_device;
use super::iostat::stat_to_json;
use super::nvme::{NvmeControl, NvmeQueueStats, NvmeState};
use super::nvme_options::NvmeOptions;
use super::nvme_remote;
use super::thread::{cores, on_each_core, thread_name};
use super::{numbers, object};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    router.register("bdev_nvme_get_io_paths", When::Runtime, get_io_paths);
    router.register("bdev_nvme_get_path_iostat", When::Runtime, get_path_iostat);
    let statistics = get_transport_statistics;
    router.register_async("bdev_nvme_get_transport_statistics", When::Runtime, statistics);
}

/// The paths, which are the same for every core: one without a queue of its own uses another's.
fn get_io_paths(cx: Context, mut params: Params) -> Outcome {
    let name: Option<String> = params.optional("name")?;
    params.finish()?;
    let is_meant = |bdev: &str| name.as_ref().is_none_or(|name| name == bdev);
    let mut found = Vec::new();
    for drive in local_drives(&cx) {
        let bdevs = drive.bdevs.iter().filter(|bdev| is_meant(bdev));
        found.extend(bdevs.map(|bdev| path_to_drive(&drive, bdev)));
    }
    for remote in nvme_remote::list(&cx) {
        for bdev in remote.bdevs.iter().filter(|bdev| is_meant(&bdev.name)) {
            found.extend(bdev.paths.iter().map(|way| io_path(&remote, bdev, way)));
        }
    }
    if let Some(name) = name.filter(|_| found.is_empty()) {
        return Err(no_such_device(&name));
    }
    let group = |core| json!({"thread": thread_name(core), "io_paths": found});
    Ok(json!({"poll_groups": cores(cx.local()).map(group).collect::<Value>()}))
}

fn local_drives(cx: &Context) -> Vec<NvmeState> {
    cx.service::<NvmeControl>().map_or_else(|_| Vec::new(), |control| control.list())
}

fn path_to_drive(drive: &NvmeState, bdev: &str) -> Value {
    let is_enabled = drive.state == "enabled";
    to_json(bdev, drive.cntlid, [true, is_enabled, is_enabled], drive.trid())
}

fn io_path(remote: &RemoteInfo, bdev: &RemoteBdevInfo, way: &Way) -> Value {
    let path = &remote.paths[way.path];
    let is_live = path.state == PathState::Live;
    let states = [is_current(remote, bdev, way), is_live, is_usable(remote, way)];
    to_json(&bdev.name, path.cntlid, states, nvme_remote::trid(path.transport, &remote.subnqn))
}

fn to_json(bdev: &str, cntlid: u16, states: [bool; 3], transport: Value) -> Value {
    let [current, connected, accessible] = states;
    object(&mut [
        ("bdev_name", bdev.into()),
        ("cntlid", cntlid.into()),
        ("current", current.into()),
        ("connected", connected.into()),
        ("accessible", accessible.into()),
        ("transport", transport),
    ])
}

fn is_usable(remote: &RemoteInfo, way: &Way) -> bool {
    let is_live = remote.paths[way.path].state == PathState::Live;
    is_live && matches!(way.access, Access::Optimized | Access::NonOptimized)
}

/// Whether Ios go that way now.
fn is_current(remote: &RemoteInfo, bdev: &RemoteBdevInfo, way: &Way) -> bool {
    let usable = || bdev.paths.iter().filter(|way| is_usable(remote, way));
    let Some(best) = usable().map(|way| way.access).min() else { return false };
    let mut taken = usable().filter(|way| way.access == best);
    match bdev.policy {
        Policy::ActivePassive => taken.min_by_key(|way| !way.preferred) == Some(way),
        Policy::RoundRobin { .. } | Policy::QueueDepth => taken.any(|taken| taken == way),
    }
}

/// What has gone by each path of a bdev. A drive of this machine has one path, by which all has
/// gone that its bdev has done.
fn get_path_iostat(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    let options = cx.local().service::<NvmeOptions>();
    if !options.is_some_and(|options| options.remote.io_path_stat) {
        return Err(not_counted("set it with bdev_nvme_set_options"));
    }
    let mut stats = Vec::new();
    if let Some(drive) = local_drives(&cx).iter().find(|drive| drive.bdevs.contains(&name)) {
        let stat = cx.service::<Registry>()?.iostat(&name).unwrap_or_default();
        stats.push(json!({"trid": drive.trid(), "stat": stat_to_json(&stat)}));
    } else {
        let known = Remotes::of(cx.local()).path_stats(&name);
        for path in known.ok_or_else(|| no_such_device(&name))? {
            let uncounted = || not_counted("set it before a controller is attached");
            let stat = path.stat.ok_or_else(uncounted)?;
            let trid = nvme_remote::trid(path.transport, &path.subnqn);
            stats.push(json!({"trid": trid, "stat": stat_to_json(&stat)}));
        }
    }
    Ok(json!({"name": name, "stats": stats}))
}

/// SPDK's message, which names the option otherwise than its methods do.
fn not_counted(remedy: &str) -> RpcError {
    let message = "RPC not enabled if enable_io_path_stat is false";
    RpcError::errno(errno::EPERM, format_args!("{message} ('io_path_stat': {remedy})"))
}

async fn get_transport_statistics(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let control = cx.service::<NvmeControl>().ok();
    let queues = control.and_then(|control| control.queue_stats());
    let groups = on_each_core(cx.local(), move |local| {
        let pcie = queues.and_then(|queues| queues(local));
        let pcie = pcie.iter().map(pcie_to_json);
        let transports: Value = pcie.chain(HostStats::of(local).iter().map(tcp_to_json)).collect();
        json!({"thread": thread_name(local.core()), "transports": transports})
    });
    Ok(json!({"poll_groups": groups.await?}))
}

fn pcie_to_json(stats: &NvmeQueueStats) -> Value {
    let counts = [
        ("polls", stats.polls),
        ("idle_polls", stats.idle_polls),
        ("completions", stats.completions),
        ("cq_mmio_doorbell_updates", stats.cq_mmio_doorbell_updates),
        ("cq_shadow_doorbell_updates", stats.cq_shadow_doorbell_updates),
        ("queued_requests", stats.queued_requests),
        ("submitted_requests", stats.submitted_requests),
        ("sq_mmio_doorbell_updates", stats.sq_mmio_doorbell_updates),
        ("sq_shadow_doorbell_updates", stats.sq_shadow_doorbell_updates),
    ];
    transport("PCIe", &counts)
}

fn tcp_to_json(stats: &HostStats) -> Value {
    let counts = [
        ("polls", stats.polls),
        ("idle_polls", stats.idle_polls),
        ("socket_completions", stats.socket_completions),
        ("nvme_completions", stats.nvme_completions),
        ("queued_requests", stats.queued_requests),
        ("submitted_requests", stats.submitted_requests),
    ];
    transport("TCP", &counts)
}

#[inline(never)]
fn transport(name: &str, counts: &[(&str, u64)]) -> Value {
    let mut fields = numbers(counts);
    fields.insert("trname".into(), name.into());
    Value::Object(fields)
}
