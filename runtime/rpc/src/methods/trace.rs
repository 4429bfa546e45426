//! Tracepoints. SPDK's tools read traces from shared memory, which is not there: `trace_get_events`
//! hands them out instead.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use basalt_bdev::Registry;
use basalt_env::CoreId;
use basalt_metrics::{OPS, TraceField, TraceGroup, TraceValue};
use basalt_reactor::{Local, TraceError, TraceMasks, TraceRing, Traced};
use serde_json::{Map, Value};

use super::object;
use super::thread::cores;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// Entries that each core keeps, unless that is set: as many as SPDK's.
const ENTRIES_DEFAULT: usize = 32 * 1024;
/// What may be set: 48 MiB for each core at most.
const ENTRIES: core::ops::RangeInclusive<usize> = 64..=1024 * 1024;
/// Events that one answer holds at most, and unless that is given.
const EVENTS_MAX: u64 = 1000;
const EVENTS_DEFAULT: u64 = 256;

pub(super) fn register(router: &mut Router) {
    let entries = Rc::new(Cell::new(ENTRIES_DEFAULT));
    for name in [
        "trace_enable_tpoint_group",
        "trace_disable_tpoint_group",
        "trace_set_tpoint_mask",
        "trace_clear_tpoint_mask",
    ] {
        let entries = Rc::clone(&entries);
        router.register(name, When::Any, move |cx, params| change(&cx, params, entries.get()));
    }
    for name in ["trace_get_info", "trace_get_tpoint_group_mask"] {
        router.register(name, When::Any, get_groups);
    }
    router.register("trace_clear", When::Any, clear);
    router.register("trace_get_events", When::Any, get_events);
    let kept = Rc::clone(&entries);
    router.register("trace_set_options", When::Any, move |cx, params| {
        set_options(&cx, params, &kept)
    });
    router.register("trace_get_options", When::Any, move |_, params| {
        params.none()?;
        Ok(object(&mut [("num_entries", entries.get().into())]))
    });
}

/// The groups that `name` is about.
fn groups(name: &str) -> Result<Vec<TraceGroup>, RpcError> {
    if name == "all" {
        return Ok(TraceGroup::ALL.into());
    }
    let known = || TraceGroup::ALL.map(TraceGroup::name).join(", ");
    let unknown = || RpcError::params(format_args!("'name' is 'all' or one of {}", known()));
    Ok(Vec::from([TraceGroup::find(name).ok_or_else(unknown)?]))
}

/// Switches tracepoints on or off, on every core.
fn change(cx: &Context, mut params: Params, entries: usize) -> Outcome {
    let of_single = cx.method().ends_with("_mask");
    let name: String = params.required("name")?;
    let mask = match of_single {
        true => params.optional("tpoint_mask")?.unwrap_or(0),
        false => u64::MAX,
    };
    params.finish()?;
    let mut masks = cx.local().trace_masks();
    for group in groups(&name)? {
        match cx.method() {
            "trace_enable_tpoint_group" | "trace_set_tpoint_mask" => masks.set(group, mask),
            _ => masks.clear(group, mask),
        }
    }
    set_everywhere(cx.local(), masks, entries)?;
    Ok(Value::Bool(true))
}

fn set_everywhere(local: &Local, masks: TraceMasks, entries: usize) -> Result<(), RpcError> {
    let start = local.trace_start();
    for core in cores(local) {
        let Err(error) = local.set_trace_masks(core, masks, start, entries) else { continue };
        if error == TraceError::Busy {
            let message = format!("Core {core} is too busy to be told: try again");
            return Err(RpcError::errno(errno::EBUSY, message));
        }
        for core in cores(local) {
            let _ = local.set_trace_masks(core, TraceMasks::default(), start, 0);
        }
        let message = format!(
            "No memory for {entries} entries on core {core}: nothing is traced now; set fewer with \
             trace_set_options"
        );
        return Err(RpcError::errno(errno::ENOMEM, message));
    }
    Ok(())
}

/// `trace_get_info` and `trace_get_tpoint_group_mask`.
fn get_groups(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let masks = cx.local().trace_masks();
    let hexadecimal = |mask: u64| Value::from(format!("{mask:#x}"));
    let mut answer = Map::new();
    let is_info = cx.method() == "trace_get_info";
    if is_info {
        answer.insert("tpoint_shm_path".into(), "".into());
    }
    answer.insert("tpoint_group_mask".into(), hexadecimal(masks.groups().into()));
    for group in TraceGroup::ALL {
        let mask = masks.get(group);
        let state = match is_info {
            true => ("tpoint_mask", hexadecimal(mask)),
            false => ("enabled", Value::Bool(mask != 0)),
        };
        let members = &mut [("mask", hexadecimal(group.bit().into())), state];
        answer.insert(group.name().into(), object(members));
    }
    Ok(Value::Object(answer))
}

fn clear(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let rings = cores(cx.local()).filter_map(|core| cx.local().mesh().traced(core));
    rings.for_each(|ring| ring.clear());
    Ok(Value::Bool(true))
}

/// Basalt's own: how many entries each core keeps.
fn set_options(cx: &Context, mut params: Params, entries: &Cell<usize>) -> Outcome {
    let wanted = params.required("num_entries")?;
    params.finish()?;
    if !ENTRIES.contains(&wanted) {
        let (least, most) = (ENTRIES.start(), ENTRIES.end());
        let message = format!("'num_entries' is a number from {least} to {most}");
        return Err(RpcError::params(message));
    }
    if cx.local().trace_masks().groups() != 0 {
        let message = "Traces are being written: switch all groups off first";
        return Err(RpcError::errno(errno::EBUSY, message));
    }
    entries.set(wanted);
    Ok(Value::Bool(true))
}

/// Basalt's own: the events of one core from number `since` on, at most `max`.
fn get_events(cx: Context, mut params: Params) -> Outcome {
    let core = params.required::<u16>("core").map(CoreId)?;
    let since = params.optional::<u64>("since")?;
    let max = params.optional::<u64>("max")?.unwrap_or(EVENTS_DEFAULT).clamp(1, EVENTS_MAX);
    params.finish()?;
    if core.index() >= cx.local().cores() {
        let message = format!("there are {} cores, from 0", cx.local().cores());
        return Err(RpcError::params(message));
    }
    let Some(ring) = cx.local().mesh().traced(core) else {
        let message = "Nothing is traced: switch a group on with trace_enable_tpoint_group";
        return Err(RpcError::errno(errno::ENODEV, message));
    };
    let piece = Piece { cx: &cx, core, ring: &ring, tpoints: Map::new() };
    Ok(piece.read(since, max))
}

/// A piece of a trace on its way out.
struct Piece<'a> {
    cx: &'a Context,
    core: CoreId,
    ring: &'a TraceRing,
    tpoints: Map<String, Value>,
}

impl Piece<'_> {
    fn read(mut self, since: Option<u64>, max: u64) -> Value {
        let (oldest, written) = (self.ring.oldest(), self.ring.written());
        let since = since.unwrap_or(oldest).min(written);
        let first = since.max(oldest);
        let next = written.min(first.saturating_add(max));
        let mut events = Vec::new();
        for number in first..next {
            if let Some(traced) = self.ring.read(number) {
                events.push(self.event(&traced));
            }
        }
        // Those that were overwritten before this call, or under its eyes.
        let lost = next - since - events.len() as u64;
        object(&mut [
            ("core", u64::from(self.core.0).into()),
            ("next", next.into()),
            ("written", written.into()),
            ("lost", lost.into()),
            ("tpoints", Value::Object(self.tpoints)),
            ("events", Value::Array(events)),
        ])
    }

    /// Name, time in ns and values, in the order that `tpoints` tells; last, whether it failed.
    fn event(&mut self, traced: &Traced) -> Value {
        let (name, fields) = (traced.tpoint.name(), traced.tpoint.fields());
        if !self.tpoints.contains_key(name) {
            let mut names = Vec::new();
            fields.iter().for_each(|field| names.push(Value::from(field.name)));
            self.tpoints.insert(name.into(), Value::Array(names));
        }
        let mut event = Vec::from([Value::from(name), traced.at.as_ns().into()]);
        fields.iter().for_each(|field| event.push(self.value(traced, field)));
        if traced.has_failed() {
            event.push("failed".into());
        }
        Value::Array(event)
    }

    fn value(&self, traced: &Traced, field: &TraceField) -> Value {
        let value = self.ring.value(traced, field);
        let local = self.cx.local();
        let word = match field.value {
            TraceValue::Number | TraceValue::Ticks => None,
            TraceValue::Op => OPS.get(value as usize).copied(),
            TraceValue::Activity => local.mesh().activity(self.core, value),
            // One that is gone has its number.
            TraceValue::Bdev => {
                let registry = local.service::<Registry>();
                let name = registry.and_then(|registry| registry.traced_name(value as u32));
                return name.map_or_else(|| value.into(), Value::String);
            }
        };
        word.map_or_else(|| value.into(), Value::from)
    }
}
