//! Telling of ports that join and leave a running dataplane.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use tailwater_netlink::Link;

/// Longest wait for a listener to take leave of a port.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// Pause between two looks whether it has.
const LOOK: Duration = Duration::from_millis(1);
/// Changes under way to one listener: more than there can be places.
const CHANGES_MAX: usize = 1024;

/// Who must know which interfaces the ports are. Called by the thread that tends the runtime.
pub trait PortListener: Send + Sync {
    /// The interface is at this place now: packets come in by it, and may leave by it.
    fn joined(&self, port: u16, link: &Link);

    /// The interface is about to leave its place. Returns when nobody sends packets there any more.
    fn leaving(&self, port: u16, ifindex: u32);

    /// The interface's packets may have so many bytes from now on. Those who follow the kernel know.
    fn resized(&self, port: u16, mtu: u32) {
        let _ = (port, mtu);
    }
}

/// What a listener's own thread is told.
pub(crate) enum PortChange {
    Joined { port: u16, link: Box<Link> },
    Leaving { port: u16, ifindex: u32 },
}

/// From the thread that tends the runtime to a listener's own thread, which must be woken by other means.
pub(crate) struct PortChanges {
    queue: ArrayQueue<PortChange>,
    told: AtomicU64,
    done: AtomicU64,
}

impl Default for PortChanges {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(CHANGES_MAX), told: AtomicU64::new(0), done: AtomicU64::new(0) }
    }
}

impl PortChanges {
    /// Tells of a change; answers with its number.
    pub(crate) fn tell(&self, change: PortChange) -> u64 {
        if self.queue.push(change).is_err() {
            tracing::error!("a thread that follows the kernel does not hear of ports any more");
            return 0;
        }
        self.told.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Waits, for a bounded time, until the change with this number has been dealt with.
    pub(crate) fn wait(&self, number: u64) {
        let end = Instant::now() + FAREWELL_MAX;
        while self.done.load(Ordering::Acquire) < number {
            if Instant::now() >= end {
                tracing::warn!("a port leaves although routes may still lead there; packets to it are dropped");
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The next change. [`Self::done`] follows when it has been dealt with.
    pub(crate) fn next(&self) -> Option<PortChange> {
        self.queue.pop()
    }

    pub(crate) fn done(&self) {
        self.done.fetch_add(1, Ordering::Release);
    }
}
