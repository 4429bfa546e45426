//! Memory that devices reach: [`DmaArena`] -> [`DmaPool`] -> [`DmaBuf`] and [`DmaMem`].
//!
//! A [`DmaBuf`] is owned memory: whoever holds it may read and write it, and a command that points
//! a device at it must own it until the device is done. A [`DmaMem`] is memory shared with a
//! device for good (rings, doorbell shadows); it is only accessed by value, never by reference.
//! A [`Parcel`] is a [`DmaBuf`] that goes to another core; its memory returns to its own pool from
//! wherever it is dropped. A [`DmaSlice`] is a part of a [`DmaBuf`] that several hold on one core,
//! to read; a [`DmaRun`] is how such bytes, or others, are handed on. A [`SharedRegion`] is memory
//! that all cores copy to and from, as if it were a device.

mod buddy;
mod buf;
mod cache;
mod copy;
mod mem;
mod parcel;
mod pool;
mod returns;
mod shared;
mod slice;
#[cfg(test)]
mod tests;
mod words;

pub use buddy::DmaTaken;
pub use buf::DmaBuf;
pub use mem::DmaMem;
pub use parcel::Parcel;
pub use pool::{DmaArena, DmaPool, DmaStats, OutOfDmaMemory};
pub use shared::SharedRegion;
pub use slice::{DmaRun, DmaSlice};
pub use words::SharedWords;
