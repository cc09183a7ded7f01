//! Searching upwards for what the path carries (RFC 8899 §5, RFC 4821 §7): a segment larger than the others leaves, with text
//! that is to be sent anyhow. If it arrives, the others become as large.
//!
//! ```text
//!   Base: a black hole, or told to start there       every size between is settled
//!     ----------------------------------------> Search -----------------------> Search complete
//!                                                 ^                                    |
//!   a router told of less ---> PMTU_RAISE_TIMER --+----------- PMTU_RAISE_TIMER -------'
//! ```
//! The largest size is tried first, for most black holes are mistakes or pass; then the middle of what is left. A probe that
//! is lost alone is repaired without a word to congestion control (RFC 4821 §7.6.2).

use alloc::boxed::Box;
use core::time::Duration;

use super::config::MtuProbing;
use super::path_mtu::{BASE_MTU, headers_len};
use super::seq::SeqNum;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::env::Env;
use crate::time::Instant;

/// RFC 8899 §5.1.2, MAX_PROBES: losses of one size that show that it does not arrive.
const PROBES_MAX: u8 = 3;
/// RFC 8899 §5.1.1, PMTU_RAISE_TIMER.
pub(super) const RAISE_AFTER: Duration = Duration::from_secs(600);
/// A gain of fewer bytes is not worth a probe.
const STEP_MIN: u32 = 8;
/// RFC 4821 §7.4: segments that must follow a probe, so that its loss is noticed without a time-out.
const FOLLOWERS: u32 = 3;

/// Where the search stands. Sizes are those of IP packets; what is known to arrive is [`PathMtu::mtu`](super::path_mtu::PathMtu).
#[derive(Clone, Copy, Debug)]
pub(super) struct MtuSearch {
    /// What is larger does not arrive; 0: the search has yet to begin.
    high: u32,
    /// Of the next probe, or the one under way.
    size: u32,
    /// Probes of that size that were lost.
    lost: u8,
    /// A probe is under way.
    out: bool,
    /// First sequence numbers of the last probe, and behind it.
    probe: (SeqNum, SeqNum),
    /// No probe leaves before.
    next_at: Instant,
}

impl MtuSearch {
    fn new(next_at: Instant) -> Self {
        Self { high: 0, size: 0, lost: 0, out: false, probe: (SeqNum(0), SeqNum(0)), next_at }
    }

    /// The size to try now, between `low` and `limit`.
    fn wanted(&mut self, low: u32, limit: u32, now: Instant) -> Option<u32> {
        if self.high == 0 {
            (self.high, self.size) = (limit, limit);
        }
        // The limit may have come down since, as another connection learnt.
        self.high = self.high.min(limit);
        self.size = self.size.min(self.high);
        if self.high < low + STEP_MIN {
            *self = Self::new(now + RAISE_AFTER);
            return None;
        }
        Some(self.size)
    }

    fn on_arrived(&mut self) -> u32 {
        let low = self.size;
        (self.out, self.lost) = (false, 0);
        self.halve(low);
        low
    }

    fn on_lost(&mut self, low: u32) {
        self.out = false;
        self.lost += 1;
        if self.lost >= PROBES_MAX {
            self.high = self.size.saturating_sub(1);
            self.lost = 0;
            self.halve(low);
        }
    }

    /// RFC 8899 §4.6.2: a router named a size above what is known to arrive.
    fn on_reported(&mut self, mtu: u32) {
        (self.out, self.lost) = (false, 0);
        (self.high, self.size) = (mtu, mtu);
    }

    fn halve(&mut self, low: u32) {
        self.size = low + self.high.saturating_sub(low).div_ceil(2);
    }
}

impl<B: Buffer> Tcb<B> {
    /// Larger segments may be tried from `at` on.
    pub(super) fn search_mtu_from(&mut self, at: Instant) {
        if self.options.mtu_probing != MtuProbing::Off {
            self.mtu_search = Some(Box::new(MtuSearch::new(at)));
        }
    }

    /// RFC 8899 §5.2, Base: small segments first, if the application wants that.
    pub(super) fn start_at_base(&mut self, now: Instant) {
        if self.options.mtu_probing == MtuProbing::FromBase && self.path_mtu.mtu > BASE_MTU {
            self.path_mtu.mtu = BASE_MTU;
            self.search_mtu_from(now);
        }
    }

    /// Sends a probe in place of the next new segment, if it is time for one: bytes sent. `Some(None)`: new text waits until
    /// there is room for it; `None`: no probe is due.
    pub(super) fn send_mtu_probe<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> Option<Option<u32>> {
        let len = self.mtu_probe_due(cx)?;
        let (in_flight, behind) = (self.in_flight(), FOLLOWERS * self.smss);
        let full = in_flight + len > self.cwnd() || self.flight_size() + len + behind > self.snd_wnd;
        if full && self.flight_size() > 0 {
            self.usage.on_send(in_flight, true);
            return Some(None);
        }
        if !self.join_unsent(len, cx) {
            return None;
        }
        let sent = self.send_new(len, cx);
        if sent.is_some() {
            self.on_new_sent(cx.now);
            cx.stack.tcp.counters.mtu_probes += 1;
            let probe = (self.snd_nxt - len, self.snd_nxt);
            if let Some(search) = &mut self.mtu_search {
                (search.out, search.probe) = (true, probe);
            }
        }
        Some(sent)
    }

    /// Bytes of text of a probe that may leave now: there is enough behind it, and nothing is amiss (RFC 4821 §7.4).
    fn mtu_probe_due<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) -> Option<u32> {
        self.mtu_search.as_ref().filter(|search| !search.out && search.next_at <= cx.now)?;
        if !self.sack_ok || self.recovery.is_active() || self.queue.lost() > 0 || self.queue.sacked() > 0 {
            return None;
        }
        let limit = self.mtu_limit(cx);
        let size = self.mtu_search.as_mut()?.wanted(self.path_mtu.mtu, limit, cx.now)?;
        let len = size.saturating_sub(headers_len(&self.flow)).saturating_sub(self.path_mtu.options_len.into());
        let needed = len + FOLLOWERS * self.smss;
        let enough = self.queue.unsent_bytes(self.snd_nxt) >= needed && self.snd_wnd.min(self.cwnd()) >= needed;
        (enough && len > self.smss).then_some(len)
    }

    /// The largest packet that link, peer and application allow, and that no router has refused.
    fn mtu_limit<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) -> u32 {
        let link_mtu = self.link_mtu(cx);
        let mtu = cx.stack.path_mtus.get(self.flow.remote, link_mtu, cx.now);
        let headers_len = headers_len(&self.flow);
        let own = u32::from(self.options.mss_max) + u32::from(self.path_mtu.options_len);
        let mss = u32::from(self.path_mtu.peer_mss).min(own);
        u32::try_from(mtu).unwrap_or(u32::MAX).min(mss + headers_len)
    }

    /// Makes the next `len` bytes that were never sent one segment; `false` if no buffer was free.
    fn join_unsent<E: Env<Buffer = B>>(&mut self, len: u32, cx: &mut Cx<'_, B, E>) -> bool {
        let (mut count, mut left) = (0, len);
        let first = self.queue.sent_count();
        while left > 0 {
            let Some(segment) = self.queue.get(first + count) else { return false };
            let part = segment.len;
            if part > left && !self.split(first + count, left, cx) {
                return false;
            }
            left -= part.min(left);
            count += 1;
        }
        if count == 0 || !cx.may_hold(self.queue.len()) {
            return false;
        }
        let queue = &self.queue;
        let Some(joined) = cx.fill(len as usize, |at, room| queue.read_unsent(at, room)) else { return false };
        cx.hold();
        for part in self.queue.join_unsent(count, joined) {
            cx.release(part);
        }
        true
    }

    /// A probe has arrived: every segment may be as large (RFC 8899 §5.3).
    pub(super) fn on_mtu_probe_arrived(&mut self) {
        let Some(search) = &mut self.mtu_search else { return };
        self.path_mtu.mtu = search.on_arrived().max(self.path_mtu.mtu);
        self.update_smss();
    }

    /// A probe is judged lost; its text is sent again in segments of the size that is known to arrive.
    pub(super) fn on_mtu_probe_lost(&mut self) {
        if let Some(search) = &mut self.mtu_search {
            search.on_lost(self.path_mtu.mtu);
        }
    }

    /// A router says that the path carries `mtu` bytes, which is no less than what segments have: it speaks of a probe.
    pub(super) fn on_mtu_probe_refused<E: Env<Buffer = B>>(&mut self, mtu: u32, cx: &mut Cx<'_, B, E>) {
        let Some(search) = self.mtu_search.as_mut().filter(|search| search.out && mtu < search.size) else { return };
        search.on_reported(mtu);
        let probe = self.queue.sent_segments().position(|segment| segment.probe);
        if let Some(at) = probe {
            self.queue.mark_lost(at);
            self.queue.forget_probe(at);
        }
        self.output(cx);
    }

    /// Whether all that waits to be sent again was one probe (RFC 4821 §7.6.2): no sign of congestion.
    pub(super) fn only_mtu_probe_lost(&self) -> bool {
        let Some(search) = &self.mtu_search else { return false };
        let (start, end) = search.probe;
        let mut lost = self.queue.sent_segments().filter(|segment| segment.lost && !segment.resent);
        lost.all(|segment| segment.transmits == 1 && segment.seq.at_or_after(start) && segment.end().at_or_before(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a path that carries `carried` bytes from 1280 on; the size found, and the probes that it took.
    fn search(carried: u32, limit: u32) -> (u32, u32) {
        let mut search = MtuSearch::new(Instant::ZERO);
        let (mut low, mut probes) = (BASE_MTU, 0);
        while let Some(size) = search.wanted(low, limit, Instant::ZERO) {
            assert!(size > low && size <= limit, "{size} between {low} and {limit}");
            probes += 1;
            if size <= carried { low = search.on_arrived() } else { search.on_lost(low) }
        }
        (low, probes)
    }

    #[test]
    fn the_size_found_is_within_a_step_of_what_the_path_carries() {
        for limit in [1_280, 1_281, 1_492, 1_500, 9_000] {
            for carried in [1_280, 1_281, 1_400, 1_492, 1_500, 4_470, 9_000] {
                let (found, probes) = search(carried, limit);
                assert!(found <= carried.min(limit) && found + STEP_MIN > carried.min(limit), "{found} of {carried}");
                assert!(probes <= 1 + 13 * u32::from(PROBES_MAX), "{probes} probes");
            }
        }
    }

    #[test]
    fn a_path_that_carries_all_again_takes_one_probe() {
        assert_eq!(search(1_500, 1_500), (1_500, 1));
    }
}
