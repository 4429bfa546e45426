use basalt_nvme_spec::fabrics::InvalidParameter;

use super::*;

#[test]
fn a_remote_namespace_becomes_a_bdev_that_is_as_large_and_has_its_uuid() {
    let mut two = Two::new(2, 2, disk());
    let options = two.options();
    assert_eq!(two.attach(options), Ok(Vec::from([String::from("Nvme0n1")])));
    let bdev = two.host.registry.get("Nvme0n1").unwrap();
    let info = bdev.info();
    assert_eq!((info.block_size, info.num_blocks.get(), info.uuid), (512, 8192, [7; 16]));
    assert_eq!(info.product_name, "NVMe disk");
    let [remote] = &two.remotes().list()[..] else { panic!("one controller was attached") };
    assert_eq!((&*remote.name, &*remote.subnqn), ("Nvme0", DEFAULT_NQN));
    assert_eq!(remote.paths[0].state, PathState::Live);
    // An admin queue and one per core.
    assert_eq!(two.at_target().0, 3);
}

#[test]
fn what_is_wrong_with_a_connect_is_said() {
    let mut two = Two::new(1, 1, disk());
    let other = RemoteOptions { subnqn: "nqn.2026-11.io.basalt:none".into(), ..two.options() };
    let refused = RemoteError::Path(PathError::Invalid(InvalidParameter::Data(256)));
    assert_eq!(two.attach(other), Err(refused));
    let options = two.options();
    let reset =
        RemoteError::Path(PathError::Lost(LinkError::Socket(basalt_net::SocketError::Reset)));
    assert_eq!(two.attach_by(options, 4999), Err(reset));
    two.cable.unplug();
    let options = two.options();
    assert_eq!(two.attach(options), Err(RemoteError::Path(PathError::Timeout)));
    two.cable.plug_in();
    let long = RemoteOptions { subnqn: "n".repeat(224), ..two.options() };
    assert_eq!(two.attach(long), Err(RemoteError::BadName));
    assert!(two.remotes().list().is_empty());
    two.pass(Duration::from_secs(15));
    assert_eq!(two.at_target().0, 0, "a connection was left behind");
    let options = two.options();
    assert!(two.attach(options).is_ok(), "it works once everything is right");
}

#[test]
fn a_host_that_is_not_allowed_is_told_so() {
    let mut two = Two::new(1, 1, disk());
    two.target.allow_any_host(DEFAULT_NQN, HostPolicy::Listed).unwrap();
    let options = two.options();
    let Err(RemoteError::Path(PathError::Refused(status))) = two.attach(options) else {
        panic!("it was let in")
    };
    assert!(status.is(basalt_nvme_spec::Status::CONNECT_INVALID_HOST));
    two.target.add_host(DEFAULT_NQN, &Host::of(&two.host.core(0)).nqn).unwrap();
    let options = two.options();
    assert!(two.attach(options).is_ok());
}

#[test]
fn a_detached_controller_leaves_nothing_behind() {
    let mut two = Two::new(2, 2, disk());
    let before = (two.host.in_use(), two.far.in_use());
    for _ in 0..3 {
        let options = two.options();
        two.attach(options).unwrap();
        let mut channel = two.channel(1);
        channel.submit(two.read(1, 0, 8, 1)).unwrap();
        drop(two.drain(&mut channel, 1));
        drop(channel);
        assert_eq!(two.detach(), Ok(()));
        assert!(two.host.registry.get("Nvme0n1").is_none());
    }
    two.pass(Duration::from_secs(1));
    assert_eq!(two.at_target(), (0, 0));
    assert_eq!((two.host.in_use(), two.far.in_use()), before);
    assert_eq!(two.detach(), Err(RemoteError::NoSuchController));
}

#[test]
fn a_name_or_an_address_that_is_taken_is_refused() {
    let mut two = Two::new(1, 1, disk());
    let options = two.options();
    two.attach(options.clone()).unwrap();
    assert_eq!(two.attach(options.clone()), Err(RemoteError::PathTaken));
    let other = RemoteOptions { subnqn: "nqn.2026-11.io.basalt:other".into(), ..options.clone() };
    assert_eq!(two.attach_by(other, 4421), Err(RemoteError::OtherController));
    let remotes = two.remotes();
    let transport = TransportId { peer: Endpoint::from((TARGET, 4421)) };
    let alone =
        two.wait_for(async move { remotes.attach(options, transport, Multipath::Disable).await });
    assert_eq!(alone, Err(RemoteError::NameTaken));
}

#[test]
fn a_namespace_that_has_gone_is_kept_by_no_channel_of_it() {
    let mut two = Two::new(1, 1, disk());
    let options = two.options();
    two.attach(options).unwrap();
    let channel = two.channel(0);
    let host = basalt_nvmf_host::CoreHost::of(&two.host.core(0)).unwrap();
    let kept = Rc::downgrade(&host.namespace(basalt_nvmf_host::NamespaceId(0, 0)).unwrap());
    assert_eq!(two.detach(), Ok(()));
    assert!(kept.upgrade().is_some(), "the channel is still there");
    drop(channel);
    assert!(kept.upgrade().is_none());
}
