//! I/O ports, as the seam has them.

use basalt_env::IoPorts;
use x86_64::instructions::port::Port;

/// All I/O ports of the machine.
#[derive(Clone, Copy, Debug)]
pub struct MachinePorts(());

impl MachinePorts {
    /// Only a started machine has them.
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl IoPorts for MachinePorts {
    #[expect(unsafe_code, reason = "I/O ports")]
    fn read32(&self, port: u16) -> u32 {
        // SAFETY: reading a port changes no memory; what else it does is the driver's concern, as
        // it is with device memory.
        unsafe { Port::new(port).read() }
    }

    #[expect(unsafe_code, reason = "I/O ports")]
    fn write32(&self, port: u16, value: u32) {
        // SAFETY: as above. Devices that may reach memory are told of it through their registers
        // and configuration space, which drivers write as well.
        unsafe { Port::new(port).write(value) }
    }
}
