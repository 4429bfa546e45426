//! The NVMe specification as types: registers, commands, completions, data structures, codes.
//!
//! Covers the NVM Express base specification 2.0, the NVM command set 1.0, the parts of the PCIe
//! transport 1.0 that name registers, and the fabrics commands that every transport shares.
//! Section numbers refer to the base specification unless they say "NVM" or "PCIe".
//!
//! 1. Every layout is a plain struct of little-endian fields, checked at compile time for its size
//!    and in the tests for its offsets. All fields have alignment 1, so that a structure can be
//!    viewed at any place of a packet or buffer.
//! 2. Unknown values are representable: opcodes, identifiers and statuses are newtypes with named
//!    constants, never enums made of bytes from a device.
//! 3. No state, no I/O, no `unsafe`; but for what driver and initiator have to remember alike of
//!    errors that are injected into their queues ([`InjectedErrors`]).
//!
//! Neighbours: the driver (`drivers/nvme`), its model (`tests/models`) and the NVMe-oF target and
//! initiator (`runtime/nvmf`).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ana;
mod arbitration;
mod cmb;
mod codes;
mod command;
mod completion;
pub mod fabrics;
mod features;
pub mod identify;
mod injection;
pub mod log_page;
pub mod manage;
mod nvm;
pub mod registers;
pub mod reservation;
mod sgl;
mod status;
#[cfg(test)]
mod tests;
mod zns;

pub use ana::{AnaGroup, AnaHeader, AnaState};
pub use arbitration::{Arbitration, QueuePriority};
pub use cmb::{CmbControl, CmbLocation, CmbSize};
pub use codes::{AdminOpcode, Cns, Csi, FeatureId, LogPageId, NvmOpcode};
pub use command::{Command, QueueId};
pub use completion::Completion;
pub use fabrics::FabricsType;
pub use features::{AsyncEvent, QueueCounts};
pub use identify::{IdentifyController, IdentifyNamespace};
pub use injection::{ErrorChange, Fate, Hold, InjectedError, InjectedErrors, QueueKind};
pub use nvm::{CopyRange, DSM_RANGES_MAX, DsmAttributes, DsmRange, IdentifyNvmController, IoFlags};
pub use registers::{Aqa, Cap, Cc, Csts, Shutdown, Version};
pub use sgl::SglDescriptor;
pub use status::{Status, StatusType};
pub use zns::{
    IdentifyZonedController, IdentifyZonedNamespace, ZoneAction, ZoneDescriptor, ZoneReportHeader,
    ZoneState, ZonedLbaFormat,
};

/// The memory page size this project programs (CC.MPS = 0), bytes.
pub const PAGE_SIZE: usize = 4096;

/// A namespace identifier that stands for all namespaces (§3.2.1.2).
pub const NSID_ALL: u32 = 0xffff_ffff;

/// Declares named constants of a newtype, each documented by the name it is displayed with.
macro_rules! named {
    ($type:ident, $inner:ty { $($name:ident = $value:expr, $text:literal;)* }) => {
        impl $type {
            $(
                #[doc = concat!(stringify!($value), ": ", $text, ".")]
                pub const $name: Self = Self($value);
            )*

            /// The specification's name for the value, if it has one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{:#04x}", self.0),
                }
            }
        }
    };
}
use named;

/// The text of a fixed field: up to the first NUL, without trailing spaces; `None` if that is not
/// ASCII (§1.4.2, ASCII strings).
pub fn ascii_field(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    let text = core::str::from_utf8(&field[..end]).ok()?;
    text.is_ascii().then(|| text.trim_end_matches(' '))
}

/// Fills a fixed ASCII field, padded with spaces; what does not fit is cut off.
pub fn set_ascii_field(field: &mut [u8], text: &str) {
    field.fill(b' ');
    let len = text.len().min(field.len());
    field[..len].copy_from_slice(&text.as_bytes()[..len]);
}
