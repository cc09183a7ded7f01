//! Random sequences of operations, against a model that knows nothing but names and edges.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tailwater_dataplane::graph::{Edge, GraphSpec};
use tailwater_dataplane::live::Operation;

use crate::plant::{Plant, edge, extract, insert, node, replace, wire};

const NAMES: [&str; 5] = ["v", "w", "x", "y", "z"];
/// Kinds with their outputs; all of them take and give anything.
const KINDS: [(&str, &[&str]); 5] = [
    ("counter", &["out"]),
    ("tee", &["out", "copy"]),
    ("impair", &["out"]),
    ("mirror", &["out", "mirror"]),
    ("forward", &["out"]),
];

/// A graph as little more than sets.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    kinds: BTreeMap<String, &'static str>,
    edges: BTreeSet<(String, String, String)>,
    /// Added by the transaction under way: no state of theirs runs.
    fresh: BTreeSet<String>,
    /// Running blocks that it replaces: their kind, and whether their state is dropped.
    replaced: BTreeMap<String, (&'static str, bool)>,
}

/// An operation, by numbers.
#[derive(Clone, Debug)]
enum Step {
    Add(usize, usize),
    Rm(usize),
    Bind(usize, usize, usize),
    Unbind(usize),
    Insert(usize, usize, usize),
    Extract(usize),
    Replace(usize, Option<usize>, bool),
    Set(usize, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let (name, kind) = (0..NAMES.len(), 0..KINDS.len());
    prop_oneof![
        (name.clone(), kind.clone()).prop_map(|(name, kind)| Step::Add(name, kind)),
        name.clone().prop_map(Step::Rm),
        (0..NAMES.len() + 2, 0..3usize, 0..NAMES.len() + 2).prop_map(|(from, output, to)| Step::Bind(from, output, to)),
        (0..8usize).prop_map(Step::Unbind),
        (name.clone(), kind.clone(), 0..8usize).prop_map(|(name, kind, edge)| Step::Insert(name, kind, edge)),
        name.clone().prop_map(Step::Extract),
        (name.clone(), prop::option::of(kind), any::<bool>())
            .prop_map(|(name, kind, drop)| Step::Replace(name, kind, drop)),
        (name, -1..2000i64).prop_map(|(name, delay)| Step::Set(name, delay)),
    ]
}

fn outputs(kind: &str) -> &'static [&'static str] {
    KINDS.iter().find(|(name, _)| *name == kind).map_or(&[], |(_, outputs)| outputs)
}

fn end(at: usize, port: &str) -> String {
    match NAMES.get(at) {
        Some(name) => (*name).to_owned(),
        None => format!("{port}:{}", ["a", "b"][at - NAMES.len()]),
    }
}

impl Model {
    /// Performs a step, or says no. Whether the whole is sound is another question.
    fn perform(&mut self, step: &Step) -> Option<()> {
        let name = |at: &usize| NAMES[*at].to_owned();
        match step {
            Step::Add(at, kind) => self.add(name(at), KINDS[*kind].0)?,
            Step::Rm(at) => {
                let name = name(at);
                self.edges.iter().all(|(from, _, to)| *from != name && *to != name).then_some(())?;
                self.kinds.remove(&name)?;
                self.forget(&name);
            }
            Step::Bind(..) => {
                let edge = self.key(&self.bound(step)?);
                self.edges.insert(edge).then_some(())?;
            }
            Step::Unbind(at) => {
                let edge = self.edge(*at)?;
                self.edges.remove(&edge);
            }
            Step::Insert(at, kind, edge) => {
                let (from, output, to) = self.edge(*edge)?;
                self.add(name(at), KINDS[*kind].0)?;
                self.edges.remove(&(from.clone(), output.clone(), to.clone()));
                self.edges.insert((from, output, name(at))).then_some(())?;
                self.edges.insert((name(at), "out".into(), to)).then_some(())?;
            }
            Step::Extract(at) => {
                let name = name(at);
                self.kinds.get(&name)?;
                let (behind, rest): (Vec<_>, Vec<_>) = self.edges.iter().cloned().partition(|edge| edge.0 == name);
                let [(_, output, behind)] = behind.as_slice() else { return None };
                (output == "out" && rest.iter().any(|edge| edge.2 == name)).then_some(())?;
                let moved = |edge: (String, String, String)| match edge {
                    (from, output, to) if to == name => (from, output, behind.clone()),
                    other => other,
                };
                self.edges = rest.into_iter().map(moved).collect();
                self.kinds.remove(&name);
                self.forget(&name);
            }
            Step::Replace(at, kind, drop) => {
                let now = *self.kinds.get(&name(at))?;
                if !self.fresh.contains(&name(at)) {
                    let (running, dropped) = self.replaced.get(&name(at)).copied().unwrap_or((now, false));
                    self.replaced.insert(name(at), (running, dropped || *drop));
                }
                self.kinds.insert(name(at), kind.map_or(now, |kind| KINDS[kind].0));
            }
            Step::Set(at, delay) => {
                (self.kinds.get(&name(at)) == Some(&"impair") && *delay >= 0).then_some(())?;
            }
        }
        Some(())
    }

    fn add(&mut self, name: String, kind: &'static str) -> Option<()> {
        // An edge may be bound before its block is there; only now is it known what its first output is called.
        let first = outputs(kind).first().copied().unwrap_or_default();
        let named = |(from, output, to): (String, String, String)| match from == name && output.is_empty() {
            true => (from, first.to_owned(), to),
            false => (from, output, to),
        };
        self.edges = std::mem::take(&mut self.edges).into_iter().map(named).collect();
        self.fresh.insert(name.clone());
        self.kinds.insert(name, kind).is_none().then_some(())
    }

    fn forget(&mut self, name: &str) {
        self.fresh.remove(name);
        self.replaced.remove(name);
    }

    /// The same after the transaction: what it added and replaced is running.
    fn settled(self) -> Self {
        Self { fresh: BTreeSet::new(), replaced: BTreeMap::new(), ..self }
    }

    fn bound(&self, step: &Step) -> Option<Edge> {
        let Step::Bind(from, output, to) = step else { return None };
        let from = end(*from, "rx");
        let outputs = self.kinds.get(&from).map_or(&[][..], |kind| outputs(kind));
        let output = outputs.get(*output).filter(|_| *output > 0).map(|name| (*name).to_owned()).unwrap_or_default();
        Some(Edge { from, output, to: end(*to, "tx") })
    }

    fn key(&self, edge: &Edge) -> (String, String, String) {
        let first = self.kinds.get(&edge.from).and_then(|kind| outputs(kind).first()).copied().unwrap_or_default();
        let output = if edge.output.is_empty() { first } else { &edge.output };
        (edge.from.clone(), output.to_owned(), edge.to.clone())
    }

    fn edge(&self, at: usize) -> Option<(String, String, String)> {
        self.edges.iter().nth(at).cloned()
    }

    /// Ends exist, outputs exist and lead to one place, state that is kept fits, nothing goes round in circles.
    fn is_sound(&self) -> bool {
        let known = |name: &str| name.contains(':') || self.kinds.contains_key(name);
        let mut used = BTreeSet::new();
        let ends = self.edges.iter().all(|(from, output, to)| {
            let has =
                from.contains(':') || self.kinds.get(from).is_some_and(|kind| outputs(kind).contains(&output.as_str()));
            known(from) && known(to) && has && used.insert((from, output))
        });
        let fits = |(name, (running, drop)): (&String, &(&str, bool))| {
            *drop || *running == "forward" || self.kinds.get(name) == Some(running)
        };
        ends && self.replaced.iter().all(fits) && self.kinds.keys().all(|name| !self.leads_to(name, name, 0))
    }

    fn leads_to(&self, from: &str, wanted: &str, depth: usize) -> bool {
        let mut next = self.edges.iter().filter(|edge| edge.0 == from).map(|edge| edge.2.as_str());
        depth <= NAMES.len() && next.any(|to| to == wanted || self.leads_to(to, wanted, depth + 1))
    }

    fn of(spec: &GraphSpec) -> Self {
        let kind = |name: &str| KINDS.iter().find(|(kind, _)| *kind == name).unwrap().0;
        let kinds = spec.nodes.iter().map(|node| (node.name.clone(), kind(&node.kind))).collect();
        let model = Self { kinds, ..Self::default() };
        let edges = spec.edges.iter().map(|edge| model.key(edge)).collect();
        Self { edges, ..model }
    }

    /// The operation that a step stands for, in this graph.
    fn operation(&self, step: &Step) -> Operation {
        let text = |(from, output, to): (String, String, String)| match from.starts_with("rx:") {
            true => format!("{from} -> {to}"),
            false => format!("{from}.{output} -> {to}"),
        };
        let existing = |at: usize| self.edge(at).map_or("rx:none -> tx:none".to_owned(), text);
        match *step {
            Step::Add(name, kind) => Operation::Add { node: node(NAMES[name], KINDS[kind].0, &[]) },
            Step::Rm(name) => Operation::Rm { name: NAMES[name].into() },
            Step::Bind(..) => Operation::Bind { edge: self.bound(step).unwrap() },
            Step::Unbind(at) => Operation::Unbind { edge: edge(&existing(at)) },
            Step::Insert(name, kind, at) => insert(NAMES[name], KINDS[kind].0, &[], &existing(at)),
            Step::Extract(name) => extract(NAMES[name]),
            Step::Replace(name, kind, drop) => replace(NAMES[name], kind.map(|kind| KINDS[kind].0), drop),
            Step::Set(name, delay) => Operation::Set {
                name: NAMES[name].into(),
                key: "delay_us".into(),
                value: tailwater_dataplane::block::Value::Integer(delay),
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_does_what_the_model_says_or_nothing(
        transactions in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..40),
    ) {
        let (mut plant, mut outsides) = Plant::start(wire(), 2);
        let mut model = Model::of(&wire());
        let mut version = 1;
        for steps in transactions {
            let mut wanted = Some(model.clone());
            let mut operations = Vec::new();
            for step in &steps {
                let before = wanted.clone().unwrap_or_else(|| model.clone());
                operations.push(before.operation(step));
                wanted = wanted.and_then(|mut wanted| wanted.perform(step).map(|()| wanted));
            }
            let wanted = wanted.filter(Model::is_sound);
            let dump = plant.dump();
            outsides.iter_mut().for_each(|outside| outside.stir(32));
            match (plant.change(operations.clone()), wanted) {
                (Ok(change), Some(wanted)) => {
                    model = wanted.settled();
                    prop_assert!(change.version == version || change.version == version + 1);
                    version = change.version;
                }
                (Err(_), None) => prop_assert_eq!(&dump, &plant.dump()),
                (outcome, wanted) => prop_assert!(false, "{operations:?}: {outcome:?}, expected {wanted:?}"),
            }
            let (now, spec) = plant.live.graph();
            prop_assert_eq!(now, version);
            prop_assert_eq!(&Model::of(spec), &model);
            for worker in 0..2 {
                let report = plant.report(worker);
                prop_assert_eq!(report.imbalance(), 0);
                let names: BTreeSet<&String> = report.blocks.iter().map(|block| &block.name).collect();
                prop_assert_eq!(names, model.kinds.keys().collect());
            }
        }
        plant.stop(outsides);
    }

    #[test]
    fn a_line_of_blocks_loses_and_reorders_nothing_whatever_is_done_to_it(
        steps in prop::collection::vec((0..5usize, 0..KINDS.len(), 0..8usize, 0..4000i64), 1..60),
    ) {
        let (mut plant, mut outsides) = Plant::start(wire(), 1);
        let mut line: Vec<&str> = Vec::new();
        for (what, kind, at, number) in steps {
            let free = NAMES.iter().find(|name| !line.contains(name));
            let some = (!line.is_empty()).then(|| line[at % line.len()]);
            let operation = match (what, free, some) {
                (0 | 1, Some(name), _) => {
                    let at = at % (line.len() + 1);
                    let from = if at == 0 { "rx:a" } else { line[at - 1] };
                    let to = line.get(at).copied().unwrap_or("tx:b");
                    line.insert(at, name);
                    insert(name, KINDS[kind].0, &[], &format!("{from} -> {to}"))
                }
                (2, _, Some(name)) => {
                    line.retain(|other| *other != name);
                    extract(name)
                }
                (3, _, Some(name)) => replace(name, Some(KINDS[kind].0), true),
                (_, _, Some(name)) => {
                    let spec = plant.live.graph().1;
                    let is_impair = spec.nodes.iter().any(|node| node.name == name && node.kind == "impair");
                    let value = tailwater_dataplane::block::Value::Integer(number);
                    match is_impair {
                        true => Operation::Set { name: name.into(), key: "delay_us".into(), value },
                        false => replace(name, None, false),
                    }
                }
                _ => continue,
            };
            for _ in 0..at {
                outsides[0].step(true);
            }
            plant.change([operation]).unwrap();
        }
        outsides[0].step(true);
        outsides[0].settle();
        prop_assert!(outsides[0].astray.is_empty(), "{:?}", outsides[0].astray);
        plant.stop(outsides);
    }
}
