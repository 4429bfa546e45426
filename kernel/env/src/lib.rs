//! The environment seam: what a driver or the runtime may ask of the machine it runs on.
//!
//! 1. Cold operations (PCI configuration, mapping a BAR) are traits with one implementation per
//!    environment: [`ConfigSpace`], [`MmioMap`], [`Device`].
//! 2. Hot operations inline: [`Registers`] is an associated type, and [`DmaBuf`], [`DmaMem`],
//!    [`PhysAddr`] and [`Instant`] are the same concrete types in every environment.
//! 3. The environment is a value, never a global: a test may hold two machines side by side.
//! 4. Memory a device can reach is only ever named by its owner. What a device or a peer says is
//!    [`Untrusted`] until it has been checked.
//!
//! Neighbours: implemented by `kernel/bare` and `kernel/hosted`, used by every driver and the
//! runtime. Depends on no other crate of the project.
#![no_std]

extern crate alloc;

mod addr;
mod cpu;
mod crc32c;
mod device;
pub mod dma;
mod instant;
mod log_flags;
mod log_lines;
mod mmio;
mod numa;
mod order;
mod rtc;
mod ticks;
mod untrusted;
mod work;

pub use addr::PhysAddr;
pub use cpu::CoreId;
pub use crc32c::crc32c_update;
pub use device::{
    BarError, ConfigSpace, Device, IoPorts, MessageTarget, MmioMap, PciAddress, WakeMessage,
};
pub use dma::{
    DmaArena, DmaBuf, DmaMem, DmaPool, DmaRun, DmaSlice, DmaStats, DmaTaken, OutOfDmaMemory,
    Parcel, SharedRegion, SharedWords,
};
pub use instant::Instant;
pub use log_flags::{LOG_FLAGS, clear_log_flag, log_flag, logs_details_of, set_log_flag};
pub use log_lines::{
    LOG_LINES_MAX, LOG_MESSAGE_MAX, LogLine, keep_log_line, log_lines, log_lines_count,
    log_lines_lost,
};
pub use mmio::{Mmio, Registers};
pub use numa::{Nearness, Node, Numa};
pub use order::sort_few_by_key;
pub use rtc::RtcRegisters;
pub use ticks::Ticks;
pub use untrusted::Untrusted;
pub use work::Work;
