//! The shortest way for what comes most: a Read with nothing special about it, for which there is a
//! buffer. Whatever else there is about a command, [`Handler`](super::receive::Handler) finds.

use basalt_bdev::{Io, Op, SgList};
use basalt_nvme_spec::{Command, NvmOpcode, SglDescriptor};

use super::queue::{Phase, Queue, Role};
use super::receive::Plan;
use super::slot::SlotState;
use crate::command::Transfer;
use crate::group::Core;

/// Fewer bytes are sooner copied than kept.
const SHARED_MIN: usize = 1024;

/// What is needed of a plain Read that may run: what [`super::io::plan`] would find. `None` if it
/// is anything else.
#[inline]
fn plan(command: &Command, view: usize, core: &Core) -> Option<Plan> {
    const TRANSPORT: u8 =
        SglDescriptor::TYPE_TRANSPORT_DATA_BLOCK << 4 | SglDescriptor::SUBTYPE_TRANSPORT;
    let is_plain = command.opcode == NvmOpcode::READ.0
        && command.flags == Command::FLAG_SGL
        && command.sgl1().identifier == TRANSPORT;
    if !is_plain || core.config.masks(NvmOpcode::READ) {
        return None;
    }
    let namespace = core.views.open_namespace(view, command.nsid.get())?;
    namespace.check_range(command.lba(), command.blocks()).ok()?;
    let channel = namespace.channel().ok()?;
    let len = command.sgl1().length.get();
    let is_exact = u64::from(command.blocks()) << namespace.block_shift == u64::from(len);
    let fits = is_exact && len <= core.config.io_len_max;
    fits.then_some(Plan { transfer: Transfer::ToHost { len }, channel })
}

impl Queue {
    /// Submits a plain Read whose capsule is whole; `false`, and nothing happens, if it is not one
    /// or cannot be submitted now.
    #[inline]
    pub(super) fn read_at_once(&mut self, command: &Command, core: &mut Core) -> bool {
        let Phase::Ready(Role::Io { view, .. }) = self.phase else { return false };
        let Some(plan) = plan(command, view, core) else { return false };
        debug_assert_eq!(super::io::plan(command, 0, view, core), Ok(plan));
        let Transfer::ToHost { len } = plan.transfer else { return false };
        let len = len as usize;
        let is_alone = !self.is_waiting_for_buffers() && self.first_half.is_none();
        if !is_alone || !core.pool.has_free(self.held() + len) || !self.slots.has_free() {
            return false;
        }
        let Ok(buf) = core.pool.alloc(len) else { return false };
        let (generation, now) = (core.next_generation(), core.local.now());
        let held = buf.capacity();
        let Some((index, slot)) = self.slots.take(command, generation, now) else { return false };
        slot.state = SlotState::Running;
        (slot.transfer, slot.channel) = (plan.transfer, plan.channel);
        self.slots.hold(index, held);
        self.trace_new(command);
        let tag = crate::group::Tag { connection: self.id.slot, slot: index, generation }.to_u64();
        let (lba, blocks) = (command.lba(), command.blocks());
        self.submit(index, Io::with_data(Op::Read, lba, blocks, SgList::One(buf), tag), core);
        true
    }

    /// A Read is done: `data` goes in line to the host, and from the buffer that it is in to the
    /// network, which may keep that.
    #[inline]
    pub(super) fn answer_read(&mut self, index: u16, data: SgList, core: &Core) {
        if !self.watchers.is_empty() {
            self.tell_watchers(index, basalt_nvme_spec::Status::SUCCESS);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        match data {
            SgList::One(buf) if core.keeps_shared && buf.len() >= SHARED_MIN => {
                match core.pool.share(buf) {
                    Ok(slice) => slot.shared = Some(slice),
                    Err(buf) => slot.data.put(SgList::One(buf)),
                }
            }
            data => slot.data.put(data),
        }
        slot.outcome = crate::command::Outcome::OK;
        slot.state = SlotState::Sending;
        slot.outgoing = super::slot::Outgoing::Data;
        self.trace_completed(index);
        self.sender.enqueue(index);
    }
}
