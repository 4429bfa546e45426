use core::fmt;

use basalt_env::{ConfigSpace, PciAddress};
use pci_types::device_type::DeviceType;

use crate::regs;

/// Which layout a function's header has (bits 6:0 of the header type).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderKind {
    /// Type 0: an endpoint.
    Endpoint,
    /// Type 1: a PCI-to-PCI bridge.
    Bridge,
    /// Anything else, such as CardBus; it is listed and otherwise left alone.
    Other(u8),
}

impl HeaderKind {
    /// How many BARs the layout has.
    pub const fn bar_count(self) -> u8 {
        match self {
            Self::Endpoint => 6,
            Self::Bridge => 2,
            Self::Other(_) => 0,
        }
    }
}

/// A PCI function as found by [`crate::scan`]: a description, not a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Where it sits.
    pub address: PciAddress,
    /// Vendor identifier.
    pub vendor: u16,
    /// Device identifier.
    pub device: u16,
    /// Base class.
    pub class: u8,
    /// Subclass.
    pub subclass: u8,
    /// Programming interface.
    pub prog_if: u8,
    /// Revision.
    pub revision: u8,
    /// Layout of the header.
    pub header: HeaderKind,
    /// Whether further functions may share the device number.
    pub multifunction: bool,
    /// Subsystem vendor identifier, 0 where the header has none.
    pub subsystem_vendor: u16,
    /// Subsystem identifier, 0 where the header has none.
    pub subsystem: u16,
}

impl Function {
    /// Reads the function at `address`; `None` where nothing answers.
    pub fn read(config: &impl ConfigSpace, address: PciAddress) -> Option<Self> {
        let id = config.read(address, regs::ID);
        let vendor = id as u16;
        // All ones is the bus's answer where no device is; zero is no vendor either.
        if matches!(vendor, 0 | u16::MAX) {
            return None;
        }
        let [revision, prog_if, subclass, class] = config.read(address, regs::CLASS).to_le_bytes();
        let [_, _, header_type, _] = config.read(address, regs::HEADER_TYPE).to_le_bytes();
        let header = match header_type & 0x7f {
            0 => HeaderKind::Endpoint,
            1 => HeaderKind::Bridge,
            other => HeaderKind::Other(other),
        };
        let subsystem = match header {
            HeaderKind::Endpoint => config.read(address, regs::SUBSYSTEM),
            _ => 0,
        };
        Some(Self {
            address,
            vendor,
            device: (id >> 16) as u16,
            class,
            subclass,
            prog_if,
            revision,
            header,
            multifunction: header_type & 0x80 != 0,
            subsystem_vendor: subsystem as u16,
            subsystem: (subsystem >> 16) as u16,
        })
    }

    /// What its class codes say it is.
    pub fn device_type(&self) -> DeviceType {
        DeviceType::from((self.class, self.subclass))
    }

    /// Whether it is an NVM Express I/O controller (class 01h, subclass 08h, interface 02h).
    pub fn is_nvme(&self) -> bool {
        self.device_type() == DeviceType::NvmeController && self.prog_if == 2
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, vendor, device, .. } = self;
        write!(f, "{address} [{vendor:04x}:{device:04x}] {:?}", self.device_type())
    }
}
