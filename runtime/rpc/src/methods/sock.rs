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
    if !IMPLEMENTATIONS.contains(&name.as_str()) {
        let message = format_args!("there is no socket implementation '{name}'");
        return Err(RpcError::errno(errno::EINVAL, message));
    }
    let mut options = defaults();
    for (name, value) in cx.kept("sock", &format!("options sock_impl_set_options {name}")) {
        if let Some(option) = options.get_mut(&name) {
            *option = value;
        }
    }
    Ok(Value::Object(options))
}

fn defaults() -> Map<String, Value> {
    const BUFFER_BYTES: u32 = 2 << 20;
    let options: [(&str, Value); 10] = [
        ("recv_buf_size", BUFFER_BYTES.into()),
        ("send_buf_size", BUFFER_BYTES.into()),
        ("enable_recv_pipe", true.into()),
        ("enable_quickack", false.into()),
        ("enable_placement_id", 0.into()),
        ("enable_zerocopy_send_server", true.into()),
        ("enable_zerocopy_send_client", false.into()),
        ("zerocopy_threshold", 0.into()),
        ("tls_version", 0.into()),
        ("enable_ktls", false.into()),
    ];
    options.into_iter().map(|(name, value)| (name.into(), value)).collect()
}
