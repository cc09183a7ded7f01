//! A dataplane that runs until it is told to stop.
//!
//! 1. Signals are taken over and privileges checked, before anything that must be undone.
//! 2. The runtime starts; what it probed, chose and why goes to standard error.
//! 3. The command's own part begins (`begin`), then the control socket; then `ready` on standard output.
//! 4. Progress, until SIGINT, SIGTERM, `--duration`, or a worker ends.
//! 5. The runtime stops: programs detach, rings empty, frames come home; the summary is printed.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::forwarding::ForwardingPlane;
use tailwater_dataplane::graph::GraphSpec;
use tailwater_dataplane::live::{Change, ChangeError, EventLog, Transaction};
use tailwater_dataplane::runtime::{Runtime, RuntimeConfig};
use tailwater_dataplane::service::{Census, Prepared};
use tailwater_xdp::{Host, Place};

use crate::common::Common;
use crate::control::{
    Caller, Changed, Connections, ConnectionsQuery, Dump, Identity, KindInfo, Link, Links, Refusal, Request, Server,
};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::metrics::{Endpoint, Serving};
use crate::napi::NapiThreads;
use crate::output;
use crate::progress::Progress;
use crate::snapshot::{Counts, Snapshot, add};
use crate::summary;

/// How often it is checked that the workers are alive.
const LOOK: Duration = Duration::from_millis(200);
/// Interfaces named when they are announced; more are counted.
const NAMES_MAX: usize = 16;
/// How often changes of the interfaces are taken up.
const TEND: Duration = Duration::from_secs(1);

const KERNEL_NOTE: &str = "the XDP program forwards most packets itself (--place xdp): blocks see only the others";

/// What a command adds to a running dataplane: threads, registrations, counters. Dropped after the stop.
pub(crate) trait Part: Send {
    /// The command's own counters, for summaries, JSON and `stats`.
    fn counters(&self) -> Counts {
        Counts::new()
    }

    /// What went wrong meanwhile, if that is reason to stop; asked once more when it has come to its end.
    fn failure(&mut self) -> Option<anyhow::Error> {
        None
    }

    /// Whether the command has done what it was started for, by its own account.
    fn is_done(&mut self) -> bool {
        false
    }

    /// How often the part is asked.
    fn look(&self) -> Duration {
        LOOK
    }

    /// Whether `enough` is to be asked several times a second.
    fn looks(&self) -> bool {
        false
    }

    /// Whether the command has done what it was started for.
    fn enough(&mut self, snapshot: &Snapshot) -> bool {
        let _ = snapshot;
        false
    }

    /// Whether standard output carries packets: what people read there goes to standard error then.
    fn owns_stdout(&self) -> bool {
        false
    }

    /// Whether a line on progress is wanted now and then.
    fn shows_progress(&self) -> bool {
        true
    }

    /// It is time to stop, and the dataplane still runs: for a last word, soon.
    fn ending(&mut self) {}

    /// Called between the stop of the dataplane and the summary.
    fn stopped(&mut self) {}
}

/// Nothing to add.
impl Part for () {}

/// What to run.
pub(crate) struct Plan<'a> {
    /// Name of the subcommand.
    pub(crate) command: &'static str,
    pub(crate) common: &'a Common,
    pub(crate) config: RuntimeConfig,
    pub(crate) registry: Registry,
    pub(crate) services: Services,
    /// Lines to print before what the runtime says.
    pub(crate) notes: Vec<String>,
}

/// The running dataplane, shared between the main thread and the control socket.
struct Shared {
    command: &'static str,
    started: Instant,
    /// What those who change the graph should know.
    note: Option<String>,
    /// What became of those who asked for metrics.
    scrapes: OnceLock<Box<dyn Fn() -> Counts + Send + Sync>>,
    /// The links as the forwarder sees them, where there is one.
    plane: Option<Arc<ForwardingPlane>>,
    /// Who lists connections, where there are any.
    census: Option<Arc<Census>>,
    /// `None` once it is being stopped.
    running: Mutex<Option<(Runtime, Box<dyn Part>)>>,
}

impl<'a> Plan<'a> {
    /// A host that `prepared` makes, from blocks of our own. It hears of the interfaces that come and go.
    pub(crate) fn of_host(
        command: &'static str,
        common: &'a Common,
        mut config: RuntimeConfig,
        prepared: &Prepared,
    ) -> Self {
        config.listeners.0.push(prepared.listener());
        let (services, notes) = (prepared.services().clone(), prepared.notes().to_vec());
        Self { command, common, config, registry: Registry::builtin(), services, notes }
    }

    /// Runs it. `graph` makes the packet graph for the ports' names; `begin` runs between the start of the dataplane and
    /// `ready`.
    pub(crate) fn run<P: Part + 'static>(
        self,
        graph: impl Fn(&[String]) -> GraphSpec,
        begin: impl FnOnce(&mut Runtime) -> anyhow::Result<P>,
    ) -> anyhow::Result<()> {
        let interrupt = Interrupt::listen()?;
        check_privileges()?;
        let Self { command, common, config, registry, services, notes } = self;
        let endpoint = common.metrics.map(Endpoint::bind).transpose()?;
        notes.iter().for_each(output::note);
        let mut runtime = Runtime::start(&config, &registry, &services, &graph)?;
        runtime.describe().iter().for_each(output::note);
        let napi = match common.napi_thread {
            true => NapiThreads::start(runtime.interfaces(), &config.cores, common.napi_nice)?,
            false => NapiThreads::default(),
        };
        napi.notes.iter().for_each(output::note);
        let part = begin(&mut runtime)?;
        let print: fn(String) = if part.owns_stdout() { |line| output::note(line) } else { |line| output::line(line) };
        let events = runtime.events();
        let shared = Arc::new(Shared {
            command,
            started: Instant::now(),
            note: (config.place == Place::Kernel).then(|| KERNEL_NOTE.to_owned()),
            scrapes: OnceLock::new(),
            plane: services.find(),
            census: services.find(),
            running: Mutex::new(Some((runtime, Box::new(part)))),
        });
        let server = listen(&shared, events);
        let metrics = endpoint.map(|endpoint| serve(&shared, endpoint)).transpose()?;
        print(shared.announcement(common.json, metrics.as_ref()));
        let ended = shared.watch(common, &interrupt);
        drop((server, metrics));
        let (snapshot, failure) = shared.stop(napi)?;
        print(match common.json {
            true => json!({ "event": "summary", "report": snapshot }).to_string(),
            false => summary::brief(&snapshot),
        });
        ended.and(failure.map_or(Ok(()), Err))
    }
}

/// A control socket is a convenience: without it the dataplane still does its work.
fn listen(shared: &Arc<Shared>, events: Arc<EventLog>) -> Option<Server> {
    let asked = Arc::clone(shared);
    match Server::start(events, move |request, caller| asked.answer(request, caller)) {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(%error, "no control socket; `tailwater stats` will not find this process");
            None
        }
    }
}

/// Who asks for metrics asks for it: that they cannot be served is an error.
fn serve(shared: &Arc<Shared>, endpoint: Endpoint) -> anyhow::Result<Serving> {
    let asked = Arc::clone(shared);
    let serving = endpoint.serve(move || asked.snapshot())?;
    // Set once: a process serves metrics at one address.
    let _ = shared.scrapes.set(Box::new(serving.counts()));
    output::note(format_args!("metrics: http://{}/metrics", serving.address()));
    Ok(serving)
}

/// Names of the interfaces that are here now.
fn names(runtime: &Runtime) -> Vec<String> {
    runtime.interfaces().map(|(name, _)| name.to_owned()).collect()
}

fn stopping() -> Refusal {
    Refusal::new("busy", "this process is stopping")
}

/// A client, for the record.
fn who(caller: Caller) -> String {
    format!("pid {} of user {}", caller.pid, caller.uid)
}

/// Refuses before anything is touched; the kernel's own refusals come one by one and name no capability.
pub(crate) fn check_privileges() -> anyhow::Result<()> {
    let missing = Host::ask().missing_capabilities;
    if missing.is_empty() {
        return Ok(());
    }
    let hint = "run as root, or `setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep` on this program";
    Err(Failure::new(format!("not permitted: {} missing", missing.join(", ")), hint).into())
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Option<(Runtime, Box<dyn Part>)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uptime_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn announcement(&self, json: bool, metrics: Option<&Serving>) -> String {
        let names = self.running().as_ref().map(|(runtime, _)| names(runtime)).unwrap_or_default();
        let shown = match names.len() {
            ..=NAMES_MAX => names.join(", "),
            n => format!("{n} interfaces"),
        };
        let pid = std::process::id();
        match json {
            true => {
                let metrics = metrics.map(Serving::address);
                json!({ "event": "ready", "command": self.command, "pid": pid, "metrics": metrics }).to_string()
            }
            false => format!("ready: {} on {shown} (pid {pid}); Ctrl-C ends it", self.command),
        }
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let mut running = self.running();
        let (runtime, part) = running.as_mut()?;
        let report = runtime.report();
        Some(Snapshot::of(self.command, self.uptime_ms(), &report, self.counters(part.as_ref())))
    }

    /// What the command counts, and what the metrics page does.
    fn counters(&self, part: &dyn Part) -> Counts {
        let mut counters = part.counters();
        self.scrapes.get().iter().for_each(|scrapes| add(&mut counters, &scrapes()));
        counters
    }

    fn answer(&self, request: Request, caller: Caller) -> Result<Value, Refusal> {
        let answer = match request {
            Request::Identify => serde_json::to_value(Identity {
                pid: std::process::id(),
                command: self.command.to_owned(),
                interfaces: self.with_runtime(|runtime| names(runtime))?,
                uptime_ms: self.uptime_ms(),
            }),
            Request::Report => serde_json::to_value(self.snapshot().ok_or_else(stopping)?),
            Request::Graph => self.with_runtime(|runtime| serde_json::to_value(runtime.graph().1))?,
            Request::Dump => self.with_runtime(|runtime| {
                let (version, graph) = runtime.graph();
                serde_json::to_value(Dump { version, ports: names(runtime), graph: graph.clone() })
            })?,
            Request::Links => self.with_runtime(|runtime| serde_json::to_value(self.links(runtime)))?,
            Request::Kinds => self.with_runtime(|runtime| {
                serde_json::to_value(runtime.registry().kinds().map(KindInfo::of).collect::<Vec<_>>())
            })?,
            Request::Connections(query) => serde_json::to_value(self.connections(&query)?),
            Request::Trace(config) => {
                let begun = self.with_runtime(|runtime| runtime.trace(&config))?;
                begun.map_err(|error| Refusal::new("failed", error.to_string()))?;
                Ok(Value::Bool(true))
            }
            Request::Traced { end } => {
                let trace = self.with_runtime(|runtime| runtime.traced(end))?;
                serde_json::to_value(trace.ok_or_else(|| Refusal::new("failed", "there is no trace; begin one"))?)
            }
            Request::Change(transaction) => {
                let transaction = Transaction { who: who(caller), ..transaction };
                self.changed(self.with_runtime(|runtime| runtime.change(&transaction))?)?
            }
            Request::Undo { base, dry_run } => {
                self.changed(self.with_runtime(|runtime| runtime.undo(base, dry_run, &who(caller)))?)?
            }
            Request::Subscribe { .. } | Request::Unsubscribe => {
                return Err(Refusal::new("failed", "there is no subscription on this connection"));
            }
        };
        answer.map_err(|error| Refusal::new("failed", error.to_string()))
    }

    /// Waits for workers, but keeps nobody else from the runtime meanwhile.
    fn connections(&self, query: &ConnectionsQuery) -> Result<Connections, Refusal> {
        let controls = self.with_runtime(|runtime| runtime.controls())?;
        let Some(census) = &self.census else { return Ok(Connections::default()) };
        query.answer(census, &controls)
    }

    fn links(&self, runtime: &Runtime) -> Links {
        let entries = self.plane.as_ref().map(|plane| plane.ports()).unwrap_or_default();
        let link = |(name, ifindex): (&str, u32)| {
            let entry = entries.iter().find(|entry| entry.ifindex == ifindex)?;
            Some(Link { name: name.to_owned(), mtu: entry.link_mtu, room: entry.mtu })
        };
        Links {
            workers: runtime.controls().len(),
            flow_key: runtime.shared().map(|shared| shared.hash_key().to_hex()),
            links: runtime.interfaces().filter_map(link).collect(),
        }
    }

    fn with_runtime<T>(&self, ask: impl FnOnce(&mut Runtime) -> T) -> Result<T, Refusal> {
        self.running().as_mut().map(|(runtime, _)| ask(runtime)).ok_or_else(stopping)
    }

    fn changed(&self, outcome: Result<Change, ChangeError>) -> Result<serde_json::Result<Value>, Refusal> {
        Ok(serde_json::to_value(Changed { change: outcome?, note: self.note.clone() }))
    }

    /// Until it is time to stop. An error is reported after the stop, which happens anyway.
    fn watch(&self, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
        let mut progress = Progress::start(self.command, common.json);
        let look = self.running().as_ref().map_or(LOOK, |(_, part)| part.look());
        let end = common.duration.map(|duration| self.started + duration);
        let mut next = self.started + common.stats_interval;
        let mut tended = self.started;
        let ended = loop {
            let now = Instant::now();
            let until = end.unwrap_or(next).min(next).saturating_duration_since(now).min(look);
            if interrupt.wait(until) || end.is_some_and(|end| Instant::now() >= end) {
                break Ok(());
            }
            match self.check() {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
            if tended.elapsed() >= TEND {
                tended = Instant::now();
                self.tend();
            }
            if Instant::now() >= next {
                next += common.stats_interval;
                self.snapshot().iter().filter(|_| self.shows_progress()).for_each(|snapshot| progress.show(snapshot));
            }
        };
        progress.finish();
        ended
    }

    fn shows_progress(&self) -> bool {
        self.running().as_ref().is_some_and(|(_, part)| part.shows_progress())
    }

    fn tend(&self) {
        if let Some((runtime, _)) = self.running().as_mut()
            && let Err(error) = runtime.tend()
        {
            tracing::warn!(%error, "a change of an interface was not taken up; trying again");
        }
    }

    /// Whether everything that was wanted is done.
    fn check(&self) -> anyhow::Result<bool> {
        let mut running = self.running();
        let Some((runtime, part)) = running.as_mut() else { return Ok(true) };
        if !runtime.alive() {
            anyhow::bail!("a worker ended by itself; this is a bug");
        }
        if let Err(error) = runtime.tend() {
            tracing::warn!(%error, "a change of an interface was not taken up");
        }
        if let Some(failure) = part.failure() {
            return Err(failure);
        }
        if part.is_done() || !part.looks() {
            return Ok(part.is_done());
        }
        let report = runtime.report();
        Ok(part.enough(&Snapshot::of(self.command, self.uptime_ms(), &report, Counts::new())))
    }

    /// What it was in the end, and what the part could not end without.
    fn stop(&self, napi: NapiThreads) -> anyhow::Result<(Snapshot, Option<anyhow::Error>)> {
        let (runtime, mut part) = self.running().take().context("stopped twice")?;
        part.ending();
        let failure = part.failure();
        let uptime_ms = self.uptime_ms();
        // While the program is attached the interface still has the NAPI whose thread is to go.
        drop(napi);
        let report = runtime.stop()?;
        part.stopped();
        Ok((Snapshot::of(self.command, uptime_ms, &report, self.counters(part.as_ref())), failure))
    }
}
