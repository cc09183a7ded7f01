//! CUBIC (RFC 9438) with HyStart++ (RFC 9406).
//!
//! ```text
//!   W_max ............................. probing for more
//!     |\                     ____-----'
//!     | \            ___---''          plateau at K
//!     |  \       _--'
//!     |   \   .-'        W_cubic(t) = C (t - K)^3 + W_max
//!     |    '-'  cwnd_epoch = beta W_max
//!     +------------------------------------------------> t since the last congestion
//! ```
//! Windows are in bytes, times in microseconds; `C` is 0.4 segments per cubic second.

use alloc::boxed::Box;

use super::hystart::{Growth, HyStart};
use super::window::Window;
use super::{Ack, Congestion, CongestionControl, Control, Restart, SSTHRESH_INFINITE, Snapshot, Start, Timeout};
use crate::time::Instant;

/// For [`CONTROLS`](super::CONTROLS).
pub(super) const CUBIC: Control = Control {
    name: "cubic",
    about: "grows with the cube of time since the last loss (RFC 9438), with HyStart++ (RFC 9406)",
    build: |start| Box::new(Cubic::new(start)),
};

// RFC 9438 §4.6: beta_cubic is 0.7.
const BETA: (u64, u64) = (7, 10);
// RFC 9438 §4.7: (1 + beta_cubic) / 2.
const FAST_CONVERGENCE: (u64, u64) = (17, 20);
// RFC 9438 §4.3: alpha_cubic = 3 (1 - beta_cubic) / (1 + beta_cubic).
const ALPHA: (u64, u64) = (9, 17);
// RFC 9438 §5.1: C = 0.4.
const C: (u128, u128) = (2, 5);
const MICROS_CUBED: u128 = 1_000_000_000_000_000_000;
/// In 2^31 µs (36 min) the curve rises by 4 * 10^9 segments, more than any window.
const T_MAX_US: u32 = 1 << 31;

/// The curve since the last congestion, and Reno's beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Epoch {
    last_ack_at: Instant,
    /// Time in which the window could grow, in µs: the `t` of the curve.
    t_us: u32,
    k_us: u32,
    /// Bytes that Reno would have by now.
    w_est: u32,
    /// What is too little to move `w_est` and `cwnd` by a byte.
    cwnd_rest: u32,
    w_est_rest: u64,
}

/// What a spurious reduction restores (RFC 9438 §4.9).
#[derive(Clone, Copy, Debug)]
struct Undo {
    /// It is what the last reduction took, and was not restored since.
    holds: bool,
    window: Window,
    epoch: Option<Epoch>,
    w_max: u32,
    cwnd_prior: u32,
}

#[derive(Clone, Debug)]
pub struct Cubic {
    window: Window,
    hystart: HyStart,
    /// `None` until congestion avoidance begins (anew).
    epoch: Option<Epoch>,
    /// Bytes of the window before the last reduction, or less for fast convergence; 0: none yet, or
    /// forgotten by a time-out.
    w_max: u32,
    /// Bytes of the window before the last reduction.
    cwnd_prior: u32,
    /// On the heap from the first reduction on: most connections never meet one.
    saved: Option<Box<Undo>>,
}

impl Cubic {
    pub fn new(start: &Start) -> Self {
        let mut hystart = HyStart::new();
        // RFC 9406 §4.3: for the first slow start only.
        if start.ssthresh != SSTHRESH_INFINITE {
            hystart.stop();
        }
        Self { window: Window::new(start), hystart, epoch: None, w_max: 0, cwnd_prior: 0, saved: None }
    }

    /// Returns the bytes of `ack` that are left for congestion avoidance.
    #[inline]
    fn slow_start(&mut self, ack: &Ack) -> u32 {
        let first = self.window.ssthresh == SSTHRESH_INFINITE;
        let growth = if first { self.hystart.on_ack(ack) } else { Growth::Slow { divisor: 1 } };
        match growth {
            Growth::Slow { .. } if !ack.cwnd_limited => 0,
            // RFC 9406 §4.3: no limit per acknowledgement, paced or not (see DEVIATIONS.md).
            Growth::Slow { divisor } => self.window.grow_to_ssthresh(ack.delivered / divisor),
            Growth::Done => {
                self.window.ssthresh = self.window.cwnd;
                ack.delivered
            }
        }
    }

    #[inline(never)]
    fn congestion_avoidance(&mut self, delivered: u32, ack: &Ack) {
        let Window { smss, cwnd, .. } = self.window;
        // RFC 9438 §4.8: without a congestion to start from, or after a time-out, the curve starts
        // from here.
        if self.epoch.is_none() {
            self.w_max = self.w_max.max(cwnd);
        }
        let epoch = self.epoch.get_or_insert_with(|| Epoch::new(ack.now, cwnd, self.w_max, smss));
        epoch.pass(ack);
        if !ack.cwnd_limited {
            return;
        }
        epoch.grow_w_est(delivered, cwnd, self.cwnd_prior, smss);
        // RFC 9438 §4.3: where Reno does better, be like Reno.
        if epoch.w_cubic(epoch.t_us.into(), self.w_max, smss) < u64::from(epoch.w_est) {
            let by = epoch.w_est.saturating_sub(cwnd);
            self.window.grow(u64::from(by));
            return;
        }
        // RFC 9438 §4.4, §4.5: (target - cwnd) / cwnd for each segment acknowledged.
        let target = epoch.target(ack.srtt_ns, self.w_max, cwnd, smss);
        let by = u64::from(epoch.cwnd_rest) + (target - u64::from(cwnd)) * u64::from(delivered);
        epoch.cwnd_rest = u32::try_from(by % u64::from(cwnd)).unwrap_or(0);
        self.window.grow(by / u64::from(cwnd));
    }

    /// Remembers what a mistake would have to restore.
    fn save(&mut self) {
        let Self { window, epoch, w_max, cwnd_prior, .. } = *self;
        let undo = Undo { holds: true, window, epoch, w_max, cwnd_prior };
        match &mut self.saved {
            Some(saved) => **saved = undo,
            None => self.saved = Some(Box::new(undo)),
        }
    }

    fn forget_saved(&mut self) {
        if let Some(saved) = &mut self.saved {
            saved.holds = false;
        }
    }

    // RFC 9438 §4.6. From `cwnd` instead of the flight size, as it allows where a window that is not
    // used does not grow.
    fn reduce(&mut self) {
        let cwnd = self.window.cwnd;
        self.window.reduce_to(scale(cwnd, BETA));
        self.cwnd_prior = cwnd;
        self.hystart.stop();
        self.epoch = None;
    }
}

impl CongestionControl for Cubic {
    fn name(&self) -> &'static str {
        CUBIC.name
    }

    // One with `on_ack_within`, which nearly all come by.
    #[inline(always)]
    fn on_ack(&mut self, ack: &Ack) {
        if ack.in_recovery {
            return;
        }
        let mut delivered = ack.delivered;
        if self.window.in_slow_start() {
            delivered = self.slow_start(ack);
        }
        if delivered > 0 && !self.window.in_slow_start() {
            self.congestion_avoidance(delivered, ack);
        }
    }

    fn on_congestion(&mut self, congestion: &Congestion) {
        if congestion.reduced_already {
            // What the mark took is no mistake.
            return self.forget_saved();
        }
        self.save();
        let cwnd = self.window.cwnd;
        // RFC 9438 §4.7, fast convergence: a window that did not get back to where it was leaves
        // room for a newcomer.
        self.w_max = if cwnd < self.w_max { scale(cwnd, FAST_CONVERGENCE) } else { cwnd };
        self.reduce();
    }

    fn on_rto(&mut self, timeout: &Timeout) {
        if timeout.backoff == 0 {
            self.save();
            self.reduce();
        }
        // RFC 9438 §4.8: K is 0 and W_max the window where congestion avoidance begins.
        self.w_max = 0;
        self.window.collapse();
    }

    fn on_spurious(&mut self, now: Instant) {
        let Some(Undo { holds, window, epoch, w_max, cwnd_prior }) = self.saved.as_deref_mut() else { return };
        if !core::mem::take(holds) {
            return;
        }
        self.window.restore(window);
        self.w_max = *w_max;
        self.cwnd_prior = *cwnd_prior;
        self.epoch = epoch.map(|epoch| Epoch { last_ack_at: now, ..epoch });
    }

    fn on_idle_restart(&mut self, restart: &Restart) {
        self.window.restart(restart);
    }

    fn on_smss(&mut self, smss: u32) {
        self.window.resize(smss);
    }

    fn wants_rate(&self) -> bool {
        false
    }

    fn cwnd(&self) -> u32 {
        self.window.cwnd
    }

    fn ssthresh(&self) -> u32 {
        self.window.ssthresh
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            name: CUBIC.name,
            phase: if self.window.in_slow_start() { self.hystart.phase() } else { "congestion-avoidance" },
            cwnd: self.window.cwnd,
            ssthresh: self.window.ssthresh_finite(),
            pacing_rate: None,
            bandwidth: None,
        }
    }
}

impl Epoch {
    fn new(now: Instant, cwnd: u32, w_max: u32, smss: u32) -> Self {
        Self {
            t_us: 0,
            last_ack_at: now,
            k_us: k_us(w_max.saturating_sub(cwnd), smss),
            w_est: cwnd,
            w_est_rest: 0,
            cwnd_rest: 0,
        }
    }

    // RFC 9438 §4.2: t stands still while the application does not use the window, nor anything is in flight: what was sent
    // before the last acknowledgement has a longer round trip than the time since then, and what was sent later waited.
    fn pass(&mut self, ack: &Ack) {
        if ack.cwnd_limited {
            let since_ns = ack.now.nanos_since(self.last_ack_at);
            let passed_ns = if ack.rtt_ns > 0 { since_ns.min(ack.rtt_ns) } else { since_ns };
            let passed_us = u32::try_from(passed_ns / 1_000).unwrap_or(T_MAX_US);
            self.t_us = self.t_us.saturating_add(passed_us).min(T_MAX_US);
        }
        self.last_ack_at = ack.now;
    }

    // RFC 9438 §4.2 equation (1), in bytes.
    fn w_cubic(&self, t_us: u64, w_max: u32, smss: u32) -> u64 {
        let distance_us = u128::from(t_us.abs_diff(self.k_us.into()).min(T_MAX_US.into()));
        let cubed = distance_us * distance_us * distance_us;
        let by = cubed * C.0 * u128::from(smss) / C.1 / MICROS_CUBED;
        let by = u64::try_from(by).unwrap_or(u64::MAX);
        let w_max = u64::from(w_max);
        if t_us < u64::from(self.k_us) { w_max.saturating_sub(by) } else { w_max.saturating_add(by) }
    }

    // RFC 9438 §4.2: where the curve is a round trip from now, within cwnd and 1.5 cwnd.
    fn target(&self, srtt_ns: u64, w_max: u32, cwnd: u32, smss: u32) -> u64 {
        let rtt_us = u32::try_from(srtt_ns / 1_000).unwrap_or(T_MAX_US);
        let t_us = self.t_us.saturating_add(rtt_us).min(T_MAX_US);
        let cwnd = u64::from(cwnd);
        self.w_cubic(t_us.into(), w_max, smss).clamp(cwnd, cwnd + cwnd / 2)
    }

    // RFC 9438 §4.3 equation (4); alpha is 1 once Reno would be where the last reduction was.
    fn grow_w_est(&mut self, delivered: u32, cwnd: u32, cwnd_prior: u32, smss: u32) {
        let alpha = if self.w_est >= cwnd_prior { (1, 1) } else { ALPHA };
        let step = alpha.1 * u64::from(cwnd);
        let by = u128::from(self.w_est_rest) + u128::from(alpha.0 * u64::from(delivered)) * u128::from(smss);
        let whole = u32::try_from(by / u128::from(step)).unwrap_or(u32::MAX);
        self.w_est_rest = u64::try_from(by % u128::from(step)).unwrap_or(0);
        self.w_est = self.w_est.saturating_add(whole);
    }
}

// RFC 9438 §4.2 equation (2): K = cbrt((W_max - cwnd_epoch) / C), here in µs, from a difference in
// bytes.
fn k_us(below: u32, smss: u32) -> u32 {
    let scaled = u128::from(below) * C.1 * MICROS_CUBED / C.0 / u128::from(smss);
    u32::try_from(cube_root(scaled)).unwrap_or(T_MAX_US).min(T_MAX_US)
}

/// Integer cube root, rounded down, bit by bit. Once per congestion.
fn cube_root(n: u128) -> u64 {
    let mut root = 0_u64;
    for bit in (0..=42).rev() {
        let next = u128::from(root | 1 << bit);
        // (2^43 - 1)^3 fits into 129 bits, hence the check.
        if next.checked_mul(next * next).is_some_and(|cube| cube <= n) {
            root |= 1 << bit;
        }
    }
    root
}

fn scale(bytes: u32, (numerator, denominator): (u64, u64)) -> u32 {
    u32::try_from(u64::from(bytes) * numerator / denominator).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cube_root_is_the_largest_whose_cube_fits() {
        for (n, root) in [(0, 0), (1, 1), (7, 1), (8, 2), (26, 2), (27, 3), (10_u128.pow(18), 1_000_000)] {
            assert_eq!(cube_root(n), root, "{n}");
        }
        let root = u128::from(cube_root(u128::MAX));
        assert!(root.checked_pow(3).is_some());
        assert!((root + 1).checked_pow(3).is_none());
    }

    #[test]
    fn k_is_the_formula_of_rfc_9438_equation_2() {
        // W_max 100, cwnd_epoch 70 segments: cbrt(30 / 0.4) = cbrt(75) = 4.217163 s.
        assert_eq!(k_us(30 * 1_460, 1_460), 4_217_163);
        // 1 segment: cbrt(2.5) = 1.357208 s.
        assert_eq!(k_us(1_000, 1_000), 1_357_208);
        assert_eq!(k_us(0, 1_460), 0);
    }
}
