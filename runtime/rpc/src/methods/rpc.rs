//! The control plane itself: who reaches it, and whether it waits to be told to go on. Methods of
//! Basalt's own: SPDK leaves the former to the file system, and has an argument for the latter.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use basalt_net::IpAddress;
use serde_json::{Value, json};

use super::net::may_have;
use crate::gate::{ALLOWED_MAX, Access, Prefix};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// Says who may connect.
pub(crate) const SET_LISTENER: &str = "rpc_set_listener";

/// What the wait is saved under.
pub(crate) const WAIT_KEY: &str = "options";

pub(super) fn register(router: &mut Router) {
    router.register_async(SET_LISTENER, When::Any, set_listener);
    router.register("rpc_get_listener", When::Any, get_listener);
    router.register("rpc_set_options", When::Any, set_options);
}

async fn set_listener(cx: Context, params: Params) -> Outcome {
    let access = read_access(params)?;
    if let Access::Limited { address: Some(address), .. } = access
        && !may_have(&cx, address)
    {
        let message = format_args!("no interface has the address {address}");
        return Err(RpcError::errno(errno::EADDRNOTAVAIL, message));
    }
    let changed = cx.rpc().set_access(access).await;
    changed.map_err(|reason| RpcError::new(RpcError::INTERNAL, reason))?;
    cx.remember("rpc", "listener");
    Ok(Value::Bool(true))
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

fn get_listener(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let access = cx.rpc().access();
    let (address, allow) = match &access {
        Access::Limited { address, allow } => (*address, allow.as_slice()),
        Access::Open | Access::Closed => (None, &[][..]),
    };
    Ok(json!({
        "enabled": access != Access::Closed,
        "address": address.map(|address| address.to_string()),
        "allow": allow.iter().map(Prefix::to_string).collect::<Vec<_>>(),
    }))
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
