//! Commands that a queue of that kind, in that state, must not carry out (base specification 2.0
//! §3.3.3, §6; NVMe/TCP §3.4): each fails alone, with its status.

use alloc::vec::Vec;

use basalt_nvme_spec::fabrics::{Connect, Property};
use basalt_nvme_spec::registers::{self, Cc, Shutdown};
use basalt_nvme_spec::{
    AdminOpcode, Cns, Command, FabricsType, FeatureId, LogPageId, NvmOpcode, SglDescriptor, Status,
};
use zerocopy::IntoBytes;

use crate::pdu::Digests;
use crate::tests::host::{Host, connect_data};
use crate::tests::world::World;
use crate::{DEFAULT_NQN, DISCOVERY_NQN};

/// A command, the data in its capsule, and the status it must end with.
type Case = (&'static str, Command, Vec<u8>, Status);

fn case(name: &'static str, command: Command, expected: Status) -> Case {
    (name, command, Vec::new(), expected)
}

fn transport(mut command: Command, len: u32) -> Command {
    command.set_sgl1(SglDescriptor::transport(len));
    command
}

/// A command whose descriptor is of that type and subtype.
fn pointing(mut command: Command, identifier: u8, len: u32) -> Command {
    command.set_sgl1(SglDescriptor::transport(len));
    command.dptr[15] = identifier;
    command
}

fn of_fabrics(kind: FabricsType) -> Command {
    let mut command = Command::admin(AdminOpcode::FABRICS);
    command.nsid = u32::from(kind.0).into();
    command
}

fn connect(qid: u16) -> Command {
    Connect::new(qid, 32, 0, SglDescriptor::in_capsule(0, 1024)).into()
}

fn identify() -> Command {
    transport(Command::identify(Cns::CONTROLLER, 0), 4096)
}

/// Runs the cases on one queue; none may hurt it, nor the host beside it.
fn check(world: &mut World, host: &mut Host, other: &mut Host, cases: &[Case]) {
    for (name, command, capsule, expected) in cases {
        let (completion, data) = host.run(world, *command, capsule, &[]);
        let found = completion.status();
        assert!(found.is(*expected), "{name}: {found}, not {expected}");
        assert!(data.is_empty(), "{name}: data came with a failure");
        let alive = other.run(world, Command::keep_alive(), &[], &[]).0;
        assert!(alive.status().is_success(), "{name}: the other host noticed");
    }
    assert_eq!(world.stats(0).faults, 0, "no connection ends for a command");
}

fn world() -> (World, Host, u16) {
    let mut world = World::new();
    let (other, cntlid) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    (world, other, cntlid)
}

#[test]
fn nothing_but_connect_comes_first() {
    let (mut world, mut other, _) = world();
    let mut host = Host::dial(&world, 0, 4420);
    host.greet(&mut world, Digests::default());
    let data = alloc::vec![0; 512];
    let mut write = Command::write(1, 0, 1);
    write.set_sgl1(SglDescriptor::in_capsule(0, 512));
    let cases = [
        case("Property Get", Property::get(0, 8).into(), Status::SEQUENCE_ERROR),
        case("Property Set", Property::set(0x14, 4, 1).into(), Status::SEQUENCE_ERROR),
        case("Disconnect", of_fabrics(FabricsType::DISCONNECT), Status::SEQUENCE_ERROR),
        case(
            "Authentication Receive",
            transport(of_fabrics(FabricsType::AUTHENTICATION_RECEIVE), 512),
            Status::SEQUENCE_ERROR,
        ),
        case("Identify", identify(), Status::SEQUENCE_ERROR),
        case("Keep Alive", Command::keep_alive(), Status::SEQUENCE_ERROR),
        case("event request", Command::async_event_request(), Status::SEQUENCE_ERROR),
        case("Read", transport(Command::read(1, 0, 1), 512), Status::SEQUENCE_ERROR),
        ("Write", write, data, Status::SEQUENCE_ERROR),
    ];
    check(&mut world, &mut host, &mut other, &cases);
    let connected = host.try_connect(&mut world, 0, 32, 0xffff, 0);
    assert!(connected.status().is_success(), "and then it is not too late");
}

#[test]
fn before_a_controller_is_enabled_it_has_properties_only() {
    let (mut world, mut other, _) = world();
    let mut host = Host::dial(&world, 0, 4420);
    host.greet(&mut world, Digests::default());
    assert!(host.try_connect(&mut world, 0, 32, 0xffff, 0).status().is_success());
    let log = Command::get_log_page(LogPageId::SMART_HEALTH, u32::MAX, 0, 512);
    let queues = Command::set_features(FeatureId::NUMBER_OF_QUEUES, 3 << 16 | 3);
    let cases = [
        case("Identify", identify(), Status::SEQUENCE_ERROR),
        case("Get Log Page", transport(log, 512), Status::SEQUENCE_ERROR),
        case("Set Features", queues, Status::SEQUENCE_ERROR),
        case("event request", Command::async_event_request(), Status::SEQUENCE_ERROR),
        case("Abort", Command::abort(1, 1), Status::SEQUENCE_ERROR),
    ];
    check(&mut world, &mut host, &mut other, &cases);
    let bad = |value: u32| Property::set(registers::CC as u32, 4, value.into()).into();
    let enabled = Cc::enabled(Cc::CSS_NVM).0;
    let cases = [
        case("CC with pages of 8 KiB", bad(enabled | 1 << 7), Status::INVALID_FIELD),
        case("CC with another command set", bad(enabled | 0b010 << 4), Status::INVALID_FIELD),
        case("CC with weights", bad(enabled | 1 << 11), Status::INVALID_FIELD),
        case(
            "CC with entries of 32 bytes",
            bad(enabled & !(0xf << 16) | 5 << 16),
            Status::INVALID_FIELD,
        ),
        case("CSTS written", Property::set(0x1c, 4, 1).into(), Status::INVALID_FIELD),
        case("CAP written", Property::set(0, 8, 1).into(), Status::INVALID_FIELD),
        case("CC as 8 bytes", Property::set(0x14, 8, 1).into(), Status::INVALID_FIELD),
        case("CAP as 4 bytes", Property::get(0, 4).into(), Status::INVALID_FIELD),
        case("CSTS as 8 bytes", Property::get(0x1c, 8).into(), Status::INVALID_FIELD),
        case("a property nobody has", Property::get(0x28, 8).into(), Status::INVALID_FIELD),
        case("between properties", Property::get(2, 4).into(), Status::INVALID_FIELD),
        case("far out", Property::get(u32::MAX, 4).into(), Status::INVALID_FIELD),
        case("of no size", size_of_7(Property::get(0x1c, 4)), Status::INVALID_FIELD),
    ];
    check(&mut world, &mut host, &mut other, &cases);
    assert_eq!(host.property_get(&mut world, registers::CSTS, 4), 0, "nothing was enabled");
}

fn size_of_7(mut property: Property) -> Command {
    property.attrib = 7;
    property.into()
}

#[test]
fn an_admin_queue_refuses_what_is_not_for_it() {
    let (mut world, mut other, _) = world();
    let (mut host, _) = Host::admin(&mut world, DEFAULT_NQN, 4420);
    let data = connect_data(DEFAULT_NQN, 0xffff).as_bytes().to_vec();
    let queue = |opcode| {
        case("queues are not made by commands", Command::admin(opcode), Status::INVALID_OPCODE)
    };
    let mut fused = identify();
    fused.flags |= Command::FUSE_FIRST;
    let mut prp = identify();
    prp.flags &= !Command::FLAG_PSDT_MASK;
    let mut reserved = identify();
    reserved.flags |= Command::FLAG_PSDT_MASK;
    let security =
        |identifier, len| pointing(Command::admin(AdminOpcode::SECURITY_SEND), identifier, len);
    let cases = [
        ("Connect again", connect(0), data.clone(), Status::SEQUENCE_ERROR),
        ("Connect of an I/O queue", connect(1), data, Status::SEQUENCE_ERROR),
        case("Disconnect", of_fabrics(FabricsType::DISCONNECT), Status::INVALID_OPCODE),
        case(
            "Authentication Send",
            pointing(of_fabrics(FabricsType::AUTHENTICATION_SEND), 0x01, 0),
            Status::INVALID_OPCODE,
        ),
        case(
            "Authentication Receive",
            transport(of_fabrics(FabricsType::AUTHENTICATION_RECEIVE), 512),
            Status::INVALID_OPCODE,
        ),
        case("a fabrics type nobody has", of_fabrics(FabricsType(0xf0)), Status::INVALID_OPCODE),
        queue(AdminOpcode::DELETE_IO_SQ),
        queue(AdminOpcode::CREATE_IO_SQ),
        queue(AdminOpcode::DELETE_IO_CQ),
        queue(AdminOpcode::CREATE_IO_CQ),
        queue(AdminOpcode::DOORBELL_BUFFER_CONFIG),
        case("Format", Command::admin(AdminOpcode::FORMAT_NVM), Status::INVALID_OPCODE),
        case("Sanitize", Command::admin(AdminOpcode::SANITIZE), Status::INVALID_OPCODE),
        case("vendor specific", Command::admin(AdminOpcode(0xc0)), Status::INVALID_OPCODE),
        case("both ways", Command::admin(AdminOpcode(0xc3)), Status::INVALID_OPCODE),
        case("fused", fused, Status::INVALID_FIELD),
        case("PRPs", prp, Status::INVALID_FIELD),
        case("PSDT 3", reserved, Status::INVALID_FIELD),
        case(
            "in a capsule, to the host",
            pointing(identify(), 0x01, 4096),
            Status::SGL_TYPE_INVALID,
        ),
        case("bit bucket", pointing(identify(), 0x10, 4096), Status::SGL_TYPE_INVALID),
        case("segment", pointing(identify(), 0x20, 4096), Status::SGL_TYPE_INVALID),
        case("last segment", pointing(identify(), 0x30, 4096), Status::SGL_TYPE_INVALID),
        case("keyed", pointing(identify(), 0x40, 4096), Status::SGL_TYPE_INVALID),
        case("address", pointing(identify(), 0x00, 4096), Status::SGL_TYPE_INVALID),
        case(
            "transport, other subtype",
            pointing(identify(), 0x51, 4096),
            Status::SGL_TYPE_INVALID,
        ),
        case("vendor type", pointing(identify(), 0xf0, 4096), Status::SGL_TYPE_INVALID),
        case("more than MDTS", transport(identify(), u32::MAX), Status::SGL_LENGTH_INVALID),
        case("data that is not there", security(0x01, 512), Status::SGL_OFFSET_INVALID),
    ];
    check(&mut world, &mut host, &mut other, &cases);
    assert!(host.run(&mut world, identify(), &[], &[]).0.status().is_success());
}

#[test]
fn an_io_queue_refuses_what_is_not_for_it() {
    let (mut world, mut other, cntlid) = world();
    let mut host = Host::io(&mut world, 0, cntlid, 1, Digests::default());
    let io = |opcode| Command::nvm(opcode, 1);
    let read = || Command::read(1, 0, 1);
    let mut both = transport(read(), 512);
    both.flags |= Command::FLAG_FUSE_MASK;
    let mut far = Command::write(1, 0, 1);
    far.set_sgl1(SglDescriptor::in_capsule(u64::MAX, 512));
    let data = connect_data(DEFAULT_NQN, cntlid).as_bytes().to_vec();
    let cases = [
        ("Connect again", connect(1), data, Status::SEQUENCE_ERROR),
        case("Property Get", Property::get(0, 8).into(), Status::INVALID_OPCODE),
        case("Property Set", Property::set(0x14, 4, 0).into(), Status::INVALID_OPCODE),
        case("Disconnect", of_fabrics(FabricsType::DISCONNECT), Status::INVALID_OPCODE),
        case("Keep Alive", Command::keep_alive(), Status::INVALID_OPCODE),
        case("Identify", identify(), Status::INVALID_OPCODE),
        case("Write Uncorrectable", io(NvmOpcode::WRITE_UNCORRECTABLE), Status::INVALID_OPCODE),
        case("a zone's command", io(NvmOpcode::ZONE_SEND), Status::INVALID_OPCODE),
        case("vendor specific", io(NvmOpcode(0x80)), Status::INVALID_OPCODE),
        case("both ways", io(NvmOpcode(0x83)), Status::INVALID_OPCODE),
        case("FUSE 3", both, Status::INVALID_FIELD),
        case("no data pointer", read(), Status::SGL_LENGTH_INVALID),
        case("bit bucket", pointing(read(), 0x10, 512), Status::SGL_TYPE_INVALID),
        case("segment", pointing(read(), 0x20, 512), Status::SGL_TYPE_INVALID),
        case("keyed", pointing(read(), 0x40, 512), Status::SGL_TYPE_INVALID),
        case("address", pointing(read(), 0x00, 512), Status::SGL_TYPE_INVALID),
        case("offset that wraps", far, Status::SGL_OFFSET_INVALID),
        case("one byte short", transport(read(), 511), Status::SGL_LENGTH_INVALID),
        case(
            "65,536 blocks",
            transport(Command::read(1, 0, 65_536), 1 << 20),
            Status::LBA_OUT_OF_RANGE,
        ),
        case("Verify beyond", Command::verify(1, 8192, 1), Status::LBA_OUT_OF_RANGE),
        case(
            "Compare beyond",
            transport(Command::compare(1, 8192, 1), 512),
            Status::LBA_OUT_OF_RANGE,
        ),
        case("Copy without data", Command::copy(1, 0, 1), Status::SGL_LENGTH_INVALID),
        case("Write Zeroes of none", Command::write_zeroes(9, 0, 1), Status::INVALID_NAMESPACE),
    ];
    check(&mut world, &mut host, &mut other, &cases);
    let read = transport(Command::read(1, 0, 1), 512);
    assert!(host.run(&mut world, read, &[], &[]).0.status().is_success());
}

#[test]
fn a_discovery_controller_does_discovery_only() {
    let (mut world, mut other, _) = world();
    let (mut host, _) = Host::admin(&mut world, DISCOVERY_NQN, 8009);
    let cases = [
        case("Abort", Command::abort(1, 1), Status::INVALID_OPCODE),
        case("Format", Command::admin(AdminOpcode::FORMAT_NVM), Status::INVALID_OPCODE),
        case("Disconnect", of_fabrics(FabricsType::DISCONNECT), Status::INVALID_OPCODE),
    ];
    check(&mut world, &mut host, &mut other, &cases);
    let log = transport(Command::get_log_page(LogPageId::DISCOVERY, 0, 0, 1024), 1024);
    assert!(host.run(&mut world, log, &[], &[]).0.status().is_success());
}

#[test]
fn a_controller_that_is_shut_down_connects_no_queue_until_it_is_reset() {
    let (mut world, mut other, cntlid) = world();
    let down = Cc::enabled(Cc::CSS_NVM).with_shutdown(Shutdown::NORMAL).0;
    assert!(other.property_set(&mut world, registers::CC, down.into()).status().is_success());
    let mut late = Host::dial(&world, 0, 4420);
    late.greet(&mut world, Digests::default());
    assert!(late.try_connect(&mut world, 1, 16, cntlid, 0).status().is(Status::SEQUENCE_ERROR));
    for value in [0, Cc::enabled(Cc::CSS_NVM).0] {
        assert!(other.property_set(&mut world, registers::CC, value.into()).status().is_success());
    }
    assert!(late.try_connect(&mut world, 1, 16, cntlid, 0).status().is_success());
}
