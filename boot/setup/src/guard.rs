//! Keeps devices to the memory they were given, where the machine has an IOMMU.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_bare::{Clock, IdentityMap, IommuParts};
use basalt_env::{DmaPool, Instant, Mmio, MmioMap, PciAddress, PhysAddr, Work};
use basalt_reactor::Local;
use basalt_vtd::{Dmar, Fault, Iommu, StartError};

/// How often faults are looked for.
const PERIOD: Duration = Duration::from_millis(100);
/// A device that goes on straying is told of this often.
const REPEAT: Duration = Duration::from_secs(10);

/// The machine's IOMMU, or none. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    iommu: Option<Rc<RefCell<Iommu<Mmio>>>>,
    clock: Clock,
}

impl Guard {
    /// Switches the IOMMU on: no device reaches any memory until it is allowed to.
    pub fn start(local: &Local, parts: Option<IommuParts>, map: IdentityMap, clock: Clock) -> Self {
        let iommu = parts.and_then(|parts| match start(parts, map, clock) {
            Ok(iommu) => Some(Rc::new(RefCell::new(iommu))),
            Err(error) => {
                log::error!(target: "iommu", "not used, devices may reach all memory: {error}");
                None
            }
        });
        let guard = Self { iommu, clock };
        guard.watch(local);
        guard
    }

    /// Lets a device whose requests come from `requesters` reach the DMA memory. Whether it may.
    pub fn allow(&self, requesters: &[PciAddress]) -> bool {
        self.each(requesters, |iommu, address, now| iommu.allow(address, now))
    }

    /// Lets it reach nothing any more.
    pub fn deny(&self, requesters: &[PciAddress]) {
        self.each(requesters, |iommu, address, now| iommu.deny(address, now));
    }

    fn each(
        &self,
        requesters: &[PciAddress],
        tell: impl Fn(&mut Iommu<Mmio>, PciAddress, &dyn Fn() -> Instant) -> Result<(), StartError>,
    ) -> bool {
        let Some(iommu) = &self.iommu else { return true };
        let now = || self.clock.now();
        requesters.iter().all(|address| {
            let told = tell(&mut iommu.borrow_mut(), *address, &now);
            told.inspect_err(|error| log::error!(target: "iommu", "{address}: {error}")).is_ok()
        })
    }

    /// Tells of devices that stray.
    fn watch(&self, local: &Local) {
        let Some(iommu) = self.iommu.clone() else { return };
        let mut log = FaultLog::default();
        let watch = move |local: &Local| {
            let now = local.now();
            let lost = iommu.borrow().faults(&mut |fault| log.tell(fault, now));
            if lost {
                log::warn!(target: "iommu", "more was stopped than could be kept");
            }
            Work::IDLE
        };
        local.timed_poller("iommu", PERIOD, watch).detach();
    }
}

fn start(parts: IommuParts, map: IdentityMap, clock: Clock) -> Result<Iommu<Mmio>, StartError> {
    let IommuParts { dmar, tables, reachable } = parts;
    let dmar = Dmar::read(dmar);
    if dmar.reserved > 0 {
        let count = dmar.reserved;
        log::warn!(target: "iommu", "{count} ranges of firmware's own devices are closed to them");
    }
    let mut units = Vec::new();
    for unit in &dmar.units {
        let registers = map.map(PhysAddr::new(unit.base), Dmar::REGISTERS_LEN);
        units.push((unit.segment, registers.map_err(|_| StartError::NoAnswer)?));
    }
    let iommu = Iommu::start(units, DmaPool::new(tables), &reachable, &|| clock.now())?;
    let count = iommu.units();
    log::info!(target: "iommu", "{count} remapping units keep devices to the DMA memory");
    Ok(iommu)
}

/// Who has strayed, and when that was last told.
#[derive(Default)]
struct FaultLog {
    told: Vec<(PciAddress, Instant)>,
}

impl FaultLog {
    fn tell(&mut self, fault: Fault, now: Instant) {
        match self.told.iter_mut().find(|(device, _)| *device == fault.source) {
            Some((_, at)) if now.since(*at) < REPEAT => return,
            Some((_, at)) => *at = now,
            None => self.told.push((fault.source, now)),
        }
        log::error!(target: "iommu", "{fault}");
    }
}
