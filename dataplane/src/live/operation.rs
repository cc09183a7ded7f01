//! What can be asked of a running graph.

use std::collections::BTreeMap;

use crate::block::Value;
use crate::graph::{Edge, GraphSpec, NodeSpec};

/// Most operations of one transaction.
pub const OPERATIONS_MAX: usize = 1024;

/// One step of a transaction. Only the graph after the last step has to be a sound one.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Adds a block, joined to nothing yet.
    Add {
        /// The block.
        node: NodeSpec,
    },
    /// Removes a block that no edge touches. What it holds goes on to where its outputs led.
    Rm {
        /// Its name.
        name: String,
    },
    /// Changes a parameter of a block.
    Set {
        /// The block's name.
        name: String,
        /// The parameter's key.
        key: String,
        /// Its new value.
        value: Value,
    },
    /// Joins an output that leads nowhere to a block or port.
    Bind {
        /// The edge.
        edge: Edge,
    },
    /// Removes an edge. What comes out there is dropped from then on, as `unbound_output`.
    Unbind {
        /// The edge.
        edge: Edge,
    },
    /// Puts a new block in the place of one, which hands on its state.
    Replace {
        /// The block's name, which stays.
        name: String,
        /// Its kind from now on; the same if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// Parameters that change; the others stay if the kind does, else they take their defaults.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        parameters: BTreeMap<String, Value>,
        /// Begins with no state instead.
        #[serde(default)]
        drop_state: bool,
    },
    /// Puts a block into an edge, by its first output.
    Insert {
        /// The block.
        node: NodeSpec,
        /// The edge as it is.
        edge: Edge,
    },
    /// Takes a block out and joins what leads to it to what its first output leads to.
    Extract {
        /// Its name.
        name: String,
    },
    /// The whole graph becomes this one. Blocks of the same name and kind stay, with changed parameters where a running
    /// block can change them; otherwise they are replaced, with their state where it fits.
    Apply {
        /// The graph.
        graph: GraphSpec,
    },
}

/// Operations that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Transaction {
    /// In order; at most [`OPERATIONS_MAX`].
    pub operations: Vec<Operation>,
    /// The version that they are meant for; refused if the graph has another by now. `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    /// Only checks, and tells what would be changed.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, for the events.
    #[serde(skip)]
    pub who: String,
}

impl Transaction {
    /// These operations, whatever the version.
    pub fn of(operations: impl IntoIterator<Item = Operation>) -> Self {
        Self { operations: operations.into_iter().collect(), ..Self::default() }
    }
}
