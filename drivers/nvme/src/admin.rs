use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory, Registers};
use basalt_nvme_spec::{AdminOpcode, AsyncEvent, Command, FeatureId, PAGE_SIZE, Status};
use basalt_ring::{Slots, StaleTag, Tag};
use zerocopy::little_endian::U16;

use crate::AdminError;
use crate::rings::Rings;

/// What a finished admin command gives.
#[derive(Debug)]
pub struct Outcome {
    /// Dword 0 of the completion, command specific.
    pub dw0: u32,
    /// The buffer that was handed in.
    pub data: Option<DmaBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// A future waits for it.
    Command,
    /// The future went away: the slot keeps the buffer until the device is done with it.
    Orphan,
    /// An asynchronous event request.
    Event,
}

#[derive(Debug)]
struct Pending {
    data: Option<DmaBuf>,
    /// The device finds the pages of `data` here, if they are many.
    _list: Option<DmaBuf>,
    purpose: Purpose,
    answer: Option<(Status, u32)>,
}

/// The admin queue. Commands wait in slots for whoever asked.
#[derive(Debug)]
pub(crate) struct AdminQueue<R: Registers> {
    pool: DmaPool,
    rings: Rings<R>,
    slots: Slots<Pending>,
    failed: bool,
}

/// Entries of the admin queues.
const ENTRIES: u16 = 64;

impl<R: Registers> AdminQueue<R> {
    pub(crate) fn allocate(
        pool: &DmaPool,
        registers: R,
        stride: usize,
    ) -> Result<Self, OutOfDmaMemory> {
        let rings = Rings::allocate(pool, registers, 0, ENTRIES, stride, None)?;
        let depth = usize::from(ENTRIES - 1);
        let slots = Slots::with_capacity(depth).map_err(|_| OutOfDmaMemory { requested: depth })?;
        Ok(Self { pool: pool.clone(), rings, slots, failed: false })
    }

    pub(crate) fn rings(&self) -> &Rings<R> {
        &self.rings
    }

    /// Sends `command`; a buffer becomes its data pointer.
    pub(crate) fn submit(
        &mut self,
        command: Command,
        data: Option<DmaBuf>,
    ) -> Result<Tag, AdminError> {
        self.send(command, data, Purpose::Command)
    }

    /// Sends one Asynchronous Event Request.
    pub(crate) fn request_event(&mut self) -> Result<(), AdminError> {
        self.send(Command::async_event_request(), None, Purpose::Event).map(drop)
    }

    fn send(
        &mut self,
        mut command: Command,
        data: Option<DmaBuf>,
        purpose: Purpose,
    ) -> Result<Tag, AdminError> {
        if self.failed {
            return Err(AdminError::BadCompletion);
        }
        let list = data.as_ref().map_or(Ok(None), |data| list_of(data, &self.pool))?;
        if let Some(data) = &data {
            let start = data.phys().as_u64();
            let next = if data.len() > PAGE_SIZE { start + PAGE_SIZE as u64 } else { 0 };
            command.set_prps(start, list.as_ref().map_or(next, |list| list.phys().as_u64()));
        }
        let pending = Pending { data, _list: list, purpose, answer: None };
        let tag = self.slots.insert(pending).map_err(|_| AdminError::QueueFull)?;
        command.cid = U16::new(tag.as_u16());
        self.rings.push(&command);
        let _ = self.rings.commit();
        Ok(tag)
    }

    /// Files all completions that have arrived.
    pub(crate) fn poll(&mut self) {
        while !self.failed {
            let Some(completion) = self.rings.next_completion() else { break };
            let tag = Tag::from_u16(completion.cid);
            let dw0 = self.rings.dw0(&completion);
            if self.file(tag, completion.status, dw0).is_err() {
                log::error!("nvme admin queue: completion of unknown {:#06x}", completion.cid);
                self.failed = true;
            }
        }
        self.rings.release_all();
    }

    fn file(&mut self, tag: Tag, status: Status, dw0: u32) -> Result<(), StaleTag> {
        let pending = self.slots.get_mut(tag)?;
        if pending.answer.is_some() {
            return Err(StaleTag);
        }
        pending.answer = Some((status, dw0));
        if pending.purpose == Purpose::Orphan {
            self.slots.remove(tag)?;
        }
        Ok(())
    }

    /// What became of the command, if it has finished.
    pub(crate) fn take(&mut self, tag: Tag) -> Option<Result<Outcome, AdminError>> {
        match self.slots.get(tag) {
            Ok(Pending { answer: None, .. }) if self.failed => {
                return Some(Err(AdminError::BadCompletion));
            }
            Ok(Pending { answer: None, .. }) => return None,
            Ok(_) => {}
            Err(StaleTag) => return Some(Err(AdminError::Reset)),
        }
        let Pending { data, answer, .. } = self.slots.remove(tag).ok()?;
        let (status, dw0) = answer?;
        let outcome = Outcome { dw0, data };
        Some(if status.is_success() { Ok(outcome) } else { Err(AdminError::Status(status)) })
    }

    /// Nobody waits for the command any more.
    pub(crate) fn orphan(&mut self, tag: Tag) {
        match self.slots.get_mut(tag) {
            Ok(Pending { answer: Some(_), .. }) => drop(self.slots.remove(tag)),
            Ok(pending) => pending.purpose = Purpose::Orphan,
            Err(StaleTag) => {}
        }
    }

    /// One event that has arrived. A request the controller refused is dropped.
    pub(crate) fn take_event(&mut self) -> Option<AsyncEvent> {
        let arrived = |pending: &Pending| pending.purpose == Purpose::Event;
        loop {
            let (tag, _) = self.slots.iter().find(|(_, p)| arrived(p) && p.answer.is_some())?;
            let (status, dw0) = self.slots.remove(tag).ok()?.answer?;
            if status.is_success() {
                return Some(AsyncEvent(dw0));
            }
            log::debug!("nvme: asynchronous event request refused: {status}");
        }
    }
}

/// The list of a buffer's pages after the first, if they are too many for the command itself. A
/// buffer of more than one page begins with one.
fn list_of(data: &DmaBuf, pool: &DmaPool) -> Result<Option<DmaBuf>, AdminError> {
    let pages = data.len().div_ceil(PAGE_SIZE);
    if pages <= 2 {
        return Ok(None);
    }
    if pages - 1 > PAGE_SIZE / size_of::<u64>() {
        return Err(AdminError::BadBuffer);
    }
    let mut list = pool.alloc(PAGE_SIZE).map_err(|_| AdminError::NoMemory)?;
    let (entries, _) = list.as_mut_slice().as_chunks_mut::<8>();
    for (entry, page) in entries.iter_mut().zip(1..pages) {
        *entry = (data.phys().as_u64() + (page * PAGE_SIZE) as u64).to_le_bytes();
    }
    Ok(Some(list))
}

/// How many bytes `command` moves at most, if the driver knows.
pub(crate) fn data_len(command: &Command) -> Option<u64> {
    match AdminOpcode(command.opcode) {
        // Features and identify structures are at most a page (§5.15, §5.17, §5.27).
        AdminOpcode::IDENTIFY | AdminOpcode::SET_FEATURES | AdminOpcode::GET_FEATURES => {
            Some(PAGE_SIZE as u64)
        }
        AdminOpcode::GET_LOG_PAGE => Some(command.log_bytes()),
        // A namespace's data, a list of controllers (§5.23, §5.22).
        AdminOpcode::NAMESPACE_MANAGEMENT | AdminOpcode::NAMESPACE_ATTACHMENT => {
            Some(if deletes_namespace(command) { 0 } else { PAGE_SIZE as u64 })
        }
        // NUMD counts dwords, from 0 (§5.13).
        AdminOpcode::FIRMWARE_DOWNLOAD => Some((u64::from(command.cdw10.get()) + 1) * 4),
        // The length is dword 11 (§5.25, §5.26).
        AdminOpcode::SECURITY_SEND | AdminOpcode::SECURITY_RECEIVE => {
            Some(command.cdw11.get().into())
        }
        AdminOpcode::ABORT
        | AdminOpcode::KEEP_ALIVE
        | AdminOpcode::FIRMWARE_COMMIT
        | AdminOpcode::DEVICE_SELF_TEST
        | AdminOpcode::FORMAT_NVM
        | AdminOpcode::SANITIZE => Some(0),
        // NDT counts dwords (§3.3.3.1, figure 88), if the controller keeps to that (AVSCC).
        opcode if opcode.is_vendor_specific() => Some(u64::from(command.cdw10.get()) * 4),
        _ => None,
    }
}

/// Namespace Management with SEL 1 (§5.23), which moves no data.
fn deletes_namespace(command: &Command) -> bool {
    AdminOpcode(command.opcode) == AdminOpcode::NAMESPACE_MANAGEMENT
        && command.cdw10.get() & 0xf == 1
}

/// Whether `data` fits what `command` moves.
///
/// A command that moves data must come with a buffer, or it would go to bus address 0. What makes
/// the device use memory beyond the command's life is not allowed.
pub(crate) fn check_buffer(command: &Command, data: Option<&DmaBuf>) -> Result<(), AdminError> {
    let feature = matches!(
        AdminOpcode(command.opcode),
        AdminOpcode::SET_FEATURES | AdminOpcode::GET_FEATURES
    )
    .then(|| FeatureId(command.cdw10.get() as u8));
    if feature == Some(FeatureId::HOST_MEMORY_BUFFER) || command.uses_sgl() {
        return Err(AdminError::NotAllowed);
    }
    let wanted = match feature {
        Some(feature) if is_dword(feature) => 0,
        _ => data_len(command).ok_or(AdminError::NotAllowed)?,
    };
    match data {
        None if wanted == 0 => Ok(()),
        Some(data) if data.len() as u64 >= wanted && data.len() <= 2 * PAGE_SIZE => Ok(()),
        _ => Err(AdminError::BadBuffer),
    }
}

/// Whether the feature's value is a dword of the command or completion, without data.
const fn is_dword(feature: FeatureId) -> bool {
    matches!(
        feature,
        FeatureId::ARBITRATION
            | FeatureId::POWER_MANAGEMENT
            | FeatureId::TEMPERATURE_THRESHOLD
            | FeatureId::ERROR_RECOVERY
            | FeatureId::VOLATILE_WRITE_CACHE
            | FeatureId::NUMBER_OF_QUEUES
            | FeatureId::INTERRUPT_COALESCING
            | FeatureId::INTERRUPT_VECTOR
            | FeatureId::WRITE_ATOMICITY
            | FeatureId::ASYNC_EVENT_CONFIG
            | FeatureId::KEEP_ALIVE_TIMER
    )
}
