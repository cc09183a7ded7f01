//! What a change did, for people.

use std::collections::BTreeMap;

use tailwater_dataplane::block::Value;
use tailwater_dataplane::live::{Change, Diff, Inheritance, Stall};

use crate::control::Changed;
use crate::output;

pub(super) fn changed(changed: &Changed, json: bool) -> anyhow::Result<()> {
    if json {
        output::line(serde_json::to_string(changed)?);
        return Ok(());
    }
    let Change { version, dry_run, diff, stalls } = &changed.change;
    lines(diff).into_iter().for_each(output::line);
    output::line(match (diff.is_empty(), dry_run) {
        (true, _) => format!("no difference; version {version}"),
        (false, true) => format!("nothing was done; version {version}"),
        (false, false) => format!("version {version}; {}", stall_words(stalls)),
    });
    changed.note.iter().for_each(|note| output::note(format_args!("note: {note}")));
    Ok(())
}

/// One line per difference.
pub(super) fn lines(diff: &Diff) -> Vec<String> {
    let Diff { added, removed, replaced, set, bound, unbound } = diff;
    let mut lines: Vec<String> = removed.iter().map(|name| format!("- block {name}")).collect();
    lines.extend(
        added.iter().map(|node| format!("+ block {}: {}{}", node.name, node.kind, parameters(&node.parameters))),
    );
    lines.extend(replaced.iter().map(|replacement| {
        let state = match replacement.state {
            Inheritance::Kept => "state kept",
            Inheritance::Dropped => "state dropped",
            Inheritance::None => "no state",
        };
        let (name, from, to) = (&replacement.name, &replacement.from, &replacement.to);
        format!("! block {name}: {from} -> {to}{}, {state}", parameters(&replacement.parameters))
    }));
    lines.extend(set.iter().map(|set| format!("~ block {}: {}={} -> {}", set.name, set.key, set.from, set.to)));
    lines.extend(unbound.iter().map(|edge| format!("- edge {}", String::from(edge.clone()))));
    lines.extend(bound.iter().map(|edge| format!("+ edge {}", String::from(edge.clone()))));
    lines
}

/// ` key=value` for each.
pub(super) fn parameters(parameters: &BTreeMap<String, Value>) -> String {
    parameters.iter().map(|(key, value)| format!(" {key}={value}")).collect()
}

/// How long packets waited.
pub(super) fn stall_words(stalls: &[Stall]) -> String {
    let words: Vec<String> = stalls
        .iter()
        .map(|stall| format!("worker {} {:.1} us", stall.worker, stall.stall_ns as f64 / 1000.0))
        .collect();
    format!("stalled {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sort_of_difference_has_its_line() {
        let diff: Diff = serde_json::from_str(
            r#"{"added":[{"name":"c","kind":"counter"}],"removed":["x"],
                "replaced":[{"name":"l","from":"rate-limit","to":"rate-limit","parameters":{"pps":9},"state":"kept"}],
                "set":[{"name":"i","key":"delay_us","from":0,"to":5}],"bound":["c -> tx:b"],"unbound":["x -> tx:b"]}"#,
        )
        .unwrap();
        assert_eq!(
            lines(&diff),
            [
                "- block x",
                "+ block c: counter",
                "! block l: rate-limit -> rate-limit pps=9, state kept",
                "~ block i: delay_us=0 -> 5",
                "- edge x -> tx:b",
                "+ edge c -> tx:b",
            ]
        );
    }
}
