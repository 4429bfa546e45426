//! What the bdevs have done. One tick is a nanosecond.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::{DepthStat, IoStat, Op, OpStat, Registry, StatReset};
use basalt_env::CoreId;
use serde_json::{Map, Value, json};

use super::bdev::select;
use super::thread::TICK_RATE;
use crate::{Context, Outcome, Params, Router, RpcError, When};

pub(super) fn register(router: &mut Router) {
    router.register("bdev_get_iostat", When::Runtime, get_iostat);
    router.register("bdev_reset_iostat", When::Runtime, reset_iostat);
}

fn get_iostat(cx: Context, mut params: Params) -> Outcome {
    let name: Option<String> = params.optional("name")?;
    let names: Option<Vec<String>> = params.optional("names")?;
    let per_channel = params.optional::<bool>("per_channel")?.unwrap_or(false);
    let reset = read_reset(&mut params, "reset_mode", None)?;
    params.finish()?;
    let registry = cx.service::<Registry>()?;
    let asked = names.or(name.map(|name| Vec::from([name])));
    if per_channel && asked.as_ref().is_none_or(|names| names.len() != 1) {
        return Err(RpcError::params("'per_channel' needs the name of one bdev"));
    }
    let bdevs = select(&registry, asked)?;
    let names: Vec<&str> = bdevs.iter().map(|bdev| bdev.info().name.as_str()).collect();
    let answer = match names.as_slice() {
        [name] if per_channel => each_channel(&cx, &registry, name),
        names => all_channels(&cx, &registry, names),
    };
    if let Some(what) = reset {
        for name in names {
            registry.reset_iostat(name, what);
        }
    }
    Ok(answer)
}

fn reset_iostat(cx: Context, mut params: Params) -> Outcome {
    let name: Option<String> = params.optional("name")?;
    let reset = read_reset(&mut params, "mode", Some(StatReset::All))?;
    params.finish()?;
    let registry = cx.service::<Registry>()?;
    let bdevs = select(&registry, name.map(|name| Vec::from([name])))?;
    if let Some(what) = reset {
        for bdev in bdevs {
            registry.reset_iostat(&bdev.info().name, what);
        }
    }
    Ok(Value::Bool(true))
}

fn read_reset(
    params: &mut Params,
    name: &str,
    default: Option<StatReset>,
) -> Result<Option<StatReset>, RpcError> {
    let Some(mode) = params.optional::<String>(name)? else { return Ok(default) };
    match mode.as_str() {
        "none" => Ok(None),
        "all" => Ok(Some(StatReset::All)),
        "maxmin" => Ok(Some(StatReset::Extremes)),
        "error" => Ok(Some(StatReset::Errors)),
        _ => Err(RpcError::params(format_args!("'{name}' is all, maxmin, error or none"))),
    }
}

fn all_channels(cx: &Context, registry: &Registry, names: &[&str]) -> Value {
    let bdevs: Vec<Value> = names
        .iter()
        .map(|name| {
            let mut stat = stat_to_json(&registry.iostat(name).unwrap_or_default());
            stat["name"] = (*name).into();
            if let Some(depth) = registry.depth_stat(name) {
                put_depth(&mut stat, &depth);
            }
            stat
        })
        .collect();
    json!({"tick_rate": TICK_RATE, "ticks": cx.local().now().as_ns(), "bdevs": bdevs})
}

fn each_channel(cx: &Context, registry: &Registry, name: &str) -> Value {
    let channels: Vec<Value> = (0..cx.local().cores() as u16)
        .map(|core| {
            let stat = registry.iostat_of_core(name, CoreId(core)).unwrap_or_default();
            let mut stat = stat_to_json(&stat);
            stat["thread_id"] = (u64::from(core) + 1).into();
            stat
        })
        .collect();
    json!({
        "tick_rate": TICK_RATE,
        "ticks": cx.local().now().as_ns(),
        "name": name,
        "channels": channels,
    })
}

/// What sampling has found, in µs, as SPDK shows it.
fn put_depth(stat: &mut Value, depth: &DepthStat) {
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    stat["queue_depth_polling_period"] = us(depth.period).into();
    stat["queue_depth"] = depth.depth.into();
    stat["io_time"] = us(depth.busy).into();
    stat["weighted_io_time"] = us(depth.weighted).into();
}

/// What is told of an operation, by SPDK's names: bytes, operations, and their latencies together,
/// the longest and the shortest.
const FIELDS: [(Op, [&str; 5]); 4] = [
    (
        Op::Read,
        [
            "bytes_read",
            "num_read_ops",
            "read_latency_ticks",
            "max_read_latency_ticks",
            "min_read_latency_ticks",
        ],
    ),
    (
        Op::Write,
        [
            "bytes_written",
            "num_write_ops",
            "write_latency_ticks",
            "max_write_latency_ticks",
            "min_write_latency_ticks",
        ],
    ),
    (
        Op::Unmap,
        [
            "bytes_unmapped",
            "num_unmap_ops",
            "unmap_latency_ticks",
            "max_unmap_latency_ticks",
            "min_unmap_latency_ticks",
        ],
    ),
    (
        Op::Copy,
        [
            "bytes_copied",
            "num_copy_ops",
            "copy_latency_ticks",
            "max_copy_latency_ticks",
            "min_copy_latency_ticks",
        ],
    ),
];

pub(super) fn stat_to_json(stat: &IoStat) -> Value {
    let mut fields = Map::new();
    for (op, names) in FIELDS {
        let OpStat { bytes, ops, latency_total_ns, latency_max_ns, latency_min_ns, .. } =
            *stat.op(op);
        let shortest = latency_min_ns.unwrap_or(0);
        let numbers = [bytes, ops, latency_total_ns, latency_max_ns, shortest];
        for (name, number) in names.into_iter().zip(numbers) {
            fields.insert(name.into(), number.into());
        }
    }
    fields.insert("io_error".into(), errors_to_json(stat));
    Value::Object(fields)
}

/// How often operations failed, by SPDK's names of how they can; only of those that did.
fn errors_to_json(stat: &IoStat) -> Value {
    // In the order of `IoError::KINDS`.
    let [nvme @ .., timeout, aborted, removed, no_resources] = stat.failures();
    let (nvme, miscompares) = (nvme.iter().sum::<u64>(), stat.miscompares());
    let counts = [
        ("miscompare", miscompares),
        ("nvme_error", nvme.saturating_sub(miscompares)),
        ("aborted", *aborted),
        ("nomem", *no_resources),
        ("failed", timeout + removed),
    ];
    let mut errors = Map::new();
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        errors.insert(name.into(), count.into());
    }
    Value::Object(errors)
}
