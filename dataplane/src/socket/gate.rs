//! Threads that wait for something of a socket's: a futex, touched by a system call only where somebody sleeps on it.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

use rustix::thread::futex;

/// Nobody waits.
const OPEN: u32 = 0;
/// Somebody may.
const AWAITED: u32 = 1;
/// Longest sleep: a bound in case that a wake-up is lost.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Where threads wait until one thing holds.
#[derive(Default)]
pub(super) struct Gate(AtomicU32);

impl Gate {
    /// Waits until `ready`, spinning for `spin` and then asleep; `false` if it is not by `until`.
    pub(super) fn wait(&self, spin: Duration, until: Option<Instant>, ready: impl Fn() -> bool) -> bool {
        if ready() || spin_for(spin, &ready) {
            return true;
        }
        loop {
            self.0.store(AWAITED, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if ready() {
                return true;
            }
            let left = until.map_or(SLEEP_MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let left = left.min(SLEEP_MAX).try_into().ok();
            // Woken, interrupted, opened meanwhile: what counts is looked at next.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, AWAITED, left.as_ref());
        }
    }

    /// Lets everybody look again. What they wait for is in place, and a `SeqCst` fence lies behind that.
    #[inline]
    pub(super) fn open(&self) {
        if self.0.load(Ordering::Relaxed) == AWAITED {
            self.rouse();
        }
    }

    #[cold]
    fn rouse(&self) {
        if self.0.swap(OPEN, Ordering::AcqRel) == AWAITED {
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, i32::MAX as u32);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn who_waits_is_woken_and_who_waits_in_vain_is_told() {
        let (gate, done) = (Gate::default(), AtomicBool::new(false));
        let is_done = || done.load(Ordering::Acquire);
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(!gate.wait(Duration::ZERO, Some(soon), is_done));
        std::thread::scope(|scope| {
            let waiting = [(); 3].map(|()| scope.spawn(|| gate.wait(Duration::ZERO, None, is_done)));
            while gate.0.load(Ordering::Relaxed) != AWAITED {
                std::thread::yield_now();
            }
            done.store(true, Ordering::Release);
            fence(Ordering::SeqCst);
            gate.open();
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        });
    }
}
