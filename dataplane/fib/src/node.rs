//! One node: 256 slots as runs of equal ones.
//!
//! ```text
//!   word 0     runs before each quarter: 4 x 16 bits
//!   word 1-4   bit per slot: set where a run starts (slot 0 always)
//!   word 5-    the runs' entries, two a word, the lower half first
//! ```
//! The slot's run is the number of starts up to it, less one: one word of word 0, one popcount. Up to six runs fit in
//! one cache line, 256 in 17.

use crate::arena::UNIT_WORDS;
use crate::entry::Entry;
use crate::sync::{AtomicU64, Ordering};

/// A node spread out.
pub(crate) type Slots = [Entry; 256];

const HEADER_WORDS: usize = 5;

/// Words that a node with these slots takes.
pub(crate) fn words_for(slots: &Slots) -> usize {
    let runs = 1 + slots.windows(2).filter(|pair| pair[0] != pair[1]).count();
    HEADER_WORDS + runs.div_ceil(2)
}

/// The entry for slot `octet` of the node at `unit`.
#[inline]
pub(crate) fn slot(nodes: &[AtomicU64], unit: u32, octet: usize) -> Entry {
    let first = unit as usize * UNIT_WORDS;
    let load = |word: usize| nodes.get(first + word).map_or(0, |word| word.load(Ordering::Relaxed));
    let quarter = octet >> 6;
    let before = (load(0) >> (quarter * 16)) as u16;
    let starts = load(1 + quarter) & (u64::MAX >> (63 - (octet & 63)));
    let run = (usize::from(before) + starts.count_ones() as usize).wrapping_sub(1);
    let pair = load(HEADER_WORDS + (run >> 1));
    Entry((pair >> ((run & 1) * 32)) as u32)
}

/// All slots of the node at `unit`.
pub(crate) fn read(nodes: &[AtomicU64], unit: u32) -> Slots {
    let first = unit as usize * UNIT_WORDS;
    let load = |word: usize| nodes.get(first + word).map_or(0, |word| word.load(Ordering::Relaxed));
    let mut slots = [Entry::EMPTY; 256];
    let mut run = 0;
    let mut entry = Entry::EMPTY;
    for (quarter, slots) in slots.chunks_mut(64).enumerate() {
        let starts = load(1 + quarter);
        for (bit, slot) in slots.iter_mut().enumerate() {
            if starts >> bit & 1 != 0 {
                entry = Entry((load(HEADER_WORDS + (run >> 1)) >> ((run & 1) * 32)) as u32);
                run += 1;
            }
            *slot = entry;
        }
    }
    slots
}

/// Writes a node into a room that no reader can find.
pub(crate) fn write(nodes: &[AtomicU64], unit: u32, slots: &Slots) {
    let first = unit as usize * UNIT_WORDS;
    let store = |word: usize, value: u64| {
        if let Some(word) = nodes.get(first + word) {
            word.store(value, Ordering::Relaxed);
        }
    };
    let mut before = 0u64;
    let mut starts = [0u64; 4];
    let mut runs = 0usize;
    let mut pair = 0u64;
    let mut last = None;
    for (octet, slot) in slots.iter().enumerate() {
        if octet & 63 == 0 {
            before |= (runs as u64) << (octet >> 6 << 4);
        }
        if last != Some(*slot) {
            last = Some(*slot);
            starts[octet >> 6] |= 1 << (octet & 63);
            pair |= u64::from(slot.0) << ((runs & 1) * 32);
            if runs & 1 == 1 {
                store(HEADER_WORDS + (runs >> 1), pair);
                pair = 0;
            }
            runs += 1;
        }
    }
    if runs & 1 == 1 {
        store(HEADER_WORDS + (runs >> 1), pair);
    }
    store(0, before);
    for (quarter, starts) in starts.into_iter().enumerate() {
        store(1 + quarter, starts);
    }
}
