//! `tailwater stats`: the counters of a running command.

use clap::Args as ClapArgs;
use serde_json::Value;

use crate::control::{Choice, Peer, Request, peers, table};
use crate::output;
use crate::snapshot::Snapshot;
use crate::summary;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater stats                          the only process there is, or a list to choose from
  tailwater stats --name l3fwd --full      with workers and blocks
  tailwater stats -j --pid 4711 | jq .totals

Every packet is in one of five places: received + originated = sent + delivered + dropped + held.
\"dropped\" is split by reason. What the left side has more than the right is the imbalance: always 0, or a bug.";

/// Options of `stats`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// By worker and block, too
    #[arg(long)]
    full: bool,
    /// Only list the processes that run
    #[arg(long, conflicts_with_all = ["full", "graph"])]
    list: bool,
    /// Show the packet graph instead of the counters
    #[arg(long, conflicts_with = "full")]
    graph: bool,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.list {
        return list(&peers()?, args.json);
    }
    let peer = args.choice.find()?;
    if args.graph {
        let graph: Value = peer.ask(Request::Graph)?;
        match args.json {
            true => output::line(&graph),
            false => print_graph(&graph),
        }
        return Ok(());
    }
    let snapshot: Snapshot = peer.ask(Request::Report)?;
    match (args.json, args.full) {
        (true, _) => output::line(serde_json::to_string(&snapshot)?),
        (false, true) => output::line(summary::full(&snapshot)),
        (false, false) => output::line(summary::brief(&snapshot)),
    }
    Ok(())
}

fn list(peers: &[Peer], json: bool) -> anyhow::Result<()> {
    if json {
        let identities: Vec<_> = peers.iter().map(|peer| &peer.identity).collect();
        output::line(serde_json::to_string(&identities)?);
    } else {
        output::line(table(peers).lines().join("\n"));
    }
    Ok(())
}

fn print_graph(graph: &Value) {
    for node in graph["node"].as_array().into_iter().flatten() {
        let parameters = node.get("parameters").map(|parameters| format!(" {parameters}")).unwrap_or_default();
        output::line(format_args!(
            "{}: {}{parameters}",
            node["name"].as_str().unwrap_or("?"),
            node["kind"].as_str().unwrap_or("?")
        ));
    }
    for edge in graph["edges"].as_array().into_iter().flatten() {
        output::line(edge.as_str().unwrap_or("?"));
    }
}
