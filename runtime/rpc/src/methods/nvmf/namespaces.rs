use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};

use basalt_bdev::{Access, OpenError, Registry};
use basalt_nvmf::{ConfigError, NamespaceOptions, Target};
use serde_json::{Map, Value};

use super::params::NamespaceParams;
use super::{config_error, part_key, subsystem};
use crate::methods::bdev::no_such_device;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    router.register("nvmf_subsystem_add_ns", When::Runtime, add);
    router.register("nvmf_subsystem_remove_ns", When::Runtime, remove);
    router.register_async("nvmf_subsystem_set_ns_ana_group", When::Runtime, set_ana_group);
    router.register_async("nvmf_ns_add_host", When::Runtime, add_host);
    router.register_async("nvmf_ns_remove_host", When::Runtime, remove_host);
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
        anagrpid: wanted.anagrpid,
        no_auto_visible: wanted.no_auto_visible,
    };
    let nsid = target.add_ns(&wanted.nqn, bdev, options).map_err(config_error)?;
    let nqn = wanted.nqn.clone();
    cx.remember_live("nvmf", key(&wanted.nqn, nsid), move |params| {
        renew(params, &target, &nqn, nsid);
    });
    Ok(Value::from(nsid))
}

/// Puts in the namespace identifier that was chosen, and the ANA group of now.
fn renew(params: &mut Map<String, Value>, target: &Rc<Target>, nqn: &str, nsid: u32) {
    let Some(Value::Object(namespace)) = params.get_mut("namespace") else { return };
    namespace.insert("nsid".into(), nsid.into());
    let Ok(subsystem) = subsystem(target, nqn) else { return };
    let info = subsystem.namespaces.iter().find(|info| info.nsid == nsid);
    if let Some(info) = info.filter(|_| subsystem.ana_reporting) {
        namespace.insert("anagrpid".into(), info.anagrpid.into());
    }
}

async fn set_ana_group(cx: Context, mut params: Params) -> Outcome {
    let nqn: String = params.required("nqn")?;
    let nsid: u32 = params.required("nsid")?;
    let anagrpid: u32 = params.required("anagrpid")?;
    params.ignore(&["tgt_name"]);
    params.finish()?;
    let target = cx.service::<Target>()?;
    target.set_ns_ana_group(&nqn, nsid, anagrpid).await.map_err(config_error)?;
    Ok(Value::Bool(true))
}

async fn add_host(cx: Context, params: Params) -> Outcome {
    let (nqn, nsid, host) = read_host(params)?;
    let target = cx.service::<Target>()?;
    target.ns_add_host(&nqn, nsid, &host).await.map_err(config_error)?;
    cx.remember("nvmf", host_key(&nqn, nsid, &host));
    Ok(Value::Bool(true))
}

async fn remove_host(cx: Context, params: Params) -> Outcome {
    let (nqn, nsid, host) = read_host(params)?;
    let target = cx.service::<Target>()?;
    let done = target.ns_remove_host(&nqn, nsid, &host).await;
    if matches!(done, Ok(()) | Err(ConfigError::Busy)) {
        cx.forget("nvmf", &host_key(&nqn, nsid, &host));
    }
    done.map_err(config_error)?;
    Ok(Value::Bool(true))
}

fn read_host(mut params: Params) -> Result<(String, u32, String), RpcError> {
    let names = (params.required("nqn")?, params.required("nsid")?, params.required("host")?);
    params.ignore(&["tgt_name"]);
    params.finish()?;
    Ok(names)
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

/// Below that of the namespace, with which it goes.
fn host_key(nqn: &str, nsid: u32, host: &str) -> String {
    format!("{}/host {host}\0", key(nqn, nsid))
}

fn open_error(name: &str, error: OpenError) -> RpcError {
    match error {
        OpenError::NoSuchBdev | OpenError::Removed => no_such_device(name),
        OpenError::Claimed => RpcError::errno(errno::EBUSY, error),
        OpenError::NoMemory => RpcError::errno(errno::ENOMEM, error),
        OpenError::NoQueueOnCore => RpcError::errno(errno::EIO, error),
    }
}
