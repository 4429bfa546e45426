//! What a host administers: formats, namespaces, firmware, self-tests and sanitizing (§5.8,
//! §5.12–5.14, §5.22–5.24, §8.21, §8.23, NVM §4.1.5).

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::identify::IDENTIFY_LEN;
use super::{AdminOpcode, Command, Csi, IdentifyController};

/// What becomes of the data of a namespace that is formatted (SES, §5.14).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SecureErase {
    /// It may still be found on the medium.
    #[default]
    None,
    /// It is erased, by whatever means.
    UserData,
    /// Its key is destroyed.
    Cryptographic,
}

impl SecureErase {
    const fn bits(self) -> u32 {
        match self {
            Self::None => 0,
            Self::UserData => 1,
            Self::Cryptographic => 2,
        }
    }
}

/// Where the metadata of formatted blocks is (MSET).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MetadataPlace {
    /// In a buffer of its own.
    #[default]
    Separate,
    /// Behind each block's data.
    InLine,
}

/// Where in the metadata protection information is (PIL).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProtectionPlace {
    /// In its last bytes.
    #[default]
    Last,
    /// In its first bytes.
    First,
}

/// What a format chooses beside the LBA format (§5.14).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FormatSettings {
    /// What becomes of the data.
    pub erase: SecureErase,
    /// Where metadata is.
    pub metadata: MetadataPlace,
    /// Type of end-to-end protection, 1 to 3; 0 for none.
    pub protection: u8,
    /// Where in the metadata that is.
    pub protection_place: ProtectionPlace,
}

/// What blocks are to be like, by either of its names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockFormat {
    /// The index of an LBA format, 0 to 63.
    Index(u8),
    /// Data bytes per block, with no metadata: the fastest format of that size.
    Size(u32),
}

/// What a format reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormatTarget {
    /// The namespace of that identifier, which is not [`NSID_ALL`](super::NSID_ALL).
    Namespace(u32),
    /// All namespaces.
    All,
}

/// What becomes of a firmware image (Commit Action, §5.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirmwareAction {
    /// The downloaded image goes to the slot, which is not activated.
    Store,
    /// It goes to the slot, which is activated at the next reset.
    StoreAndActivateAtReset,
    /// The slot as it is is activated at the next reset.
    ActivateAtReset,
    /// The downloaded image, if there is one, goes to the slot, which is activated now.
    ActivateNow,
}

impl FirmwareAction {
    /// The action's number.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Store => 0,
            Self::StoreAndActivateAtReset => 1,
            Self::ActivateAtReset => 2,
            Self::ActivateNow => 3,
        }
    }
}

/// What it takes for a committed image to run (§5.12.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// It runs now.
    Done,
    /// It is kept; nobody has asked for it to run.
    NotAsked,
    /// A reset of the controller.
    ControllerReset,
    /// A reset of the whole NVM subsystem.
    SubsystemReset,
    /// A conventional reset: the device's slot, or the machine.
    ConventionalReset,
    /// A reset of the controller: to run at once it would take longer than the controller has said
    /// that commands may be delayed for (MTFA).
    ResetForLackOfTime,
}

/// What a device is to do about testing itself (STC, §5.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelfTest {
    /// A test of at most two minutes.
    Short,
    /// A test of as many minutes as EDSTT says.
    Extended,
    /// End the test that is under way.
    Abort,
}

impl SelfTest {
    /// Its code.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Short => 1,
            Self::Extended => 2,
            Self::Abort => 0xf,
        }
    }
}

/// How a subsystem is sanitized (SANACT, §5.24).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SanitizeAction {
    /// Not at all: a failed sanitize operation is left behind.
    ExitFailure,
    /// All blocks are erased as the medium erases them.
    BlockErase,
    /// All blocks are overwritten.
    Overwrite(OverwritePasses),
    /// All keys are destroyed.
    CryptoErase,
}

/// How blocks are overwritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverwritePasses {
    /// With what.
    pub pattern: u32,
    /// How often, 1 to 16.
    pub passes: u8,
    /// Whether each pass has the inverse of the last one's pattern.
    pub inverted: Inverted,
}

/// Whether the pattern is inverted between passes (OIPBP).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Inverted {
    /// It is not.
    #[default]
    No,
    /// It is.
    Yes,
}

/// Whether a sanitize operation that fails can be left behind (AUSE).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnFailure {
    /// Only a sanitize operation that goes well lets the media be used again.
    #[default]
    Restricted,
    /// [`SanitizeAction::ExitFailure`] does so too.
    Unrestricted,
}

/// Whether blocks are deallocated after they were sanitized (NDAS).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Deallocation {
    /// They are.
    #[default]
    After,
    /// They are not, so that the result can be looked at.
    No,
}

/// A sanitize operation (§5.24).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sanitize {
    /// How.
    pub action: SanitizeAction,
    /// What if it fails.
    pub on_failure: OnFailure,
    /// What of the blocks.
    pub deallocation: Deallocation,
}

impl Sanitize {
    const fn dwords(self) -> (u32, u32) {
        let ause = (matches!(self.on_failure, OnFailure::Unrestricted) as u32) << 3;
        let ndas = (matches!(self.deallocation, Deallocation::No) as u32) << 9;
        match self.action {
            SanitizeAction::ExitFailure => (1, 0),
            SanitizeAction::BlockErase => (2 | ause | ndas, 0),
            SanitizeAction::CryptoErase => (4 | ause | ndas, 0),
            SanitizeAction::Overwrite(OverwritePasses { pattern, passes, inverted }) => {
                // 16 passes are told as 0.
                let count = (passes as u32 & 0xf) << 4;
                let inverts = (matches!(inverted, Inverted::Yes) as u32) << 8;
                (3 | ause | ndas | count | inverts, pattern)
            }
        }
    }
}

bitflags! {
    /// Format NVM attributes (FNA).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct FormatAttributes: u8 {
        /// A format of one namespace is one of all.
        const FORMATS_ALL = 1 << 0;
        /// A secure erase of one namespace is one of all.
        const ERASES_ALL = 1 << 1;
        /// Cryptographic erase is supported.
        const CRYPTOGRAPHIC = 1 << 2;
        /// [`NSID_ALL`](super::NSID_ALL) is not supported.
        const NO_BROADCAST = 1 << 3;
    }

    /// Sanitize capabilities (SANICAP).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SanitizeCapabilities: u32 {
        /// Cryptographic erase.
        const CRYPTO_ERASE = 1 << 0;
        /// Block erase.
        const BLOCK_ERASE = 1 << 1;
        /// Overwrite.
        const OVERWRITE = 1 << 2;
        /// Blocks cannot be kept from being deallocated.
        const ALWAYS_DEALLOCATES = 1 << 29;
    }
}

/// What a controller says of firmware updates (FRMW).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirmwareUpdates {
    /// Slots, 1 to 7.
    pub slots: u8,
    /// Whether slot 1 can only be read.
    pub first_is_fixed: bool,
    /// Whether images can be activated without a reset.
    pub activates_now: bool,
}

impl IdentifyController {
    /// Format NVM attributes.
    pub const fn format_attributes(&self) -> FormatAttributes {
        FormatAttributes::from_bits_retain(self.fna)
    }

    /// Sanitize capabilities.
    pub const fn sanitize_capabilities(&self) -> SanitizeCapabilities {
        SanitizeCapabilities::from_bits_retain(self.sanicap.get())
    }

    /// Firmware updates.
    pub const fn firmware_updates(&self) -> FirmwareUpdates {
        FirmwareUpdates {
            slots: self.frmw >> 1 & 7,
            first_is_fixed: self.frmw & 1 != 0,
            activates_now: self.frmw & 1 << 4 != 0,
        }
    }

    /// Bytes that each piece of a firmware image starts at a multiple of, and has a multiple of
    /// (FWUG): 4 if the controller does not mind. One that tells nothing is taken to want a page,
    /// as common tools send them.
    pub const fn firmware_granularity(&self) -> u32 {
        match self.fwug {
            0 => 4096,
            0xff => 4,
            pages => pages as u32 * 4096,
        }
    }
}

/// A list of up to 2,047 controllers, ascending (§4.5.1).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ControllerList {
    /// How many there are.
    pub count: U16,
    /// Their identifiers (CNTLID).
    pub cntlid: [U16; 2047],
}

const _: () = assert!(size_of::<ControllerList>() == IDENTIFY_LEN);

impl ControllerList {
    /// The list of one controller.
    pub fn one(cntlid: u16) -> Self {
        let mut list = Self::new_zeroed();
        list.count = U16::new(1);
        list.cntlid[0] = U16::new(cntlid);
        list
    }

    /// The identifiers; a count beyond the list ends with it.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.cntlid.iter().take(self.count.get().into()).map(|cntlid| cntlid.get())
    }
}

impl Default for ControllerList {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Namespace Management and Attachment: the operation (SEL).
const CREATE: u32 = 0;
const DELETE: u32 = 1;
const ATTACH: u32 = 0;
const DETACH: u32 = 1;

impl Command {
    /// Format NVM (§5.14) of `nsid` with LBA format `lbaf` (0 to 63).
    pub fn format_nvm(nsid: u32, lbaf: u8, settings: FormatSettings) -> Self {
        let lbaf = u32::from(lbaf);
        let in_line = u32::from(settings.metadata == MetadataPlace::InLine);
        let first = u32::from(settings.protection_place == ProtectionPlace::First);
        let cdw10 = lbaf & 0xf
            | in_line << 4
            | u32::from(settings.protection & 7) << 5
            | first << 8
            | settings.erase.bits() << 9
            | (lbaf >> 4 & 3) << 12;
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(cdw10),
            ..Self::admin(AdminOpcode::FORMAT_NVM)
        }
    }

    /// Index of the LBA format that a Format NVM asks for, 0 to 63.
    pub const fn format_index(&self) -> u8 {
        let cdw10 = self.cdw10.get();
        (cdw10 & 0xf | cdw10 >> 8 & 0x30) as u8
    }

    /// Namespace Management (§5.23): create. The data are the host's fields of an
    /// [`IdentifyNamespace`](super::IdentifyNamespace); dword 0 of the completion is the
    /// identifier.
    pub fn create_namespace(csi: Csi) -> Self {
        Self {
            cdw10: U32::new(CREATE),
            cdw11: U32::new(u32::from(csi.0) << 24),
            ..Self::admin(AdminOpcode::NAMESPACE_MANAGEMENT)
        }
    }

    /// Namespace Management: delete.
    pub fn delete_namespace(nsid: u32) -> Self {
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(DELETE),
            ..Self::admin(AdminOpcode::NAMESPACE_MANAGEMENT)
        }
    }

    /// Namespace Attachment (§5.22): attach `nsid` to the controllers of the data, a
    /// [`ControllerList`].
    pub fn attach_namespace(nsid: u32) -> Self {
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(ATTACH),
            ..Self::admin(AdminOpcode::NAMESPACE_ATTACHMENT)
        }
    }

    /// Namespace Attachment: detach likewise.
    pub fn detach_namespace(nsid: u32) -> Self {
        Self { cdw10: U32::new(DETACH), ..Self::attach_namespace(nsid) }
    }

    /// The operation of a Namespace Management or Attachment (SEL).
    pub const fn namespace_operation(&self) -> u32 {
        self.cdw10.get() & 0xf
    }

    /// Firmware Image Download (§5.13) of `bytes` (a multiple of 4, at least 4) to `offset` (a
    /// multiple of 4) of the image.
    pub fn firmware_download(offset: u32, bytes: u32) -> Self {
        Self {
            cdw10: U32::new((bytes / 4).saturating_sub(1)),
            cdw11: U32::new(offset / 4),
            ..Self::admin(AdminOpcode::FIRMWARE_DOWNLOAD)
        }
    }

    /// Firmware Commit (§5.12) to `slot` (1 to 7, or 0 for one of the controller's choice).
    pub fn firmware_commit(slot: u8, action: FirmwareAction) -> Self {
        let cdw10 = u32::from(slot & 7) | action.bits() << 3;
        Self { cdw10: U32::new(cdw10), ..Self::admin(AdminOpcode::FIRMWARE_COMMIT) }
    }

    /// Device Self-test (§5.8): of the controller alone if `nsid` is 0, with all namespaces if it
    /// is [`NSID_ALL`](super::NSID_ALL).
    pub fn self_test(nsid: u32, test: SelfTest) -> Self {
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(test.bits()),
            ..Self::admin(AdminOpcode::DEVICE_SELF_TEST)
        }
    }

    /// Sanitize (§5.24).
    pub fn sanitize(sanitize: Sanitize) -> Self {
        let (cdw10, cdw11) = sanitize.dwords();
        Self {
            cdw10: U32::new(cdw10),
            cdw11: U32::new(cdw11),
            ..Self::admin(AdminOpcode::SANITIZE)
        }
    }
}
