//! What the control side and the workers have to tell each other, through bounded lock-free queues.
//!
//! ```text
//!                    Update: addresses, routes, neighbours, MTU
//!   follower  ------------------------------------------------->  each worker
//!   (thread)  <-------------------------------------------------
//!                    Question: who has this address?
//!
//!   worker 0  ----- copies of ARP and ND answers, which only it gets from the XDP program ---->  the other workers
//! ```
//!
//! Whoever has put something into a mailbox notes that, and wakes its worker.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::{ArrayQueue, SegQueue};
use rustix::event::{EventfdFlags, eventfd};
use tailwater_netlink::Link;
use tailwater_stack::{Cidr, InterfaceConfig, InterfaceId, MacAddress, Route};

use super::census::Pages;
use super::ports::{Step, Wish};
use crate::frame::Frame;
use crate::runtime::{PortChange, PortChanges, PortListener};
use crate::worker::Waker;

/// Changes that wait for one worker; further ones wait with the follower.
pub(super) const UPDATES_MAX: usize = 8_192;
/// Answers that wait for one worker: as many neighbours as may be asked for at once. More are dropped, and asked again.
const ANSWERS_MAX: usize = 256;
/// Questions on their way to the kernel; more are dropped, and put again after a second.
const QUESTIONS_MAX: usize = 1_024;

/// Wishes for ports that wait at the same time; further ones are refused.
const WISHES_MAX: usize = 256;

/// A change of the host's state on one of its interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// The interface is there from now on.
    Interface(InterfaceId, InterfaceConfig),
    /// It is there no longer, with all that belonged to it.
    NoInterface(InterfaceId),
    /// Largest IP packet, in bytes.
    Mtu(InterfaceId, usize),
    /// The interface has this address.
    Address(InterfaceId, Cidr),
    /// It has no longer.
    NoAddress(InterfaceId, IpAddr),
    /// This route is the best to its prefix.
    Route(Route),
    /// No route to the prefix leads through the interface.
    NoRoute(InterfaceId, Cidr),
    /// The neighbour's station is known.
    Neighbour(InterfaceId, IpAddr, MacAddress),
    /// It is not.
    NoNeighbour(InterfaceId, IpAddr),
}

/// Queues of one worker.
pub(super) struct Mailbox {
    pub(super) updates: ArrayQueue<Update>,
    /// ARP replies and neighbour advertisements that worker 0 received.
    pub(super) answers: ArrayQueue<Frame>,
    /// Lists of connections to be filled.
    pub(super) census: Pages,
    /// Something was put in that the worker has not looked for yet: one word for it to read in each turn.
    has_mail: AtomicBool,
    waker: OnceLock<Arc<Waker>>,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Self {
            updates: ArrayQueue::new(UPDATES_MAX),
            answers: ArrayQueue::new(ANSWERS_MAX),
            census: Pages::new(),
            has_mail: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// The worker is woken so; it has not slept yet. It looks once for what a former block may have left.
    pub(super) fn belongs_to(&self, waker: Option<Arc<Waker>>) {
        self.note_mail();
        if let Some(waker) = waker {
            // Set already, if this block takes over from another one.
            let _ = self.waker.set(waker);
        }
    }

    /// Whether the worker has nothing to look for.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        !self.has_mail.load(Ordering::Acquire)
    }

    /// Something was put in. There are several who do: each goes on with what the one before has released.
    pub(super) fn note_mail(&self) {
        self.has_mail.swap(true, Ordering::AcqRel);
    }

    /// The worker looks now: what is put in later is noted again.
    pub(super) fn opened(&self) {
        self.has_mail.swap(false, Ordering::AcqRel);
    }

    /// Something was put in: has the worker look here.
    pub(super) fn wake(&self) {
        self.note_mail();
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

/// From the workers to the follower, which can be woken.
pub(super) struct Questions {
    queue: ArrayQueue<(InterfaceId, IpAddr)>,
    /// Ports that join and leave; these come from the thread that tends the runtime.
    changes: PortChanges,
    /// Ports (of transport protocols) that sockets want, no more than may wait; and those that they want no longer, which
    /// are no more than were granted.
    wishes: SegQueue<Wish>,
    wake: OwnedFd,
    stopping: AtomicBool,
}

impl Questions {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            queue: ArrayQueue::new(QUESTIONS_MAX),
            changes: PortChanges::default(),
            wishes: SegQueue::new(),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            stopping: AtomicBool::new(false),
        })
    }

    /// Puts a question. One system call; the stack repeats each question once a second at most.
    pub(super) fn ask(&self, interface: InterfaceId, address: IpAddr) {
        if self.queue.push((interface, address)).is_ok() {
            self.wake();
        }
    }

    pub(super) fn next(&self) -> Option<(InterfaceId, IpAddr)> {
        self.queue.pop()
    }

    pub(super) fn next_change(&self) -> Option<PortChange> {
        self.changes.next()
    }

    /// Whether further ports may be asked for.
    pub(super) fn takes_wishes(&self) -> bool {
        !self.stopping() && self.wishes.len() < WISHES_MAX
    }

    /// Asks for a port. It comes back if nobody will answer. That a port is wanted no longer is never refused: it would stay
    /// ours.
    pub(super) fn wish(&self, wish: Wish) -> Result<(), Wish> {
        if self.stopping() || wish.step != Step::Release && !self.takes_wishes() {
            return Err(wish);
        }
        self.wishes.push(wish);
        self.wake();
        Ok(())
    }

    pub(super) fn next_wish(&self) -> Option<Wish> {
        self.wishes.pop()
    }

    /// The last change has been passed on.
    pub(super) fn change_done(&self) {
        self.changes.done();
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn wake(&self) {
        // A full counter means that the follower is being woken already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Forgets wake-ups that have been noticed. Call it before taking questions.
    pub(super) fn woken(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
    }
}

impl PortListener for Questions {
    fn joined(&self, port: u16, link: &Link) {
        self.changes.tell(PortChange::Joined { port, link: Box::new(link.clone()) });
        self.wake();
    }

    fn leaving(&self, port: u16, ifindex: u32) {
        let number = self.changes.tell(PortChange::Leaving { port, ifindex });
        self.wake();
        self.changes.wait(number);
    }
}

impl AsFd for Questions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::listener::{Listener, Transport};
    use super::super::ports::Ports;
    use super::*;

    #[test]
    fn ports_are_given_back_however_many_wishes_wait() {
        const PORTS: u16 = 600;
        let questions = Arc::new(Questions::new().unwrap());
        let ports = Ports::new(Some(Arc::clone(&questions)));
        let listener = |port| Listener { transport: Transport::Udp, at: ([0, 0, 0, 0], port).into() };
        (1..=PORTS).for_each(|port| ports.release(listener(port)));
        // Others are asked for when there is room again.
        let error = ports.reserve(listener(PORTS + 1)).unwrap_err();
        assert_eq!((error.raw_os_error(), ports.are_granted()), (Some(libc::ENETDOWN), false));
        let released: Vec<Listener> = std::iter::from_fn(|| questions.next_wish()).map(|wish| wish.listener).collect();
        assert_eq!(released, (1..=PORTS).map(listener).collect::<Vec<_>>());
        assert!(ports.are_granted());
    }

    #[test]
    fn what_is_put_in_behind_the_worker_that_looks_is_looked_for_again() {
        let mailbox = Mailbox::new();
        assert!(mailbox.is_empty());
        mailbox.updates.push(Update::Mtu(InterfaceId(0), 1_500)).unwrap();
        mailbox.wake();
        assert!(!mailbox.is_empty());
        mailbox.opened();
        assert!(mailbox.is_empty());
        mailbox.updates.push(Update::Mtu(InterfaceId(0), 9_000)).unwrap();
        mailbox.wake();
        assert!(!mailbox.is_empty());
    }
}
