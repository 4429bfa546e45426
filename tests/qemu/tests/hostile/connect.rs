//! Commands that must not be carried out fail with the status that says why, and nothing worse.

use basalt_qemu_tests::initiator::command::{self, Command, Connect};
use basalt_qemu_tests::initiator::pdu::{put16, put32};
use basalt_qemu_tests::initiator::{Answer, Data, IN_CAPSULE, Initiator, Queue, TRANSPORT, point};

use crate::siege::on_both;

/// Where parameters are in a Connect's command and data (base specification 2.0, figure 384).
const QID: u32 = 42;
const SQSIZE: u32 = 44;
const HOSTID: u32 = 1 << 16;
const CNTLID: u32 = 1 << 16 | 16;
const SUBNQN: u32 = 1 << 16 | 256;
const HOSTNQN: u32 = 1 << 16 | 512;

fn refused(port: u16, connect: &Connect) -> (u16, u32) {
    let answer = Queue::greet(port).and_then(|mut queue| queue.connect(connect));
    let answer = answer.unwrap_or_else(|error| panic!("{connect:?}: {error:#}"));
    (answer.status, answer.dw0)
}

#[test]
fn a_connect_that_must_be_refused_says_which_parameter_is_wrong() {
    on_both(|siege| {
        let admin = Connect::admin;
        let cases = [
            (Connect { recfmt: 1, ..admin() }, command::CONNECT_FORMAT, 0),
            (Connect { sqsize: 0, ..admin() }, command::CONNECT_PARAMETERS, SQSIZE),
            (Connect { sqsize: 0xffff, ..admin() }, command::CONNECT_PARAMETERS, SQSIZE),
            (Connect { cntlid: 5, ..admin() }, command::CONNECT_PARAMETERS, CNTLID),
            (Connect { subnqn: "nqn.x:y".into(), ..admin() }, command::CONNECT_PARAMETERS, SUBNQN),
            (Connect { subnqn: vec![], ..admin() }, command::CONNECT_PARAMETERS, SUBNQN),
            (Connect { subnqn: vec![b'a'; 256], ..admin() }, command::CONNECT_PARAMETERS, SUBNQN),
            (Connect { subnqn: vec![0xff; 20], ..admin() }, command::CONNECT_PARAMETERS, SUBNQN),
            (Connect { hostnqn: vec![], ..admin() }, command::CONNECT_PARAMETERS, HOSTNQN),
            (Connect { hostnqn: vec![b'a'; 256], ..admin() }, command::CONNECT_PARAMETERS, HOSTNQN),
            (Connect::io(0x7777, 1), command::CONNECT_PARAMETERS, CNTLID),
            (Connect::io(0xffff, 1), command::CONNECT_PARAMETERS, CNTLID),
        ];
        for (connect, status, dw0) in cases {
            assert_eq!(refused(siege.nvmf, &connect), (status, dw0), "{connect:?}");
        }
        queues_of_a_controller(siege.nvmf);
    });
}

/// I/O queues that a controller must not get.
fn queues_of_a_controller(port: u16) {
    let (mut admin, cntlid) = Initiator::enabled(port).unwrap();
    let io = |qid| Connect::io(cntlid, qid);
    let stranger = Connect { hostnqn: "nqn.2014-08.org.example:me".into(), ..io(1) };
    let cases = [
        (io(128), command::CONNECT_PARAMETERS, QID),
        (io(0xffff), command::CONNECT_PARAMETERS, QID),
        (Connect { sqsize: 256, ..io(1) }, command::CONNECT_PARAMETERS, SQSIZE),
        (stranger, command::CONNECT_PARAMETERS, HOSTNQN),
        (Connect { hostid: [1; 16], ..io(1) }, command::CONNECT_PARAMETERS, HOSTID),
    ];
    for (connect, status, dw0) in cases {
        assert_eq!(refused(port, &connect), (status, dw0), "{connect:?}");
    }
    let mut queue = Queue::greet(port).unwrap();
    assert_eq!(queue.connect(&io(1)).unwrap().status, command::OK);
    assert_eq!(refused(port, &io(1)).0, command::SEQUENCE_ERROR, "a queue identifier twice");
    assert_eq!(queue.connect(&io(2)).unwrap().status, command::SEQUENCE_ERROR, "connect twice");
    assert_eq!(admin.connect(&Connect::admin()).unwrap().status, command::SEQUENCE_ERROR);
}

#[test]
fn commands_out_of_turn_or_with_bad_fields_fail_alone() {
    on_both(|siege| {
        let identify = |queue: &mut Queue| {
            queue.run(command::identify(1, 0), Data::ToHost(4096)).unwrap().status
        };
        let mut early = Queue::greet(siege.nvmf).unwrap();
        assert_eq!(identify(&mut early), command::SEQUENCE_ERROR, "before Connect");
        let connected = early.connect(&Connect::admin()).unwrap();
        assert_eq!(connected.status, command::OK);
        assert_eq!(identify(&mut early), command::SEQUENCE_ERROR, "before CC.EN");
        let before_enabled = Connect::io(connected.dw0 as u16, 1);
        assert_eq!(refused(siege.nvmf, &before_enabled).0, command::SEQUENCE_ERROR);
        let mut host = Initiator::connect(siege.nvmf).unwrap();
        bad_io(&mut host);
        bad_pointers(&mut host);
        let on = host.namespaces().unwrap()[0];
        host.verify(on, 5000, 65536, 1).unwrap();
        drop((early, host));
    });
}

fn bad_io(host: &mut Initiator) {
    let on = host.namespaces().unwrap()[0];
    let read = |nsid, lba, blocks| command::io(command::READ, nsid, lba, blocks);
    let mut fused = read(1, 0, 1);
    fused[1] |= 1;
    let mut prp = read(1, 0, 1);
    prp[1] = 0;
    let cases = [
        ("unknown opcode", command::blank(0xbe), command::INVALID_OPCODE),
        ("vendor opcode", command::blank(0x80), command::INVALID_OPCODE),
        ("namespace 0", read(0, 0, 1), command::INVALID_NAMESPACE),
        ("namespace 2", read(2, 0, 1), command::INVALID_NAMESPACE),
        ("all namespaces", read(u32::MAX, 0, 1), command::INVALID_NAMESPACE),
        ("past the end", read(1, on.blocks, 1), command::LBA_OUT_OF_RANGE),
        ("over the end", read(1, on.blocks - 1, 2), command::LBA_OUT_OF_RANGE),
        ("address wraps", read(1, u64::MAX, 2), command::LBA_OUT_OF_RANGE),
        ("fused", fused, command::INVALID_FIELD),
        ("beyond MDTS", read(1, 0, 65536), command::INVALID_FIELD),
        ("shorter than its blocks", read(1, 0, 9), command::SGL_LENGTH_INVALID),
    ];
    for (name, bad, status) in cases {
        assert_eq!(host.io.run(bad, Data::ToHost(4096)).unwrap().status, status, "{name}");
    }
    assert_eq!(host.io.run(prp, Data::ToHost(512)).unwrap().status, command::INVALID_FIELD, "PRP");
}

/// Data pointers that a capsule cannot have.
fn bad_pointers(host: &mut Initiator) {
    let write = || command::io(command::WRITE, 1, 0, 1);
    let inside = |mut bad: Command, offset: u32, len| {
        put32(&mut bad, 24, offset);
        point(&mut bad, len, IN_CAPSULE);
        bad
    };
    let pointing = |mut bad: Command, identifier| {
        point(&mut bad, 512, identifier);
        bad
    };
    let cases = [
        ("offset beyond", inside(write(), 1, 512), command::SGL_OFFSET_INVALID),
        ("length beyond", inside(write(), 0, 1024), command::SGL_OFFSET_INVALID),
        ("offset wraps", inside(write(), u32::MAX, 512), command::SGL_OFFSET_INVALID),
        ("longer than MDTS", pointing_far(write()), command::SGL_LENGTH_INVALID),
        ("keyed SGL", pointing(write(), 0x40), command::SGL_TYPE_INVALID),
        ("SGL segment", pointing(write(), 0x20), command::SGL_TYPE_INVALID),
        ("plain data block", pointing(write(), 0x00), command::SGL_TYPE_INVALID),
    ];
    for (name, bad, status) in cases {
        assert_eq!(raw(&mut host.io, bad, &[3; 512]).status, status, "{name}");
    }
    let mut read = command::io(command::READ, 1, 0, 1);
    point(&mut read, 512, IN_CAPSULE);
    assert_eq!(raw(&mut host.io, read, &[0; 512]).status, command::SGL_TYPE_INVALID, "read");
}

fn pointing_far(mut bad: Command) -> Command {
    point(&mut bad, u32::MAX, TRANSPORT);
    bad
}

/// Runs a command with its data pointer as it is.
fn raw(queue: &mut Queue, mut command: Command, data: &[u8]) -> Answer {
    use basalt_qemu_tests::initiator::pdu;
    let cid = queue.next_cid();
    put16(&mut command, 2, cid);
    queue.send(&pdu::capsule(&command, data)).unwrap();
    let answer = queue.receive().unwrap();
    assert_eq!(answer.kind(), pdu::CAPSULE_RESP, "{answer:?}");
    let status = pdu::get16(&answer.header, 22) >> 1 & 0x7ff;
    Answer { status, dw0: pdu::get32(&answer.header, 8), data: Vec::new() }
}
