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
    let access = read_access(params)?;
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
    match params.optional("port")? {
        Some(0) => Err(RpcError::params("'port' is from 1 to 65535")),
        port => Ok(port),
    }
}

fn read_access(mut params: Params) -> Result<Access, RpcError> {
    let enabled: Option<bool> = params.optional("enabled")?;
    let address: Option<String> = params.optional("address")?;
    let allow: Option<Vec<String>> = params.optional("allow")?;
    params.finish()?;
    let address = address.map(|text| read_address(&text)).transpose()?;
    let allow = allow.map(|list| read_allowed(&list)).transpose()?;
    Ok(match (enabled, address, allow) {
        (Some(false), _, _) => Access::Closed,
        (_, None, None) => Access::Open,
        (_, address, allow) => Access::Limited {
            address: address.filter(|address| !address.is_unspecified()),
            allow: allow.unwrap_or_default(),
        },
    })
}

fn read_address(text: &str) -> Result<IpAddress, RpcError> {
    text.parse()
        .map_err(|_| RpcError::params(format_args!("'address': '{text}' is not an IP address")))
}

fn read_allowed(list: &[String]) -> Result<Vec<Prefix>, RpcError> {
    if list.is_empty() {
        let message = "'allow' is empty: leave it out for everybody, or set 'enabled' to false";
        return Err(RpcError::params(message));
    }
    if list.len() > ALLOWED_MAX {
        return Err(RpcError::params(format_args!("'allow' has at most {ALLOWED_MAX} entries")));
    }
    let read = |text: &String| {
        text.parse().map_err(|_| {
            let form = "is neither an address nor a prefix like 10.0.0.0/8";
            RpcError::params(format_args!("'allow': '{text}' {form}"))
        })
    };
    list.iter().map(read).collect()
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
