//! Single operations as words on a command line.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Subcommand;
use tailwater_dataplane::block::Value;
use tailwater_dataplane::graph::{Edge, NodeSpec};
use tailwater_dataplane::live::Operation;

use crate::control::{Dump, KindInfo, Peer, Request};
use crate::failure::Failure;

/// A parameter with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
}

/// One operation on the graph.
#[derive(Subcommand, Debug)]
pub(super) enum Edit {
    /// Add a block, joined to nothing yet
    #[command(after_help = "Example: tailwater ctl add count counter\n`tailwater ctl kinds` shows the kinds.")]
    Add {
        /// What to call it
        name: String,
        /// Kind of block
        kind: String,
        /// Parameters
        #[arg(value_name = "KEY=VALUE", value_parser = pair)]
        parameters: Vec<Pair>,
    },
    /// Remove a block that is bound to nothing
    Rm {
        /// The block
        name: String,
    },
    /// Change a parameter of a running block
    #[command(after_help = "Example: tailwater ctl set limit pps=10000 burst_packets=32")]
    Set {
        /// The block
        name: String,
        /// What to change
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = pair)]
        parameters: Vec<Pair>,
    },
    /// Join an output that leads nowhere to a block or port
    #[command(after_help = "Example: tailwater ctl bind 'sort.other -> tx:eth1'")]
    Bind {
        /// The edge
        #[arg(value_name = "'FROM[.OUTPUT] -> TO'")]
        edge: String,
    },
    /// Remove an edge; what comes out there is dropped from then on, as unbound_output
    Unbind {
        /// The edge
        #[arg(value_name = "FROM[.OUTPUT]")]
        edge: String,
    },
    /// Put a block into an edge
    #[command(after_help = "Examples:
  tailwater ctl insert cap capture rx:eth1 file=/tmp/in.pcapng expression='udp port 53'
  tailwater ctl insert slow rate-limit 'route -> tx:*' bps=10000000")]
    Insert {
        /// What to call it
        name: String,
        /// Kind of block
        kind: String,
        /// The edge as it is
        #[arg(value_name = "FROM[.OUTPUT]")]
        edge: String,
        /// Parameters
        #[arg(value_name = "KEY=VALUE", value_parser = pair)]
        parameters: Vec<Pair>,
    },
    /// Take a block out and join what leads to it to what it leads to
    Extract {
        /// The block
        name: String,
    },
    /// Put a new block in the place of one, with its state
    #[command(after_help = "Example: tailwater ctl replace cap --drop file=/tmp/next.pcapng")]
    Replace {
        /// The block; the name stays
        name: String,
        /// Another kind of block
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Parameters that change
        #[arg(value_name = "KEY=VALUE", value_parser = pair)]
        parameters: Vec<Pair>,
        /// Begin without the old one's state
        #[arg(long)]
        drop: bool,
    },
}

impl Edit {
    /// The operations that this stands for; `peer` knows what is left out.
    pub(super) fn operations(&self, peer: &Peer) -> anyhow::Result<Vec<Operation>> {
        let one = match self {
            Self::Add { name, kind, parameters } => Operation::Add { node: node(peer, name, kind, parameters)? },
            Self::Rm { name } => Operation::Rm { name: name.clone() },
            Self::Set { name, parameters } => return set(peer, name, parameters),
            Self::Bind { edge } => Operation::Bind { edge: whole_edge(edge)? },
            Self::Unbind { edge } => Operation::Unbind { edge: find_edge(peer, edge)? },
            Self::Insert { name, kind, edge, parameters } => {
                Operation::Insert { node: node(peer, name, kind, parameters)?, edge: find_edge(peer, edge)? }
            }
            Self::Extract { name } => Operation::Extract { name: name.clone() },
            Self::Replace { name, kind, parameters, drop } => {
                let known = match (kind, parameters.is_empty()) {
                    (Some(kind), _) => kind.clone(),
                    (None, true) => String::new(),
                    (None, false) => kind_of(peer, name)?,
                };
                let parameters = values(peer, &known, parameters)?;
                Operation::Replace { name: name.clone(), kind: kind.clone(), parameters, drop_state: *drop }
            }
        };
        Ok(vec![one])
    }
}

fn node(peer: &Peer, name: &str, kind: &str, parameters: &[Pair]) -> anyhow::Result<NodeSpec> {
    let parameters = values(peer, kind, parameters)?;
    Ok(NodeSpec { name: name.to_owned(), kind: kind.to_owned(), parameters })
}

fn set(peer: &Peer, name: &str, parameters: &[Pair]) -> anyhow::Result<Vec<Operation>> {
    let values = values(peer, &kind_of(peer, name)?, parameters)?;
    let one = |(key, value)| Operation::Set { name: name.to_owned(), key, value };
    Ok(values.into_iter().map(one).collect())
}

/// Kind of a running block; empty if there is none of that name, which the process tells better.
fn kind_of(peer: &Peer, name: &str) -> anyhow::Result<String> {
    let dump: Dump = peer.ask(Request::Dump)?;
    let node = dump.graph.nodes.into_iter().find(|node| node.name == name);
    Ok(node.map(|node| node.kind).unwrap_or_default())
}

/// The values as text, which the process converts. Paths are ours, not the process's.
fn values(peer: &Peer, kind: &str, parameters: &[Pair]) -> anyhow::Result<BTreeMap<String, Value>> {
    if parameters.is_empty() {
        return Ok(BTreeMap::new());
    }
    let kinds: Vec<KindInfo> = peer.ask(Request::Kinds)?;
    let known = kinds.iter().find(|known| known.name == kind);
    let is_path = |key: &str| {
        let parameter = known.and_then(|kind| kind.parameters.iter().find(|parameter| parameter.key == key));
        parameter.is_some_and(|parameter| parameter.value == "path")
    };
    let value = |Pair { key, value }: &Pair| {
        let value = if is_path(key) { absolute(value)? } else { value.clone() };
        Ok((key.clone(), Value::Text(value)))
    };
    parameters.iter().map(value).collect()
}

pub(super) fn absolute(path: &str) -> anyhow::Result<String> {
    if path == "-" || path.is_empty() {
        return Ok(path.to_owned());
    }
    let path = std::path::absolute(Path::new(path))?;
    Ok(path.to_string_lossy().into_owned())
}

fn whole_edge(text: &str) -> anyhow::Result<Edge> {
    let hint = "write 'FROM[.OUTPUT] -> TO', in quotes: the shell takes > for itself";
    text.parse().map_err(|error| Failure::usage(format!("{error}"), hint).into())
}

/// The edge that is meant, where only its beginning is given.
pub(super) fn find_edge(peer: &Peer, text: &str) -> anyhow::Result<Edge> {
    if text.contains("->") {
        return whole_edge(text);
    }
    let wanted = whole_edge(&format!("{text} -> ?"))?;
    let dump: Dump = peer.ask(Request::Dump)?;
    let kinds: Vec<KindInfo> = peer.ask(Request::Kinds)?;
    let first_output = |name: &str| {
        let node = dump.graph.nodes.iter().find(|node| node.name == name);
        let kind = node.and_then(|node| kinds.iter().find(|kind| kind.name == node.kind));
        kind.and_then(|kind| kind.outputs.first()).cloned().unwrap_or_default()
    };
    let output = |edge: &Edge| if edge.output.is_empty() { first_output(&edge.from) } else { edge.output.clone() };
    let found = dump.graph.edges.iter().find(|edge| edge.from == wanted.from && output(edge) == output(&wanted));
    found.cloned().ok_or_else(|| {
        let edges: Vec<String> =
            dump.graph.edges.iter().map(|edge| format!("  {}", String::from(edge.clone()))).collect();
        let hint = format!("these are the edges:\n{}", edges.join("\n"));
        Failure::new(format!("no edge begins at {text:?}"), hint).into()
    })
}

pub(super) fn pair(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Pair { key: key.to_owned(), value: value.to_owned() }),
        _ => Err("wanted KEY=VALUE, such as delay_us=1000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_split_at_the_first_equals_sign() {
        let wanted = |key: &str, value: &str| Ok(Pair { key: key.into(), value: value.into() });
        assert_eq!(pair("expression=ether[0] = 1"), wanted("expression", "ether[0] = 1"));
        assert_eq!(pair("file="), wanted("file", ""));
        assert!(pair("pps").is_err() && pair("=1").is_err());
    }

    #[test]
    fn relative_paths_are_those_of_the_asking_side() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute("a.pcapng").unwrap(), here.join("a.pcapng").display().to_string());
        assert_eq!([absolute("/tmp/a").unwrap(), absolute("-").unwrap()], ["/tmp/a", "-"]);
    }
}
