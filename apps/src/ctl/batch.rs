//! Operations a line each, as on the command line.

use clap::Parser;
use tailwater_dataplane::live::Operation;

use super::edit::Edit;
use crate::control::Peer;
use crate::failure::Failure;

/// A line of a batch.
#[derive(Parser, Debug)]
#[command(name = "", no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    edit: Edit,
}

/// The operations of all lines.
pub(super) fn operations(text: &str, peer: &Peer) -> anyhow::Result<Vec<Operation>> {
    let mut operations = Vec::new();
    for edit in edits(text)? {
        operations.extend(edit.operations(peer)?);
    }
    Ok(operations)
}

fn edits(text: &str) -> anyhow::Result<Vec<Edit>> {
    let mut edits = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let hint = "a line is an operation as on the command line: insert count counter rx:eth1";
        let words =
            shlex::split(line).ok_or_else(|| Failure::usage(format!("line {number}: a quote is not closed"), hint))?;
        if words.is_empty() {
            continue;
        }
        let parsed = Line::try_parse_from(words).map_err(|error| {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Failure::usage(format!("line {number}: {first}"), hint)
        })?;
        edits.push(parsed.edit);
    }
    if edits.is_empty() {
        return Err(Failure::usage("the batch holds no operation", "").into());
    }
    Ok(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_with_quotes_and_comments() {
        let text = "# two blocks\nadd a counter\n\n  add f filter expression='udp port 53' # DNS\nbind 'a -> f'\n";
        let edits = edits(text).unwrap();
        assert_eq!(edits.len(), 3);
        assert!(matches!(&edits[2], Edit::Bind { edge } if edge == "a -> f"));
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        let message = |text: &str| edits(text).unwrap_err().to_string();
        assert!(
            message("add a counter\nad b counter").contains("line 2"),
            "{}",
            message("add a counter\nad b counter")
        );
        assert!(message("add 'a counter").contains("line 1: a quote"));
        assert!(message("# nothing\n").contains("no operation"));
    }
}
