//! Ports that become ours while the host runs: reserved in the kernel and registered with the XDP program by the thread
//! that follows the kernel, which lives in the right network namespace and keeps them in step with the addresses.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use super::listener::Listener;
use super::mailbox::Questions;

/// Longest wait for the thread that follows the kernel: it may be reading a large table.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to become of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// No other program may have it. Port 0 stands for one that is free.
    Reserve,
    /// Its packets come to the workers.
    Register,
    /// It is the kernel's again, after a while.
    Release,
}

/// A step, and where the answer goes: the address with the port.
pub(super) struct Wish {
    pub(super) step: Step,
    pub(super) listener: Listener,
    pub(super) answer: Option<SyncSender<io::Result<SocketAddr>>>,
}

/// The way to ask for ports. Where everything that comes to our addresses is ours there is nobody to ask.
#[derive(Clone, Default)]
pub(crate) struct Ports(Option<Arc<Questions>>);

impl Ports {
    pub(super) fn new(follower: Option<Arc<Questions>>) -> Self {
        Self(follower)
    }

    /// Whether they can be asked for now: whoever is refused has none to give back.
    pub(crate) fn are_granted(&self) -> bool {
        self.0.as_ref().is_none_or(|follower| follower.takes_wishes())
    }

    /// Reserves the port; answers with the address, which has another port if that was 0.
    pub(crate) fn reserve(&self, listener: Listener) -> io::Result<SocketAddr> {
        self.ask(Step::Reserve, listener)
    }

    /// Has packets to it come to the workers, which listen there by now.
    pub(crate) fn register(&self, listener: Listener) -> io::Result<SocketAddr> {
        self.ask(Step::Register, listener)
    }

    /// Leaves it to the kernel again after a while, unless the host had it from the start.
    pub(crate) fn release(&self, listener: Listener) {
        if let Some(follower) = &self.0 {
            // Where nobody follows the kernel any more it has been left already.
            let _ = follower.wish(Wish { step: Step::Release, listener, answer: None });
        }
    }

    fn ask(&self, step: Step, listener: Listener) -> io::Result<SocketAddr> {
        let Some(follower) = &self.0 else { return Ok(listener.at) };
        let (answer, answered) = sync_channel(1);
        let gone = || io::Error::from_raw_os_error(libc::ENETDOWN);
        follower.wish(Wish { step, listener, answer: Some(answer) }).map_err(|_| gone())?;
        answered.recv_timeout(PATIENCE).map_err(|_| gone())?
    }
}
