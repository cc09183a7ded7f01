//! The connections that a worker serves: until their applications have let go of them, found by the stack's number while
//! the stack has them.

use std::sync::Arc;

use tailwater_stack::tcp::ConnectionId;

use super::connection::Connection;

/// No slot.
const NONE: u32 = u32::MAX;

/// One connection.
pub(super) struct Held {
    pub(super) connection: Arc<Connection>,
    /// The application has let go, and what it has written is still to be sent.
    pub(super) closing: bool,
    /// The application writes no more; the stack is told behind the last byte.
    pub(super) shutting: bool,
    /// Text waits in the stack for memory.
    pub(super) waits: bool,
    /// A writer is starved, and is fed when the stack takes what it writes.
    pub(super) held_up: bool,
}

#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Option<Held>>,
    free: Vec<u32>,
    /// Slots by the places that the stack tells, some of connections that are over.
    by_place: Vec<u32>,
}

impl Table {
    /// Takes a connection in, whose number is known.
    pub(super) fn insert(&mut self, id: ConnectionId, connection: Arc<Connection>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        connection.note_slot(slot);
        self.slots[slot as usize] =
            Some(Held { connection, closing: false, shutting: false, waits: false, held_up: false });
        if self.by_place.len() <= id.place() {
            self.by_place.resize(id.place() + 1, NONE);
        }
        self.by_place[id.place()] = slot;
    }

    /// The connection that has this number in the stack.
    #[inline]
    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Held> {
        let slot = *self.by_place.get(id.place())?;
        self.slots.get_mut(slot as usize)?.as_mut().filter(|held| held.connection.id() == Some(id))
    }

    /// Takes it out: its application has let go of it.
    pub(super) fn remove(&mut self, connection: &Connection) -> Option<Arc<Connection>> {
        let slot = connection.slot()?;
        let held = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(held.connection)
    }

    /// Empties it.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Arc<Connection>> + '_ {
        self.slots.drain(..).flatten().map(|held| held.connection)
    }
}
