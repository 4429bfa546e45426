use std::sync::Arc;

use basalt_env::{BarError, Device, PciAddress, Registers};

use spin::Mutex;

use super::Card;

const COMMON: usize = 0x0000;
const NOTIFY: usize = 0x1000;
const CONFIG: usize = 0x2000;
const BAR_LEN: usize = 0x3000;
/// The BAR with all structures, as QEMU places them.
const BAR: u8 = 4;
const NOTIFY_MULTIPLIER: u32 = 4;

/// A device as its driver sees it.
pub struct ModelDevice<C> {
    state: Arc<Mutex<C>>,
}

impl<C: Card> ModelDevice<C> {
    pub(crate) fn new(state: &Arc<Mutex<C>>) -> Self {
        Self { state: Arc::clone(state) }
    }

    /// The dwords of the capability list: a structure in a reserved BAR, which drivers must pass
    /// over, then the real ones.
    fn capability_dword(offset: u16) -> u32 {
        let capability = |next: u32, len: u32, kind: u32| 0x09 | next << 8 | len << 16 | kind << 24;
        let place = |bar: u8, at: usize, len: u32| [u32::from(bar), at as u32, len];
        let blocks = [
            (0x40, capability(0x50, 16, 1), place(7, 0, 64)),
            (0x50, capability(0x60, 16, 1), place(BAR, COMMON, 64)),
            (0x60, capability(0x74, 20, 2), place(BAR, NOTIFY, 0x1000)),
            (0x74, capability(0, 16, 4), place(BAR, CONFIG, 64)),
        ];
        for (at, head, [bar, start, len]) in blocks {
            match offset.wrapping_sub(at) {
                0 => return head,
                4 => return bar,
                8 => return start,
                12 => return len,
                _ => {}
            }
        }
        if offset == 0x70 { NOTIFY_MULTIPLIER } else { 0 }
    }
}

impl<C: Card + 'static> Device for ModelDevice<C> {
    type Registers = ModelRegisters<C>;

    fn address(&self) -> PciAddress {
        PciAddress::new(0, 0, 3, 0)
    }

    fn config_read(&self, offset: u16) -> u32 {
        let dword = match offset {
            0x00 => C::IDS[0],
            0x04 => 1 << 20,
            0x08 => C::IDS[1],
            0x34 => 0x40,
            _ => Self::capability_dword(offset),
        };
        self.state.lock().common().lies.number(dword.into()) as u32
    }

    fn config_write(&mut self, _offset: u16, _value: u32) {}

    fn bar(&mut self, index: u8) -> Result<ModelRegisters<C>, BarError> {
        if index != BAR {
            return Err(BarError::Missing);
        }
        Ok(ModelRegisters { state: Arc::clone(&self.state), base: 0, len: BAR_LEN })
    }

    fn enable(&mut self) {
        self.state.lock().common().bus_master = true;
    }

    fn disable(&mut self) {
        self.state.lock().common().bus_master = false;
    }
}

/// A device's registers, or a window of them.
pub struct ModelRegisters<C> {
    state: Arc<Mutex<C>>,
    base: usize,
    len: usize,
}

impl<C> Clone for ModelRegisters<C> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), ..*self }
    }
}

impl<C: Card> ModelRegisters<C> {
    fn read(&self, offset: usize, width: usize) -> u64 {
        let ones = u64::MAX >> (64 - 8 * width);
        if offset + width > self.len {
            return ones;
        }
        let mut state = self.state.lock();
        match self.base + offset {
            at @ CONFIG..BAR_LEN => {
                let byte = |at: usize| state.config().get(at).copied().unwrap_or(0);
                let bytes = (0..width).rev().map(|offset| byte(at - CONFIG + offset));
                let value = bytes.fold(0, |value, byte| value << 8 | u64::from(byte));
                state.common().lies.number(value) & ones
            }
            at @ COMMON..NOTIFY => state.common().read_common(at) & ones,
            _ => 0,
        }
    }

    fn write(&self, offset: usize, width: usize, value: u64) {
        if offset + width > self.len {
            return;
        }
        let mut state = self.state.lock();
        match self.base + offset {
            at @ COMMON..NOTIFY => {
                state.common().write_common(at, value);
                state.work();
            }
            NOTIFY..CONFIG => {
                state.common().notices += 1;
                state.work();
            }
            _ => {}
        }
    }
}

impl<C: Card + 'static> Registers for ModelRegisters<C> {
    fn len(&self) -> usize {
        self.len
    }

    fn window(&self, offset: usize, len: usize) -> Option<Self> {
        (offset.checked_add(len)? <= self.len).then(|| Self {
            state: Arc::clone(&self.state),
            base: self.base + offset,
            len,
        })
    }

    fn read8(&self, offset: usize) -> u8 {
        self.read(offset, 1) as u8
    }

    fn read16(&self, offset: usize) -> u16 {
        self.read(offset, 2) as u16
    }

    fn read32(&self, offset: usize) -> u32 {
        self.read(offset, 4) as u32
    }

    fn read64(&self, offset: usize) -> u64 {
        self.read(offset, 8)
    }

    fn write8(&self, offset: usize, value: u8) {
        self.write(offset, 1, value.into());
    }

    fn write16(&self, offset: usize, value: u16) {
        self.write(offset, 2, value.into());
    }

    fn write32(&self, offset: usize, value: u32) {
        self.write(offset, 4, value.into());
    }

    fn write64(&self, offset: usize, value: u64) {
        self.write(offset, 8, value);
    }
}
