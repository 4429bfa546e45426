//! A controller that answers the initiator with whatever pages it is given.

use std::collections::BTreeMap;

use basalt_models::pipes::TestStack;
use basalt_nvme_spec::fabrics;
use basalt_nvme_spec::registers;
use basalt_nvme_spec::{AdminOpcode, Cns, Command, Completion, FeatureId, LogPageId, Status};
use basalt_nvmf::pdu::Digests;
use basalt_nvmf::pdu::wire::kind;
use zerocopy::FromBytes;

use super::controller::{ic_resp, last_data, response};

const PLAIN: Digests = Digests { header: false, data: false };
/// 64 entries, contiguous queues, half a second to become ready.
const CAP: u32 = 0x0101_003f;
const READY: u32 = 1;
/// Bytes of a page that is not a log page.
const PAGE: usize = 4096;

/// What a controller says of itself, which may be anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pages {
    /// Identify of the controller, of its namespaces, of each one, and its descriptors; by CNS.
    pub identify: BTreeMap<u8, Vec<u8>>,
    /// Log pages by identifier.
    pub logs: BTreeMap<u8, Vec<u8>>,
    /// What it answers to an asynchronous event request, once.
    pub event: Option<u32>,
    /// Which command, counted from the first, fails, and how.
    pub fails: Option<(u32, u16)>,
}

/// A controller with such pages, to whom all connections of a stack lead.
pub struct Far {
    pages: Pages,
    streams: Vec<Vec<u8>>,
    cc: u32,
    commands: u32,
}

impl Far {
    /// One that has been asked nothing yet.
    pub fn new(pages: Pages) -> Self {
        Self { pages, streams: Vec::new(), cc: 0, commands: 0 }
    }

    /// Answers what has come.
    ///
    /// # Panics
    /// The initiator does not keep to NVMe/TCP.
    pub fn serve(&mut self, stack: &mut TestStack) {
        self.streams.resize_with(stack.pipes.len(), Vec::new);
        for at in 0..stack.pipes.len() {
            let pipe = &mut stack.pipes[at];
            if pipe.target_closed || pipe.target_reset {
                continue;
            }
            self.streams[at].extend(pipe.to_host.drain(..));
            while let Some(pdu) = next_pdu(&mut self.streams[at]) {
                let answer = self.answer(&pdu);
                pipe.to_target.extend(answer);
            }
        }
    }

    fn answer(&mut self, pdu: &[u8]) -> Vec<u8> {
        match pdu[0] {
            kind::IC_REQ => ic_resp(PLAIN, 0),
            kind::CAPSULE_CMD => {
                let (command, _) = Command::read_from_prefix(&pdu[8..]).unwrap();
                self.commands += 1;
                self.execute(&command)
            }
            kind::H2C_TERM_REQ => Vec::new(),
            other => panic!("nobody asked for a PDU of kind {other}"),
        }
    }

    fn execute(&mut self, command: &Command) -> Vec<u8> {
        let cid = command.cid.get();
        let mut completion = Completion::new(cid, Status::SUCCESS);
        if let Some((at, status)) = self.pages.fails
            && at == self.commands
        {
            completion.status_phase = status.into();
            return response(PLAIN, &completion);
        }
        match command.opcode {
            fabrics::OPCODE => completion.dw0 = self.fabrics(command).into(),
            opcode if opcode == AdminOpcode::IDENTIFY.0 => return self.identify(command),
            opcode if opcode == AdminOpcode::GET_LOG_PAGE.0 => return self.log_page(command),
            opcode if opcode == AdminOpcode::ASYNC_EVENT_REQUEST.0 => {
                let Some(event) = self.pages.event.take() else { return Vec::new() };
                completion.dw0 = event.into();
            }
            opcode if opcode == AdminOpcode::SET_FEATURES.0 => {
                let is_queues = command.cdw10.get() as u8 == FeatureId::NUMBER_OF_QUEUES.0;
                completion.dw0 = if is_queues { 0x0001_0001 } else { 0 }.into();
            }
            _ => {}
        }
        response(PLAIN, &completion)
    }

    /// Connect, and properties, of which the upper halves are 0.
    fn fabrics(&mut self, command: &Command) -> u32 {
        const PROPERTY_SET: u8 = 0;
        const CONNECT: u8 = 1;
        let offset = command.cdw11.get() as usize;
        match command.nsid.get() as u8 {
            CONNECT => 1,
            PROPERTY_SET => {
                self.cc = command.cdw12.get();
                0
            }
            _ if offset == registers::CSTS => self.cc & READY,
            _ if offset == registers::CAP => CAP,
            _ => 0,
        }
    }

    fn identify(&self, command: &Command) -> Vec<u8> {
        let cns = command.cdw10.get() as u8;
        match self.pages.identify.get(&cns) {
            Some(page) => self.data(command, page, 0, PAGE),
            None => {
                let refused = Completion::new(command.cid.get(), Status::INVALID_FIELD);
                response(PLAIN, &refused)
            }
        }
    }

    fn log_page(&self, command: &Command) -> Vec<u8> {
        let dwords = (command.cdw10.get() >> 16) + ((command.cdw11.get() & 0xffff) << 16) + 1;
        let offset = u64::from(command.cdw12.get()) | u64::from(command.cdw13.get()) << 32;
        let none = Vec::new();
        let page = self.pages.logs.get(&(command.cdw10.get() as u8)).unwrap_or(&none);
        let offset = usize::try_from(offset).unwrap().min(page.len());
        self.data(command, page, offset, dwords as usize * 4)
    }

    /// So many bytes of a page from `offset` on, with zeros behind its end, and the response.
    fn data(&self, command: &Command, page: &[u8], offset: usize, len: usize) -> Vec<u8> {
        let asked = command.sgl1().length.get() as usize;
        assert_eq!(asked, len, "bytes asked for");
        let mut bytes: Vec<u8> = page[offset..].iter().copied().take(len).collect();
        bytes.resize(len, 0);
        let cid = command.cid.get();
        let done = response(PLAIN, &Completion::new(cid, Status::SUCCESS));
        [last_data(PLAIN, cid, &bytes), done].concat()
    }
}

/// Takes a whole PDU off the front, if there is one.
fn next_pdu(stream: &mut Vec<u8>) -> Option<Vec<u8>> {
    let plen = stream.get(4..8)?;
    let plen = u32::from_le_bytes([plen[0], plen[1], plen[2], plen[3]]) as usize;
    assert!(plen >= 8, "a PDU of {plen} bytes");
    (stream.len() >= plen).then(|| stream.drain(..plen).collect())
}

/// Pages of a controller with two namespaces, of blocks of 512 and of 4096 bytes.
pub fn good_pages() -> Pages {
    let mut controller = vec![0; PAGE];
    controller[4..24].fill(b'1');
    controller[24..72].fill(b'M');
    // Several controllers, and asymmetric access.
    controller[76] = 0b1010;
    controller[77] = 5;
    controller[92..96].copy_from_slice(&(1_u32 << 8 | 1 << 11 | 1 << 31).to_le_bytes());
    let list = [1_u32.to_le_bytes(), 2_u32.to_le_bytes()].concat();
    let mut namespace = vec![0; 256];
    namespace[0..8].copy_from_slice(&4096_u64.to_le_bytes());
    namespace[8..16].copy_from_slice(&4096_u64.to_le_bytes());
    namespace[130] = 9;
    let descriptors = [&[3, 16, 0, 0][..], &[7; 16], &[4, 1, 0, 0, 0]].concat();
    let identify = [
        (Cns::NAMESPACE.0, namespace),
        (Cns::CONTROLLER.0, controller),
        (Cns::ACTIVE_NAMESPACES.0, list),
        (Cns::NAMESPACE_DESCRIPTORS.0, descriptors),
        (Cns::CONTROLLER_FOR_CSI.0, vec![3; 32]),
    ];
    let logs =
        [(LogPageId::ASYMMETRIC_NAMESPACE_ACCESS.0, ana()), (LogPageId::DISCOVERY.0, discovery())];
    Pages { identify: identify.into(), logs: logs.into(), event: Some(0x0c_03_02), fails: None }
}

/// A group with both namespaces, and an empty one.
fn ana() -> Vec<u8> {
    let mut page = vec![0; 16];
    page[8] = 2;
    for (id, state, nsids) in [(1_u8, 1, &[1_u32, 2][..]), (2, 3, &[])] {
        let mut group = vec![0; 32];
        (group[0], group[4], group[16]) = (id, nsids.len() as u8, state);
        page.extend(group);
        page.extend(nsids.iter().flat_map(|nsid| nsid.to_le_bytes()));
    }
    page
}

/// A subsystem, and another discovery service.
fn discovery() -> Vec<u8> {
    let mut page = vec![0; 1024];
    page[8] = 2;
    for (subtype, address) in [(2, "10.0.0.7"), (1, "fe80::1")] {
        let mut entry = vec![0; 1024];
        entry[..3].copy_from_slice(&[3, 1, subtype]);
        entry[32..36].copy_from_slice(b"4420");
        entry[256..259].copy_from_slice(b"nqn");
        entry[512..512 + address.len()].copy_from_slice(address.as_bytes());
        page.extend(entry);
    }
    page
}
