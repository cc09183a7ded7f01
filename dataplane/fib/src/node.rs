//! One node: 256 slots as runs of equal ones.
//!
//! ```text
//!   byte 0-15    last slot of each run, ascending; 255 from the last run on
//!   byte 16-     the runs' entries, 32 bits each
//! ```
//! A slot's run is the number of ends below it. A node of up to 12 runs lies in one cache line, one of up to 4 in half of
//! it. Where there are more than 16 runs, the node has two storeys: the upper one decides the high half of the byte, and
//! has a child for each group of 16 slots that differ, which decides the same byte again.
//!
//! The `unsafe` here compares a byte with the sixteen ends at once; written as a loop, an IPv6 lookup took half as long again.
#![allow(unsafe_code)]

use crate::arena::{Arena, Room, UNIT_WORDS};
use crate::entry::Entry;
use crate::sync::{AtomicU64, Ordering};

/// Address bits that a node decides.
pub(crate) const STRIDE: u8 = 8;
pub(crate) const SLOTS: usize = 1 << STRIDE;
/// Runs that fit one storey.
const RUNS_MAX: usize = 16;
/// Slots below one entry of an upper storey.
pub(crate) const GROUP: usize = SLOTS / RUNS_MAX;
/// Words in front of the entries.
const ENDS_WORDS: usize = RUNS_MAX / 8;
/// Words of a storey of as many runs as fit.
pub(crate) const WORDS_MAX: usize = ENDS_WORDS + RUNS_MAX / 2;
const LAST: u8 = (SLOTS - 1) as u8;

/// A node spread out.
pub(crate) type Slots = [Entry; SLOTS];

/// The runs of one storey.
pub(crate) struct Runs {
    ends: [u8; RUNS_MAX],
    entries: [Entry; RUNS_MAX],
    len: usize,
}

impl Runs {
    pub(crate) const NONE: Self = Self { ends: [LAST; RUNS_MAX], entries: [Entry::EMPTY; RUNS_MAX], len: 0 };

    /// The runs of neighbouring slots from `first` on; `None` if there are too many for one storey.
    pub(crate) fn of(slots: &[Entry], first: usize) -> Option<Self> {
        let mut runs = Self::NONE;
        slots.iter().enumerate().all(|(at, &slot)| runs.push(first + at, slot)).then_some(runs)
    }

    /// Adds slots up to and with `last`, all equal; false if they find no room.
    pub(crate) fn push(&mut self, last: usize, entry: Entry) -> bool {
        let same = self.len > 0 && self.entries[self.len - 1] == entry;
        if !same && self.len == RUNS_MAX {
            return false;
        }
        self.len += usize::from(!same);
        (self.ends[self.len - 1], self.entries[self.len - 1]) = (last as u8, entry);
        true
    }

    /// Smallest order of a room for them.
    pub(crate) fn order(&self) -> u8 {
        order_for(self.len)
    }
}

fn order_for(runs: usize) -> u8 {
    Arena::order_for(ENDS_WORDS + runs.div_ceil(2))
}

/// First word of the node at `unit`.
#[inline(always)]
pub(crate) fn first_word(unit: u32) -> usize {
    unit as usize * UNIT_WORDS
}

/// The words of the largest storey that can lie at `unit`, whatever does.
#[inline(always)]
fn storey(nodes: &[AtomicU64], unit: u32) -> Option<&[AtomicU64; WORDS_MAX]> {
    let first = first_word(unit);
    nodes.get(first..first + WORDS_MAX)?.first_chunk()
}

/// The run that `slot` lies in: as many ends are below it.
#[inline(always)]
fn run_of(storey: &[AtomicU64; WORDS_MAX], slot: u8) -> usize {
    first_not_below([storey[0].load(Ordering::Relaxed), storey[1].load(Ordering::Relaxed)], slot)
}

/// Place of the first of sixteen ascending bytes that is not below `slot`.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
fn first_not_below([low, high]: [u64; 2], slot: u8) -> usize {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_max_epu8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    // SAFETY: these need SSE2, which every x86-64 processor has, and touch no memory.
    let not_below = unsafe {
        let ends = _mm_set_epi64x(high as i64, low as i64);
        _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(ends, _mm_set1_epi8(slot as i8)), ends))
    };
    (not_below | 1 << (RUNS_MAX - 1)).trailing_zeros() as usize
}

#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
fn first_not_below([low, high]: [u64; 2], slot: u8) -> usize {
    let ends = (u128::from(high) << 64 | u128::from(low)).to_le_bytes();
    ends.iter().filter(|&&end| end < slot).count().min(RUNS_MAX - 1)
}

#[inline(always)]
fn entry(storey: &[AtomicU64; WORDS_MAX], run: usize) -> Entry {
    let pair = storey[ENDS_WORDS + (run >> 1) % (RUNS_MAX / 2)].load(Ordering::Relaxed);
    Entry((pair >> ((run & 1) * 32)) as u32)
}

/// What the storey at `unit` has for `slot`.
#[inline(always)]
pub(crate) fn slot(nodes: &[AtomicU64], unit: u32, slot: u8) -> Entry {
    storey(nodes, unit).map_or(Entry::EMPTY, |storey| entry(storey, run_of(storey, slot)))
}

/// All slots of the node at `unit`.
pub(crate) fn read(nodes: &[AtomicU64], unit: u32) -> Slots {
    std::array::from_fn(|at| {
        let found = slot(nodes, unit, at as u8);
        if found.is_lower_storey() { slot(nodes, found.unit(), at as u8) } else { found }
    })
}

/// Visits the rooms of the node at `unit`, of both storeys.
pub(crate) fn rooms(nodes: &[AtomicU64], unit: u32, visit: &mut impl FnMut(Room)) {
    let Some(storey) = storey(nodes, unit) else { return };
    let runs = run_of(storey, LAST) + 1;
    visit(Room { unit, order: order_for(runs) });
    let lower = (0..runs).map(|run| entry(storey, run)).filter(|entry| entry.is_lower_storey());
    lower.for_each(|entry| rooms(nodes, entry.unit(), visit));
}

/// Writes a storey into a room that no reader can find.
pub(crate) fn write(nodes: &[AtomicU64], unit: u32, runs: &Runs) {
    let first = first_word(unit);
    let store = |word: usize, value: u64| {
        if let Some(word) = nodes.get(first + word) {
            word.store(value, Ordering::Relaxed);
        }
    };
    let mut ends = runs.ends;
    // So that the runs can be counted, whichever slots the storey is about.
    ends[runs.len.saturating_sub(1)..].fill(LAST);
    let ends = u128::from_le_bytes(ends);
    store(0, ends as u64);
    store(1, (ends >> 64) as u64);
    let (pairs, _) = runs.entries.as_chunks::<2>();
    for (at, [low, high]) in pairs.iter().take(runs.len.div_ceil(2)).enumerate() {
        store(ENDS_WORDS + at, u64::from(high.0) << 32 | u64::from(low.0));
    }
}
