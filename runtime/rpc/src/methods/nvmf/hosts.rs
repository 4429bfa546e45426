use alloc::string::String;

use basalt_nvmf::{HostPolicy, Target};
use serde_json::Value;

use super::{config_error, part_key, subsystem};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    router.register("nvmf_subsystem_add_host", When::Runtime, add);
    router.register("nvmf_subsystem_remove_host", When::Runtime, remove);
    router.register("nvmf_subsystem_allow_any_host", When::Runtime, allow_any);
}

fn add(cx: Context, mut params: Params) -> Outcome {
    let (nqn, host) = read(&mut params)?;
    for name in ["psk", "dhchap_key", "dhchap_ctrlr_key"] {
        if params.optional::<String>(name)?.is_some() {
            let message = format_args!("{name}: hosts are not authenticated");
            return Err(RpcError::errno(errno::EOPNOTSUPP, message));
        }
    }
    params.finish()?;
    let target = cx.service::<Target>()?;
    if subsystem(&target, &nqn)?.hosts.contains(&host) {
        return Err(RpcError::errno(errno::EEXIST, format_args!("{host} may connect already")));
    }
    target.add_host(&nqn, &host).map_err(config_error)?;
    cx.remember("nvmf", part_key(&nqn, "host", &host));
    Ok(Value::Bool(true))
}

fn remove(cx: Context, mut params: Params) -> Outcome {
    let (nqn, host) = read(&mut params)?;
    // How long to wait for the host's connections to end; they end by themselves.
    params.ignore(&["timeout_ms"]);
    params.finish()?;
    let target = cx.service::<Target>()?;
    if !subsystem(&target, &nqn)?.hosts.contains(&host) {
        return Err(RpcError::errno(errno::ENOENT, format_args!("{host} was not added")));
    }
    target.remove_host(&nqn, &host).map_err(config_error)?;
    cx.forget("nvmf", &part_key(&nqn, "host", &host));
    Ok(Value::Bool(true))
}

fn read(params: &mut Params) -> Result<(String, String), RpcError> {
    let names = (params.required("nqn")?, params.required("host")?);
    params.ignore(&["tgt_name"]);
    Ok(names)
}

fn allow_any(cx: Context, mut params: Params) -> Outcome {
    let nqn: String = params.required("nqn")?;
    let policy = match params.required("allow_any_host")? {
        true => HostPolicy::Any,
        false => HostPolicy::Listed,
    };
    params.ignore(&["tgt_name"]);
    params.finish()?;
    cx.service::<Target>()?.allow_any_host(&nqn, policy).map_err(config_error)?;
    cx.remember("nvmf", part_key(&nqn, "any host", ""));
    Ok(Value::Bool(true))
}
