//! Sleeping until a port has packets, somebody wakes the worker, or it is time.
//!
//! A few ports are named to `poll` anew each time, which is the fastest way to wait for them. A crowd is kept in an epoll
//! set, so that a sleep costs the same however many there are.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::idle::SLEEP_MAX_NS;
use super::waker::Waker;
use crate::port::Port;

/// Sleep while packets wait in a transmit ring that the kernel refused to empty.
const UNSENT_NS: u64 = 200_000;
/// Sleep while packets wait for an interface that is down.
const DOWN_NS: u64 = 50_000_000;
/// Sleep while a port that cannot be waited on is open.
const POLLED_PORT_NS: u64 = 50_000;
/// Descriptors that one `poll` waits on: the waker's and those of fewer ports.
const FEW_MAX: usize = 64;

/// What waits in transmit rings while a worker sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unsent {
    Nothing,
    /// It leaves when the interface is up again.
    Down,
    /// It leaves as soon as the kernel takes it.
    Refused,
}

impl Unsent {
    /// What waits at one port.
    pub(super) fn at(port: &mut dyn Port) -> Self {
        match port.tx_pending() {
            0 => Self::Nothing,
            _ if port.is_down() => Self::Down,
            _ => Self::Refused,
        }
    }
}

/// How a worker waits.
pub(super) enum Waiting {
    /// Each port by itself.
    Few,
    /// All in one set, the waker's descriptor among them.
    Crowd(OwnedFd),
}

impl Waiting {
    /// For as many ports as there are places.
    pub(super) fn new(ports: &[Box<dyn Port>], waker: &Waker) -> std::io::Result<Self> {
        if ports.len() < FEW_MAX {
            return Ok(Self::Few);
        }
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        add(&set, waker.fd().as_fd())?;
        for fd in ports.iter().filter_map(|port| port.pollable()) {
            add(&set, fd)?;
        }
        Ok(Self::Crowd(set))
    }

    /// One port instead of another.
    pub(super) fn exchange(&self, old: &dyn Port, new: &dyn Port) {
        let Self::Crowd(set) = self else { return };
        if let Some(fd) = old.pollable() {
            // It may have been closed from the kernel's side, and left by itself.
            let _ = epoll::delete(set, fd);
        }
        if let Some(Err(error)) = new.pollable().map(|fd| add(set, fd)) {
            tracing::error!(%error, port = new.name(), "a port cannot be waited for; it is looked at once a second");
        }
    }

    /// Sleeps until `until_ns`, or until somebody wakes the worker.
    pub(super) fn nap(&self, waker: &Waker, now_ns: u64, until_ns: u64) {
        wait(&mut [PollFd::new(waker.fd(), PollFlags::IN)], until_ns.saturating_sub(now_ns).min(SLEEP_MAX_NS));
    }

    /// Sleeps until there is something to do, `until_ns` at the latest. `ports` are those in use.
    pub(super) fn sleep(&self, ports: &[Box<dyn Port>], waker: &Waker, now_ns: u64, until_ns: u64, unsent: Unsent) {
        let limit_ns = match unsent {
            Unsent::Nothing => SLEEP_MAX_NS,
            Unsent::Down => DOWN_NS,
            Unsent::Refused => UNSENT_NS,
        };
        let ns = until_ns.saturating_sub(now_ns).min(limit_ns);
        match self {
            Self::Few => wait_for_few(ports, waker.fd().as_fd(), ns),
            Self::Crowd(set) => {
                let polled = ports.iter().any(|port| port.pollable().is_none() && !port.name().is_empty());
                wait(&mut [PollFd::new(set, PollFlags::IN)], if polled { ns.min(POLLED_PORT_NS) } else { ns });
            }
        }
    }
}

fn wait_for_few(ports: &[Box<dyn Port>], wake: BorrowedFd<'_>, mut ns: u64) {
    let mut fds: [Option<BorrowedFd<'_>>; FEW_MAX] = [None; FEW_MAX];
    let mut count = 0;
    for port in ports.iter().filter(|port| !port.name().is_empty()) {
        match port.pollable() {
            Some(fd) if count < FEW_MAX - 1 => {
                fds[count] = Some(fd);
                count += 1;
            }
            _ => ns = ns.min(POLLED_PORT_NS),
        }
    }
    let mut set: [PollFd<'_>; FEW_MAX] =
        std::array::from_fn(|at| PollFd::from_borrowed_fd(fds[at].unwrap_or(wake), PollFlags::IN));
    wait(&mut set[..=count], ns);
}

fn wait(set: &mut [PollFd<'_>], ns: u64) {
    let timeout = Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
    // An interrupted or refused wait is as good as a short one: the next turn looks anyway.
    let _ = poll(set, Some(&timeout));
}

fn add(set: &OwnedFd, fd: BorrowedFd<'_>) -> std::io::Result<()> {
    Ok(epoll::add(set.as_fd(), fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?)
}
