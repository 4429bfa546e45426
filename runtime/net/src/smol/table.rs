use alloc::vec::Vec;

use basalt_env::Instant;
use smoltcp::iface::SocketHandle;

use crate::{ListenerId, SocketId};

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
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Its smoltcp socket.
    pub handle: SocketHandle,
    /// Who listened for it; `None` if we connected.
    pub listener: Option<ListenerId>,
    /// Where it is.
    pub phase: Phase,
    /// When an opening or closing one is cut off.
    pub deadline: Instant,
}

/// All connections of a stack, at most a fixed number.
///
/// A slot's generation goes up whenever it is freed, so that a stale [`SocketId`] finds nothing.
pub struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots of connections that are not open, in no order: what a sweep has to look at.
    transient: Vec<u32>,
    max: usize,
}

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

impl Table {
    /// A table of at most `max` connections.
    pub fn new(max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), transient: Vec::new(), max }
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
    pub fn iter(&self) -> impl Iterator<Item = &Connection> + Clone {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref())
    }

    /// Adds a connection; the caller has checked that it fits.
    pub fn insert(&mut self, connection: Connection) -> SocketId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            (self.slots.len() - 1) as u32
        });
        if connection.phase != Phase::Open {
            self.transient.push(slot);
        }
        let entry = &mut self.slots[slot as usize];
        entry.connection = Some(connection);
        SocketId { slot, generation: entry.generation }
    }

    /// The open connection of this identifier.
    pub fn open(&self, id: SocketId) -> Option<&Connection> {
        let slot = self.slots.get(id.slot as usize)?;
        let connection = slot.connection.as_ref()?;
        let current = slot.generation == id.generation && connection.phase == Phase::Open;
        current.then_some(connection)
    }

    /// Hands a ready connection of `listener` to a user.
    pub fn accept(&mut self, listener: ListenerId) -> Option<SocketId> {
        let position = self.transient.iter().position(|&slot| {
            self.slots[slot as usize]
                .connection
                .is_some_and(|c| c.phase == Phase::Ready && c.listener == Some(listener))
        })?;
        let slot = self.transient.remove(position);
        let entry = &mut self.slots[slot as usize];
        entry.connection.as_mut()?.phase = Phase::Open;
        Some(SocketId { slot, generation: entry.generation })
    }

    /// Takes an open connection from its user; gives its handle.
    pub fn start_closing(&mut self, id: SocketId, deadline: Instant) -> Option<SocketHandle> {
        self.open(id)?;
        let connection = self.slots[id.slot as usize].connection.as_mut()?;
        connection.phase = Phase::Closing;
        connection.deadline = deadline;
        self.transient.push(id.slot);
        Some(connection.handle)
    }

    /// Shows each connection that is not open to `look`; frees those it says are done.
    pub fn sweep(&mut self, mut look: impl FnMut(&mut Connection) -> Fate) {
        let Self { slots, free, transient, .. } = self;
        transient.retain(|&slot| {
            let entry = &mut slots[slot as usize];
            let fate = entry.connection.as_mut().map_or(Fate::Done, &mut look);
            if fate == Fate::Done {
                entry.connection = None;
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
    /// Its socket is gone, and so is it.
    Done,
}
