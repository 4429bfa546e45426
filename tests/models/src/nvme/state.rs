use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use basalt_hosted::Bus;
use basalt_nvme_spec::log_page::{ErrorEntry, SmartHealth};
use basalt_nvme_spec::registers::{
    ACQ, AQA, ASQ, CAP, CC, CMBLOC, CMBMSC, CMBSTS, CSTS, DOORBELLS, VS,
};
use basalt_nvme_spec::{Aqa, Cap, Cc, Command, Csts, QueueId, Shutdown, Version};

use super::cmb::Cmb;
use super::device::config_space;
use super::fault::Trigger;
use super::manage::Managed;
use super::protection::Tuple;
use super::queues::{CompletionQueue, Delayed, SubmissionQueue};
use super::zones::Zone;
use super::{CmbOffer, Config, Fault, FaultPlan, NamespaceConfig};
use crate::lies::Lies;

/// PCI command register.
pub(super) const COMMAND: u16 = 4;
const BUS_MASTER: u32 = 1 << 2;

/// A namespace and what is on it.
pub(super) struct Namespace {
    pub(super) config: NamespaceConfig,
    pub(super) data: Vec<u8>,
    pub(super) metadata: Vec<u8>,
    /// Blocks that cannot be read until they are written.
    pub(super) bad: BTreeSet<u64>,
    pub(super) zones: Vec<Zone>,
    /// What protects each block that was written.
    pub(super) protection: BTreeMap<u64, Tuple>,
}

impl Namespace {
    pub(super) fn new(config: NamespaceConfig) -> Self {
        let len = config.blocks * u64::from(config.block_size);
        let (bad, protection) = (BTreeSet::new(), BTreeMap::new());
        let data = vec![0; len as usize];
        let metadata = vec![0; config.blocks as usize * usize::from(config.metadata_size)];
        let mut namespace = Self { config, data, metadata, bad, zones: Vec::new(), protection };
        namespace.make_zones();
        namespace
    }
}

/// The whole controller.
pub(super) struct State {
    pub(super) bus: Bus,
    pub(super) config: Config,
    pub(super) plan: FaultPlan,
    pub(super) config_space: [u32; 64],
    pub(super) gone: bool,
    pub(super) lies: Lies,
    cap: Cap,
    pub(super) cc: Cc,
    pub(super) csts: Csts,
    aqa: Aqa,
    asq: u64,
    acq: u64,
    /// CSTS reads left until RDY takes CC.EN's value; `None` if it has it or never will.
    turning: Option<u32>,
    pub(super) sqs: BTreeMap<QueueId, SubmissionQueue>,
    pub(super) cqs: BTreeMap<QueueId, CompletionQueue>,
    pub(super) namespaces: Vec<Namespace>,
    /// Where doorbells in memory are, and from where on it wants to be told of them.
    pub(super) shadow: Option<(u64, u64)>,
    pub(super) features: BTreeMap<u8, u32>,
    pub(super) events_waiting: VecDeque<u16>,
    /// Namespaces that have changed since the log page of them was read.
    pub(super) changed: Vec<u32>,
    pub(super) delayed: Vec<Delayed>,
    pub(super) errors: VecDeque<ErrorEntry>,
    pub(super) smart: SmartHealth,
    pub(super) violations: Vec<String>,
    pub(super) doorbells: u64,
    pub(super) io_commands: u64,
    /// Whether a doorbell has been written that was not seen to yet.
    pub(super) told: bool,
    pub(super) crossings: u64,
    pub(super) managed: Managed,
    /// By queue, the first half of a fused operation.
    pub(super) fused: BTreeMap<QueueId, Command>,
    pub(super) cmb: Option<Cmb>,
    /// The I/O queue that commands were taken from last.
    pub(super) last_served: QueueId,
    /// The queues of the last I/O commands.
    pub(super) order: VecDeque<QueueId>,
}

impl State {
    pub(super) fn new(bus: Bus, config: Config) -> Self {
        let (stride, ids) = (config.doorbell_stride, config.pci_ids);
        let mut cap = Cap::build(config.queue_entries_max, Duration::from_secs(1), stride);
        if config.weighted_round_robin {
            cap = cap.with_weighted_round_robin();
        }
        if config.cmb.is_some_and(|cmb| cmb.offer != CmbOffer::Plain) {
            cap = cap.with_controller_memory();
        }
        let namespaces = config.namespaces.iter().map(|&config| Namespace::new(config));
        Self {
            bus,
            cap: if config.namespaces.iter().any(|ns| ns.zones.is_some()) {
                cap.with_io_command_sets()
            } else {
                cap
            },
            namespaces: namespaces.collect(),
            plan: FaultPlan::default(),
            config_space: config_space(ids),
            gone: false,
            lies: Lies::default(),
            cc: Cc::DISABLED,
            csts: Csts::empty(),
            aqa: Aqa(0),
            asq: 0,
            acq: 0,
            turning: None,
            sqs: BTreeMap::new(),
            cqs: BTreeMap::new(),
            shadow: None,
            features: BTreeMap::new(),
            events_waiting: VecDeque::new(),
            changed: Vec::new(),
            delayed: Vec::new(),
            errors: VecDeque::new(),
            smart: SmartHealth { available_spare: 100, ..SmartHealth::default() },
            violations: Vec::new(),
            doorbells: 0,
            io_commands: 0,
            told: false,
            crossings: 0,
            managed: Managed::new(),
            fused: BTreeMap::new(),
            cmb: config.cmb.map(Cmb::new),
            last_served: 0,
            order: VecDeque::new(),
            config,
        }
    }

    pub(super) fn namespace(&self, nsid: u32) -> Option<&Namespace> {
        self.namespaces.iter().find(|ns| ns.config.nsid == nsid)
    }

    pub(super) fn namespace_mut(&mut self, nsid: u32) -> Option<&mut Namespace> {
        self.namespaces.iter_mut().find(|ns| ns.config.nsid == nsid)
    }

    pub(super) fn violate(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Whether commands may be fetched: enabled, ready, healthy and a bus master.
    pub(super) fn runs(&self) -> bool {
        !self.gone
            && self.csts.contains(Csts::READY)
            && !self.csts.contains(Csts::FATAL)
            && self.config_space[1] & BUS_MASTER != 0
    }

    /// Address of a BAR on the bus.
    pub(super) fn bar_address(&self, bar: u8) -> u64 {
        let register = 4 + usize::from(bar);
        let [low, high] = [register, register + 1].map(|at| u64::from(self.config_space[at]));
        high << 32 | low & !0xf
    }

    pub(super) fn read_bar(&mut self, bar: u8, at: usize) -> u32 {
        if self.is_cmb(bar, at) { self.read_cmb(at) } else { self.read_register(at) }
    }

    pub(super) fn write_bar(&mut self, bar: u8, at: usize, value: u32) {
        if self.is_cmb(bar, at) {
            self.write_cmb(at, value);
        } else {
            self.write_register(at, value);
        }
    }

    fn read_register(&mut self, at: usize) -> u32 {
        if self.gone {
            return u32::MAX;
        }
        let half = |value: u64, base: usize| (value >> (8 * (at - base))) as u32;
        let value = match at {
            0..VS => half(self.cap.0, CAP),
            VS => Version::V2_0.0,
            CC => self.cc.0,
            CSTS => self.read_status(),
            AQA => self.aqa.0,
            ASQ..ACQ => half(self.asq, ASQ),
            ACQ..CMBLOC => half(self.acq, ACQ),
            CMBLOC..=CMBSTS => self.cmb.as_ref().map_or(0, |cmb| cmb.read_register(at)),
            _ => 0,
        };
        self.lies.number(value.into()) as u32
    }

    fn read_status(&mut self) -> u32 {
        match self.turning {
            Some(0) => {
                self.csts.set(Csts::READY, self.cc.enable());
                self.turning = None;
            }
            Some(left) => self.turning = Some(left - 1),
            None => {}
        }
        self.csts.bits()
    }

    fn write_register(&mut self, at: usize, value: u32) {
        if self.gone {
            return;
        }
        let set_half = |old: u64, base: usize| {
            let shift = 8 * (at - base);
            old & !(0xffff_ffff << shift) | u64::from(value) << shift
        };
        match at {
            CC => self.configure(Cc(value)),
            AQA | ASQ..0x38 if self.cc.enable() => {
                self.violate(format!("register {at:#x} written while enabled"));
            }
            AQA => self.aqa = Aqa(value),
            ASQ..ACQ => self.asq = set_half(self.asq, ASQ),
            ACQ..0x38 => self.acq = set_half(self.acq, ACQ),
            CMBMSC..CMBSTS if self.cap.controller_memory() => {
                if let Some(cmb) = &mut self.cmb {
                    cmb.write_control(at, value);
                }
            }
            DOORBELLS.. => self.doorbell(at - DOORBELLS, value),
            _ => self.violate(format!("write to register {at:#x}")),
        }
    }

    fn configure(&mut self, cc: Cc) {
        let before = self.cc;
        self.cc = cc;
        if cc.shutdown() != before.shutdown() && cc.shutdown() != Shutdown::NONE {
            self.csts = self.csts.with_shutdown(Shutdown::COMPLETE);
        }
        if before.enable() && cc.enable() && cc.arbitration() != before.arbitration() {
            self.violate(String::from("CC.AMS changed while enabled"));
        }
        match (before.enable(), cc.enable()) {
            (false, true) => self.start(),
            (true, false) => self.reset(),
            _ => {}
        }
    }

    fn start(&mut self) {
        if self.csts.contains(Csts::READY) {
            self.violate(String::from("CC.EN set while CSTS.RDY"));
        }
        if self.cc.iosqes() != 6 || self.cc.iocqes() != 4 || self.cc.page_size() != 4096 {
            self.violate(format!("CC {:#x}: entry or page size", self.cc.0));
        }
        let weighted = self.cap.weighted_round_robin() && self.cc.arbitration() == Cc::AMS_WEIGHTED;
        if !weighted && self.cc.arbitration() != Cc::AMS_ROUND_ROBIN {
            self.violate(format!("CC {:#x}: an arbitration that is not there", self.cc.0));
        }
        if !self.asq.is_multiple_of(4096) || !self.acq.is_multiple_of(4096) {
            self.violate(String::from("admin queue not on a page"));
        }
        let (sq, cq) = (self.aqa.sq_entries().into(), self.aqa.cq_entries().into());
        self.sqs.insert(0, SubmissionQueue::new(self.asq, sq, 0));
        self.cqs.insert(0, CompletionQueue::new(self.acq, cq));
        self.turn(Trigger::Enable);
    }

    fn reset(&mut self) {
        self.sqs.clear();
        self.cqs.clear();
        self.fused.clear();
        self.features.clear();
        self.shadow = None;
        self.cmb.iter_mut().for_each(Cmb::reset);
        self.events_waiting.clear();
        self.delayed.clear();
        self.manage_reset();
        self.csts.remove(Csts::FATAL);
        self.csts = self.csts.with_shutdown(Shutdown::NONE);
        self.turn(Trigger::Disable);
    }

    fn turn(&mut self, event: Trigger) {
        self.turning = Some(self.config.ready_after);
        match self.plan.strike(event) {
            Some(Fault::StuckReady) => self.turning = None,
            Some(Fault::FatalStatus) => self.csts.insert(Csts::FATAL),
            Some(Fault::AllOnes) => self.gone = true,
            _ => {}
        }
    }
}
