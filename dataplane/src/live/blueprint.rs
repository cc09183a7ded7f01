//! A draft compared with what runs: what is to be built, what to be set, what a person would call the difference.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::{Arguments, Kind, ParameterError, Registry, Services};
use crate::graph::{Edge, Fate, GraphError, GraphSpec, NodeSpec, Plan, Reshape, Setting, Wiring, kind_of, output_of};

use super::diff::{Diff, Inheritance, Replacement, SetParameter};
use super::draft::{Origin, StateWish, arguments};
use super::error::{ChangeError, similar};

/// What runs.
pub(super) struct Running {
    pub(super) spec: GraphSpec,
    pub(super) wiring: Wiring,
}

/// A sound graph, and the way to it from the running one.
pub(super) struct Blueprint {
    pub(super) spec: GraphSpec,
    pub(super) wiring: Wiring,
    pub(super) diff: Diff,
    /// By place in `wiring`.
    fates: Vec<Fate>,
    changes: Vec<Alteration>,
    reshapes: bool,
}

/// Parameters of one running block that change.
struct Alteration {
    kind: Kind,
    /// Place in the running graph.
    at: usize,
    before: Arguments,
    after: Arguments,
}

impl Alteration {
    /// The changes, made ready for one worker's block.
    fn prepare(&self) -> Result<Vec<Setting>, ParameterError> {
        let setting = |key: &str| {
            let prepared = (self.kind.prepare)(key, &self.after)?;
            let [before, value] = [&self.before, &self.after].map(|all| all.value(key).cloned());
            Ok(before.zip(value).map(|(before, value)| Setting {
                at: self.at,
                key: key.to_owned(),
                value,
                before,
                prepared,
            }))
        };
        self.after.differences(&self.before).filter_map(|key| setting(key).transpose()).collect()
    }
}

impl Blueprint {
    /// Checks `spec` as a whole, and each step from what runs to it.
    pub(super) fn of(
        running: &Running,
        (spec, origins): (GraphSpec, Vec<Origin>),
        registry: &Registry,
        ports: &[String],
    ) -> Result<Self, ChangeError> {
        let wiring = Wiring::of(&spec, registry, ports).map_err(|error| explain(error, &spec))?;
        let mut blueprint = Self {
            fates: vec![Fate::New; spec.nodes.len()],
            changes: Vec::new(),
            reshapes: !running.wiring.same_order(&wiring),
            diff: Diff::default(),
            wiring,
            spec,
        };
        let old: BTreeMap<&str, &NodeSpec> = running.spec.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
        let mut survivors = BTreeSet::new();
        for (at, origin) in origins.into_iter().enumerate() {
            let node = blueprint.spec.nodes[at].clone();
            let fate = match (origin, old.get(node.name.as_str())) {
                (Origin::Running, Some(old)) => blueprint.alter(running, old, &node, registry)?,
                (Origin::Replaced(wish), Some(old)) => blueprint.replace(old, &node, wish, registry)?,
                _ => {
                    blueprint.diff.added.push(node.clone());
                    Fate::New
                }
            };
            if fate != Fate::New {
                survivors.insert(node.name.clone());
            }
            if let Some(place) = blueprint.wiring.place(&node.name) {
                blueprint.fates[place] = fate;
            }
        }
        let gone = running.spec.nodes.iter().map(|node| &node.name).filter(|name| !survivors.contains(*name));
        blueprint.diff.removed = gone.cloned().collect();
        blueprint.keep_lasting(&running.spec, registry)?;
        blueprint.compare_edges(&running.spec, registry);
        let Diff { added, removed, replaced, bound, unbound, .. } = &blueprint.diff;
        blueprint.reshapes |= added.len() + removed.len() + replaced.len() + bound.len() + unbound.len() > 0;
        Ok(blueprint)
    }

    /// A block that lives on, with other parameters perhaps.
    fn alter(
        &mut self,
        running: &Running,
        old: &NodeSpec,
        node: &NodeSpec,
        registry: &Registry,
    ) -> Result<Fate, ChangeError> {
        let kind = *kind_of(node, registry)?;
        let (before, after) = (arguments(&kind, old)?, arguments(&kind, node)?);
        let values = |key: &str| Some((before.value(key)?.clone(), after.value(key)?.clone()));
        for key in after.differences(&before) {
            let Some((from, to)) = values(key) else { continue };
            self.diff.set.push(SetParameter { name: node.name.clone(), key: key.to_owned(), from, to });
        }
        if before != after {
            let at = running.wiring.place(&node.name).unwrap_or(usize::MAX);
            let change = Alteration { kind, at, before, after };
            change.prepare().map_err(|error| ChangeError::Parameter { name: node.name.clone(), error })?;
            self.changes.push(change);
        }
        Ok(Fate::Kept)
    }

    fn replace(
        &mut self,
        old: &NodeSpec,
        node: &NodeSpec,
        wish: StateWish,
        registry: &Registry,
    ) -> Result<Fate, ChangeError> {
        let state = match (kind_of(old, registry)?.state, kind_of(node, registry)?.state) {
            (None, _) => Inheritance::None,
            (Some(_), _) if wish == StateWish::Drop => Inheritance::Dropped,
            (Some(found), Some(wanted)) if found == wanted => Inheritance::Kept,
            (Some(_), _) if wish == StateWish::KeepIfItFits => Inheritance::Dropped,
            (Some(_), _) => {
                let (name, found, wanted) = (node.name.clone(), old.kind.clone(), node.kind.clone());
                return Err(ChangeError::StateUnfit { name, found, wanted });
            }
        };
        self.diff.replaced.push(Replacement {
            name: node.name.clone(),
            from: old.kind.clone(),
            to: node.kind.clone(),
            parameters: node.parameters.clone(),
            state,
        });
        Ok(Fate::Replaced { state: state == Inheritance::Kept })
    }

    /// Refuses to have a block begin or end that does neither while the graph runs.
    fn keep_lasting(&self, old: &GraphSpec, registry: &Registry) -> Result<(), ChangeError> {
        let Diff { added, removed, replaced, .. } = &self.diff;
        let added = added.iter().map(|node| (&node.name, &node.kind));
        let removed = old.nodes.iter().filter(|node| removed.contains(&node.name)).map(|node| (&node.name, &node.kind));
        let emptied = replaced.iter().filter(|replacement| replacement.state != Inheritance::Kept);
        let emptied = emptied.flat_map(|Replacement { name, from, to, .. }| [(name, from), (name, to)]);
        let mut changed = added.chain(removed).chain(emptied);
        match changed.find(|(_, kind)| registry.find(kind).is_some_and(|kind| kind.lasts)) {
            Some((name, kind)) => Err(ChangeError::Lasting { name: name.clone(), kind: kind.clone() }),
            None => Ok(()),
        }
    }

    fn compare_edges(&mut self, old: &GraphSpec, registry: &Registry) {
        let [before, after] = [old, &self.spec].map(|spec| canonical_edges(spec, registry));
        self.diff.unbound = before.difference(&after).cloned().collect();
        self.diff.bound = after.difference(&before).cloned().collect();
    }

    /// What one worker has to do. `services` are that worker's.
    pub(super) fn plan(
        &self,
        running: &Running,
        registry: &Registry,
        services: &Services,
    ) -> Result<Box<Plan>, ChangeError> {
        let reshape = match self.reshapes {
            true => {
                let wirings = [&running.wiring, &self.wiring];
                let reshape = Reshape::build(&self.spec, wirings, &self.fates, registry, services);
                Some(reshape.map_err(|error| ChangeError::Build { worker: services.worker, error })?)
            }
            false => None,
        };
        let mut settings = Vec::new();
        for change in &self.changes {
            let name = || running.wiring.name(change.at).to_owned();
            settings.extend(change.prepare().map_err(|error| ChangeError::Parameter { name: name(), error })?);
        }
        Ok(Box::new(Plan::new(settings, reshape)))
    }
}

/// With a suggestion, where a name is wrong.
fn explain(error: GraphError, spec: &GraphSpec) -> ChangeError {
    match error {
        GraphError::UnknownNode { edge, node } => {
            let similar = similar(&node, spec.nodes.iter().map(|node| node.name.as_str()));
            ChangeError::Dangling { edge, name: node, similar }
        }
        error => error.into(),
    }
}

/// The edges, with the names of first outputs left out.
fn canonical_edges(spec: &GraphSpec, registry: &Registry) -> BTreeSet<Edge> {
    let kinds: BTreeMap<&str, &str> = spec.nodes.iter().map(|node| (node.name.as_str(), node.kind.as_str())).collect();
    let is_first = |edge: &Edge| {
        let kind = kinds.get(edge.from.as_str()).and_then(|kind| registry.find(kind));
        kind.is_some_and(|kind| output_of(kind, &edge.output, &String::new).is_ok_and(|output| output == 0))
    };
    let canonical = |edge: &Edge| match is_first(edge) {
        true => Edge { output: String::new(), ..edge.clone() },
        false => edge.clone(),
    };
    spec.edges.iter().map(canonical).collect()
}
