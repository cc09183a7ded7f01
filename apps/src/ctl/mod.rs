//! `tailwater ctl`: look at and change the packet graph of a running command.

mod batch;
mod edit;
mod follow;
mod graph;
mod list;
mod pair;
mod print;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, Subcommand};
use tailwater_dataplane::graph::GraphSpec;
use tailwater_dataplane::live::{Operation, Transaction};

use crate::control::{Changed, Choice, Dump, Peer, Refusal, Request};
use crate::failure::Failure;
use crate::output;
use edit::Edit;
use pair::Pair;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater ctl list                                             blocks with parameters and counters
  tailwater ctl insert cap capture rx:eth1 file=web.pcapng       capture what comes in; tshark -r web.pcapng
  tailwater ctl extract cap                                      and no more
  tailwater ctl insert bad impair rx:eth1 delay_us=20000 loss_percent=1
  tailwater ctl set bad loss_percent=5
  tailwater ctl dump > graph.toml; $EDITOR graph.toml; tailwater ctl diff graph.toml; tailwater ctl apply graph.toml
  tailwater ctl pair --help                                      encrypt or compress a link between two forwarders
  tailwater ctl undo                                             back to before the last change
  tailwater ctl subscribe -j | jq .                              every change, as it happens

A change happens as a whole or not at all, between two turns of each worker: no packet is lost, state is kept, and
what it cost each worker is told. --dry-run only checks. --base N refuses if somebody else was faster.
An edge is written 'FROM[.OUTPUT] -> TO' or, as an output leads to one place only, FROM[.OUTPUT].
rx:IF is a source, rx:* all others, tx:IF a sink, tx:* the sink that each packet names.";

/// Options of `ctl`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Print JSON; a refusal as an object with "error"
    #[arg(short, long, global = true)]
    json: bool,
    /// Only check, and tell what would be changed
    #[arg(long, global = true)]
    dry_run: bool,
    /// Refuse if the graph has another version by now
    #[arg(long, value_name = "VERSION", global = true)]
    base: Option<u64>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    #[command(flatten)]
    Edit(Edit),
    /// Make the whole graph that of a file
    #[command(after_help = "Blocks of the same name and kind stay, others are replaced with their state where it fits.
The file is what `ctl dump` prints; see `ctl diff FILE` for what would happen.")]
    Apply {
        /// TOML file; - is standard input
        file: PathBuf,
    },
    /// Several operations as one transaction
    #[command(after_help = "Each line of the file is an operation as on the command line; # begins a comment:
  add count counter
  unbind rx:eth1
  bind 'rx:eth1 -> count'
  bind 'count -> route'")]
    Batch {
        /// File with an operation a line; - is standard input
        file: PathBuf,
    },
    /// Go back to the graph from before the last change
    Undo,
    /// Print the graph as TOML, for `apply` and `diff`
    Dump,
    /// Show what `apply FILE` would change
    Diff {
        /// TOML file; - is standard input
        file: PathBuf,
    },
    /// List the blocks with their parameters and counters
    List,
    /// Show what flows along each edge, or draw it
    #[command(after_help = "Examples:
  tailwater ctl graph                                  edges with packets per second
  tailwater ctl graph --dot | dot -Tsvg > graph.svg    a picture (Debian's package graphviz); -Tpng works, too")]
    Graph(graph::Graph),
    /// List the kinds of blocks there are, or describe some
    Kinds {
        /// Describe these
        kinds: Vec<String>,
    },
    /// Put a pair of blocks in at both ends of a link, or take it out
    Pair {
        #[command(subcommand)]
        pair: Pair,
    },
    /// Print what happens to the graph, as it happens
    #[command(
        after_help = "Events are numbered from 1 without gaps. A subscriber that falls too far behind is cut off."
    )]
    Subscribe {
        /// Begin with this event, 1 being the first; what is to come unless given
        #[arg(long, value_name = "NUMBER")]
        from: Option<u64>,
        /// End after so many events
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let outcome = perform(&args);
    if let Err(error) = &outcome
        && let Some(refusal) = error.downcast_ref::<Refusal>().filter(|_| args.json)
    {
        output::line(serde_json::json!({ "error": refusal }));
    }
    outcome
}

fn perform(args: &Args) -> anyhow::Result<()> {
    let peer = || args.choice.find();
    let tell = |changed: &Changed| print::changed(changed, args.json);
    match &args.verb {
        Verb::Edit(edit) => {
            let peer = peer()?;
            tell(&args.change(&peer, edit.operations(&peer)?)?)
        }
        Verb::Apply { file } => tell(&args.change(&peer()?, vec![Operation::Apply { graph: graph(file)? }])?),
        Verb::Batch { file } => {
            let peer = peer()?;
            tell(&args.change(&peer, batch::operations(&read(file)?, &peer)?)?)
        }
        Verb::Undo => tell(&peer()?.ask(Request::Undo { base: args.base, dry_run: args.dry_run })?),
        Verb::Diff { file } => {
            let operations = vec![Operation::Apply { graph: graph(file)? }];
            let transaction = Transaction { operations, base: args.base, dry_run: true, ..Transaction::default() };
            tell(&peer()?.ask(Request::Change(transaction))?)
        }
        Verb::Dump => dump(&peer()?.ask(Request::Dump)?, args.json),
        Verb::List => list::blocks(&peer()?, args.json),
        Verb::Graph(graph) => graph.show(&peer()?, args.json),
        Verb::Kinds { kinds } => list::kinds(&peer()?, kinds, args.json),
        Verb::Subscribe { from, count } => follow::events(&peer()?, *from, *count, args.json),
        Verb::Pair { pair } => args.run_pair(pair),
    }
}

impl Args {
    fn run_pair(&self, pair: &Pair) -> anyhow::Result<()> {
        if self.choice.is_made() || self.base.is_some() {
            return Err(pair::refuse_choice());
        }
        pair.run(pair::Options { json: self.json, dry_run: self.dry_run })
    }

    fn change(&self, peer: &Peer, operations: Vec<Operation>) -> anyhow::Result<Changed> {
        let transaction = Transaction { operations, base: self.base, dry_run: self.dry_run, ..Transaction::default() };
        peer.ask(Request::Change(transaction))
    }
}

fn dump(dump: &Dump, json: bool) -> anyhow::Result<()> {
    match json {
        true => output::line(serde_json::to_string(dump)?),
        false => output::line(toml::to_string(&dump.graph).context("the graph cannot be written as TOML")?.trim_end()),
    }
    Ok(())
}

/// A graph file's content.
fn graph(file: &Path) -> anyhow::Result<GraphSpec> {
    let text = read(file)?;
    toml::from_str(&text).map_err(|error| {
        let hint = "`tailwater ctl dump` shows how a graph is written";
        Failure::new(format!("{}: {error}", file.display()), hint).into()
    })
}

fn read(file: &Path) -> anyhow::Result<String> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    text.map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display()), "").into())
}
