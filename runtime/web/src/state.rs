//! `/api/state`: a snapshot in JSON, for the page.

use alloc::format;
use alloc::string::String;

use basalt_bdev::{IoError, Latency, Op, uuid};
use basalt_net::NetStats;
use basalt_nvmf::{AnaState, ControllerInfo};
use basalt_rpc::methods::InterfaceState;

use crate::json::Json;
use crate::snapshot::{BdevView, CoreView, Snapshot, SubsystemView};

/// Says how many things there are in a list.
type Count = fn(&Snapshot) -> usize;

/// Writes one of them.
type Write = fn(&mut Json, &Snapshot, usize);

/// The lists, how long they are and what writes their elements.
const LISTS: [(&str, Count, Write); 5] = [
    ("cores", |all| all.cores.len(), |json, all, at| core(json, &all.cores[at])),
    ("bdevs", |all| all.bdevs.len(), |json, all, at| bdev(json, all, &all.bdevs[at])),
    ("drives", |all| all.drives.len(), drive),
    (
        "subsystems",
        |all| all.subsystems.len(),
        |json, all, at| {
            subsystem(json, all, &all.subsystems[at]);
        },
    ),
    (
        "network",
        |all| all.interfaces.len(),
        |json, all, at| {
            interface(json, all, &all.interfaces[at], at);
        },
    ),
];

/// Where the writing of a state is: in which list, at which of its elements.
#[derive(Default)]
pub struct State {
    list: usize,
    at: usize,
}

impl State {
    /// Writes a part of it; says whether there is more.
    #[inline(never)]
    pub fn step(&mut self, json: &mut Json, all: &Snapshot) -> bool {
        let Some((name, count, write)) = LISTS.get(self.list) else {
            rest(json, all);
            return false;
        };
        if self.at == 0 {
            if self.list == 0 {
                begin(json, all);
            }
            json.open(name, '[');
        }
        if self.at < count(all) {
            json.open("", '{');
            write(json, all, self.at);
            json.close('}');
            self.at += 1;
        } else {
            json.close(']');
            (self.list, self.at) = (self.list + 1, 0);
        }
        true
    }
}

#[inline(never)]
fn begin(json: &mut Json, all: &Snapshot) {
    json.open("", '{');
    json.text("product", "Basalt");
    json.text("version", env!("CARGO_PKG_VERSION"));
    json.text("environment", all.environment);
    json.number("now_ns", all.now_ns);
    json.number("unix_s", all.unix_s);
}

#[inline(never)]
fn rest(json: &mut Json, all: &Snapshot) {
    memory(json, all);
    tcp(json, all);
    json.open("errors", '[');
    for (kind, count) in all.errors() {
        json.open("", '{');
        json.text("kind", kind);
        json.number("count", count);
        json.close('}');
    }
    json.close(']');
    json.number("left_out", all.left_out);
    json.close('}');
}

fn core(json: &mut Json, view: &CoreView) {
    let stats = view.reactor;
    json.numbers(&[
        ("core", view.core.0.into()),
        ("busy_ns", stats.busy_ns),
        ("idle_ns", stats.idle_ns),
        ("rounds", stats.rounds),
        ("rests", stats.rests),
        ("woken", stats.woken),
        ("events", stats.events),
        ("tasks", stats.tasks),
    ]);
    json.open("pollers", '[');
    for poller in &view.pollers {
        json.open("", '{');
        json.text("name", poller.name);
        json.number("period_us", poller.period.map(|period| period.as_micros() as u64));
        json.numbers(&[
            ("runs", poller.runs),
            ("busy", poller.busy),
            ("busy_ns", poller.busy_ns),
            ("idle_ns", poller.idle_ns),
        ]);
        json.close('}');
    }
    json.close(']');
}

fn bdev(json: &mut Json, all: &Snapshot, view: &BdevView) {
    let info = view.bdev.info();
    json.text("name", &info.name);
    json.text("uuid", &uuid::format(&info.uuid));
    json.text("product", info.product_name);
    json.number("block_size", u64::from(info.block_size));
    json.number("blocks", info.num_blocks.get());
    json.literal("claimed", if view.is_claimed { "true" } else { "false" });
    texts(json, "bases", &view.bases);
    let operations =
        [("read", Op::Read), ("write", Op::Write), ("unmap", Op::Unmap), ("flush", Op::Flush)];
    for (name, op) in operations {
        let stat = view.stat.op(op);
        json.open(name, '{');
        json.numbers(&[
            ("ios", stat.ops),
            ("bytes", stat.bytes),
            ("latency_ns", stat.latency_total_ns),
            ("errors", stat.errors),
        ]);
        json.close('}');
    }
    json.open("errors", '{');
    for (kind, count) in IoError::KINDS.into_iter().zip(*view.stat.failures()) {
        if count > 0 {
            json.number(kind, count);
        }
    }
    json.close('}');
    json.number("queue_depth", all.depth_of(&info.name));
    json.open("latency", '{');
    for (name, latency) in ["read", "write"].into_iter().zip(&view.latencies) {
        json.open(name, '[');
        buckets(json, latency);
        json.close(']');
    }
    json.close('}');
}

fn buckets(json: &mut Json, latency: &Latency) {
    for (upper_ns, count) in latency.buckets().filter(|(_, count)| *count > 0) {
        json.open("", '[');
        json.number("", upper_ns);
        json.number("", count);
        json.close(']');
    }
}

fn texts(json: &mut Json, name: &str, texts: &[String]) {
    json.open(name, '[');
    texts.iter().for_each(|text| json.text("", text));
    json.close(']');
}

/// Numbers of a drive's health, and what JSON-RPC calls them.
const HEALTH: [(&str, &str); 10] = [
    ("critical_warning", "critical_warning"),
    ("available_spare", "available_spare_percentage"),
    ("spare_threshold", "available_spare_threshold_percentage"),
    ("percentage_used", "percentage_used"),
    ("data_units_read", "data_units_read"),
    ("data_units_written", "data_units_written"),
    ("power_on_hours", "power_on_hours"),
    ("unsafe_shutdowns", "unsafe_shutdowns"),
    ("media_errors", "media_errors"),
    ("error_log_entries", "num_err_log_entries"),
];

fn drive(json: &mut Json, all: &Snapshot, at: usize) {
    let (drive, health) = &all.drives[at];
    for (name, text) in [
        ("name", &drive.name),
        ("address", &format!("{}", drive.address)),
        ("state", &drive.state),
        ("model", &drive.model),
        ("serial", &drive.serial),
        ("firmware", &drive.firmware),
    ] {
        json.text(name, text);
    }
    texts(json, "bdevs", &drive.bdevs);
    let Some(health) = health else { return json.literal("health", "null") };
    json.open("health", '{');
    for (name, of) in HEALTH {
        json.number(name, health[of].as_u64());
    }
    json.number("temperature_k", kelvin(health));
    json.close('}');
}

/// What a drive says that its temperature is.
pub fn kelvin(health: &serde_json::Value) -> Option<u64> {
    u64::try_from(health["temperature_celsius"].as_i64()? + 273).ok()
}

fn subsystem(json: &mut Json, all: &Snapshot, view: &SubsystemView) {
    json.text("nqn", &view.nqn);
    json.text("type", if view.is_discovery { "Discovery" } else { "NVMe" });
    json.text("serial", &view.serial);
    json.open("namespaces", '[');
    for namespace in &view.namespaces {
        json.open("", '{');
        json.number("nsid", u64::from(namespace.nsid));
        json.text("bdev", &namespace.bdev);
        json.close('}');
    }
    json.close(']');
    json.open("listeners", '[');
    for (listener, state) in &view.listeners {
        json.open("", '{');
        json.text("address", &format!("{}", listener.address));
        json.number("port", u64::from(listener.port));
        json.text("ana", ana_name(*state));
        json.close('}');
    }
    json.close(']');
    json.open("hosts", '[');
    all.controllers.iter().filter(|host| host.nqn == view.nqn).for_each(|of| host(json, all, of));
    json.close(']');
}

fn host(json: &mut Json, all: &Snapshot, controller: &ControllerInfo) {
    json.open("", '{');
    json.text("hostnqn", &controller.hostnqn);
    json.number("cntlid", u64::from(controller.cntlid));
    json.open("queues", '[');
    for (core, queue) in all.cores.iter().flat_map(|of| of.queues.iter().map(|q| (of.core, q))) {
        let (true, Some(qid)) = (queue.cntlid == Some(controller.cntlid), queue.qid) else {
            continue;
        };
        json.open("", '{');
        json.numbers(&[("qid", qid.into()), ("core", core.0.into())]);
        json.text("peer", &queue.peer.map(|peer| format!("{peer}")).unwrap_or_default());
        json.number("commands", queue.commands);
        json.number("in_flight", u64::from(queue.in_use));
        json.close('}');
    }
    json.close(']');
    json.close('}');
}

const fn ana_name(state: AnaState) -> &'static str {
    match state {
        AnaState::Optimized => "optimized",
        AnaState::NonOptimized => "non_optimized",
        AnaState::Inaccessible => "inaccessible",
        AnaState::PersistentLoss => "persistent_loss",
        AnaState::Change => "change",
    }
}

fn interface(json: &mut Json, all: &Snapshot, interface: &InterfaceState, at: usize) {
    let [a, b, c, d, e, f] = interface.mac;
    json.text("name", &interface.name);
    json.text("mac", &format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"));
    json.number("mtu", interface.mtu as u64);
    let link = match interface.link_up {
        Some(true) => "true",
        Some(false) => "false",
        None => "null",
    };
    json.literal("link", link);
    let v4 = interface.addresses.v4.map(|address| format!("{}", address.cidr));
    let v6 = interface.addresses.v6().chain(interface.link_local);
    json.open("addresses", '[');
    v4.into_iter().chain(v6.map(|cidr| format!("{cidr}"))).for_each(|cidr| json.text("", &cidr));
    json.close(']');
    // Only the first card is used, and the host counts its own.
    let moved = (at == 0).then(|| all.moved()).flatten();
    let names = ["rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "rx_dropped"];
    let numbers = moved.map(|all| {
        let NetStats { rx_frames, rx_bytes, rx_dropped, tx_frames, tx_bytes } = all;
        [rx_frames, rx_bytes, tx_frames, tx_bytes, rx_dropped]
    });
    for (at, name) in names.into_iter().enumerate() {
        json.number(name, numbers.map(|numbers| numbers[at]));
    }
    json.number("tx_dropped", moved.map(|_| all.sum(CoreView::tx_dropped)));
}

#[inline(never)]
fn memory(json: &mut Json, all: &Snapshot) {
    json.open("memory", '{');
    match all.heap {
        None => json.literal("heap", "null"),
        Some(heap) => {
            json.open("heap", '{');
            let used = heap.bytes_total - heap.bytes_free;
            let size = heap.bytes_total;
            json.numbers(&[("size", size), ("used", used), ("peak", heap.bytes_peak)]);
            json.close('}');
        }
    }
    json.open("dma", '[');
    for (core, dma) in all.cores.iter().filter_map(|core| Some((core.core, core.dma?))) {
        let (size, free) = (dma.bytes_total as u64, dma.bytes_free as u64);
        json.open("", '{');
        json.numbers(&[("core", core.0.into()), ("size", size), ("used", size - free)]);
        json.close('}');
    }
    json.close(']');
    json.close('}');
}

#[inline(never)]
fn tcp(json: &mut Json, all: &Snapshot) {
    let sum =
        |of: fn(&basalt_net::StackStats) -> u64| all.sum(|core| core.stack.as_ref().map_or(0, of));
    json.open("tcp", '{');
    json.numbers(&[
        ("connections", sum(|stack| stack.connections as u64)),
        ("accepted", sum(|stack| stack.accepted)),
        ("refused", sum(|stack| stack.refused)),
    ]);
    let segments = all.segments();
    json.number("retransmits", segments.map(|of| of.resent));
    json.number("out_of_order", segments.map(|of| of.early));
    json.number("duplicates", segments.map(|of| of.repeated));
    json.close('}');
}
