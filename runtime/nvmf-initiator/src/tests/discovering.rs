use basalt_nvmf::{Listener, Referral};

use super::*;

const OTHER: &str = "nqn.2026-11.io.basalt:other";

fn start(two: &mut Two) -> Rc<Discoveries> {
    let local = two.host.core(0);
    let discoveries = Discoveries::of(&local);
    let transport = TransportId { peer: Endpoint::from((TARGET, 8009)) };
    let options = DiscoveryOptions { name: "Far".into(), transport, remote: two.options() };
    discoveries.start(&local, options.clone()).unwrap();
    assert_eq!(discoveries.start(&local, options), Err(RemoteError::NameTaken));
    let waited = Rc::clone(&discoveries);
    assert_eq!(two.wait_for(async move { waited.settled("Far").await }), Ok(()));
    discoveries
}

fn attached(two: &Two) -> Vec<(String, usize)> {
    let list = two.remotes().list();
    list.into_iter().map(|remote| (remote.name, remote.paths.len())).collect()
}

#[test]
fn what_a_discovery_service_tells_of_is_attached_and_let_go_of() {
    let mut two = Two::new(2, 1, disk());
    let discoveries = start(&mut two);
    assert_eq!(attached(&two), [(String::from("Far0"), 1)]);
    assert!(two.host.registry.get("Far0n1").is_some());

    // Another way to the same subsystem, then another subsystem.
    two.listen(DEFAULT_NQN, 4421);
    two.pass(Duration::from_secs(1));
    assert_eq!(attached(&two), [(String::from("Far0"), 2)]);
    two.target.create_subsystem(OTHER, SubsystemOptions::default()).unwrap();
    two.target.allow_any_host(OTHER, HostPolicy::Any).unwrap();
    two.listen(OTHER, 4422);
    two.pass(Duration::from_secs(1));
    assert_eq!(attached(&two), [(String::from("Far0"), 2), (String::from("Far1"), 1)]);

    two.target.delete_subsystem(OTHER).unwrap();
    two.target.remove_listener(DEFAULT_NQN, 4421).unwrap();
    two.pass(Duration::from_secs(3));
    assert_eq!(attached(&two), [(String::from("Far0"), 1)]);
    let stopped = Rc::clone(&discoveries);
    assert_eq!(two.wait_for(async move { stopped.stop("Far").await }), Ok(()));
    assert!(attached(&two).is_empty() && discoveries.list().is_empty());
    two.pass(Duration::from_secs(1));
    assert_eq!(two.at_target(), (0, 0));
}

#[test]
fn a_discovery_service_that_was_out_of_reach_is_asked_again() {
    let mut two = Two::new(1, 1, disk());
    let discoveries = start(&mut two);
    two.cable.unplug();
    two.pass(Duration::from_secs(14));
    two.cable.plug_in();
    two.listen(DEFAULT_NQN, 4421);
    two.pass(Duration::from_secs(6));
    assert_eq!(attached(&two), [(String::from("Far0"), 2)]);
    assert_eq!(discoveries.list().len(), 1);
}

#[test]
fn when_a_discovery_service_is_lost_one_that_it_has_told_of_is_asked() {
    let mut two = Two::new(1, 1, disk());
    let elsewhere = TransportId { peer: Endpoint::from(([10, 0, 0, 9], 8009)) };
    let at = Listener { address: elsewhere.peer.ip(), port: elsewhere.peer.port() };
    let referral = Referral { at, subnqn: DISCOVERY_NQN.into(), secure_channel: false };
    two.target.add_referral(referral).unwrap();
    let discoveries = start(&mut two);
    // Every port of the target has its discovery service.
    let same = TransportId { peer: Endpoint::from((TARGET, 4420)) };
    assert_eq!(discoveries.list()[0].referrals, [same, elsewhere]);
    for transport in [same, elsewhere] {
        let options = DiscoveryOptions { name: "New".into(), transport, remote: two.options() };
        let started = discoveries.start(&two.host.core(0), options);
        assert_eq!(started, Err(RemoteError::PathTaken));
    }

    two.target.remove_listener(DISCOVERY_NQN, 8009).unwrap();
    two.cable.unplug();
    two.pass(Duration::from_secs(14));
    two.cable.plug_in();
    two.pass(Duration::from_secs(10));
    let info = &discoveries.list()[0];
    assert_eq!(info.transport, same);
    let first = TransportId { peer: Endpoint::from((TARGET, 8009)) };
    assert!(info.referrals.contains(&first) && info.referrals.contains(&elsewhere));
    two.listen(DEFAULT_NQN, 4421);
    two.pass(Duration::from_secs(1));
    assert_eq!(attached(&two), [(String::from("Far0"), 2)]);
}
