use super::named;

/// An admin command opcode (§5, figure 138).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AdminOpcode(pub u8);

named!(AdminOpcode, u8 {
    DELETE_IO_SQ = 0x00, "Delete I/O Submission Queue";
    CREATE_IO_SQ = 0x01, "Create I/O Submission Queue";
    GET_LOG_PAGE = 0x02, "Get Log Page";
    DELETE_IO_CQ = 0x04, "Delete I/O Completion Queue";
    CREATE_IO_CQ = 0x05, "Create I/O Completion Queue";
    IDENTIFY = 0x06, "Identify";
    ABORT = 0x08, "Abort";
    SET_FEATURES = 0x09, "Set Features";
    GET_FEATURES = 0x0a, "Get Features";
    ASYNC_EVENT_REQUEST = 0x0c, "Asynchronous Event Request";
    NAMESPACE_MANAGEMENT = 0x0d, "Namespace Management";
    FIRMWARE_COMMIT = 0x10, "Firmware Commit";
    FIRMWARE_DOWNLOAD = 0x11, "Firmware Image Download";
    DEVICE_SELF_TEST = 0x14, "Device Self-test";
    NAMESPACE_ATTACHMENT = 0x15, "Namespace Attachment";
    KEEP_ALIVE = 0x18, "Keep Alive";
    DOORBELL_BUFFER_CONFIG = 0x7c, "Doorbell Buffer Config";
    FABRICS = 0x7f, "Fabrics";
    FORMAT_NVM = 0x80, "Format NVM";
    SECURITY_SEND = 0x81, "Security Send";
    SECURITY_RECEIVE = 0x82, "Security Receive";
    SANITIZE = 0x84, "Sanitize";
});

impl AdminOpcode {
    /// Whether its meaning is the vendor's.
    pub const fn is_vendor_specific(self) -> bool {
        self.0 >= 0xc0
    }
}

/// An I/O command opcode of the NVM command set (NVM §3.1, figure 3 in part).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NvmOpcode(pub u8);

named!(NvmOpcode, u8 {
    FLUSH = 0x00, "Flush";
    WRITE = 0x01, "Write";
    READ = 0x02, "Read";
    WRITE_UNCORRECTABLE = 0x04, "Write Uncorrectable";
    COMPARE = 0x05, "Compare";
    WRITE_ZEROES = 0x08, "Write Zeroes";
    DATASET_MANAGEMENT = 0x09, "Dataset Management";
    VERIFY = 0x0c, "Verify";
    RESERVATION_REGISTER = 0x0d, "Reservation Register";
    RESERVATION_REPORT = 0x0e, "Reservation Report";
    RESERVATION_ACQUIRE = 0x11, "Reservation Acquire";
    RESERVATION_RELEASE = 0x15, "Reservation Release";
    COPY = 0x19, "Copy";
    ZONE_SEND = 0x79, "Zone Management Send";
    ZONE_RECEIVE = 0x7a, "Zone Management Receive";
    ZONE_APPEND = 0x7d, "Zone Append";
    FABRICS = 0x7f, "Fabrics";
});

/// What an Identify command asks for: Controller or Namespace Structure (§5.17.1, figure 273).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cns(pub u8);

named!(Cns, u8 {
    NAMESPACE = 0x00, "Identify Namespace";
    CONTROLLER = 0x01, "Identify Controller";
    ACTIVE_NAMESPACES = 0x02, "Active Namespace ID list";
    NAMESPACE_DESCRIPTORS = 0x03, "Namespace Identification Descriptor list";
    NAMESPACE_FOR_CSI = 0x05, "I/O Command Set specific Identify Namespace";
    CONTROLLER_FOR_CSI = 0x06, "I/O Command Set specific Identify Controller";
    NAMESPACE_INDEPENDENT = 0x08, "I/O Command Set independent Identify Namespace";
    ALLOCATED_NAMESPACES = 0x10, "Allocated Namespace ID list";
    ALLOCATED_NAMESPACE = 0x11, "Identify Namespace of an allocated namespace";
    NAMESPACE_CONTROLLERS = 0x12, "Controller list of a namespace";
    CONTROLLERS = 0x13, "Controller list of the subsystem";
    IO_COMMAND_SETS = 0x1c, "I/O Command Set data structure";
});

/// A command set identifier (§3.1.3.4, figure 274).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Csi(pub u8);

named!(Csi, u8 {
    NVM = 0x00, "NVM Command Set";
    KEY_VALUE = 0x01, "Key Value Command Set";
    ZONED = 0x02, "Zoned Namespace Command Set";
});

/// A log page identifier (§5.16.1, figure 202).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogPageId(pub u8);

named!(LogPageId, u8 {
    SUPPORTED_LOG_PAGES = 0x00, "Supported Log Pages";
    ERROR_INFORMATION = 0x01, "Error Information";
    SMART_HEALTH = 0x02, "SMART / Health Information";
    FIRMWARE_SLOT = 0x03, "Firmware Slot Information";
    CHANGED_NAMESPACES = 0x04, "Changed Namespace List";
    COMMANDS_SUPPORTED = 0x05, "Commands Supported and Effects";
    DEVICE_SELF_TEST = 0x06, "Device Self-test";
    ASYMMETRIC_NAMESPACE_ACCESS = 0x0c, "Asymmetric Namespace Access";
    FEATURES_SUPPORTED = 0x12, "Feature Identifiers Supported and Effects";
    DISCOVERY = 0x70, "Discovery";
    RESERVATION_NOTIFICATION = 0x80, "Reservation Notification";
    SANITIZE_STATUS = 0x81, "Sanitize Status";
});

/// A feature identifier (§5.27.1, figure 317).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FeatureId(pub u8);

named!(FeatureId, u8 {
    ARBITRATION = 0x01, "Arbitration";
    POWER_MANAGEMENT = 0x02, "Power Management";
    TEMPERATURE_THRESHOLD = 0x04, "Temperature Threshold";
    ERROR_RECOVERY = 0x05, "Error Recovery";
    VOLATILE_WRITE_CACHE = 0x06, "Volatile Write Cache";
    NUMBER_OF_QUEUES = 0x07, "Number of Queues";
    INTERRUPT_COALESCING = 0x08, "Interrupt Coalescing";
    INTERRUPT_VECTOR = 0x09, "Interrupt Vector Configuration";
    WRITE_ATOMICITY = 0x0a, "Write Atomicity Normal";
    ASYNC_EVENT_CONFIG = 0x0b, "Asynchronous Event Configuration";
    AUTONOMOUS_POWER_STATE = 0x0c, "Autonomous Power State Transition";
    HOST_MEMORY_BUFFER = 0x0d, "Host Memory Buffer";
    TIMESTAMP = 0x0e, "Timestamp";
    KEEP_ALIVE_TIMER = 0x0f, "Keep Alive Timer";
    HOST_BEHAVIOR = 0x16, "Host Behavior Support";
    COMMAND_SET_PROFILE = 0x19, "I/O Command Set Profile";
    HOST_IDENTIFIER = 0x81, "Host Identifier";
    RESERVATION_NOTIFICATION_MASK = 0x82, "Reservation Notification Mask";
    RESERVATION_PERSISTENCE = 0x83, "Reservation Persistence";
    NAMESPACE_WRITE_PROTECT = 0x84, "Namespace Write Protection Configuration";
});
