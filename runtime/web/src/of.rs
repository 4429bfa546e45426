//! What metrics are counted of.

use alloc::string::ToString as _;

use basalt_bdev::{Op, OpStat};
use basalt_env::DmaStats;
use basalt_net::{NetStats, SegmentStats, StackStats};
use basalt_nvmf::{GroupStats, QueueInfo};
use basalt_reactor::{PollerStats, ReactorStats};
use basalt_rpc::methods::InterfaceState;
use serde_json::Value;

use crate::HeapUse;
use crate::openmetrics::Samples;
use crate::snapshot::{BdevView, CoreView, Snapshot, SubsystemView};

/// Operations that are told apart, and their names.
pub const OPERATIONS: [(Op, &str); 8] = [
    (Op::Read, "read"),
    (Op::Write, "write"),
    (Op::Unmap, "unmap"),
    (Op::Flush, "flush"),
    (Op::WriteZeroes, "write_zeroes"),
    (Op::Compare, "compare"),
    (Op::Copy, "copy"),
    (Op::ZoneAppend, "zone_append"),
];

/// What metrics are counted of, and what gives their values: labels follow from that.
pub enum Of {
    /// The program as a whole.
    All(fn(&mut Samples, &Snapshot)),
    Heap(fn(&HeapUse) -> u64),
    Cores(fn(&ReactorStats) -> u64),
    /// Those of one name on a core together.
    Pollers(fn(&PollerStats) -> u64),
    /// Each core's memory for I/O.
    Dma(fn(&DmaStats) -> usize),
    /// Each core's share of the target.
    Groups(fn(&GroupStats) -> u64),
    /// The pairs of a network card's queues.
    Cards(fn(&NetStats) -> u64),
    /// Each core's TCP/IP.
    Stacks(fn(&StackStats) -> u64),
    /// Each core's segments of TCP, where they are counted.
    Segments(fn(&SegmentStats) -> u64),
    /// Each core's part of a network card and of TCP/IP.
    Ways(fn(&CoreView) -> u64),
    /// The network interfaces whose link is known.
    Links(fn(&InterfaceState) -> Option<bool>),
    /// The queues of hosts, which are connections.
    Queues(fn(&QueueInfo) -> u64),
    Bdevs(fn(&mut Samples, &Snapshot, &BdevView)),
    /// What each bdev did, by operation.
    Ops(fn(&OpStat) -> u64),
    Drives(fn(&mut Samples, &Snapshot, usize)),
    /// What each drive says of its health.
    Health(fn(&Value) -> Option<u64>),
    Subsystems(fn(&Snapshot, &SubsystemView) -> usize),
}

impl Of {
    /// How many things there are of the kind.
    pub fn count(&self, all: &Snapshot) -> usize {
        match self {
            Self::All(_) => 1,
            Self::Heap(_) => usize::from(all.heap.is_some()),
            Self::Bdevs(_) | Self::Ops(_) => all.bdevs.len(),
            Self::Drives(_) | Self::Health(_) => all.drives.len(),
            Self::Subsystems(_) => all.subsystems.len(),
            Self::Links(_) => all.interfaces.len(),
            Self::Cards(_) | Self::Ways(_) if all.moved().is_none() => 0,
            _ => all.cores.len(),
        }
    }

    /// Writes the samples of one of them.
    pub fn write(&self, samples: &mut Samples, all: &Snapshot, at: usize) {
        match self {
            Self::All(write) => write(samples, all),
            Self::Heap(of) => all.heap.iter().for_each(|heap| samples.add(&[], of(heap))),
            Self::Bdevs(write) => write(samples, all, &all.bdevs[at]),
            Self::Ops(of) => {
                let view = &all.bdevs[at];
                for (op, name) in OPERATIONS {
                    samples.add(&[bdev(view), ("op", name)], of(view.stat.op(op)));
                }
            }
            Self::Drives(write) => write(samples, all, at),
            Self::Health(of) => {
                let (drive, health) = &all.drives[at];
                let value = health.as_ref().and_then(|health| of(health));
                value.iter().for_each(|value| samples.add(&[("drive", &drive.name)], *value));
            }
            Self::Subsystems(of) => {
                let view = &all.subsystems[at];
                samples.add(&[("nqn", &view.nqn)], of(all, view) as u64);
            }
            Self::Links(of) => {
                let interface = &all.interfaces[at];
                let label = ("interface", interface.name.as_str());
                of(interface).iter().for_each(|is_up| samples.add(&[label], u64::from(*is_up)));
            }
            of => of.write_core(samples, &all.cores[at]),
        }
    }

    #[inline(never)]
    fn write_core(&self, samples: &mut Samples, core: &CoreView) {
        let number = core.core.to_string();
        let label = ("core", number.as_str());
        let value = match self {
            Self::Cores(of) => Some(of(&core.reactor)),
            Self::Dma(of) => core.dma.as_ref().map(|dma| of(dma) as u64),
            Self::Groups(of) => core.group.as_ref().map(of),
            Self::Cards(of) => core.card.as_ref().map(|card| of(&card.card)),
            Self::Stacks(of) => core.stack.as_ref().map(of),
            Self::Segments(of) => core.stack.and_then(|stack| stack.segments).as_ref().map(of),
            Self::Ways(of) => Some(of(core)),
            Self::Pollers(of) => return pollers(samples, label, &core.pollers, *of),
            Self::Queues(of) => return queues(samples, label, &core.queues, *of),
            _ => None,
        };
        value.iter().for_each(|value| samples.add(&[label], *value));
    }
}

/// The label of a bdev.
pub fn bdev(view: &BdevView) -> (&str, &str) {
    ("bdev", &view.bdev.info().name)
}

fn pollers(
    samples: &mut Samples,
    core: (&str, &str),
    pollers: &[PollerStats],
    of: fn(&PollerStats) -> u64,
) {
    for (at, poller) in pollers.iter().enumerate() {
        let same = |other: &&PollerStats| other.name == poller.name;
        // There is one of each name.
        if !pollers[..at].iter().any(|other| same(&other)) {
            let sum = pollers.iter().filter(same).map(of).sum();
            samples.add(&[core, ("poller", poller.name)], sum);
        }
    }
}

fn queues(
    samples: &mut Samples,
    core: (&str, &str),
    queues: &[QueueInfo],
    of: fn(&QueueInfo) -> u64,
) {
    for queue in queues {
        let (Some(cntlid), Some(qid)) = (queue.cntlid, queue.qid) else { continue };
        let [cntlid, qid, slot] = [cntlid, qid, queue.connection.slot].map(|n| n.to_string());
        let labels = [core, ("connection", &slot), ("cntlid", &cntlid), ("qid", &qid)];
        samples.add(&labels, of(queue));
    }
}
