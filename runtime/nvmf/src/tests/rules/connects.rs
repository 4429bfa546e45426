//! Connect (base specification 2.0 §6.3): what is wrong is named by where it is, and the connection
//! may try again.

use alloc::vec::Vec;
use core::mem::offset_of;

use basalt_nvme_spec::fabrics::{Connect, ConnectData, InvalidParameter};
use basalt_nvme_spec::{Command, SglDescriptor, Status};
use zerocopy::IntoBytes;

use crate::pdu::Digests;
use crate::tests::host::{Host, connect_data};
use crate::tests::world::World;
use crate::{DEFAULT_NQN, DISCOVERY_NQN};

/// A Connect that is changed before it is sent.
type Change = fn(&mut Connect, &mut ConnectData);

fn in_data(offset: usize) -> u32 {
    InvalidParameter::Data(offset as u16).to_dword()
}

fn in_command(offset: usize) -> u32 {
    InvalidParameter::Command(offset as u16).to_dword()
}

fn name(field: &mut [u8; 256], name: &[u8]) {
    field.fill(0);
    field[..name.len()].copy_from_slice(name);
}

/// Sends a Connect of queue `qid` of controller `cntlid`, changed; its status and result.
fn refused(world: &mut World, host: &mut Host, ids: (u16, u16), change: Change) -> (Status, u32) {
    let (qid, cntlid) = ids;
    let mut connect = Connect::new(qid, 16, 0, SglDescriptor::in_capsule(0, 1024));
    let mut data = connect_data(DEFAULT_NQN, cntlid);
    change(&mut connect, &mut data);
    let (completion, _) = host.run(world, connect.into(), data.as_bytes(), &[]);
    (completion.status(), completion.dw0.get())
}

fn greeted(world: &mut World) -> Host {
    let mut host = Host::dial(world, 0, 4420);
    host.greet(world, Digests::default());
    host
}

#[test]
fn a_connect_of_an_admin_queue_says_what_is_wrong_with_it() {
    const INVALID: Status = Status::CONNECT_INVALID_PARAMETERS;
    let cntlid = in_data(offset_of!(ConnectData, cntlid));
    let subnqn = in_data(offset_of!(ConnectData, subnqn));
    let hostnqn = in_data(offset_of!(ConnectData, hostnqn));
    let sqsize = in_command(offset_of!(Connect, sqsize));
    let cases: [(Change, Status, u32); 14] = [
        (|c, _| c.recfmt = 1.into(), Status::CONNECT_INCOMPATIBLE_FORMAT, 0),
        (|c, _| c.recfmt = 0xffff.into(), Status::CONNECT_INCOMPATIBLE_FORMAT, 0),
        (|c, _| c.sqsize = 0.into(), INVALID, sqsize),
        (|c, _| c.sqsize = 0xffff.into(), INVALID, sqsize),
        (|_, d| d.cntlid = 0.into(), INVALID, cntlid),
        (|_, d| d.cntlid = 0xfffe.into(), INVALID, cntlid),
        (|_, d| d.subnqn.fill(b'a'), INVALID, subnqn),
        (|_, d| d.subnqn.fill(0), INVALID, subnqn),
        (|_, d| name(&mut d.subnqn, &[0xff; 20]), INVALID, subnqn),
        (|_, d| name(&mut d.subnqn, &[b'n'; 224]), INVALID, subnqn),
        (|_, d| name(&mut d.subnqn, b"nqn.2026-11.org.example:none"), INVALID, subnqn),
        (|_, d| d.hostnqn.fill(b'a'), INVALID, hostnqn),
        (|_, d| d.hostnqn.fill(0), INVALID, hostnqn),
        (|_, d| name(&mut d.hostnqn, &[b'n'; 224]), INVALID, hostnqn),
    ];
    let mut world = World::new();
    let (mut other, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = greeted(&mut world);
    for (index, (change, expected, place)) in cases.into_iter().enumerate() {
        let found = refused(&mut world, &mut host, (0, 0xffff), change);
        assert!(found.0.is(expected) && found.1 == place, "case {index}: {found:?}");
    }
    assert_eq!(world.target.controllers().len(), 1, "none was made");
    assert!(host.try_connect(&mut world, 0, 32, 0xffff, 0).status().is_success());
    assert!(other.run(&mut world, Command::keep_alive(), &[], &[]).0.status().is_success());
}

#[test]
fn a_connect_of_an_io_queue_says_what_is_wrong_with_it() {
    const INVALID: Status = Status::CONNECT_INVALID_PARAMETERS;
    let cntlid = in_data(offset_of!(ConnectData, cntlid));
    let qid = in_command(offset_of!(Connect, qid));
    let cases: [(Change, Status, u32); 9] = [
        (|_, d| d.cntlid = 0xffff.into(), INVALID, cntlid),
        (|_, d| d.cntlid = 0x7777.into(), INVALID, cntlid),
        (|c, _| c.qid = 128.into(), INVALID, qid),
        (|c, _| c.qid = 0xffff.into(), INVALID, qid),
        (|c, _| c.sqsize = 256.into(), INVALID, in_command(offset_of!(Connect, sqsize))),
        (|_, d| d.hostid = [1; 16], INVALID, in_data(offset_of!(ConnectData, hostid))),
        (
            |_, d| name(&mut d.hostnqn, b"nqn.2026-11.org.example:me"),
            INVALID,
            in_data(offset_of!(ConnectData, hostnqn)),
        ),
        (
            |_, d| name(&mut d.subnqn, DISCOVERY_NQN.as_bytes()),
            INVALID,
            in_data(offset_of!(ConnectData, subnqn)),
        ),
        (|c, _| c.recfmt = 7.into(), Status::CONNECT_INCOMPATIBLE_FORMAT, 0),
    ];
    let mut world = World::new();
    let (mut admin, id) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let mut host = greeted(&mut world);
    for (index, (change, expected, place)) in cases.into_iter().enumerate() {
        let found = refused(&mut world, &mut host, (1, id), change);
        assert!(found.0.is(expected) && found.1 == place, "case {index}: {found:?}");
    }
    assert!(host.try_connect(&mut world, 1, 16, id, 0).status().is_success());
    let mut twin = greeted(&mut world);
    let found = refused(&mut world, &mut twin, (1, id), |_, _| {});
    assert!(found.0.is(Status::SEQUENCE_ERROR), "a queue identifier twice: {found:?}");
    assert!(admin.run(&mut world, Command::keep_alive(), &[], &[]).0.status().is_success());
}

#[test]
fn a_discovery_controller_has_no_io_queues() {
    let mut world = World::new();
    let (_admin, id) = Host::admin(&mut world, DISCOVERY_NQN, 8009);
    let mut host = Host::dial(&world, 0, 8009);
    host.greet(&mut world, Digests::default());
    let of_discovery: Change = |_, d| name(&mut d.subnqn, DISCOVERY_NQN.as_bytes());
    let found = refused(&mut world, &mut host, (1, id), of_discovery);
    let qid = in_command(offset_of!(Connect, qid));
    assert!(found.0.is(Status::CONNECT_INVALID_PARAMETERS) && found.1 == qid, "{found:?}");
}

#[test]
fn the_data_of_a_connect_is_as_long_as_it_is() {
    let mut world = World::new();
    let mut host = greeted(&mut world);
    let data = connect_data(DEFAULT_NQN, 0xffff);
    let none = SglDescriptor::in_capsule(0, 0);
    let short = SglDescriptor::in_capsule(0, 1023);
    let long = SglDescriptor::in_capsule(0, 1025);
    let keyed = {
        let mut sgl = SglDescriptor::transport(1024);
        sgl.identifier = 0x40;
        sgl
    };
    let cases: [(SglDescriptor, Vec<u8>, Status); 5] = [
        (none, Vec::new(), Status::SGL_LENGTH_INVALID),
        (short, data.as_bytes().to_vec(), Status::SGL_LENGTH_INVALID),
        (long, data.as_bytes().to_vec(), Status::SGL_OFFSET_INVALID),
        (SglDescriptor::in_capsule(8, 1024), data.as_bytes().to_vec(), Status::SGL_OFFSET_INVALID),
        (keyed, Vec::new(), Status::SGL_TYPE_INVALID),
    ];
    for (sgl, capsule, expected) in cases {
        let connect = Connect::new(0, 32, 0, sgl);
        let (completion, _) = host.run(&mut world, connect.into(), &capsule, &[]);
        let found = completion.status();
        assert!(found.is(expected), "{sgl:?}: {found}, not {expected}");
    }
    // It may also be asked for.
    let connect = Connect::new(0, 32, 0, SglDescriptor::transport(1024));
    let (completion, _) = host.run(&mut world, connect.into(), &[], data.as_bytes());
    assert!(completion.status().is_success(), "{}", completion.status());
}
