//! A worker: one core, running to completion.
//!
//! One [`turn`](Worker::turn) receives a bounded burst from every port, walks the graph, transmits, and takes back what
//! has been sent. A turn never waits; when turns find nothing, the idle ladder (`idle`) spins, lets the kernel receive in
//! this thread's time, and sleeps until a packet, a deadline or a request (`control`).

mod batching;
mod control;
mod idle;
mod inflow;
mod places;
mod report;
mod sending;
mod slice;
mod waiting;
mod waker;
mod wakers;

pub use control::{Control, Gone};
pub use idle::Idle;
pub use report::{DEPARTED, NodeReport, PortReport, WorkerReport};
pub use waker::Waker;
pub use wakers::Wakers;

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::clock;
use crate::frame::{Batch, Pool};
use crate::graph::{BatchSizes, Graph, Turn};
use crate::ledger::Ledger;
use crate::port::{Port, PortCounters, Traffic};
use crate::trace::Probe;
use batching::BatchBound;
use control::Request;
use idle::{Ladder, Step};
use inflow::Inflow;
use waiting::{Unsent, Waiting};

/// Turns for which packets that a removed block let go may wait for room in a transmit ring.
const RELEASE_TURNS_MAX: u32 = 64;
/// Longest time to empty the rings at a stop.
const DRAIN_NS: u64 = 100_000_000;

/// What a worker is made of.
pub struct WorkerConfig {
    /// Number, for names and reports.
    pub number: usize,
    /// Core to run on; `None` leaves it to the scheduler.
    pub core: Option<usize>,
    /// What to do when there is nothing to do.
    pub idle: Idle,
}

/// One core's ports, graph and free frames.
pub struct Worker {
    config: WorkerConfig,
    /// A place each, taken or not; their number stays.
    ports: Vec<Box<dyn Port>>,
    /// Places up to the last that is taken.
    occupied: usize,
    waiting: Waiting,
    bounds: Vec<BatchBound>,
    graph: Graph,
    pool: Pool,
    batch: Batch,
    control: Arc<Control>,
    ladder: Ladder,
    inflow: Inflow,
    tally: Tally,
    /// Turns left in which sinks may keep what finds no room.
    releasing: u32,
    /// Follows packets while somebody traces.
    probe: Option<Box<Probe>>,
    /// Marks that frames inside blocks may carry from earlier traces, by bit.
    stale_marks: u64,
}

/// What a worker counts besides ports and blocks.
#[derive(Clone, Debug, Default)]
struct Tally {
    ledger: Ledger,
    originated: u64,
    delivered: u64,
    turns: u64,
    empty_turns: u64,
    sleeps: u64,
    wake_ups: u64,
    busy_polls: u64,
    yields: u64,
    /// In turns that moved packets.
    busy_ns: u64,
    /// Packets that found no room and were kept for the next turn.
    kept_back: u64,
    /// Packets in received batches.
    batched: u64,
    /// Received batches.
    batch_sizes: BatchSizes,
    /// What ports counted that have left.
    departed: PortCounters,
}

/// A worker on its own thread.
pub struct Running {
    /// The way to talk to it.
    pub control: Arc<Control>,
    thread: JoinHandle<Worker>,
}

impl Running {
    /// Whether the worker has ended.
    pub fn finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the worker's end (after [`Control::stop`]) and returns it, to be closed or inspected.
    pub fn join(self) -> std::thread::Result<Worker> {
        self.thread.join()
    }
}

impl Worker {
    /// Puts a worker together. `graph` was built for the names of `ports`, in this order; where a port may join later there
    /// is a [`Vacant`](crate::port::Vacant) one. The ports get their first frames to receive into.
    pub fn new(config: WorkerConfig, ports: Vec<Box<dyn Port>>, graph: Graph, pool: Pool) -> std::io::Result<Self> {
        Self::with_waker(config, ports, graph, pool, Arc::new(Waker::new()?))
    }

    /// The same, where the graph's blocks know already who wakes the worker ([`Wakers`]).
    pub fn with_waker(
        config: WorkerConfig,
        mut ports: Vec<Box<dyn Port>>,
        graph: Graph,
        mut pool: Pool,
        waker: Arc<Waker>,
    ) -> std::io::Result<Self> {
        for (at, port) in ports.iter_mut().enumerate() {
            port.set_number(at as u16);
            port.flush(&mut pool);
        }
        let control = Arc::new(Control::new(waker));
        Ok(Self {
            occupied: places::occupied(&ports),
            waiting: Waiting::new(&ports, control.waker())?,
            bounds: ports.iter().map(|_| BatchBound::default()).collect(),
            ladder: Ladder::new(config.idle),
            inflow: Inflow::default(),
            control,
            batch: Batch::with_capacity(batching::BATCH_MAX),
            tally: Tally::default(),
            releasing: 0,
            probe: None,
            stale_marks: 0,
            config,
            ports,
            graph,
            pool,
        })
    }

    /// The way to talk to the worker.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Starts the worker on a thread of its own.
    pub fn spawn(self) -> std::io::Result<Running> {
        let control = Arc::clone(&self.control);
        let name = format!("tailwater/{}", self.config.number);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let mut worker = self;
            worker.pin();
            worker.run();
            worker
        })?;
        Ok(Running { control, thread })
    }

    fn pin(&self) {
        slice::shorten();
        slice::sharpen();
        let Some(core) = self.config.core else { return };
        if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
            tracing::warn!(core, "could not pin worker {}; it may move between cores", self.config.number);
        }
    }

    /// Turns until [`Control::stop`].
    pub fn run(&mut self) {
        let mut now_ns = clock::now_ns();
        loop {
            let worked = self.turn(now_ns);
            if self.control.pending() && self.serve() {
                return self.drain();
            }
            let started_ns = std::mem::replace(&mut now_ns, clock::now_ns());
            if worked {
                self.tally.busy_ns += now_ns - started_ns;
                self.ladder.worked();
            } else {
                now_ns = self.idle(now_ns);
            }
        }
    }

    /// Turns until the rings are empty, for a bounded time: packets that had been received when the stop was asked for
    /// still get out.
    fn drain(&mut self) {
        let until_ns = clock::now_ns() + DRAIN_NS;
        loop {
            let now_ns = clock::now_ns();
            let worked = self.turn(now_ns);
            let unsent = self.graph.is_pending() || self.ports.iter_mut().any(|port| port.tx_pending() > 0);
            if now_ns > until_ns || !(worked || unsent) {
                return;
            }
        }
    }

    /// One turn; returns whether any packet moved.
    pub fn turn(&mut self, now_ns: u64) -> bool {
        // Many workers have one place: that there are no others need not be found out in each loop over them.
        if self.ports.len() == 1 { self.turn_over(1, now_ns) } else { self.turn_over(self.ports.len(), now_ns) }
    }

    /// One turn of a worker with so many places.
    #[inline(always)]
    fn turn_over(&mut self, places: usize, now_ns: u64) -> bool {
        self.tally.turns += 1;
        self.look_for_room(places);
        let mut received = 0;
        for at in 0..self.occupied.min(places) {
            received += self.receive(at, now_ns);
        }
        match &self.probe {
            None => self.graph.run(&mut turn(now_ns, &mut self.pool, &mut self.tally)),
            Some(_) => self.run_traced(now_ns),
        }
        let worked = received + self.send(places, now_ns) > 0;
        self.tally.empty_turns += u64::from(!worked);
        if self.probe.as_ref().is_some_and(|probe| probe.is_done()) {
            self.end_trace();
        }
        worked
    }

    /// Hands a burst from one port to the graph; returns its size.
    #[inline(always)]
    fn receive(&mut self, at: usize, now_ns: u64) -> usize {
        let Self { ports, bounds, graph, pool, batch, tally, probe, .. } = self;
        // Where nobody follows packets, straight to their block.
        let intake = if probe.is_none() { graph.intake(at) } else { None };
        let is_there = intake.is_some();
        let n = ports[at].receive(pool, &mut tally.ledger, intake.unwrap_or(batch), bounds[at].get());
        bounds[at].observe(n);
        if n > 0 {
            tally.batched += n as u64;
            tally.batch_sizes.count(n);
            if !is_there {
                self.ingest(at, now_ns);
            }
        }
        n
    }

    #[inline(never)]
    fn ingest(&mut self, at: usize, now_ns: u64) {
        let Self { graph, pool, batch, tally, probe, .. } = self;
        match probe {
            None => graph.ingest(at, batch, &mut turn(now_ns, pool, tally)),
            Some(probe) => graph.ingest_traced(probe, at, batch, &mut turn(now_ns, pool, tally)),
        }
    }

    #[cold]
    #[inline(never)]
    fn run_traced(&mut self, now_ns: u64) {
        let Self { graph, pool, tally, probe, .. } = self;
        if let Some(probe) = probe {
            graph.run_traced(probe, &mut turn(now_ns, pool, tally));
        }
    }

    /// Does nothing in the cheapest way; returns the time.
    fn idle(&mut self, now_ns: u64) -> u64 {
        let Self { ladder, inflow, graph, ports, .. } = self;
        let traffic = || ports.iter().fold(Traffic::default(), |sum, port| sum + port.traffic());
        match ladder.step(now_ns, || graph.deadline_ns(), || inflow.is_bulk(now_ns, traffic)) {
            // The pause is too short to tell.
            Step::Spin => {
                std::hint::spin_loop();
                return now_ns;
            }
            Step::Yield => {
                self.tally.yields += 1;
                std::thread::yield_now();
            }
            Step::BusyPoll => {
                self.tally.busy_polls += 1;
                if !self.ports.iter_mut().fold(false, |any, port| port.busy_poll() | any) {
                    self.ladder.no_busy_poll();
                }
            }
            Step::Nap { until_ns } => self.sleep(now_ns, until_ns, true),
            Step::Sleep { until_ns } => self.sleep(now_ns, until_ns, false),
        }
        clock::now_ns()
    }

    /// Sleeps, unless something has come while this was announced. Packets do not end a nap.
    fn sleep(&mut self, now_ns: u64, until_ns: u64, nap: bool) {
        let Self { ports, occupied, waiting, graph, control, tally, pool, .. } = self;
        let waker = control.waker();
        waker.announce();
        let due = graph.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= now_ns);
        if !due && !control.pending() {
            tally.sleeps += 1;
            let in_rings = ports.iter_mut().map(|port| Unsent::at(port.as_mut())).max();
            let unsent = if graph.is_pending() { Unsent::Refused } else { in_rings.unwrap_or(Unsent::Nothing) };
            if nap {
                waiting.nap(waker, now_ns, until_ns);
            } else {
                ports[..*occupied].iter_mut().for_each(|port| port.rest(pool));
                waiting.sleep(&ports[..*occupied], waker, now_ns, until_ns, unsent);
            }
        }
        tally.wake_ups += u64::from(waker.awake());
    }

    /// Answers requests; returns whether to stop.
    fn serve(&mut self) -> bool {
        while let Some(request) = self.control.next() {
            match request {
                Request::Stop => return true,
                Request::Change => self.change(),
                Request::Trace => self.begin_trace(),
                Request::EndTrace => self.end_trace(),
                Request::Report => {
                    let Self { config, ports, graph, pool, tally, control, .. } = self;
                    control.publish(|report| report::fill(report, config, ports, graph, pool, tally));
                }
            }
        }
        false
    }

    /// Exchanges the graph, or ports, for proposed ones, between two turns; the next follows at once, so that what removed
    /// blocks let go is on its way before anything else happens.
    fn change(&mut self) {
        let started_ns = clock::now_ns();
        let Some(mut plan) = self.control.proposed() else { return };
        // Places have other numbers in another graph.
        self.end_trace();
        plan.perform(&mut self.graph, &mut turn(started_ns, &mut self.pool, &mut self.tally));
        if plan.refusal.is_none() {
            plan.seats.iter_mut().for_each(|seat| self.reseat(seat));
        }
        plan.stall_ns = clock::now_ns() - started_ns;
        self.control.give_back(plan);
        self.releasing = if self.graph.is_pending() { RELEASE_TURNS_MAX } else { 0 };
        self.turn(clock::now_ns());
    }

    fn begin_trace(&mut self) {
        if let Some(mut probe) = self.control.new_probe() {
            self.end_trace();
            probe.avoid(self.stale_marks);
            self.probe = Some(probe);
        }
    }

    #[cold]
    fn end_trace(&mut self) {
        if let Some(probe) = self.probe.take() {
            self.stale_marks = probe.left_behind();
            self.control.show_trace(probe);
        }
    }

    /// A report of everything counted so far.
    pub fn report(&self) -> WorkerReport {
        let mut report = WorkerReport::default();
        report::fill(&mut report, &self.config, &self.ports, &self.graph, &self.pool, &self.tally);
        report
    }

    /// Takes back what has been sent meanwhile, after the worker has ended; returns this worker's share of the segments
    /// still under way ([`Port::tx_in_flight`]).
    pub fn reclaim(&mut self) -> i64 {
        let Self { ports, pool, .. } = self;
        ports.iter_mut().for_each(|port| port.flush(pool));
        ports.iter().map(|port| port.tx_in_flight()).sum()
    }

    /// Ends the worker: what blocks hold is dropped and counted, ports give their frames back.
    ///
    /// For AF_XDP call it after the program is detached and the grace period has passed.
    pub fn close(mut self) -> WorkerReport {
        self.graph.drain(&mut turn(0, &mut self.pool, &mut self.tally));
        self.ports.iter_mut().for_each(|port| port.close(&mut self.pool));
        self.report()
    }
}

fn turn<'a>(now_ns: u64, pool: &'a mut Pool, tally: &'a mut Tally) -> Turn<'a> {
    let Tally { ledger, originated, delivered, .. } = tally;
    Turn { now_ns, pool, ledger, originated, delivered }
}
