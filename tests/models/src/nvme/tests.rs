use basalt_env::{Device, DmaMem, DmaPool, Registers};
use basalt_hosted::Machine;
use basalt_nvme_spec::manage::ControllerList;
use basalt_nvme_spec::registers::{ACQ, AQA, ASQ, CC, CMBMSC, CSTS};
use basalt_nvme_spec::{
    AdminOpcode, Aqa, Cc, CmbControl, Cns, Command, Completion, Csi, Csts, FeatureId,
    IdentifyNamespace, LogPageId, NSID_ALL, QueueCounts, QueuePriority, Status,
};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::{CmbConfig, Config, ManageConfig, Model, ModelRegisters};

/// A driver of the smallest kind: one admin command at a time, built by hand.
struct Host {
    model: Model,
    registers: ModelRegisters,
    pool: DmaPool,
    sq: DmaMem,
    cq: DmaMem,
    sent: usize,
}

const ENTRIES: usize = 64;

impl Host {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let machine = Machine::new();
        let pool = machine.pool(4 << 20);
        let model = Model::new(machine.bus(), Config { queues: 4, ..config });
        let mut device = model.device();
        device.enable();
        let registers = device.bar(0).unwrap();
        let (sq, cq) = (pool.alloc_shared(4096).unwrap(), pool.alloc_shared(4096).unwrap());
        registers.write32(AQA, Aqa::new(ENTRIES as u16, ENTRIES as u16).0);
        registers.write64(ASQ, sq.phys().as_u64());
        registers.write64(ACQ, cq.phys().as_u64());
        registers.write32(CC, Cc::enabled(Cc::CSS_NVM).0);
        while registers.read32(CSTS) & Csts::READY.bits() == 0 {}
        Self { model, registers, pool, sq, cq, sent: 0 }
    }

    fn send(&mut self, mut command: Command) -> Completion {
        assert!(self.sent + 1 < ENTRIES, "one lap is enough for a test");
        command.cid = U16::new(self.sent as u16);
        self.sq.copy_in(self.sent * 64, command.as_bytes());
        let at = self.sent * 16;
        self.sent += 1;
        self.registers.write32(0x1000, self.sent as u32);
        let mut bytes = [0; 16];
        self.cq.copy_out(at, &mut bytes);
        let completion = Completion::read_from_bytes(&bytes).unwrap();
        assert!(completion.phase() && completion.cid == command.cid);
        self.registers.write32(0x1004, self.sent as u32);
        completion
    }

    fn status(&mut self, command: Command) -> Status {
        self.send(command).status()
    }

    /// Sends a command whose data start with these bytes.
    fn status_with(&mut self, mut command: Command, data: &[u8]) -> Status {
        let page = self.pool.alloc_shared(4096).unwrap();
        page.copy_in(0, data);
        command.set_prps(page.phys().as_u64(), 0);
        self.status(command)
    }

    fn page(&self) -> u64 {
        let page = self.pool.alloc_shared(4096).unwrap();
        let address = page.phys().as_u64();
        core::mem::forget(page);
        address
    }
}

#[track_caller]
fn expect(status: Status, expected: Status) {
    assert!(status.is(expected), "{status} instead of {expected}");
}

#[test]
fn queues_are_only_made_with_sound_identifiers_sizes_and_addresses() {
    let mut host = Host::new();
    let page = host.page();
    let cq = Command::create_io_cq;
    let sq = Command::create_io_sq;
    expect(host.status(cq(0, 16, page)), Status::INVALID_QUEUE_ID);
    expect(host.status(cq(5, 16, page)), Status::INVALID_QUEUE_ID);
    expect(host.status(cq(1, 1, page)), Status::INVALID_QUEUE_SIZE);
    expect(host.status(cq(1, 1025, page)), Status::INVALID_QUEUE_SIZE);
    expect(host.status(cq(1, 16, page + 64)), Status::PRP_OFFSET_INVALID);
    expect(host.status(sq(1, 16, page, 1)), Status::CQ_INVALID);
    let scattered = Command { cdw11: U32::ZERO, ..cq(1, 16, page) };
    expect(host.status(scattered), Status::INVALID_FIELD);
    let interrupting = Command { cdw11: U32::new(3), ..cq(1, 16, page) };
    expect(host.status(interrupting), Status::INVALID_INTERRUPT_VECTOR);
    expect(host.status(cq(1, 16, page)), Status::SUCCESS);
    expect(host.status(cq(1, 16, page)), Status::INVALID_QUEUE_ID);
    expect(host.status(sq(1, 16, page, 0)), Status::CQ_INVALID);
    expect(host.status(sq(1, 16, page, 1)), Status::SUCCESS);
}

#[test]
fn a_completion_queue_outlives_its_submission_queues() {
    let mut host = Host::new();
    let page = host.page();
    expect(host.status(Command::create_io_cq(2, 16, page)), Status::SUCCESS);
    expect(host.status(Command::create_io_sq(1, 16, page, 2)), Status::SUCCESS);
    expect(host.status(Command::delete_io_cq(2)), Status::INVALID_QUEUE_DELETION);
    expect(host.status(Command::delete_io_sq(2)), Status::INVALID_QUEUE_ID);
    expect(host.status(Command::delete_io_sq(1)), Status::SUCCESS);
    expect(host.status(Command::delete_io_cq(2)), Status::SUCCESS);
    expect(host.status(Command::delete_io_cq(2)), Status::INVALID_QUEUE_ID);
    expect(host.status(Command::delete_io_cq(0)), Status::INVALID_QUEUE_ID);
}

#[test]
fn unknown_things_get_the_status_that_names_them() {
    let mut host = Host::new();
    let to = host.page();
    let with_data = |mut command: Command| {
        command.set_prps(to, 0);
        command
    };
    let identify = with_data(Command::identify(Cns(0x77), 0));
    let namespace = with_data(Command::identify(Cns::NAMESPACE, 0));
    let descriptors = with_data(Command::identify(Cns::NAMESPACE_DESCRIPTORS, 99));
    let log = with_data(Command::get_log_page(LogPageId(0xee), 0, 0, 64));
    let beyond = with_data(Command::get_log_page(LogPageId::SMART_HEALTH, 0, 516, 64));
    expect(host.status(identify), Status::INVALID_FIELD);
    expect(host.status(namespace), Status::INVALID_NAMESPACE);
    expect(host.status(descriptors), Status::INVALID_NAMESPACE);
    expect(host.status(log), Status::INVALID_LOG_PAGE);
    expect(host.status(beyond), Status::INVALID_FIELD);
    expect(host.status(Command::admin(AdminOpcode(0xc9))), Status::INVALID_OPCODE);
    expect(host.status(Command::get_features(FeatureId(0xcc), 0)), Status::INVALID_FIELD);
    let mut sgl = Command::identify(Cns::CONTROLLER, 0);
    sgl.flags = Command::FLAG_SGL;
    expect(host.status(sgl), Status::INVALID_FIELD);
    let csi = Command::identify_csi(Cns::NAMESPACE_FOR_CSI, 1, Csi::ZONED);
    expect(host.status(csi), Status::INVALID_FIELD);
}

#[test]
fn queue_counts_are_limited_and_fixed_once_queues_exist() {
    let mut host = Host::new();
    let set = |dword| Command::set_features(FeatureId::NUMBER_OF_QUEUES, dword);
    expect(host.status(set(0xffff_0000)), Status::INVALID_FIELD);
    let granted = host.send(set(QueueCounts::pairs(64).to_dword())).dw0.get();
    assert_eq!(QueueCounts::from_dword(granted), QueueCounts::pairs(4));
    let page = host.page();
    expect(host.status(Command::create_io_cq(1, 16, page)), Status::SUCCESS);
    expect(host.status(set(0)), Status::SEQUENCE_ERROR);
}

#[test]
fn a_fifth_event_request_is_one_too_many() {
    let host = Host::new();
    for cid in 0..4 {
        let command = Command { cid: U16::new(0x100 + cid), ..Command::async_event_request() };
        host.sq.copy_in(usize::from(cid) * 64, command.as_bytes());
    }
    let fifth = Command { cid: U16::new(7), ..Command::async_event_request() };
    host.sq.copy_in(4 * 64, fifth.as_bytes());
    host.registers.write32(0x1000, 5);
    let mut bytes = [0; 16];
    host.cq.copy_out(0, &mut bytes);
    let completion = Completion::read_from_bytes(&bytes).unwrap();
    assert_eq!(completion.cid.get(), 7);
    expect(completion.status(), Status::AER_LIMIT);
}

#[test]
fn a_driver_that_breaks_the_rules_is_found_out() {
    let host = Host::new();
    assert!(host.model.violations().is_empty());
    host.registers.write32(0x1000, 64);
    host.registers.write32(0x1000 + 8 * 40, 1);
    host.registers.write32(0x1004, 9);
    host.registers.write32(AQA, 0);
    assert_eq!(host.model.violations().len(), 4, "{:?}", host.model.violations());
}

#[test]
fn data_pointers_outside_memory_are_a_transfer_error() {
    let mut host = Host::new();
    let mut command = Command::identify(Cns::CONTROLLER, 0);
    command.set_prps(0x1000, 0);
    expect(host.status(command), Status::DATA_TRANSFER_ERROR);
    let mut command = Command::identify(Cns::CONTROLLER, 0);
    command.set_prps(host.page() + 2, 0);
    expect(host.status(command), Status::PRP_OFFSET_INVALID);
}

#[test]
fn nothing_is_fetched_without_bus_mastering_or_after_removal() {
    let mut host = Host::new();
    host.model.device().disable();
    host.sq.copy_in(0, Command::get_features(FeatureId::ARBITRATION, 0).as_bytes());
    host.registers.write32(0x1000, 1);
    assert_eq!(host.cq.load16(14), 0);
    host.model.device().enable();
    host.model.step();
    assert_eq!(host.cq.load16(14), 1);
    host.sent = 1;
    host.model.remove();
    assert_eq!(host.registers.read64(0), u64::MAX);
    assert_eq!(host.model.device().config_read(0), u32::MAX);
}

#[test]
fn a_driver_that_misuses_the_memory_buffer_is_found_out() {
    let cmb = CmbConfig::pages(2, 1);
    let mut host = Host::with(Config { cmb: Some(cmb), ..Config::default() });
    let buffer = host.model.device().bar(2).unwrap().window(4096, 8192).unwrap();
    let base = host.model.device().bar_address(2).unwrap().as_u64() + 4096;
    let found = |host: &Host, expected: usize| {
        assert_eq!(host.model.violations().len(), expected, "{:?}", host.model.violations());
    };
    let page = host.page();
    expect(host.status(Command::create_io_cq(1, 16, page)), Status::SUCCESS);
    buffer.write64(0, 1);
    found(&host, 2); // Two words that were written while it was off.
    expect(host.status(Command::create_io_sq(1, 16, base, 1)), Status::SUCCESS);
    found(&host, 3); // A queue in a buffer that is off.
    expect(host.status(Command::delete_io_sq(1)), Status::SUCCESS);
    host.registers.write64(CMBMSC, CmbControl::at(base).0);
    expect(host.status(Command::create_io_sq(1, 65, base + 4096, 1)), Status::SUCCESS);
    found(&host, 4); // A queue that ends beyond it.
    expect(host.status(Command::delete_io_sq(1)), Status::SUCCESS);
    expect(host.status(Command::create_io_sq(1, 16, base, 1)), Status::SUCCESS);
    (0..7).for_each(|word| buffer.write64(8 * word, 0));
    host.registers.write32(0x1008, 1);
    found(&host, 5); // A doorbell before the whole entry.
    (8..16).for_each(|word| buffer.write64(8 * word, 0));
    host.registers.write32(0x1008, 2);
    found(&host, 5); // As it should be.
    assert_eq!(host.model.fetched_from_cmb(1), 2);
}

#[test]
fn priorities_without_weights_are_a_mistake() {
    let mut host = Host::new();
    let page = host.page();
    expect(host.status(Command::create_io_cq(1, 16, page)), Status::SUCCESS);
    let high = Command::create_io_sq(1, 16, page, 1).with_priority(QueuePriority::High);
    expect(host.status(high), Status::SUCCESS);
    assert_eq!(host.model.violations().len(), 1, "{:?}", host.model.violations());
    let weighted = Cc::enabled(Cc::CSS_NVM).with_arbitration(Cc::AMS_WEIGHTED);
    host.registers.write32(CC, weighted.0);
    assert_eq!(host.model.violations().len(), 2, "{:?}", host.model.violations());
    host.registers.write32(CC, weighted.disabled().0);
    while host.registers.read32(CSTS) & Csts::READY.bits() != 0 {}
    host.registers.write32(CC, weighted.0);
    assert_eq!(host.model.violations().len(), 3, "{:?}", host.model.violations());
}

#[test]
fn namespaces_are_made_and_attached_only_as_the_rules_say() {
    let manage = ManageConfig::full();
    let mut host = Host::with(Config { manage, ..Config::default() });
    let create = |host: &mut Host, change: fn(&mut IdentifyNamespace)| {
        let mut page = IdentifyNamespace::default();
        (page.nsze, page.ncap) = (U64::new(8), U64::new(8));
        change(&mut page);
        host.status_with(Command::create_namespace(Csi::NVM), page.as_bytes())
    };
    expect(create(&mut host, |page| page.ncap = U64::new(7)), Status::THIN_PROVISIONING);
    expect(create(&mut host, |page| page.flbas = 2), Status::INVALID_FORMAT);
    let empty = |page: &mut IdentifyNamespace| (page.nsze, page.ncap) = (U64::ZERO, U64::ZERO);
    expect(create(&mut host, empty), Status::INVALID_FIELD);
    let zoned = Command::create_namespace(Csi::ZONED);
    expect(host.status_with(zoned, &[]), Status::INVALID_FIELD);
    expect(create(&mut host, |_| ()), Status::SUCCESS);
    for list in [ControllerList::default(), ControllerList::one(2)] {
        let status = host.status_with(Command::attach_namespace(2), list.as_bytes());
        expect(status, Status::INVALID_CONTROLLER_LIST);
    }
    let attach = Command::attach_namespace(2);
    expect(host.status_with(attach, ControllerList::one(1).as_bytes()), Status::SUCCESS);
    expect(host.status(Command::delete_namespace(NSID_ALL)), Status::SUCCESS);
    assert!(host.model.contents(2, 0, 1).is_empty() && host.model.contents(1, 0, 1).is_empty());
}

#[test]
fn what_a_controller_does_not_offer_is_no_opcode_of_its() {
    let mut host = Host::new();
    for opcode in [
        AdminOpcode::FORMAT_NVM,
        AdminOpcode::NAMESPACE_MANAGEMENT,
        AdminOpcode::FIRMWARE_COMMIT,
        AdminOpcode::DEVICE_SELF_TEST,
        AdminOpcode::SANITIZE,
    ] {
        expect(host.status(Command::admin(opcode)), Status::INVALID_OPCODE);
    }
    let page = host.page();
    for log in [LogPageId::DEVICE_SELF_TEST, LogPageId::SANITIZE_STATUS] {
        let mut command = Command::get_log_page(log, NSID_ALL, 0, 512);
        command.set_prps(page, 0);
        expect(host.status(command), Status::INVALID_LOG_PAGE);
    }
}
