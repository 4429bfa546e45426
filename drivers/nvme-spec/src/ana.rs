//! Asymmetric Namespace Access (base specification 2.0 §5.16.1.13, §8.1).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Status;

/// How a controller reaches a group of namespaces (§8.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum AnaState {
    /// As well as can be.
    #[default]
    Optimized = 0x01,
    /// In full, but another controller should be preferred.
    NonOptimized = 0x02,
    /// Not now.
    Inaccessible = 0x03,
    /// Never again.
    PersistentLoss = 0x04,
    /// On the way from one state to another.
    Change = 0x0f,
}

impl AnaState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Optimized,
        Self::NonOptimized,
        Self::Inaccessible,
        Self::PersistentLoss,
        Self::Change,
    ];

    /// The state of a descriptor's lower four bits, if it is one.
    pub fn from_bits(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == bits & 0xf)
    }

    /// How commands end that are not carried out for the state's sake (§8.1.3.3 to §8.1.3.5): to be
    /// retried elsewhere, so never with "do not retry". `None` while the namespaces are accessible.
    pub const fn refusal(self) -> Option<Status> {
        match self {
            Self::Optimized | Self::NonOptimized => None,
            Self::Inaccessible => Some(Status::ANA_INACCESSIBLE),
            Self::PersistentLoss => Some(Status::ANA_PERSISTENT_LOSS),
            Self::Change => Some(Status::ANA_TRANSITION),
        }
    }
}

/// Head of the Asymmetric Namespace Access log page, 16 bytes (§5.16.1.13).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct AnaHeader {
    /// Changes of the page since the last controller level reset.
    pub change_count: U64,
    /// Number of group descriptors that follow.
    pub groups: U16,
    /// Reserved.
    pub reserved10: [u8; 6],
}

/// A group of namespaces in that log page, 32 bytes; its namespace identifiers follow, four bytes
/// each, ascending (§5.16.1.13).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct AnaGroup {
    /// The group's identifier, from 1.
    pub anagrpid: U32,
    /// Namespace identifiers that follow.
    pub nsids: U32,
    /// The page's change count when this descriptor changed last, 0 if it has not.
    pub change_count: U64,
    /// Bits 3:0 the [`AnaState`].
    pub state: u8,
    /// Reserved.
    pub reserved17: [u8; 15],
}

const _: () = assert!(size_of::<AnaHeader>() == 16);
const _: () = assert!(size_of::<AnaGroup>() == 32);
