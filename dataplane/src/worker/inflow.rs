//! Whether what arrives is bulk: much, in large packets, of which next to nothing is answered.
//!
//! Such packets may lie in the receive ring for a moment: whoever sends them waits for an acknowledgement of a whole window, not for
//! an answer to each. Requests, and packets that go on, may not.

use crate::port::Traffic;

/// How often the traffic is looked at, in ns.
const WINDOW_NS: u64 = 1_000_000;
/// Least bytes a millisecond: 0.5 Gbit/s. Below, sleeping until the next packet costs less.
const BYTES_PER_MS_MIN: u64 = 64 << 10;
/// Least bytes of a packet, on the average.
const PACKET_BYTES_MIN: u64 = 1_024;
/// Bytes received for one sent, at least: acknowledgements have a part of this.
const RECEIVED_PER_SENT_MIN: u64 = 8;

/// What a worker's ports have carried up to a moment, and whether it was bulk lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inflow {
    looked_ns: u64,
    seen: Traffic,
    is_bulk: bool,
}

impl Inflow {
    /// Looks at the traffic once in a window; whether it is bulk.
    #[inline]
    pub(super) fn is_bulk(&mut self, now_ns: u64, traffic: impl FnOnce() -> Traffic) -> bool {
        let passed_ns = now_ns.saturating_sub(self.looked_ns);
        if passed_ns >= WINDOW_NS {
            self.judge(passed_ns, traffic());
            self.looked_ns = now_ns;
        }
        self.is_bulk
    }

    fn judge(&mut self, passed_ns: u64, traffic: Traffic) {
        // A port that left takes its part with it.
        let seen = std::mem::replace(&mut self.seen, traffic);
        let bytes = traffic.rx_bytes.saturating_sub(seen.rx_bytes);
        let packets = traffic.rx_packets.saturating_sub(seen.rx_packets);
        let sent = traffic.tx_bytes.saturating_sub(seen.tx_bytes);
        self.is_bulk = bytes >= BYTES_PER_MS_MIN.saturating_mul(passed_ns / 1_000_000)
            && bytes >= PACKET_BYTES_MIN * packets
            && bytes >= RECEIVED_PER_SENT_MIN * sent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is bulk when in each of two milliseconds so many packets of so many bytes come, and so many bytes leave.
    fn judged(rx_packets: u64, len: u64, tx_bytes: u64) -> bool {
        let mut inflow = Inflow::default();
        let traffic =
            |ms| Traffic { rx_packets: ms * rx_packets, rx_bytes: ms * rx_packets * len, tx_bytes: ms * tx_bytes };
        inflow.is_bulk(WINDOW_NS, || traffic(1));
        inflow.is_bulk(2 * WINDOW_NS, || traffic(2))
    }

    #[test]
    fn many_large_packets_that_are_only_acknowledged_are_bulk() {
        assert!(judged(100, 1_500, 66 * 50));
        assert!(judged(10, 9_000, 66 * 5));
        assert!(!judged(1_000, 64, 0), "small packets");
        assert!(!judged(20, 1_500, 0), "too few");
        assert!(!judged(100, 1_500, 100 * 1_500), "packets that go on");
    }

    #[test]
    fn traffic_is_judged_over_the_time_since_the_last_look_and_no_more_often_than_once_in_a_window() {
        let mut inflow = Inflow::default();
        let traffic = |ms: u64| Traffic { rx_packets: ms * 100, rx_bytes: ms * 150_000, tx_bytes: 0 };
        assert!(inflow.is_bulk(WINDOW_NS, || traffic(1)));
        assert!(inflow.is_bulk(2 * WINDOW_NS - 1, || unreachable!("too early")));
        assert!(!inflow.is_bulk(12 * WINDOW_NS, || traffic(2)), "ten milliseconds with one's worth");
    }
}
