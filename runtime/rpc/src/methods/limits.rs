//! What is asked of a bdev: limits, how long it takes, how much is under way.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::{HistogramShape, LatencyHistogram, Op, OpenError, QosLimits, Registry};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::bdev::no_such_device;
use super::thread::TICK_RATE;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    router.register("bdev_set_qos_limit", When::Runtime, set_qos_limit);
    router.register("bdev_enable_histogram", When::Runtime, enable_histogram);
    router.register("bdev_get_histogram", When::Runtime, get_histogram);
    router.register("bdev_get_histogram_borders", When::Runtime, get_histogram_borders);
    router.register_async("bdev_set_qd_sampling_period", When::Runtime, set_qd_sampling_period);
}

fn set_qos_limit(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let mut limit = |field: &str| params.optional::<i64>(field);
    let [ios, both, read, write] = [
        limit("rw_ios_per_sec")?,
        limit("rw_mbytes_per_sec")?,
        limit("r_mbytes_per_sec")?,
        limit("w_mbytes_per_sec")?,
    ];
    params.finish()?;
    if [ios, both, read, write].iter().all(Option::is_none) {
        return Err(RpcError::errno(errno::EINVAL, "no rate limits are given"));
    }
    let registry = cx.service::<Registry>()?;
    let now = registry.qos_limits(&name).ok_or_else(|| no_such_device(&name))?;
    let limits = QosLimits {
        rw_ios: choose(&name, ios, now.rw_ios, 1, QosLimits::IOS_MIN)?,
        rw_bytes: choose(&name, both, now.rw_bytes, MIB, QosLimits::BYTES_MIN)?,
        read_bytes: choose(&name, read, now.read_bytes, MIB, QosLimits::BYTES_MIN)?,
        write_bytes: choose(&name, write, now.write_bytes, MIB, QosLimits::BYTES_MIN)?,
    };
    registry.set_qos_limits(&name, limits);
    let key = format!("{name}/qos");
    if limits == QosLimits::default() {
        cx.forget("bdev", &key);
    } else {
        let [ios, both, read, write] = shown(limits);
        let chosen = [
            ("rw_ios_per_sec", ios.into()),
            ("rw_mbytes_per_sec", both.into()),
            ("r_mbytes_per_sec", read.into()),
            ("w_mbytes_per_sec", write.into()),
        ];
        cx.remember_with("bdev", key, chosen);
    }
    Ok(Value::Bool(true))
}

const MIB: u64 = 1 << 20;

/// A limit in units of `unit`, which becomes a multiple of the least one, as SPDK has it. One that
/// is not given stays as it is.
fn choose(
    name: &str,
    asked: Option<i64>,
    now: u64,
    unit: u64,
    least: u64,
) -> Result<u64, RpcError> {
    let Some(asked) = asked else { return Ok(now) };
    let asked = u64::try_from(asked).ok().and_then(|asked| asked.checked_mul(unit));
    let wrong = || RpcError::errno(errno::EINVAL, "a rate limit is negative or too large");
    // So that nothing that is counted with it can overflow.
    let asked = asked.filter(|asked| *asked < 1 << 50).ok_or_else(wrong)?;
    let limit = asked.next_multiple_of(least);
    if limit != asked {
        log::warn!(target: "bdev", "{name}: a rate limit of {asked} was rounded up to {limit}");
    }
    Ok(limit)
}

/// Limits as they are given: Ios, and MiB.
fn shown(limits: QosLimits) -> [u64; 4] {
    let QosLimits { rw_ios, rw_bytes, read_bytes, write_bytes } = limits;
    [rw_ios, rw_bytes / MIB, read_bytes / MIB, write_bytes / MIB]
}

/// The `assigned_rate_limits` of `bdev_get_bdevs`.
pub(super) fn limits_to_json(limits: QosLimits) -> Value {
    let [ios, both, read, write] = shown(limits);
    json!({
        "rw_ios_per_sec": ios,
        "rw_mbytes_per_sec": both,
        "r_mbytes_per_sec": read,
        "w_mbytes_per_sec": write,
    })
}

fn enable_histogram(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let enable: bool = params.required("enable")?;
    let op: Option<String> = params.optional("opc")?;
    let granularity: Option<u32> = params.optional("granularity")?;
    let min_ns: Option<u64> = params.optional("min_nsec")?;
    let max_ns: Option<u64> = params.optional("max_nsec")?;
    params.finish()?;
    let op = op.map(|op| read_op(&op)).transpose()?;
    let granularity = granularity.unwrap_or(HistogramShape::GRANULARITY);
    let (min_ns, max_ns) = (min_ns.unwrap_or(0), max_ns.unwrap_or(u64::MAX));
    let shape = HistogramShape::new(granularity, min_ns, max_ns, op).ok_or_else(|| {
        let message = "'granularity' is from 1 to 10, and 'min_nsec' less than 'max_nsec'";
        RpcError::errno(errno::EINVAL, message)
    })?;
    let registry = cx.service::<Registry>()?;
    registry.set_histogram(&name, enable.then_some(shape)).map_err(|error| match error {
        OpenError::NoMemory => RpcError::errno(errno::ENOMEM, "no memory for the histogram"),
        _ => no_such_device(&name),
    })?;
    Ok(Value::Bool(true))
}

/// An operation by its name in `supported_io_types`.
fn read_op(name: &str) -> Result<Op, RpcError> {
    let known = [
        (Op::Read, "read"),
        (Op::Write, "write"),
        (Op::Flush, "flush"),
        (Op::Unmap, "unmap"),
        (Op::WriteZeroes, "write_zeroes"),
        (Op::Compare, "compare"),
        (Op::Copy, "copy"),
        (Op::CompareAndWrite, "compare_and_write"),
        (Op::Reset, "reset"),
    ];
    let op = known.into_iter().find(|(_, known)| *known == name).map(|(op, _)| op);
    op.ok_or_else(|| {
        let known = known.map(|(_, name)| name).join(", ");
        RpcError::errno(errno::EINVAL, format!("'opc' is one of {known}, not '{name}'"))
    })
}

fn get_histogram(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    let histogram = histogram(&cx, &name)?;
    let bytes: Vec<u8> = histogram.counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    Ok(json!({
        "histogram": STANDARD.encode(bytes),
        "granularity": histogram.shape.granularity,
        "min_range": histogram.shape.min_range,
        "max_range": histogram.shape.max_range,
        "tsc_rate": TICK_RATE,
    }))
}

/// How many were shorter than each border, in µs, and how many there were.
fn get_histogram_borders(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let borders: Vec<u64> = params.required("borders")?;
    params.finish()?;
    if borders.is_empty() || !borders.is_sorted() {
        return Err(RpcError::params("'borders' are to be in ascending order, one at least"));
    }
    let histogram = histogram(&cx, &name)?;
    let below = borders.iter().map(|us| histogram.below(us.saturating_mul(1000)));
    let counts: Vec<u64> = below.chain([histogram.counts.iter().sum()]).collect();
    Ok(json!({"borders": borders, "histogram": counts}))
}

fn histogram(cx: &Context, name: &str) -> Result<LatencyHistogram, RpcError> {
    let registry = cx.service::<Registry>()?;
    registry.get(name).ok_or_else(|| no_such_device(name))?;
    registry.histogram(name).ok_or_else(|| {
        let message = "no histogram is kept: bdev_enable_histogram begins one";
        RpcError::errno(errno::ENOENT, message)
    })
}

async fn set_qd_sampling_period(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let period_us: u64 = params.required("period")?;
    params.finish()?;
    let registry = cx.service::<Registry>()?;
    let period = Duration::from_micros(period_us);
    if !registry.sample_depth(cx.local(), &name, period).await {
        return Err(no_such_device(&name));
    }
    Ok(Value::Bool(true))
}
