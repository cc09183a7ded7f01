//! Proportional Rate Reduction (RFC 9937): how much may leave on each acknowledgement of a recovery,
//! so that the flight shrinks to the new threshold over a round trip, and not at once.

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prr {
    /// RecoverFS: bytes in flight when recovery began.
    recover_fs: u32,
    /// Bytes delivered, and sent, since.
    delivered: u32,
    out: u32,
    /// The window until the next acknowledgement.
    cwnd: u32,
}

impl Prr {
    /// RFC 9937 §6.1. `flight`: bytes sent, neither acknowledged nor SACKed.
    pub(super) fn begin(flight: u32, smss: u32) -> Self {
        Self { recover_fs: flight.max(smss), delivered: 0, out: 0, cwnd: 0 }
    }

    /// RFC 9937 §6.2. `safe`: `snd_una` moved and nothing more was judged lost (§5).
    pub(super) fn on_ack(&mut self, delivered: u32, in_flight: u32, ssthresh: u32, smss: u32, safe: bool) {
        self.delivered = self.delivered.saturating_add(delivered);
        let send = if in_flight > ssthresh {
            let due = u64::from(self.delivered) * u64::from(ssthresh);
            let due = due.div_ceil(u64::from(self.recover_fs.max(1)));
            u32::try_from(due).unwrap_or(u32::MAX).saturating_sub(self.out)
        } else {
            // Slow start with a safe acknowledgement, else conservative: packet conservation.
            let conserved = self.delivered.saturating_sub(self.out).max(delivered);
            let grown = conserved.saturating_add(if safe { smss } else { 0 });
            grown.min(ssthresh - in_flight)
        };
        // §6.2: the first retransmission always leaves.
        let send = if self.out == 0 { send.max(smss) } else { send };
        self.cwnd = in_flight.saturating_add(send);
    }

    pub(super) fn on_send(&mut self, len: u32) {
        self.out = self.out.saturating_add(len);
    }

    pub(super) fn cwnd(&self) -> u32 {
        self.cwnd
    }
}
