//! `ctl graph`: the running graph with what flows along its edges, as text, JSON, or a drawing.

mod dot;
mod flow;

use std::time::Duration;

use clap::Args as ClapArgs;

use crate::common::seconds;
use crate::control::{Dump, KindInfo, Peer, Request};
use crate::interrupt::Interrupt;
use crate::output;
use crate::snapshot::Snapshot;
use crate::table::Table;
use crate::window::Window;
use flow::Flow;

/// Options of `ctl graph`.
#[derive(ClapArgs, Debug)]
pub(super) struct Graph {
    /// Print it for Graphviz's dot
    #[arg(long, conflicts_with = "json")]
    dot: bool,
    /// Seconds over which rates are taken
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = seconds)]
    interval: Duration,
}

impl Graph {
    pub(super) fn show(&self, peer: &Peer, json: bool) -> anyhow::Result<()> {
        let interrupt = Interrupt::listen()?;
        let kinds: Vec<KindInfo> = peer.ask(Request::Kinds)?;
        let earlier: Snapshot = peer.ask(Request::Report)?;
        // A signal only makes the time shorter.
        interrupt.wait(self.interval);
        let dump: Dump = peer.ask(Request::Dump)?;
        let window = Window::between(Some(&earlier), peer.ask(Request::Report)?);
        let flow = Flow::of(&dump, &kinds, &window);
        if self.dot {
            output::line(dot::draw(&flow, &window).trim_end());
        } else if json {
            output::line(serde_json::to_string(&flow)?);
        } else {
            print(&flow);
        }
        Ok(())
    }
}

fn print(flow: &Flow) {
    let mut table = Table::new(&["edge", "pps"]);
    for edge in &flow.edges {
        table.row(vec![format!("{} -> {}", edge.source(), edge.to), edge.rate()]);
    }
    table.lines().into_iter().for_each(output::line);
}
