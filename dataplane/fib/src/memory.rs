//! Tables of atomic words in memory that costs nothing until it is touched.
#![allow(unsafe_code)]

#[cfg(not(loom))]
use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::error::FibError;
use crate::sync::{AtomicU16, AtomicU32, AtomicU64};

/// Size and alignment of a huge page on x86-64 and, with 4 KiB granules, on arm64.
#[cfg(not(loom))]
const HUGE_PAGE_BYTES: usize = 2 << 20;

mod sealed {
    /// What [`super::Words`] may hold: atomics, for which zero is valid and shared mutation sound.
    pub(crate) trait Word: Sync {}
    impl Word for super::AtomicU16 {}
    impl Word for super::AtomicU32 {}
    impl Word for super::AtomicU64 {}
}

/// An array of zeroed atomic words in an anonymous mapping of its own, which asks for transparent huge pages.
/// The kernel hands out a page when it is first written; until then reads see its shared zero page.
#[cfg(not(loom))]
pub(crate) struct Words<W> {
    map: MmapRaw,
    offset_bytes: usize,
    len: usize,
    word: std::marker::PhantomData<W>,
}

#[cfg(not(loom))]
impl<W: sealed::Word> Words<W> {
    pub(crate) fn zeroed(len: usize) -> Result<Self, FibError> {
        let len_bytes = len * size_of::<W>();
        let huge = len_bytes >= HUGE_PAGE_BYTES;
        let slack_bytes = if huge { HUGE_PAGE_BYTES } else { 0 };
        let map_bytes = (len_bytes + slack_bytes).max(1);
        let map = MmapOptions::new()
            .len(map_bytes)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| FibError::Memory { len_bytes, source })?;
        if huge {
            // A kernel without transparent huge pages refuses; small pages then serve, slower.
            let _ = map.advise(Advice::HugePage);
        }
        let map = MmapRaw::from(map);
        let offset_bytes = if huge { map.as_ptr().align_offset(HUGE_PAGE_BYTES).min(slack_bytes) } else { 0 };
        Ok(Self { map, offset_bytes, len, word: std::marker::PhantomData })
    }

    #[inline]
    pub(crate) fn words(&self) -> &[W] {
        let start = self.map.as_ptr().wrapping_add(self.offset_bytes).cast::<W>();
        // SAFETY: `zeroed` mapped offset_bytes + len words, readable and writable, page aligned and zeroed; the
        // mapping lives as long as `self` and nobody else names it. `Word` is sealed to atomics, for which zero is
        // valid and shared mutation sound.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

/// The same on the heap, each word known to loom.
#[cfg(loom)]
pub(crate) struct Words<W>(Vec<W>);

#[cfg(loom)]
impl<W: sealed::Word + Default> Words<W> {
    pub(crate) fn zeroed(len: usize) -> Result<Self, FibError> {
        Ok(Self((0..len).map(|_| W::default()).collect()))
    }

    pub(crate) fn words(&self) -> &[W] {
        &self.0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering::Relaxed;

    #[test]
    fn words_start_at_zero_and_keep_what_is_stored() {
        for len in [1, 1000, (HUGE_PAGE_BYTES / 4) + 1] {
            let words = Words::<AtomicU32>::zeroed(len).unwrap();
            assert!(words.words().iter().all(|word| word.load(Relaxed) == 0));
            words.words().last().unwrap().store(7, Relaxed);
            assert_eq!(words.words().len(), len);
            assert_eq!(words.words().last().unwrap().load(Relaxed), 7);
        }
    }
}
