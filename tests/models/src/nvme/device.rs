use basalt_env::{BarError, Device, PciAddress, Registers};
use basalt_nvme_spec::registers::PCI_CLASS;

use super::Model;
use super::state::COMMAND;

/// Length of the register block, bytes: room for 64 queues with the widest doorbells and more.
pub(super) const BAR_LEN: usize = 64 << 10;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_BUS_MASTER: u32 = 1 << 2;

/// The PCI function of a [`Model`].
#[derive(Clone)]
pub struct ModelDevice {
    model: Model,
}

impl ModelDevice {
    pub(super) fn new(model: Model) -> Self {
        Self { model }
    }

    /// Length of a BAR, bytes; `None` if it is not there.
    fn len_of(&self, index: u8) -> Option<usize> {
        let state = self.model.lock();
        let cmb = state.config.cmb.filter(|cmb| cmb.bar == index).map(|cmb| cmb.bar_len);
        if index == 0 { Some(cmb.unwrap_or(0).max(BAR_LEN)) } else { cmb }
    }

    fn change_command(&mut self, set: u32, clear: u32) {
        let command = self.config_read(COMMAND);
        self.config_write(COMMAND, (command & !clear) | set);
    }
}

/// Configuration space of a function nothing was written to yet.
pub(super) fn config_space(ids: u32) -> [u32; 64] {
    let mut space = [0; 64];
    space[0] = ids;
    space[2] = PCI_CLASS << 8;
    // 64-bit memory BARs: the first below 4 GiB, the others above.
    (space[4], space[5]) = (0xfe00_0004, 0);
    (space[6], space[7]) = (0xc000_000c, 0x20);
    (space[8], space[9]) = (0x8000_000c, 0x30);
    space
}

impl Device for ModelDevice {
    type Registers = ModelRegisters;

    fn address(&self) -> PciAddress {
        PciAddress::new(0, self.model.lock().config.pci_bus, 0, 0)
    }

    fn config_read(&self, offset: u16) -> u32 {
        let state = self.model.lock();
        if state.gone {
            return u32::MAX;
        }
        state.config_space.get(usize::from(offset / 4)).copied().unwrap_or(0)
    }

    fn config_write(&mut self, offset: u16, value: u32) {
        let mut state = self.model.lock();
        // BARs keep their address; only the command register is writable.
        if offset == COMMAND {
            state.config_space[1] = value & 0xffff;
        }
    }

    fn bar(&mut self, index: u8) -> Result<ModelRegisters, BarError> {
        let len = self.len_of(index).ok_or(BarError::Missing)?;
        Ok(ModelRegisters { model: self.model.clone(), bar: index, start: 0, len })
    }

    fn enable(&mut self) {
        self.change_command(COMMAND_MEMORY | COMMAND_BUS_MASTER, 0);
    }

    fn disable(&mut self) {
        self.change_command(0, COMMAND_BUS_MASTER);
    }
}

/// The registers of a [`Model`].
#[derive(Clone)]
pub struct ModelRegisters {
    model: Model,
    bar: u8,
    start: usize,
    len: usize,
}

impl ModelRegisters {
    fn at(&self, offset: usize, size: usize) -> Option<usize> {
        let inside = offset.checked_add(size)? <= self.len && offset.is_multiple_of(size);
        inside.then_some(self.start + offset)
    }

    /// Bytes of the dword that holds `at`, shifted down to it.
    fn part(&self, offset: usize, size: usize) -> u32 {
        let Some(at) = self.at(offset, size) else { return u32::MAX };
        self.model.lock().read_bar(self.bar, at & !3) >> (8 * (at % 4))
    }
}

impl Registers for ModelRegisters {
    fn len(&self) -> usize {
        self.len
    }

    fn window(&self, offset: usize, len: usize) -> Option<Self> {
        let inside = offset.checked_add(len)? <= self.len;
        inside.then(|| Self {
            model: self.model.clone(),
            bar: self.bar,
            start: self.start + offset,
            len,
        })
    }

    fn read8(&self, offset: usize) -> u8 {
        self.part(offset, 1) as u8
    }

    fn read16(&self, offset: usize) -> u16 {
        self.part(offset, 2) as u16
    }

    fn read32(&self, offset: usize) -> u32 {
        self.part(offset, 4)
    }

    fn read64(&self, offset: usize) -> u64 {
        let Some(at) = self.at(offset, 8) else { return u64::MAX };
        let mut state = self.model.lock();
        let low = state.read_bar(self.bar, at);
        u64::from(state.read_bar(self.bar, at + 4)) << 32 | u64::from(low)
    }

    fn write8(&self, offset: usize, _: u8) {
        self.model.lock().violate(format!("1-byte register write at {offset:#x}"));
    }

    fn write16(&self, offset: usize, _: u16) {
        self.model.lock().violate(format!("2-byte register write at {offset:#x}"));
    }

    fn write32(&self, offset: usize, value: u32) {
        let Some(at) = self.at(offset, 4) else { return };
        self.model.lock().write_bar(self.bar, at, value);
    }

    fn write64(&self, offset: usize, value: u64) {
        let Some(at) = self.at(offset, 8) else { return };
        let mut state = self.model.lock();
        state.write_bar(self.bar, at, value as u32);
        state.write_bar(self.bar, at + 4, (value >> 32) as u32);
    }
}
