//! Asks the process for its counters at a steady pace, in a thread of its own: a process that takes its time to answer
//! must not make the screen wait.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::control::{Peer, Request};
use crate::snapshot::Snapshot;

/// Samples that may wait for the screen; the sampler waits with the next.
const WAITING_MAX: usize = 2;

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Sample {
    Snapshot(Box<Snapshot>),
    NoAnswer(String),
    /// The process is gone; nothing comes after this.
    Ended,
}

/// A thread that asks; it ends when this is dropped.
pub(crate) struct Sampler {
    samples: Receiver<Sample>,
    pace: Sender<Duration>,
}

impl Sampler {
    pub(crate) fn start(peer: Peer, interval: Duration) -> anyhow::Result<Self> {
        let (sender, samples) = sync_channel(WAITING_MAX);
        let (pace, changes) = channel();
        let thread = std::thread::Builder::new().name("tailwater/top".into());
        thread.spawn(move || ask_on(&peer, interval, &sender, &changes)).context("cannot start a thread")?;
        Ok(Self { samples, pace })
    }

    /// The oldest sample that has not been taken. A thread that is gone has said why before.
    pub(crate) fn next(&self) -> Option<Sample> {
        self.samples.try_recv().ok()
    }

    /// Samples come at this pace from now on.
    pub(crate) fn set_pace(&self, interval: Duration) {
        // After the process's end nobody listens.
        let _ = self.pace.send(interval);
    }
}

fn ask_on(peer: &Peer, mut interval: Duration, samples: &SyncSender<Sample>, changes: &Receiver<Duration>) {
    let mut due = Instant::now();
    loop {
        let sample = ask(peer);
        let ended = matches!(sample, Sample::Ended);
        if samples.send(sample).is_err() || ended {
            return;
        }
        // Late by more than an interval: go on from here instead of hurrying after.
        due = (due + interval).max(Instant::now());
        loop {
            match changes.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(changed) => {
                    due = Instant::now() + changed;
                    interval = changed;
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn ask(peer: &Peer) -> Sample {
    match peer.ask(Request::Report) {
        Ok(snapshot) => Sample::Snapshot(Box::new(snapshot)),
        Err(_) if !Path::new(&format!("/proc/{}", peer.identity.pid)).exists() => Sample::Ended,
        Err(error) => Sample::NoAnswer(format!("{error:#}")),
    }
}
