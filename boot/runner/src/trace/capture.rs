//! Has a machine trace for a while and takes the events over.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::rpc::Client;

/// Events asked for at a time: the most that an answer holds.
const PIECE: usize = 1000;
/// Between two looks at cores that have little to tell.
const PAUSE: Duration = Duration::from_millis(20);
/// Events of all cores that are kept at most: some 2 GiB of memory.
const EVENTS_MAX: usize = 8_000_000;

/// Whether Ctrl-C was pressed.
static STOP: AtomicBool = AtomicBool::new(false);

/// An event: its name, when in ns, and its values.
#[derive(Debug)]
pub struct Event {
    /// The tracepoint's name.
    pub name: String,
    /// When it was written, ns since the machine's start.
    pub at_ns: u64,
    /// What belongs to it.
    pub values: Vec<Value>,
}

/// What one core has told.
#[derive(Debug, Default)]
pub struct CoreTrace {
    /// Which.
    pub core: u64,
    /// The events, in the order they were written.
    pub events: Vec<Event>,
    /// How many were overwritten before they could be read.
    pub lost: u64,
    /// The number of the next one.
    pub next: u64,
}

/// What all cores have told.
#[derive(Debug, Default)]
pub struct Capture {
    /// Core by core.
    pub cores: Vec<CoreTrace>,
    /// The names of the values, by tracepoint.
    pub fields: BTreeMap<String, Vec<String>>,
}

impl Capture {
    /// How many there are.
    pub fn events(&self) -> usize {
        self.cores.iter().map(|core| core.events.len()).sum()
    }

    /// How many are missing.
    pub fn lost(&self) -> u64 {
        self.cores.iter().map(|core| core.lost).sum()
    }

    /// Takes over what `core` has told since the last time, at most one answer of it; how many
    /// events that were, and whether there may be more.
    fn take(&mut self, client: &mut Client, index: usize) -> anyhow::Result<(usize, u64)> {
        let core = &mut self.cores[index];
        let params = json!({"core": core.core, "since": core.next, "max": PIECE});
        let piece = Piece::read(client.call("trace_get_events", params)?)?;
        let count = piece.events.len();
        self.fields.extend(piece.fields);
        core.events.extend(piece.events);
        core.lost += piece.lost;
        core.next = piece.next;
        Ok((count, piece.written))
    }
}

/// An answer of `trace_get_events`.
#[derive(Debug)]
pub struct Piece {
    /// The core that it is of.
    pub core: u64,
    /// The number of the event after its last.
    pub next: u64,
    /// How many events there were when it was made.
    pub written: u64,
    /// How many events before its first were overwritten.
    pub lost: u64,
    /// The names of the values, by tracepoint.
    pub fields: BTreeMap<String, Vec<String>>,
    /// The events.
    pub events: Vec<Event>,
}

impl Piece {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is none of `trace_get_events`.
    pub fn read(mut answer: Value) -> anyhow::Result<Self> {
        let number = |name: &str| {
            let number = answer[name].as_u64();
            number.with_context(|| format!("it has no number {name:?}"))
        };
        let (core, next, written) = (number("core")?, number("next")?, number("written")?);
        let lost = number("lost")?;
        let mut fields = BTreeMap::new();
        for (name, values) in answer["tpoints"].as_object().into_iter().flatten() {
            let values = values.as_array().into_iter().flatten();
            let values = values.filter_map(|value| Some(value.as_str()?.to_owned()));
            fields.insert(name.clone(), values.collect());
        }
        let events = answer["events"].as_array_mut().context("it has no list \"events\"")?;
        let events = core::mem::take(events).into_iter().map(|event| {
            let text = event.to_string();
            Event::read(event).with_context(|| format!("{text} is no event: [name, ns, …]"))
        });
        let events = events.collect::<anyhow::Result<Vec<Event>>>()?;
        Ok(Self { core, next, written, lost, fields, events })
    }
}

impl Event {
    /// An event as it is handed out: `[name, ns, value, ...]`.
    pub fn read(event: Value) -> Option<Self> {
        let Value::Array(mut parts) = event else { return None };
        if parts.len() < 2 {
            return None;
        }
        let values = parts.split_off(2);
        let (name, at_ns) = (parts[0].as_str()?.to_owned(), parts[1].as_u64()?);
        Some(Self { name, at_ns, values })
    }
}

/// Has the machine trace `groups`, or all, for `time` or until Ctrl-C; then everything is as it was
/// before.
///
/// # Errors
/// The machine refuses or goes away.
pub fn run(client: &mut Client, groups: &[String], time: Duration) -> anyhow::Result<Capture> {
    let before = client.call("trace_get_info", Value::Null)?;
    let names = choose(&before, groups)?;
    let mut capture = Capture { cores: cores(client)?, ..Capture::default() };
    watch_for_ctrl_c()?;
    let traced = enable(client, &names).and_then(|()| follow(client, &mut capture, time));
    let restored = restore(client, &before, &names);
    traced?;
    restored.context("what is traced could not be set back")?;
    Ok(capture)
}

fn watch_for_ctrl_c() -> anyhow::Result<()> {
    static SET: OnceLock<Result<(), ctrlc::Error>> = OnceLock::new();
    let set = SET.get_or_init(|| ctrlc::set_handler(|| STOP.store(true, Ordering::Release)));
    set.as_ref().map_err(|error| anyhow::anyhow!("cannot watch for Ctrl-C: {error}")).copied()
}

/// The groups that are wanted, by name.
fn choose(info: &Value, wanted: &[String]) -> anyhow::Result<Vec<String>> {
    let there = info.as_object().into_iter().flatten().filter(|(_, group)| group.is_object());
    let there: Vec<String> = there.map(|(name, _)| name.clone()).collect();
    if there.is_empty() {
        bail!("the machine has nothing to trace: it runs an older Basalt");
    }
    if wanted.is_empty() || wanted == ["all"] {
        return Ok(there);
    }
    for name in wanted {
        if !there.contains(name) {
            bail!("--groups {name}: no such group; there are {}", there.join(", "));
        }
    }
    Ok(wanted.to_vec())
}

fn cores(client: &mut Client) -> anyhow::Result<Vec<CoreTrace>> {
    let reactors = client.call("framework_get_reactors", Value::Null)?;
    let cores = reactors["reactors"].as_array().into_iter().flatten();
    let cores = cores.filter_map(|reactor| reactor["lcore"].as_u64());
    Ok(cores.map(|core| CoreTrace { core, ..CoreTrace::default() }).collect())
}

fn enable(client: &mut Client, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        client.call("trace_enable_tpoint_group", json!({"name": name}))?;
    }
    Ok(())
}

/// Switches off again what was off `before`.
fn restore(client: &mut Client, before: &Value, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        let mask = before[name]["tpoint_mask"].as_str().unwrap_or("0x0");
        let mask = u64::from_str_radix(mask.trim_start_matches("0x"), 16).unwrap_or(0);
        client.call("trace_clear_tpoint_mask", json!({"name": name, "tpoint_mask": !mask}))?;
    }
    Ok(())
}

fn follow(client: &mut Client, capture: &mut Capture, time: Duration) -> anyhow::Result<()> {
    // What was traced before is not ours.
    for core in &mut capture.cores {
        let params = json!({"core": core.core, "since": u64::MAX, "max": 1});
        let piece = client.call("trace_get_events", params)?;
        core.next = piece["next"].as_u64().unwrap_or(0);
    }
    let end = Instant::now() + time;
    while Instant::now() < end && !STOP.load(Ordering::Acquire) {
        let mut most = 0;
        for index in 0..capture.cores.len() {
            most = most.max(capture.take(client, index)?.0);
        }
        if capture.events() > EVENTS_MAX {
            eprintln!("note: stopping early, with {} events", capture.events());
            return Ok(());
        }
        if most < PIECE / 2 {
            thread::sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
        }
    }
    (0..capture.cores.len()).try_for_each(|index| drain(client, capture, index))
}

/// Takes over what a core has written by now.
fn drain(client: &mut Client, capture: &mut Capture, index: usize) -> anyhow::Result<()> {
    let (_, written) = capture.take(client, index)?;
    while capture.cores[index].next < written {
        capture.take(client, index)?;
    }
    Ok(())
}
