//! SIGINT, SIGTERM and SIGHUP as a wish to stop.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;

/// Exit code of a process that a signal ended, as shells have it: 128 and SIGINT.
const INTERRUPTED: i32 = 130;

/// The wish to stop, once it has come.
pub(crate) struct Interrupt {
    receiver: Receiver<()>,
}

impl Interrupt {
    /// Takes over the signals. Call once, before anything that must be undone is done.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Self::listen_and(|| {})
    }

    /// As [`listen`](Self::listen), where nothing must be undone: a second signal ends the process on the spot.
    pub(crate) fn listen_once() -> anyhow::Result<Self> {
        let mut wished = false;
        Self::listen_and(move || {
            if std::mem::replace(&mut wished, true) {
                std::process::exit(INTERRUPTED);
            }
        })
    }

    fn listen_and(mut then: impl FnMut() + Send + 'static) -> anyhow::Result<Self> {
        let (sender, receiver) = channel();
        ctrlc::set_handler(move || {
            // Nobody waits any more: the stop is under way.
            let _ = sender.send(());
            then();
        })
        .context("cannot listen to signals")?;
        Ok(Self { receiver })
    }

    /// Waits at most this long; whether to stop.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        match self.receiver.recv_timeout(at_most) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            // The handler lives as long as the process; without it there is no other way to stop.
            Err(RecvTimeoutError::Disconnected) => true,
        }
    }
}
