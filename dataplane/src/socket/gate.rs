//! Threads that wait for something of a socket's: a futex, touched by a system call only where somebody sleeps on it.

use std::time::{Duration, Instant};

use crate::sync::{Futex, Ordering, fence};

/// Somebody may wait. Above this bit openings are counted, so that who went to sleep for an earlier one does not stay there
/// because another thread waits anew.
const AWAITED: u32 = 1;
/// Longest sleep: a bound in case that a wake-up is lost.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Where threads wait until one thing holds.
#[derive(Default)]
pub(crate) struct Gate(Futex);

impl Gate {
    /// Waits until `ready`, spinning for `spin` and then asleep; `false` if it is not by `until`.
    pub(crate) fn wait(&self, spin: Duration, until: Option<Instant>, ready: impl Fn() -> bool) -> bool {
        if ready() || spin_for(spin, &ready) {
            return true;
        }
        loop {
            let awaited = self.0.word().fetch_or(AWAITED, Ordering::Relaxed) | AWAITED;
            fence(Ordering::SeqCst);
            if ready() {
                return true;
            }
            let left = until.map_or(SLEEP_MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            // Woken, interrupted, opened meanwhile: what counts is looked at next.
            self.0.sleep(awaited, left.min(SLEEP_MAX));
        }
    }

    /// Lets everybody look again. What they wait for is in place, and a `SeqCst` fence lies behind that.
    #[inline]
    pub(crate) fn open(&self) {
        let seen = self.0.word().load(Ordering::Relaxed);
        if seen & AWAITED != 0 {
            self.rouse(seen);
        }
    }

    #[cold]
    fn rouse(&self, seen: u32) {
        // Takes the mark away and counts. Where another was faster, who waits by now has seen what is in place.
        let opened = seen.wrapping_add(AWAITED);
        if self.0.word().compare_exchange(seen, opened, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.0.wake();
        }
    }
}

fn spin_for(spin: Duration, ready: &impl Fn() -> bool) -> bool {
    if spin.is_zero() {
        return false;
    }
    let end = Instant::now() + spin;
    while Instant::now() < end {
        // Often enough between two looks at the clock.
        for _ in 0..16 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
    }
    false
}
