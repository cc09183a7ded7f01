//! Ports of our own, for what we open (RFC 6056).

use core::fmt;
use core::ops::RangeInclusive;

/// Local ports that connections and sockets without a port of their own choose from: `count` of them
/// from `first` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalPorts {
    first: u16,
    count: u16,
}

impl LocalPorts {
    /// RFC 6335 §6: the dynamic ports, 49152 to 65535.
    pub const DYNAMIC: Self = Self { first: 49_152, count: 16_384 };

    /// These ports; `None` if there are none, or port 0 is among them.
    pub fn new(ports: RangeInclusive<u16>) -> Option<Self> {
        let (first, last) = ports.into_inner();
        (first != 0 && first <= last).then(|| Self { first, count: last - first + 1 })
    }

    pub fn contains(self, port: u16) -> bool {
        port.checked_sub(self.first).is_some_and(|at| at < self.count)
    }

    /// Each of them once, from the `start`th on and round.
    pub(crate) fn from(self, start: u64) -> impl Iterator<Item = u16> {
        let start = (start % u64::from(self.count)) as u32;
        (0..u32::from(self.count)).map(move |step| self.first + ((start + step) % u32::from(self.count)) as u16)
    }
}

impl fmt::Display for LocalPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.first, self.first + (self.count - 1))
    }
}

impl Default for LocalPorts {
    fn default() -> Self {
        Self::DYNAMIC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_comes_once_wherever_it_starts() {
        let ports = LocalPorts::new(65_000..=65_535).unwrap();
        for start in [0, 1, 535, 536, u64::MAX] {
            let mut seen: alloc::vec::Vec<u16> = ports.from(start).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(65_000..=65_535));
        }
    }

    #[test]
    fn port_zero_and_empty_ranges_are_refused() {
        assert_eq!(LocalPorts::new(0..=7), None);
        #[allow(clippy::reversed_empty_ranges)]
        let empty = LocalPorts::new(8..=7);
        assert_eq!(empty, None);
        assert!(LocalPorts::new(7..=7).is_some_and(|ports| ports.contains(7) && !ports.contains(8)));
    }
}
