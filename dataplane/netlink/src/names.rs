//! Names of interfaces and interface groups, and what a mistyped one was meant to be.

use std::path::Path;

use crate::error::{Error, Result};

/// Where iproute2 keeps group names, by version and distribution; the first match wins.
const GROUP_FILES: [&str; 3] = ["/etc/iproute2/group", "/usr/share/iproute2/group", "/usr/lib/iproute2/group"];
/// Suggestions shown at most.
const SUGGESTIONS_MAX: usize = 3;
/// Jaro-Winkler similarity from which on a name is worth suggesting: one or two slips in a short name.
const SIMILARITY_MIN: f64 = 0.8;

/// Number of an interface group: a decimal or `0x` number, or a name from iproute2's group file.
///
/// # Errors
/// [`Error::NoSuchGroup`], with similar names.
pub fn group_by_name(name: &str) -> Result<u32> {
    let number = match name.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => name.parse().ok(),
    };
    if let Some(number) = number {
        return Ok(number);
    }
    let known = group_names();
    match known.iter().find(|(_, group)| group == name) {
        Some((number, _)) => Ok(*number),
        None => Err(Error::NoSuchGroup {
            name: name.to_owned(),
            similar: similar(name, known.iter().map(|(_, group)| group.as_str())),
        }),
    }
}

/// Numbers and names of iproute2's group files; of several names of a number, and numbers of a name, the first counts.
pub fn group_names() -> Vec<(u32, String)> {
    GROUP_FILES.iter().flat_map(|file| read_groups(Path::new(file))).collect()
}

fn read_groups(file: &Path) -> Vec<(u32, String)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(parse_group).collect()
}

/// `number <white space> name`, `#` starts a comment.
fn parse_group(line: &str) -> Option<(u32, String)> {
    let line = line.split('#').next()?;
    let mut words = line.split_whitespace();
    let number = words.next()?;
    let number = match number.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    Some((number, words.next()?.to_owned()))
}

/// The names most like `wanted`, best first.
pub(crate) fn similar<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = names
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(score, _)| *score >= SIMILARITY_MIN)
        .collect();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.into_iter().take(SUGGESTIONS_MAX).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_number_in_either_notation() {
        assert_eq!(group_by_name("42").ok(), Some(42));
        assert_eq!(group_by_name("0x2a").ok(), Some(42));
    }

    #[test]
    fn comments_and_blank_lines_name_no_group() {
        assert_eq!(parse_group("# device group names"), None);
        assert_eq!(parse_group(""), None);
        assert_eq!(parse_group("7\tuplinks # towards the core"), Some((7, "uplinks".to_owned())));
        assert_eq!(parse_group("0x10 racks"), Some((16, "racks".to_owned())));
    }

    #[test]
    fn an_unknown_group_is_an_error_and_never_a_number() {
        assert!(matches!(group_by_name("no-such-group"), Err(Error::NoSuchGroup { .. })));
        assert!(matches!(group_by_name(""), Err(Error::NoSuchGroup { .. })));
        assert!(matches!(group_by_name("-1"), Err(Error::NoSuchGroup { .. })));
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let names = ["eth0", "wan0", "lan-west"];
        assert_eq!(similar("eht0", names.into_iter()), ["eth0"]);
        assert_eq!(similar("lanwest", names.into_iter()), ["lan-west"]);
        assert!(similar("zzz", names.into_iter()).is_empty());
    }
}
