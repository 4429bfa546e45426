//! What SPDK's socket layer is asked for. There is one TCP stack here, by whatever name.

use alloc::format;
use alloc::string::String;

use serde_json::{Map, Value, json};

use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// The implementations that a configuration of SPDK's may name.
const IMPLEMENTATIONS: [&str; 4] = ["posix", "uring", "ssl", "xlio"];

pub(super) fn register(router: &mut Router) {
    router.register("sock_get_default_impl", When::Any, |cx, params| {
        params.none()?;
        let kept = cx.kept("sock", "options sock_set_default_impl ");
        let name = kept.get("impl_name").cloned().unwrap_or_else(|| IMPLEMENTATIONS[0].into());
        Ok(json!({"impl_name": name}))
    });
    router.register("sock_impl_get_options", When::Any, get_options);
}

/// What was set, in place of SPDK's defaults.
fn get_options(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("impl_name")?;
    params.finish()?;
    check(&name)?;
    let mut kept = cx.kept("sock", &format!("options sock_impl_set_options {name}"));
    let mut options = Map::new();
    for (name, number) in NUMBERS {
        let value = kept.remove(name).unwrap_or_else(|| number.into());
        options.insert(name.into(), value);
    }
    for (name, flag) in FLAGS {
        let value = kept.remove(name).unwrap_or_else(|| flag.into());
        options.insert(name.into(), value);
    }
    Ok(Value::Object(options))
}

/// Whether SPDK has an implementation of that name.
pub(super) fn check(name: &str) -> Result<(), RpcError> {
    if IMPLEMENTATIONS.contains(&name) {
        return Ok(());
    }
    let message = format_args!("there is no socket implementation '{name}'");
    Err(RpcError::errno(errno::EINVAL, message))
}

const NUMBERS: [(&str, u32); 5] = [
    ("recv_buf_size", 2 << 20),
    ("send_buf_size", 2 << 20),
    ("enable_placement_id", 0),
    ("zerocopy_threshold", 0),
    ("tls_version", 0),
];

const FLAGS: [(&str, bool); 5] = [
    ("enable_recv_pipe", true),
    ("enable_quickack", false),
    ("enable_zerocopy_send_server", true),
    ("enable_zerocopy_send_client", false),
    ("enable_ktls", false),
];
