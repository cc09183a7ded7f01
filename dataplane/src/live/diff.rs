//! What a change does to a graph.

use std::collections::BTreeMap;

use crate::block::Value;
use crate::graph::{Edge, NodeSpec};

/// The difference between two versions of a graph.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Diff {
    /// Blocks that are new.
    pub added: Vec<NodeSpec>,
    /// Names of blocks that are gone.
    pub removed: Vec<String>,
    /// Blocks in the place of others.
    pub replaced: Vec<Replacement>,
    /// Parameters changed on blocks that live on.
    pub set: Vec<SetParameter>,
    /// Edges that are new.
    pub bound: Vec<Edge>,
    /// Edges that are gone.
    pub unbound: Vec<Edge>,
}

/// A block in the place of another.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Replacement {
    /// Name of both.
    pub name: String,
    /// Kind of the old one.
    pub from: String,
    /// Kind of the new one.
    pub to: String,
    /// What the new one was given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Value>,
    /// What became of the state.
    pub state: Inheritance,
}

/// What becomes of a replaced block's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inheritance {
    /// The successor has it.
    Kept,
    /// It is gone.
    Dropped,
    /// There was none.
    None,
}

/// A parameter changed.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SetParameter {
    /// The block's name.
    pub name: String,
    /// The parameter's key.
    pub key: String,
    /// Value before.
    pub from: Value,
    /// Value after.
    pub to: Value,
}

impl Diff {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        let Self { added, removed, replaced, set, bound, unbound } = self;
        let structural = added.len() + removed.len() + replaced.len() + bound.len() + unbound.len();
        structural + set.len() == 0
    }
}
