//! Reservations (§7.2–7.5, §8.19).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Command, named};

/// A kind of reservation (RTYPE, §7.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReservationType(pub u8);

named!(ReservationType, u8 {
    WRITE_EXCLUSIVE = 1, "Write Exclusive";
    EXCLUSIVE_ACCESS = 2, "Exclusive Access";
    WRITE_EXCLUSIVE_REGISTRANTS = 3, "Write Exclusive - Registrants Only";
    EXCLUSIVE_ACCESS_REGISTRANTS = 4, "Exclusive Access - Registrants Only";
    WRITE_EXCLUSIVE_ALL = 5, "Write Exclusive - All Registrants";
    EXCLUSIVE_ACCESS_ALL = 6, "Exclusive Access - All Registrants";
});

impl ReservationType {
    /// Whether it excludes reads too, and not only writes.
    pub const fn excludes_reads(self) -> bool {
        matches!(
            self,
            Self::EXCLUSIVE_ACCESS
                | Self::EXCLUSIVE_ACCESS_REGISTRANTS
                | Self::EXCLUSIVE_ACCESS_ALL
        )
    }

    /// Whether registrants have the same access as the holder.
    pub const fn admits_registrants(self) -> bool {
        !matches!(self, Self::WRITE_EXCLUSIVE | Self::EXCLUSIVE_ACCESS)
    }

    /// Whether every registrant is a holder.
    pub const fn is_held_by_all(self) -> bool {
        matches!(self, Self::WRITE_EXCLUSIVE_ALL | Self::EXCLUSIVE_ACCESS_ALL)
    }
}

/// What a Reservation Register does (RREGA, §7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegisterAction {
    /// Registers a key.
    Register,
    /// Unregisters.
    Unregister,
    /// Replaces the key.
    Replace,
}

/// What a Reservation Acquire does (RACQA, §7.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcquireAction {
    /// Acquires a reservation.
    Acquire,
    /// Takes the reservation, or the registration, away from others.
    Preempt,
    /// Aborts their commands as well.
    PreemptAndAbort,
}

/// What a Reservation Release does (RRELA, §7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReleaseAction {
    /// Releases the reservation.
    Release,
    /// Clears all registrations too.
    Clear,
}

/// What a Reservation Register says of power loss (CPTPL, §7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PersistChange {
    /// Nothing.
    None,
    /// Registrations and reservation end with it.
    Release,
    /// They survive it.
    Persist,
}

/// The fields of dword 10 of reservation commands. `None` stands for a reserved value.
impl Command {
    /// RREGA of a Reservation Register.
    pub const fn register_action(&self) -> Option<RegisterAction> {
        match self.cdw10.get() & 7 {
            0 => Some(RegisterAction::Register),
            1 => Some(RegisterAction::Unregister),
            2 => Some(RegisterAction::Replace),
            _ => None,
        }
    }

    /// RACQA of a Reservation Acquire.
    pub const fn acquire_action(&self) -> Option<AcquireAction> {
        match self.cdw10.get() & 7 {
            0 => Some(AcquireAction::Acquire),
            1 => Some(AcquireAction::Preempt),
            2 => Some(AcquireAction::PreemptAndAbort),
            _ => None,
        }
    }

    /// RRELA of a Reservation Release.
    pub const fn release_action(&self) -> Option<ReleaseAction> {
        match self.cdw10.get() & 7 {
            0 => Some(ReleaseAction::Release),
            1 => Some(ReleaseAction::Clear),
            _ => None,
        }
    }

    /// CPTPL of a Reservation Register.
    pub const fn persist_change(&self) -> Option<PersistChange> {
        match self.cdw10.get() >> 30 {
            0 => Some(PersistChange::None),
            2 => Some(PersistChange::Release),
            3 => Some(PersistChange::Persist),
            _ => None,
        }
    }

    /// Whether the current key does not matter (IEKEY).
    pub const fn ignores_key(&self) -> bool {
        self.cdw10.get() & 1 << 3 != 0
    }

    /// RTYPE of a Reservation Acquire or Release.
    pub const fn reservation_type(&self) -> Option<ReservationType> {
        let kind = ReservationType((self.cdw10.get() >> 8) as u8);
        if kind.name().is_some() { Some(kind) } else { None }
    }

    /// Bytes that a Reservation Report asks for (NUMD).
    pub const fn report_bytes(&self) -> u64 {
        (self.cdw10.get() as u64 + 1) * 4
    }

    /// Whether a Reservation Report asks for 128-bit host identifiers (EDS).
    pub const fn is_extended_report(&self) -> bool {
        self.cdw11.get() & 1 != 0
    }
}

/// Data of a Reservation Register or Acquire, 16 bytes (§7.2, §7.3). Release has the first key
/// only.
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
pub struct ReservationKeys {
    /// The host's key (CRKEY).
    pub current: U64,
    /// The one to register (NRKEY), or that of whom to preempt (PRKEY).
    pub other: U64,
}

/// Head of the extended Reservation Status data structure, 64 bytes (§7.5); a
/// [`RegisteredController`] for each registrant follows.
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReservationStatus {
    /// Counts what changes registrations.
    pub generation: U32,
    /// The reservation's [`ReservationType`]; 0 if there is none.
    pub kind: u8,
    /// How many structures follow, whether or not they all fit.
    pub registered: U16,
    /// Reserved.
    pub reserved7: [u8; 2],
    /// 1 if registrations and reservation survive a loss of power.
    pub ptpls: u8,
    /// Reserved.
    pub reserved10: [u8; 54],
}

/// A registrant, 64 bytes (§7.5).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RegisteredController {
    /// The controller; 0xffff in the dynamic controller model.
    pub cntlid: U16,
    /// Bit 0: its host holds the reservation.
    pub status: u8,
    /// Reserved.
    pub reserved3: [u8; 5],
    /// The host's key.
    pub key: U64,
    /// The host.
    pub hostid: [u8; 16],
    /// Reserved.
    pub reserved32: [u8; 32],
}

/// What a Reservation Notification tells of (§5.16.1.24).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReservationNotice(pub u8);

named!(ReservationNotice, u8 {
    REGISTRATION_PREEMPTED = 1, "Registration Preempted";
    RESERVATION_RELEASED = 2, "Reservation Released";
    RESERVATION_PREEMPTED = 3, "Reservation Preempted";
});

impl ReservationNotice {
    /// Its bit in the Reservation Notification Mask feature (§5.27.1.26).
    pub const fn mask(self) -> u32 {
        1 << (self.0 & 3)
    }

    /// The bits of all notices.
    pub const MASK_ALL: u32 = 0b1110;
}

/// Reservation Notification log page, 64 bytes (§5.16.1.24).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReservationNotification {
    /// Counts notices from 1; 0 if there is none.
    pub count: U64,
    /// The [`ReservationNotice`].
    pub notice: u8,
    /// How many more there are, 255 for more than that.
    pub available: u8,
    /// Reserved.
    pub reserved10: [u8; 2],
    /// The namespace.
    pub nsid: U32,
    /// Reserved.
    pub reserved16: [u8; 48],
}

impl Default for ReservationStatus {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

impl Default for RegisteredController {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

impl Default for ReservationNotification {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

const _: () = assert!(size_of::<ReservationKeys>() == 16);
const _: () = assert!(size_of::<ReservationStatus>() == 64);
const _: () = assert!(size_of::<RegisteredController>() == 64);
const _: () = assert!(size_of::<ReservationNotification>() == 64);
