//! SYN cookies (RFC 4987 §3.6, appendix A): under a flood nothing is kept of a SYN; our sequence
//! number says everything when it comes back.
//!
//! ```text
//!  31      27 26  24 23                       0
//! +----------+------+--------------------------+    and in the low bits of our timestamp, which comes
//! | 64 s, mod| MSS  |  keyed hash of flow,     |    back likewise: ECN (1), SACK (1), window scale (4;
//! |    32    |      |  time, MSS, their number |    15: none)
//! +----------+------+--------------------------+
//! ```

use alloc::sync::Arc;

use super::config::ConnectionOptions;
use super::ecn::Ecn;
use super::event::ListenerId;
use super::isn::timestamp;
use super::receive_window::scale_for;
use super::seg::Seg;
use super::seq::SeqNum;
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::stack::Stack;
use crate::time::Instant;
use crate::verdict::Verdict;
use crate::wire::tcp::{TcpSend, flag};
use crate::wire::tcp_option::{OPTIONS_LEN_MAX, OptionsWriter, TcpOptions, Timestamps};

/// Segment sizes that three bits can tell.
const SIZES: [u16; 8] = [536, 1_024, 1_220, 1_300, 1_400, 1_440, 1_460, 8_940];
const PERIOD_NS: u64 = 64_000_000_000;
/// Periods after which a cookie is stale: one or two minutes.
const PERIODS_MAX: u32 = 2;
const PURPOSE: u64 = 2 << 32;
const HASH_MASK: u32 = 0x00ff_ffff;
/// Bits of the timestamp that are ours.
const STAMP_BITS: u32 = 6;
const STAMP_ECN: u32 = 1 << 5;
const STAMP_SACK: u32 = 1 << 4;
const STAMP_SCALE: u32 = 0xf;
const NO_SCALE: u32 = 0xf;

impl<B: Buffer> Stack<B> {
    /// SYN,ACK in the SYN's own buffer; nothing is kept.
    pub(super) fn answer_by_cookie<E: Env<Buffer = B>>(
        &mut self,
        listener: ListenerId,
        seg: &Seg,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let now = env.now();
        let wanted = self.tcp.listeners.options_of(listener).unwrap_or_else(|| Arc::clone(&self.tcp.defaults));
        self.tcp.counters.syn_cookies_sent += 1;
        self.tcp.cookie_at = Some(now);
        let index = size_index(seg.options.mss.unwrap_or(536));
        let seq = self.cookie(seg, period(now), index);
        let link_mtu = self.interface(seg.packet.interface).map_or(0, |i| i.station.config.mtu);
        let stamps = seg.options.timestamps.filter(|_| wanted.timestamps);
        let agreed = Agreed::of(seg, &wanted);
        let options = TcpOptions {
            mss: Some(super::path_mtu::mss_option(link_mtu, &seg.flow).min(wanted.mss_max)),
            // Without timestamps there is no place to remember anything else.
            window_scale: stamps.and(agreed.snd_wscale).map(|_| scale_for(wanted.receive_buffer_max)),
            sack_permitted: stamps.is_some() && agreed.sack,
            timestamps: stamps.map(|theirs| Timestamps {
                value: agreed.stamp(timestamp(self.tcp.secret.timestamp_offset(&seg.flow), now)),
                echo: theirs.value,
            }),
            ..TcpOptions::default()
        };
        let mut writer = OptionsWriter::new(OPTIONS_LEN_MAX);
        options.write(&mut writer);
        let ecn = if stamps.is_some() && agreed.ecn { Ecn::GRANT } else { 0 };
        let header = TcpSend {
            seq: seq.0,
            ack: (seg.seq + 1).0,
            flags: flag::SYN | flag::ACK | ecn,
            window: u16::try_from(wanted.receive_buffer).unwrap_or(u16::MAX),
            options_len: writer.as_bytes().len(),
            ..seg.reply()
        };
        self.answer_tcp(seg, header, writer.as_bytes(), buffer, env)
    }

    /// An ACK for a listener: the connection that its cookie stands for, or a reset.
    pub(super) fn on_ack_of_cookie<E: Env<Buffer = B>>(
        &mut self,
        listener: ListenerId,
        seg: &Seg,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let Some(mss) = self.open_cookie(seg, env.now()) else {
            return self.reset_in_answer(seg, buffer, DropReason::TcpPortClosed, env);
        };
        if !self.tcp.listeners.has_place(listener) {
            return self.drop_packet(buffer, DropReason::TcpAcceptQueueFull, env);
        }
        let iss = seg.ack - 1;
        let Some(mut tcb) = self.passive_tcb(listener, seg, iss, env) else {
            return self.drop_packet(buffer, DropReason::TcpConnectionsMax, env);
        };
        self.tcp.counters.syn_cookies_accepted += 1;
        // As if the SYN had been kept.
        let mut syn = seg.clone();
        syn.seq = seg.seq - 1;
        syn.options = TcpOptions { mss: Some(mss), timestamps: seg.options.timestamps, ..TcpOptions::default() };
        let agreed = seg.options.timestamps.map(|stamps| Agreed::from_stamp(stamps.echo)).unwrap_or_default();
        syn.options.sack_permitted = agreed.sack;
        syn.options.window_scale = agreed.snd_wscale;
        tcb.take_syn(&syn, env.now());
        tcb.ecn.ok = tcb.options.ecn && agreed.ecn;
        tcb.snd_nxt = iss + 1;
        tcb.offer_by_cookie();
        self.tcp.listeners.on_half_open(listener);
        let index = tcb.id.index;
        self.tcp.table.bind(index, tcb);
        let mut given = Some(buffer);
        let verdict = self.with(index, env, |tcb, cx| given.take().map(|buffer| tcb.on_segment(seg, buffer, cx)));
        verdict.flatten().unwrap_or(Verdict::Consumed)
    }

    /// Their MSS, if the number that comes back is a cookie of ours and not stale.
    fn open_cookie(&self, seg: &Seg, now: Instant) -> Option<u16> {
        let sent_lately = |at: Instant| now.since(at).as_nanos() <= u128::from(PERIOD_NS) * u128::from(PERIODS_MAX);
        if seg.syn() || !self.tcp.cookie_at.is_some_and(sent_lately) {
            return None;
        }
        let cookie = (seg.ack - 1).0;
        let age = period(now).wrapping_sub(cookie >> 27) & 0x1f;
        let index = cookie >> 24 & 7;
        let mut syn = seg.clone();
        syn.seq = seg.seq - 1;
        let genuine = age < PERIODS_MAX && self.cookie(&syn, period(now).wrapping_sub(age), index).0 == cookie;
        SIZES.get(index as usize).copied().filter(|_| genuine)
    }

    fn cookie(&self, syn: &Seg, period: u32, index: u32) -> SeqNum {
        let salt = u64::from(syn.seq.0) << 3 | u64::from(index);
        let of = PURPOSE ^ salt.rotate_left(29) ^ u64::from(period);
        let hash = self.tcp.secret.hash(&syn.flow, of) as u32 & HASH_MASK;
        SeqNum((period & 0x1f) << 27 | index << 24 | hash)
    }
}

/// What SYN and SYN,ACK agree on besides the segment size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Agreed {
    snd_wscale: Option<u8>,
    sack: bool,
    ecn: bool,
}

impl Agreed {
    fn of(syn: &Seg, wanted: &ConnectionOptions) -> Self {
        Self {
            snd_wscale: syn.options.window_scale.filter(|_| wanted.window_scaling),
            sack: syn.options.sack_permitted && wanted.sack,
            ecn: wanted.ecn && Ecn::is_asked(syn),
        }
    }

    /// A timestamp, not later than `clock`, with this in its low bits.
    fn stamp(self, clock: u32) -> u32 {
        let scale = self.snd_wscale.map_or(NO_SCALE, u32::from);
        let bits = scale | if self.sack { STAMP_SACK } else { 0 } | if self.ecn { STAMP_ECN } else { 0 };
        let value = clock >> STAMP_BITS << STAMP_BITS | bits;
        if SeqNum(value).after(SeqNum(clock)) { value.wrapping_sub(1 << STAMP_BITS) } else { value }
    }

    fn from_stamp(echo: u32) -> Self {
        let scale = echo & STAMP_SCALE;
        Self {
            snd_wscale: (scale != NO_SCALE).then_some(scale as u8),
            sack: echo & STAMP_SACK != 0,
            ecn: echo & STAMP_ECN != 0,
        }
    }
}

fn period(now: Instant) -> u32 {
    (now.as_nanos() / PERIOD_NS) as u32
}

/// The largest size that is not larger.
fn size_index(mss: u16) -> u32 {
    SIZES.iter().rposition(|&size| size <= mss).unwrap_or(0) as u32
}
