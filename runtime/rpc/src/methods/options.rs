//! Settings that nearly every saved SPDK configuration holds and that have no counterpart here:
//! pool sizes, socket implementations, the scheduler.
//!
//! They are accepted so that such a configuration loads, kept so that saving gives them back, and
//! said to be without effect in the log.

use alloc::string::String;

use serde_json::Value;

use super::sock;
use crate::{Context, Outcome, Params, Router, When};

/// Method, the subsystem it is saved with, when it may be called, and the parameter that tells
/// several of its calls apart, by a socket implementation.
const OPTIONS: [(&str, &str, When, Option<&str>); 14] = [
    ("framework_set_scheduler", "scheduler", When::Any, None),
    ("scheduler_set_options", "scheduler", When::Startup, None),
    ("keyring_linux_set_options", "keyring", When::Startup, None),
    ("vmd_enable", "vmd", When::Startup, None),
    ("fsdev_set_opts", "fsdev", When::Runtime, None),
    ("bdev_iscsi_set_options", "bdev", When::Any, None),
    ("bdev_virtio_blk_set_hotplug", "bdev", When::Runtime, None),
    ("iobuf_set_options", "iobuf", When::Startup, None),
    ("sock_set_default_impl", "sock", When::Startup, None),
    ("sock_impl_set_options", "sock", When::Startup, Some("impl_name")),
    ("accel_set_options", "accel", When::Startup, None),
    ("bdev_set_options", "bdev", When::Startup, None),
    ("bdev_nvme_set_hotplug", "bdev", When::Runtime, None),
    ("iscsi_set_options", "iscsi", When::Startup, None),
];

pub(super) fn register(router: &mut Router) {
    for (name, subsystem, when, variant) in OPTIONS {
        router.register(name, when, move |cx, params| keep(&cx, params, subsystem, variant));
    }
}

fn keep(
    cx: &Context,
    mut params: Params,
    subsystem: &'static str,
    variant: Option<&str>,
) -> Outcome {
    let variant: String = match variant {
        Some(name) => params.required(name)?,
        None => String::new(),
    };
    if !variant.is_empty() {
        sock::check(&variant)?;
    }
    params.leave()?;
    log::info!(target: "rpc", "{} has no effect here; kept for saving", cx.method());
    cx.remember(subsystem, alloc::format!("options {} {variant}", cx.method()));
    Ok(Value::Bool(true))
}
