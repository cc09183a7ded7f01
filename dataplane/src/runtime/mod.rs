//! A running dataplane: interfaces opened, workers started, and a way to stop them that loses nothing silently.
//!
//! Order of start: memory, shared maps, and for each interface program, sockets, rings; then the workers; last the
//! sockets go into the program's map, so that the first packet finds everything in place.
//! Order of stop: programs detach, the kernel's grace period passes, workers empty their rings, ports give frames back.

mod config;
mod interface;
mod listener;
mod members;
mod text;

pub use config::{Backend, FollowGroup, InterfaceConfig, PortListeners, RuntimeConfig};
pub use interface::InterfaceReport;
pub use listener::PortListener;
pub(crate) use listener::{PortChange, PortChanges};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tailwater_netlink::Control as Netlink;
use tailwater_xdp::{Indirection, Limits, Place, Shared};

use crate::block::{PortNames, Registry, Services};
use crate::frame::{Pages, Pool, Region, RegionConfig, RegionError};
use crate::graph::{Graph, GraphError, GraphSpec};
use crate::live::{Change, ChangeError, EventLog, Live, Transaction};
use crate::port::{Port, PortError, Vacant};
use crate::surroundings::Surroundings;
use crate::trace::{Trace, TraceConfig, TraceError, Tracer};
use crate::worker::{Control, DEPARTED, Running, Wakers, Worker, WorkerConfig, WorkerReport};
use interface::Interface;
use members::Attendance;

/// Time that a worker has to answer a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Looks at the completion rings at a stop, and the pause between two: 50 ms in all, for packets that another CPU's
/// softirq has not dealt with yet.
const COMPLETION_LOOKS_MAX: u32 = 50;
const COMPLETION_PAUSE: Duration = Duration::from_millis(1);

/// Why a dataplane did not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RuntimeError {
    #[error(transparent)]
    Memory(#[from] RegionError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Steering(#[from] tailwater_xdp::Error),
    #[error(transparent)]
    Netlink(#[from] tailwater_netlink::Error),
    #[error("{what}: {error}")]
    System { what: &'static str, error: std::io::Error },
    #[error("no interface given; use -i NAME")]
    NoInterface,
    #[error("interface {0:?} is given twice")]
    DuplicateInterface(String),
    #[error("a worker ended with a panic")]
    WorkerPanicked,
}

/// What a dataplane did, as plain data.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// Interfaces with the program's verdicts.
    pub interfaces: Vec<InterfaceReport>,
    /// Workers with their ports and blocks.
    pub workers: Vec<WorkerReport>,
    /// Frames in the region.
    pub frames: usize,
    /// Pages of the region.
    pub pages: &'static str,
    /// Frames that were dropped outside any pool: a bug if not 0.
    pub frames_strayed: u64,
    /// Frames not back in the region; only known after a stop, where anything but 0 is a leak.
    pub frames_missing: Option<usize>,
}

/// Interfaces and workers at work.
pub struct Runtime {
    config: RuntimeConfig,
    /// By port index.
    places: Vec<Option<Interface>>,
    workers: Vec<Running>,
    region: Arc<Region>,
    shared: Option<Shared>,
    netlink: Netlink,
    live: Live,
    attendance: Attendance,
    departed: Departed,
    tracer: Option<Tracer>,
}

/// Verdicts of interfaces that have left.
#[derive(Default)]
struct Departed {
    verdicts: BTreeMap<&'static str, (u64, u64)>,
}

impl Departed {
    fn add(&mut self, report: &InterfaceReport) {
        for &(name, packets, bytes) in &report.verdicts {
            let sum = self.verdicts.entry(name).or_default();
            *sum = (sum.0 + packets, sum.1 + bytes);
        }
    }

    fn report(&self) -> Option<InterfaceReport> {
        let verdicts: Vec<_> = self.verdicts.iter().map(|(&name, &(packets, bytes))| (name, packets, bytes)).collect();
        let description = format!("{DEPARTED}: interfaces that have left");
        let report = InterfaceReport { name: DEPARTED.into(), ifindex: 0, description, verdicts };
        (!self.verdicts.is_empty()).then_some(report)
    }
}

impl Runtime {
    /// Opens the interfaces, builds `graph(worker, ports)` for each worker and starts them.
    ///
    /// `services` are handed to blocks' constructors.
    pub fn start(
        config: &RuntimeConfig,
        registry: &Registry,
        services: &Services,
        graph: impl Fn(&[String]) -> GraphSpec,
    ) -> Result<Self, RuntimeError> {
        let mut netlink = Netlink::open()?;
        let attendance = Attendance::open()?;
        let links = interface::links(&mut netlink, &config.interfaces)?;
        let cores = config.cores.clone();
        let workers = cores.len().max(1);
        let memory = interface::memory_for(config, &links, workers);
        let needs_umem = config.interfaces.iter().any(|interface| interface.backend != Backend::Packet);
        let region = if needs_umem { Region::for_af_xdp(memory)? } else { Region::in_process(memory)? };
        if region.pages() == Pages::Ordinary && memory.huge_pages {
            tracing::info!(
                "packet memory: no huge pages free, using ordinary ones (sysctl vm.nr_hugepages raises them)"
            );
        }
        let shared = match &config.shared {
            Some(shared) => Some(shared.clone()),
            None if needs_umem => Some(Shared::new(Limits::default())?),
            None => None,
        };
        if let Some(shared) = &shared {
            shared.set_indirection(&Indirection::even(workers as u8));
        }
        let pools: Vec<Pool> = (0..workers).map(|_| Pool::new(Arc::clone(&region))).collect();
        let mut interfaces = Vec::new();
        let mut ends: Vec<Vec<Box<dyn Port>>> = (0..workers).map(|_| Vec::new()).collect();
        for (wanted, link) in config.interfaces.iter().zip(&links) {
            let (mut interface, ports) = Interface::open(wanted, link, config, &region, shared.as_ref(), workers)?;
            interface.is_member = config.follow.as_ref().is_some_and(|follow| follow.number == link.group);
            interfaces.push(interface);
            ports.into_iter().enumerate().for_each(|(worker, port)| ends[worker].push(port));
        }
        if config.place == Place::Kernel {
            // Every interface may forward to every other, itself included. Native programs are pickier about the way out.
            let pickiest = interfaces.iter().find(|interface| interface.is_native()).or(interfaces.first());
            if let Some(interface) = pickiest {
                links.iter().try_for_each(|link| interface.add_tx_port(link.ifindex))?;
            }
        }
        let mut names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
        let spec = graph(&names);
        let mut places: Vec<Option<Interface>> = interfaces.into_iter().map(Some).collect();
        places.resize_with(config.places(), || None);
        names.resize_with(config.places(), String::new);
        ends.iter_mut().for_each(|ports| ports.resize_with(config.places(), || Box::new(Vacant::default())));
        let mut services = services.clone();
        services.insert(Arc::new(PortNames(names.clone())));
        services.insert(Arc::new(Surroundings { place: config.place, shared: shared.clone() }));
        let wakers = Wakers::new(workers).map_err(|error| RuntimeError::System { what: "creating a waker", error })?;
        let wakers = Arc::new(wakers);
        services.insert(Arc::clone(&wakers));
        let mut ready = Vec::new();
        for (number, ((ports, pool), waker)) in ends.into_iter().zip(pools).zip(wakers.iter()).enumerate() {
            let mut services = services.clone();
            services.worker = number;
            let graph = Graph::build(&spec, registry, &services, &names)?;
            let worker = WorkerConfig { number, core: cores.get(number).copied(), idle: config.idle };
            let worker = Worker::with_waker(worker, ports, graph, pool, Arc::clone(waker));
            ready.push(worker.map_err(|error| RuntimeError::System { what: "creating a worker", error })?);
        }
        let controls = ready.iter().map(|worker| Arc::clone(worker.control())).collect();
        let live = Live::new(spec, registry.clone(), services, names, controls, ANSWER_TIMEOUT)?;
        let config = config.clone();
        let (workers, departed, tracer) = (Vec::new(), Departed::default(), None);
        let mut runtime = Self { config, places, workers, region, shared, netlink, live, attendance, departed, tracer };
        for worker in ready {
            let running = worker.spawn();
            runtime.workers.push(running.map_err(|error| RuntimeError::System { what: "starting a worker", error })?);
        }
        runtime.places.iter_mut().flatten().try_for_each(Interface::let_in)?;
        Ok(runtime)
    }

    /// The maps that all interfaces' programs share; `None` where no interface uses XDP.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// Names and kernel indices of the interfaces that are here now, in port order.
    pub fn interfaces(&self) -> impl Iterator<Item = (&str, u32)> {
        self.places.iter().flatten().map(|interface| (interface.name(), interface.ifindex()))
    }

    /// MTU of the interface at a place, in bytes, as its ports know it.
    pub(crate) fn mtu(&self, port: u16) -> Option<u32> {
        self.places.get(usize::from(port))?.as_ref().map(Interface::mtu)
    }

    /// One line per interface and one for memory: what was probed, chosen, and why.
    pub fn describe(&self) -> Vec<String> {
        let memory = format!(
            "memory: {} frames of {} bytes on {} pages",
            self.region.chunks(),
            self.region.chunk_len(),
            pages_name(&self.region),
        );
        self.places.iter().flatten().map(Interface::describe).chain([memory]).collect()
    }

    /// Ways to talk to the workers, by worker number.
    pub fn controls(&self) -> Vec<Arc<Control>> {
        self.workers.iter().map(|worker| Arc::clone(&worker.control)).collect()
    }

    /// Changes the running graph; see [`Live::change`].
    pub fn change(&mut self, transaction: &Transaction) -> Result<Change, ChangeError> {
        self.live.change(transaction)
    }

    /// Undoes the last change; see [`Live::undo`].
    pub fn undo(&mut self, base: Option<u64>, dry_run: bool, who: &str) -> Result<Change, ChangeError> {
        self.live.undo(base, dry_run, who)
    }

    /// The running graph and its version.
    pub fn graph(&self) -> (u64, &GraphSpec) {
        self.live.graph()
    }

    /// What happened to the graph so far, and what will.
    pub fn events(&self) -> Arc<EventLog> {
        self.live.events()
    }

    /// The kinds of blocks that the graph can have.
    pub fn registry(&self) -> &Registry {
        self.live.registry()
    }

    /// Begins to follow packets. One trace runs at a time; it ends by itself when nobody asks for it
    /// ([`traced`](Self::traced)) for ten seconds.
    pub fn trace(&mut self, config: &TraceConfig) -> Result<(), TraceError> {
        if self.tracer.as_mut().is_some_and(|tracer| !tracer.is_over()) {
            return Err(TraceError::Busy);
        }
        self.tracer = Some(Tracer::begin(config, self.controls(), &self.live)?);
        Ok(())
    }

    /// What has been followed so far; with `end` that is all. `None` where no trace was begun, or its end was told.
    pub fn traced(&mut self, end: bool) -> Option<Trace> {
        let trace = self.tracer.as_mut()?.look(end);
        if trace.done {
            self.tracer = None;
        }
        Some(trace)
    }

    /// Everything counted so far. Workers that do not answer are missing.
    pub fn report(&mut self) -> Report {
        let workers = self.workers.iter().filter_map(|worker| worker.control.report(ANSWER_TIMEOUT).ok()).collect();
        self.assemble(workers, None)
    }

    fn assemble(&mut self, mut workers: Vec<WorkerReport>, frames_missing: Option<usize>) -> Report {
        for interface in self.places.iter().flatten() {
            let Some(alias) = interface.alias() else { continue };
            let ports = workers.iter_mut().flat_map(|worker| &mut worker.ports).filter(|port| port.name == alias);
            ports.for_each(|port| port.name = interface.name().to_owned());
        }
        let present = self.places.iter_mut().flatten().map(Interface::report);
        Report {
            interfaces: present.chain(self.departed.report()).collect(),
            workers,
            frames: self.region.chunks(),
            pages: pages_name(&self.region),
            frames_strayed: self.region.strayed(),
            frames_missing,
        }
    }

    /// Whether all workers still run. A worker only ends early by a panic.
    pub fn alive(&self) -> bool {
        self.workers.iter().all(|worker| !worker.finished())
    }

    /// Stops: detaches the programs, lets workers empty their rings, takes all frames back, reports.
    pub fn stop(mut self) -> Result<Report, RuntimeError> {
        self.places.iter_mut().flatten().for_each(Interface::detach);
        grace_period();
        self.workers.iter().for_each(|worker| worker.control.stop());
        let ended = std::mem::take(&mut self.workers).into_iter().map(Running::join).collect::<Result<Vec<_>, _>>();
        let mut ended = ended.map_err(|_| RuntimeError::WorkerPanicked)?;
        let under_way = await_completions(&mut ended);
        let reports = ended.into_iter().map(Worker::close).collect();
        let unsent = self.region.settle();
        tracing::debug!(under_way, unsent, "segments that the kernel had not sent");
        let missing = self.region.chunks() - self.region.at_home();
        if missing > 0 {
            let owners = self.region.missing_by_owner();
            tracing::warn!(missing, ?owners, "frames did not come back");
        }
        Ok(self.assemble(reports, Some(missing)))
    }
}

impl Drop for Runtime {
    /// For the error path: a runtime that is dropped without `stop` still ends its threads.
    fn drop(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        self.places.iter_mut().flatten().for_each(Interface::detach);
        grace_period();
        self.workers.iter().for_each(|worker| worker.control.stop());
        for worker in std::mem::take(&mut self.workers) {
            if let Ok(worker) = worker.join() {
                worker.close();
            }
        }
    }
}

/// Gives the kernel a bounded time to send what it has taken, so that its frames come home; returns what is left.
fn await_completions(ended: &mut [Worker]) -> i64 {
    let mut under_way = 0;
    for _ in 0..COMPLETION_LOOKS_MAX {
        under_way = ended.iter_mut().map(Worker::reclaim).sum();
        if under_way == 0 {
            break;
        }
        std::thread::sleep(COMPLETION_PAUSE);
    }
    under_way
}

fn pages_name(region: &Region) -> &'static str {
    match region.pages() {
        Pages::Huge => "huge",
        Pages::Ordinary => "ordinary",
    }
}

/// Waits until no CPU runs an XDP program that was attached before: a global memory barrier waits for an RCU grace
/// period (membarrier(2)), and programs run inside one.
fn grace_period() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier has no memory arguments.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // Kernels with nohz_full refuse it; a scheduling tick or two on each CPU is as good.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Memory for `config`, so that callers can say it before they start.
pub fn memory_for(config: &RuntimeConfig) -> Result<RegionConfig, RuntimeError> {
    let links = interface::links(&mut Netlink::open()?, &config.interfaces)?;
    Ok(interface::memory_for(config, &links, config.cores.len().max(1)))
}
