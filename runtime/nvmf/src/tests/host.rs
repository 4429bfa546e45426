use alloc::vec::Vec;

use basalt_nvme_spec::fabrics::{Connect, ConnectData, Property};
use basalt_nvme_spec::registers::{self, Cc};
use basalt_nvme_spec::{Command, Completion, SglDescriptor};
use zerocopy::{FromBytes, IntoBytes};

use super::world::World;
use crate::DEFAULT_NQN;
use crate::pdu::wire::{self, CommonHeader, flags, kind};
use crate::pdu::{Digests, crc32c};

pub const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:test-host";
/// Rounds a host waits for an answer.
const PATIENCE: usize = 4000;

/// One queue of a miniature NVMe/TCP host.
pub struct Host {
    pub core: usize,
    pub pipe: usize,
    pub digests: Digests,
    pub nqn: &'static str,
    /// Its own name and identifier.
    pub name: &'static str,
    pub id: [u8; 16],
    pub cid: u16,
    /// Largest H2CData payload it sends.
    pub h2c_max: usize,
    pub no_flow_control: bool,
    /// Alignment it wants for data: dwords, 0's based.
    pub hpda: u8,
    /// R2Ts of a command that it can hold, 0's based.
    pub maxr2t: u32,
}

/// A received PDU: header and data.
pub struct Received {
    pub common: CommonHeader,
    pub header: Vec<u8>,
    pub data: Vec<u8>,
}

impl Host {
    /// A TCP connection to `port` on `core`.
    pub fn dial(world: &World, core: usize, port: u16) -> Self {
        let pipe = world.stacks[core].borrow_mut().connect(port);
        Self {
            core,
            pipe,
            digests: Digests::default(),
            nqn: DEFAULT_NQN,
            name: HOST_NQN,
            id: [9; 16],
            cid: 0,
            h2c_max: 1 << 20,
            no_flow_control: false,
            hpda: 0,
            maxr2t: 0,
        }
    }

    pub fn write(&self, world: &World, bytes: &[u8]) {
        world.stacks[self.core].borrow_mut().pipes[self.pipe].to_target.extend(bytes);
    }

    pub fn hang_up(&self, world: &World) {
        world.stacks[self.core].borrow_mut().pipes[self.pipe].host_closed = true;
    }

    pub fn is_closed(&self, world: &World) -> bool {
        let stack = world.stacks[self.core].borrow();
        stack.pipes[self.pipe].target_closed || stack.pipes[self.pipe].target_reset
    }

    fn available(&self, world: &World) -> usize {
        world.stacks[self.core].borrow().pipes[self.pipe].to_host.len()
    }

    /// Reads exactly `len` bytes, running the world until they are there.
    pub fn read(&self, world: &mut World, len: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for _ in 0..PATIENCE {
            let mut stack = world.stacks[self.core].borrow_mut();
            let queue = &mut stack.pipes[self.pipe].to_host;
            let wanted = (len - bytes.len()).min(queue.len());
            bytes.extend(queue.drain(..wanted));
            drop(stack);
            if bytes.len() == len {
                return Some(bytes);
            }
            world.rounds(1);
        }
        None
    }

    pub fn receive(&self, world: &mut World) -> Option<Received> {
        let start = self.read(world, 8)?;
        let common = CommonHeader::read_from_bytes(&start).unwrap();
        let rest = self.read(world, common.plen.get() as usize - 8)?;
        let mut pdu = start;
        pdu.extend(rest);
        let hlen = usize::from(common.hlen);
        let header = pdu[..hlen].to_vec();
        if common.flags & flags::HEADER_DIGEST != 0 {
            assert_eq!(pdu[hlen..hlen + 4], crc32c(&header).to_le_bytes());
        }
        let mut data = Vec::new();
        if common.kind == kind::C2H_DATA || common.kind == kind::C2H_TERM_REQ {
            let pdo = if common.pdo == 0 { hlen } else { usize::from(common.pdo) };
            data = pdu[pdo..].to_vec();
        }
        if common.flags & flags::DATA_DIGEST != 0 {
            let digest = data.split_off(data.len() - 4);
            assert_eq!(digest, crc32c(&data).to_le_bytes());
        }
        Some(Received { common, header, data })
    }

    /// ICReq and ICResp.
    pub fn greet(&mut self, world: &mut World, digests: Digests) {
        let mut request = ic_req(digests, self.hpda);
        request[12..16].copy_from_slice(&self.maxr2t.to_le_bytes());
        self.write(world, &request);
        let response = self.receive(world).expect("no ICResp");
        let response = wire::IcResp::read_from_bytes(&response.header).unwrap();
        assert_eq!(response.common.kind, kind::IC_RESP);
        let granted = Digests { header: response.digest & 1 != 0, data: response.digest & 2 != 0 };
        assert_eq!(granted, digests);
        self.digests = digests;
    }

    /// A PDU with header and data digests as negotiated.
    pub fn pdu(&self, kind: u8, extra: u8, header_rest: &[u8], data: &[u8]) -> Vec<u8> {
        let hlen = 8 + header_rest.len();
        let prefix = hlen + if self.digests.header { 4 } else { 0 };
        let trailer = if self.digests.data && !data.is_empty() { 4 } else { 0 };
        let common = CommonHeader {
            kind,
            flags: extra
                | u8::from(self.digests.header)
                | if trailer == 0 { 0 } else { flags::DATA_DIGEST },
            hlen: hlen as u8,
            pdo: if data.is_empty() { 0 } else { prefix as u8 },
            plen: ((prefix + data.len() + trailer) as u32).into(),
        };
        let mut bytes = common.as_bytes().to_vec();
        bytes.extend_from_slice(header_rest);
        if self.digests.header {
            bytes.extend(crc32c(&bytes).to_le_bytes());
        }
        bytes.extend_from_slice(data);
        if trailer != 0 {
            bytes.extend(crc32c(data).to_le_bytes());
        }
        bytes
    }

    /// Sends a command capsule; gives its identifier.
    pub fn submit(&mut self, world: &World, mut command: Command, data: &[u8]) -> u16 {
        self.cid += 1;
        command.cid = self.cid.into();
        let bytes = self.pdu(kind::CAPSULE_CMD, 0, command.as_bytes(), data);
        self.write(world, &bytes);
        self.cid
    }

    /// Sends `data` as the answer to an R2T.
    pub fn answer_r2t(&self, world: &World, r2t: &wire::R2t, data: &[u8]) {
        let mut at = r2t.r2to.get() as usize;
        let end = at + r2t.r2tl.get() as usize;
        while at < end {
            let next = end.min(at + self.h2c_max);
            let header = wire::Data {
                common: CommonHeader::default(),
                cccid: r2t.cccid,
                ttag: r2t.ttag,
                datao: (at as u32).into(),
                datal: ((next - at) as u32).into(),
                reserved: [0; 4],
            };
            let last = if next == end { flags::LAST } else { 0 };
            let pdu = self.pdu(kind::H2C_DATA, last, &header.as_bytes()[8..], &data[at..next]);
            self.write(world, &pdu);
            at = next;
        }
    }

    /// Waits for the next completion, answering R2Ts from `outgoing`. A C2HData with SUCCESS
    /// counts as one.
    pub fn complete(&mut self, world: &mut World, outgoing: &[u8]) -> (Completion, Vec<u8>) {
        let mut data = Vec::new();
        loop {
            let pdu = self.receive(world).expect("no completion");
            match pdu.common.kind {
                kind::R2T => {
                    let r2t = wire::R2t::read_from_bytes(&pdu.header).unwrap();
                    self.answer_r2t(world, &r2t, outgoing);
                }
                kind::C2H_DATA => {
                    let header = wire::Data::read_from_bytes(&pdu.header).unwrap();
                    data = pdu.data;
                    if pdu.common.flags & flags::SUCCESS != 0 {
                        let cid = header.cccid.get();
                        return (Completion::new(cid, basalt_nvme_spec::Status::SUCCESS), data);
                    }
                }
                kind::CAPSULE_RESP => {
                    let entry = wire::CapsuleResp::read_from_bytes(&pdu.header).unwrap();
                    return (Completion::read_from_bytes(&entry.cqe).unwrap(), data);
                }
                other => panic!("PDU type {other:#x}: {:?}", pdu.header),
            }
        }
    }

    /// A command from start to end.
    pub fn run(
        &mut self,
        world: &mut World,
        command: Command,
        capsule: &[u8],
        outgoing: &[u8],
    ) -> (Completion, Vec<u8>) {
        let cid = self.submit(world, command, capsule);
        let (completion, data) = self.complete(world, outgoing);
        assert_eq!(completion.cid.get(), cid);
        (completion, data)
    }

    /// An admin command that reads `len` bytes.
    pub fn fetch(
        &mut self,
        world: &mut World,
        mut command: Command,
        len: u32,
    ) -> (Completion, Vec<u8>) {
        command.set_sgl1(SglDescriptor::transport(len));
        self.run(world, command, &[], &[])
    }

    /// Connect for queue `qid`.
    pub fn try_connect(
        &mut self,
        world: &mut World,
        qid: u16,
        entries: u16,
        cntlid: u16,
        kato_ms: u32,
    ) -> Completion {
        let data = self.connect_data(cntlid);
        let sgl = SglDescriptor::in_capsule(0, 1024);
        let mut connect = Connect::new(qid, entries, kato_ms, sgl);
        if self.no_flow_control {
            connect.cattr |= Connect::CATTR_NO_FLOW_CONTROL;
        }
        self.run(world, connect.into(), data.as_bytes(), &[]).0
    }

    /// Sends a Connect for I/O queue `qid` and does not wait.
    pub fn begin_connect(&mut self, world: &World, qid: u16, cntlid: u16) {
        let data = self.connect_data(cntlid);
        let connect = Connect::new(qid, 16, 0, SglDescriptor::in_capsule(0, 1024));
        self.submit(world, connect.into(), data.as_bytes());
    }

    pub fn property_get(&mut self, world: &mut World, offset: usize, len: usize) -> u64 {
        let get = Property::get(offset as u32, len);
        let (completion, _) = self.run(world, get.into(), &[], &[]);
        assert!(completion.status().is_success(), "{:?}", completion.status());
        completion.result64()
    }

    pub fn property_set(&mut self, world: &mut World, offset: usize, value: u64) -> Completion {
        self.run(world, Property::set(offset as u32, 4, value).into(), &[], &[]).0
    }

    fn connect_data(&self, cntlid: u16) -> ConnectData {
        let mut data = connect_data(self.nqn, cntlid);
        data.hostid = self.id;
        data.hostnqn = [0; 256];
        data.hostnqn[..self.name.len()].copy_from_slice(self.name.as_bytes());
        data
    }

    /// An admin queue of an enabled controller in the subsystem `nqn`.
    pub fn admin(world: &mut World, nqn: &'static str, port: u16) -> (Self, u16) {
        Self::admin_of(world, HOST_NQN, nqn, port)
    }

    /// The same for the host called `name`.
    pub fn admin_of(
        world: &mut World,
        name: &'static str,
        nqn: &'static str,
        port: u16,
    ) -> (Self, u16) {
        let mut host = Self::dial(world, 0, port);
        (host.nqn, host.name) = (nqn, name);
        let cntlid = host.enable(world);
        (host, cntlid)
    }

    /// Makes a connection just dialled the admin queue of an enabled controller.
    pub fn enable(&mut self, world: &mut World) -> u16 {
        self.greet(world, Digests::default());
        let completion = self.try_connect(world, 0, 32, 0xffff, 0);
        assert!(completion.status().is_success(), "{:?}", completion.status());
        let cntlid = completion.dw0.get() as u16;
        let cc = u64::from(Cc::enabled(Cc::CSS_NVM).0);
        assert!(self.property_set(world, registers::CC, cc).status().is_success());
        assert_eq!(self.property_get(world, registers::CSTS, 4) & 1, 1);
        cntlid
    }

    /// An I/O queue of controller `cntlid`.
    pub fn io(world: &mut World, core: usize, cntlid: u16, qid: u16, digests: Digests) -> Self {
        let mut host = Self::dial(world, core, 4420);
        host.greet(world, digests);
        let completion = host.try_connect(world, qid, 16, cntlid, 0);
        assert!(completion.status().is_success(), "{:?}", completion.status());
        host
    }

    /// I/O queue 1 of controller `cntlid`, whose admin queue this is, from core `core`.
    pub fn join(&self, world: &mut World, core: usize, cntlid: u16) -> Self {
        let port = world.stacks[self.core].borrow().pipes[self.pipe].port;
        let mut host = Self::dial(world, core, port);
        (host.nqn, host.name, host.id) = (self.nqn, self.name, self.id);
        host.greet(world, Digests::default());
        let completion = host.try_connect(world, 1, 16, cntlid, 0);
        assert!(completion.status().is_success(), "{:?}", completion.status());
        host
    }

    /// Nothing more may be on its way.
    pub fn expect_silence(&self, world: &mut World) {
        world.rounds(50);
        assert_eq!(self.available(world), 0);
    }
}

pub fn ic_req(digests: Digests, hpda: u8) -> Vec<u8> {
    let request = wire::IcReq {
        common: CommonHeader { kind: kind::IC_REQ, flags: 0, hlen: 128, pdo: 0, plen: 128.into() },
        pfv: 0.into(),
        hpda,
        digest: u8::from(digests.header) | u8::from(digests.data) << 1,
        maxr2t: 0.into(),
        reserved: [0; 112],
    };
    request.as_bytes().to_vec()
}

pub fn connect_data(nqn: &str, cntlid: u16) -> ConnectData {
    let mut data = ConnectData { hostid: [9; 16], cntlid: cntlid.into(), ..Default::default() };
    data.subnqn[..nqn.len()].copy_from_slice(nqn.as_bytes());
    data.hostnqn[..HOST_NQN.len()].copy_from_slice(HOST_NQN.as_bytes());
    data
}
