use basalt_nvme_spec::fabrics::Connect;
use basalt_nvme_spec::{AdminOpcode, Command, Completion, SglDescriptor};
use basalt_nvmf::DEFAULT_NQN;
use basalt_nvmf::pdu::wire::{self, CommonHeader, flags, kind};
use basalt_nvmf::pdu::{DIGEST_LEN, Digests, crc32c};
use zerocopy::{FromBytes, IntoBytes};

use super::pdus::{self, connect_data, h2c_data, ic_req};
use super::{World, takes_data};

/// Rounds that an answer to a well-formed command of the bystander may take.
const PATIENCE: u32 = 20_000;
/// Data that goes with its command.
const IN_CAPSULE_MAX: usize = 8192;

/// What is known of what a host sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manners {
    /// All its PDUs are well formed and their commands have numbers of their own, whatever they
    /// ask for: every answer is checked against its command.
    Formal,
    /// It sends anything: of the answers only the form is checked.
    Wild,
}

/// A command under way.
struct Flight {
    cid: u16,
    command: Command,
    /// Bytes its data pointer describes.
    described: u32,
    /// Bytes that came.
    came: u32,
    owes: Option<(u16, u32)>,
}

/// A queue of a host.
pub struct Host {
    core: usize,
    pipe: usize,
    nqn: &'static str,
    name: &'static str,
    manners: Manners,
    /// What is in force once [`Self::greeted`].
    pub digests: Digests,
    /// Whether an ICResp came.
    pub greeted: bool,
    /// The queue, once it is connected.
    pub qid: Option<u16>,
    size: u16,
    received: Vec<u8>,
    flights: Vec<Flight>,
    ended: Vec<Completion>,
    data: Vec<u8>,
    cid: u16,
    terminated: bool,
}

impl Host {
    /// At the end of a pipe.
    pub fn new(core: usize, pipe: usize, manners: Manners) -> Self {
        Self {
            core,
            pipe,
            nqn: DEFAULT_NQN,
            name: "nqn.2014-08.org.nvmexpress:uuid:fuzzed-host",
            manners,
            digests: Digests::default(),
            greeted: false,
            qid: None,
            size: u16::MAX,
            received: Vec::new(),
            flights: Vec::new(),
            ended: Vec::new(),
            data: Vec::new(),
            cid: 0,
            terminated: false,
        }
    }

    /// A formal one of that name, for that subsystem, that has said hello.
    pub fn named(world: &mut World, core: usize, nqn: &'static str, name: &'static str) -> Self {
        let mut host = world.dial(core, Manners::Formal);
        (host.nqn, host.name) = (nqn, name);
        host.greet(world, Digests::default(), 0);
        assert!(host.greeted, "no ICResp");
        host
    }

    /// Says hello, and waits for the answer.
    pub fn greet(&mut self, world: &mut World, digests: Digests, hpda: u8) {
        self.digests = digests;
        self.write(world, &ic_req(digests, hpda));
        for _ in 0..100 {
            world.machine.step();
            self.pump(world);
            if self.greeted || self.is_over(world) {
                return;
            }
        }
    }

    /// Connects a queue, and enables the controller if it is the admin queue; its identifier.
    pub fn connect(&mut self, world: &mut World, qid: u16, cntlid: u16) -> Option<u16> {
        let connect = Connect::new(qid, 32, 0, SglDescriptor::in_capsule(0, 1024));
        let data = connect_data(self.nqn, self.name, cntlid);
        let ended = self.try_run(world, connect.into(), data.as_bytes(), 0)?;
        if !ended.status().is_success() {
            return None;
        }
        (self.qid, self.size) = (Some(qid), 32);
        if qid == 0 {
            use basalt_nvme_spec::fabrics::Property;
            use basalt_nvme_spec::registers::{CC, Cc};
            let enable = Property::set(CC as u32, 4, Cc::enabled(Cc::CSS_NVM).0.into());
            self.try_run(world, enable.into(), &[], 0)?;
        }
        Some(ended.dw0.get() as u16)
    }

    /// A command from start to end, with data to go or so much to come.
    pub fn run(&mut self, world: &mut World, command: Command, out: &[u8], len: u32) -> Completion {
        let ended = self.try_run(world, command, out, len);
        ended.unwrap_or_else(|| panic!("no answer to {command:?}"))
    }

    fn try_run(
        &mut self,
        world: &mut World,
        mut command: Command,
        out: &[u8],
        len: u32,
    ) -> Option<Completion> {
        assert!(out.len() <= IN_CAPSULE_MAX);
        match out.len() {
            0 if len > 0 => command.set_sgl1(SglDescriptor::transport(len)),
            0 => {}
            len => command.set_sgl1(SglDescriptor::in_capsule(0, len as u32)),
        }
        let cid = self.submit(world, command, out);
        for _ in 0..PATIENCE {
            world.machine.step();
            self.pump(world);
            if let Some(at) = self.ended.iter().position(|ended| ended.cid.get() == cid) {
                return Some(self.ended.swap_remove(at));
            }
            if self.is_over(world) {
                return None;
            }
        }
        None
    }

    /// The data that came last.
    pub fn read_last(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.data)
    }

    /// Sends a command as it is but for its number, with that data in its capsule; the number.
    pub fn submit(&mut self, world: &World, mut command: Command, data: &[u8]) -> u16 {
        self.cid = self.cid.wrapping_add(1);
        command.cid = self.cid.into();
        let described = command.sgl1().length.get();
        let cid = self.cid;
        self.flights.push(Flight { cid, command, described, came: 0, owes: None });
        self.write(world, &pdus::capsule(self.digests, &command, data));
        cid
    }

    /// Commands under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Sends what the target asked for first, in pieces of `piece` bytes, after `change` to each;
    /// whether it asked.
    pub fn answer_r2t(
        &mut self,
        world: &World,
        piece: usize,
        mut change: impl FnMut(&mut Vec<u8>),
    ) -> bool {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.owes.is_some()) else {
            return false;
        };
        let Some((ttag, len)) = flight.owes.take() else { return false };
        let (cid, len) = (flight.cid, len as usize);
        let mut at = 0;
        while at < len {
            let part = vec![cid as u8; piece.clamp(1, len - at)];
            let mut pdu = h2c_data(self.digests, cid, ttag, at as u32, &part);
            at += part.len();
            if at < len {
                // The last one says so.
                pdu[1] &= !flags::LAST;
                self.sign(&mut pdu);
            }
            change(&mut pdu);
            self.write(world, &pdu);
        }
        true
    }

    /// Renews the header digest of a PDU with a header of 24 bytes.
    fn sign(&self, pdu: &mut [u8]) {
        if self.digests.header {
            let digest = crc32c(&pdu[..24]).to_le_bytes();
            pdu[24..28].copy_from_slice(&digest);
        }
    }

    /// From now on it sends anything.
    pub fn run_wild(&mut self) {
        self.manners = Manners::Wild;
    }

    /// Sends bytes.
    pub fn write(&self, world: &World, bytes: &[u8]) {
        world.stacks[self.core].borrow_mut().pipes[self.pipe].to_target.extend(bytes);
    }

    /// Closes its end.
    pub fn hang_up(&self, world: &World) {
        world.stacks[self.core].borrow_mut().pipes[self.pipe].host_closed = true;
    }

    /// Whether the target has ended the connection.
    pub fn is_over(&self, world: &World) -> bool {
        let stack = world.stacks[self.core].borrow();
        stack.pipes[self.pipe].target_closed || stack.pipes[self.pipe].target_reset
    }

    /// Takes what has come, and checks it.
    pub fn pump(&mut self, world: &World) {
        let mut stack = world.stacks[self.core].borrow_mut();
        self.received.extend(stack.pipes[self.pipe].to_host.drain(..));
        drop(stack);
        while let Some(pdu) = self.next_pdu() {
            assert!(!self.terminated, "a PDU after C2HTermReq");
            self.take(&pdu);
        }
    }

    fn next_pdu(&mut self) -> Option<Vec<u8>> {
        let (common, _) = CommonHeader::read_from_prefix(&self.received).ok()?;
        let len = common.plen.get() as usize;
        assert!(len >= usize::from(common.hlen) && common.hlen >= 24, "{common:?}");
        assert!(len <= (4 << 20) + 256, "{common:?}");
        (self.received.len() >= len).then(|| self.received.drain(..len).collect())
    }

    fn take(&mut self, pdu: &[u8]) {
        let (common, _) = CommonHeader::read_from_prefix(pdu).unwrap();
        let header = &pdu[..common.hlen.into()];
        let plain = matches!(common.kind, kind::IC_RESP | kind::C2H_TERM_REQ);
        if !plain {
            self.check_digests(&common, pdu);
        }
        match common.kind {
            kind::IC_RESP => {
                let response = wire::IcResp::read_from_bytes(header).unwrap();
                assert_eq!((pdu.len(), response.pfv.get(), self.greeted), (128, 0, false));
                let (header, data) = (response.digest & 1 != 0, response.digest & 2 != 0);
                self.digests = Digests { header, data };
                self.greeted = true;
            }
            kind::C2H_TERM_REQ => {
                let request = wire::TermReq::read_from_bytes(header).unwrap();
                assert!((1..=6).contains(&request.fes.get()), "{request:?}");
                assert!(pdu.len() <= 24 + 128 && common.flags == 0);
                self.terminated = true;
            }
            kind::R2T => self.asked(&wire::R2t::read_from_bytes(header).unwrap()),
            kind::C2H_DATA => {
                self.came(&wire::Data::read_from_bytes(header).unwrap(), pdu);
            }
            kind::CAPSULE_RESP => {
                let response = wire::CapsuleResp::read_from_bytes(header).unwrap();
                assert_eq!(pdu.len(), 24 + if self.digests.header { DIGEST_LEN } else { 0 });
                self.end(&Completion::read_from_bytes(&response.cqe).unwrap());
            }
            other => panic!("a PDU of type {other:#x} from a controller"),
        }
    }

    fn check_digests(&self, common: &CommonHeader, pdu: &[u8]) {
        assert!(self.greeted, "{common:?} before ICResp");
        assert_eq!(common.hlen, 24);
        assert_eq!(common.flags & flags::HEADER_DIGEST != 0, self.digests.header);
        if self.digests.header {
            assert_eq!(pdu[24..28], crc32c(&pdu[..24]).to_le_bytes(), "header digest");
        }
        let with_data = common.kind == kind::C2H_DATA;
        assert_eq!(common.flags & flags::DATA_DIGEST != 0, self.digests.data && with_data);
        if self.digests.data && with_data {
            let (data, digest) =
                pdu[common.pdo.into()..].split_at(pdu.len() - 4 - usize::from(common.pdo));
            assert_eq!(digest, crc32c(data).to_le_bytes(), "data digest");
        }
    }

    fn flight(&mut self, cid: u16) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.cid == cid)
    }

    fn asked(&mut self, r2t: &wire::R2t) {
        let formal = self.manners == Manners::Formal;
        let Some(flight) = self.flight(r2t.cccid.get()) else {
            return assert!(!formal, "an R2T for no command: {r2t:?}");
        };
        let (offset, len) = (r2t.r2to.get(), r2t.r2tl.get());
        let fits = offset == 0 && len > 0 && len <= flight.described;
        assert!(fits || !formal, "{r2t:?} for {:?}", flight.command);
        assert!(takes_data(&flight.command) || !formal, "{r2t:?} for {:?}", flight.command);
        assert!(flight.owes.is_none() || !formal, "a second R2T for {:?}", flight.command);
        flight.owes = Some((r2t.ttag.get(), len));
    }

    fn came(&mut self, header: &wire::Data, pdu: &[u8]) {
        let (len, at) = (header.datal.get(), usize::from(header.common.pdo));
        let trailer = if self.digests.data { DIGEST_LEN } else { 0 };
        assert_eq!(pdu.len(), at + len as usize + trailer, "{header:?}");
        assert!(at >= 24 && at.is_multiple_of(4) && len > 0, "{header:?}");
        let data = pdu[at..at + len as usize].to_vec();
        let cid = header.cccid.get();
        let success = header.common.flags & flags::SUCCESS != 0;
        let formal = self.manners == Manners::Formal;
        match self.flight(cid) {
            None => assert!(!formal, "data for no command: {header:?}"),
            Some(flight) => {
                let fits = header.datao.get() == flight.came
                    && flight.came + len <= flight.described
                    && !takes_data(&flight.command);
                assert!(fits || !formal, "{header:?} for {:?}", flight.command);
                flight.came = flight.came.saturating_add(len);
            }
        }
        self.data = data;
        if success {
            assert_ne!(header.common.flags & flags::LAST, 0, "{header:?}");
            self.end(&Completion::new(cid, basalt_nvme_spec::Status::SUCCESS));
        }
    }

    fn end(&mut self, completion: &Completion) {
        let cid = completion.cid.get();
        let at = self.flights.iter().position(|flight| flight.cid == cid);
        assert!(
            at.is_some() || self.manners == Manners::Wild,
            "an answer to nothing: {completion:?}"
        );
        let head = completion.sqhd.get();
        let in_queue = head < self.size || head == u16::MAX || self.manners == Manners::Wild;
        assert!(in_queue, "{completion:?} of a queue of {}", self.size);
        at.map(|at| self.flights.swap_remove(at));
        self.ended.push(*completion);
    }

    /// After all the time in the world only that may still be under way that waits for an event,
    /// for data of ours, or for its other half.
    pub fn check_rest(&self, world: &World) {
        if self.is_over(world) || self.manners == Manners::Wild {
            return;
        }
        assert!(self.received.is_empty(), "half a PDU is left: {:x?}", self.received);
        for flight in &self.flights {
            let command = &flight.command;
            let is_event = self.qid == Some(0)
                && AdminOpcode(command.opcode) == AdminOpcode::ASYNC_EVENT_REQUEST;
            let is_half = command.flags & Command::FLAG_FUSE_MASK != 0;
            let waits = flight.owes.is_some() || is_event || is_half;
            assert!(waits, "it never ended: {command:?}");
        }
    }
}
