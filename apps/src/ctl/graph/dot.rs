//! A graph with rates in Graphviz's language. `dot -Tsvg` makes a picture of it.
//!
//! Boxes are blocks, the darker the more of the cycles they take; ovals are ports. Lines are the thicker the more flows
//! along them, dashed where nothing does.

use std::fmt::Write;

use super::flow::{BlockFlow, EdgeFlow, Flow, NOWHERE};
use crate::top::scaled;
use crate::window::Window;

const HEAD: &str = r##"digraph tailwater {
  rankdir=LR
  bgcolor="white"
  node [fontname="Helvetica", fontsize=11, style="filled", color="#37474f"]
  edge [fontname="Helvetica", fontsize=10, color="#37474f"]
"##;

/// The drawing, complete.
pub(super) fn draw(flow: &Flow, window: &Window) -> String {
    let mut dot = HEAD.to_owned();
    let caption = quote(&caption(flow, window));
    let _ = writeln!(dot, "  label={caption}\n  labelloc=b\n  fontname=\"Helvetica\"\n  fontsize=10");
    flow.blocks.iter().for_each(|block| draw_block(&mut dot, block));
    draw_ends(&mut dot, flow);
    flow.edges.iter().for_each(|edge| draw_edge(&mut dot, edge));
    dot.push_str("}\n");
    dot
}

/// Whose graph, when, and what was lost meanwhile.
fn caption(flow: &Flow, window: &Window) -> String {
    let now = &window.now;
    let mut caption = format!(
        "tailwater {} (pid {}), graph version {}, packets per second over {:.1} s",
        now.command, now.pid, flow.version, flow.secs
    );
    let dropped = window.delta.dropped.iter().filter(|(_, n)| **n > 0);
    let dropped: Vec<String> = dropped.map(|(reason, &n)| format!("{reason} {}", scaled(window.rate(n)))).collect();
    if !dropped.is_empty() {
        let _ = write!(caption, "\ndropped: {}", dropped.join(", "));
    }
    caption
}

fn draw_block(dot: &mut String, block: &BlockFlow) {
    let mut label = format!("{}\n{}", block.name, block.kind);
    if let (Some(cycles), Some(batch)) = (block.cycles_per_packet, block.packets_per_batch) {
        let _ = write!(label, "\n{cycles:.0} cycles/packet\n{batch:.1} packets/batch");
    }
    // From nearly white to orange.
    let saturation = 0.05 + 0.55 * block.share;
    let (name, label) = (quote(&block.name), quote(&label));
    let _ = writeln!(dot, "  {name} [shape=box, label={label}, fillcolor=\"0.08 {saturation:.2} 1.00\"]");
}

/// Ports and other places at which edges begin or end, each once, in the order of the edges.
fn draw_ends(dot: &mut String, flow: &Flow) {
    let mut drawn: Vec<&str> = flow.blocks.iter().map(|block| block.name.as_str()).collect();
    for name in flow.edges.iter().flat_map(|edge| [edge.from.as_str(), edge.to.as_str()]) {
        if drawn.contains(&name) {
            continue;
        }
        drawn.push(name);
        let look = match name {
            NOWHERE => "shape=octagon, fillcolor=\"#ffcdd2\"",
            name if name.starts_with("rx:") => "shape=oval, fillcolor=\"#c8e6c9\"",
            _ => "shape=oval, fillcolor=\"#bbdefb\"",
        };
        let _ = writeln!(dot, "  {} [{look}]", quote(name));
    }
}

fn draw_edge(dot: &mut String, edge: &EdgeFlow) {
    let rate = edge.rate();
    let label = if edge.output.is_empty() { rate } else { format!("{}\n{rate}", edge.output) };
    let pps = edge.pps.unwrap_or(0.0);
    let style = if pps > 0.0 { "solid" } else { "dashed" };
    // One point wider with every tenfold.
    let width = 1.0 + (1.0 + pps).log10() / 2.0;
    let (from, to, label) = (quote(&edge.from), quote(&edge.to), quote(&label));
    let _ = writeln!(dot, "  {from} -> {to} [label={label}, style={style}, penwidth={width:.1}]");
}

/// A quoted string of the language; line ends become its own.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::graph::flow::tests::flow;
    use crate::snapshot::sample;

    #[test]
    fn drawing_is_as_recorded() {
        insta::assert_snapshot!(draw(&flow(), &sample::window()));
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        assert_eq!(quote("a\"; }\\\n"), r#""a\"; }\\\n""#);
    }
}
