//! A thread waits until every worker has opened its part of a socket.

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use super::error;
use super::gate::Gate;

/// Longest wait: a worker looks once a turn, and wakes up for this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the workers have answered.
pub(super) struct Opening {
    missing: AtomicUsize,
    /// The first error; 0: none.
    refusal: AtomicI32,
    gate: Gate,
}

impl Opening {
    pub(super) fn of(workers: usize) -> Self {
        Self { missing: AtomicUsize::new(workers), refusal: AtomicI32::new(0), gate: Gate::default() }
    }

    /// A worker's answer: an error, or 0.
    pub(super) fn answer(&self, error: i32) {
        if error != 0 {
            let _ = self.refusal.compare_exchange(0, error, Ordering::AcqRel, Ordering::Relaxed);
        }
        let less = |missing: usize| missing.checked_sub(1);
        let _ = self.missing.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        fence(Ordering::SeqCst);
        self.gate.open();
    }

    /// Waits for all answers, or for a refusal.
    pub(super) fn wait(&self) -> std::io::Result<()> {
        let refused = || self.refusal.load(Ordering::Acquire);
        let decided = || self.missing.load(Ordering::Acquire) == 0 || refused() != 0;
        if !self.gate.wait(Duration::ZERO, Some(Instant::now() + PATIENCE), decided) {
            return Err(error::of(error::STOPPED));
        }
        match refused() {
            0 => Ok(()),
            number => Err(error::of(number)),
        }
    }
}
