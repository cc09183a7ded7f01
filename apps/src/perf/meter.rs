//! What is counted of a stream.

use tailwater_stack::tcp::TcpSnapshot;

use super::test::Mark;

/// Of one direction of one stream, since the test began or its omission ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) bytes: u64,
    /// Datagrams: sent, or the highest number received.
    pub(super) packets: u64,
    /// Datagrams whose number was left out.
    pub(super) lost: u64,
    pub(super) out_of_order: u64,
    /// Segments sent again.
    pub(super) retransmits: u64,
}

impl Counts {
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(before.bytes),
            packets: self.packets.saturating_sub(before.packets),
            lost: self.lost.saturating_sub(before.lost),
            out_of_order: self.out_of_order.saturating_sub(before.out_of_order),
            retransmits: self.retransmits.saturating_sub(before.retransmits),
        }
    }
}

/// The state of a sender's connection at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Path {
    /// Bytes.
    pub(super) cwnd: u32,
    pub(super) snd_wnd: u32,
    pub(super) rtt_us: u32,
    pub(super) rttvar_us: u32,
    pub(super) pmtu: u32,
}

impl From<&TcpSnapshot> for Path {
    fn from(snapshot: &TcpSnapshot) -> Self {
        Self {
            cwnd: snapshot.cwnd,
            snd_wnd: snapshot.snd_wnd,
            rtt_us: snapshot.srtt.map_or(0, |srtt| srtt.as_micros() as u32),
            rttvar_us: snapshot.rttvar.as_micros() as u32,
            pmtu: snapshot.path_mtu,
        }
    }
}

/// A stream at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) place: usize,
    pub(super) mark: Mark,
    pub(super) at_ns: u64,
    /// This end sends on it.
    pub(super) sends: bool,
    pub(super) counts: Counts,
    /// Seconds (RFC 1889 §6.3.1), of received datagrams.
    pub(super) jitter_s: f64,
    /// Of senders on TCP.
    pub(super) path: Option<Path>,
}

/// Bits per second up to which a sender may send, in whole blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// 0: no bound.
    rate: u64,
    /// Blocks at once.
    burst: u32,
    since_ns: u64,
    bytes: u64,
    /// Blocks that may go without asking the clock.
    granted: u32,
}

impl Pace {
    pub(super) fn new(rate: u64, burst: u32, since_ns: u64) -> Self {
        Self { rate, burst: burst.max(1), since_ns, bytes: 0, granted: 0 }
    }

    /// Whether a block may begin now.
    pub(super) fn permits(&mut self, now_ns: u64) -> bool {
        if self.rate == 0 || self.granted > 0 {
            return true;
        }
        let permits = now_ns >= self.next_ns();
        if permits {
            self.granted = self.burst;
        }
        permits
    }

    /// A block has gone.
    pub(super) fn on_block(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.granted = self.granted.saturating_sub(1);
    }

    /// When the next block may begin.
    pub(super) fn next_ns(&self) -> u64 {
        if self.rate == 0 || self.granted > 0 {
            return 0;
        }
        let ns = u128::from(self.bytes) * 8 * 1_000_000_000 / u128::from(self.rate);
        self.since_ns.saturating_add(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_at_the_rate_and_in_bursts() {
        // 8 kbit/s: a block of 100 bytes each 100 ms.
        let mut pace = Pace::new(8_000, 2, 0);
        let mut sent = Vec::new();
        for now_ms in 0..1_000u64 {
            while pace.permits(now_ms * 1_000_000) {
                pace.on_block(100);
                sent.push(now_ms);
            }
        }
        assert_eq!(sent, [0, 0, 200, 200, 400, 400, 600, 600, 800, 800]);
    }

    #[test]
    fn without_a_rate_every_block_may_go_at_once() {
        let mut pace = Pace::new(0, 1, 5);
        assert!((0..1_000).all(|_| {
            pace.on_block(1 << 20);
            pace.permits(5)
        }));
        assert_eq!(pace.next_ns(), 0);
    }
}
