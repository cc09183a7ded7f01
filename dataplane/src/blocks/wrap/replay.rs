//! The window against replays (RFC 6479): which of a sender's last counters have been seen.
//!
//! ```text
//!  words, a ring indexed by counter / 64
//!  +------+------+------+------+------+
//!  |      |      | newest      |      |      a word is cleared when the newest counter reaches it again, so
//!  +------+------+------+------+------+      WORDS - 1 of them are valid
//! ```

use crate::ledger::DropReason;

const BITS: u64 = u64::BITS as u64;
/// Words of the ring; a power of two.
const WORDS: u64 = 64;
/// Counters behind the newest one of which it is known whether they have been seen: more than the frames that a receive
/// ring of the usual 2048 holds, which is how far queues can run apart.
pub(super) const WINDOW: u64 = (WORDS - 1) * BITS;

/// Counters of one sender, from 1 on.
pub(super) struct Window {
    newest: u64,
    seen: [u64; WORDS as usize],
}

impl Default for Window {
    fn default() -> Self {
        Self { newest: 0, seen: [0; WORDS as usize] }
    }
}

impl Window {
    /// Whether `counter` may be new. Changes nothing: the frame has still to prove that it is genuine.
    pub(super) fn check(&self, counter: u64) -> Result<(), DropReason> {
        if counter > self.newest {
            return Ok(());
        }
        // Zero is never sent.
        if counter == 0 || self.newest - counter >= WINDOW {
            return Err(DropReason::DecryptTooOld);
        }
        if self.seen[slot(counter)] & bit(counter) != 0 { Err(DropReason::DecryptReplayed) } else { Ok(()) }
    }

    /// Notes a counter that has passed `check`, of a genuine frame.
    pub(super) fn mark(&mut self, counter: u64) {
        if counter > self.newest {
            let (from, to) = (self.newest / BITS, counter / BITS);
            // RFC 6479 §2.2: words between the old and the new end are cleared, each at most once.
            for word in 1..=(to - from).min(WORDS) {
                self.seen[slot((from + word) * BITS)] = 0;
            }
            self.newest = counter;
        }
        self.seen[slot(counter)] |= bit(counter);
    }
}

fn slot(counter: u64) -> usize {
    (counter / BITS % WORDS) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    fn take(window: &mut Window, counter: u64) -> Result<(), DropReason> {
        window.check(counter)?;
        window.mark(counter);
        Ok(())
    }

    #[test]
    fn edges_of_the_window() {
        let mut window = Window::default();
        assert_eq!(take(&mut window, 0), Err(DropReason::DecryptTooOld), "zero is never sent");
        assert_eq!(take(&mut window, 1), Ok(()));
        assert_eq!(take(&mut window, 1), Err(DropReason::DecryptReplayed));
        let newest = 100_000;
        assert_eq!(take(&mut window, newest), Ok(()));
        assert_eq!(take(&mut window, newest - WINDOW), Err(DropReason::DecryptTooOld));
        assert_eq!(take(&mut window, newest - WINDOW + 1), Ok(()));
        assert_eq!(take(&mut window, newest - WINDOW + 1), Err(DropReason::DecryptReplayed));
        assert_eq!(take(&mut window, u64::MAX), Ok(()));
        assert_eq!(take(&mut window, u64::MAX), Err(DropReason::DecryptReplayed));
        assert_eq!(take(&mut window, u64::MAX - 1), Ok(()));
        assert_eq!(take(&mut window, newest), Err(DropReason::DecryptTooOld));
    }

    #[test]
    fn a_jump_by_whole_rings_forgets_what_was_seen() {
        for jump in [WINDOW, WORDS * BITS - 1, WORDS * BITS, WORDS * BITS + 1, 10 * WORDS * BITS] {
            let mut window = Window::default();
            (1..=200).for_each(|counter| take(&mut window, counter).unwrap());
            take(&mut window, 200 + jump).unwrap();
            for counter in 201..200 + jump {
                let expected = if 200 + jump - counter >= WINDOW { Err(DropReason::DecryptTooOld) } else { Ok(()) };
                assert_eq!(take(&mut window, counter), expected, "{counter} after a jump of {jump}");
            }
        }
    }

    proptest! {
        /// The window agrees with a set of everything seen.
        #[test]
        fn nothing_passes_twice_and_nothing_new_within_the_window_is_refused(
            steps in prop::collection::vec((0u64..3 * WINDOW, any::<bool>()), 1..400),
        ) {
            let (mut window, mut seen, mut newest) = (Window::default(), HashSet::new(), 1u64);
            for (step, back) in steps {
                let counter = if back { newest.saturating_sub(step) } else { newest + step % 200 };
                let expected = if counter == 0 || newest.saturating_sub(counter) >= WINDOW {
                    Err(DropReason::DecryptTooOld)
                } else if seen.contains(&counter) {
                    Err(DropReason::DecryptReplayed)
                } else {
                    Ok(())
                };
                // Before anything is marked, the window knows no newest counter, and so takes any.
                if seen.is_empty() && counter != 0 {
                    prop_assert_eq!(take(&mut window, counter), Ok(()));
                    newest = counter;
                } else {
                    prop_assert_eq!(take(&mut window, counter), expected);
                    newest = newest.max(counter);
                }
                seen.insert(counter);
            }
        }
    }
}
