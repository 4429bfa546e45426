//! SPDK's scheduler, which moves threads between cores. Each core has its own work here for good,
//! as under SPDK's `static` scheduler: what is asked for is kept and shown.

use alloc::string::String;

use serde_json::{Value, json};

use super::thread::{cpumask, find_thread};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// SPDK's, µs, once a scheduler was chosen.
const PERIOD_US: u64 = 1_000_000;

pub(super) fn register(router: &mut Router) {
    router.register("framework_get_scheduler", When::Any, get_scheduler);
    router.register("framework_get_governor", When::Runtime, |_, params| {
        params.none()?;
        // Nothing changes the frequency of cores.
        Ok(json!({}))
    });
    router.register("framework_monitor_context_switch", When::Runtime, monitor);
    for name in ["framework_enable_cpumask_locks", "framework_disable_cpumask_locks"] {
        // Nobody else is on these cores, whom a lock would keep out.
        router.register(name, When::Any, |_, params| {
            params.none()?;
            Ok(Value::Bool(true))
        });
    }
    router.register("thread_set_cpumask", When::Runtime, set_cpumask);
}

fn get_scheduler(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let mut shown = cx.kept("scheduler", "options framework_set_scheduler ");
    let period = if shown.is_empty() { 0 } else { PERIOD_US };
    let name = shown.remove("name").unwrap_or_else(|| "static".into());
    let period = shown.remove("period").unwrap_or_else(|| period.into());
    let mut options = cx.kept("scheduler", "options scheduler_set_options ");
    let mask = options.remove("isolated_core_mask").unwrap_or_else(|| "0".into());
    let core = options.remove("scheduling_core").unwrap_or_else(|| 0.into());
    for (name, value) in [
        ("scheduler_name", name),
        ("scheduler_period", period),
        ("isolated_core_mask", mask),
        ("scheduling_core", core),
    ] {
        shown.insert(name.into(), value);
    }
    // With it, what else its scheduler was told.
    Ok(Value::Object(shown))
}

/// Whether it is watched how often the operating system takes a core away: there is none.
fn monitor(_: Context, mut params: Params) -> Outcome {
    let enabled: Option<bool> = params.optional("enabled")?;
    params.finish()?;
    if enabled == Some(true) {
        let message = "there is no operating system that could take a core away";
        return Err(RpcError::errno(errno::EOPNOTSUPP, message));
    }
    Ok(json!({"enabled": false}))
}

/// A thread stays where it is: all that can be asked for is that it may be there.
fn set_cpumask(cx: Context, mut params: Params) -> Outcome {
    let id: u64 = params.required("id")?;
    let mask: String = params.required("cpumask")?;
    params.finish()?;
    let thread = find_thread(cx.local(), id);
    let core =
        thread.ok_or_else(|| RpcError::params(format_args!("Thread {id} does not exist")))?;
    let digits = mask.strip_prefix("0x").unwrap_or(&mask);
    let allowed = u128::from_str_radix(digits, 16)
        .map_err(|_| RpcError::new(RpcError::INTERNAL, alloc::format!("Invalid cpumask {mask}")))?;
    if allowed >> core.0.min(127) & 1 == 0 {
        let own = cpumask(core);
        let message = format_args!("thread {id} stays on its core, whose mask is {own}");
        return Err(RpcError::errno(errno::EOPNOTSUPP, message));
    }
    Ok(Value::Bool(true))
}
