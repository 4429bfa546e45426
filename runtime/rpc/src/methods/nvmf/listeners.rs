use alloc::format;
use alloc::string::{String, ToString};

use basalt_net::Endpoint;
use basalt_nvmf::{AnaState, ConfigError, DISCOVERY_NQN, Listener, Target};
use serde_json::Value;

use super::params::{ana_state, read_listener};
use super::{config_error, part_key, subsystem, transport};
use crate::methods::net;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    router.register_async("nvmf_subsystem_add_listener", When::Runtime, add);
    router.register("nvmf_subsystem_remove_listener", When::Runtime, remove);
    router.register_async("nvmf_subsystem_listener_set_ana_state", When::Runtime, set_ana_state);
}

async fn add(cx: Context, mut params: Params) -> Outcome {
    let (nqn, listener) = read(&mut params)?;
    let ana = read_options(params)?;
    let target = cx.service::<Target>()?;
    let is_known = match nqn.as_str() {
        DISCOVERY_NQN => target.discovery_listeners().contains(&listener),
        _ => subsystem(&target, &nqn)?.listeners.contains(&listener),
    };
    if !transport::is_created(&cx) {
        let message = "Unable to find TCP transport; create it with nvmf_create_transport";
        return Err(RpcError::errno(errno::EINVAL, message));
    }
    if !net::may_have(&cx, listener.address) {
        let message = format_args!("no interface has the address {}", listener.address);
        return Err(RpcError::errno(errno::EADDRNOTAVAIL, message));
    }
    target.add_listener_in(&nqn, listener, ana).await.map_err(config_error)?;
    if !is_known {
        cx.remember("nvmf", key(&nqn, listener));
    }
    Ok(Value::Bool(true))
}

async fn set_ana_state(cx: Context, mut params: Params) -> Outcome {
    let (nqn, listener) = read(&mut params)?;
    let ana = ana_state(&params.required::<String>("ana_state")?)?;
    // As in SPDK, none means all of them.
    let group = params.optional::<u32>("anagrpid")?.filter(|group| *group != 0);
    params.finish()?;
    let target = cx.service::<Target>()?;
    subsystem(&target, &nqn)?;
    let done = target.set_ana_state(&nqn, listener, ana, group).await;
    if matches!(done, Ok(()) | Err(ConfigError::Busy)) {
        remember_ana_state(&cx, &key(&nqn, listener), group);
    }
    done.map_err(config_error)?;
    Ok(Value::Bool(true))
}

/// Has the state saved after its listener; that of all groups takes the place of every other.
fn remember_ana_state(cx: &Context, listener: &str, group: Option<u32>) {
    match group {
        Some(group) => cx.remember("nvmf", format!("{listener}/ana/{group}")),
        None => {
            cx.forget("nvmf", &format!("{listener}/ana"));
            cx.remember("nvmf", format!("{listener}/ana"));
        }
    }
}

fn remove(cx: Context, mut params: Params) -> Outcome {
    let (nqn, listener) = read(&mut params)?;
    params.finish()?;
    cx.service::<Target>()?.remove_listener(&nqn, listener).map_err(config_error)?;
    cx.forget("nvmf", &key(&nqn, listener));
    Ok(Value::Bool(true))
}

fn read(params: &mut Params) -> Result<(String, Listener), RpcError> {
    let nqn = params.required("nqn")?;
    let listener = read_listener(params.object("listen_address")?)?;
    params.ignore(&["tgt_name"]);
    Ok((nqn, listener))
}

/// How a listener is to reach namespaces. Refuses what would be promised and not kept.
fn read_options(mut params: Params) -> Result<AnaState, RpcError> {
    let secure: Option<bool> = params.optional("secure_channel")?;
    let ana: Option<String> = params.optional("ana_state")?;
    params.ignore(&["sock_impl", "numa_id"]);
    params.finish()?;
    if secure == Some(true) {
        let refused = "secure_channel: TLS is not supported";
        return Err(RpcError::errno(errno::EOPNOTSUPP, refused));
    }
    ana.map_or(Ok(AnaState::Optimized), |name| ana_state(&name))
}

fn key(nqn: &str, Listener { address, port }: Listener) -> String {
    part_key(nqn, "listener", &Endpoint::new(address, port).to_string())
}
