//! `tailwater stats`: the counters of a running command.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args as ClapArgs;
use serde_json::Value;

use crate::control::{Peer, Request, peers};
use crate::failure::Failure;
use crate::output;
use crate::snapshot::Snapshot;
use crate::summary;
use crate::table::Table;

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
    /// The process with this id
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// The process that runs this subcommand
    #[arg(long, value_name = "COMMAND", conflicts_with = "pid")]
    name: Option<String>,
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
    let found = peers()?;
    if args.list {
        return list(&found, args.json);
    }
    let peer = choose(found, &args)?;
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

fn table(peers: &[Peer]) -> Table {
    let mut table = Table::new(&["command", "pid", "seconds", "interfaces"]);
    for Peer { identity, .. } in peers {
        let secs = identity.uptime_ms / 1000;
        table.row(vec![
            identity.command.clone(),
            identity.pid.to_string(),
            secs.to_string(),
            identity.interfaces.join(","),
        ]);
    }
    table
}

/// The process that is meant; asks where there are several and somebody to answer.
fn choose(mut peers: Vec<Peer>, args: &Args) -> anyhow::Result<Peer> {
    let running = table(&peers).lines().join("\n");
    let none = peers.is_empty();
    peers.retain(|Peer { identity, .. }| {
        args.pid.is_none_or(|pid| identity.pid == pid)
            && args.name.as_ref().is_none_or(|name| identity.command == *name)
    });
    match peers.len() {
        1 => peers.pop().ok_or_else(|| Failure::new("nothing chosen", "").into()),
        0 if none => {
            let hint = "start one, such as `tailwater l3fwd -i IF -i IF`; another user's are not shown";
            Err(Failure::new("no tailwater process runs here", hint).into())
        }
        0 => Err(Failure::new("no such process", format!("these run:\n{running}")).into()),
        _ if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => ask(peers),
        _ => {
            let hint = format!("choose with --pid:\n{}", table(&peers).lines().join("\n"));
            Err(Failure::usage(format!("{} processes run", peers.len()), hint).into())
        }
    }
}

fn ask(peers: Vec<Peer>) -> anyhow::Result<Peer> {
    eprint!("{}\npid? ", table(&peers).lines().join("\n"));
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let pid: Option<u32> = line.trim().parse().ok();
    let chosen = peers.into_iter().find(|peer| Some(peer.identity.pid) == pid);
    chosen.ok_or_else(|| Failure::usage("that is none of them", "give --pid").into())
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
