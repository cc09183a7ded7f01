//! The shortest command lines: a group and `up`, `down` or `mtu BYTES`. Describing the whole of `group` to clap takes as
//! long as the kernel takes to change a hundred interfaces, so these are read without it; whatever looks any different,
//! mistakes included, is clap's.

use std::ffi::OsString;

use super::{Action, Args, ChangeOptions, MTU_BYTES_MIN};

/// Commands, which no group is taken for here.
const COMMANDS: [&str; 9] = ["list", "show", "up", "down", "mtu", "address", "attach", "detach", "help"];

/// What clap makes of the words after `group`, if it is as simple as that.
pub(crate) fn plain_args(words: &[OsString]) -> Option<Args> {
    let (group, action) = words.split_first()?;
    let group = group.to_str().filter(|word| word.starts_with(|first: char| first.is_ascii_alphanumeric()))?;
    if COMMANDS.contains(&group) {
        return None;
    }
    let options = ChangeOptions::default();
    let action = match action.iter().map(|word| word.to_str()).collect::<Option<Vec<_>>>()?[..] {
        ["up"] => Action::Up(options),
        ["down"] => Action::Down(options),
        ["mtu", bytes] => Action::Mtu { bytes: bytes.parse().ok().filter(|bytes| *bytes >= MTU_BYTES_MIN)?, options },
        _ => return None,
    };
    Some(Args { group: Some(group.to_owned()), json: false, action: Some(action) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Subcommand;

    #[test]
    fn no_command_is_taken_for_a_group() {
        let mut known = Action::augment_subcommands(clap::Command::new("group"));
        known.build();
        let known: Vec<&str> = known.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(known, COMMANDS);
    }
}
