use core::fmt;

use super::named;

/// A status code type: which table a status code belongs to (§3.3.3.2.1, figure 92).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StatusType(pub u8);

named!(StatusType, u8 {
    GENERIC = 0x0, "generic";
    COMMAND_SPECIFIC = 0x1, "command specific";
    MEDIA = 0x2, "media or data integrity";
    PATH = 0x3, "path related";
    VENDOR = 0x7, "vendor specific";
});

/// How a command ended: the status field without the phase tag (§3.3.3.2.1).
///
/// Bits 7:0 status code, 10:8 type, 12:11 command retry delay index, 13 more, 14 do not retry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(u16);

impl Status {
    const MORE: u16 = 1 << 13;
    const DNR: u16 = 1 << 14;

    /// A status of type `sct` (only its low 3 bits count) and code `sc`, to be retried.
    pub const fn new(sct: u8, sc: u8) -> Self {
        Self((sct as u16 & 7) << 8 | sc as u16)
    }

    /// The status of 15 bits as they stand above the phase tag; a set top bit is dropped.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0x7fff)
    }

    /// The 15 bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Status code type.
    pub const fn sct(self) -> u8 {
        (self.0 >> 8) as u8 & 7
    }

    /// Status code.
    pub const fn sc(self) -> u8 {
        self.0 as u8
    }

    /// Command retry delay: 0 for at once, else 1–3 for the controller's CRDT1–CRDT3.
    pub const fn crd(self) -> u8 {
        (self.0 >> 11) as u8 & 3
    }

    /// Whether the error information log page tells more.
    pub const fn more(self) -> bool {
        self.0 & Self::MORE != 0
    }

    /// Whether the same command would fail again ("do not retry").
    pub const fn dnr(self) -> bool {
        self.0 & Self::DNR != 0
    }

    /// The same status with "do not retry" set.
    #[must_use]
    pub const fn with_dnr(self) -> Self {
        Self(self.0 | Self::DNR)
    }

    /// The same status with "more" set.
    #[must_use]
    pub const fn with_more(self) -> Self {
        Self(self.0 | Self::MORE)
    }

    /// The same status with the command retry delay `crd`, of which the low 2 bits count.
    #[must_use]
    pub const fn with_crd(self, crd: u8) -> Self {
        Self(self.0 & !(3 << 11) | (crd as u16 & 3) << 11)
    }

    /// Whether the command succeeded.
    pub const fn is_success(self) -> bool {
        self.code() == 0
    }

    /// Whether type and code are those of `other`, whatever the other bits say.
    pub const fn is(self, other: Self) -> bool {
        self.code() == other.code()
    }

    const fn code(self) -> u16 {
        self.0 & 0x7ff
    }
}

macro_rules! statuses {
    ($($name:ident = $sct:literal, $sc:literal, $text:literal;)*) => {
        impl Status {
            $(
                #[doc = concat!("Type ", $sct, ", code ", $sc, ": ", $text, ".")]
                pub const $name: Self = Self::new($sct, $sc);
            )*

            /// The specification's name for type and code, if it has one. Codes whose meaning
            /// depends on the command set (type 1, from 0x80) are named as for the NVM set.
            pub const fn name(self) -> Option<&'static str> {
                match (self.sct(), self.sc()) {
                    $(($sct, $sc) => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0, 0x00, "success";
    INVALID_OPCODE = 0, 0x01, "invalid command opcode";
    INVALID_FIELD = 0, 0x02, "invalid field in command";
    CID_CONFLICT = 0, 0x03, "command identifier conflict";
    DATA_TRANSFER_ERROR = 0, 0x04, "data transfer error";
    POWER_LOSS = 0, 0x05, "aborted by power loss notification";
    INTERNAL_ERROR = 0, 0x06, "internal error";
    ABORT_REQUESTED = 0, 0x07, "abort requested";
    ABORTED_SQ_DELETION = 0, 0x08, "aborted by submission queue deletion";
    FAILED_FUSED = 0, 0x09, "aborted by failed fused command";
    MISSING_FUSED = 0, 0x0a, "aborted by missing fused command";
    INVALID_NAMESPACE = 0, 0x0b, "invalid namespace or format";
    SEQUENCE_ERROR = 0, 0x0c, "command sequence error";
    SGL_SEGMENT_INVALID = 0, 0x0d, "invalid SGL segment descriptor";
    SGL_COUNT_INVALID = 0, 0x0e, "invalid number of SGL descriptors";
    SGL_LENGTH_INVALID = 0, 0x0f, "data SGL length invalid";
    SGL_METADATA_LENGTH_INVALID = 0, 0x10, "metadata SGL length invalid";
    SGL_TYPE_INVALID = 0, 0x11, "SGL descriptor type invalid";
    PRP_OFFSET_INVALID = 0, 0x13, "PRP offset invalid";
    OPERATION_DENIED = 0, 0x15, "operation denied";
    SGL_OFFSET_INVALID = 0, 0x16, "SGL offset invalid";
    HOST_ID_INCONSISTENT = 0, 0x18, "host identifier inconsistent format";
    KEEP_ALIVE_EXPIRED = 0, 0x19, "keep alive timer expired";
    KEEP_ALIVE_INVALID = 0, 0x1a, "keep alive timeout invalid";
    SANITIZE_FAILED = 0, 0x1c, "sanitize failed";
    SANITIZE_IN_PROGRESS = 0, 0x1d, "sanitize in progress";
    SGL_GRANULARITY_INVALID = 0, 0x1e, "SGL data block granularity invalid";
    WRITE_PROTECTED = 0, 0x20, "namespace is write protected";
    INTERRUPTED = 0, 0x21, "command interrupted";
    TRANSIENT_TRANSPORT = 0, 0x22, "transient transport error";
    HOST_ID_NOT_INITIALIZED = 0, 0x27, "host identifier not initialized";
    LBA_OUT_OF_RANGE = 0, 0x80, "LBA out of range";
    CAPACITY_EXCEEDED = 0, 0x81, "capacity exceeded";
    NAMESPACE_NOT_READY = 0, 0x82, "namespace not ready";
    RESERVATION_CONFLICT = 0, 0x83, "reservation conflict";
    FORMAT_IN_PROGRESS = 0, 0x84, "format in progress";

    CQ_INVALID = 1, 0x00, "completion queue invalid";
    INVALID_QUEUE_ID = 1, 0x01, "invalid queue identifier";
    INVALID_QUEUE_SIZE = 1, 0x02, "invalid queue size";
    ABORT_LIMIT = 1, 0x03, "abort command limit exceeded";
    AER_LIMIT = 1, 0x05, "asynchronous event request limit exceeded";
    INVALID_FIRMWARE_SLOT = 1, 0x06, "invalid firmware slot";
    INVALID_FIRMWARE_IMAGE = 1, 0x07, "invalid firmware image";
    INVALID_INTERRUPT_VECTOR = 1, 0x08, "invalid interrupt vector";
    INVALID_LOG_PAGE = 1, 0x09, "invalid log page";
    INVALID_FORMAT = 1, 0x0a, "invalid format";
    FIRMWARE_NEEDS_CONVENTIONAL_RESET = 1, 0x0b, "firmware activation requires conventional reset";
    INVALID_QUEUE_DELETION = 1, 0x0c, "invalid queue deletion";
    FEATURE_NOT_SAVEABLE = 1, 0x0d, "feature identifier not saveable";
    FEATURE_NOT_CHANGEABLE = 1, 0x0e, "feature not changeable";
    FEATURE_NOT_PER_NAMESPACE = 1, 0x0f, "feature not namespace specific";
    FIRMWARE_NEEDS_SUBSYSTEM_RESET = 1, 0x10, "firmware activation requires NVM subsystem reset";
    FIRMWARE_NEEDS_CONTROLLER_RESET = 1, 0x11, "firmware activation requires controller reset";
    FIRMWARE_NEEDS_MAXIMUM_TIME = 1, 0x12, "firmware activation requires maximum time violation";
    FIRMWARE_ACTIVATION_PROHIBITED = 1, 0x13, "firmware activation prohibited";
    OVERLAPPING_RANGE = 1, 0x14, "overlapping range";
    NAMESPACE_NO_CAPACITY = 1, 0x15, "namespace insufficient capacity";
    NAMESPACE_NO_IDENTIFIER = 1, 0x16, "namespace identifier unavailable";
    NAMESPACE_ALREADY_ATTACHED = 1, 0x18, "namespace already attached";
    NAMESPACE_PRIVATE = 1, 0x19, "namespace is private";
    NAMESPACE_NOT_ATTACHED = 1, 0x1a, "namespace not attached";
    THIN_PROVISIONING = 1, 0x1b, "thin provisioning not supported";
    INVALID_CONTROLLER_LIST = 1, 0x1c, "controller list invalid";
    SELF_TEST_IN_PROGRESS = 1, 0x1d, "device self-test in progress";
    SANITIZE_PROHIBITED = 1, 0x23, "sanitize prohibited while persistent memory region is enabled";
    ATTACHMENT_LIMIT = 1, 0x27, "namespace attachment limit exceeded";
    COMBINATION_REJECTED = 1, 0x2b, "I/O command set combination rejected";
    INVALID_COMMAND_SET = 1, 0x2c, "invalid I/O command set";
    CONFLICTING_ATTRIBUTES = 1, 0x80, "conflicting attributes";
    INVALID_PROTECTION = 1, 0x81, "invalid protection information";
    WRITE_TO_READ_ONLY = 1, 0x82, "attempted write to read only range";
    COMMAND_SIZE_LIMIT = 1, 0x83, "command size limit exceeded";
    ZONE_BOUNDARY = 1, 0xb8, "zone boundary error";
    ZONE_FULL = 1, 0xb9, "zone is full";
    ZONE_READ_ONLY = 1, 0xba, "zone is read only";
    ZONE_OFFLINE = 1, 0xbb, "zone is offline";
    ZONE_INVALID_WRITE = 1, 0xbc, "write not at the write pointer of its zone";
    TOO_MANY_ACTIVE_ZONES = 1, 0xbd, "too many active zones";
    TOO_MANY_OPEN_ZONES = 1, 0xbe, "too many open zones";
    INVALID_ZONE_TRANSITION = 1, 0xbf, "invalid zone state transition";

    WRITE_FAULT = 2, 0x80, "write fault";
    UNRECOVERED_READ = 2, 0x81, "unrecovered read error";
    GUARD_CHECK = 2, 0x82, "end-to-end guard check error";
    APPLICATION_TAG_CHECK = 2, 0x83, "end-to-end application tag check error";
    REFERENCE_TAG_CHECK = 2, 0x84, "end-to-end reference tag check error";
    COMPARE_FAILURE = 2, 0x85, "compare failure";
    ACCESS_DENIED = 2, 0x86, "access denied";
    DEALLOCATED = 2, 0x87, "deallocated or unwritten logical block";

    PATH_INTERNAL = 3, 0x00, "internal path error";
    ANA_PERSISTENT_LOSS = 3, 0x01, "asymmetric access persistent loss";
    ANA_INACCESSIBLE = 3, 0x02, "asymmetric access inaccessible";
    ANA_TRANSITION = 3, 0x03, "asymmetric access transition";
    CONTROLLER_PATHING = 3, 0x60, "controller pathing error";
    HOST_PATHING = 3, 0x70, "host pathing error";
    ABORTED_BY_HOST = 3, 0x71, "command aborted by host";
}

/// The statuses of fabrics commands share codes with the NVM command set (§3.3.3.2.1.2).
impl Status {
    /// Type 1, code 0x80: Connect with an unknown record format.
    pub const CONNECT_INCOMPATIBLE_FORMAT: Self = Self::new(1, 0x80);
    /// Type 1, code 0x81: the controller is already in use.
    pub const CONNECT_CONTROLLER_BUSY: Self = Self::new(1, 0x81);
    /// Type 1, code 0x82: a Connect parameter is invalid; DW0 says which.
    pub const CONNECT_INVALID_PARAMETERS: Self = Self::new(1, 0x82);
    /// Type 1, code 0x83: discovery must be done again.
    pub const CONNECT_RESTART_DISCOVERY: Self = Self::new(1, 0x83);
    /// Type 1, code 0x84: the host may not connect.
    pub const CONNECT_INVALID_HOST: Self = Self::new(1, 0x84);
    /// Type 1, code 0x85: the queue type is not supported.
    pub const INVALID_QUEUE_TYPE: Self = Self::new(1, 0x85);
    /// Type 1, code 0x90: the discovery log page changed while it was read.
    pub const DISCOVERY_RESTART: Self = Self::new(1, 0x90);
    /// Type 1, code 0x91: authentication is required first.
    pub const AUTHENTICATION_REQUIRED: Self = Self::new(1, 0x91);
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sct, sc) = (self.sct(), self.sc());
        match self.name() {
            Some(name) => write!(f, "{name} ({sct:#x}/{sc:#04x})")?,
            None => write!(f, "{} status {sct:#x}/{sc:#04x}", StatusType(sct))?,
        }
        f.write_str(if self.dnr() { ", do not retry" } else { "" })
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
