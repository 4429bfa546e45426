use alloc::string::{String, ToString};

use basalt_bdev::{Access, OpenError, Registry};
use basalt_nvmf::{NamespaceOptions, Target};
use serde_json::{Map, Value};

use super::params::NamespaceParams;
use super::{config_error, part_key, subsystem};
use crate::methods::bdev::no_such_device;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    router.register("nvmf_subsystem_add_ns", When::Runtime, add);
    router.register("nvmf_subsystem_remove_ns", When::Runtime, remove);
}

/// Adds a namespace. What is not said is taken from the bdev, and its NGUID from its UUID.
fn add(cx: Context, params: Params) -> Outcome {
    let wanted = NamespaceParams::read(params)?;
    let target = cx.service::<Target>()?;
    subsystem(&target, &wanted.nqn)?;
    let bdev = cx.service::<Registry>()?.open(&wanted.bdev_name, Access::ReadWrite);
    let bdev = bdev.map_err(|error| open_error(&wanted.bdev_name, error))?;
    let uuid = wanted.uuid.unwrap_or(bdev.info().uuid);
    let options = NamespaceOptions {
        nsid: wanted.nsid,
        uuid: Some(uuid),
        nguid: Some(wanted.nguid.unwrap_or(uuid)),
    };
    let nsid = target.add_ns(&wanted.nqn, bdev, options).map_err(config_error)?;
    cx.remember_as("nvmf", key(&wanted.nqn, nsid), with_nsid(cx.params(), nsid));
    Ok(Value::from(nsid))
}

/// The same parameters with the namespace identifier that was chosen.
fn with_nsid(mut params: Map<String, Value>, nsid: u32) -> Map<String, Value> {
    if let Some(Value::Object(namespace)) = params.get_mut("namespace") {
        namespace.insert("nsid".into(), nsid.into());
    }
    params
}

fn remove(cx: Context, mut params: Params) -> Outcome {
    let nqn: String = params.required("nqn")?;
    let nsid: u32 = params.required("nsid")?;
    params.ignore(&["tgt_name"]);
    params.finish()?;
    cx.service::<Target>()?.remove_ns(&nqn, nsid).map_err(config_error)?;
    cx.forget("nvmf", &key(&nqn, nsid));
    Ok(Value::Bool(true))
}

fn key(nqn: &str, nsid: u32) -> String {
    part_key(nqn, "namespace", &nsid.to_string())
}

fn open_error(name: &str, error: OpenError) -> RpcError {
    match error {
        OpenError::NoSuchBdev | OpenError::Removed => no_such_device(name),
        OpenError::Claimed => RpcError::errno(errno::EBUSY, error),
        OpenError::NoMemory => RpcError::errno(errno::ENOMEM, error),
        OpenError::NoQueueOnCore => RpcError::errno(errno::EIO, error),
    }
}
