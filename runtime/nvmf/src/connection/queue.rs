use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use basalt_bdev::SgList;
use basalt_env::{CoreId, DmaBuf, Instant, Work};
use basalt_net::{Endpoint, NetStack, SocketError, SocketId};
use basalt_nvme_spec::{NvmOpcode, Status, StatusType, fabrics};
use basalt_reactor::Local;
use zerocopy::IntoBytes;

use super::abort::Watcher;
use super::send::Sender;
use super::slot::{Outgoing, SlotState, Slots};
use super::{ConnectionId, Ends};
use crate::behavior::HostBehavior;
use crate::command::{Outcome, Transfer};
use crate::control::{Failure, Target};
use crate::group::{Core, Tag};
use crate::health::Health;
use crate::pdu::parse::IcReq;
use crate::pdu::wire::{self, CommonHeader, kind};
use crate::pdu::{Digests, Fault, FaultKind, H2cData};

/// How far the handshake has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// No ICReq yet.
    Accepted,
    /// ICReq answered, no Connect yet.
    Greeted,
    /// The control plane decides about a Connect.
    Connecting,
    /// The queue works.
    Ready(Role),
}

/// What kind of queue it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Admin queue of a controller.
    Admin {
        /// Which.
        cntlid: u16,
    },
    /// I/O queue of a controller.
    Io {
        /// Which.
        cntlid: u16,
        /// Queue identifier, from 1.
        qid: u16,
        /// Index of the host's path to the subsystem on this core.
        view: usize,
    },
}

/// A queue as the console and RPC show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueInfo {
    /// Its connection.
    pub connection: ConnectionId,
    /// Controller, once connected.
    pub cntlid: Option<u16>,
    /// Queue, once connected; 0 is the admin queue.
    pub qid: Option<u16>,
    /// The address and port the host reached us by.
    pub reached_at: Option<Endpoint>,
    /// The host's end.
    pub peer: Option<Endpoint>,
    /// Command slots.
    pub slots: u16,
    /// Commands outstanding.
    pub in_use: u16,
    /// Commands that bdevs, or the control plane, have carried out.
    pub commands: u64,
}

/// Slots before Connect has said how many there will be.
const SLOTS_BEFORE_CONNECT: u16 = 2;

/// The queue behind a connection: command slots, handshake, buffers, and what is to be sent.
pub(super) struct Queue {
    pub(super) id: ConnectionId,
    /// The address and port the host reached us by.
    pub(super) reached_at: Option<Endpoint>,
    /// The host's end.
    peer: Option<Endpoint>,
    pub(super) phase: Phase,
    pub(super) slots: Slots,
    pub(super) sender: Sender,
    /// The slot whose PDU is being received.
    pub(super) receiving: Option<u16>,
    /// Slots that wait for a data buffer, in order.
    waiting: VecDeque<u16>,
    /// Kept back for in-capsule data, so that a host's stream never stalls for good: whatever it
    /// carries completes without reading on.
    reserve: Option<DmaBuf>,
    /// Bytes of it, also while it is in use; 0 if this connection got none.
    reserve_len: usize,
    /// Commands at bdevs or the control plane.
    pub(super) outstanding: u32,
    /// Ios that came back.
    pub(super) ios: u64,
    /// Commands that the control plane has answered.
    pub(super) answered: u64,
    pub(super) host_left: bool,
    /// Of a fused operation whose second half has not come, the slot and the command of the first.
    pub(super) first_half: Option<(u16, u32)>,
    /// Who waits for the end of commands that are to be aborted.
    pub(super) watchers: Vec<Watcher>,
    /// Where an I/O queue's work is counted.
    pub(super) health: Option<Arc<Health>>,
    /// What the host takes, once it has a controller.
    pub(super) behavior: Option<Arc<HostBehavior>>,
    pub(super) local: Local,
}

impl Queue {
    pub(super) fn new(id: ConnectionId, ends: Ends, core: &Core) -> Self {
        Self {
            id,
            reached_at: ends.local,
            peer: ends.peer,
            phase: Phase::Accepted,
            slots: Slots::new(SLOTS_BEFORE_CONNECT),
            sender: Sender::new(core.config.c2h_success, id.slot, &core.local),
            receiving: None,
            waiting: VecDeque::new(),
            reserve: None,
            reserve_len: 0,
            outstanding: 0,
            ios: 0,
            answered: 0,
            host_left: false,
            first_half: None,
            watchers: Vec::new(),
            health: None,
            behavior: None,
            local: core.local.clone(),
        }
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) const fn host_left(&self) -> bool {
        self.host_left
    }

    pub(super) const fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Index of an I/O queue's path to its subsystem.
    pub(super) const fn path(&self) -> Option<usize> {
        match self.phase {
            Phase::Ready(Role::Io { view, .. }) => Some(view),
            _ => None,
        }
    }

    /// Adds to `tags` its commands at the bdev for one of `nsids`, which ascend.
    pub(super) fn running(&self, nsids: &[u32], tags: &mut Vec<Tag>) {
        for (index, slot) in self.slots.iter() {
            let is_affected = nsids.binary_search(&slot.command.nsid.get()).is_ok();
            if is_affected && slot.state == SlotState::Running {
                tags.push(self.tag(index));
            }
        }
    }

    /// Whether the command of `tag` is still at the bdev.
    pub(super) fn is_running(&self, tag: Tag) -> bool {
        let slot = self.slots.get(tag.slot).filter(|slot| slot.generation == tag.generation);
        slot.is_some_and(|slot| slot.state == SlotState::Running)
    }

    /// For log lines.
    pub(super) fn name(&self) -> impl fmt::Display + use<> {
        Name(self.id)
    }

    pub(super) fn info(&self) -> QueueInfo {
        let (cntlid, qid) = match self.phase {
            Phase::Ready(Role::Admin { cntlid }) => (Some(cntlid), Some(0)),
            Phase::Ready(Role::Io { cntlid, qid, .. }) => (Some(cntlid), Some(qid)),
            _ => (None, None),
        };
        let (slots, in_use) = (self.slots.len() as u16, self.slots.in_use() as u16);
        let (connection, reached_at, peer) = (self.id, self.reached_at, self.peer);
        let commands = self.ios + self.answered;
        QueueInfo { connection, cntlid, qid, reached_at, peer, slots, in_use, commands }
    }

    /// Makes it a queue of `size` entries.
    pub(super) fn set_size(&mut self, size: u16) {
        self.slots.grow(size);
        self.sender.reserve(usize::from(size));
        self.sender.head.size = size;
        self.waiting.reserve(usize::from(size));
    }

    /// Answers an ICReq (§3.6.2.2).
    pub(super) fn greet(&mut self, request: IcReq, core: &mut Core) -> Digests {
        let digests = request.digests;
        let response = wire::IcResp {
            common: CommonHeader {
                kind: kind::IC_RESP,
                flags: 0,
                hlen: size_of::<wire::IcResp>() as u8,
                pdo: 0,
                plen: (size_of::<wire::IcResp>() as u32).into(),
            },
            pfv: 0.into(),
            cpda: 0,
            digest: u8::from(digests.header) | u8::from(digests.data) << 1,
            maxh2cdata: core.config.io_len_max.into(),
            reserved: [0; 112],
        };
        self.sender.stage(response.as_bytes());
        self.sender.agree(digests, request.data_align);
        self.phase = Phase::Greeted;
        self.keep_reserve(core);
        digests
    }

    /// Keeps a buffer back, unless those of all connections would take more than half of the
    /// memory: the other half is for work, which connections without one have to wait for.
    fn keep_reserve(&mut self, core: &Core) {
        let len = core.config.capsule_data_max() as usize;
        let memory = core.pool.stats();
        if memory.bytes_free < memory.bytes_total / 2 + len {
            return;
        }
        self.reserve = core.pool.alloc(len).ok();
        self.reserve_len = self.reserve.as_ref().map_or(0, |_| len);
    }

    /// The tag of the command in slot `index`.
    pub(super) fn tag(&self, index: u16) -> Tag {
        let generation = self.slots.get(index).map_or(0, |slot| slot.generation);
        Tag { connection: self.id.slot, slot: index, generation }
    }

    /// A buffer for `len` bytes that came with a capsule.
    pub(super) fn capsule_buffer(&mut self, len: u32, core: &Core) -> Option<DmaBuf> {
        let len = len as usize;
        if let Ok(buf) = core.pool.alloc(len) {
            return Some(buf);
        }
        if self.reserve.as_ref()?.capacity() < len {
            return None;
        }
        let mut buf = self.reserve.take()?;
        buf.set_len(len);
        Some(buf)
    }

    /// Gives a slot's transfer its buffer and sets it going, or lets it wait its turn.
    pub(super) fn want_buffer(&mut self, index: u16, core: &mut Core) {
        if !self.waiting.is_empty() || !self.try_buffer(index, core) {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.state = SlotState::Buffer;
            }
            core.counters.buffer_waits += 1;
            self.waiting.push_back(index);
        }
    }

    /// Serves slots that wait for buffers, in order, as far as there are any.
    pub(super) fn serve_waiting(&mut self, core: &mut Core) -> Work {
        let mut work = Work::IDLE;
        while let Some(&index) = self.waiting.front() {
            if !self.try_buffer(index, core) {
                break;
            }
            self.waiting.pop_front();
            work += Work(1);
        }
        work
    }

    /// Whether there are slots that wait for buffers.
    #[inline]
    pub(super) fn is_waiting_for_buffers(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A slot no longer waits for its buffer.
    pub(super) fn stop_waiting(&mut self, index: u16) {
        self.waiting.retain(|waiting| *waiting != index);
    }

    /// Fails commands that have waited too long for a buffer.
    pub(super) fn expire_waiting(&mut self, core: &Core, now: Instant) {
        let limit = core.config.buffer_timeout;
        while let Some(&index) = self.waiting.front() {
            let since = self.slots.get(index).map_or(Instant::ZERO, |slot| slot.since);
            if now.since(since) < limit {
                return;
            }
            self.waiting.pop_front();
            self.finish(index, Status::INTERNAL_ERROR.into());
        }
    }

    /// Memory of buffers that its commands have, or the network still has of them, bytes.
    pub(super) fn held(&self) -> usize {
        self.slots.held() + self.sender.kept()
    }

    /// Gives a slot its buffer if there is one.
    ///
    /// No connection may come to hold more than is left for all others. So `n` hosts that neither
    /// read nor send what they owe still leave 1/(n+1) of the memory, and a host alone has half.
    fn try_buffer(&mut self, index: u16, core: &mut Core) -> bool {
        let Some(slot) = self.slots.get(index) else { return true };
        let (len, from_host) = match slot.transfer {
            Transfer::FromHost { len } => (len, true),
            Transfer::ToHost { len } => (len, false),
            Transfer::None | Transfer::InCapsule { .. } => return true,
        };
        // What is asked for may come behind a capsule, which without a reserve has to find memory.
        let behind = from_host && self.reserve_len == 0;
        let spare = if behind { core.config.capsule_data_max() as usize } else { 0 };
        if !core.pool.has_free(self.held() + len as usize + spare) {
            return false;
        }
        let Ok(buf) = core.pool.alloc(len as usize) else { return false };
        self.slots.give(index, buf);
        if from_host {
            self.ask_for_data(index);
        } else {
            self.execute(index, core);
        }
        true
    }

    fn ask_for_data(&mut self, index: u16) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.state = SlotState::HostData;
        slot.outgoing = Outgoing::R2t;
        self.sender.enqueue(index);
    }

    /// Checks an H2CData header against the transfer it claims to belong to (§3.6.2.8).
    pub(super) fn begin_data(&mut self, data: &H2cData) -> Result<(), Fault> {
        let field = |offset| Err(Fault::field(offset));
        let Some(slot) = self.slots.get_mut(data.ttag) else {
            return field(core::mem::offset_of!(wire::Data, ttag));
        };
        if slot.state != SlotState::HostData || slot.outgoing == Outgoing::R2t {
            return field(core::mem::offset_of!(wire::Data, ttag));
        }
        if slot.cid() != data.cid {
            return field(core::mem::offset_of!(wire::Data, cccid));
        }
        let end = u64::from(data.offset) + u64::from(data.len);
        if data.offset != slot.received || end > u64::from(slot.expected()) {
            return Err(Fault::new(FaultKind::DataOutOfRange));
        }
        if data.last != (end == u64::from(slot.expected())) {
            return field(core::mem::offset_of!(CommonHeader, flags));
        }
        self.receiving = Some(data.ttag);
        Ok(())
    }

    /// Ends a command: its data or response goes in line to the host.
    pub(super) fn finish(&mut self, index: u16, mut outcome: Outcome) {
        if !outcome.status.is_success() {
            if let Some(behavior) = &self.behavior {
                outcome.status = behavior.tell(outcome.status);
            }
            self.report(index, outcome.status);
        }
        if !self.watchers.is_empty() {
            self.tell_watchers(index, outcome.status);
        }
        let is_half = self.slots.get(index).is_some_and(|slot| slot.partner.is_some());
        if is_half && !outcome.status.is_success() {
            self.fail_partner(index);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.outcome = outcome;
        slot.state = SlotState::Sending;
        let to_host = matches!(slot.transfer, Transfer::ToHost { .. });
        let with_data = to_host && outcome.status.is_success() && !slot.data.is_empty();
        slot.outgoing = if with_data { Outgoing::Data } else { Outgoing::Response };
        if !with_data && let SgList::One(buf) = core::mem::take(&mut slot.data) {
            self.recycle(buf);
        }
        self.trace_completed(index);
        self.sender.enqueue(index);
    }

    /// Has the controller log a failed command. Where the mailbox of its core is full the entry
    /// is lost: a log is no reason to hold a host up.
    fn report(&self, index: u16, status: Status) {
        let (cntlid, qid) = match self.phase {
            Phase::Ready(Role::Admin { cntlid }) => (cntlid, 0),
            Phase::Ready(Role::Io { cntlid, qid, .. }) => (cntlid, qid),
            _ => return,
        };
        // What was aborted at the host's wish, or is to take another path, is no error.
        let is_error = !status.is(Status::ABORT_REQUESTED) && status.sct() != StatusType::PATH.0;
        let Some(slot) = self.slots.get(index).filter(|_| is_error) else { return };
        let command = &slot.command;
        let nsid = if command.opcode == fabrics::OPCODE { 0 } else { command.nsid.get() };
        let opcode = NvmOpcode(command.opcode);
        let has_range =
            matches!(opcode, NvmOpcode::READ | NvmOpcode::WRITE | NvmOpcode::WRITE_ZEROES);
        let lba = if qid != 0 && has_range { command.lba() } else { 0 };
        let failure = Failure { qid, cid: slot.cid(), status, nsid, lba };
        let log = move |local: &Local| {
            if let Some(target) = local.service::<Target>() {
                target.command_failed(cntlid, &failure);
            }
        };
        let _ = self.local.send(CoreId::BOOT, log);
    }

    /// Sends what there is; gives the number of bytes the network took.
    pub(super) fn flush(
        &mut self,
        stack: &mut dyn NetStack,
        socket: SocketId,
    ) -> Result<usize, SocketError> {
        if self.sender.is_idle() {
            return Ok(0);
        }
        self.sender.flush(stack, socket, &mut self.slots)
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.sender.is_idle()
    }

    /// Only `bytes` are still sent; commands that wait are given up.
    pub(super) fn last_words(&mut self, bytes: &[u8]) {
        self.sender.finish_with(bytes);
        self.drop_idle_slots();
    }

    /// The connection is gone: frees everything nobody else holds.
    pub(super) fn abandon(&mut self, core: &mut Core) {
        self.sender.clear();
        self.watchers.clear();
        self.drop_idle_slots();
        self.reserve = None;
        core.counters.lost += 1;
    }

    fn drop_idle_slots(&mut self) {
        self.waiting.clear();
        self.receiving = None;
        for index in 0..self.slots.len() as u16 {
            if self.sender.is_sending(index) {
                continue;
            }
            let held = |slot: &super::slot::Slot| {
                slot.state == SlotState::Running && slot.refused.is_none()
            };
            if !self.slots.get(index).is_some_and(held) {
                drop(self.slots.free(index));
            }
        }
    }

    /// Puts a buffer back in reserve if that is empty and it is large enough, else in the pool.
    pub(super) fn recycle(&mut self, buf: DmaBuf) {
        let lacks = self.reserve.is_none() && self.reserve_len > 0;
        if lacks && buf.capacity() >= self.reserve_len {
            self.reserve = Some(buf);
        }
    }
}

struct Name(ConnectionId);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}.{}", self.0.core, self.0.slot)
    }
}
