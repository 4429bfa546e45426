//! What is administered, and what becomes of bdevs and their users meanwhile.

use alloc::string::ToString;
use alloc::vec;

use basalt_bdev::{NvmeNamespaces, NvmeOrder, NvmeReport, NvmeSubject, OpenError};
use basalt_models::nvme::{Fault, ManageConfig, NamespaceConfig, admin};
use basalt_nvme::{AdminError, LongLimits};
use basalt_nvme_spec::manage::*;
use basalt_nvme_spec::{AdminOpcode, Status};

use super::*;
use crate::{ControlError, ControllerState, ManageError};

fn config() -> Config {
    let namespaces = vec![NamespaceConfig::new(1, 512, 2048), NamespaceConfig::new(2, 4096, 100)];
    Config { namespaces, manage: ManageConfig::full(), ..Config::default() }
}

fn format(nsid: u32, size: u32) -> NvmeOrder {
    let (target, settings) = (FormatTarget::Namespace(nsid), FormatSettings::default());
    NvmeOrder::Format { target, blocks: BlockFormat::Size(size), settings }
}

fn sanitize() -> NvmeOrder {
    NvmeOrder::Sanitize(Sanitize {
        action: SanitizeAction::BlockErase,
        on_failure: OnFailure::Restricted,
        deallocation: Deallocation::After,
    })
}

type Answer = Result<NvmeReport, ManageError>;

fn manage(rig: &mut Rig, order: NvmeOrder) -> Answer {
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.wait_for(async move { controllers.manage("Nvme0", order).await })
}

/// Has the order carried out while the test goes on; its answer comes to the place returned.
fn begin(rig: &mut Rig, order: NvmeOrder) -> Rc<RefCell<Option<Answer>>> {
    let controllers = NvmeControllers::of(&rig.core(0));
    let place = Rc::new(RefCell::new(None));
    let answer = Rc::clone(&place);
    rig.core(0).spawn("test", async move {
        let ended = controllers.manage("Nvme0", order).await;
        *answer.borrow_mut() = Some(ended);
    });
    rig.rounds(5);
    place
}

fn wait(rig: &mut Rig, answer: &RefCell<Option<Answer>>) -> Answer {
    for _ in 0..ROUNDS_MAX {
        if let Some(answer) = answer.borrow_mut().take() {
            return answer;
        }
        rig.round();
    }
    panic!("the order hangs");
}

fn fill(rig: &mut Rig, core: usize) {
    let mut channel = rig.channel(core);
    let io = Io::with_data(Op::Write, 7, 1, rig.filled(core, &[0x5a; 512]), 0);
    channel.submit(io).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
}

#[test]
fn a_format_brings_the_bdev_back_with_other_blocks_and_empty() {
    let mut rig = Rig::attached(2, config());
    fill(&mut rig, 1);
    let before = rig.registry.get("Nvme0n1").unwrap();
    assert!(matches!(manage(&mut rig, format(1, 4096)), Ok(NvmeReport::Done)));
    let after = rig.registry.get("Nvme0n1").unwrap();
    assert!(!alloc::sync::Arc::ptr_eq(&before, &after));
    assert_eq!((after.info().block_size, after.info().num_blocks.get()), (4096, 256));
    assert_eq!(rig.model.contents(1, 0, 4096), [0; 4096]);
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n2"]);
    rig.assert_no_violations();
}

#[test]
fn nothing_is_lost_that_somebody_has_open() {
    let mut rig = Rig::attached(1, config());
    fill(&mut rig, 0);
    for access in [Access::ReadOnly, Access::ReadWrite, Access::Exclusive] {
        let open = rig.registry.open("Nvme0n1", access).unwrap();
        let all = FormatTarget::All;
        let settings = FormatSettings::default();
        let orders = [
            format(1, 4096),
            NvmeOrder::Format { target: all, blocks: BlockFormat::Size(512), settings },
            NvmeOrder::DeleteNamespace(1),
            NvmeOrder::DetachNamespace(1),
            sanitize(),
        ];
        for order in orders {
            let refused = manage(&mut rig, order.clone()).unwrap_err();
            assert_eq!(refused, ManageError::InUse("Nvme0n1".into()), "{order:?}");
            assert_eq!(refused.to_string(), "Nvme0n1 is in use");
        }
        assert!(!open.is_removed());
        assert_eq!(rig.model.contents(1, 7, 2), [0x5a; 2]);
    }
    let open = rig.open("Nvme0n2");
    assert!(manage(&mut rig, format(1, 512)).is_ok(), "only the other one is open");
    assert!(!open.is_removed());
}

#[test]
fn what_another_controller_of_the_subsystem_has_open_is_not_lost_either() {
    let mut rig = Rig::attached(1, config());
    let twin = Model::new(rig.machine.bus(), Config { pci_bus: 1, ..config() });
    let (local, device) = (rig.core(0), twin.device());
    let options = Options::named("Nvme1");
    rig.wait_for(async move { attach(&local, device, IoPath::new(), options).await }).unwrap();
    let open = rig.open("Nvme1n1");
    for order in [format(1, 512), NvmeOrder::DeleteNamespace(1), sanitize()] {
        let refused = manage(&mut rig, order).unwrap_err();
        assert_eq!(refused, ManageError::InUse("Nvme1n1".into()));
    }
    assert!(manage(&mut rig, NvmeOrder::DetachNamespace(1)).is_ok(), "the other keeps it");
    assert!(!open.is_removed());
}

#[test]
fn the_rest_goes_on_during_a_format_and_nobody_opens_what_it_erases() {
    let mut rig = Rig::attached(2, config());
    rig.model.inject(admin(AdminOpcode::FORMAT_NVM), Fault::Delay(3000));
    let answer = begin(&mut rig, format(1, 4096));
    let refused = rig.registry.open("Nvme0n1", Access::ReadOnly);
    assert!(matches!(refused, Err(OpenError::NoSuchBdev)));
    // A change of another namespace has all of them looked at.
    rig.model.add_namespace(NamespaceConfig::new(5, 512, 8));
    rig.rounds(1000);
    assert_eq!(rig.info().bdevs, ["Nvme0n2", "Nvme0n5"]);
    let busy = manage(&mut rig, NvmeOrder::DeleteNamespace(2)).unwrap_err();
    assert_eq!(busy, ManageError::Busy);
    let told = manage(&mut rig, NvmeOrder::Tell(NvmeSubject::SelfTests));
    assert!(matches!(told, Ok(NvmeReport::SelfTests(_))));
    let mut channel = rig.open("Nvme0n2").channel(&rig.core(1)).unwrap();
    let data = SgList::One(rig.buf(1, 4096));
    channel.submit(Io::with_data(Op::Read, 0, 1, data, 0)).unwrap();
    assert_eq!(rig.drain(&mut channel, 1)[0].status, Ok(()));
    assert!(answer.borrow().is_none(), "it is still under way");
    assert!(wait(&mut rig, &answer).is_ok());
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n2", "Nvme0n5"]);
    assert_eq!(rig.info().resets, 0);
    rig.assert_no_violations();
}

#[test]
fn a_reset_during_a_format_ends_it_and_the_bdev_comes_back() {
    let mut rig = Rig::attached(1, config());
    rig.model.inject(admin(AdminOpcode::FORMAT_NVM), Fault::DropCompletion);
    let answer = begin(&mut rig, format(1, 4096));
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.wait_for(async move { controllers.reset("Nvme0").await }).unwrap();
    assert_eq!(wait(&mut rig, &answer).unwrap_err(), ManageError::Admin(AdminError::Reset));
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n2"]);
}

#[test]
fn a_detached_controller_leaves_no_order_waiting() {
    let mut rig = Rig::attached(1, config());
    rig.model.inject(admin(AdminOpcode::FORMAT_NVM), Fault::DropCompletion);
    let answer = begin(&mut rig, format(1, 4096));
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.wait_for(async move { controllers.detach("Nvme0").await }).unwrap();
    let gone = ManageError::Control(ControlError::Gone);
    assert_eq!(wait(&mut rig, &answer).unwrap_err(), gone);
    let none = ManageError::Control(ControlError::NoSuchController);
    assert_eq!(manage(&mut rig, format(1, 4096)).unwrap_err(), none);
}

#[test]
fn a_format_that_never_ends_has_the_controller_reset_before_the_bdev_comes_back() {
    let mut rig = Rig::new(1, config());
    let long = LongLimits { format: Duration::from_millis(500), ..LongLimits::default() };
    rig.attach_with(Options { long, ..quick() }).unwrap();
    rig.model.inject(admin(AdminOpcode::FORMAT_NVM), Fault::DropCompletion);
    let late = manage(&mut rig, format(1, 4096)).unwrap_err();
    assert_eq!(late, ManageError::Admin(AdminError::Timeout));
    assert_eq!((rig.info().resets, rig.info().state), (1, ControllerState::Enabled));
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n2"]);
}

#[test]
fn a_format_that_is_refused_leaves_the_bdev_as_it_was() {
    let mut rig = Rig::attached(1, config());
    let refused = manage(&mut rig, format(1, 1024)).unwrap_err();
    assert_eq!(refused, ManageError::Admin(AdminError::BadArgument));
    rig.model.inject(admin(AdminOpcode::FORMAT_NVM), Fault::Status(1, 0x0a));
    let refused = manage(&mut rig, format(1, 4096)).unwrap_err();
    assert_eq!(refused, ManageError::Admin(AdminError::Status(Status::INVALID_FORMAT)));
    let bdev = rig.registry.get("Nvme0n1").unwrap();
    assert_eq!((bdev.info().block_size, rig.info().bdevs.len()), (512, 2));
}

#[test]
fn bdevs_come_and_go_with_what_is_attached() {
    let mut rig = Rig::attached(1, config());
    let order = NvmeOrder::CreateNamespace { blocks: 64, format: BlockFormat::Size(4096) };
    let Ok(NvmeReport::Created(3)) = manage(&mut rig, order) else { panic!() };
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n2"], "it is attached to nothing");
    assert!(manage(&mut rig, NvmeOrder::AttachNamespace(3)).is_ok());
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n2", "Nvme0n3"]);
    assert!(manage(&mut rig, NvmeOrder::DetachNamespace(2)).is_ok());
    assert!(manage(&mut rig, NvmeOrder::DeleteNamespace(1)).is_ok());
    assert_eq!(rig.info().bdevs, ["Nvme0n3"]);
    let told = manage(&mut rig, NvmeOrder::Tell(NvmeSubject::Namespaces));
    let Ok(NvmeReport::Namespaces(namespaces)) = told else { panic!("{told:?}") };
    let total_bytes = 64 << 20;
    let expected = NvmeNamespaces {
        allocated: vec![2, 3],
        attached: vec![3],
        controllers: vec![1],
        total_bytes,
        unallocated_bytes: total_bytes - 164 * 4096,
    };
    assert_eq!(namespaces, expected);
    rig.assert_no_violations();
}

#[test]
fn sanitizing_keeps_all_bdevs_away_until_it_is_done() {
    let steps = 5000;
    let manage_config = ManageConfig { steps, ..ManageConfig::full() };
    let mut rig = Rig::attached(1, Config { manage: manage_config, ..config() });
    fill(&mut rig, 0);
    assert!(manage(&mut rig, sanitize()).is_ok());
    rig.rounds(500);
    assert!(rig.registry.list().is_empty());
    assert_eq!(manage(&mut rig, format(1, 512)).unwrap_err(), ManageError::Busy);
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.wait_for(async move { controllers.reset("Nvme0").await }).unwrap();
    assert!(rig.registry.list().is_empty(), "it goes on through a reset");
    rig.rounds(steps);
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n2"]);
    assert_eq!(rig.model.contents(1, 7, 2), [0; 2]);
    rig.model.inject(admin(AdminOpcode::SANITIZE), Fault::Status(0, 6));
    assert!(manage(&mut rig, sanitize()).is_err());
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n2"], "it has not begun");
}

#[test]
fn a_controller_that_is_being_sanitized_already_shows_its_namespaces_later() {
    let manage_config = ManageConfig { steps: 5000, ..ManageConfig::full() };
    let mut rig = Rig::attached(1, Config { manage: manage_config, ..config() });
    assert!(manage(&mut rig, sanitize()).is_ok());
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.wait_for(async move { controllers.detach("Nvme0").await }).unwrap();
    assert_eq!(rig.attach().unwrap(), Vec::<String>::new());
    rig.rounds(6000);
    assert_eq!(rig.info().bdevs, ["Nvme0n1", "Nvme0n2"]);
}

#[test]
fn firmware_that_runs_is_told_at_once_or_after_a_reset() {
    let mut rig = Rig::attached(1, config());
    let update = |rig: &mut Rig, revision: &[u8; 8], action| {
        let image = [revision.as_slice(), &[0; 4088]].concat();
        manage(rig, NvmeOrder::DownloadFirmware { offset: 0, image }).unwrap();
        let committed = manage(rig, NvmeOrder::CommitFirmware { slot: 2, action });
        let Ok(NvmeReport::Committed(activation)) = committed else { panic!("{committed:?}") };
        activation
    };
    assert_eq!(rig.info().firmware, "1.0");
    assert_eq!(update(&mut rig, b"2.0     ", FirmwareAction::ActivateNow), Activation::Done);
    assert_eq!(rig.info().firmware, "2.0");
    let activation = update(&mut rig, b"3.0     ", FirmwareAction::StoreAndActivateAtReset);
    assert_eq!((activation, rig.info().firmware), (Activation::ControllerReset, "2.0".into()));
    let controllers = NvmeControllers::of(&rig.core(0));
    rig.wait_for(async move { controllers.reset("Nvme0").await }).unwrap();
    assert_eq!(rig.info().firmware, "3.0");
}
