//! What the application as a whole is and does.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Value, json};

use super::rpc::WAIT_KEY;
use crate::{Context, Outcome, Params, Router, RpcError, State, When};

/// Subsystems whose calls are saved, each after those it depends on.
pub(super) const SUBSYSTEMS: [(&str, &[&str]); 14] = [
    ("net", &[]),
    ("log", &["net"]),
    ("rpc", &["net"]),
    ("web", &["net"]),
    ("scheduler", &[]),
    ("keyring", &[]),
    ("fsdev", &[]),
    ("vmd", &[]),
    ("iobuf", &[]),
    ("sock", &["net"]),
    ("accel", &["iobuf"]),
    ("bdev", &["accel", "iobuf", "keyring", "sock", "vmd"]),
    ("nvmf", &["accel", "bdev", "iobuf", "keyring", "sock"]),
    ("iscsi", &["bdev", "sock"]),
];

const SIGNALS: [&str; 6] = ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGKILL", "SIGUSR1"];

/// How long `spdk_kill_instance` leaves the network to deliver its reply.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How often `framework_wait_init` looks.
const WAIT_STEP: Duration = Duration::from_millis(10);

pub(super) fn register(router: &mut Router) {
    router.register("rpc_get_methods", When::Any, get_methods);
    router.register("spdk_get_version", When::Any, get_version);
    router.register("framework_start_init", When::Startup, start_init);
    router.register_async("framework_wait_init", When::Any, wait_init);
    router.register("framework_get_subsystems", When::Any, get_subsystems);
    router.register("framework_get_config", When::Any, get_config);
    router.register("spdk_kill_instance", When::Any, kill_instance);
}

fn get_methods(cx: Context, mut params: Params) -> Outcome {
    let current = params.optional::<bool>("current")?.unwrap_or(false);
    // There are no deprecated aliases here, so nothing to include.
    params.optional::<bool>("include_aliases")?;
    params.finish()?;
    let state = current.then(|| cx.rpc().state());
    Ok(cx.rpc().router().names(state).map(Value::from).collect())
}

fn get_version(_: Context, params: Params) -> Outcome {
    params.none()?;
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let suffix = env!("CARGO_PKG_VERSION_PRE");
    Ok(json!({
        "version": concat!("Basalt v", env!("CARGO_PKG_VERSION")),
        "fields": {
            "major": number(env!("CARGO_PKG_VERSION_MAJOR")),
            "minor": number(env!("CARGO_PKG_VERSION_MINOR")),
            "patch": number(env!("CARGO_PKG_VERSION_PATCH")),
            "suffix": if suffix.is_empty() { String::new() } else { format!("-{suffix}") },
        },
    }))
}

fn start_init(cx: Context, params: Params) -> Outcome {
    params.none()?;
    cx.forget("rpc", WAIT_KEY);
    cx.rpc().set_running();
    Ok(Value::Bool(true))
}

async fn wait_init(cx: Context, params: Params) -> Outcome {
    params.none()?;
    while cx.rpc().state() != State::Runtime {
        cx.local().sleep(WAIT_STEP).await;
    }
    Ok(Value::Bool(true))
}

fn get_subsystems(_: Context, params: Params) -> Outcome {
    params.none()?;
    let subsystems = SUBSYSTEMS.iter();
    Ok(subsystems
        .map(|(name, depends_on)| json!({"subsystem": name, "depends_on": depends_on}))
        .collect())
}

fn get_config(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    // Calls are never saved as batches, so there is nothing to flatten.
    params.optional::<bool>("with_batches")?;
    params.finish()?;
    if !SUBSYSTEMS.iter().any(|(known, _)| *known == name) {
        let message = format!("Subsystem '{name}' not found");
        return Err(RpcError::new(RpcError::INVALID_PARAMS, message));
    }
    let mut calls: Vec<Value> = cx.rpc().saved(&name);
    if name == "bdev" {
        calls.push(json!({"method": "bdev_wait_for_examine"}));
    }
    Ok(Value::Array(calls))
}

fn kill_instance(cx: Context, mut params: Params) -> Outcome {
    let signal: String = params.required("sig_name")?;
    params.finish()?;
    if !SIGNALS.contains(&signal.as_str()) {
        return Err(RpcError::params(format_args!("'{signal}' is not a signal")));
    }
    if !cx.rpc().has_kill_hook() {
        return Err(RpcError::new(RpcError::INTERNAL, "this machine cannot be stopped"));
    }
    let (local, rpc) = (cx.local().clone(), Rc::clone(cx.rpc()));
    let timer = local.clone();
    local.spawn("kill", async move {
        timer.sleep(LAST_WORDS).await;
        rpc.kill(&signal);
    });
    Ok(Value::Bool(true))
}
