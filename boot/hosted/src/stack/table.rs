//! The connections of a core by their identifiers.

use basalt_net::SocketId;

use super::connection::Connection;

/// Generations fit the readiness word beside the bit that marks listeners.
const GENERATIONS: u32 = 1 << 30;

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// A slot's generation goes up whenever it is freed, so that a stale [`SocketId`] finds nothing.
pub struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Table {
    /// An empty one that holds `expected` connections without growing.
    pub fn new(expected: usize) -> Self {
        Self { slots: Vec::with_capacity(expected), free: Vec::with_capacity(expected) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds one.
    pub fn insert(&mut self, connection: Connection) -> SocketId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        place.connection = Some(Box::new(connection));
        SocketId { slot, generation: place.generation }
    }

    /// The one called `id`.
    pub fn get(&self, id: SocketId) -> Option<&Connection> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.connection.as_deref().filter(|_| slot.generation == id.generation)
    }

    /// The one called `id`, to change.
    pub fn get_mut(&mut self, id: SocketId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.connection.as_deref_mut().filter(|_| slot.generation == id.generation)
    }

    /// Removes the one called `id`, which closes its socket.
    pub fn remove(&mut self, id: SocketId) {
        if self.get(id).is_none() {
            return;
        }
        let slot = &mut self.slots[id.slot as usize];
        slot.connection = None;
        slot.generation = (slot.generation + 1) % GENERATIONS;
        self.free.push(id.slot);
    }
}
