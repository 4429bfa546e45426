//! How the machine's PCI configuration space is reached.

use alloc::vec;
use alloc::vec::Vec;

use basalt_env::{ConfigSpace, PciAddress};

use crate::config_ports::ConfigPorts;
use crate::ecam::{ConfigBuses, Ecam, EcamWindow};
use crate::mmio::IdentityMap;

/// The machine's PCI configuration space. Cheap to clone; usable on any core.
#[derive(Clone, Debug)]
pub struct PciConfig(Way);

#[derive(Clone, Debug)]
enum Way {
    Ecam(Ecam),
    Ports(ConfigPorts),
    None,
}

impl PciConfig {
    /// By the ECAM windows that firmware lists, else by I/O ports; says so when there is neither.
    pub(crate) fn new(windows: &[EcamWindow], map: IdentityMap) -> Self {
        let ecam = Ecam::new(windows, map);
        if ecam.ranges().next().is_some() {
            return Self(Way::Ecam(ecam));
        }
        let Some(ports) = ConfigPorts::detect() else {
            log::warn!(
                "no way to PCI configuration space, hence no drives and no network: firmware lists \
                 no ECAM window (ACPI table MCFG), and I/O ports 0xcf8 and 0xcfc do not answer"
            );
            return Self(Way::None);
        };
        log::info!("PCI configuration space by I/O ports: firmware lists no ECAM window");
        Self(Way::Ports(ports))
    }

    /// The buses that can be reached.
    pub fn ranges(&self) -> Vec<ConfigBuses> {
        match &self.0 {
            Way::Ecam(ecam) => ecam.ranges().collect(),
            Way::Ports(_) => vec![ConfigBuses { segment: 0, bus_start: 0, bus_end: u8::MAX }],
            Way::None => Vec::new(),
        }
    }
}

/// Called from very many places, none of which is in a hurry: the image has each once.
impl ConfigSpace for PciConfig {
    #[inline(never)]
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        match &self.0 {
            Way::Ecam(ecam) => ecam.read(address, offset),
            Way::Ports(ports) => ports.read(address, offset),
            Way::None => u32::MAX,
        }
    }

    #[inline(never)]
    fn write(&self, address: PciAddress, offset: u16, value: u32) {
        match &self.0 {
            Way::Ecam(ecam) => ecam.write(address, offset, value),
            Way::Ports(ports) => ports.write(address, offset, value),
            Way::None => {}
        }
    }
}
