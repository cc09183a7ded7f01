//! Talking to a running worker: requests go through a lock-free queue, the worker looks at one flag per turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::report::WorkerReport;
use super::waker::Waker;
use crate::graph::Plan;
use crate::trace::Probe;

/// Requests under way at once; more are refused.
const REQUESTS_MAX: usize = 16;

/// What the worker is asked to do.
pub(super) enum Request {
    Report,
    /// Look into the inbox for a plan.
    Change,
    /// Look for a probe.
    Trace,
    /// Give the probe back.
    EndTrace,
    Stop,
}

/// The worker does not answer: it has ended, or a turn takes longer than the time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker does not answer; it may have stopped")]
pub struct Gone;

/// Shared between a worker and whoever controls it.
pub struct Control {
    requests: ArrayQueue<Request>,
    pending: AtomicBool,
    waker: Arc<Waker>,
    /// A change to be made. Who put it in can take it out again as long as the worker has not.
    inbox: ArrayQueue<Box<Plan>>,
    /// A change that was made or refused, for its maker to free.
    outbox: ArrayQueue<Box<Plan>>,
    /// A probe for the worker to take up, and one that it is done with.
    probe: ArrayQueue<Box<Probe>>,
    /// Whether a probe is under way, wherever it is.
    probing: AtomicBool,
    traced: ArrayQueue<Box<Probe>>,
    report: Mutex<(u64, WorkerReport)>,
    reported: Condvar,
}

impl Control {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self {
            requests: ArrayQueue::new(REQUESTS_MAX),
            pending: AtomicBool::new(false),
            waker,
            inbox: ArrayQueue::new(1),
            outbox: ArrayQueue::new(1),
            probe: ArrayQueue::new(1),
            probing: AtomicBool::new(false),
            traced: ArrayQueue::new(1),
            report: Mutex::default(),
            reported: Condvar::new(),
        }
    }

    fn ask(&self, request: Request) -> Result<(), Gone> {
        self.requests.push(request).map_err(|_| Gone)?;
        self.pending.store(true, Ordering::Release);
        self.waker.wake();
        Ok(())
    }

    /// Asks the worker to end after its current turn.
    pub fn stop(&self) {
        if self.ask(Request::Stop).is_err() {
            self.requests.force_push(Request::Stop);
            self.pending.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    /// Asks for the worker's counters and waits at most `timeout` for them.
    pub fn report(&self, timeout: Duration) -> Result<WorkerReport, Gone> {
        let held = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = held.0;
        self.ask(Request::Report)?;
        let (held, waited) = self
            .reported
            .wait_timeout_while(held, timeout, |held| held.0 == seen)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() { Err(Gone) } else { Ok(held.1.clone()) }
    }

    /// Puts a plan in front of the worker; it comes back by [`finished`](Self::finished). Given back at once if another
    /// one is under way.
    pub(crate) fn propose(&self, plan: Box<Plan>) -> Result<(), Box<Plan>> {
        self.inbox.push(plan)?;
        // Too many requests wait; the plan is proposed again later.
        if self.ask(Request::Change).is_err() {
            return self.withdraw().map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Takes a proposed plan back, if the worker has not begun with it.
    pub(crate) fn withdraw(&self) -> Option<Box<Plan>> {
        self.inbox.pop()
    }

    /// The plan that the worker is done with.
    pub(crate) fn finished(&self) -> Option<Box<Plan>> {
        self.outbox.pop()
    }

    /// The plan that waits for the worker.
    pub(super) fn proposed(&self) -> Option<Box<Plan>> {
        self.inbox.pop()
    }

    /// Gives a plan back. There is room: only one is under way.
    pub(super) fn give_back(&self, plan: Box<Plan>) {
        let given = self.outbox.push(plan);
        debug_assert!(given.is_ok(), "two plans were under way");
    }

    /// Puts a probe in front of the worker; it comes back by [`traced`](Self::traced). Given back at once if another one
    /// is under way.
    pub(crate) fn arm(&self, probe: Box<Probe>) -> Result<(), Box<Probe>> {
        if self.probing.swap(true, Ordering::AcqRel) {
            return Err(probe);
        }
        let refused = self.probe.push(probe).err();
        let refused = refused.or_else(|| self.ask(Request::Trace).err().and_then(|_| self.probe.pop()));
        refused.map_or(Ok(()), |probe| {
            self.probing.store(false, Ordering::Release);
            Err(probe)
        })
    }

    /// Asks for the probe back; one that the worker has not taken up yet is taken away.
    pub(crate) fn disarm(&self) {
        match self.probe.pop() {
            Some(probe) => self.show_trace(probe),
            // Where requests are full, whoever waits asks again.
            None => drop(self.ask(Request::EndTrace)),
        }
    }

    /// Wakes the worker, to see whether it is done.
    pub(crate) fn nudge(&self) {
        // Where requests are full it is awake.
        let _ = self.ask(Request::Trace);
    }

    /// The probe that the worker is done with.
    pub(crate) fn traced(&self) -> Option<Box<Probe>> {
        let probe = self.traced.pop();
        if probe.is_some() {
            self.probing.store(false, Ordering::Release);
        }
        probe
    }

    /// The probe that waits for the worker.
    pub(super) fn new_probe(&self) -> Option<Box<Probe>> {
        self.probe.pop()
    }

    /// Gives a probe back. There is room: only one is under way.
    pub(super) fn show_trace(&self, probe: Box<Probe>) {
        let given = self.traced.push(probe);
        debug_assert!(given.is_ok(), "two probes were under way");
    }

    /// Whether a request waits. One load of a line that rarely changes.
    #[inline]
    pub(super) fn pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn next(&self) -> Option<Request> {
        self.pending.store(false, Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::SeqCst);
        self.requests.pop()
    }

    /// Shows a report. Skipped while a reader copies the last one: the worker never waits, the reader asks again.
    pub(super) fn publish(&self, fill: impl FnOnce(&mut WorkerReport)) {
        match self.report.try_lock() {
            Ok(mut held) => {
                fill(&mut held.1);
                held.0 += 1;
                self.reported.notify_all();
            }
            Err(_) => {
                let _ = self.ask(Request::Report);
            }
        }
    }

    /// Wakes the worker, for whoever has left something where it looks in each turn.
    pub fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }
}
