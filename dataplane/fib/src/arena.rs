//! Room for trie nodes: a buddy allocator over one bounded, lazily touched mapping, with reuse put off until no reader
//! can hold what was there before.

use std::collections::{BTreeSet, VecDeque};

use crate::error::FibError;
use crate::quiescence::Quiescence;
use crate::sync::Arc;

/// The smallest room: a node of up to four runs.
pub(crate) const UNIT_BYTES: usize = 32;
pub(crate) const UNIT_WORDS: usize = UNIT_BYTES / 8;
/// Largest room: 4 units, 128 bytes.
pub(crate) const ORDER_MAX: u8 = 2;

/// Room for a node: 2^order units from `unit` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    pub(crate) unit: u32,
    pub(crate) order: u8,
}

/// The writer's book of which units are free, used, or waiting for readers.
pub(crate) struct Arena {
    quiescence: Arc<Quiescence>,
    /// First unit never handed out so far; those before the first room are never used, see [`crate::entry`].
    fresh: u32,
    units_max: u32,
    units_used: u32,
    free: [BTreeSet<u32>; ORDER_MAX as usize + 1],
    /// Unlinked rooms and the epoch each waits for, oldest first.
    waiting: VecDeque<(u64, Room)>,
}

impl Arena {
    pub(crate) fn new(quiescence: Arc<Quiescence>, units_max: u32) -> Self {
        let units_max = units_max & !((1 << ORDER_MAX) - 1);
        Self {
            quiescence,
            fresh: 1 << ORDER_MAX,
            units_max,
            units_used: 0,
            free: Default::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Smallest order whose room holds `words` 64-bit words.
    pub(crate) fn order_for(words: usize) -> u8 {
        let units = words.div_ceil(UNIT_WORDS).next_power_of_two();
        units.trailing_zeros() as u8
    }

    pub(crate) fn alloc(&mut self, order: u8) -> Result<Room, FibError> {
        if !self.waiting.is_empty() {
            self.reclaim();
        }
        let from = (order..=ORDER_MAX).find(|&order| !self.free[usize::from(order)].is_empty());
        let (unit, mut split) = match from {
            Some(order) => (self.free[usize::from(order)].pop_first().unwrap_or(0), order),
            None if self.fresh < self.units_max => {
                self.fresh += 1 << ORDER_MAX;
                (self.fresh - (1 << ORDER_MAX), ORDER_MAX)
            }
            None => return Err(self.exhausted()),
        };
        while split > order {
            split -= 1;
            self.free[usize::from(split)].insert(unit + (1 << split));
        }
        self.units_used += 1 << order;
        Ok(Room { unit, order })
    }

    fn exhausted(&self) -> FibError {
        match self.waiting.len() {
            0 => FibError::Full { what: "table memory units", limit: self.units_max as usize },
            waiting => FibError::Busy { what: "table nodes", waiting },
        }
    }

    /// Gives back a room that no reader has ever been able to find.
    pub(crate) fn release(&mut self, room: Room) {
        let Room { mut unit, mut order } = room;
        self.units_used -= 1 << order;
        while order < ORDER_MAX && self.free[usize::from(order)].remove(&(unit ^ (1 << order))) {
            unit &= !(1 << order);
            order += 1;
        }
        self.free[usize::from(order)].insert(unit);
    }

    /// Takes rooms that have just been unlinked; they are free once every reader has passed a quiescent point.
    pub(crate) fn retire(&mut self, rooms: impl IntoIterator<Item = Room>) {
        let mut rooms = rooms.into_iter().peekable();
        if rooms.peek().is_some() {
            let epoch = self.quiescence.retire();
            self.waiting.extend(rooms.map(|room| (epoch, room)));
        }
    }

    /// Frees what no reader can hold any more.
    pub(crate) fn reclaim(&mut self) {
        let passed = self.quiescence.passed();
        while let Some(&(epoch, room)) = self.waiting.front()
            && epoch <= passed
        {
            self.waiting.pop_front();
            self.release(room);
        }
    }

    /// Units in use or waiting.
    pub(crate) fn units_used(&self) -> usize {
        self.units_used as usize
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
