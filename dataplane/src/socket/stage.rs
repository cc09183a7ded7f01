//! How far a connection has come, and what went wrong with it: a reader that sees the end sees the reason
//! (`tests/wake_model.rs`).

use crate::sync::{AtomicI32, AtomicU8, Ordering};

const OPENING: u8 = 0;
const OPEN: u8 = 1;
const OVER: u8 = 2;

/// Written by the worker; the error is taken by threads.
pub(crate) struct Stage {
    stage: AtomicU8,
    /// What went wrong and was not told yet; 0: nothing.
    error: AtomicI32,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { stage: AtomicU8::new(OPENING), error: AtomicI32::new(0) }
    }

    pub(crate) fn is_opening(&self) -> bool {
        self.stage.load(Ordering::Acquire) == OPENING
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.stage.load(Ordering::Acquire) == OVER
    }

    pub(crate) fn open(&self) {
        self.stage.store(OPEN, Ordering::Release);
    }

    /// It is over; with an error, or 0. Whether it was not before.
    pub(crate) fn end(&self, error: i32) -> bool {
        if self.is_over() {
            return false;
        }
        // First: who finds no error behind the end takes it for a clean one.
        let _ = self.error.compare_exchange(0, error, Ordering::AcqRel, Ordering::Relaxed);
        self.stage.swap(OVER, Ordering::AcqRel) != OVER
    }

    /// What went wrong, told once.
    pub(crate) fn take_error(&self) -> Option<i32> {
        if self.error.load(Ordering::Relaxed) == 0 {
            return None;
        }
        Some(self.error.swap(0, Ordering::AcqRel)).filter(|&number| number != 0)
    }
}
