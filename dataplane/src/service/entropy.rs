//! Random numbers that nobody can guess, from the kernel, many at a time.

/// Words drawn in one system call.
const WORDS: usize = 32;

/// A store of random words.
pub(super) struct Entropy {
    words: [u64; WORDS],
    left: usize,
}

impl Entropy {
    pub(super) fn new() -> Self {
        Self { words: [0; WORDS], left: 0 }
    }

    /// 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        if self.left == 0 {
            self.refill();
        }
        self.left -= 1;
        self.words.get_mut(self.left).map_or(0, std::mem::take)
    }

    #[cold]
    fn refill(&mut self) {
        // Up to 256 bytes come whole and without being interrupted, once the kernel has seeded itself: getrandom(2).
        // SAFETY: the pointer and the length are those of `words`, and all bit patterns are valid for integers.
        #[allow(unsafe_code)]
        let got = unsafe { libc::getrandom(self.words.as_mut_ptr().cast(), size_of_val(&self.words), 0) };
        if got != size_of_val(&self.words) as isize {
            // Only kernels before 3.17 have no such call. The clock and the address space layout are what is left.
            let seed = crate::clock::now_ns() ^ (std::ptr::from_ref(self) as u64).rotate_left(32);
            (0..)
                .zip(&mut self.words)
                .for_each(|(n, word)| *word = seed.wrapping_add(n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        self.left = WORDS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_not_given_twice() {
        let mut entropy = Entropy::new();
        let mut words: Vec<u64> = (0..4 * WORDS).map(|_| entropy.next()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 4 * WORDS);
    }
}
