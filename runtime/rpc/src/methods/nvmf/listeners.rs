use alloc::string::{String, ToString};

use basalt_net::Endpoint;
use basalt_nvmf::{DISCOVERY_NQN, Listener, Target};
use serde_json::Value;

use super::params::read_listener;
use super::{config_error, part_key, subsystem, transport};
use crate::methods::net;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    router.register_async("nvmf_subsystem_add_listener", When::Runtime, add);
    router.register("nvmf_subsystem_remove_listener", When::Runtime, remove);
}

async fn add(cx: Context, mut params: Params) -> Outcome {
    let (nqn, listener) = read(&mut params)?;
    read_options(params)?;
    let target = cx.service::<Target>()?;
    if nqn != DISCOVERY_NQN {
        subsystem(&target, &nqn)?;
    }
    if !transport::is_created(&cx) {
        let message = "Unable to find TCP transport; create it with nvmf_create_transport";
        return Err(RpcError::errno(errno::EINVAL, message));
    }
    if !net::may_have(&cx, listener.address) {
        let message = format_args!("no interface has the address {}", listener.address);
        return Err(RpcError::errno(errno::EADDRNOTAVAIL, message));
    }
    target.add_listener(&nqn, listener).await.map_err(config_error)?;
    cx.remember("nvmf", key(&nqn, listener));
    Ok(Value::Bool(true))
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

/// Refuses what would be promised and not kept.
fn read_options(mut params: Params) -> Result<(), RpcError> {
    let secure: Option<bool> = params.optional("secure_channel")?;
    let ana_state: Option<String> = params.optional("ana_state")?;
    params.ignore(&["sock_impl", "numa_id"]);
    params.finish()?;
    let refused = if secure == Some(true) {
        "secure_channel: TLS is not supported"
    } else if ana_state.is_some_and(|state| state != "optimized") {
        "ana_state: asymmetric access is not supported"
    } else {
        return Ok(());
    };
    Err(RpcError::errno(errno::EOPNOTSUPP, refused))
}

fn key(nqn: &str, Listener { address, port }: Listener) -> String {
    part_key(nqn, "listener", &Endpoint::new(address, port).to_string())
}
