//! What the worker answers to a question of a thread.

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::gate::Gate;

/// Longest wait for an answer: the worker looks once a turn, and wakes up for a question.
const PATIENCE: Duration = Duration::from_secs(5);

/// A place for one answer.
pub(super) struct Answer<T> {
    given: ArrayQueue<T>,
    arrived: Gate,
}

impl<T> Default for Answer<T> {
    fn default() -> Self {
        Self { given: ArrayQueue::new(1), arrived: Gate::default() }
    }
}

impl<T> Answer<T> {
    pub(super) fn give(&self, answer: T) {
        // A second answer would say the same.
        let _ = self.given.push(answer);
        fence(Ordering::SeqCst);
        self.arrived.open();
    }

    /// The answer; `None` if none comes.
    pub(super) fn wait(&self) -> Option<T> {
        self.arrived.wait(Duration::ZERO, Some(Instant::now() + PATIENCE), || !self.given.is_empty());
        self.given.pop()
    }
}
