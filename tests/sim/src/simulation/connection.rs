use std::collections::BTreeMap;

use basalt_nvme_spec::fabrics::{Connect, ConnectData, Property};
use basalt_nvme_spec::registers::{CC, Cc};
use basalt_nvme_spec::{Command, Completion, SglDescriptor, Status};
use basalt_nvmf::DEFAULT_NQN;
use basalt_nvmf::pdu::wire::{self, CommonHeader, flags, kind};
use zerocopy::{FromBytes, IntoBytes};

use super::machine::Machine;

const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:simulated-host";
/// Steps that an answer to what is no I/O may take.
const PATIENCE: u32 = 400_000;
/// Data that goes with its command.
const IN_CAPSULE_MAX: usize = 4096;

/// A queue of the host's.
pub struct Connection {
    core: usize,
    pipe: usize,
    cid: u16,
    received: Vec<u8>,
    flights: BTreeMap<u16, Flight>,
}

/// A command under way, by its submitter's number.
struct Flight {
    tag: u64,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

/// A command that has ended.
pub struct Ended {
    pub tag: u64,
    pub status: Status,
    pub dw0: u32,
    pub data: Vec<u8>,
}

impl Connection {
    pub fn dial(machine: &Machine, core: usize) -> Self {
        let pipe = machine.stacks[core].borrow_mut().connect(4420);
        let (received, flights) = (Vec::new(), BTreeMap::new());
        let connection = Self { core, pipe, cid: 0, received, flights };
        let request = wire::IcReq {
            common: CommonHeader {
                kind: kind::IC_REQ,
                flags: 0,
                hlen: 128,
                pdo: 0,
                plen: 128.into(),
            },
            pfv: 0.into(),
            hpda: 0,
            digest: 0,
            maxr2t: 0.into(),
            reserved: [0; 112],
        };
        connection.write(machine, request.as_bytes());
        connection
    }

    /// An admin queue of an enabled controller, and its identifier.
    pub fn admin(machine: &mut Machine) -> (Self, u16) {
        let mut admin = Self::dial(machine, 0);
        let connected = admin.connect(machine, 0, 0xffff).expect("the admin queue");
        let enable = Property::set(CC as u32, 4, Cc::enabled(Cc::CSS_NVM).0.into());
        let enabled = admin.run(machine, enable.into(), &[], 0).expect("the controller");
        assert!(enabled.status.is_success());
        (admin, connected.dw0 as u16)
    }

    /// Its Connect; nothing if it is refused.
    pub fn connect(&mut self, machine: &mut Machine, qid: u16, cntlid: u16) -> Option<Ended> {
        let mut data = ConnectData { hostid: [9; 16], cntlid: cntlid.into(), ..Default::default() };
        data.subnqn[..DEFAULT_NQN.len()].copy_from_slice(DEFAULT_NQN.as_bytes());
        data.hostnqn[..HOST_NQN.len()].copy_from_slice(HOST_NQN.as_bytes());
        let connect = Connect::new(qid, 64, 0, SglDescriptor::in_capsule(0, 1024));
        let ended = self.run(machine, connect.into(), data.as_bytes(), 0)?;
        ended.status.is_success().then_some(ended)
    }

    /// A command from start to end; nothing if the connection ends first.
    pub fn run(
        &mut self,
        machine: &mut Machine,
        command: Command,
        outgoing: &[u8],
        incoming: u32,
    ) -> Option<Ended> {
        self.submit(machine, command, outgoing, incoming, u64::MAX);
        for _ in 0..PATIENCE {
            machine.step();
            if let Some(ended) = self.pump(machine).pop() {
                return Some(ended);
            }
            if self.is_over(machine) {
                return None;
            }
        }
        panic!("no answer to {command:?}");
    }

    /// Sends a command with data to go or so much to come.
    pub fn submit(
        &mut self,
        machine: &Machine,
        mut command: Command,
        outgoing: &[u8],
        incoming: u32,
        tag: u64,
    ) {
        self.cid = self.cid.wrapping_add(1);
        command.cid = self.cid.into();
        let inside = outgoing.len() <= IN_CAPSULE_MAX;
        let len = outgoing.len() as u32;
        match (len, incoming) {
            (0, 0) => {}
            (0, incoming) => command.set_sgl1(SglDescriptor::transport(incoming)),
            _ if inside => command.set_sgl1(SglDescriptor::in_capsule(0, len)),
            _ => command.set_sgl1(SglDescriptor::transport(len)),
        }
        let data = if inside { outgoing } else { &[] };
        self.write(machine, &pdu(kind::CAPSULE_CMD, 0, command.as_bytes(), data));
        let incoming = vec![0; incoming as usize];
        self.flights.insert(self.cid, Flight { tag, outgoing: outgoing.into(), incoming });
    }

    /// Commands under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The numbers of all that is under way, which nobody will hear of again.
    pub fn give_up(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.flights).into_values().map(|flight| flight.tag).collect()
    }

    pub fn hang_up(&self, machine: &Machine) {
        machine.stacks[self.core].borrow_mut().pipes[self.pipe].host_closed = true;
    }

    /// Whether the target has ended it.
    pub fn is_over(&self, machine: &Machine) -> bool {
        let stack = machine.stacks[self.core].borrow();
        stack.pipes[self.pipe].target_closed || stack.pipes[self.pipe].target_reset
    }

    /// Sees to what has come, and gives the commands that have ended.
    pub fn pump(&mut self, machine: &Machine) -> Vec<Ended> {
        let mut stack = machine.stacks[self.core].borrow_mut();
        self.received.extend(stack.pipes[self.pipe].to_host.drain(..));
        drop(stack);
        let mut ended = Vec::new();
        while let Some(pdu) = self.next_pdu() {
            ended.extend(self.take(machine, &pdu));
        }
        ended
    }

    fn next_pdu(&mut self) -> Option<Vec<u8>> {
        let (common, _) = CommonHeader::read_from_prefix(&self.received).ok()?;
        let len = common.plen.get() as usize;
        (self.received.len() >= len).then(|| self.received.drain(..len).collect())
    }

    fn take(&mut self, machine: &Machine, pdu: &[u8]) -> Option<Ended> {
        let (common, _) = CommonHeader::read_from_prefix(pdu).unwrap();
        let header = &pdu[..common.hlen.into()];
        match common.kind {
            kind::IC_RESP => None,
            kind::R2T => {
                self.answer(machine, &wire::R2t::read_from_bytes(header).unwrap());
                None
            }
            kind::C2H_DATA => {
                let header = wire::Data::read_from_bytes(header).unwrap();
                let data = &pdu[common.pdo.into()..];
                let flight = self.flights.get_mut(&header.cccid.get()).expect("a command");
                let at = header.datao.get() as usize;
                flight.incoming[at..at + data.len()].copy_from_slice(data);
                let success = Completion::new(header.cccid.get(), Status::SUCCESS);
                (common.flags & flags::SUCCESS != 0).then(|| self.end(&success))
            }
            kind::CAPSULE_RESP => {
                let response = wire::CapsuleResp::read_from_bytes(header).unwrap();
                Some(self.end(&Completion::read_from_bytes(&response.cqe).unwrap()))
            }
            other => panic!("PDU of type {other:#x}"),
        }
    }

    fn end(&mut self, completion: &Completion) -> Ended {
        let flight = self.flights.remove(&completion.cid.get());
        let Flight { tag, incoming, .. } = flight.expect("a command ends once");
        let (status, dw0) = (completion.status(), completion.dw0.get());
        Ended { tag, status, dw0, data: incoming }
    }

    fn answer(&self, machine: &Machine, r2t: &wire::R2t) {
        let flight = self.flights.get(&r2t.cccid.get()).expect("a command");
        let at = r2t.r2to.get() as usize;
        let header = wire::Data {
            common: CommonHeader::default(),
            cccid: r2t.cccid,
            ttag: r2t.ttag,
            datao: r2t.r2to,
            datal: r2t.r2tl,
            reserved: [0; 4],
        };
        let data = &flight.outgoing[at..at + r2t.r2tl.get() as usize];
        self.write(machine, &pdu(kind::H2C_DATA, flags::LAST, &header.as_bytes()[8..], data));
    }

    fn write(&self, machine: &Machine, bytes: &[u8]) {
        machine.stacks[self.core].borrow_mut().pipes[self.pipe].to_target.extend(bytes);
    }
}

fn pdu(kind: u8, flags: u8, rest: &[u8], data: &[u8]) -> Vec<u8> {
    let hlen = 8 + rest.len();
    let common = CommonHeader {
        kind,
        flags,
        hlen: hlen as u8,
        pdo: if data.is_empty() { 0 } else { hlen as u8 },
        plen: ((hlen + data.len()) as u32).into(),
    };
    [common.as_bytes(), rest, data].concat()
}
