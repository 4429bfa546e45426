//! The control plane itself: who reaches it, and whether it waits to be told to go on. Methods of
//! Basalt's own: SPDK leaves the former to the file system, and has an argument for the latter.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use basalt_net::IpAddress;
use serde_json::{Value, json};

use super::net::may_have;
use crate::gate::{ALLOWED_MAX, Entrance};
use crate::{Access, Context, Door, Outcome, Params, Prefix, Router, RpcError, When, errno};

/// What the wait is saved under.
pub(crate) const WAIT_KEY: &str = "options";

pub(super) fn register(router: &mut Router) {
    for door in Door::ALL {
        let set = move |cx, params| set_listener(cx, params, door);
        router.register_async(door.method(), When::Any, set);
    }
    router
        .register("rpc_get_listener", When::Any, |cx, params| get_listener(&cx, params, Door::Rpc));
    router
        .register("web_get_listener", When::Any, |cx, params| get_listener(&cx, params, Door::Web));
    router.register("rpc_set_options", When::Any, set_options);
}

async fn set_listener(cx: Context, mut params: Params, door: Door) -> Outcome {
    let port = if door == Door::Web { read_port(&mut params)? } else { None };
    let access = read_access(&mut params)?;
    params.finish()?;
    if let Access::Limited { address: Some(address), .. } = access
        && !may_have(&cx, address)
    {
        let message = format_args!("no interface has the address {address}");
        return Err(RpcError::errno(errno::EADDRNOTAVAIL, message));
    }
    let changed = cx.rpc().set_entrance(door, Entrance { access, port }).await;
    changed.map_err(|reason| RpcError::new(RpcError::INTERNAL, reason))?;
    cx.remember(door.subsystem(), "listener");
    Ok(Value::Bool(true))
}

fn read_port(params: &mut Params) -> Result<Option<u16>, RpcError> {
    let port = params.optional("port")?;
    if port == Some(0) {
        params.refuse(format_args!("port"), format_args!("a port is from 1 to 65535"))?;
    }
    Ok(port)
}

fn read_access(params: &mut Params) -> Result<Access, RpcError> {
    let enabled: Option<bool> = params.optional("enabled")?;
    let address: Option<String> = params.optional("address")?;
    let allow: Option<Vec<String>> = params.optional("allow")?;
    let address = match address {
        Some(text) => read_address(params, &text)?,
        None => None,
    };
    let allow = allow.map(|list| read_allowed(params, &list)).transpose()?;
    Ok(match (enabled, address, allow) {
        (Some(false), _, _) => Access::Closed,
        (_, None, None) => Access::Open,
        (_, address, allow) => Access::Limited {
            address: address.filter(|address| !address.is_unspecified()),
            allow: allow.unwrap_or_default(),
        },
    })
}

fn read_address(params: &Params, text: &str) -> Result<Option<IpAddress>, RpcError> {
    let address = text.parse().ok();
    if address.is_none() {
        params.refuse(format_args!("address"), format_args!("'{text}' is not an IP address"))?;
    }
    Ok(address)
}

fn read_allowed(params: &Params, list: &[String]) -> Result<Vec<Prefix>, RpcError> {
    let at = format_args!("allow");
    if list.is_empty() {
        let reason = "it is empty: leave it out for everybody, or set 'enabled' to false";
        params.refuse(at, format_args!("{reason}"))?;
    }
    if list.len() > ALLOWED_MAX {
        params.refuse(at, format_args!("it has at most {ALLOWED_MAX} entries"))?;
    }
    let mut allowed = Vec::new();
    for (index, text) in list.iter().enumerate() {
        match text.parse() {
            Ok(prefix) => allowed.push(prefix),
            Err(_) => {
                let form = "is neither an address nor a prefix like 10.0.0.0/8";
                params.refuse(format_args!("allow[{index}]"), format_args!("'{text}' {form}"))?;
            }
        }
    }
    Ok(allowed)
}

fn get_listener(cx: &Context, params: Params, door: Door) -> Outcome {
    params.none()?;
    let Entrance { access, port } = cx.rpc().entrance(door);
    let (address, allow) = match &access {
        Access::Limited { address, allow } => (*address, allow.as_slice()),
        Access::Open | Access::Closed => (None, &[][..]),
    };
    let mut listener = json!({
        "enabled": access != Access::Closed,
        "address": address.map(|address| address.to_string()),
        "allow": allow.iter().map(Prefix::to_string).collect::<Vec<_>>(),
    });
    if door == Door::Web {
        listener["port"] = port.into();
    }
    Ok(listener)
}

/// SPDK's argument `--wait-for-rpc`. It is saved until `framework_start_init`: what runs by then is
/// to run again without being told to.
fn set_options(cx: Context, mut params: Params) -> Outcome {
    let waits: bool = params.required("wait_for_rpc")?;
    params.finish()?;
    if waits {
        cx.remember("rpc", WAIT_KEY);
    } else {
        cx.forget("rpc", WAIT_KEY);
    }
    Ok(Value::Bool(true))
}
