//! The longest-prefix-match structure, for IPv4 and IPv6 alike.
//!
//! ```text
//!   address  | ROOT_BITS        | 8 bits | 8 bits | ...
//!                   |                |        |
//!              root[2^ROOT_BITS]     |        |
//!              +---------------+     |        |
//!              | leaf          |     |        |
//!              | child --------|--> node      |
//!              | leaf          |    run, run, child --> node ...
//!              +---------------+
//! ```
//! Leaves are pushed down: the slot an address leads to holds its longest match, so a lookup never looks back. A node
//! covers 256 slots, stored as runs of equal ones, see [`crate::node`].
//!
//! **Changes.** A node is written before any reader can find it and never after. A change builds new nodes from the
//! bottom up, then stores the root slots: one atomic store moves all addresses below a slot from old to new. Replaced
//! nodes are reused only once no reader can be inside them ([`crate::quiescence`]). So a lookup during a change
//! gives the old next hop or the new one; a change that runs out of room has published nothing.
//!
//! **Default route.** Painting 2^ROOT_BITS slots for 0/0 would touch all the memory; it has a word of its own, with a
//! version, which an address without any other match reads before and after its slot.

use std::ops::Range;

use crate::arena::{Arena, Room};
use crate::entry::Entry;
use crate::error::FibError;
use crate::memory::Words;
use crate::next_hop::NextHop;
use crate::node::{self, GROUP, Runs, SLOTS, STRIDE, Slots};
use crate::prefix::{Address, Prefix};
use crate::short::Short;
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// What readers see.
pub(crate) struct Trie<A> {
    pub(crate) root: Words<AtomicU32>,
    /// What [`Short`] can tell of each root slot, where [`Address::ROOT_DECIDES_MOST`]; otherwise nothing.
    pub(crate) short: Words<AtomicU16>,
    pub(crate) nodes: Words<AtomicU64>,
    /// Version in the high half, next hop of the default route in the low one.
    pub(crate) default: AtomicU64,
    address: std::marker::PhantomData<fn(A)>,
}

impl<A: Address> Trie<A> {
    pub(crate) fn new(units_max: u32) -> Result<Self, FibError> {
        Ok(Self {
            root: Words::zeroed(1 << A::ROOT_BITS)?,
            short: Words::zeroed(if A::ROOT_DECIDES_MOST { 1 << A::ROOT_BITS } else { 0 })?,
            // Behind the last room, too, a storey's words can be read.
            nodes: Words::zeroed(units_max as usize * crate::arena::UNIT_WORDS + node::WORDS_MAX)?,
            default: AtomicU64::new(0),
            address: std::marker::PhantomData,
        })
    }

    /// Stores a root slot, then its short form: whom that sends on to the slot finds there at least this.
    fn store(&self, index: usize, entry: Entry) {
        if let Some(word) = self.root.words().get(index) {
            word.store(entry.0, Ordering::Release);
        }
        if let Some(short) = self.short.words().get(index) {
            short.store(Short::of(entry).0, Ordering::Release);
        }
    }
}

/// A change to all slots below a prefix. Where it reaches part of a slot, the slot becomes a node.
#[derive(Clone, Copy)]
struct Paint<A> {
    prefix: Prefix<A>,
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
    /// The prefix has this next hop: longer prefixes keep their slots.
    Cover(Entry),
    /// The prefix is gone: slots it left show what covers it.
    Uncover(Entry),
}

impl<A: Address> Paint<A> {
    fn leaf(&self, old: Entry) -> Entry {
        match self.action {
            Action::Cover(new) if old.prefix_len() <= self.prefix.len() => new,
            Action::Uncover(new) if old.prefix_len() == self.prefix.len() => new,
            _ => old,
        }
    }
}

/// The one who changes a [`Trie`], and its memory.
pub(crate) struct Painter {
    arena: Arena,
    /// Rooms written by the change under way, not yet published.
    written: Vec<Room>,
    /// Rooms the change under way replaces.
    replaced: Vec<Room>,
    /// Root slots the change under way will store.
    staged: Vec<(usize, Entry)>,
}

impl Painter {
    pub(crate) fn new(arena: Arena) -> Self {
        Self { arena, written: Vec::new(), replaced: Vec::new(), staged: Vec::new() }
    }

    pub(crate) fn arena(&mut self) -> &mut Arena {
        &mut self.arena
    }

    pub(crate) fn arena_ref(&self) -> &Arena {
        &self.arena
    }

    /// Makes `prefix` lead to `next_hop`.
    pub(crate) fn cover<A: Address>(
        &mut self,
        trie: &Trie<A>,
        prefix: Prefix<A>,
        next_hop: NextHop,
    ) -> Result<(), FibError> {
        if prefix.len() == 0 {
            set_default(trie, next_hop);
            return Ok(());
        }
        self.paint(trie, Paint { prefix, action: Action::Cover(Entry::leaf(next_hop, prefix.len())) })
    }

    /// Makes `prefix` lead where `covering`, the next shorter one, does.
    pub(crate) fn uncover<A: Address>(
        &mut self,
        trie: &Trie<A>,
        prefix: Prefix<A>,
        covering: Option<(Prefix<A>, NextHop)>,
    ) -> Result<(), FibError> {
        if prefix.len() == 0 {
            set_default(trie, NextHop::NONE);
            return Ok(());
        }
        let below = covering.map_or(Entry::EMPTY, |(prefix, next_hop)| Entry::leaf(next_hop, prefix.len()));
        self.paint(trie, Paint { prefix, action: Action::Uncover(below) })
    }

    fn paint<A: Address>(&mut self, trie: &Trie<A>, paint: Paint<A>) -> Result<(), FibError> {
        let first = paint.prefix.addr().root_index();
        let count = 1usize << A::ROOT_BITS.saturating_sub(paint.prefix.len());
        let root = trie.root.words().get(first..first + count).unwrap_or_default();
        for (index, word) in root.iter().enumerate() {
            let old = Entry(word.load(Ordering::Relaxed));
            // Slots that change from leaf to leaf need no room: they are painted below, when nothing can fail.
            if old.is_child() || paint.prefix.len() > A::ROOT_BITS {
                match self.rewrite(trie, old, A::ROOT_BITS, &paint) {
                    Ok(new) if new != old => self.staged.push((first + index, new)),
                    Ok(_) => {}
                    Err(error) => {
                        self.abandon();
                        return Err(error);
                    }
                }
            }
        }
        self.publish(trie, first..first + count, &paint);
        Ok(())
    }

    fn publish<A: Address>(&mut self, trie: &Trie<A>, slots: Range<usize>, paint: &Paint<A>) {
        if paint.prefix.len() <= A::ROOT_BITS {
            let root = trie.root.words().get(slots.clone()).unwrap_or_default();
            for (index, word) in slots.zip(root) {
                let old = Entry(word.load(Ordering::Relaxed));
                if !old.is_child() && paint.leaf(old) != old {
                    trie.store(index, paint.leaf(old));
                }
            }
        }
        for (index, new) in self.staged.drain(..) {
            trie.store(index, new);
        }
        self.written.clear();
        self.arena.retire(self.replaced.drain(..));
    }

    fn abandon(&mut self) {
        self.staged.clear();
        self.replaced.clear();
        for room in self.written.drain(..) {
            self.arena.release(room);
        }
    }

    /// What a slot at `depth` bits, now `old`, becomes. Recursion is bounded by the levels, at most (128 - ROOT_BITS) / 8.
    fn rewrite<A: Address>(
        &mut self,
        trie: &Trie<A>,
        old: Entry,
        depth: u8,
        paint: &Paint<A>,
    ) -> Result<Entry, FibError> {
        let len = paint.prefix.len();
        if !old.is_child() && len <= depth {
            return Ok(paint.leaf(old));
        }
        let nodes = trie.nodes.words();
        let before: Slots = if old.is_child() { node::read(nodes, old.unit()) } else { [old; SLOTS] };
        let mut after = before;
        let (first, count) = if len <= depth {
            (0, SLOTS)
        } else {
            (usize::from(paint.prefix.addr().octet(depth)), 1usize << (depth + STRIDE).saturating_sub(len))
        };
        // Equal neighbours are one run and become equal again.
        let mut last: Option<(Entry, Entry)> = None;
        for slot in after.iter_mut().skip(first).take(count) {
            *slot = match last {
                Some((seen, new)) if seen == *slot && len <= depth + STRIDE => new,
                _ => {
                    let new = self.rewrite(trie, *slot, depth + STRIDE, paint)?;
                    last = Some((*slot, new));
                    new
                }
            };
        }
        self.rebuild(nodes, old, &before, &after)
    }

    /// A node for `after`, in place of `old` which held `before`; `old` itself if nothing changed.
    fn rebuild(&mut self, nodes: &[AtomicU64], old: Entry, before: &Slots, after: &Slots) -> Result<Entry, FibError> {
        if after == before {
            return Ok(old);
        }
        let one = after[0];
        let new = if !one.is_child() && is_uniform(after) { one } else { self.build(nodes, after)? };
        if old.is_child() {
            node::rooms(nodes, old.unit(), &mut |room| self.replaced.push(room));
        }
        Ok(new)
    }

    /// Writes a node of one storey or, for many runs, two.
    fn build(&mut self, nodes: &[AtomicU64], slots: &Slots) -> Result<Entry, FibError> {
        if let Some(runs) = Runs::of(slots, 0) {
            return Ok(Entry::child(self.place(nodes, &runs)?));
        }
        let mut upper = Runs::NONE;
        for (at, group) in slots.chunks(GROUP).enumerate() {
            let entry = match Runs::of(group, at * GROUP) {
                Some(runs) if !is_uniform(group) => Entry::lower_storey(self.place(nodes, &runs)?),
                _ => group[0],
            };
            upper.push(at * GROUP + GROUP - 1, entry);
        }
        Ok(Entry::child(self.place(nodes, &upper)?))
    }

    /// Writes a storey; returns its first unit.
    fn place(&mut self, nodes: &[AtomicU64], runs: &Runs) -> Result<u32, FibError> {
        let room = self.arena.alloc(runs.order())?;
        self.written.push(room);
        node::write(nodes, room.unit, runs);
        Ok(room.unit)
    }
}

fn is_uniform(slots: &[Entry]) -> bool {
    slots.iter().all(|&slot| slot == slots[0])
}

fn set_default<A>(trie: &Trie<A>, next_hop: NextHop) {
    let version = (trie.default.load(Ordering::Relaxed) >> 32).wrapping_add(1);
    trie.default.store(version << 32 | u64::from(next_hop.value()), Ordering::Release);
}
