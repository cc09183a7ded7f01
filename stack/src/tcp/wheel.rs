//! A hierarchical timing wheel (Varghese and Lauck, SOSP 1987): one deadline per connection, at the
//! same cost for ten connections as for a million.
//!
//! ```text
//!   level 0   64 slots of 65.5 µs       a deadline lies in the lowest level whose slots reach it;
//!   level 1   64 slots of 4.2 ms        when a higher slot's time comes, its entries move down
//!   ...       each 64 times as long     level 5 reaches 52 days; what is later waits there again
//! ```
//! Deadlines are rounded up to the next tick: nothing fires early, and at most one tick late. Slots
//! are doubly linked lists through one array, so arming and disarming are a few stores.

use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::time::Instant;

/// A tick is 2^16 ns, short enough to pace by and long enough to catch many at once.
const TICK_SHIFT: u32 = 16;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;

/// A place in the array; `None` ends a list.
type Link = Option<NonZeroU32>;

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Tick of the deadline.
    due: u64,
    next: Link,
    previous: Link,
    /// Slot it hangs in, counted over all levels; `NOWHERE` if in none.
    slot: u16,
}

/// Bytes of a connection's entry.
#[cfg(test)]
pub(super) const NODE_LEN: usize = size_of::<Node>();

const NOWHERE: u16 = u16::MAX;
/// Its deadline never comes.
const UNARMED: Node = Node { due: u64::MAX, next: None, previous: None, slot: NOWHERE };

#[derive(Debug)]
pub(super) struct Wheel {
    /// The tick up to which everything has fired.
    tick: u64,
    heads: [Link; SLOTS * LEVELS],
    /// By level, which slots have entries.
    occupied: [u64; LEVELS],
    nodes: Vec<Node>,
    /// No entry fires before; entries that are gone may have.
    first: u64,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { tick: 0, heads: [None; SLOTS * LEVELS], occupied: [0; LEVELS], nodes: Vec::new(), first: u64::MAX }
    }

    /// Whether the deadline of `key` is armed, and comes no later than `at`: then it may stay as it is.
    #[inline]
    pub(super) fn fires_by(&self, key: u32, at: Instant) -> bool {
        self.nodes.get(key as usize).is_some_and(|node| node.due <= at.as_nanos() >> TICK_SHIFT)
    }

    /// Arms, moves or (with `None`) disarms the deadline of `key`. One that is later than the armed
    /// one is left to be found out when that fires: most deadlines move on with every segment.
    #[inline(never)]
    pub(super) fn schedule(&mut self, key: u32, at: Option<Instant>) {
        let armed = self.nodes.get(key as usize).filter(|node| node.slot != NOWHERE).map(|node| node.due);
        match (at, armed) {
            (None, None) => {}
            (Some(at), Some(armed)) if armed <= tick_after(at).max(self.tick + 1) => {}
            (at, _) => self.reschedule(key, at),
        }
    }

    fn reschedule(&mut self, key: u32, at: Option<Instant>) {
        self.unlink(key);
        if let Some(at) = at {
            self.link(key, tick_after(at).max(self.tick + 1));
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next_tick().map(|tick| Instant::from_nanos(tick << TICK_SHIFT))
    }

    /// Whether [`expire`](Self::expire) may have something to do.
    #[inline]
    pub(super) fn may_be_due(&self, now: Instant) -> bool {
        self.first <= now.as_nanos() >> TICK_SHIFT
    }

    /// Takes out one entry that is due; call until there is none.
    pub(super) fn expire(&mut self, now: Instant) -> Option<u32> {
        let now = now.as_nanos() >> TICK_SHIFT;
        // Each pass fires, moves entries down a level, or ends.
        loop {
            let tick = self.next_tick().filter(|&tick| tick <= now);
            let Some(tick) = tick else {
                self.tick = self.tick.max(now);
                self.first = self.next_tick().unwrap_or(u64::MAX);
                return None;
            };
            // Entries of this tick are still to be found at it.
            self.tick = tick - 1;
            let slot = slot_at(0, tick);
            if let Some(key) = self.head(slot)
                && self.node(key).is_some_and(|node| node.due <= tick)
            {
                self.unlink(key);
                return Some(key);
            }
            self.cascade(tick);
        }
    }

    /// Moves down what hangs in the higher slots that begin at `tick`.
    fn cascade(&mut self, tick: u64) {
        self.tick = tick;
        for level in (1..LEVELS).rev() {
            let shift = SLOT_BITS * level as u32;
            if !tick.is_multiple_of(1 << shift) {
                continue;
            }
            let slot = slot_at(level, tick);
            while let Some(key) = self.head(slot) {
                let due = self.node(key).map_or(tick, |node| node.due);
                self.unlink(key);
                self.link_from(key, due.max(tick), tick);
            }
        }
        self.tick = tick - 1;
    }

    /// The first tick after the present one at which a slot begins that has entries.
    fn next_tick(&self) -> Option<u64> {
        let mut first: Option<u64> = None;
        for level in 0..LEVELS {
            let shift = SLOT_BITS * level as u32;
            let occupied = self.occupied.get(level).copied().unwrap_or(0);
            if occupied == 0 {
                continue;
            }
            // Slots of this level, from the one behind the present on.
            let from = (self.tick >> shift) + 1;
            let ahead = occupied.rotate_right((from % SLOTS as u64) as u32).trailing_zeros();
            let tick = (from + u64::from(ahead)) << shift;
            first = Some(first.map_or(tick, |other| other.min(tick)));
        }
        first
    }

    fn link(&mut self, key: u32, due: u64) {
        self.link_from(key, due, self.tick + 1);
    }

    /// Hangs the entry into the lowest level that reaches from the tick `from` to `due`.
    fn link_from(&mut self, key: u32, due: u64, from: u64) {
        let at = key as usize;
        if at >= self.nodes.len() {
            self.nodes.resize(at + 1, UNARMED);
        }
        let distance = |level: u32| (due >> (SLOT_BITS * level)) - (from >> (SLOT_BITS * level));
        let level = (0..LEVELS as u32).find(|&level| distance(level) < SLOTS as u64);
        let (level, place) = match level {
            Some(level) => (level as usize, due),
            // Farther than the wheel goes round: as far as possible, and again from there.
            None => {
                let shift = SLOT_BITS * (LEVELS as u32 - 1);
                (LEVELS - 1, ((from >> shift) + SLOTS as u64 - 1) << shift)
            }
        };
        // Its slot's beginning, if it lies in a higher level.
        self.first = self.first.min(place >> (SLOT_BITS * level as u32) << (SLOT_BITS * level as u32));
        // A higher slot that has begun would only be seen a turn later.
        let slot = slot_at(level, place);
        let head = self.heads.get(slot).copied().flatten();
        if let Some(node) = self.nodes.get_mut(at) {
            *node = Node { due, next: head, previous: None, slot: slot as u16 };
        }
        let link = NonZeroU32::new(key + 1);
        if let Some(node) = head.and_then(|head| self.nodes.get_mut(head.get() as usize - 1)) {
            node.previous = link;
        }
        if let Some(first) = self.heads.get_mut(slot) {
            *first = link;
        }
        if let Some(bits) = self.occupied.get_mut(level) {
            *bits |= 1 << (slot % SLOTS);
        }
    }

    fn unlink(&mut self, key: u32) {
        let Some(node) = self.nodes.get_mut(key as usize) else { return };
        let Node { next, previous, slot, .. } = core::mem::replace(node, UNARMED);
        if slot == NOWHERE {
            return;
        }
        if let Some(node) = next.and_then(|next| self.nodes.get_mut(next.get() as usize - 1)) {
            node.previous = previous;
        }
        match previous.and_then(|previous| self.nodes.get_mut(previous.get() as usize - 1)) {
            Some(node) => node.next = next,
            None => {
                let slot = usize::from(slot);
                if let Some(head) = self.heads.get_mut(slot) {
                    *head = next;
                }
                if next.is_none()
                    && let Some(bits) = self.occupied.get_mut(slot / SLOTS)
                {
                    *bits &= !(1 << (slot % SLOTS));
                }
            }
        }
    }

    fn head(&self, slot: usize) -> Option<u32> {
        self.heads.get(slot).copied().flatten().map(|link| link.get() - 1)
    }

    fn node(&self, key: u32) -> Option<&Node> {
        self.nodes.get(key as usize)
    }
}

/// The slot of a level in which `tick` lies, counted over all levels.
fn slot_at(level: usize, tick: u64) -> usize {
    let shift = SLOT_BITS * level as u32;
    level * SLOTS + ((tick >> shift) % SLOTS as u64) as usize
}

/// The first tick not before `at`.
fn tick_after(at: Instant) -> u64 {
    at.as_nanos().div_ceil(1 << TICK_SHIFT)
}
