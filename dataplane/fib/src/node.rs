//! One node: 64 slots as runs of equal ones.
//!
//! ```text
//!   word 0     bit per slot: set where a run starts (slot 0 always)
//!   word 1-    the runs' entries, two a word, the lower half first
//! ```
//! A slot's run is the number of starts up to it, less one: a popcount. A room is aligned to its size, so a node of up to
//! 14 runs lies in one cache line: one miss.

use crate::arena::UNIT_WORDS;
use crate::entry::Entry;
use crate::sync::{AtomicU64, Ordering};

/// Address bits that a node decides.
pub(crate) const STRIDE: u8 = 6;
pub(crate) const SLOTS: usize = 1 << STRIDE;

/// A node spread out.
pub(crate) type Slots = [Entry; SLOTS];

/// First word of the node at `unit`.
#[inline(always)]
pub(crate) fn first_word(unit: u32) -> usize {
    unit as usize * UNIT_WORDS
}

/// Words that a node with these slots takes.
pub(crate) fn words_for(slots: &Slots) -> usize {
    let runs = 1 + slots.windows(2).filter(|pair| pair[0] != pair[1]).count();
    1 + runs.div_ceil(2)
}

/// The entry for `slot`, below 64, of the node at `unit`.
#[inline(always)]
pub(crate) fn slot(nodes: &[AtomicU64], unit: u32, slot: u8) -> Entry {
    let load = |word: usize| nodes.get(word).map_or(0, |word| word.load(Ordering::Relaxed));
    let first = first_word(unit);
    // From 1: the run's number and one more, which makes room for word 0 below.
    let run = (load(first) << (63 - (slot & 63))).count_ones() + 1;
    let pair = load(first + (run >> 1) as usize);
    Entry((pair >> ((run & 1) * 32)) as u32)
}

/// All slots of the node at `unit`.
pub(crate) fn read(nodes: &[AtomicU64], unit: u32) -> Slots {
    std::array::from_fn(|at| slot(nodes, unit, at as u8))
}

/// Writes a node into a room that no reader can find.
pub(crate) fn write(nodes: &[AtomicU64], unit: u32, slots: &Slots) {
    let first = first_word(unit);
    let store = |word: usize, value: u64| {
        if let Some(word) = nodes.get(first + word) {
            word.store(value, Ordering::Relaxed);
        }
    };
    let mut starts = 0;
    let mut run = 1;
    let mut pair = 0;
    let mut last = None;
    for (bit, &slot) in slots.iter().enumerate() {
        if last != Some(slot) {
            last = Some(slot);
            starts |= 1 << bit;
            run += 1;
            pair = if run & 1 == 0 { u64::from(slot.0) } else { pair | u64::from(slot.0) << 32 };
            store(run >> 1, pair);
        }
    }
    store(0, starts);
}
