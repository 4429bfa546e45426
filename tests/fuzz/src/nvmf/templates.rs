use basalt_nvme_spec::fabrics::Property;
use basalt_nvme_spec::registers::{CC, CSTS, Cc};
use basalt_nvme_spec::{
    AdminOpcode, Cns, Command, DsmAttributes, FabricsType, FeatureId, LogPageId, NvmOpcode, fabrics,
};

/// Makes a command that is well formed but for its data pointer.
type Template = fn() -> Command;

/// Commands of all kinds: first those of an admin queue, then those of an I/O queue.
pub const TEMPLATES: [Template; 36] = [
    || Command::identify(Cns::CONTROLLER, 0),
    || Command::identify(Cns::NAMESPACE, 1),
    || Command::identify(Cns::ACTIVE_NAMESPACES, 0),
    || Command::identify(Cns::NAMESPACE_DESCRIPTORS, 1),
    || Command::identify(Cns::CONTROLLERS, 0),
    || Command::get_log_page(LogPageId::ERROR_INFORMATION, u32::MAX, 0, 512),
    || Command::get_log_page(LogPageId::SMART_HEALTH, u32::MAX, 0, 512),
    || Command::get_log_page(LogPageId::COMMANDS_SUPPORTED, 0, 0, 4096),
    || Command::get_log_page(LogPageId::DISCOVERY, 0, 0, 4096),
    || Command::get_log_page(LogPageId::ASYMMETRIC_NAMESPACE_ACCESS, 0, 0, 1024),
    || Command::set_features(FeatureId::NUMBER_OF_QUEUES, 3 << 16 | 3),
    || Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 0xffff_ffff),
    || Command::set_features(FeatureId::KEEP_ALIVE_TIMER, 5000),
    || Command::set_features(FeatureId::HOST_IDENTIFIER, 1),
    || Command::get_features(FeatureId::NUMBER_OF_QUEUES, 0),
    Command::async_event_request,
    Command::keep_alive,
    || Command::abort(1, 1),
    || Property::get(CSTS as u32, 4).into(),
    || Property::get(0, 8).into(),
    || Property::set(CC as u32, 4, Cc::enabled(Cc::CSS_NVM).0.into()).into(),
    || Property::set(CC as u32, 4, 0).into(),
    || of_fabrics(FabricsType::AUTHENTICATION_SEND),
    || of_fabrics(FabricsType::DISCONNECT),
    || Command::admin(AdminOpcode::SECURITY_SEND),
    || Command::read(1, 0, 8),
    || Command::read(2, 100, 1),
    || Command::write(1, 0, 8),
    || Command::write(2, 64, 32),
    || Command::compare(1, 0, 8),
    || Command::write_zeroes(1, 8, 16),
    || Command::dataset_management(1, 3, DsmAttributes::DEALLOCATE),
    || Command::copy(1, 0, 2),
    || Command::verify(2, 0, 64),
    || Command::flush(1),
    || Command::nvm(NvmOpcode::RESERVATION_REPORT, 1),
];

fn of_fabrics(kind: FabricsType) -> Command {
    let mut command = Command::admin(AdminOpcode::FABRICS);
    command.nsid = u32::from(kind.0).into();
    command
}

/// Whether the data of a command goes to the controller: bits 1:0 of its opcode, or of its type.
pub fn takes_data(command: &Command) -> bool {
    let is_fabrics = command.opcode == fabrics::OPCODE;
    let code = if is_fabrics { command.fabrics_type().0 } else { command.opcode };
    code & 3 == 1
}

/// Bytes that a command moves if it is one of an admin queue (`qid` 0) or of an I/O queue.
pub fn natural_len(command: &Command, qid: u16) -> u32 {
    let admin = AdminOpcode(command.opcode);
    let io = NvmOpcode(command.opcode);
    match (qid, admin, io) {
        (0, AdminOpcode::IDENTIFY, _) => 4096,
        (0, AdminOpcode::GET_LOG_PAGE, _) => command.log_bytes().min(1 << 20) as u32,
        (0, ..) => 512,
        (_, _, NvmOpcode::READ | NvmOpcode::WRITE | NvmOpcode::COMPARE) => {
            command.blocks().saturating_mul(512).min(1 << 20)
        }
        (_, _, NvmOpcode::DATASET_MANAGEMENT) => 16 * command.dsm_ranges(),
        (_, _, NvmOpcode::COPY) => 32 * command.copy_ranges(),
        _ => 512,
    }
}
