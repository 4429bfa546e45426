//! Which metrics there are.

use alloc::string::ToString as _;

use basalt_bdev::IoError;

use crate::of::{OPERATIONS, Of, bdev};
use crate::openmetrics::{Family, Kind, Unit};
use crate::snapshot::CoreView;
use crate::state::kelvin;

use Kind::{Counter, Gauge, Histogram, Info};
use Unit::{Bytes, Celsius, One, Ratio, Seconds};

const fn family(name: &'static str, kind: Kind, unit: Unit, help: &'static str, of: Of) -> Family {
    Family { name, kind, unit, help, of }
}

/// All of them; those of one kind of thing stand together.
pub const FAMILIES: &[Family] = &[
    family(
        "build",
        Info,
        One,
        "What runs here.",
        Of::All(|samples, all| {
            let version = ("version", env!("CARGO_PKG_VERSION"));
            samples.add(&[version, ("environment", all.environment)], 1);
        }),
    ),
    family(
        "uptime_seconds",
        Gauge,
        Seconds,
        "Time since the clock started.",
        Of::All(|s, all| {
            s.add(&[], all.now_ns);
        }),
    ),
    family("heap_size_bytes", Gauge, Bytes, "Size of the heap.", Of::Heap(|heap| heap.bytes_total)),
    family(
        "heap_used_bytes",
        Gauge,
        Bytes,
        "Bytes of it in use.",
        Of::Heap(|heap| heap.bytes_total - heap.bytes_free),
    ),
    family(
        "heap_peak_bytes",
        Gauge,
        Bytes,
        "Most bytes of it that were in use.",
        Of::Heap(|heap| heap.bytes_peak),
    ),
    family(
        "errors",
        Counter,
        One,
        "What has gone wrong, by kind.",
        Of::All(|samples, all| {
            all.errors().for_each(|(kind, count)| samples.add(&[("kind", kind)], count));
        }),
    ),
    family(
        "left_out",
        Gauge,
        One,
        "Things beyond those that are shown.",
        Of::All(|s, all| {
            s.add(&[], all.left_out);
        }),
    ),
    family(
        "core_busy_seconds",
        Counter,
        Seconds,
        "Time of rounds that found work.",
        Of::Cores(|core| core.busy_ns),
    ),
    family(
        "core_idle_seconds",
        Counter,
        Seconds,
        "Time of rounds that found none.",
        Of::Cores(|core| core.idle_ns),
    ),
    family("core_rounds", Counter, One, "Rounds of the event loop.", Of::Cores(|core| core.rounds)),
    family("core_rests", Counter, One, "Rests for want of work.", Of::Cores(|core| core.rests)),
    family("core_events", Counter, One, "Events of other cores.", Of::Cores(|core| core.events)),
    family("core_tasks", Gauge, One, "Tasks that are alive.", Of::Cores(|core| core.tasks)),
    family("poller_runs", Counter, One, "Runs of pollers.", Of::Pollers(|poller| poller.runs)),
    family(
        "poller_busy_runs",
        Counter,
        One,
        "Runs of pollers that found work.",
        Of::Pollers(|poller| poller.busy),
    ),
    family(
        "poller_busy_seconds",
        Counter,
        Seconds,
        "Time of those, estimated.",
        Of::Pollers(|poller| poller.busy_ns),
    ),
    family(
        "poller_idle_seconds",
        Counter,
        Seconds,
        "Time of the other runs, estimated.",
        Of::Pollers(|poller| poller.idle_ns),
    ),
    family("dma_size_bytes", Gauge, Bytes, "Memory for I/O.", Of::Dma(|dma| dma.bytes_total)),
    family(
        "dma_used_bytes",
        Gauge,
        Bytes,
        "Memory for I/O in use.",
        Of::Dma(|dma| dma.bytes_total - dma.bytes_free),
    ),
    family(
        "bdev_size_bytes",
        Gauge,
        Bytes,
        "Size of a bdev.",
        Of::Bdevs(|samples, _, view| {
            samples.add(&[bdev(view)], view.bdev.info().size_bytes());
        }),
    ),
    family(
        "bdev_queue_depth",
        Gauge,
        One,
        "I/Os under way.",
        Of::Bdevs(|samples, all, view| {
            samples.add(&[bdev(view)], all.depth_of(&view.bdev.info().name));
        }),
    ),
    family("bdev_ios", Counter, One, "I/Os that succeeded, by operation.", Of::Ops(|op| op.ops)),
    family("bdev_bytes", Counter, Bytes, "Bytes of those.", Of::Ops(|op| op.bytes)),
    family(
        "bdev_io_errors",
        Counter,
        One,
        "I/Os that failed, by operation.",
        Of::Ops(|op| op.errors),
    ),
    family(
        "bdev_errors",
        Counter,
        One,
        "I/Os that failed, by kind.",
        Of::Bdevs(|samples, _, view| {
            for (kind, count) in IoError::KINDS.into_iter().zip(*view.stat.failures()) {
                samples.add(&[bdev(view), ("kind", kind)], count);
            }
        }),
    ),
    family(
        "bdev_latency_seconds",
        Histogram,
        Seconds,
        "Time from submission to completion.",
        Of::Bdevs(|samples, _, view| {
            for ((op, name), latency) in OPERATIONS.into_iter().zip(&view.latencies) {
                let total_ns = view.stat.op(op).latency_total_ns;
                samples.histogram(&[bdev(view), ("op", name)], latency, total_ns);
            }
        }),
    ),
    family(
        "drive",
        Info,
        One,
        "The machine's NVMe drives.",
        Of::Drives(|samples, all, at| {
            let (drive, _) = &all.drives[at];
            let address = drive.address.to_string();
            let labels = [
                ("drive", drive.name.as_str()),
                ("address", &address),
                ("model", &drive.model),
                ("serial", &drive.serial),
                ("firmware", &drive.firmware),
            ];
            samples.add(&labels, 1);
        }),
    ),
    family(
        "drive_enabled",
        Gauge,
        One,
        "Whether a drive works.",
        Of::Drives(|samples, all, at| {
            let (drive, _) = &all.drives[at];
            samples.add(&[("drive", &drive.name)], u64::from(drive.state == "enabled"));
        }),
    ),
    family(
        "drive_temperature_celsius",
        Gauge,
        Celsius,
        "Composite temperature.",
        Of::Health(|health| kelvin(health).map(|kelvin| kelvin.saturating_sub(273))),
    ),
    family(
        "drive_critical_warning",
        Gauge,
        One,
        "Bits of the critical warning.",
        Of::Health(|health| health["critical_warning"].as_u64()),
    ),
    family(
        "drive_available_spare_ratio",
        Gauge,
        Ratio,
        "Spare capacity that is left.",
        Of::Health(|health| health["available_spare_percentage"].as_u64()),
    ),
    family(
        "drive_used_ratio",
        Gauge,
        Ratio,
        "Estimated part of a drive's life.",
        Of::Health(|health| health["percentage_used"].as_u64()),
    ),
    family(
        "drive_media_errors",
        Counter,
        One,
        "Errors of the medium.",
        Of::Health(|health| health["media_errors"].as_u64()),
    ),
    family(
        "drive_error_log_entries",
        Counter,
        One,
        "Entries of the error log.",
        Of::Health(|health| health["num_err_log_entries"].as_u64()),
    ),
    family(
        "drive_unsafe_shutdowns",
        Counter,
        One,
        "Losses of power.",
        Of::Health(|health| health["unsafe_shutdowns"].as_u64()),
    ),
    family(
        "drive_read_bytes",
        Counter,
        Bytes,
        "Bytes read from a drive in its life.",
        Of::Health(|health| health["data_units_read"].as_u64().map(bytes_of_units)),
    ),
    family(
        "drive_written_bytes",
        Counter,
        Bytes,
        "Bytes written to a drive in its life.",
        Of::Health(|health| health["data_units_written"].as_u64().map(bytes_of_units)),
    ),
    family(
        "drive_power_on_seconds",
        Counter,
        Seconds,
        "Time that a drive was switched on.",
        Of::Health(|health| health["power_on_hours"].as_u64().map(ns_of_hours)),
    ),
    family(
        "subsystem_namespaces",
        Gauge,
        One,
        "Namespaces of a subsystem.",
        Of::Subsystems(|_, view| view.namespaces.len()),
    ),
    family(
        "subsystem_controllers",
        Gauge,
        One,
        "Controllers of hosts in a subsystem.",
        Of::Subsystems(|all, view| all.controllers.iter().filter(|c| c.nqn == view.nqn).count()),
    ),
    family(
        "queue_slots",
        Gauge,
        One,
        "Command slots of a host's queue.",
        Of::Queues(|queue| queue.slots.into()),
    ),
    family(
        "queue_commands",
        Gauge,
        One,
        "Commands under way there.",
        Of::Queues(|queue| queue.in_use.into()),
    ),
    family(
        "queue_done_commands",
        Counter,
        One,
        "Commands carried out there.",
        Of::Queues(|queue| queue.commands),
    ),
    family(
        "nvmf_connections",
        Gauge,
        One,
        "Connections of NVMe/TCP.",
        Of::Groups(|group| group.connections.into()),
    ),
    family(
        "nvmf_accepted",
        Counter,
        One,
        "Connections of NVMe/TCP that came.",
        Of::Groups(|group| group.accepted),
    ),
    family(
        "nvmf_lost",
        Counter,
        One,
        "Connections of NVMe/TCP that ended.",
        Of::Groups(|group| group.lost),
    ),
    family("nvmf_ios", Counter, One, "I/Os done for hosts.", Of::Groups(|group| group.ios)),
    family(
        "nvmf_faults",
        Counter,
        One,
        "Violations of the protocol.",
        Of::Groups(|group| group.faults),
    ),
    family(
        "nvmf_buffer_waits",
        Counter,
        One,
        "Waits for a data buffer.",
        Of::Groups(|group| group.buffer_waits),
    ),
    family(
        "nvmf_queue_full",
        Counter,
        One,
        "Waits for room at a bdev.",
        Of::Groups(|group| group.queue_full),
    ),
    family(
        "net_received_frames",
        Counter,
        One,
        "Frames received.",
        Of::Cards(|card| card.rx_frames),
    ),
    family(
        "net_received_bytes",
        Counter,
        Bytes,
        "Bytes of those.",
        Of::Cards(|card| card.rx_bytes),
    ),
    family(
        "net_received_dropped",
        Counter,
        One,
        "Frames that a card spoilt.",
        Of::Cards(|card| card.rx_dropped),
    ),
    family(
        "net_link_up",
        Gauge,
        One,
        "Whether a network card has a link.",
        Of::Links(|interface| interface.link_up),
    ),
    family("net_sent_frames", Counter, One, "Frames sent.", Of::Cards(|card| card.tx_frames)),
    family("net_sent_bytes", Counter, Bytes, "Bytes of those.", Of::Cards(|card| card.tx_bytes)),
    family(
        "net_sent_dropped",
        Counter,
        One,
        "Frames that there was no room to send.",
        Of::Ways(CoreView::tx_dropped),
    ),
    family(
        "net_dropped_frames",
        Counter,
        One,
        "Frames that were malformed or found no room.",
        Of::Stacks(|stack| stack.frames_dropped),
    ),
    family(
        "tcp_connections",
        Gauge,
        One,
        "Connections of TCP.",
        Of::Stacks(|stack| stack.connections as u64),
    ),
    family(
        "tcp_accepted",
        Counter,
        One,
        "Connections of TCP that came.",
        Of::Stacks(|stack| stack.accepted),
    ),
    family(
        "tcp_refused",
        Counter,
        One,
        "Connections of TCP without room.",
        Of::Stacks(|stack| stack.refused),
    ),
    family(
        "tcp_retransmits",
        Counter,
        One,
        "Segments of TCP sent again.",
        Of::Segments(|segments| segments.resent),
    ),
    family(
        "tcp_out_of_order",
        Counter,
        One,
        "Segments of TCP that came before one that was missing.",
        Of::Segments(|segments| segments.early),
    ),
    family(
        "tcp_duplicates",
        Counter,
        One,
        "Segments of TCP that had come before.",
        Of::Segments(|segments| segments.repeated),
    ),
    family("udp_sent", Counter, One, "Datagrams sent.", Of::Stacks(|stack| stack.datagrams)),
    family(
        "udp_dropped",
        Counter,
        One,
        "Datagrams that were queued and not sent.",
        Of::Stacks(|stack| stack.datagrams_dropped),
    ),
];

/// Drives count in thousands of 512 bytes (NVMe base specification 2.0 §5.16.1.3).
const fn bytes_of_units(units: u64) -> u64 {
    units.saturating_mul(512_000)
}

const fn ns_of_hours(hours: u64) -> u64 {
    hours.saturating_mul(3_600_000_000_000)
}
