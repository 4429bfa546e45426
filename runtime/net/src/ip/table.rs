use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use basalt_env::Instant;

use super::path::{FlowKey, Path};
use crate::{ListenerId, SocketId, tcp};

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The peer asked for it; the handshake is under way.
    Opening,
    /// Established, waiting to be accepted.
    Ready,
    /// In the hands of a user, by its [`SocketId`].
    Open,
    /// Given up by its user: sends what is left, then goes.
    Closing,
}

/// A connection of the stack.
pub struct Connection<F> {
    pub tcp: tcp::Connection<F>,
    pub path: Path,
    /// Who listened for it; `None` if we connected.
    pub listener: Option<ListenerId>,
    /// Where it is.
    pub phase: Phase,
    /// When an opening or closing one is cut off.
    pub deadline: Instant,
    /// When it last asked for who takes what it sends, if it waits for that.
    pub asked_at: Option<Instant>,
    /// Whether it is among those that may have something to send.
    pub is_queued: bool,
}

impl<F> Connection<F> {
    /// Puts it, in that slot, in the queue of those that may have something to send.
    pub fn join(&mut self, queue: &mut VecDeque<u32>, slot: u32) {
        if !core::mem::replace(&mut self.is_queued, true) {
            queue.push_back(slot);
        }
    }

    /// When it is cut off, if it is opening or closing.
    pub fn deadline(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Opening | Phase::Closing).then_some(self.deadline)
    }
}

/// All connections of a stack, at most a fixed number.
///
/// A slot's generation goes up whenever it is freed, so that a stale [`SocketId`] finds nothing.
pub struct Table<F> {
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
    /// Slots of connections that are not open, in no order: what a sweep has to look at.
    transient: Vec<u32>,
    flows: BTreeMap<FlowKey, u32>,
    /// The last that was found: segments come in trains.
    last: Option<(FlowKey, u32)>,
    max: usize,
}

struct Slot<F> {
    generation: u32,
    connection: Option<Box<Connection<F>>>,
}

impl<F> Table<F> {
    /// A table of at most `max` connections.
    pub fn new(max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            transient: Vec::new(),
            flows: BTreeMap::new(),
            last: None,
            max,
        }
    }

    /// Connections in it.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no more fit.
    pub fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// All connections.
    pub fn iter(&self) -> impl Iterator<Item = &Connection<F>> {
        self.slots.iter().filter_map(|slot| slot.connection.as_deref())
    }

    /// All connections, to change them, with their slots.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Connection<F>)> {
        let numbered = (0..).zip(&mut self.slots);
        numbered.filter_map(|(slot, entry)| Some((slot, entry.connection.as_deref_mut()?)))
    }

    /// The connection in a slot.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Connection<F>> {
        self.slots.get_mut(slot as usize)?.connection.as_deref_mut()
    }

    /// The slot of a flow's connection.
    #[inline]
    pub fn find(&mut self, flow: &FlowKey) -> Option<u32> {
        if let Some((last, slot)) = &self.last
            && last == flow
        {
            return Some(*slot);
        }
        let slot = *self.flows.get(flow)?;
        self.last = Some((*flow, slot));
        Some(slot)
    }

    /// Adds a connection; the caller has checked that it fits.
    pub fn insert(&mut self, connection: Connection<F>) -> SocketId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            (self.slots.len() - 1) as u32
        });
        if connection.phase != Phase::Open {
            self.transient.push(slot);
        }
        self.flows.insert(connection.path.flow().key(), slot);
        let entry = &mut self.slots[slot as usize];
        entry.connection = Some(Box::new(connection));
        SocketId { slot, generation: entry.generation }
    }

    /// The open connection of this identifier.
    pub fn open(&self, id: SocketId) -> Option<&Connection<F>> {
        let slot = self.slots.get(id.slot as usize)?;
        let connection = slot.connection.as_deref()?;
        let current = slot.generation == id.generation && connection.phase == Phase::Open;
        current.then_some(connection)
    }

    /// The same, to change it.
    pub fn open_mut(&mut self, id: SocketId) -> Option<&mut Connection<F>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let connection = slot.connection.as_deref_mut()?;
        let current = slot.generation == id.generation && connection.phase == Phase::Open;
        current.then_some(connection)
    }

    /// Hands a ready connection of `listener` to a user.
    pub fn accept(&mut self, listener: ListenerId) -> Option<SocketId> {
        let position = self.transient.iter().position(|&slot| {
            self.slots[slot as usize]
                .connection
                .as_ref()
                .is_some_and(|c| c.phase == Phase::Ready && c.listener == Some(listener))
        })?;
        let slot = self.transient.remove(position);
        let entry = &mut self.slots[slot as usize];
        entry.connection.as_mut()?.phase = Phase::Open;
        Some(SocketId { slot, generation: entry.generation })
    }

    /// Takes an open connection from its user; gives it.
    pub fn start_closing(&mut self, id: SocketId, deadline: Instant) -> Option<&mut Connection<F>> {
        self.open(id)?;
        self.transient.push(id.slot);
        let connection = self.get_mut(id.slot)?;
        connection.phase = Phase::Closing;
        connection.deadline = deadline;
        Some(connection)
    }

    /// Shows each connection that is not open, and its slot, to `look`; frees those that are done.
    pub fn sweep(&mut self, mut look: impl FnMut(u32, &mut Connection<F>) -> Fate) {
        let Self { slots, free, transient, flows, last, .. } = self;
        transient.retain(|&slot| {
            let entry = &mut slots[slot as usize];
            let fate = entry.connection.as_mut().map_or(Fate::Done, |c| look(slot, c));
            if fate == Fate::Done {
                if let Some(connection) = entry.connection.take() {
                    flows.remove(&connection.path.flow().key());
                }
                *last = None;
                entry.generation = entry.generation.wrapping_add(1);
                free.push(slot);
            }
            fate == Fate::Kept
        });
    }
}

/// What a sweep finds of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It stays.
    Kept,
    /// It is over.
    Done,
}
