//! Numbers and times inside UDP payloads, and what a receiver makes of them.
//!
//! ```text
//! | number 8 | sent at, ns 8 | zeros |
//! ```

use std::time::Duration;

use tailwater_stack::Instant;

/// Smallest payload that has room for both.
pub(super) const LEN_MIN: usize = 16;
/// Numbers below the highest that a receiver still tells apart.
const WINDOW: u64 = 1_024;
const WORDS: usize = WINDOW as usize / 64;

pub(super) fn write(payload: &mut [u8], number: u64, now: Instant) {
    if let Some((stamp, rest)) = payload.split_first_chunk_mut::<LEN_MIN>() {
        stamp[..8].copy_from_slice(&number.to_be_bytes());
        stamp[8..].copy_from_slice(&now.as_nanos().to_be_bytes());
        rest.fill(0);
    }
}

pub(super) fn read(payload: &[u8]) -> Option<(u64, Instant)> {
    let (number, rest) = payload.split_first_chunk::<8>()?;
    let (sent_at, _) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), Instant::from_nanos(u64::from_be_bytes(*sent_at))))
}

/// What arrived of a numbered stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    pub(super) packets: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    /// Too far back to know whether they are new.
    pub(super) too_late: u64,
    /// One above the highest number seen.
    pub(super) expected: u64,
    seen: [u64; WORDS],
}

impl Arrivals {
    pub(super) fn on_packet(&mut self, number: u64) {
        if number >= self.expected {
            for skipped in self.expected.max((number + 1).saturating_sub(WINDOW))..number {
                self.mark(skipped, false);
            }
            self.expected = number + 1;
        } else if number + WINDOW < self.expected {
            self.too_late += 1;
            return;
        } else if self.is_seen(number) {
            self.duplicates += 1;
            return;
        } else {
            self.reordered += 1;
        }
        self.mark(number, true);
        self.packets += 1;
    }

    fn mark(&mut self, number: u64, seen: bool) {
        let bit = number % WINDOW;
        if let Some(word) = self.seen.get_mut((bit / 64) as usize) {
            *word = *word & !(1 << (bit % 64)) | u64::from(seen) << (bit % 64);
        }
    }

    fn is_seen(&self, number: u64) -> bool {
        let bit = number % WINDOW;
        self.seen.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }
}

/// Time that a packet was under way: all hosts read the same clock.
pub(super) fn one_way(sent_at: Instant, now: Instant) -> Duration {
    now.since(sent_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(numbers: &[u64]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        numbers.iter().for_each(|&number| arrivals.on_packet(number));
        arrivals
    }

    #[test]
    fn order_and_copies_are_told_apart() {
        let seen = arrivals(&[0, 1, 3, 2, 3, 5, 4, 4, 6]);
        assert_eq!((seen.packets, seen.reordered, seen.duplicates, seen.expected), (7, 2, 2, 7));
    }

    #[test]
    fn a_gap_longer_than_the_window_leaves_nothing_behind() {
        let seen = arrivals(&[0, 5, 10_000, 9_999, 5, 9_000]);
        assert_eq!((seen.packets, seen.reordered, seen.duplicates, seen.too_late), (5, 2, 0, 1));
    }

    #[test]
    fn numbers_survive_a_payload() {
        let mut payload = [7; 20];
        write(&mut payload, 42, Instant::from_micros(3));
        assert_eq!(read(&payload), Some((42, Instant::from_micros(3))));
        assert_eq!(payload[16..], [0; 4]);
        assert_eq!(read(&payload[..15]), None);
    }
}
