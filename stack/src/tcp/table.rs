//! The connections of a stack: by number for whoever holds one, by flow for what arrives.

use alloc::boxed::Box;
use alloc::vec::Vec;

use core::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::event::ConnectionId;
use super::flow::Flow;
use super::tcb::Tcb;

/// Bytes of an entry in the table of flows.
#[cfg(test)]
pub(super) const FLOW_LEN: usize = size_of::<u32>() + 1;

struct Slot<B> {
    generation: u32,
    tcb: Option<Box<Tcb<B>>>,
}

/// Connections lie on the heap one by one, so that the table can grow without moving them.
pub(super) struct Table<B> {
    slots: Vec<Slot<B>>,
    free: Vec<u32>,
    /// Numbers, found by the flows of their connections.
    by_flow: HashTable<u32>,
    /// Keyed by a seed that nobody outside knows.
    hasher: FixedState,
    connections_max: usize,
}

impl<B> Table<B> {
    pub(super) fn new(connections_max: usize, seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_flow: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            connections_max: connections_max.min(u32::MAX as usize - 1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.connections_max
    }

    /// Reserves a number; [`put`](Self::put) must follow.
    pub(super) fn reserve(&mut self) -> Option<ConnectionId> {
        if self.is_full() {
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, tcb: None });
            // Room to give it back, so that closing a connection allocates nothing.
            self.free.reserve(self.slots.len());
            (self.slots.len() - 1) as u32
        });
        let generation = self.slots.get(index as usize)?.generation;
        Some(ConnectionId { index, generation })
    }

    #[inline]
    pub(super) fn find(&self, flow: &Flow) -> Option<u32> {
        let is_it = |&index: &u32| self.peek(index).is_some_and(|tcb| tcb.flow == *flow);
        self.by_flow.find(self.hasher.hash_one(flow), is_it).copied()
    }

    /// Puts a new connection in, where its flow finds it.
    pub(super) fn bind(&mut self, index: u32, tcb: Box<Tcb<B>>) {
        let hash = self.hasher.hash_one(&tcb.flow);
        self.put(index, tcb);
        let Self { slots, by_flow, hasher, .. } = self;
        let hash_of = |&index: &u32| {
            let tcb = slots.get(index as usize).and_then(|slot| slot.tcb.as_deref());
            tcb.map_or(0, |tcb| hasher.hash_one(tcb.flow))
        };
        by_flow.insert_unique(hash, index, hash_of);
    }

    /// The flow of a connection finds it no more.
    pub(super) fn unbind(&mut self, flow: &Flow, index: u32) {
        let hash = self.hasher.hash_one(flow);
        if let Ok(entry) = self.by_flow.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Tcb<B>> {
        let slot = self.slots.get(id.index as usize)?;
        slot.tcb.as_deref().filter(|_| slot.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Tcb<B>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.tcb.as_deref_mut().filter(|_| slot.generation == id.generation)
    }

    #[inline]
    pub(super) fn peek(&self, index: u32) -> Option<&Tcb<B>> {
        self.slots.get(index as usize)?.tcb.as_deref()
    }

    pub(super) fn peek_mut(&mut self, index: u32) -> Option<&mut Tcb<B>> {
        self.slots.get_mut(index as usize)?.tcb.as_deref_mut()
    }

    /// Takes a connection out to work on it.
    #[inline]
    pub(super) fn take(&mut self, index: u32) -> Option<Box<Tcb<B>>> {
        self.slots.get_mut(index as usize)?.tcb.take()
    }

    /// Its place, to take it out of if it is as wanted.
    #[inline]
    pub(super) fn place_mut(&mut self, index: u32) -> Option<&mut Option<Box<Tcb<B>>>> {
        self.slots.get_mut(index as usize).map(|slot| &mut slot.tcb)
    }

    /// The same of a connection that somebody holds, if it is as `wanted`.
    #[inline]
    pub(super) fn take_if(&mut self, id: ConnectionId, wanted: impl FnOnce(&Tcb<B>) -> bool) -> Option<Box<Tcb<B>>> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        slot.tcb.take_if(|tcb| wanted(tcb))
    }

    #[inline]
    pub(super) fn put(&mut self, index: u32, tcb: Box<Tcb<B>>) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            // Nobody is there whose memory would be given back.
            let taken_out = slot.tcb.replace(tcb);
            debug_assert!(taken_out.is_none());
            core::mem::forget(taken_out);
        }
    }

    /// The number of a connection that was taken out and is gone.
    pub(super) fn vacate(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.tcb = None;
            self.free.push(index);
        }
    }

    pub(super) fn slots_len(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Tcb<B>> {
        self.slots.iter_mut().filter_map(|slot| slot.tcb.as_deref_mut())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tcb<B>> {
        self.slots.iter().filter_map(|slot| slot.tcb.as_deref())
    }
}
