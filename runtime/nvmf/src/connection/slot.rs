use alloc::vec::Vec;

use basalt_bdev::{Io, SgList};
use basalt_env::{DmaBuf, DmaRun, DmaSlice, Instant};
use basalt_nvme_spec::Command;
use zerocopy::FromZeros;

use crate::command::{Outcome, Transfer};

/// Where a command is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum SlotState {
    /// No command.
    #[default]
    Free,
    /// Its capsule's data is arriving.
    Capsule,
    /// Waits for a data buffer.
    Buffer,
    /// Waits for data asked for by R2T.
    HostData,
    /// Half of a fused operation: its data is here, and the other half's may not be.
    Paired,
    /// At the bdev or the control plane, which will return it.
    Running,
    /// Held by the control plane until an event happens.
    Held,
    /// Its data or response waits for the network.
    Sending,
}

/// What a slot has to send next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Outgoing {
    /// Nothing.
    #[default]
    Nothing,
    /// An R2T for its whole transfer.
    R2t,
    /// Its data, and a response if the SUCCESS flag may not replace it.
    Data,
    /// A response.
    Response,
}

/// One outstanding command.
///
/// ```text
/// Free -> Capsule -> Running -> Sending -> Free          data came with the capsule
/// Free -> (Buffer ->) HostData -> Running -> Sending     data asked for by R2T
/// Free -> (Buffer ->) Running -> Sending                 data to the host, or none
/// … -> Running -> Paired -> Running -> Sending           halves of a fused operation
/// Buffer or Running -> Sending                           what is aborted before the bdev has it
/// Running -> Held -> Sending                             asynchronous event requests
/// any but Running -> Free when the connection dies; Running -> Free when its owner returns it
/// ```
pub(super) struct Slot {
    pub(super) state: SlotState,
    pub(super) outgoing: Outgoing,
    pub(super) generation: u32,
    pub(super) command: Command,
    pub(super) transfer: Transfer,
    /// Bytes of the transfer that have arrived; of the capsule, bytes to skip come first.
    pub(super) received: u32,
    pub(super) skip: u32,
    pub(super) data_damaged: bool,
    pub(super) data: SgList,
    /// Its data instead, once the network may keep that.
    pub(super) shared: Option<DmaSlice>,
    /// Bytes of the data buffer it was given; see [`Slots::held`].
    held: usize,
    pub(super) outcome: Outcome,
    /// Channel the command's Ios go to.
    pub(super) channel: u16,
    /// Blocks or ranges done, for commands that take several Ios.
    pub(super) progress: u32,
    /// An Io the channel had no room for.
    pub(super) refused: Option<Io>,
    pub(super) since: Instant,
    /// The other half of a fused operation.
    pub(super) partner: Option<u16>,
}

impl Slot {
    fn new() -> Self {
        Self {
            state: SlotState::Free,
            outgoing: Outgoing::Nothing,
            generation: 0,
            command: Command::new_zeroed(),
            transfer: Transfer::None,
            received: 0,
            skip: 0,
            data_damaged: false,
            data: SgList::Empty,
            shared: None,
            held: 0,
            outcome: Outcome::OK,
            channel: 0,
            progress: 0,
            refused: None,
            since: Instant::ZERO,
            partner: None,
        }
    }

    /// Command identifier.
    pub(super) fn cid(&self) -> u16 {
        self.command.cid.get()
    }

    /// Bytes of its data.
    pub(super) fn data_len(&self) -> usize {
        self.shared.as_ref().map_or_else(|| self.data.len(), DmaSlice::len)
    }

    /// Its data from `skip` on, buffer by buffer.
    pub(super) fn runs(&self, skip: usize) -> impl Iterator<Item = DmaRun<'_>> {
        let shared = self.shared.iter().map(move |slice| DmaRun::Shared(slice, skip));
        let mut skip = skip;
        let lent = self.data.as_slice().iter().map(move |buf| {
            let bytes = buf.as_slice();
            let rest = bytes.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(bytes.len());
            DmaRun::Lent(rest)
        });
        shared.chain(lent).filter(|run| !run.is_empty())
    }

    /// Bytes the host is to send.
    pub(super) fn expected(&self) -> u32 {
        match self.transfer {
            Transfer::InCapsule { len, .. } | Transfer::FromHost { len } => len,
            Transfer::None | Transfer::ToHost { .. } => 0,
        }
    }

    /// Puts the next bytes from the host in place; what does not belong to the transfer is
    /// dropped.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let skipped = bytes.len().min(self.skip as usize);
        self.skip -= skipped as u32;
        let bytes = &bytes[skipped..];
        let left = (self.expected() - self.received) as usize;
        let SgList::One(buf) = &mut self.data else { return };
        let taken = bytes.len().min(left);
        let at = self.received as usize;
        if let Some(place) = buf.as_mut_slice().get_mut(at..at + taken) {
            place.copy_from_slice(&bytes[..taken]);
            self.received += taken as u32;
        }
    }
}

/// A queue's command slots: a fixed number, one per entry of the submission queue.
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u16>,
    held: usize,
}

impl Slots {
    pub(super) fn new(count: u16) -> Self {
        let mut slots = Self { slots: Vec::new(), free: Vec::new(), held: 0 };
        slots.grow(count);
        slots
    }

    /// Makes it `count` slots, if there are fewer.
    pub(super) fn grow(&mut self, count: u16) {
        let have = self.slots.len() as u16;
        if count <= have {
            return;
        }
        self.slots.reserve_exact(usize::from(count - have));
        self.slots.extend((have..count).map(|_| Slot::new()));
        self.free.reserve_exact(usize::from(count) - self.free.len());
        self.free.extend((have..count).rev());
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Bytes of data buffers that were given to slots still in use.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Gives a slot its data buffer.
    pub(super) fn give(&mut self, index: u16, buf: DmaBuf) {
        self.hold(index, buf.capacity());
        let Some(slot) = self.slots.get_mut(usize::from(index)) else { return };
        slot.data.put(SgList::One(buf));
    }

    /// A slot has a data buffer of so many bytes.
    #[inline]
    pub(super) fn hold(&mut self, index: u16, bytes: usize) {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else { return };
        slot.held = bytes;
        self.held += bytes;
    }

    /// Takes a slot for `command`, whose capsule arrives.
    #[inline]
    pub(super) fn take(
        &mut self,
        command: &Command,
        generation: u32,
        now: Instant,
    ) -> Option<(u16, &mut Slot)> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[usize::from(index)];
        slot.generation = generation;
        slot.state = SlotState::Capsule;
        slot.command = *command;
        slot.transfer = Transfer::None;
        slot.received = 0;
        slot.skip = 0;
        slot.data_damaged = false;
        slot.outcome = Outcome::OK;
        slot.progress = 0;
        slot.since = now;
        slot.partner = None;
        Some((index, slot))
    }

    /// Frees a slot; gives the buffer it held, if it was a single one.
    pub(super) fn free(&mut self, index: u16) -> Option<DmaBuf> {
        let slot = self.slots.get_mut(usize::from(index))?;
        if slot.state == SlotState::Free {
            return None;
        }
        slot.state = SlotState::Free;
        slot.outgoing = Outgoing::Nothing;
        slot.refused = None;
        slot.shared = None;
        self.held -= core::mem::take(&mut slot.held);
        self.free.push(index);
        match core::mem::take(&mut slot.data) {
            SgList::One(buf) => Some(buf),
            _ => None,
        }
    }

    pub(super) fn get(&self, index: u16) -> Option<&Slot> {
        self.slots.get(usize::from(index)).filter(|slot| slot.state != SlotState::Free)
    }

    pub(super) fn get_mut(&mut self, index: u16) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(index)).filter(|slot| slot.state != SlotState::Free)
    }

    /// Commands in use, with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &Slot)> {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.state != SlotState::Free);
        used.map(|(at, slot)| (at as u16, slot))
    }

    /// The slot if it still holds the command of `generation`.
    pub(super) fn current(&mut self, index: u16, generation: u32) -> Option<&mut Slot> {
        self.get_mut(index).filter(|slot| slot.generation == generation)
    }
}
