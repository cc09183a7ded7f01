//! A process at one end of a pair.

use std::collections::BTreeMap;

use anyhow::Context;
use tailwater_dataplane::block::Value;
use tailwater_dataplane::graph::NodeSpec;
use tailwater_dataplane::live::{Operation, Transaction};

use super::super::edit::find_edge;
use crate::control::{Changed, Dump, KindInfo, Links, Peer, Request};
use crate::snapshot::{Counts, Snapshot, add};

/// One of the two processes.
pub(super) struct End {
    peer: Peer,
    /// The option that named it: `from` or `to`.
    pub(super) side: &'static str,
    named: String,
    dry_run: bool,
}

impl End {
    /// The process that is meant.
    pub(super) fn find(side: &'static str, named: &str, dry_run: bool) -> anyhow::Result<Self> {
        let peer = Peer::named(named).with_context(|| format!("--{side} {named}"))?;
        Ok(Self { peer, side, named: named.to_owned(), dry_run })
    }

    /// The process, in words.
    pub(super) fn title(&self) -> String {
        let identity = &self.peer.identity;
        format!("{} {} ({} on {})", self.side, self.named, identity.command, identity.interfaces.join(", "))
    }

    /// Whether it is the same process as the other.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.peer.identity == other.peer.identity
    }

    pub(super) fn links(&self) -> anyhow::Result<Links> {
        self.ask(Request::Links)
    }

    pub(super) fn kind(&self, name: &str) -> anyhow::Result<KindInfo> {
        let kinds: Vec<KindInfo> = self.ask(Request::Kinds)?;
        kinds
            .into_iter()
            .find(|kind| kind.name == name)
            .with_context(|| format!("{} has no kind {name:?}; use the same tailwater on both sides", self.title()))
    }

    /// The block of that name.
    pub(super) fn block(&self, name: &str) -> anyhow::Result<Option<NodeSpec>> {
        let dump: Dump = self.ask(Request::Dump)?;
        Ok(dump.graph.nodes.into_iter().find(|node| node.name == name))
    }

    pub(super) fn insert(
        &self,
        name: &str,
        kind: &str,
        edge: &str,
        parameters: BTreeMap<String, Value>,
    ) -> anyhow::Result<Changed> {
        let edge = find_edge(&self.peer, edge).with_context(|| self.title())?;
        let node = NodeSpec { name: name.to_owned(), kind: kind.to_owned(), parameters };
        self.change(Operation::Insert { node, edge })
    }

    pub(super) fn extract(&self, name: &str) -> anyhow::Result<Changed> {
        self.change(Operation::Extract { name: name.to_owned() })
    }

    pub(super) fn set(&self, name: &str, key: &str, value: &str) -> anyhow::Result<Changed> {
        self.change(Operation::Set { name: name.into(), key: key.into(), value: Value::Text(value.into()) })
    }

    /// Takes a change back, unless somebody has made another one since.
    pub(super) fn take_back(&self, changed: &Changed) -> anyhow::Result<Changed> {
        self.ask(Request::Undo { base: Some(changed.change.version), dry_run: self.dry_run })
    }

    /// What all workers' instances of a block have counted together; `None` while not all workers answer, or the block is
    /// not there.
    pub(super) fn counters(&self, name: &str, workers: usize) -> anyhow::Result<Option<Counts>> {
        let snapshot: Snapshot = self.ask(Request::Report)?;
        let blocks = snapshot.workers.iter().flat_map(|worker| &worker.blocks).filter(|block| block.name == name);
        let (mut counters, mut found) = (Counts::new(), 0);
        for block in blocks {
            add(&mut counters, &block.counters);
            found += 1;
        }
        Ok((found == workers).then_some(counters))
    }

    fn change(&self, operation: Operation) -> anyhow::Result<Changed> {
        let transaction = Transaction { dry_run: self.dry_run, ..Transaction::of([operation]) };
        self.ask(Request::Change(transaction))
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, request: Request) -> anyhow::Result<T> {
        self.peer.ask(request).with_context(|| self.title())
    }
}
