//! Virtual bdevs: passthru, delay, error, split.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;

use basalt_bdev::vbdev::delay::{self, Latencies, Latency};
use basalt_bdev::vbdev::error::{self, FALLIBLE, Fault, Faults, Injection};
use basalt_bdev::vbdev::split::{self, SplitOptions};
use basalt_bdev::vbdev::{Made, Recipe, Vbdevs, passthru};
use basalt_bdev::{CreateError, Op, UnregisterError};
use serde_json::Value;

use super::bdev::{create_error, no_such_device, read_uuid};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// The status of an injected NVMe failure unless the call says otherwise: internal error.
const DEFAULT_STATUS: (u8, u8) = (0, 0x06);

pub(super) fn register(router: &mut Router) {
    router.register("bdev_passthru_create", When::Runtime, passthru_create);
    router.register("bdev_passthru_delete", When::Runtime, |cx, params| {
        delete(&cx, params, "name", passthru::PRODUCT_NAME)
    });
    router.register("bdev_delay_create", When::Runtime, delay_create);
    router.register("bdev_delay_update_latency", When::Runtime, delay_update_latency);
    router.register("bdev_delay_delete", When::Runtime, |cx, params| {
        delete(&cx, params, "name", delay::PRODUCT_NAME)
    });
    router.register("bdev_error_create", When::Runtime, error_create);
    router.register("bdev_error_inject_error", When::Runtime, error_inject);
    router.register("bdev_error_resume_pending", When::Runtime, error_resume_pending);
    router.register("bdev_error_delete", When::Runtime, |cx, params| {
        delete(&cx, params, "name", error::PRODUCT_NAME)
    });
    router.register("bdev_split_create", When::Runtime, split_create);
    router.register("bdev_split_delete", When::Runtime, |cx, params| {
        delete(&cx, params, "base_bdev", split::PRODUCT_NAME)
    });
}

fn passthru_create(cx: Context, mut params: Params) -> Outcome {
    let base: String = params.required("base_bdev_name")?;
    let name: String = params.required("name")?;
    let uuid = read_uuid(&mut params)?;
    params.finish()?;
    create(&cx, passthru::recipe(&name, &base, uuid))?;
    Ok(name.into())
}

fn delay_create(cx: Context, mut params: Params) -> Outcome {
    let base: String = params.required("base_bdev_name")?;
    let name: String = params.required("name")?;
    let uuid = read_uuid(&mut params)?;
    let mut us = [0; 4];
    for (us, (_, kind)) in us.iter_mut().zip(Latency::ALL) {
        *us = params.required(&format!("{kind}_latency"))?;
    }
    params.finish()?;
    create(&cx, delay::recipe(&name, &base, Latencies::new(us), uuid))?;
    Ok(name.into())
}

fn delay_update_latency(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("delay_bdev_name")?;
    let kind: String = params.required("latency_type")?;
    let us: u64 = params.required("latency_us")?;
    params.finish()?;
    let Some((latency, kind)) = Latency::ALL.into_iter().find(|(_, known)| *known == kind) else {
        let known = Latency::ALL.map(|(_, known)| known).join(", ");
        let message = format_args!("'latency_type' is one of {known}, not '{kind}'");
        return Err(RpcError::params(message));
    };
    let latencies = vbdevs(&cx)?.handle::<Latencies>(&name).ok_or_else(|| no_such_device(&name))?;
    latencies.set_us(latency, us);
    cx.remember("bdev", format!("vbdev/{name}/{kind}"));
    Ok(Value::Bool(true))
}

fn error_create(cx: Context, mut params: Params) -> Outcome {
    let base: String = params.required("base_name")?;
    let uuid = read_uuid(&mut params)?;
    params.finish()?;
    create(&cx, error::recipe(&base, Faults::default(), uuid))?;
    Ok(Value::Bool(true))
}

fn error_inject(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let io_type: String = params.required("io_type")?;
    let error_type: String = params.required("error_type")?;
    let count: u32 = params.optional("num")?.unwrap_or(1);
    let queue_depth: u64 = params.optional("queue_depth")?.unwrap_or(0);
    let offset: u64 = params.optional("corrupt_offset")?.unwrap_or(0);
    let value: u8 = params.optional("corrupt_value")?.unwrap_or(0);
    let sct: u8 = params.optional("nvme_sct")?.unwrap_or(DEFAULT_STATUS.0);
    let sc: u8 = params.optional("nvme_sc")?.unwrap_or(DEFAULT_STATUS.1);
    params.finish()?;
    let fault = match error_type.as_str() {
        "failure" => Fault::Failure,
        "nvme_failure" => Fault::NvmeFailure { sct, sc },
        "pending" => Fault::Pending,
        "corrupt_data" if value == 0 => {
            let message = "'corrupt_value' must not be 0, which would change nothing";
            return Err(RpcError::errno(errno::EINVAL, message));
        }
        "corrupt_data" => Fault::CorruptData { offset, value },
        "nomem" => Fault::NoMemory,
        other => {
            let message = format_args!(
                "'error_type' is one of failure, nvme_failure, pending, corrupt_data, nomem, not \
                 '{other}'"
            );
            return Err(RpcError::params(message));
        }
    };
    let faults = vbdevs(&cx)?.handle::<Faults>(&name).ok_or_else(|| no_such_device(&name))?;
    let injection = Injection { fault, count, queue_depth };
    match io_type.as_str() {
        "clear" => faults.clear(),
        "all" => FALLIBLE.into_iter().for_each(|op| faults.inject(op, injection)),
        other => faults.inject(read_op(other)?, injection),
    }
    Ok(Value::Bool(true))
}

fn error_resume_pending(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    let faults = vbdevs(&cx)?.handle::<Faults>(&name).ok_or_else(|| no_such_device(&name))?;
    faults.resume_pending();
    Ok(Value::Bool(true))
}

fn read_op(name: &str) -> Result<Op, RpcError> {
    Ok(match name {
        "read" => Op::Read,
        "write" => Op::Write,
        "unmap" => Op::Unmap,
        "flush" => Op::Flush,
        other => {
            let message = format_args!(
                "'io_type' is one of clear, read, write, unmap, flush, all, not '{other}'"
            );
            return Err(RpcError::params(message));
        }
    })
}

fn split_create(cx: Context, mut params: Params) -> Outcome {
    let base: String = params.required("base_bdev")?;
    let count: u32 = params.required("split_count")?;
    let size_mib: u64 = params.optional("split_size_mb")?.unwrap_or(0);
    params.finish()?;
    if count == 0 {
        return Err(RpcError::errno(errno::EINVAL, "'split_count' must be at least 1"));
    }
    match create(&cx, split::recipe(&base, SplitOptions { count, size_mib }))? {
        Made::Now(names) => Ok(names.into()),
        Made::Later => Ok(Value::Array(alloc::vec::Vec::new())),
    }
}

/// Makes it, now or later, and remembers the call for either case.
pub(super) fn create(cx: &Context, recipe: Recipe) -> Result<Made, RpcError> {
    let key = key(recipe.product_name, &recipe.name);
    let made = vbdevs(cx)?.create(recipe).map_err(|error| match error {
        CreateError::NoBlocks => {
            RpcError::errno(errno::EINVAL, "the base has no room for a single part")
        }
        error => create_error(error),
    })?;
    cx.remember("bdev", key);
    Ok(made)
}

pub(super) fn delete(cx: &Context, mut params: Params, by: &str, product_name: &str) -> Outcome {
    let name: String = params.required(by)?;
    params.finish()?;
    match vbdevs(cx)?.delete(product_name, &name) {
        Ok(()) => {}
        Err(UnregisterError::NoSuchBdev | UnregisterError::Busy) => {
            return Err(no_such_device(&name));
        }
    }
    cx.forget("bdev", &key(product_name, &name));
    Ok(Value::Bool(true))
}

/// What a call is remembered under: not the bdev's name, as it outlives the bdev.
pub(super) fn key(product_name: &str, name: &str) -> String {
    match product_name {
        split::PRODUCT_NAME => format!("split/{name}"),
        _ => format!("vbdev/{name}"),
    }
}

pub(super) fn vbdevs(cx: &Context) -> Result<Rc<Vbdevs>, RpcError> {
    let none = || RpcError::new(RpcError::INTERNAL, "there is no table of bdevs");
    Vbdevs::of(cx.local()).ok_or_else(none)
}
