//! Why a running graph was not changed.

use crate::block::ParameterError;
use crate::graph::GraphError;

use super::operation::OPERATIONS_MAX;

/// Why a transaction was refused. The graph is as it was, except where [`Unsettled`](Self::Unsettled) says otherwise.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ChangeError {
    #[error("the graph has version {current} by now, not {base}")]
    Conflict { base: u64, current: u64 },
    #[error("operation {number}: {error}")]
    Operation { number: usize, error: Box<ChangeError> },
    #[error("no block is named {name:?}{}", suggestion(.similar))]
    UnknownBlock { name: String, similar: Vec<String> },
    #[error("there is no kind of block {kind:?}{}", suggestion(.similar))]
    UnknownKind { kind: String, similar: Vec<String> },
    #[error("there is a block named {name:?} already")]
    NameTaken { name: String },
    #[error("{name:?} is still bound: {edges}")]
    InUse { name: String, edges: String },
    #[error("there is no edge {edge:?}{}", suggestion(.similar))]
    UnknownEdge { edge: String, similar: Vec<String> },
    #[error("edge {edge:?} would dangle: no block is named {name:?}{}", suggestion(.similar))]
    Dangling { edge: String, name: String, similar: Vec<String> },
    #[error("there is the edge {edge:?} already")]
    EdgeExists { edge: String },
    #[error("{name:?} cannot be taken out of its edges: {why}")]
    NotInLine { name: String, why: String },
    #[error("block {name:?}: {error}")]
    Parameter { name: String, error: ParameterError },
    #[error("block {name:?}: the state of a {found:?} block does not fit a {wanted:?} block")]
    StateUnfit { name: String, found: String, wanted: String },
    #[error(
        "block {name:?}: what a {kind:?} block knows it is told once; it can be neither added, removed nor emptied"
    )]
    Lasting { name: String, kind: String },
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error("worker {worker}: {error}")]
    Build { worker: usize, error: GraphError },
    #[error("worker {worker} refused: {why}; every worker has its old graph again")]
    Refused { worker: usize, why: String },
    #[error("{count} operations are more than the {OPERATIONS_MAX} of one transaction")]
    TooMany { count: usize },
    #[error("there is nothing to undo")]
    NothingToUndo,
    #[error("worker {worker} did not answer; every worker has its old graph again")]
    Unresponsive { worker: usize },
    #[error("worker {worker} began with a change and has not answered: it may run another graph than the others")]
    Unsettled { worker: usize },
}

impl ChangeError {
    /// For programs: a word that stays.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::Operation { error, .. } => error.code(),
            Self::UnknownBlock { .. } => "unknown_block",
            Self::UnknownKind { .. } | Self::Graph(GraphError::UnknownKind { .. }) => "unknown_kind",
            Self::NameTaken { .. } => "name_taken",
            Self::InUse { .. } => "in_use",
            Self::UnknownEdge { .. } => "unknown_edge",
            Self::Dangling { .. } => "dangling",
            Self::EdgeExists { .. } => "edge_exists",
            Self::NotInLine { .. } => "not_in_line",
            Self::Parameter { .. } => "parameter",
            Self::StateUnfit { .. } => "state_unfit",
            Self::Lasting { .. } => "lasting",
            Self::Graph(GraphError::Build { .. }) | Self::Build { .. } => "build",
            Self::Graph(_) => "graph",
            Self::Refused { .. } => "refused",
            Self::TooMany { .. } => "too_many",
            Self::NothingToUndo => "nothing_to_undo",
            Self::Unresponsive { .. } => "unresponsive",
            Self::Unsettled { .. } => "unsettled",
        }
    }

    /// For people: what to do next, where the message does not say.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Operation { error, .. } => return error.hint(),
            Self::Conflict { .. } => "look at the graph as it is now (`ctl dump`), then try again with its version",
            Self::UnknownBlock { .. } | Self::Dangling { .. } => "`ctl list` shows the blocks",
            Self::UnknownKind { .. } | Self::Graph(GraphError::UnknownKind { .. }) => "`ctl kinds` shows the kinds",
            Self::NameTaken { .. } => "choose another name, or `ctl replace` that block",
            Self::InUse { .. } => "unbind those edges first, or take the block out of them with `ctl extract`",
            Self::UnknownEdge { .. } => "`ctl dump` shows the edges; an edge is written \"FROM[.OUTPUT] -> TO\"",
            Self::EdgeExists { .. } => "nothing to do",
            Self::NotInLine { .. } => "use unbind, bind and rm, in one batch",
            Self::Parameter { error: ParameterError::Fixed { .. }, .. } => {
                "`ctl replace NAME KEY=VALUE` puts a new block in its place, with the old one's state"
            }
            Self::Parameter { .. } => "`ctl kinds KIND` shows its parameters",
            Self::StateUnfit { .. } => "--drop replaces it without its state",
            Self::Lasting { .. } => "`ctl replace NAME` without --drop keeps what it knows; restart to begin anew",
            Self::Graph(GraphError::OutputTaken { .. }) => "unbind the old edge first, or `ctl insert` into it",
            Self::Unresponsive { .. } => "try again; `tailwater stats --full` shows whether the worker turns",
            Self::Unsettled { .. } => {
                "the change is taken back as soon as the worker answers; if it never does, restart"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// "; did you mean X?", or nothing.
fn suggestion(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("; did you mean {}?", similar.join(" or ")) }
}

/// Names close to the one wanted, the closest first.
pub(super) fn similar<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    /// Jaro-Winkler similarity from which a name is worth a mention: one slip in a short name.
    const SIMILAR_FROM: f64 = 0.8;
    const SIMILAR_MAX: usize = 3;
    let mut similar: Vec<_> = known
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(similarity, _)| *similarity >= SIMILAR_FROM)
        .collect();
    similar.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    similar.into_iter().take(SIMILAR_MAX).map(|(_, name)| name.to_owned()).collect()
}
