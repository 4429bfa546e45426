#![expect(unsafe_code, reason = "makes device registers reachable")]

//! Device memory, mapped where it is.

use core::ptr::NonNull;

use basalt_env::{BarError, CoreId, MessageTarget, Mmio, MmioMap, PhysAddr};

use crate::apic::WAKE_VECTOR;
use crate::machine;
use crate::memory::Span;
use crate::paging::ADDRESS_SPACE;

/// Maps device memory at its own address, uncached.
#[derive(Clone, Copy, Debug)]
pub struct IdentityMap(());

impl IdentityMap {
    /// Only a started machine has one.
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl MmioMap for IdentityMap {
    type Registers = Mmio;

    fn message_target(&self, core: CoreId) -> Option<MessageTarget> {
        let apic_id = machine::apic_id_of(core)?;
        // Without interrupt remapping a message names 8 bits of the identifier (SDM §11.11.1).
        let id = u8::try_from(apic_id).ok().filter(|&id| id != u8::MAX)?;
        let address = 0xfee0_0000 | u64::from(id) << 12;
        Some(MessageTarget { address, data: WAKE_VECTOR.into() })
    }

    fn map(&self, base: PhysAddr, len: usize) -> Result<Mmio, BarError> {
        let start = NonNull::new(base.as_u64() as *mut u8).ok_or(BarError::Unassigned)?;
        let span = Span::new(base.as_u64(), len as u64);
        let mut space = ADDRESS_SPACE.lock();
        let space = space.as_mut().ok_or(BarError::Unmappable)?;
        space.map_device(span).map_err(|_| BarError::Unmappable)?;
        // SAFETY: the range was just mapped uncached for good, and `map_device` refuses ranges
        // that are memory, so no Rust object lives in it.
        Ok(unsafe { Mmio::new(start, len) })
    }
}
