extern crate std;

use core::mem::offset_of;
use core::time::Duration;
use std::format;
use std::string::ToString;

use zerocopy::{FromBytes, IntoBytes};

use super::fabrics::{Connect, ConnectData, InvalidParameter, Property};
use super::identify::{
    IdentifyController, IdentifyNamespace, NamespaceDescriptor, NamespaceList,
    namespace_descriptors,
};
use super::log_page::{
    DiscoveryEntry, ErrorEntry, SanitizeStatus, SelfTestLog, SelfTestResult, SmartHealth,
};
use super::manage::*;
use super::*;

macro_rules! offsets {
    ($type:ty { $($field:ident: $offset:literal),* $(,)? }) => {
        $(assert_eq!(offset_of!($type, $field), $offset, stringify!($field));)*
    };
}

#[test]
fn commands_and_completions_lie_as_in_the_specification() {
    offsets!(Command { cid: 2, nsid: 4, mptr: 16, dptr: 24, cdw10: 40, cdw12: 48, cdw15: 60 });
    offsets!(Completion { dw1: 4, sqhd: 8, sqid: 10, cid: 12, status_phase: 14 });
    offsets!(Connect { fctype: 4, sgl1: 24, recfmt: 40, qid: 42, sqsize: 44, cattr: 46, kato: 48 });
    offsets!(Property { fctype: 4, attrib: 40, offset: 44, value: 48 });
    offsets!(ConnectData { cntlid: 16, subnqn: 256, hostnqn: 512 });
    offsets!(SglDescriptor { length: 8, identifier: 15 });
    offsets!(DsmRange { blocks: 4, lba: 8 });
    assert_eq!(Completion::STATUS_PHASE, offset_of!(Completion, status_phase));
}

#[test]
fn identify_controller_lies_as_in_the_specification() {
    offsets!(IdentifyController {
        sn: 4,
        mn: 24,
        fr: 64,
        rab: 72,
        cmic: 76,
        mdts: 77,
        cntlid: 78,
        ver: 80,
        rtd3e: 88,
        oaes: 92,
        ctratt: 96,
        cntrltype: 111,
        fguid: 112,
        crdt: 128,
        nvmsr: 253,
        oacs: 256,
        aerl: 259,
        lpa: 261,
        elpe: 262,
        npss: 263,
        wctemp: 266,
        mtfa: 270,
        hmpre: 272,
        tnvmcap: 280,
        rpmbs: 312,
        edstt: 316,
        kas: 320,
        sanicap: 328,
        hmmaxd: 336,
        anatt: 342,
        anagrpmax: 344,
        pels: 352,
        domain_id: 356,
        megcap: 368,
        sqes: 512,
        cqes: 513,
        maxcmd: 514,
        nn: 516,
        oncs: 520,
        fuses: 522,
        fna: 524,
        vwc: 525,
        awun: 526,
        nwpc: 531,
        acwu: 532,
        sgls: 536,
        mnan: 540,
        maxdna: 544,
        maxcna: 560,
        subnqn: 768,
        ioccsz: 1792,
        iorcsz: 1796,
        icdoff: 1800,
        fcatt: 1802,
        msdbd: 1803,
        ofcs: 1804,
        psd: 2048,
        vendor: 3072,
    });
}

#[test]
fn identify_namespace_and_logs_lie_as_in_the_specification() {
    offsets!(IdentifyNamespace {
        ncap: 8,
        nuse: 16,
        nsfeat: 24,
        nlbaf: 25,
        flbas: 26,
        dps: 29,
        nmic: 30,
        dlfeat: 33,
        nawun: 34,
        noiob: 46,
        nvmcap: 48,
        npwg: 64,
        nows: 72,
        mssrl: 74,
        mcl: 76,
        msrc: 80,
        anagrpid: 92,
        nsattr: 99,
        nvmsetid: 100,
        nguid: 104,
        eui64: 120,
        lbaf: 128,
        vendor: 384,
    });
    offsets!(SmartHealth {
        temperature_k: 1,
        available_spare: 3,
        percentage_used: 5,
        data_units_read: 32,
        host_reads: 64,
        media_errors: 160,
        error_entries: 176,
        warning_temperature_minutes: 192,
        temperature_sensors_k: 200,
        thermal_transitions: 216,
        reserved232: 232,
    });
    offsets!(ErrorEntry { status_phase: 12, lba: 16, nsid: 24, command_specific: 32 });
    offsets!(DiscoveryEntry {
        portid: 4,
        cntlid: 6,
        asqsz: 8,
        trsvcid: 32,
        subnqn: 256,
        traddr: 512,
        tsas: 768,
    });
}

#[test]
fn the_logs_of_what_is_administered_lie_as_in_the_specification() {
    offsets!(SelfTestResult {
        segment: 1,
        valid: 2,
        power_on_hours: 4,
        nsid: 12,
        lba: 16,
        status_type: 24,
        status_code: 25,
        vendor: 26,
    });
    offsets!(SelfTestLog { completion: 1, results: 4 });
    offsets!(SanitizeStatus { status: 2, cdw10: 4, seconds: 8, seconds_without_deallocation: 20 });
    offsets!(IdentifyController { unvmcap: 296, dsto: 318, fwug: 319, frmw: 260, sanicap: 328 });
}

#[test]
fn administration_encodes_as_in_the_specification() {
    let settings = FormatSettings {
        erase: SecureErase::Cryptographic,
        metadata: MetadataPlace::InLine,
        protection: 3,
        protection_place: ProtectionPlace::First,
    };
    let format = Command::format_nvm(7, 0x25, settings);
    assert_eq!((format.opcode, format.nsid.get()), (0x80, 7));
    assert_eq!(format.cdw10.get(), 0b10_0101_0111_0101);
    assert_eq!(format.format_index(), 0x25);
    let download = Command::firmware_download(8192, 4096);
    assert_eq!((download.cdw10.get(), download.cdw11.get()), (1023, 2048));
    let commit = Command::firmware_commit(5, FirmwareAction::ActivateNow);
    assert_eq!((commit.opcode, commit.cdw10.get()), (0x10, 0b01_1101));
    assert_eq!(Command::delete_namespace(3).namespace_operation(), 1);
    assert_eq!(Command::detach_namespace(3).namespace_operation(), 1);
    assert_eq!(Command::create_namespace(Csi::ZONED).cdw11.get(), 2 << 24);
    assert_eq!(Command::self_test(0, SelfTest::Abort).cdw10.get(), 15);
}

#[test]
fn a_sanitize_says_only_what_its_action_has() {
    let passes = OverwritePasses { pattern: 0x5a5a_a5a5, passes: 16, inverted: Inverted::Yes };
    let dwords = |action| {
        let (on_failure, deallocation) = (OnFailure::Unrestricted, Deallocation::No);
        let command = Command::sanitize(Sanitize { action, on_failure, deallocation });
        (command.cdw10.get(), command.cdw11.get())
    };
    assert_eq!(dwords(SanitizeAction::ExitFailure), (1, 0));
    assert_eq!(dwords(SanitizeAction::BlockErase), (0b10_0000_1010, 0));
    assert_eq!(dwords(SanitizeAction::CryptoErase), (0b10_0000_1100, 0));
    assert_eq!(dwords(SanitizeAction::Overwrite(passes)), (0b11_0000_1011, 0x5a5a_a5a5));
}

#[test]
fn a_controller_list_never_reaches_beyond_itself() {
    let mut list = ControllerList::one(9);
    assert_eq!(list.iter().collect::<std::vec::Vec<_>>(), [9]);
    list.count = u16::MAX.into();
    assert_eq!(list.iter().count(), 2047);
}

#[test]
fn firmware_granularity_is_a_page_unless_told_otherwise() {
    let mut identify = IdentifyController { frmw: 0b1_0111, ..IdentifyController::default() };
    let updates = FirmwareUpdates { slots: 3, first_is_fixed: true, activates_now: true };
    assert_eq!(identify.firmware_updates(), updates);
    for (fwug, bytes) in [(0, 4096), (0xff, 4), (32, 128 << 10)] {
        identify.fwug = fwug;
        assert_eq!(identify.firmware_granularity(), bytes);
    }
}

#[test]
fn a_read_encodes_its_range_and_survives_the_round_trip() {
    let mut read = Command::read(7, 0x1_2345_6789, 65_536);
    read.set_prps(0x1000, 0x2000);
    let bytes = read.as_bytes();
    assert_eq!(bytes[0], 2);
    assert_eq!(bytes[40..52], [0x89, 0x67, 0x45, 0x23, 1, 0, 0, 0, 0xff, 0xff, 0, 0]);
    let back = Command::read_from_bytes(bytes).unwrap();
    assert_eq!((back.lba(), back.blocks()), (0x1_2345_6789, 65_536));
    assert_eq!((back.prp1(), back.prp2()), (0x1000, 0x2000));
}

#[test]
fn an_sgl_takes_the_place_of_the_prps() {
    let mut command = Command::write(1, 0, 8);
    assert!(!command.uses_sgl());
    command.set_sgl1(SglDescriptor::in_capsule(0, 4096));
    assert!(command.uses_sgl());
    assert_eq!(command.sgl1().length.get(), 4096);
    assert_eq!(command.as_bytes()[39], 0x01);
    assert_eq!(SglDescriptor::transport(1).identifier, 0x5a);
}

#[test]
fn a_log_page_request_counts_in_dwords() {
    let command = Command::get_log_page(LogPageId::ERROR_INFORMATION, NSID_ALL, 1 << 33, 1 << 20);
    assert_eq!((command.log_bytes(), command.log_offset()), (1 << 20, 1 << 33));
    assert_eq!(command.cdw10.get() & 0xff, 1);
    assert_eq!(Command::get_log_page(LogPageId::SMART_HEALTH, 0, 0, 4).log_bytes(), 4);
}

#[test]
fn phase_and_status_share_a_word_without_touching_each_other() {
    let status = Status::LBA_OUT_OF_RANGE.with_dnr().with_more();
    let mut completion = Completion::new(9, status);
    assert!(!completion.phase());
    completion.set_phase(true);
    assert!(completion.phase());
    assert_eq!(completion.status(), status);
    assert!(completion.status().is(Status::LBA_OUT_OF_RANGE));
    assert!(!completion.status().is_success());
    assert!(Status::from_bits(0x6000).is_success());
}

#[test]
fn statuses_and_opcodes_print_their_names() {
    let text = Status::LBA_OUT_OF_RANGE.with_dnr().to_string();
    assert_eq!(text, "LBA out of range (0x0/0x80), do not retry");
    assert_eq!(Status::new(7, 3).to_string(), "vendor specific status 0x7/0x03");
    assert_eq!(AdminOpcode::IDENTIFY.to_string(), "Identify");
    assert_eq!(NvmOpcode(0xc3).to_string(), "0xc3");
    assert_eq!(format!("{}", Version::new(2, 0, 1)), "2.0.1");
}

#[test]
fn registers_decode_what_they_encode() {
    let cap = Cap::build(1024, Duration::from_millis(7_300), 8);
    assert_eq!(cap.queue_entries_max(), 1024);
    assert_eq!(cap.timeout(), Duration::from_millis(7_500));
    assert_eq!(cap.doorbell_stride(), 8);
    assert!(cap.nvm_command_set() && cap.contiguous_queues() && !cap.io_command_sets());
    assert_eq!((cap.page_size_min(), cap.page_size_max()), (4096, 4096));
    let cc = Cc::enabled(Cc::CSS_ALL);
    assert_eq!(cc.0, 0x0046_0061);
    assert_eq!((cc.iosqes(), cc.iocqes(), cc.css(), cc.page_size()), (6, 4, 6, 4096));
    assert_eq!(cc.with_shutdown(Shutdown::NORMAL).shutdown(), Shutdown::NORMAL);
    let aqa = Aqa::new(32, 4096);
    assert_eq!((aqa.0, aqa.sq_entries(), aqa.cq_entries()), (0x0fff_001f, 32, 4096));
    assert_eq!(registers::sq_tail_doorbell(3, 4), 0x1018);
    assert_eq!(registers::cq_head_doorbell(3, 8), 0x1038);
}

#[test]
fn queue_counts_and_events_are_zero_based_where_the_wire_is() {
    assert_eq!(QueueCounts::pairs(4).to_dword(), 0x0003_0003);
    assert_eq!(QueueCounts::from_dword(0x0007_0003).min(), 4);
    let event = AsyncEvent::new(AsyncEvent::TYPE_NOTICE, 0, LogPageId::CHANGED_NAMESPACES.0);
    assert_eq!((event.0, event.kind(), event.log_page()), (0x0004_0002, 2, 4));
}

#[test]
fn a_transfer_limit_that_overflows_is_no_limit() {
    let mut identify = IdentifyController::default();
    assert_eq!(identify.transfer_max(4096), None);
    identify.mdts = 5;
    assert_eq!(identify.transfer_max(4096), Some(128 << 10));
    identify.mdts = 255;
    assert_eq!(identify.transfer_max(4096), None);
}

#[test]
fn the_block_size_is_only_given_for_a_valid_format() {
    let mut identify = IdentifyNamespace::default();
    assert_eq!(identify.block_size(), None);
    identify.flbas = 0xff;
    identify.nlbaf = 63;
    identify.lbaf[63].data_size_log2 = 12;
    assert_eq!(identify.block_size(), Some(4096));
    identify.lbaf[63].data_size_log2 = 200;
    assert_eq!(identify.block_size(), None);
    identify.nlbaf = 0;
    identify.lbaf[15].data_size_log2 = 9;
    assert_eq!(identify.block_size(), Some(512));
}

#[test]
fn descriptor_lists_survive_nonsense() {
    let mut list = [0; 64];
    let uuid = NamespaceDescriptor::Uuid([7; 16]);
    let csi = NamespaceDescriptor::CommandSet(Csi::NVM);
    let at = uuid.write(&mut list).unwrap();
    list[at..at + 6].copy_from_slice(&[99, 2, 0, 0, 1, 2]);
    csi.write(&mut list[at + 6..]).unwrap();
    assert!(namespace_descriptors(&list).eq([uuid, csi]));
    list[1] = 255;
    assert_eq!(namespace_descriptors(&list).count(), 0);
    assert_eq!(namespace_descriptors(&[1, 3, 0, 0, 9, 9, 9]).count(), 0);
    assert_eq!(uuid.write(&mut [0; 8]), None);
}

#[test]
fn a_namespace_list_ends_at_zero() {
    let mut list = NamespaceList::default();
    list.nsid[0].set(1);
    list.nsid[1].set(9);
    list.nsid[3].set(12);
    assert!(list.iter().eq([1, 9]));
}

#[test]
fn fabrics_commands_are_views_of_the_same_64_bytes() {
    let connect = Connect::new(1, 128, 15_000, SglDescriptor::in_capsule(0, 1024));
    let command = Command::from(connect);
    assert_eq!(command.fabrics_type(), FabricsType::CONNECT);
    assert_eq!(command.as_connect(), connect);
    let set = Property::set(registers::CC as u32, 4, 0x46_0001);
    assert_eq!(Command::from(set).as_property().value.get(), 0x46_0001);
    assert_eq!((set.size(), Property::get(0, 8).size()), (Some(4), Some(8)));
    let parameter = InvalidParameter::Data(16);
    assert_eq!(InvalidParameter::from_dword(parameter.to_dword()), parameter);
}

#[test]
fn text_fields_are_cut_padded_and_checked() {
    let mut field = [0; 8];
    set_ascii_field(&mut field, "abc");
    assert_eq!(&field, b"abc     ");
    assert_eq!(ascii_field(&field), Some("abc"));
    set_ascii_field(&mut field, "much too long");
    assert_eq!(ascii_field(&field), Some("much too"));
    assert_eq!(ascii_field(b"nqn\0junk"), Some("nqn"));
    assert_eq!(ascii_field(&[0xff, 0xfe]), None);
}

#[test]
fn a_controller_memory_buffer_says_where_and_how_large_it_is() {
    let (location, size) = (CmbLocation::new(2, 3), CmbSize::for_submission_queues(2, 16));
    assert_eq!((location.0, location.bar(), location.offset()), (0x3002, 2, 3));
    assert_eq!((size.0, size.unit(), size.bytes()), (0x0001_0201, Some(1 << 20), Some(16 << 20)));
    assert!(size.is_present() && size.takes_submission_queues());
    assert!(!CmbSize(0x1_0200).takes_submission_queues() && !CmbSize(0x201).is_present());
    assert_eq!(CmbSize(0xffff_f601).bytes(), Some(0xf_ffff << 36), "the largest there is");
    assert_eq!((CmbSize(0x1701).unit(), CmbSize(0x1701).bytes()), (None, None));
    assert_eq!((CmbControl::TELLS.tells(), CmbControl::TELLS.base()), (true, None));
    assert_eq!(CmbControl::at(0xfd00_0000).0, 0xfd00_0003);
    assert_eq!(CmbControl::at(0xfd00_0000).base(), Some(0xfd00_0000));
    assert!(!CmbControl::OFF.tells() && CmbControl(2).base().is_none());
    let cap = Cap::build(2, Duration::ZERO, 4);
    assert!(!cap.controller_memory() && !cap.weighted_round_robin());
    assert_eq!(cap.with_controller_memory().0 ^ cap.0, 1 << 57);
    assert!(cap.with_controller_memory().controller_memory());
}

#[test]
fn priorities_and_weights_go_where_the_specification_has_them() {
    let cap = Cap::build(2, Duration::ZERO, 4).with_weighted_round_robin();
    assert!(cap.weighted_round_robin() && cap.0 >> 17 & 3 == 1);
    let cc = Cc::enabled(Cc::CSS_NVM).with_arbitration(Cc::AMS_WEIGHTED);
    assert_eq!((cc.0, cc.arbitration()), (0x0046_0801, Cc::AMS_WEIGHTED));
    assert_eq!(cc.with_arbitration(Cc::AMS_ROUND_ROBIN), Cc::enabled(Cc::CSS_NVM));
    let arbitration = Arbitration { burst: 3, low: 1, medium: 7, high: 255 };
    assert_eq!(arbitration.to_dword(), 0xff07_0103);
    assert_eq!(Arbitration::from_dword(0xff07_01fb), arbitration);
    assert_eq!(arbitration.burst_commands(), Some(8));
    let unlimited = Arbitration { burst: Arbitration::BURST_UNLIMITED, ..arbitration };
    assert_eq!(unlimited.burst_commands(), None);
    assert_eq!(arbitration.weight(QueuePriority::Urgent), None);
    let classes = [QueuePriority::Low, QueuePriority::Medium, QueuePriority::High];
    assert_eq!(classes.map(|class| arbitration.weight(class)), [Some(2), Some(8), Some(256)]);
    for bits in 0..4 {
        let priority = QueuePriority::from_bits(bits);
        let create = Command::create_io_sq(5, 16, 0x1000, 5).with_priority(priority);
        assert_eq!((create.cdw11.get(), create.priority_bits()), (0x5_0001 | bits << 1, bits));
    }
}

#[test]
fn reservation_structures_lie_as_in_the_specification() {
    use super::reservation::*;
    offsets!(ReservationStatus { generation: 0, kind: 4, registered: 5, ptpls: 9 });
    offsets!(RegisteredController { status: 2, key: 8, hostid: 16 });
    offsets!(ReservationNotification { count: 0, notice: 8, available: 9, nsid: 12 });
}

#[test]
fn reservation_commands_are_read_as_in_the_specification() {
    use super::reservation::*;
    let command = |cdw10: u32| Command { cdw10: cdw10.into(), ..Command::default() };
    let register = command(3 << 30 | 1 << 3 | 2);
    assert_eq!(register.register_action(), Some(RegisterAction::Replace));
    assert_eq!(register.persist_change(), Some(PersistChange::Persist));
    assert!(register.ignores_key() && !command(7).ignores_key());
    assert_eq!(command(1 << 30).persist_change(), None);
    let acquire = command(6 << 8 | 2);
    assert_eq!(acquire.acquire_action(), Some(AcquireAction::PreemptAndAbort));
    assert_eq!(acquire.reservation_type(), Some(ReservationType::EXCLUSIVE_ACCESS_ALL));
    for reserved in [0, 7, 0xff] {
        assert_eq!(command(reserved << 8).reservation_type(), None);
    }
    assert_eq!(command(1).release_action(), Some(ReleaseAction::Clear));
    let reserved = command(3);
    assert_eq!(reserved.register_action(), None);
    assert_eq!(reserved.acquire_action(), None);
    assert_eq!(command(2).release_action(), None);
    assert_eq!(command(15).report_bytes(), 64);
    assert_eq!(command(u32::MAX).report_bytes(), 1 << 34);
    assert_eq!(ReservationNotice::RESERVATION_PREEMPTED.mask(), 1 << 3);
}
