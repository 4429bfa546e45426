//! Admin commands that go to the drive.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::Mutex;

use basalt_bdev::{Bdev, BdevInfo, Io, IoChannel, IoError, Op, OpenError, RejectReason, SgList};
use basalt_env::Work;
use basalt_nvme_spec::identify::Oacs;
use basalt_nvme_spec::log_page::CommandEffects;
use basalt_nvme_spec::reservation::ReservationKeys;
use basalt_nvme_spec::{
    AdminOpcode, AsyncEvent, Cns, Command, FeatureId, IdentifyController, LogPageId, NSID_ALL,
    NvmOpcode, SglDescriptor, Status, ascii_field, set_ascii_field,
};
use basalt_reactor::Local;
use zerocopy::{FromBytes, IntoBytes};

use super::host::{HOST_NQN, Host};
use super::world::{World, opened};
use crate::pdu::Digests;
use crate::{
    AdminPassthru, AnaState, DEFAULT_NQN, HostPolicy, NamespaceOptions, SubsystemOptions,
    TransportConfig,
};

/// The namespace's identifier on its drive.
const DRIVE_NSID: u32 = 3;
const VENDOR_READ: AdminOpcode = AdminOpcode(0xc2);
const VENDOR_WRITE: AdminOpcode = AdminOpcode(0xc1);

/// What the drive was asked for: the command and the data with it.
type Asked = Arc<Mutex<Vec<(Command, Vec<u8>)>>>;

/// A namespace of a drive that answers every admin command, with bytes that tell where in the
/// answer they are.
struct Drive {
    info: BdevInfo,
    asked: Asked,
}

struct DriveChannel {
    asked: Asked,
    done: Vec<Io>,
}

impl Bdev for Drive {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        matches!(op, Op::Read | Op::Write | Op::NvmeAdmin)
    }

    fn nvme_nsid(&self) -> Option<u32> {
        Some(DRIVE_NSID)
    }

    fn channel(&self, _: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        Ok(Box::new(DriveChannel { asked: Arc::clone(&self.asked), done: Vec::new() }))
    }
}

impl IoChannel for DriveChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let mut io = io.take();
        if let SgList::Nvme(passthru) = &mut io.data {
            let command: Command = zerocopy::transmute!(passthru.command.map(u32::to_le));
            let sent = passthru.data.as_ref().map(|data| data.as_slice().to_vec());
            self.asked.lock().unwrap().push((command, sent.unwrap_or_default()));
            passthru.result = 77;
            if command.opcode == AdminOpcode::SANITIZE.0 {
                io.status = Err(IoError::Nvme { sct: 0, sc: 0x1d, dnr: true });
            }
            if let Some(data) = passthru.data.as_mut().filter(|_| command.opcode & 3 == 2) {
                answer(&command, data.as_mut_slice());
            }
        }
        self.done.push(io);
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        let count = self.done.len() as u32;
        self.done.drain(..).for_each(|mut io| done(&mut io));
        Work(count)
    }
}

fn answer(command: &Command, data: &mut [u8]) {
    if command.opcode == AdminOpcode::IDENTIFY.0 {
        let mut identify = IdentifyController {
            oacs: Oacs::all().bits().into(),
            sanicap: 7.into(),
            avscc: 1,
            elpe: 9,
            frmw: 0x17,
            mdts: 2,
            ..IdentifyController::default()
        };
        set_ascii_field(&mut identify.sn, "DRIVE1");
        set_ascii_field(&mut identify.mn, "A real drive");
        return data.copy_from_slice(identify.as_bytes());
    }
    let start =
        if command.opcode == AdminOpcode::GET_LOG_PAGE.0 { command.log_offset() } else { 0 };
    let (words, _) = data.as_chunks_mut::<4>();
    for (at, word) in words.iter_mut().enumerate() {
        *word = (0x1000 + start as u32 / 4 + at as u32).to_le_bytes();
    }
}

fn drive() -> (Arc<Drive>, Asked) {
    let info = BdevInfo {
        name: String::from("Nvme0n3"),
        product_name: "NVMe disk",
        block_size: 512,
        num_blocks: 64.into(),
        uuid: [7; 16],
        optimal_io_boundary: 0,
    };
    let asked = Asked::default();
    (Arc::new(Drive { info, asked: Arc::clone(&asked) }), asked)
}

struct Bench {
    world: World,
    admin: Host,
    cntlid: u16,
    asked: Asked,
}

impl Bench {
    fn new(passthru: AdminPassthru) -> Self {
        Self::with(passthru, 1)
    }

    fn with(passthru: AdminPassthru, namespaces_max: u32) -> Self {
        let options = SubsystemOptions { namespaces_max, ..Default::default() };
        Self::of(passthru, options, NamespaceOptions::default())
    }

    fn of(passthru: AdminPassthru, options: SubsystemOptions, namespace: NamespaceOptions) -> Self {
        let (drive, asked) = drive();
        let mut world = World::empty(1, TransportConfig::default(), 16 << 20);
        world.target.create_subsystem(DEFAULT_NQN, options).unwrap();
        world.target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
        world.target.add_ns(DEFAULT_NQN, opened(drive), namespace).unwrap();
        world.target.set_admin_passthru(passthru);
        world.listen(DEFAULT_NQN, 4420);
        let (admin, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
        Self { world, admin, cntlid, asked }
    }

    fn fetch(&mut self, command: Command, len: u32) -> Result<Vec<u8>, Status> {
        let (done, bytes) = self.admin.fetch(&mut self.world, command, len);
        if done.status().is_success() { Ok(bytes) } else { Err(done.status()) }
    }

    fn send(&mut self, mut command: Command, data: &[u8]) -> Result<u32, Status> {
        if !data.is_empty() {
            command.set_sgl1(SglDescriptor::transport(data.len() as u32));
        }
        let (done, _) = self.admin.run(&mut self.world, command, &[], data);
        if done.status().is_success() { Ok(done.dw0.get()) } else { Err(done.status()) }
    }

    fn identify(&mut self) -> IdentifyController {
        let bytes = self.fetch(Command::identify(Cns::CONTROLLER, 0), 4096).unwrap();
        IdentifyController::read_from_bytes(&bytes).unwrap()
    }

    /// What the drive was asked since the last call.
    fn asked(&self) -> Vec<(Command, Vec<u8>)> {
        core::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn all() -> AdminPassthru {
    let kinds = AdminPassthru::NAMES.into_iter().map(|(_, kind)| kind);
    kinds.fold(AdminPassthru::NONE, AdminPassthru::with)
}

fn vendor(opcode: AdminOpcode, dwords: u32) -> Command {
    Command { cdw10: dwords.into(), ..Command::admin(opcode) }
}

#[test]
fn a_controller_looks_like_its_drive_as_far_as_that_is_asked_for() {
    let mut bench = Bench::new(AdminPassthru::IDENTIFY_CTRLR);
    let page = bench.identify();
    assert_eq!(ascii_field(&page.sn), Some("DRIVE1"));
    assert_eq!(ascii_field(&page.mn), Some("A real drive"));
    assert_eq!((page.cntlid.get(), page.mdts), (bench.cntlid, 8), "the target's own");
    assert_eq!((page.oacs.get(), page.sanicap.get(), page.avscc, page.elpe), (0, 0, 0, 63));
    let mut bench = Bench::new(all());
    let page = bench.identify();
    assert_eq!(page.oacs(), Oacs::SECURITY | Oacs::FIRMWARE);
    assert_eq!((page.sanicap.get(), page.avscc, page.elpe, page.frmw), (7, 1, 9, 0x17));
    let mut bench = Bench::new(AdminPassthru::GET_LOG_PAGE);
    assert_ne!(ascii_field(&bench.identify().sn), Some("DRIVE1"));
    assert!(bench.asked().is_empty());
}

#[test]
fn nothing_is_passed_where_there_is_room_for_more_namespaces() {
    let mut bench = Bench::with(all(), 2);
    assert_ne!(ascii_field(&bench.identify().sn), Some("DRIVE1"));
    assert!(bench.send(vendor(VENDOR_WRITE, 0), &[]).unwrap_err().is(Status::INVALID_OPCODE));
    assert!(bench.asked().is_empty());
}

#[test]
fn a_log_page_is_the_drives_whatever_its_length() {
    let mut bench = Bench::new(AdminPassthru::GET_LOG_PAGE);
    let smart = Command::get_log_page(LogPageId::SMART_HEALTH, NSID_ALL, 0, 512);
    let bytes = bench.fetch(smart, 512).unwrap();
    assert_eq!(bytes[..8], [0, 0x10, 0, 0, 1, 0x10, 0, 0]);
    let telemetry = Command::get_log_page(LogPageId(7), 0, 4096, 20_000);
    let bytes = bench.fetch(telemetry, 20_000).unwrap();
    let (words, _) = bytes.as_chunks::<4>();
    let expected = |at| 0x1000u32 + 1024 + at as u32;
    let right = |(at, word): (usize, &[u8; 4])| u32::from_le_bytes(*word) == expected(at);
    assert!(words.iter().enumerate().all(right), "of several parts");
    let asked = bench.asked();
    let commands: Vec<_> = asked
        .iter()
        .map(|(c, _)| (c.nsid.get(), c.log_offset(), c.log_bytes(), c.cdw10.get() >> 15 & 1))
        .collect();
    let expected = [
        (NSID_ALL, 0, 512, 0),
        (0, 4096, 8192, 1),
        (0, 12_288, 8192, 1),
        (0, 20_480, 20_000 - 16_384, 0),
    ];
    assert_eq!(commands, expected);
    assert!(asked.iter().all(|(c, _)| c.flags == 0 && c.dptr == [0; 16]), "no pointers");
    let own = Command::get_log_page(LogPageId::CHANGED_NAMESPACES, 0, 0, 4096);
    assert!(bench.fetch(own, 4096).is_ok());
    assert!(bench.asked().is_empty(), "the target's own");
}

#[test]
fn what_is_supported_is_what_drive_and_target_do() {
    let mut bench = Bench::new(all());
    let word = |bytes: &[u8], at: u8| {
        let at = usize::from(at) * 4;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    };
    let effects = Command::get_log_page(LogPageId::COMMANDS_SUPPORTED, 0, 0, 4096);
    let bytes = bench.fetch(effects, 4096).unwrap();
    for opcode in [AdminOpcode::SANITIZE, AdminOpcode::FIRMWARE_COMMIT, VENDOR_READ] {
        assert_eq!(word(&bytes, opcode.0), 0x1000 + u32::from(opcode.0));
    }
    assert_eq!(word(&bytes, AdminOpcode::FORMAT_NVM.0), 0, "is not passed");
    let own = CommandEffects::SUPPORTED | CommandEffects::SCOPE_CONTROLLER;
    assert_eq!(word(&bytes, AdminOpcode::KEEP_ALIVE.0), own);
    let tail = Command::get_log_page(LogPageId::COMMANDS_SUPPORTED, 0, 1024, 4096);
    let rest = bench.fetch(tail, 4096).unwrap();
    assert!(rest[..3072] == bytes[1024..] && rest[3072..].iter().all(|byte| *byte == 0));
    let beyond = Command::get_log_page(LogPageId::COMMANDS_SUPPORTED, 0, 8192, 64);
    assert!(bench.fetch(beyond, 64).unwrap_err().is(Status::INVALID_FIELD));
    let pages = Command::get_log_page(LogPageId::SUPPORTED_LOG_PAGES, 0, 0, 1024);
    let bytes = bench.fetch(pages, 1024).unwrap();
    assert_eq!(word(&bytes, 0x77), 0x1077, "of the drive");
    assert_eq!(word(&bytes, LogPageId::RESERVATION_NOTIFICATION.0), 1);
    let features = Command::get_log_page(LogPageId::FEATURES_SUPPORTED, 0, 0, 1024);
    let bytes = bench.fetch(features, 1024).unwrap();
    assert_eq!(word(&bytes, FeatureId::TIMESTAMP.0), 0x100e);
    assert_eq!(word(&bytes, FeatureId::KEEP_ALIVE_TIMER.0), own);
}

#[test]
fn features_are_the_drives_but_for_those_of_the_connection() {
    let mut bench = Bench::new(AdminPassthru::GET_SET_FEATURES);
    let timestamp = Command::set_features(FeatureId::TIMESTAMP, 0);
    assert_eq!(bench.send(timestamp, &[5; 8]), Ok(77));
    let (command, data) = bench.asked().remove(0);
    assert_eq!((command.cdw10.get(), &data[..9]), (0x0e, &[5, 5, 5, 5, 5, 5, 5, 5, 0][..]));
    let get = Command::get_features(FeatureId::TEMPERATURE_THRESHOLD, 0);
    assert_eq!(bench.send(get, &[]), Ok(77));
    let bytes = bench.fetch(Command::get_features(FeatureId::TIMESTAMP, 0), 8).unwrap();
    assert_eq!(bytes, [0, 0x10, 0, 0, 1, 0x10, 0, 0]);
    assert_eq!(bench.asked().len(), 2);
    for own in [FeatureId::KEEP_ALIVE_TIMER, FeatureId::NUMBER_OF_QUEUES] {
        assert_ne!(bench.send(Command::get_features(own, 0), &[]), Ok(77));
    }
    assert!(bench.asked().is_empty());
}

#[test]
fn commands_of_the_vendor_go_both_ways_to_the_right_namespace() {
    let mut bench = Bench::new(AdminPassthru::VENDOR_SPECIFIC);
    let read = Command { nsid: 1.into(), ..vendor(VENDOR_READ, 4) };
    assert_eq!(bench.fetch(read, 16).unwrap()[..4], [0, 0x10, 0, 0]);
    let write = Command { nsid: NSID_ALL.into(), cdw15: 9.into(), ..vendor(VENDOR_WRITE, 2) };
    assert_eq!(bench.send(write, b"vendors!"), Ok(77));
    assert_eq!(bench.send(vendor(AdminOpcode(0xc4), 0), &[]), Ok(77));
    let elsewhere = Command { nsid: 2.into(), ..vendor(VENDOR_READ, 4) };
    assert!(bench.fetch(elsewhere, 16).unwrap_err().is(Status::INVALID_NAMESPACE));
    let asked = bench.asked();
    let seen: Vec<_> = asked.iter().map(|(c, data)| (c.nsid.get(), data.len())).collect();
    assert_eq!(seen, [(DRIVE_NSID, 4096), (NSID_ALL, 8), (0, 0)]);
    assert_eq!((asked[1].1.as_slice(), asked[1].0.cdw15.get()), (&b"vendors!"[..], 9));
    let refused = bench.send(Command::admin(AdminOpcode::SANITIZE), &[]);
    assert!(refused.unwrap_err().is(Status::INVALID_OPCODE), "was not asked for");
}

#[test]
fn a_firmware_image_reaches_the_drive_part_by_part() {
    let mut bench = Bench::new(AdminPassthru::FW_UPDATE);
    let image: Vec<u8> = (0..20_000u32).map(|byte| byte as u8).collect();
    let mut download = Command::admin(AdminOpcode::FIRMWARE_DOWNLOAD);
    download.cdw10 = (20_000 / 4 - 1).into();
    download.cdw11 = 100.into();
    assert_eq!(bench.send(download, &image), Ok(77));
    let asked = bench.asked();
    let (mut at, mut got) = (100, vec![]);
    for (command, data) in asked {
        assert_eq!(command.cdw11.get(), at);
        assert_eq!((command.cdw10.get() as usize + 1) * 4, data.len());
        at += command.cdw10.get() + 1;
        got.extend(data);
    }
    assert!(got == image);
    download.cdw10 = 1000.into();
    let short = bench.send(download, &image[..64]);
    assert!(short.unwrap_err().is(Status::SGL_LENGTH_INVALID));
    assert!(bench.asked().is_empty());
}

#[test]
fn what_the_drive_refuses_fails_with_its_status() {
    let mut bench = Bench::new(AdminPassthru::SANITIZE);
    let refused = bench.send(Command::admin(AdminOpcode::SANITIZE), &[]).unwrap_err();
    assert_eq!(refused, Status::SANITIZE_IN_PROGRESS.with_dnr());
}

#[test]
fn a_reserved_namespace_is_not_sanitized_by_others() {
    let mut bench = Bench::new(all());
    let mut io = Host::dial(&bench.world, 0, 4420);
    io.greet(&mut bench.world, Digests::default());
    assert!(io.try_connect(&mut bench.world, 1, 16, bench.cntlid, 0).status().is_success());
    let keys = ReservationKeys { current: 5.into(), other: 5.into() };
    for (opcode, cdw10) in
        [(NvmOpcode::RESERVATION_REGISTER, 0), (NvmOpcode::RESERVATION_ACQUIRE, 1 << 8)]
    {
        let mut command = Command { cdw10: u32::into(cdw10), ..Command::nvm(opcode, 1) };
        command.set_sgl1(SglDescriptor::in_capsule(0, 16));
        let (done, _) = io.run(&mut bench.world, command, keys.as_bytes(), &[]);
        assert!(done.status().is_success(), "{:?}", done.status());
    }
    let sanitize = Command::admin(AdminOpcode::SANITIZE);
    assert!(bench.send(sanitize, &[]).unwrap_err().is(Status::SANITIZE_IN_PROGRESS), "own");
    let mut other = Host::dial(&bench.world, 0, 4420);
    other.id = [1; 16];
    other.enable(&mut bench.world);
    bench.admin = other;
    bench.asked();
    assert!(bench.send(sanitize, &[]).unwrap_err().is(Status::RESERVATION_CONFLICT));
    let receive = Command { cdw11: 512.into(), ..Command::admin(AdminOpcode::SECURITY_RECEIVE) };
    assert!(bench.fetch(receive, 512).is_ok(), "only writes are excluded");
    assert_eq!(bench.asked().len(), 1);
}

#[test]
fn an_event_is_cleared_by_reading_the_drives_page() {
    let mut bench = Bench::new(AdminPassthru::GET_LOG_PAGE);
    let want = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, 1 << 1);
    assert!(bench.send(want, &[]).is_ok());
    for _ in 0..2 {
        let held = bench.admin.submit(&bench.world, Command::async_event_request(), &[]);
        let too_warm = Command::set_features(FeatureId::TEMPERATURE_THRESHOLD, 0);
        bench.admin.submit(&bench.world, too_warm, &[]);
        let ends = [0, 1].map(|_| bench.admin.complete(&mut bench.world, &[]).0);
        let event = ends.iter().find(|end| end.cid.get() == held).unwrap();
        assert_eq!(AsyncEvent(event.dw0.get()).log_page(), LogPageId::SMART_HEALTH.0);
        let smart = Command::get_log_page(LogPageId::SMART_HEALTH, NSID_ALL, 0, 512);
        assert!(bench.fetch(smart, 512).is_ok());
    }
}

#[test]
fn who_does_not_see_the_namespace_sees_nothing_of_the_drive() {
    let options = SubsystemOptions { namespaces_max: 1, ..Default::default() };
    let hidden = NamespaceOptions { no_auto_visible: true, ..Default::default() };
    let mut bench = Bench::of(all(), options, hidden);
    assert_ne!(ascii_field(&bench.identify().sn), Some("DRIVE1"));
    for opcode in [AdminOpcode::SANITIZE, AdminOpcode::FIRMWARE_COMMIT, VENDOR_WRITE] {
        assert!(bench.send(vendor(opcode, 0), &[]).unwrap_err().is(Status::INVALID_OPCODE));
    }
    assert!(bench.asked().is_empty());
    let target = Rc::clone(&bench.world.target);
    let shown = async move { target.ns_add_host(DEFAULT_NQN, 1, HOST_NQN).await };
    assert_eq!(bench.world.run(shown), Some(Ok(())));
    assert_eq!(ascii_field(&bench.identify().sn), Some("DRIVE1"));
    assert_eq!(bench.send(vendor(VENDOR_WRITE, 0), &[]), Ok(77));
}

#[test]
fn what_works_on_a_namespace_goes_by_the_state_of_the_path() {
    let options = SubsystemOptions { namespaces_max: 1, ana_reporting: true, ..Default::default() };
    let mut bench = Bench::of(all(), options, NamespaceOptions::default());
    let target = Rc::clone(&bench.world.target);
    let state = AnaState::Inaccessible;
    let lost = async move { target.set_ana_state(DEFAULT_NQN, 4420.into(), state, None).await };
    assert_eq!(bench.world.run(lost), Some(Ok(())));
    let named = Command { nsid: 1.into(), ..vendor(VENDOR_WRITE, 0) };
    let security = Command { cdw11: 8.into(), ..Command::admin(AdminOpcode::SECURITY_SEND) };
    for command in [Command::admin(AdminOpcode::SANITIZE), security, named] {
        let data = if command.opcode == security.opcode { &[0; 8][..] } else { &[] };
        assert_eq!(bench.send(command, data), Err(Status::ANA_INACCESSIBLE), "no DNR");
    }
    assert!(bench.asked().is_empty());
    assert_eq!(bench.send(vendor(VENDOR_WRITE, 0), &[]), Ok(77), "of the controller");
    assert_eq!(ascii_field(&bench.identify().sn), Some("DRIVE1"));
}
