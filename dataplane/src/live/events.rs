//! The ordered record of what happened to a graph: a bounded ring of numbered events.
//!
//! Whoever changes the graph writes, subscribers read; both are control threads. A subscriber that falls behind further
//! than the ring is long is told so, and nobody waits for it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::diff::Diff;
use super::engine::Stall;

/// Events kept.
pub const EVENTS_MAX: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// Position in the record, from 1, without gaps.
    pub number: u64,
    /// When: milliseconds since 1970.
    pub time_ms: u64,
    /// Who asked for it.
    pub who: String,
    /// Version of the graph after it.
    pub version: u64,
    /// What it was.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The graph runs for the first time.
    Started,
    /// It was changed.
    Changed {
        /// How.
        diff: Diff,
        /// What it cost each worker.
        stalls: Vec<Stall>,
    },
    /// The last change but those undone before was undone.
    Undone {
        /// How the graph changed.
        diff: Diff,
        /// What it cost each worker.
        stalls: Vec<Stall>,
    },
    /// An interface joined the running dataplane.
    PortJoined {
        /// Its name.
        name: String,
        /// Its kernel index.
        ifindex: u32,
        /// Its place among the ports.
        port: usize,
    },
    /// An interface left it.
    PortLeft {
        /// Its name.
        name: String,
        /// Its kernel index.
        ifindex: u32,
        /// Its place among the ports.
        port: usize,
        /// Why.
        why: String,
    },
    /// An interface that is to be in it could not join.
    PortRefused {
        /// Its name.
        name: String,
        /// Its kernel index.
        ifindex: u32,
        /// Why.
        why: String,
    },
    /// An interface has another name.
    PortRenamed {
        /// The name before.
        from: String,
        /// The name now.
        to: String,
        /// Its place among the ports.
        port: usize,
    },
    /// A change was refused.
    Refused {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// Events asked for are not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events before {oldest} are not kept any more")]
pub struct TooOld {
    /// The first event that is still there.
    pub oldest: u64,
}

/// The record.
#[derive(Debug, Default)]
pub struct EventLog {
    kept: Mutex<Kept>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Event>,
    /// Number of the newest.
    newest: u64,
}

impl Kept {
    fn oldest(&self) -> u64 {
        self.newest + 1 - self.events.len() as u64
    }
}

impl EventLog {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the newest event; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.kept().newest
    }

    /// Adds an event and returns its number.
    pub fn record(&self, who: &str, version: u64, what: What) -> u64 {
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let mut kept = self.kept();
        kept.newest += 1;
        if kept.events.len() == EVENTS_MAX {
            kept.events.pop_front();
        }
        let number = kept.newest;
        kept.events.push_back(Event { number, time_ms, who: who.to_owned(), version, what });
        self.arrived.notify_all();
        number
    }

    /// The events from number `from` on, in order. While there are none yet, waits up to `timeout` for the first; then
    /// the answer may be empty.
    pub fn wait(&self, from: u64, timeout: Duration) -> Result<Vec<Event>, TooOld> {
        let kept = self.kept();
        let waited = self.arrived.wait_timeout_while(kept, timeout, |kept| kept.newest < from);
        let (kept, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let oldest = kept.oldest();
        if from < oldest {
            return Err(TooOld { oldest });
        }
        Ok(kept.events.iter().skip((from - oldest) as usize).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn log_of(count: usize) -> EventLog {
        let log = EventLog::default();
        for _ in 0..count {
            log.record("test", 1, What::Started);
        }
        log
    }

    #[test]
    fn events_are_numbered_from_one_and_can_be_read_again() {
        let log = log_of(3);
        let numbers = |from| log.wait(from, NOW).unwrap().iter().map(|event| event.number).collect::<Vec<_>>();
        assert_eq!(numbers(1), [1, 2, 3]);
        assert_eq!(numbers(3), [3]);
        assert_eq!(numbers(4), [0u64; 0], "nothing yet is no error");
    }

    #[test]
    fn a_reader_that_is_too_late_is_told_where_the_record_begins() {
        let log = log_of(EVENTS_MAX + 5);
        assert_eq!(log.wait(5, NOW), Err(TooOld { oldest: 6 }));
        assert_eq!(log.wait(6, NOW).unwrap().len(), EVENTS_MAX);
        assert_eq!(log.wait(0, NOW), Err(TooOld { oldest: 6 }));
    }

    #[test]
    fn a_waiting_reader_gets_the_event_that_comes() {
        let log = log_of(0);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| log.wait(1, Duration::from_secs(60)).unwrap());
            log.record("test", 7, What::Started);
            assert_eq!(reader.join().unwrap()[0].version, 7);
        });
    }
}
