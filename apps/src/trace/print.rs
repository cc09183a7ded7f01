//! A followed packet as text.

use std::fmt::Write;

use tailwater_dataplane::trace::{Did, Packet, Step};

use super::headers;
use crate::table::Table;

/// The packet's way, a line for each step; a further one where its headers are seen first, and where they changed.
pub(super) fn packet(number: usize, packet: &Packet) -> String {
    let mut lines = Vec::new();
    let started_ns = packet.steps.first().map_or(0, |step| step.at_ns);
    let state = if packet.complete { "" } else { ", its end was not seen" };
    lines.push(format!("packet {number}, worker {}{state}", packet.worker));
    let mut table = Table::new(&["at", "kind", "did", "cycles", "bytes", "us"]);
    table.left(1);
    table.left(2);
    for step in &packet.steps {
        let cycles = if step.cycles == 0 { String::new() } else { step.cycles.to_string() };
        let us = (step.at_ns - started_ns) as f64 / 1000.0;
        table.row(vec![
            step.at.clone(),
            step.kind.clone(),
            did(&step.did),
            cycles,
            step.len[1].to_string(),
            format!("{us:.0}"),
        ]);
    }
    let mut rows = table.lines().into_iter();
    lines.extend(rows.next());
    for (row, step) in rows.zip(&packet.steps) {
        lines.push(row);
        lines.extend(sight(step).map(|sight| format!("      {sight}")));
    }
    lines.join("\n")
}

fn did(did: &Did) -> String {
    match did {
        Did::Received => "received".into(),
        Did::Made { output } => format!("made -> {output}"),
        Did::Passed { output } => format!("passed -> {output}"),
        Did::Copied { output } => format!("copied -> {output}"),
        Did::Held => "held".into(),
        Did::Delivered => "delivered".into(),
        Did::Dropped { reason } => format!("dropped: {reason}"),
        Did::Sent => "sent".into(),
    }
}

/// The headers where they are new, with the bytes that changed.
fn sight(step: &Step) -> Option<String> {
    let [before, after] = step.bytes.each_ref().map(|text| bytes(text));
    match step.did {
        Did::Received | Did::Made { .. } => Some(headers::line(&after)),
        _ if before == after => None,
        _ => Some(format!("{}   (changed: {})", headers::line(&after), changed(&before, &after))),
    }
}

/// `bytes 0-11, 22, 24-25`, or that the length is another.
fn changed(before: &[u8], after: &[u8]) -> String {
    if before.len() != after.len() {
        return format!("from {} to {} bytes of headers", before.len(), after.len());
    }
    let places: Vec<usize> = (0..after.len()).filter(|&at| before[at] != after[at]).collect();
    let mut text = String::from("bytes");
    let mut at = 0;
    while at < places.len() {
        let first = places[at];
        while at + 1 < places.len() && places[at + 1] == places[at] + 1 {
            at += 1;
        }
        let separator = if text.len() > "bytes".len() { "," } else { "" };
        let _ = match places[at] {
            last if last == first => write!(text, "{separator} {first}"),
            last => write!(text, "{separator} {first}-{last}"),
        };
        at += 1;
    }
    text
}

/// Bytes of hexadecimal digits; what is none ends them.
fn bytes(text: &str) -> Vec<u8> {
    let pairs = (0..text.len() / 2).map(|at| text.get(2 * at..2 * at + 2));
    pairs.map_while(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::headers::tests::udp_frame;

    fn step(at: &str, kind: &str, did: Did, ttls: [u8; 2]) -> Step {
        let hex = |ttl| udp_frame(ttl).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let cycles = if kind == "port" { 0 } else { 250 };
        let at_ns = if at == "d1" { 1_012_000 } else { 1_000_000 };
        Step { at_ns, at: at.into(), kind: kind.into(), did, cycles, len: [60; 2], bytes: ttls.map(hex) }
    }

    #[test]
    fn a_way_is_told_step_by_step_with_what_changed() {
        let steps = vec![
            step("d0", "port", Did::Received, [64, 64]),
            step("copies", "tee", Did::Passed { output: "out".into() }, [64, 64]),
            step("copies", "tee", Did::Copied { output: "copy".into() }, [64, 64]),
            step("route", "ip-forward", Did::Passed { output: "out".into() }, [64, 63]),
            step("rest", "filter", Did::Dropped { reason: "filtered".into() }, [64, 64]),
            step("d1", "port", Did::Sent, [63, 63]),
        ];
        insta::assert_snapshot!(packet(1, &Packet { worker: 0, steps, complete: true }));
    }

    #[test]
    fn runs_of_changed_bytes_are_joined() {
        assert_eq!(changed(&[0, 1, 2, 3, 4, 5], &[9, 9, 2, 9, 4, 9]), "bytes 0-1, 3, 5");
        assert_eq!(changed(&[0, 1], &[0]), "from 2 to 1 bytes of headers");
        assert_eq!(bytes("0aff"), [10, 255]);
        assert_eq!(bytes("0ag"), [10]);
    }
}
