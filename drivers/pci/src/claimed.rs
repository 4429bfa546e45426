use core::fmt;

use basalt_env::{
    BarError, ConfigSpace, CoreId, Device, MmioMap, PciAddress, PhysAddr, Registers, WakeMessage,
};

use crate::msix::MessageTable;
use crate::regs::{self, Command};
use crate::{Bar, Function};

/// BARs of a function at most (PCI Local Bus 3.0 §6.2.5).
const BARS: usize = 6;

/// A function in the hands of one driver.
///
/// Claiming changes nothing on the device: it may reach memory only after [`Device::enable`], and
/// no longer once the claim is dropped.
pub struct Claimed<C: ConfigSpace, M: MmioMap> {
    config: C,
    map: M,
    function: Function,
    /// What of its BARs is mapped: to size one switches its decoding off for a moment, which is not
    /// for a function at work.
    mapped: [Option<M::Registers>; BARS],
    /// The table of its messages, once one was asked for; none if it has none.
    messages: Option<Option<MessageTable<M::Registers>>>,
}

impl<C: ConfigSpace, M: MmioMap> Claimed<C, M> {
    /// Claims `function`. The caller sees to it that a function has one claim at a time.
    pub fn new(config: C, map: M, function: Function) -> Self {
        Self { config, map, function, mapped: [const { None }; BARS], messages: None }
    }

    /// What was claimed.
    pub fn function(&self) -> &Function {
        &self.function
    }

    fn change_command(&self, change: impl FnOnce(Command) -> Command) {
        let address = self.function.address;
        let command = Command::from_bits_retain(
            (self.config.read(address, regs::COMMAND_STATUS) & regs::STATUS_WRITE_MASK) as u16,
        );
        let command = u32::from(change(command).bits());
        self.config.write(address, regs::COMMAND_STATUS, command);
    }
}

impl<C: ConfigSpace, M: MmioMap> Device for Claimed<C, M> {
    type Registers = M::Registers;

    fn address(&self) -> PciAddress {
        self.function.address
    }

    fn config_read(&self, offset: u16) -> u32 {
        self.config.read(self.function.address, offset)
    }

    fn config_write(&mut self, offset: u16, value: u32) {
        self.config.write(self.function.address, offset, value);
    }

    fn bar(&mut self, index: u8) -> Result<Self::Registers, BarError> {
        let slot = usize::from(index);
        let known = self.mapped.get(slot).ok_or(BarError::Missing)?.as_ref();
        if let Some(registers) = known.and_then(|registers| registers.window(0, registers.len())) {
            return Ok(registers);
        }
        let Function { address, header, .. } = self.function;
        let Bar::Memory { base, len, .. } = Bar::probe(&self.config, address, header, index)?
        else {
            return Err(BarError::IoSpace);
        };
        if base == 0 {
            return Err(BarError::Unassigned);
        }
        base.checked_add(len).ok_or(BarError::Unmappable)?;
        let len = usize::try_from(len).map_err(|_| BarError::Unmappable)?;
        let registers = self.map.map(PhysAddr::new(base), len)?;
        self.mapped[slot] = registers.window(0, len);
        Ok(registers)
    }

    fn wake_message(&mut self, index: u16, core: CoreId) -> Option<WakeMessage<M::Registers>> {
        let target = self.map.message_target(core)?;
        if self.messages.is_none() {
            self.messages = Some(MessageTable::find(self));
        }
        self.messages.as_ref()?.as_ref()?.point(index, target)
    }

    fn enable(&mut self) {
        // Everything is polled: an interrupt line would only disturb whoever shares it.
        let on = Command::MEMORY | Command::BUS_MASTER | Command::INTX_DISABLE;
        self.change_command(|command| command | on);
    }

    fn disable(&mut self) {
        self.change_command(|command| command - Command::BUS_MASTER);
    }
}

impl<C: ConfigSpace, M: MmioMap> Drop for Claimed<C, M> {
    fn drop(&mut self) {
        self.disable();
    }
}

impl<C: ConfigSpace, M: MmioMap> fmt::Debug for Claimed<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claimed({})", self.function)
    }
}
