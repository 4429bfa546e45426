//! The Trace Event Format, which chrome://tracing and Perfetto load.
//!
//! A machine is a process and a core a thread in it. What a reactor runs are complete events (`X`),
//! which nest; I/Os and commands, many at a time, are pairs of asynchronous events (`b`, `e`) made
//! of their end and how long they took; all else are instants (`i`).

use std::cmp::Reverse;
use std::io::Write;

use serde_json::{Map, Value, json};

use super::capture::{Capture, CoreTrace, Event};

/// The process that the machine is.
const PID: u64 = 1;

/// Writes `capture`, of the machine called `name`.
///
/// # Errors
/// It cannot be written.
pub fn write(out: &mut impl Write, name: &str, capture: &Capture) -> anyhow::Result<()> {
    let mut events = Vec::new();
    for core in &capture.cores {
        Converter { capture, core, events: &mut events, order: 0 }.run();
    }
    // What begins first, and of those that begin together what lasts longest.
    events.sort_by_key(|event| (event.at_ns, Reverse(event.took_ns), event.order));
    write!(out, "{{\"displayTimeUnit\": \"ns\", \"otherData\": ")?;
    serde_json::to_writer(&mut *out, &json!({"lost_events": capture.lost()}))?;
    write!(out, ",\n\"traceEvents\": [\n")?;
    let head = metadata(name, capture);
    let all = head.into_iter().chain(events.into_iter().map(|event| event.json));
    for (index, event) in all.enumerate() {
        if index > 0 {
            writeln!(out, ",")?;
        }
        serde_json::to_writer(&mut *out, &event)?;
    }
    writeln!(out, "\n]}}")?;
    Ok(())
}

fn entry(what: &str, tid: u64, args: Value) -> Value {
    json!({"ph": "M", "pid": PID, "tid": tid, "name": what, "args": args})
}

fn metadata(name: &str, capture: &Capture) -> Vec<Value> {
    let mut entries = vec![entry("process_name", 0, json!({"name": name}))];
    for core in &capture.cores {
        let name = format!("core {}", core.core);
        entries.push(entry("thread_name", core.core, json!({"name": name})));
        entries.push(entry("thread_sort_index", core.core, json!({"sort_index": core.core})));
    }
    entries
}

/// An event with what it is put in order by.
struct Placed {
    at_ns: u64,
    took_ns: u64,
    /// Its place in the trace of its core.
    order: usize,
    json: Value,
}

struct Converter<'a> {
    capture: &'a Capture,
    core: &'a CoreTrace,
    events: &'a mut Vec<Placed>,
    /// The place of what is being converted.
    order: usize,
}

impl Converter<'_> {
    fn run(&mut self) {
        let mut around = Vec::new();
        // From the last to the first: what is around something was written after it.
        for (order, event) in self.core.events.iter().enumerate().rev() {
            self.order = order;
            let args = self.args(event);
            let took = |field: &str| args.get(field).and_then(Value::as_u64);
            if let Some(took_ns) = took("took_ns") {
                let began_ns = nest(&mut around, event.at_ns, took_ns);
                self.span(event, began_ns, args);
            } else if let Some(latency_ns) = took("latency_ns") {
                self.pair(event, latency_ns, args);
            } else {
                self.instant(event, args);
            }
        }
    }

    fn args(&self, event: &Event) -> Map<String, Value> {
        let fields = self.capture.fields.get(&event.name).map_or(&[][..], Vec::as_slice);
        let named = fields.iter().cloned().zip(event.values.iter().cloned());
        let mut args: Map<String, Value> = named.collect();
        if event.values.len() > fields.len() {
            args.insert("failed".to_owned(), true.into());
        }
        args
    }

    fn span(&mut self, event: &Event, began_ns: u64, args: Map<String, Value>) {
        let took_ns = event.at_ns - began_ns;
        let kind = event.name.trim_start_matches("THREAD_").to_lowercase();
        let name = args.get("name").and_then(Value::as_str).unwrap_or(&kind).to_owned();
        let mut json = self.base("X", &name, &event.name, began_ns, args);
        json["dur"] = us(took_ns);
        self.place(began_ns, took_ns, json);
    }

    fn pair(&mut self, event: &Event, latency_ns: u64, args: Map<String, Value>) {
        let began_ns = event.at_ns.saturating_sub(latency_ns);
        let text = |field: &str| args.get(field).map(|value| value.to_string().replace('"', ""));
        let words = [text("op"), text("bdev"), text("opcode").map(|code| format!("opcode {code}"))];
        let name: Vec<String> = words.into_iter().flatten().collect();
        let (name, id) = (name.join(" "), format!("{}.{}", self.core.core, self.events.len()));
        for (ph, at_ns, args) in [("b", began_ns, args), ("e", event.at_ns, Map::new())] {
            let mut json = self.base(ph, &name, &event.name, at_ns, args);
            json["id"] = id.clone().into();
            let took_ns = if ph == "b" { latency_ns } else { 0 };
            self.place(at_ns, took_ns, json);
        }
    }

    fn instant(&mut self, event: &Event, args: Map<String, Value>) {
        let mut json = self.base("i", &event.name, &event.name, event.at_ns, args);
        json["s"] = "t".into();
        self.place(event.at_ns, 0, json);
    }

    fn place(&mut self, at_ns: u64, took_ns: u64, json: Value) {
        self.events.push(Placed { at_ns, took_ns, order: self.order, json });
    }

    fn base(
        &self,
        ph: &str,
        name: &str,
        tpoint: &str,
        at_ns: u64,
        args: Map<String, Value>,
    ) -> Value {
        json!({
            "ph": ph, "name": name, "cat": tpoint, "pid": PID, "tid": self.core.core,
            "ts": us(at_ns), "args": args,
        })
    }
}

/// When something began that ended at `end_ns`, inside what is `around` it: beginnings, the
/// innermost last. Times are rounded to nanoseconds, so that it may seem to begin a little before.
fn nest(around: &mut Vec<u64>, end_ns: u64, took_ns: u64) -> u64 {
    while around.last().is_some_and(|began_ns| *began_ns >= end_ns) {
        around.pop();
    }
    let began_ns = end_ns.saturating_sub(took_ns);
    let began_ns = around.last().map_or(began_ns, |outer_ns| began_ns.max(*outer_ns));
    around.push(began_ns);
    began_ns
}

/// Microseconds, to the nanosecond.
fn us(ns: u64) -> Value {
    Value::from(ns as f64 / 1000.0)
}

#[cfg(test)]
mod tests;
