//! Block devices: listing them, and making those that need no hardware.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use basalt_bdev::malloc::MallocOptions;
use basalt_bdev::null::NullOptions;
use basalt_bdev::uuid::{self, Uuid};
use basalt_bdev::vbdev::gpt::Examiner;
use basalt_bdev::{Access, Bdev, CreateError, Op, OpenError, RegisterError, Registry, ResizeError};
use serde_json::{Map, Value, json};

use super::limits::limits_to_json;
use super::nvme_remote;
use super::object;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// How often `bdev_get_bdevs` looks for a bdev it waits for.
const WAIT_STEP: Duration = Duration::from_millis(10);

/// Longest time `bdev_get_bdevs` waits, ms: the client has given up long before.
const WAIT_MS_MAX: u64 = 600_000;

/// Parameters of block metadata and protection information, which bdevs here do not have.
const METADATA: [&str; 3] = ["md_size", "dif_type", "dif_pi_format"];

/// Parameters without meaning for a bdev in memory.
const HINTS: [&str; 9] = [
    "md_interleave",
    "dif_is_head_of_md",
    "physical_block_size",
    "numa_id",
    "preferred_write_alignment",
    "preferred_write_granularity",
    "optimal_write_size",
    "preferred_unmap_alignment",
    "preferred_unmap_granularity",
];

pub(super) fn register(router: &mut Router) {
    router.register_async("bdev_get_bdevs", When::Runtime, get_bdevs);
    router.register_async("bdev_wait_for_examine", When::Runtime, wait_for_examine);
    router.register("bdev_examine", When::Runtime, examine);
    router.register("bdev_malloc_create", When::Runtime, malloc_create);
    router.register("bdev_malloc_delete", When::Runtime, |cx, params| {
        delete(&cx, params, "Malloc disk")
    });
    router.register("bdev_null_create", When::Runtime, null_create);
    router.register("bdev_null_resize", When::Runtime, null_resize);
    router
        .register("bdev_null_delete", When::Runtime, |cx, params| delete(&cx, params, "Null disk"));
}

async fn get_bdevs(cx: Context, mut params: Params) -> Outcome {
    let name: Option<String> = params.optional("name")?;
    let timeout_ms: u64 = params.optional("timeout")?.unwrap_or(0);
    params.finish()?;
    let registry = cx.service::<Registry>()?;
    let Some(name) = name else {
        return Ok(registry
            .list()
            .iter()
            .map(|bdev| bdev_to_json(&cx, &registry, &**bdev))
            .collect());
    };
    let deadline = cx.local().now() + Duration::from_millis(timeout_ms.min(WAIT_MS_MAX));
    loop {
        if let Some(bdev) = registry.get(&name) {
            return Ok(json!([bdev_to_json(&cx, &registry, &*bdev)]));
        }
        if cx.local().now() >= deadline {
            return Err(no_such_device(&name));
        }
        cx.local().sleep(WAIT_STEP).await;
    }
}

/// What its module says of a bdev.
fn own_fields(bdev: &dyn Bdev) -> Value {
    let fields: Map<String, Value> =
        serde_json::from_str(&bdev.driver_specific()).unwrap_or_default();
    fields.into()
}

fn bdev_to_json(cx: &Context, registry: &Registry, bdev: &dyn Bdev) -> Value {
    let info = bdev.info();
    let uuid = uuid::format(&info.uuid);
    let specific = nvme_remote::driver_specific(cx, &info.name);
    let specific = specific.unwrap_or_else(|| own_fields(bdev));
    let limits = registry.qos_limits(&info.name).unwrap_or_default();
    let mut fields = object(&mut [
        ("name", Value::from(info.name.as_str())),
        ("aliases", json!([uuid])),
        ("product_name", Value::from(info.product_name)),
        ("block_size", Value::from(info.block_size)),
        ("num_blocks", Value::from(info.num_blocks.get())),
        ("uuid", Value::from(uuid)),
        ("numa_id", Value::from(-1)),
        ("assigned_rate_limits", limits_to_json(limits)),
        ("claimed", Value::from(registry.is_claimed(&info.name))),
        ("zoned", Value::from(bdev.zones().is_some())),
        ("supported_io_types", supported_io_types(bdev)),
        ("driver_specific", specific),
    ]);
    if let Some(zones) = bdev.zones() {
        fields["zone_size"] = zones.blocks.into();
        fields["max_open_zones"] = zones.open_max.into();
        fields["optimal_open_zones"] = zones.open_max.into();
    }
    if info.optimal_io_boundary > 0 {
        fields["optimal_io_boundary"] = info.optimal_io_boundary.into();
    }
    if let Some(claim_type) = registry.claim(&info.name).and_then(Access::claim_type) {
        fields["claim_type"] = claim_type.into();
    }
    fields
}

fn supported_io_types(bdev: &dyn Bdev) -> Value {
    object(&mut [
        ("read", Value::from(bdev.supports(Op::Read))),
        ("write", Value::from(bdev.supports(Op::Write))),
        ("unmap", Value::from(bdev.supports(Op::Unmap))),
        ("flush", Value::from(bdev.supports(Op::Flush))),
        // Made of writes where the bdev has none, as SPDK's are.
        ("write_zeroes", Value::from(bdev.supports(Op::WriteZeroes) || bdev.supports(Op::Write))),
        // By the bdev, or by waiting until nothing is under way.
        ("reset", true.into()),
        ("nvme_admin", Value::from(bdev.supports(Op::NvmeAdmin))),
        ("nvme_io", Value::from(bdev.supports(Op::NvmeIo))),
        ("nvme_io_md", false.into()),
        ("zcopy", false.into()),
        ("get_zone_info", Value::from(bdev.supports(Op::ZoneReport))),
        ("zone_management", Value::from(bdev.supports(Op::ZoneReset))),
        ("zone_append", Value::from(bdev.supports(Op::ZoneAppend))),
        ("compare", Value::from(bdev.supports(Op::Compare))),
        ("compare_and_write", Value::from(bdev.compare_and_write_max() > 0)),
        ("abort", Value::from(bdev.can_abort())),
        ("seek_hole", false.into()),
        ("seek_data", false.into()),
        ("copy", Value::from(bdev.supports(Op::Copy))),
        ("nvme_iov_md", false.into()),
    ])
}

async fn wait_for_examine(cx: Context, params: Params) -> Outcome {
    params.none()?;
    Examiner::settled(cx.local()).await;
    Ok(Value::Bool(true))
}

fn examine(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    match cx.service::<Registry>()?.get(&name) {
        Some(_) => Ok(Value::Bool(true)),
        None => Err(no_such_device(&name)),
    }
}

fn malloc_create(cx: Context, mut params: Params) -> Outcome {
    let options = MallocOptions {
        num_blocks: params.required("num_blocks")?,
        block_size: params.required("block_size")?,
        name: params.optional("name")?,
        uuid: read_uuid(&mut params)?,
        optimal_io_boundary: params.optional("optimal_io_boundary")?.unwrap_or(0),
    };
    finish_create(params)?;
    let created = basalt_bdev::malloc::create(&*cx.service::<Registry>()?, options);
    remember_created(&cx, created)
}

fn null_create(cx: Context, mut params: Params) -> Outcome {
    let options = NullOptions {
        num_blocks: params.required("num_blocks")?,
        block_size: params.required("block_size")?,
        name: Some(params.required("name")?),
        uuid: read_uuid(&mut params)?,
    };
    finish_create(params)?;
    let created = basalt_bdev::null::create(&*cx.service::<Registry>()?, options);
    remember_created(&cx, created)
}

/// `new_size` is in MiB.
fn null_resize(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let mib: u64 = params.required("new_size")?;
    params.finish()?;
    let registry = cx.service::<Registry>()?;
    let bdev = registry.get(&name).filter(|bdev| bdev.info().product_name == "Null disk");
    let Some(bdev) = bdev else { return Err(no_such_device(&name)) };
    let blocks = mib.saturating_mul((1 << 20) / u64::from(bdev.info().block_size));
    registry.resize(&name, blocks).map_err(|error| resize_error(&name, error))?;
    cx.remember("bdev", format!("{}/size", bdev.info().name));
    Ok(Value::Bool(true))
}

pub(super) fn resize_error(name: &str, error: ResizeError) -> RpcError {
    let errno = match error {
        ResizeError::NoSuchBdev => errno::ENODEV,
        ResizeError::BadGeometry => errno::EINVAL,
        ResizeError::Busy => errno::EBUSY,
    };
    RpcError::errno(errno, format_args!("{name}: {error}"))
}

/// Refuses metadata, which would be promised and not kept; drops hints; refuses the unknown.
fn finish_create(mut params: Params) -> Result<(), RpcError> {
    for name in METADATA {
        if params.optional::<u32>(name)?.unwrap_or(0) != 0 {
            let message = format_args!("'{name}': block metadata is not supported");
            return Err(RpcError::errno(errno::EOPNOTSUPP, message));
        }
    }
    params.ignore(&HINTS);
    params.finish()
}

fn remember_created(cx: &Context, created: Result<Arc<dyn Bdev>, CreateError>) -> Outcome {
    let bdev = created.map_err(create_error)?;
    Ok(remember(cx, &*bdev))
}

/// Remembers the call as the one that made `bdev`; gives its name, the call's result.
pub(super) fn remember(cx: &Context, bdev: &dyn Bdev) -> Value {
    let info = bdev.info();
    let chosen = [
        ("name", Value::from(info.name.as_str())),
        ("uuid", Value::from(uuid::format(&info.uuid))),
    ];
    cx.remember_with("bdev", info.name.as_str(), chosen);
    Value::from(info.name.as_str())
}

pub(super) fn delete(cx: &Context, mut params: Params, product_name: &str) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    let registry = cx.service::<Registry>()?;
    let bdev = registry.get(&name).filter(|bdev| bdev.info().product_name == product_name);
    let Some(bdev) = bdev else { return Err(no_such_device(&name)) };
    registry.remove(&bdev.info().name).map_err(|error| RpcError::errno(errno::ENODEV, error))?;
    Ok(Value::Bool(true))
}

/// Takes the parameter `uuid`.
pub(super) fn read_uuid(params: &mut Params) -> Result<Option<Uuid>, RpcError> {
    let Some(text) = params.optional::<String>("uuid")? else { return Ok(None) };
    let uuid = uuid::parse(&text);
    uuid.map(Some).ok_or_else(|| RpcError::params(format_args!("'{text}' is not a UUID")))
}

pub(super) fn create_error(error: CreateError) -> RpcError {
    let errno = match error {
        CreateError::BadBlockSize { .. } | CreateError::NoBlocks | CreateError::Unsuitable(_) => {
            errno::EINVAL
        }
        CreateError::NoMemory { .. } => errno::ENOMEM,
        CreateError::Register(RegisterError::BadGeometry) => errno::EINVAL,
        CreateError::Register(RegisterError::NameTaken | RegisterError::UuidTaken) => errno::EEXIST,
        CreateError::Base(OpenError::NoMemory) => errno::ENOMEM,
        CreateError::Base(OpenError::Claimed) => errno::EPERM,
        CreateError::Base(_) => errno::ENODEV,
    };
    RpcError::errno(errno, error)
}

pub(super) fn no_such_device(name: impl fmt::Display) -> RpcError {
    RpcError::errno(errno::ENODEV, format_args!("No such device: '{name}'"))
}

/// The named bdevs, or all of them.
pub(super) fn select(
    registry: &Registry,
    names: Option<Vec<String>>,
) -> Result<Vec<Arc<dyn Bdev>>, RpcError> {
    let Some(names) = names else { return Ok(registry.list()) };
    names.iter().map(|name| registry.get(name).ok_or_else(|| no_such_device(name))).collect()
}
