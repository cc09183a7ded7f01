//! How many IPv6 routes the kernel has, all tables counted: what a listing is held against that may lack some.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Of the network namespace of the thread which opened it, as a socket's.
const PATH: &str = "/proc/thread-self/net/rt6_stats";
/// Hexadecimal words in the file: nodes, nodes with routes, routes allocated, routes, cached, destinations, discarded.
const ROUTES_FIELD: usize = 3;
const LENGTH_MAX: usize = 128;

pub(crate) struct RouteCount(Option<File>);

impl RouteCount {
    /// Without such a file (no procfs, no IPv6) the count is never known.
    pub(crate) fn open() -> Self {
        Self(File::open(PATH).ok())
    }

    pub(crate) fn read(&self) -> Option<usize> {
        let mut text = [0; LENGTH_MAX];
        let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        routes(std::str::from_utf8(text.get(..length)?).ok()?)
    }
}

fn routes(text: &str) -> Option<usize> {
    usize::from_str_radix(text.split_ascii_whitespace().nth(ROUTES_FIELD)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_the_fourth_hexadecimal_word() {
        assert_eq!(routes("000d 0008 000e 1000c 0000 0000 0000\n"), Some(0x1000c));
        assert_eq!(routes("000d 0008"), None);
        assert_eq!(routes("000d 0008 000e none"), None);
    }
}
