//! How data PDUs look on the wire.

use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_nvme_spec::{Command, SglDescriptor};
use zerocopy::FromBytes;

use super::host::{Host, Received};
use super::world::World;
use crate::pdu::Digests;
use crate::pdu::wire::{self, flags, kind};
use crate::{C2hSuccess, DEFAULT_NQN, TransportConfig};
use basalt_bdev::suite::disk::Disk;

fn transport(mut command: Command, len: u32) -> Command {
    command.set_sgl1(SglDescriptor::transport(len));
    command
}

/// A queue whose host said `prepare` about itself before it greeted.
fn queue(world: &mut World, qid: u16, digests: Digests, prepare: impl Fn(&mut Host)) -> Host {
    let cntlid = match world.target.controllers().first() {
        Some(controller) => controller.cntlid,
        None => Host::admin(world, DEFAULT_NQN, 4420).1,
    };
    let mut host = Host::dial(world, 0, 4420);
    prepare(&mut host);
    host.greet(world, digests);
    assert!(host.try_connect(world, qid, 16, cntlid, 0).status().is_success());
    host
}

/// All PDUs a read of two blocks is answered with.
fn read(host: &mut Host, world: &mut World) -> Vec<Received> {
    host.submit(world, transport(Command::read(1, 0, 2), 1024), &[]);
    let mut pdus = Vec::from([host.receive(world).unwrap()]);
    if pdus[0].common.flags & flags::SUCCESS == 0 {
        pdus.push(host.receive(world).unwrap());
    }
    host.expect_silence(world);
    pdus
}

#[test]
fn data_to_the_host_lies_where_it_asked_with_any_digests() {
    let mut world = World::new();
    let mut qid = 0;
    for hpda in [0, 1, 6, 7, 31] {
        for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
            qid += 1;
            let digests = Digests { header, data };
            let mut host = queue(&mut world, qid, digests, |host| host.hpda = hpda);
            let pdu = &read(&mut host, &mut world)[0];
            let align = (u32::from(hpda) + 1) * 4;
            let pdo = (24 + 4 * u32::from(header)).next_multiple_of(align);
            assert_eq!(u32::from(pdu.common.pdo), pdo);
            assert_eq!(pdu.common.plen.get(), pdo + 1024 + 4 * u32::from(data));
            assert_eq!(pdu.data, [0xee; 1024]);
        }
    }
}

#[test]
fn a_response_is_left_out_only_as_configured_and_agreed() {
    const LAST: u8 = flags::LAST;
    for (policy, no_flow_control, left_out) in [
        (C2hSuccess::WithoutFlowControl, false, false),
        (C2hSuccess::WithoutFlowControl, true, true),
        (C2hSuccess::Always, false, true),
        (C2hSuccess::Always, true, true),
    ] {
        let config = TransportConfig { c2h_success: policy, ..TransportConfig::default() };
        let mut world = World::configured(1, config, Arc::new(Disk::new(512, 8192)));
        let flow = |host: &mut Host| host.no_flow_control = no_flow_control;
        let mut host = queue(&mut world, 1, Digests::default(), flow);
        let pdus = read(&mut host, &mut world);
        let success = if left_out { flags::SUCCESS } else { 0 };
        assert_eq!((pdus[0].common.kind, pdus[0].common.flags), (kind::C2H_DATA, LAST | success));
        let rest: Vec<_> = pdus[1..].iter().map(|pdu| pdu.common.kind).collect();
        assert_eq!(rest, if left_out { &[][..] } else { &[kind::CAPSULE_RESP] });
    }
}

#[test]
fn a_failed_read_sends_no_data_and_a_write_is_asked_for_once() {
    let mut world = World::new();
    let mut host = queue(&mut world, 1, Digests::default(), |_| {});
    host.submit(&world, transport(Command::read(1, 9000, 1), 512), &[]);
    assert_eq!(host.receive(&mut world).unwrap().common.kind, kind::CAPSULE_RESP);
    host.submit(&world, transport(Command::write(1, 0, 2048), 1 << 20), &[]);
    let r2t = wire::R2t::read_from_bytes(&host.receive(&mut world).unwrap().header).unwrap();
    assert_eq!((r2t.cccid.get(), r2t.r2to.get(), r2t.r2tl.get()), (host.cid, 0, 1 << 20));
    host.expect_silence(&mut world);
    host.h2c_max = 4096;
    host.answer_r2t(&world, &r2t, &[1; 1 << 20]);
    assert!(host.complete(&mut world, &[]).0.status().is_success());
}
