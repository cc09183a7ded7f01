//! The graph that all workers run, its versions, and the way from one to the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::block::{PortNames, Registry, Services};
use crate::graph::{GraphError, GraphSpec, Plan, Seat, Wiring};
use crate::worker::Control;

use super::blueprint::{Blueprint, Running};
use super::crew::{Crew, Undone};
use super::diff::Diff;
use super::draft::Draft;
use super::error::ChangeError;
use super::events::{EventLog, What};
use super::operation::{Operation, Transaction};

/// Changes that can be undone.
pub const HISTORY_MAX: usize = 64;

/// What one worker's packets waited for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stall {
    /// Number of the worker.
    pub worker: usize,
    /// From when it saw the change until it could go on, in ns.
    pub stall_ns: u64,
}

/// What a transaction did, or would do.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// Version of the graph after it; that of before if nothing was changed.
    pub version: u64,
    /// Whether it was only checked.
    pub dry_run: bool,
    /// What is different.
    pub diff: Diff,
    /// What it cost, by worker.
    pub stalls: Vec<Stall>,
}

/// The one authority over the graph that a set of workers runs.
///
/// Commands: [`change`](Self::change) and [`undo`](Self::undo). Outputs: [`graph`](Self::graph), [`events`](Self::events).
/// All of it belongs to control threads; workers see nothing but plans.
pub struct Live {
    registry: Registry,
    services: Services,
    ports: Vec<String>,
    running: Running,
    version: u64,
    /// Graphs before the last changes, the newest last.
    history: VecDeque<GraphSpec>,
    crew: Crew,
    events: Arc<EventLog>,
}

impl Live {
    /// Takes charge of workers that run `spec`, built with these kinds, services and port names (in index order).
    /// `controls` are in order of the workers' numbers. A worker has `patience` to answer.
    pub fn new(
        spec: GraphSpec,
        registry: Registry,
        services: Services,
        ports: Vec<String>,
        controls: Vec<Arc<Control>>,
        patience: Duration,
    ) -> Result<Self, GraphError> {
        let wiring = Wiring::of(&spec, &registry, &ports)?;
        let events = Arc::new(EventLog::default());
        events.record("", 1, What::Started);
        Ok(Self {
            running: Running { spec, wiring },
            version: 1,
            history: VecDeque::new(),
            crew: Crew::new(controls, patience),
            registry,
            services,
            ports,
            events,
        })
    }

    /// The graph and its version, from 1.
    pub fn graph(&self) -> (u64, &GraphSpec) {
        (self.version, &self.running.spec)
    }

    /// The kinds of blocks there are.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Names of the ports, in index order.
    pub fn ports(&self) -> &[String] {
        &self.ports
    }

    /// The record of what happened.
    pub fn events(&self) -> Arc<EventLog> {
        Arc::clone(&self.events)
    }

    /// Performs a transaction, or leaves everything as it is. One that changes nothing keeps the version.
    pub fn change(&mut self, transaction: &Transaction) -> Result<Change, ChangeError> {
        let outcome = self.attempt(&transaction.operations, transaction.base, transaction.dry_run);
        self.note(&transaction.who, outcome, transaction.dry_run, |diff, stalls| What::Changed { diff, stalls })
    }

    /// Brings back the graph from before the last change that has not been undone, as a new version.
    pub fn undo(&mut self, base: Option<u64>, dry_run: bool, who: &str) -> Result<Change, ChangeError> {
        let outcome = match self.history.back().cloned() {
            Some(graph) => self.attempt(&[Operation::Apply { graph }], base, dry_run),
            None => self.expect(base).and(Err(ChangeError::NothingToUndo)),
        };
        if let (Ok(change), false) = (&outcome, dry_run) {
            // That graph itself, and, if it made a difference, the one that was undone.
            let undone = if change.diff.is_empty() { 1 } else { 2 };
            self.history.truncate(self.history.len().saturating_sub(undone));
        }
        self.note(who, outcome, dry_run, |diff, stalls| What::Undone { diff, stalls })
    }

    fn expect(&self, base: Option<u64>) -> Result<(), ChangeError> {
        match base {
            Some(base) if base != self.version => Err(ChangeError::Conflict { base, current: self.version }),
            _ => Ok(()),
        }
    }

    fn attempt(&mut self, operations: &[Operation], base: Option<u64>, dry_run: bool) -> Result<Change, ChangeError> {
        self.crew.settle()?;
        self.expect(base)?;
        let mut draft = Draft::of(&self.running.spec, &self.registry);
        draft.apply_all(operations)?;
        let blueprint = Blueprint::of(&self.running, draft.finish(), &self.registry, &self.ports)?;
        if dry_run || blueprint.diff.is_empty() {
            return Ok(Change { version: self.version, dry_run, diff: blueprint.diff, stalls: Vec::new() });
        }
        let stalls = self.perform(&blueprint)?;
        let Blueprint { spec, wiring, diff, .. } = blueprint;
        let before = std::mem::replace(&mut self.running, Running { spec, wiring });
        self.version += 1;
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(before.spec);
        Ok(Change { version: self.version, dry_run, diff, stalls })
    }

    fn perform(&mut self, blueprint: &Blueprint) -> Result<Vec<Stall>, ChangeError> {
        let mut plans = Vec::with_capacity(self.crew.len());
        for worker in 0..self.crew.len() {
            let mut services = self.services.clone();
            services.worker = worker;
            plans.push(blueprint.plan(&self.running, &self.registry, &services)?);
        }
        let performed = self.crew.perform(plans.into_iter()).map_err(|undone| *undone.error)?;
        let stall = |(worker, plan): (usize, Plan)| Stall { worker, stall_ns: plan.stall_ns };
        Ok(performed.into_iter().enumerate().map(stall).collect())
    }

    /// Exchanges ports, in all workers or none: one list of seats per worker, which comes back with the ports that were
    /// there before.
    pub(crate) fn reseat(&mut self, seats: Vec<Vec<Seat>>) -> Result<Vec<Vec<Seat>>, Undone<Vec<Seat>>> {
        if let Err(error) = self.crew.settle() {
            return Err(Undone { error: Box::new(error), plans: seats });
        }
        let plans = seats.into_iter().map(|seats| Box::new(Plan::of_seats(seats)));
        let open = |plans: Vec<Plan>| plans.into_iter().map(|plan| plan.seats).collect();
        self.crew.perform(plans).map(open).map_err(|Undone { error, plans }| Undone { error, plans: open(plans) })
    }

    /// Whether the running graph names this port.
    pub(crate) fn names_port(&self, name: &str) -> bool {
        let names = |vertex: &str| vertex.strip_prefix("rx:").or(vertex.strip_prefix("tx:")) == Some(name);
        self.running.spec.edges.iter().any(|edge| names(&edge.from) || names(&edge.to))
    }

    /// Gives a place another name: of a port that joins, or that is called something else now. Edges that named it follow.
    pub(crate) fn name_port(&mut self, at: usize, name: &str) {
        if let Some(other) = self.ports.iter().position(|known| known == name).filter(|&other| other != at) {
            // Only an empty place can still have it: the kernel's names are unique.
            self.ports[other].clear();
        }
        let old = std::mem::replace(&mut self.ports[at], name.to_owned());
        if !old.is_empty() {
            self.history.iter_mut().chain([&mut self.running.spec]).for_each(|graph| rename_port(graph, &old, name));
        }
        self.services.insert(Arc::new(PortNames(self.ports.clone())));
    }

    /// Records something about a port.
    pub(crate) fn note_port(&self, what: What) {
        self.events.record("", self.version, what);
    }

    fn note(
        &self,
        who: &str,
        outcome: Result<Change, ChangeError>,
        dry_run: bool,
        what: impl FnOnce(Diff, Vec<Stall>) -> What,
    ) -> Result<Change, ChangeError> {
        if dry_run {
            return outcome;
        }
        match &outcome {
            Ok(Change { diff, .. }) if diff.is_empty() => {}
            Ok(Change { diff, stalls, .. }) => {
                self.events.record(who, self.version, what(diff.clone(), stalls.clone()));
            }
            Err(error) => {
                let (code, message) = (error.code().to_owned(), error.to_string());
                self.events.record(who, self.version, What::Refused { code, message });
            }
        }
        outcome
    }
}

/// Lets edges at `old` name `new` instead.
fn rename_port(graph: &mut GraphSpec, old: &str, new: &str) {
    for edge in &mut graph.edges {
        for vertex in [&mut edge.from, &mut edge.to] {
            for prefix in ["rx:", "tx:"] {
                if vertex.strip_prefix(prefix) == Some(old) {
                    *vertex = format!("{prefix}{new}");
                }
            }
        }
    }
}
