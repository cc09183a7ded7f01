//! The transmission control block: everything that is known of one connection (RFC 9293 §3.3.1).

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::num::NonZeroU32;

use super::config::ConnectionOptions;
use super::congestion::{CongestionControl, CwndUsage, Pacer, RateSampler, Start};
use super::course::Course;
use super::ecn::Ecn;
use super::event::{CloseReason, ConnectionId, ListenerId, News, Piece};
use super::extension::Extension;
use super::flow::Flow;
use super::loss_probe::LossProbe;
use super::mtu_search::MtuSearch;
use super::path_mtu::PathMtu;
use super::prediction::Heard;
use super::rack::Rack;
use super::receive_queue::ReceiveQueue;
use super::recovery::Recovery;
use super::rto::RttEstimator;
use super::sack::SackReport;
use super::send_queue::SendQueue;
use super::seq::SeqNum;
use super::state::State;
use super::timers::{Timer, Timers};
use super::way::Way;
use crate::buffer::Buffer;
use crate::env::Env;
use crate::stack::Stack;
use crate::time::Instant;

/// One connection.
///
/// ```text
///      acked        in flight         sendable        later
///   -----------|-----------------|----------------|----------
///           snd_una           snd_nxt     snd_una + snd_wnd
///
///      received         may be received        later
///   ----------------|-----------------------|----------
///                rcv_nxt                 rcv_adv (RCV.NXT + RCV.WND)
/// ```
pub(super) struct Tcb<B> {
    pub(super) id: ConnectionId,
    pub(super) flow: Flow,
    pub(super) state: State,
    /// Shared by all connections of a listener.
    pub(super) options: Arc<ConnectionOptions>,
    /// Who it is to be accepted by, until then.
    pub(super) listener: Option<ListenerId>,
    /// Opened by a SYN of the peer's.
    pub(super) passive: bool,
    /// The application has let go of it.
    pub(super) orphan: bool,
    pub(super) extension: Option<Box<dyn Extension<B>>>,

    // Send.
    pub(super) iss: SeqNum,
    pub(super) snd_una: SeqNum,
    pub(super) snd_nxt: SeqNum,
    /// Scaled.
    pub(super) snd_wnd: u32,
    pub(super) snd_wl1: SeqNum,
    pub(super) snd_wl2: SeqNum,
    /// MAX.SND.WND (RFC 5961 §5.2, RFC 9293 §3.8.6.2.1).
    pub(super) snd_wnd_max: u32,
    pub(super) snd_wscale: u8,
    /// Payload of a full segment (RFC 5681 §2).
    pub(super) smss: u32,
    pub(super) path_mtu: PathMtu,
    /// Most connections never have a reason to search.
    pub(super) mtu_search: Option<Box<MtuSearch>>,
    pub(super) queue: SendQueue<B>,
    /// End of the last segment sent that was not full (Nagle).
    pub(super) small_end: SeqNum,
    pub(super) last_sent_at: Instant,
    /// A write was cut short: tell when there is room.
    pub(super) write_blocked: bool,
    pub(super) way: Way,
    /// Since the way was last due to be looked up: neighbours stay reachable for longer (RFC 4861 §10).
    pub(super) neighbour_confirmed: bool,

    // Receive.
    pub(super) irs: SeqNum,
    pub(super) rcv_nxt: SeqNum,
    pub(super) rcv_adv: SeqNum,
    pub(super) rcv_wscale: u8,
    /// Largest segment received (RFC 5681 §4.2).
    pub(super) rcv_mss: u32,
    pub(super) received: ReceiveQueue<B>,
    pub(super) heard: Heard,
    /// Bytes that may wait for the application.
    pub(super) receive_buffer: u32,
    pub(super) tuning: super::receive_window::Tuning,
    /// The application has read something since it was last considered what that means for the window.
    pub(super) has_read: bool,
    /// Window field of the last segment, unless something was read since.
    pub(super) wnd_told: u16,
    pub(super) wnd_stale: bool,
    pub(super) peer_finished: bool,
    /// The application was told of the end.
    pub(super) end_told: bool,

    // Acknowledging.
    pub(super) ack_now: bool,
    /// Bytes received in order and not acknowledged.
    pub(super) unacked: u32,
    /// Segments still to be acknowledged at once.
    pub(super) quick_acks: u8,
    pub(super) last_ack_sent: SeqNum,
    /// Times that `last_ack_sent` has come by `irs` again.
    pub(super) irs_passed: u32,
    /// When a segment that was not taken was answered last. `ZERO`: never.
    pub(super) answered_at: Instant,
    /// Most connections never have anything to report.
    pub(super) sack_report: Option<Box<SackReport>>,

    // Negotiated.
    pub(super) sack_ok: bool,
    pub(super) timestamps_ok: bool,
    pub(super) wscale_ok: bool,
    pub(super) ts_offset: u32,
    pub(super) ts_recent: u32,
    pub(super) ts_recent_at: Instant,
    pub(super) ecn: Ecn,

    // Loss recovery and congestion control.
    pub(super) rtt: RttEstimator,
    pub(super) rack: Rack,
    pub(super) probe: LossProbe,
    pub(super) recovery: Recovery,
    pub(super) congestion: Box<dyn CongestionControl>,
    pub(super) sampler: RateSampler,
    pub(super) usage: CwndUsage,
    pub(super) pacer: Pacer,

    // Time.
    pub(super) timers: Timers,
    pub(super) opened_at: Instant,
    pub(super) last_heard_at: Instant,
    /// When data was last acknowledged, or first sent, if some is unacknowledged.
    /// `ZERO`: none is.
    pub(super) waiting_since: Instant,
    /// Times that the SYN, or SYN,ACK, was sent.
    pub(super) syn_transmits: u8,
    /// Window or keep-alive probes without an answer.
    pub(super) probes_out: u8,
    pub(super) user_timeout_s: Option<NonZeroU32>,

    pub(super) course: Course,
    pub(super) news: News,
    /// Has its turn at the end of the burst.
    pub(super) unfinished: bool,
    pub(super) retransmitted_bytes: u64,
    pub(super) segments_resent: u32,
}

/// The stack around a connection, lent for one call.
pub(super) struct Cx<'a, B: Buffer, E: Env<Buffer = B>> {
    pub(super) stack: &'a mut Stack<B>,
    pub(super) env: &'a mut E,
    pub(super) now: Instant,
}

/// What a connection begins with.
pub(super) struct Opening {
    pub(super) id: ConnectionId,
    pub(super) flow: Flow,
    pub(super) state: State,
    pub(super) options: Arc<ConnectionOptions>,
    pub(super) iss: SeqNum,
    pub(super) ts_offset: u32,
    pub(super) path_mtu: PathMtu,
    pub(super) now: Instant,
    pub(super) seed: u64,
}

impl<B: Buffer> Tcb<B> {
    pub(super) fn new(opening: Opening) -> Self {
        let Opening { id, flow, state, options, iss, ts_offset, path_mtu, now, seed } = opening;
        let smss = path_mtu.smss(&flow, &options);
        let congestion = (options.congestion_control.build)(&Start::new(now, smss, seed));
        let receive_buffer = options.receive_buffer;
        Self {
            id,
            flow,
            state,
            options,
            listener: None,
            passive: false,
            orphan: false,
            extension: None,
            iss,
            snd_una: iss,
            snd_nxt: iss,
            snd_wnd: 0,
            snd_wl1: SeqNum(0),
            snd_wl2: SeqNum(0),
            snd_wnd_max: 0,
            snd_wscale: 0,
            smss,
            path_mtu,
            mtu_search: None,
            // The SYN takes one number, and has its own timer.
            queue: SendQueue::new(iss + 1),
            small_end: iss,
            last_sent_at: now,
            write_blocked: false,
            way: Way::NONE,
            neighbour_confirmed: false,
            irs: SeqNum(0),
            rcv_nxt: SeqNum(0),
            rcv_adv: SeqNum(0),
            rcv_wscale: 0,
            rcv_mss: smss.min(536),
            received: ReceiveQueue::new(),
            heard: Heard::default(),
            receive_buffer,
            tuning: super::receive_window::Tuning::default(),
            has_read: false,
            wnd_told: 0,
            wnd_stale: true,
            peer_finished: false,
            end_told: false,
            ack_now: false,
            unacked: 0,
            quick_acks: super::delayed_ack::QUICK_ACKS,
            last_ack_sent: SeqNum(0),
            irs_passed: 0,
            answered_at: Instant::ZERO,
            sack_report: None,
            sack_ok: false,
            timestamps_ok: false,
            wscale_ok: false,
            ts_offset,
            ts_recent: 0,
            ts_recent_at: now,
            ecn: Ecn::default(),
            rtt: RttEstimator::default(),
            rack: Rack::new(iss),
            probe: LossProbe::default(),
            recovery: Recovery::new(iss),
            congestion,
            sampler: RateSampler::default(),
            usage: CwndUsage::default(),
            pacer: Pacer::default(),
            timers: Timers::new(),
            opened_at: now,
            last_heard_at: now,
            waiting_since: Instant::ZERO,
            syn_transmits: 0,
            probes_out: 0,
            user_timeout_s: None,
            course: Course::default(),
            news: News::default(),
            unfinished: false,
            retransmitted_bytes: 0,
            segments_resent: 0,
        }
    }

    /// Bytes sent and not cumulatively acknowledged (`FlightSize`, RFC 5681 §2).
    #[inline]
    pub(super) fn flight_size(&self) -> u32 {
        self.snd_nxt.since(self.snd_una)
    }

    /// The same without what has arrived out of order: in its place others left, which a reduction of the window must not
    /// count (RFC 5681 §3.2 step 2, RFC 6675 §5 step 4.2). It is the longer, the longer reordering is given.
    pub(super) fn flight_size_unsacked(&self) -> u32 {
        self.flight_size().saturating_sub(self.queue.sacked())
    }

    /// What is to be reported by SACK.
    pub(super) fn report(&mut self) -> &mut SackReport {
        self.sack_report.get_or_insert_default()
    }

    /// Bytes in flight (`pipe`, RFC 6675 §4).
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.recovery.in_flight(self.queue.in_flight(self.flight_size()), self.smss)
    }

    /// Text and FIN that were never sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.queue.next_unsent().is_some()
    }

    /// The application, if there is one, is to learn of something.
    pub(super) fn tell(&mut self, piece: Piece) {
        if !self.orphan {
            self.news.add(piece);
        }
    }

    /// The connection is over; the application learns of an orderly end once it has read everything.
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.timers.disarm_all();
        if reason == CloseReason::Finished {
            self.end();
        } else if !self.orphan {
            self.news.closed = Some(reason);
        }
    }

    /// Whether the application has nothing more to learn of the connection but its end: both sides
    /// are closed, everything is acknowledged and read.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.state, State::TimeWait | State::Closed) && self.received.ready_bytes() == 0
    }

    /// RFC 9293 §3.6.1: waits until every old duplicate is gone.
    pub(super) fn enter_time_wait<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.state = State::TimeWait;
        self.timers.disarm_all();
        // Thousands may wait, each with the memory of its largest window.
        self.queue.shrink();
        self.received.shrink();
        let tcp = &mut cx.stack.tcp;
        if tcp.time_waits >= tcp.config.time_wait_max {
            tcp.counters.time_wait_max_hit += 1;
            self.state = State::Closed;
        } else {
            tcp.time_waits += 1;
            self.timers.arm(Timer::Linger, cx.now + tcp.config.msl * 2);
        }
        self.end();
    }

    /// Tells the application of the orderly end, once it has read everything.
    pub(super) fn end(&mut self) {
        if self.is_finished() && !self.orphan && !self.end_told {
            self.end_told = true;
            self.news.closed = Some(CloseReason::Finished);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::table::FLOW_LEN;
    use crate::tcp::wheel::NODE_LEN;
    use crate::testing::VecBuffer;

    #[test]
    fn an_idle_connection_takes_at_most_a_kibibyte_with_its_congestion_control_beside_its_buffers() {
        // A hash table is at least seven sixteenths full after it has grown; a slot takes 16 bytes, a free one's number 4.
        let tables_len = FLOW_LEN * 16 / 7 + NODE_LEN + 16 + 4;
        // What the default control keeps, on the heap.
        let control = ConnectionOptions::default().congestion_control;
        let control = (control.build)(&Start::new(Instant::ZERO, 1_460, 0));
        let (tcb_len, control_len) = (size_of::<Tcb<VecBuffer>>(), size_of_val(&*control));
        assert!(tcb_len + control_len + tables_len <= 1_024, "{tcb_len} + {control_len} + {tables_len}");
    }
}
