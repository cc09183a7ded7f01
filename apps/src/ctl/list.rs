//! What there is: blocks that run, and kinds of blocks that could.

use serde::Serialize;
use tailwater_dataplane::graph::NodeSpec;

use super::print::parameters;
use crate::control::{Dump, KindInfo, ParameterInfo, Peer, Request};
use crate::failure::Failure;
use crate::output;
use crate::snapshot::{Counts, Snapshot, add};
use crate::table::{Table, grouped};

/// A block with what all workers' instances of it have counted together.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    node: NodeSpec,
    packets: u64,
    batches: u64,
    cycles: u64,
    counters: Counts,
}

pub(super) fn blocks(peer: &Peer, json: bool) -> anyhow::Result<()> {
    let dump: Dump = peer.ask(Request::Dump)?;
    let snapshot: Snapshot = peer.ask(Request::Report)?;
    let listed: Vec<Listed> = dump.graph.nodes.into_iter().map(|node| Listed::of(node, &snapshot)).collect();
    if json {
        output::line(serde_json::to_string(&listed)?);
        return Ok(());
    }
    let mut table = Table::new(&["block", "packets", "per batch", "cycles each"]);
    for block in &listed {
        let ratio = |n: u64, of: u64| if of == 0 { "-".to_owned() } else { format!("{:.1}", n as f64 / of as f64) };
        table.row(vec![
            block.node.name.clone(),
            grouped(block.packets),
            ratio(block.packets, block.batches),
            ratio(block.cycles, block.packets),
        ]);
    }
    let mut lines = table.lines().into_iter();
    lines.next().into_iter().for_each(output::line);
    for (line, block) in lines.zip(&listed) {
        output::line(format_args!("{line}   {}{}", block.node.kind, parameters(&block.node.parameters)));
        if !block.counters.is_empty() {
            let counters: Vec<String> =
                block.counters.iter().map(|(name, n)| format!("{name} {}", grouped(*n))).collect();
            output::line(format_args!("      {}", counters.join(", ")));
        }
    }
    Ok(())
}

impl Listed {
    fn of(node: NodeSpec, snapshot: &Snapshot) -> Self {
        let mut listed = Self { node, packets: 0, batches: 0, cycles: 0, counters: Counts::new() };
        let blocks = snapshot.workers.iter().flat_map(|worker| &worker.blocks);
        for block in blocks.filter(|block| block.name == listed.node.name) {
            listed.packets += block.packets;
            listed.batches += block.batches;
            listed.cycles += block.cycles;
            match listed.node.kind.as_str() {
                // All instances write to one file and count the same.
                "capture" => listed.counters.extend(block.counters.clone()),
                _ => add(&mut listed.counters, &block.counters),
            }
        }
        listed
    }
}

pub(super) fn kinds(peer: &Peer, wanted: &[String], json: bool) -> anyhow::Result<()> {
    let mut kinds: Vec<KindInfo> = peer.ask(Request::Kinds)?;
    if let Some(unknown) = wanted.iter().find(|&wanted| kinds.iter().all(|kind| kind.name != *wanted)) {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
        return Err(
            Failure::new(format!("there is no kind {unknown:?}"), format!("there are {}", names.join(", "))).into()
        );
    }
    kinds.retain(|kind| wanted.is_empty() || wanted.contains(&kind.name));
    if json {
        output::line(serde_json::to_string(&kinds)?);
    } else if wanted.is_empty() {
        let width = kinds.iter().map(|kind| kind.name.len()).max().unwrap_or(0);
        kinds.iter().for_each(|kind| output::line(format_args!("  {:<width$}  {}", kind.name, kind.summary)));
    } else {
        kinds.iter().for_each(describe);
    }
    Ok(())
}

fn describe(kind: &KindInfo) {
    output::line(format_args!("{}: {}", kind.name, kind.summary));
    let state = if kind.stateful { "keeps state" } else { "keeps no state" };
    let outputs = if kind.outputs.is_empty() { "none".to_owned() } else { kind.outputs.join(", ") };
    output::line(format_args!("  takes {}, outputs: {outputs}; {state}", kind.input));
    for parameter in &kind.parameters {
        output::line(format_args!(
            "  {}  {}{}",
            parameter.key,
            values(parameter),
            if parameter.live { "" } else { ", fixed" }
        ));
        output::line(format_args!("      {}", parameter.doc));
    }
}

fn values(parameter: &ParameterInfo) -> String {
    let range = match (&parameter.min, &parameter.max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        _ => String::new(),
    };
    let default = match &parameter.default {
        Some(default) if default.is_empty() => String::new(),
        Some(default) => format!(", {default} unless given"),
        None => ", must be given".to_owned(),
    };
    format!("{}{range}{default}", parameter.value)
}
