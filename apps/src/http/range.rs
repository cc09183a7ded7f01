//! Part of a representation (RFC 9110 §14): one range of bytes. Several at once are not served; the whole is, as the RFC
//! allows.

use super::request::number;

/// As it is asked for, before the length is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Range {
    /// From here on, to this byte or to the end.
    From { first: u64, last: Option<u64> },
    /// The last so many bytes.
    Suffix(u64),
}

impl Range {
    /// `bytes=first-last`, `bytes=first-` or `bytes=-n`. Anything else is as if it were not there.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let set = value.strip_prefix(b"bytes=")?.trim_ascii();
        let dash = set.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (set.get(..dash)?, set.get(dash + 1..)?);
        if first.is_empty() {
            return number(last).map(Self::Suffix);
        }
        let first = number(first)?;
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        last.is_none_or(|last| first <= last).then_some(Self::From { first, last })
    }

    /// The bytes of a representation of `len` bytes: from where to where; `None` if there are none.
    pub(super) fn of(self, len: u64) -> Option<std::ops::Range<u64>> {
        let (from, to) = match self {
            Self::From { first, last } => (first, last.map_or(len, |last| len.min(last.saturating_add(1)))),
            Self::Suffix(n) => (len.saturating_sub(n), len),
        };
        (from < to).then_some(from..to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        let of = |value: &str, len| Range::parse(value.as_bytes()).map(|range| range.of(len));
        assert_eq!(of("bytes=0-0", 10), Some(Some(0..1)));
        assert_eq!(of("bytes=2-", 10), Some(Some(2..10)));
        assert_eq!(of("bytes=2-99", 10), Some(Some(2..10)));
        assert_eq!(of("bytes=-3", 10), Some(Some(7..10)));
        assert_eq!(of("bytes=-99", 10), Some(Some(0..10)));
        assert_eq!(of("bytes=0-18446744073709551615", 10), Some(Some(0..10)));
        assert_eq!(of("bytes=10-", 10), Some(None), "nothing of it");
        assert_eq!(of("bytes=-0", 10), Some(None));
        assert_eq!(of("bytes=0-", 0), Some(None));
    }

    #[test]
    fn what_is_no_single_range_counts_for_nothing() {
        for value in ["bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=+1-2"] {
            assert_eq!(Range::parse(value.as_bytes()), None, "{value}");
        }
    }
}
