//! Many from one: `c{1..50}` among names, and `{n}` where a table has `repeat`.

use std::ops::Range;

use super::ENTRIES_MAX;
use super::error::ScenarioError;

/// A text and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) span: Range<usize>,
}

impl Text {
    /// With `n` for `{n}`.
    pub(super) fn with(&self, n: u64) -> Self {
        Self { value: self.value.replace("{n}", &n.to_string()), span: self.span.clone() }
    }
}

/// `a` is `a`; `c{1..3}` is `c1`, `c2`, `c3`.
pub(super) fn names(text: &str, name: &Text) -> Result<Vec<Text>, ScenarioError> {
    let wrong = |message: String| {
        let hint = "write \"a\", or \"c{1..50}\" for c1 to c50";
        ScenarioError::at(text, name.span.clone(), message).hint(hint)
    };
    let plain = |value: &str| !value.is_empty() && !value.contains([' ', '{', '}', '/']);
    let Some((front, rest)) = name.value.split_once('{') else {
        return match plain(&name.value) {
            true => Ok(vec![name.clone()]),
            false => Err(wrong(format!("'{}' cannot be the name of a node", name.value))),
        };
    };
    let range = rest.split_once('}').and_then(|(range, back)| {
        let (first, last) = range.split_once("..")?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, back))
    });
    match range {
        Some((first, last, back)) if first <= last && last - first < ENTRIES_MAX as u64 => {
            let name = |n| Text { value: format!("{front}{n}{back}"), span: name.span.clone() };
            Ok((first..=last).map(name).collect())
        }
        _ => Err(wrong(format!("'{}' is no range of names", name.value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(value: &str) -> Result<Vec<String>, ScenarioError> {
        let names = names("", &Text { value: value.to_owned(), span: 0..0 })?;
        Ok(names.into_iter().map(|name| name.value).collect())
    }

    #[test]
    fn ranges_become_names() {
        assert_eq!(expand("a").unwrap(), ["a"]);
        assert_eq!(expand("c{9..11}x").unwrap(), ["c9x", "c10x", "c11x"]);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in ["", "a b", "c{1..}", "c{3..1}", "c{1..9999999}", "c{", "a/b"] {
            assert!(expand(wrong).unwrap_err().hint.contains("c{1..50}"), "{wrong}");
        }
    }
}
