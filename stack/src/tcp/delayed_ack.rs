//! When to acknowledge: delayed and quick (RFC 9293 §3.8.6.3, RFC 5681 §4.2).

use super::tcb::Tcb;
use super::timers::Timer;
use crate::buffer::Buffer;
use crate::time::Instant;

/// Full segments acknowledged one by one at the start, when the sender's window is small and each
/// acknowledgement lets it grow (RFC 5681 §4.2 allows; RFC 3465 §2.3).
pub(super) const QUICK_ACKS: u8 = 16;

impl<B: Buffer> Tcb<B> {
    /// `len` bytes arrived in order. At least every second full segment is acknowledged at once.
    #[inline]
    pub(super) fn on_in_order(&mut self, len: u32, now: Instant) {
        self.rcv_mss = self.rcv_mss.max(len.min(self.path_mtu.mtu));
        self.unacked = self.unacked.saturating_add(len);
        let quick = self.quick_acks > 0 && len >= self.rcv_mss;
        self.quick_acks -= u8::from(quick);
        if quick || self.unacked >= self.rcv_mss.saturating_mul(2) {
            self.ack_now = true;
        } else if !self.timers.is_armed(Timer::DelayedAck) {
            self.timers.arm(Timer::DelayedAck, now + self.options.delayed_ack);
        }
    }

    /// Something with an acknowledgement left.
    pub(super) fn on_ack_sent(&mut self) {
        self.ack_now = false;
        self.unacked = 0;
        self.irs_passed += u32::from(self.comes_by_irs());
        self.last_ack_sent = self.rcv_nxt;
        self.timers.disarm(Timer::DelayedAck);
    }
}
