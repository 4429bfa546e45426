//! PCI configuration space through two I/O ports (PCI Local Bus 3.0 §3.2.2.3.2, "Configuration
//! Mechanism #1"), for machines whose firmware names no ECAM window.

use basalt_env::{ConfigSpace, PciAddress};
use spin::Mutex;
use x86_64::instructions::port::Port;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;
/// What the mechanism reaches of a function; the extended space is ECAM's alone.
const FUNCTION_LEN: u16 = 256;

/// The ports. They are a pair for the whole machine, so one core uses them at a time: devices are
/// found and set up through them, no I/O passes here.
static PORTS: Mutex<Ports> = Mutex::new(Ports::new());

struct Ports {
    address: Port<u32>,
    data: Port<u32>,
}

/// Segment 0 of configuration space, the first 256 bytes of each function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigPorts(());

impl ConfigPorts {
    /// The ports, if the machine has them: the address register keeps what is written to it.
    pub(crate) fn detect() -> Option<Self> {
        PORTS.lock().present().then_some(Self(()))
    }
}

impl ConfigSpace for ConfigPorts {
    fn read(&self, address: PciAddress, offset: u16) -> u32 {
        select(address, offset).map_or(u32::MAX, |selected| PORTS.lock().read(selected))
    }

    fn write(&self, address: PciAddress, offset: u16, value: u32) {
        if let Some(selected) = select(address, offset) {
            PORTS.lock().write(selected, value);
        }
    }
}

/// The value of CONFIG_ADDRESS that selects a dword, where there is one.
fn select(address: PciAddress, offset: u16) -> Option<u32> {
    let PciAddress { segment, bus, device, function } = address;
    if segment != 0 || device > 31 || function > 7 || offset >= FUNCTION_LEN {
        return None;
    }
    let function = u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8;
    Some(ENABLE | function | u32::from(offset & !3))
}

impl Ports {
    const fn new() -> Self {
        Self { address: Port::new(CONFIG_ADDRESS), data: Port::new(CONFIG_DATA) }
    }

    #[expect(unsafe_code, reason = "I/O ports")]
    fn present(&mut self) -> bool {
        // SAFETY: the ports are the PC's for configuration space, or nobody's; selecting a function
        // touches no device, and what was selected is put back.
        unsafe {
            let before = self.address.read();
            self.address.write(ENABLE);
            let kept = self.address.read() == ENABLE;
            self.address.write(before);
            kept
        }
    }

    #[expect(unsafe_code, reason = "I/O ports")]
    fn read(&mut self, selected: u32) -> u32 {
        // SAFETY: the ports were detected; reading configuration space changes no memory.
        unsafe {
            self.address.write(selected);
            self.data.read()
        }
    }

    #[expect(unsafe_code, reason = "I/O ports")]
    fn write(&mut self, selected: u32, value: u32) {
        // SAFETY: the ports were detected. What a write does is the driver's concern, as it is
        // through ECAM.
        unsafe {
            self.address.write(selected);
            self.data.write(value);
        }
    }
}
