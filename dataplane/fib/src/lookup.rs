//! Finding the longest match, one address at a time or 32 side by side.
//!
//! Full tables do not fit in a cache: what counts is how many misses wait at the same time. A batch goes level by level,
//! asks for the next nodes of all its addresses, and only then looks into the first.
#![allow(unsafe_code)]

use crate::entry::Entry;
use crate::next_hop::NextHop;
use crate::node::{self, STRIDE};
use crate::prefix::Address;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::trie::Trie;

/// Addresses looked up side by side in one pass.
pub const BATCH: usize = 32;

impl<A: Address> Trie<A> {
    #[inline]
    pub(crate) fn lookup(&self, addr: A) -> NextHop {
        loop {
            let default = self.default.load(Ordering::Acquire);
            let mut entry = Entry(self.root.words()[addr.root_index()].load(Ordering::Acquire));
            let mut depth = A::ROOT_BITS;
            while entry.is_child() && depth < A::LEN_MAX {
                entry = node::slot(self.nodes.words(), entry.unit(), addr.sextet(depth));
                depth += STRIDE;
            }
            if entry != Entry::EMPTY {
                return entry.next_hop();
            }
            if self.default_is(default) {
                return NextHop::from_low_bits(default as u32);
            }
        }
    }

    /// Looks up `addrs[i]` into `next_hops[i]`, as far as both reach.
    pub(crate) fn lookup_batch(&self, addrs: &[A], next_hops: &mut [NextHop]) {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("popcnt") {
            // SAFETY: the line above asked the processor for the one feature that this function adds.
            unsafe { self.lookup_batch_popcnt(addrs, next_hops) };
            return;
        }
        self.lookup_chunks(addrs, next_hops);
    }

    /// [`Self::lookup_chunks`] compiled with the instruction that the baseline x86-64 lacks.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "popcnt")]
    fn lookup_batch_popcnt(&self, addrs: &[A], next_hops: &mut [NextHop]) {
        self.lookup_chunks(addrs, next_hops);
    }

    #[inline(always)]
    fn lookup_chunks(&self, addrs: &[A], next_hops: &mut [NextHop]) {
        let len = addrs.len().min(next_hops.len());
        let (addrs, next_hops) = (addrs.get(..len).unwrap_or_default(), next_hops.get_mut(..len).unwrap_or_default());
        for (addrs, next_hops) in addrs.chunks(BATCH).zip(next_hops.chunks_mut(BATCH)) {
            // Lock-free: once more only if the default route changed under an address that needed it.
            while !self.lookup_chunk(addrs, next_hops) {}
        }
    }

    /// Level by level over the whole chunk, so that the loads of one level wait for memory together. False if the
    /// default route changed meanwhile and an address needed it.
    #[inline(always)]
    fn lookup_chunk(&self, addrs: &[A], next_hops: &mut [NextHop]) -> bool {
        let default = self.default.load(Ordering::Acquire);
        let mut entries = [Entry::EMPTY; BATCH];
        let mut any = 0;
        let mut least = u32::MAX;
        let root = self.root.words();
        for ((addr, entry), next_hop) in addrs.iter().zip(&mut entries).zip(next_hops.iter_mut()) {
            *entry = Entry(root[addr.root_index()].load(Ordering::Relaxed));
            *next_hop = entry.next_hop();
            any |= entry.0;
            least = least.min(entry.0);
        }
        if Entry(any).is_child() {
            // What the root slots point to is visible from here on.
            fence(Ordering::Acquire);
            least = self.descend(addrs, &mut entries, next_hops).min(least);
        }
        if least != Entry::EMPTY.0 {
            return true;
        }
        for next_hop in next_hops.iter_mut().filter(|next_hop| next_hop.is_none()) {
            *next_hop = NextHop::from_low_bits(default as u32);
        }
        self.default_is(default)
    }

    /// Follows children down to leaves; returns the least leaf.
    #[inline(always)]
    fn descend(&self, addrs: &[A], entries: &mut [Entry; BATCH], next_hops: &mut [NextHop]) -> u32 {
        let nodes = self.nodes.words();
        let mut deeper = [0u8; BATCH];
        let mut deeper_len = 0;
        for (index, entry) in entries.iter().enumerate() {
            deeper[deeper_len % BATCH] = index as u8;
            deeper_len += usize::from(entry.is_child());
            if entry.is_child() {
                prefetch(nodes, entry.unit());
            }
        }
        let mut least = u32::MAX;
        let mut depth = A::ROOT_BITS;
        while deeper_len > 0 && depth < A::LEN_MAX {
            let mut kept = 0;
            for at in 0..deeper_len.min(BATCH) {
                let index = usize::from(deeper[at]) % BATCH;
                let (Some(addr), Some(next_hop)) = (addrs.get(index), next_hops.get_mut(index)) else { continue };
                let entry = node::slot(nodes, entries[index].unit(), addr.sextet(depth));
                entries[index] = entry;
                *next_hop = entry.next_hop();
                least = least.min(entry.0);
                deeper[kept % BATCH] = index as u8;
                kept += usize::from(entry.is_child());
                if entry.is_child() {
                    prefetch(nodes, entry.unit());
                }
            }
            deeper_len = kept;
            depth += STRIDE;
        }
        least
    }

    /// Whether the default route is still what `seen` says: then it was so when the slot was found empty.
    #[inline]
    fn default_is(&self, seen: u64) -> bool {
        fence(Ordering::Acquire);
        self.default.load(Ordering::Relaxed) == seen
    }
}

/// Starts loading the cache line of the node at `unit`.
#[inline(always)]
fn prefetch(nodes: &[AtomicU64], unit: u32) {
    #[cfg(target_arch = "x86_64")]
    if let Some(word) = nodes.get(node::first_word(unit)) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing the program can see and cannot fault; the pointer is a live reference's.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (nodes, unit);
}
