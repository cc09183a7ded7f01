//! SIGINT, SIGTERM and SIGHUP as a wish to stop.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;

/// The wish to stop, once it has come.
pub(crate) struct Interrupt {
    receiver: Receiver<()>,
}

impl Interrupt {
    /// Takes over the signals. Call once, before anything that must be undone is done.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let (sender, receiver) = channel();
        ctrlc::set_handler(move || {
            // Nobody waits any more: the stop is under way.
            let _ = sender.send(());
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
