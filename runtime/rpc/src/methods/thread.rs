//! What the cores do, and when they rest. A reactor is one thread here, and a tick is a nanosecond.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::pin::Pin;
use core::time::Duration;

use basalt_bdev::open_channels;
use basalt_env::CoreId;
use basalt_reactor::{BACKGROUND_SHARE_DEFAULT, CallError, Local, PollerStats, ReactorStats};
use serde_json::{Value, json};

use super::object;
use crate::{Context, Outcome, Params, Router, RpcError, When};

/// Ticks per second.
pub(super) const TICK_RATE: u64 = 1_000_000_000;

/// The process identifier SPDK's tools expect: there is one program, the machine's first.
const PID: u64 = 1;

/// What all cores have said.
pub(super) type Asked = Pin<Box<dyn Future<Output = Outcome>>>;

pub(super) fn register(router: &mut Router) {
    router.register("framework_get_reactors", When::Any, get_reactors);
    router.register("reactor_set_options", When::Any, set_options);
    router.register("reactor_get_options", When::Any, get_options);
    router.register_async("thread_get_stats", When::Any, get_stats);
    router.register_async("thread_get_pollers", When::Any, get_pollers);
    router.register_async("thread_get_io_channels", When::Any, get_io_channels);
}

pub(super) fn cores(local: &Local) -> impl Iterator<Item = CoreId> + use<> {
    (0..local.cores() as u16).map(CoreId)
}

pub(super) fn thread_name(core: CoreId) -> String {
    format!("reactor_{core}")
}

/// SPDK counts threads from 1.
fn thread_id(core: CoreId) -> u64 {
    u64::from(core.0) + 1
}

/// The core whose thread has that identifier.
pub(super) fn find_thread(local: &Local, id: u64) -> Option<CoreId> {
    cores(local).find(|core| thread_id(*core) == id)
}

/// A hexadecimal bit mask with the core's bit, as wide as it takes.
pub(super) fn cpumask(core: CoreId) -> String {
    let top = 1_u8 << (core.0 % 4);
    format!("{top:x}{:0<zeroes$}", "", zeroes = usize::from(core.0 / 4))
}

fn get_reactors(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let mesh = cx.local().mesh();
    let reactors: Vec<Value> = cores(cx.local())
        .map(|core| reactor_to_json(core, mesh.stats(core).unwrap_or_default()))
        .collect();
    Ok(json!({"tick_rate": TICK_RATE, "pid": PID, "reactors": reactors}))
}

fn reactor_to_json(core: CoreId, stats: ReactorStats) -> Value {
    let thread = json!({
        "name": thread_name(core),
        "id": thread_id(core),
        "cpumask": cpumask(core),
        "elapsed": stats.busy_ns + stats.idle_ns,
    });
    object(&mut [
        ("lcore", Value::from(core.0)),
        ("tid", Value::from(thread_id(core))),
        ("busy", Value::from(stats.busy_ns)),
        ("idle", Value::from(stats.idle_ns)),
        ("rounds", Value::from(stats.rounds)),
        ("rests", Value::from(stats.rests)),
        ("woken", Value::from(stats.woken)),
        ("in_interrupt", false.into()),
        ("irq", 0.into()),
        ("sys", 0.into()),
        ("usr", 0.into()),
        ("lw_threads", json!([thread])),
    ])
}

/// Basalt's own: whether a core without work rests, after how many microseconds, and what the
/// control plane gets of one that has work, percent.
fn set_options(cx: Context, mut params: Params) -> Outcome {
    let rest = params.optional::<bool>("rest")?.unwrap_or(true);
    let after = params.optional::<u64>("rest_after_us")?.map(Duration::from_micros);
    let share = params.optional::<u64>("background_share")?;
    params.finish()?;
    if after.is_some() && !rest {
        return Err(RpcError::params("'rest_after_us' says nothing where 'rest' is false"));
    }
    let share = match share.map(u8::try_from) {
        None => BACKGROUND_SHARE_DEFAULT,
        Some(Ok(percent @ 1..=100)) => percent,
        Some(_) => return Err(RpcError::params("'background_share' is 1 to 100 percent")),
    };
    let mesh = cx.local().mesh();
    mesh.set_background_share(share);
    mesh.set_rest_after(rest.then(|| after.unwrap_or(mesh.rest_after_by_default())));
    cx.remember("scheduler", cx.method());
    Ok(Value::Bool(true))
}

fn get_options(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let mesh = cx.local().mesh();
    let (after, share) = (mesh.rest_after(), mesh.background_share());
    let after_us = after.map(|after| u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    Ok(json!({"rest": after.is_some(), "rest_after_us": after_us, "background_share": share}))
}

async fn get_stats(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let threads = on_each_core(cx.local(), |local| {
        let core = local.core();
        let (stats, pollers) = (local.mesh().stats(core).unwrap_or_default(), local.pollers());
        let timed = pollers.iter().filter(|poller| poller.period.is_some()).count();
        object(&mut [
            ("name", Value::from(thread_name(core))),
            ("id", Value::from(thread_id(core))),
            ("cpumask", Value::from(cpumask(core))),
            ("busy", Value::from(stats.busy_ns)),
            ("idle", Value::from(stats.idle_ns)),
            ("in_interrupt", false.into()),
            ("active_pollers_count", Value::from(pollers.len() - timed)),
            ("timed_pollers_count", Value::from(timed)),
            ("paused_pollers_count", 0.into()),
        ])
    });
    Ok(json!({"tick_rate": TICK_RATE, "threads": threads.await?}))
}

async fn get_pollers(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let threads = on_each_core(cx.local(), |local| {
        let (core, pollers) = (local.core(), local.pollers());
        let of_kind = |timed: bool| -> Vec<Value> {
            let all = pollers.iter().enumerate();
            all.filter(|(_, poller)| poller.period.is_some() == timed)
                .map(|(index, poller)| poller_to_json(index, poller))
                .collect()
        };
        json!({
            "name": thread_name(core),
            "id": thread_id(core),
            "active_pollers": of_kind(false),
            "timed_pollers": of_kind(true),
            "paused_pollers": [],
        })
    });
    Ok(json!({"tick_rate": TICK_RATE, "threads": threads.await?}))
}

async fn get_io_channels(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let threads = on_each_core(cx.local(), |local| {
        let to_json =
            |(bdev, count): &(String, u32)| json!({"name": format!("bdev_{bdev}"), "ref": count});
        let channels: Vec<Value> = open_channels(local).iter().map(to_json).collect();
        json!({"name": thread_name(local.core()), "io_channels": channels})
    });
    Ok(json!({"tick_rate": TICK_RATE, "threads": threads.await?}))
}

fn poller_to_json(index: usize, poller: &PollerStats) -> Value {
    let mut fields = object(&mut [
        ("name", Value::from(poller.name)),
        ("id", Value::from(index + 1)),
        ("state", "waiting".into()),
        ("run_count", Value::from(poller.runs)),
        ("busy_count", Value::from(poller.busy)),
        ("busy", Value::from(poller.busy_ns)),
        ("idle", Value::from(poller.idle_ns)),
    ]);
    if let Some(period) = poller.period {
        let ticks = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        fields["period_ticks"] = ticks.into();
    }
    fields
}

/// What each core says, in their order. It becomes JSON where it is found, so that one way to ask
/// does for all methods.
pub(super) fn on_each_core(
    local: &Local,
    look: impl Fn(&Local) -> Value + Send + Sync + 'static,
) -> Asked {
    ask_cores(local.clone(), Arc::new(look))
}

fn ask_cores(local: Local, look: Arc<dyn Fn(&Local) -> Value + Send + Sync>) -> Asked {
    Box::pin(async move {
        let mut said = Vec::new();
        for core in cores(&local) {
            if core == local.core() {
                said.push(look(&local));
                continue;
            }
            let look = Arc::clone(&look);
            // What calls make a core do is not to be done at the cost of what it is for.
            let answer = local.run_in_background_on(core, move |local| async move { look(&local) });
            said.push(answer.await.map_err(|error| silent(core, error))?);
        }
        Ok(Value::Array(said))
    })
}

pub(super) fn silent(core: CoreId, error: CallError) -> RpcError {
    RpcError::new(RpcError::INTERNAL, format!("core {core} does not answer: {error}"))
}
