//! Listening (RFC 9293 §3.10.7.2): SYNs become half-open connections, these wait to be accepted, and
//! under a flood cookies stand in for both (RFC 4987).
//!
//! ```text
//!    SYN --> half open (syn_backlog_max) -- ACK --> waiting (backlog_max) --> Accepted
//!              | full                                 | full
//!              v                                      v
//!            cookie, or dropped                    SYN and ACK are dropped: the peer sends them again
//! ```

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::num::NonZeroU32;

use hashbrown::HashMap;

use super::config::{ConnectionOptions, SynCookies};
use super::ecn::Ecn;
use super::event::ListenerId;
use super::extension::{Extension, SegmentView};
use super::path_mtu::PathMtu;
use super::seg::Seg;
use super::seq::SeqNum;
use super::state::State;
use super::tcb::{Opening, Tcb};
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::stack::Stack;
use crate::verdict::Verdict;

/// Numbers that a connection skips which takes the place of one in TIME-WAIT: more than any window
/// that is still on its way (RFC 6191 §2; RFC 1122 §4.2.2.13).
pub(super) const REOPEN_SKIP: u32 = 65_536;

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// Connections that wait to be accepted.
    pub backlog_max: usize,
    /// Connections whose handshake is not complete.
    pub syn_backlog_max: usize,
    /// What accepted connections start with; `None`: the stack's.
    pub connection: Option<ConnectionOptions>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { backlog_max: 4_096, syn_backlog_max: 1_024, connection: None }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenError {
    /// Another listener has this address and port.
    InUse,
    /// The configured number of listeners is open.
    Full,
    /// Port 0.
    Address,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    at: SocketAddr,
    backlog_max: usize,
    syn_backlog_max: usize,
    connection: Option<Arc<ConnectionOptions>>,
    half_open: usize,
    waiting: usize,
    /// Nobody is to connect for now.
    refuses: bool,
}

#[derive(Debug)]
struct Slot {
    generation: NonZeroU32,
    listener: Option<Listener>,
}

#[derive(Debug)]
pub(super) struct Listeners {
    slots: Vec<Slot>,
    by_port: HashMap<u16, Vec<u32>, foldhash::fast::FixedState>,
    listeners_max: usize,
}

impl Listeners {
    pub(super) fn new(listeners_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            by_port: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(0)),
            listeners_max,
        }
    }

    pub(super) fn open(&mut self, at: SocketAddr, how: Listen) -> Result<ListenerId, ListenError> {
        if at.port() == 0 {
            return Err(ListenError::Address);
        }
        let taken = |index: &u32| self.peek(*index).is_some_and(|other| other.at.ip() == at.ip());
        if self.by_port.get(&at.port()).is_some_and(|at_port| at_port.iter().any(taken)) {
            return Err(ListenError::InUse);
        }
        if self.iter().count() >= self.listeners_max {
            return Err(ListenError::Full);
        }
        let index = match self.slots.iter().position(|slot| slot.listener.is_none()) {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: NonZeroU32::MIN, listener: None });
                self.slots.len() - 1
            }
        };
        let slot = self.slots.get_mut(index).ok_or(ListenError::Full)?;
        let id = ListenerId { index: index as u32, generation: slot.generation };
        let Listen { backlog_max, syn_backlog_max, connection } = how;
        let connection = connection.map(Arc::new);
        slot.listener = Some(Listener {
            id,
            at,
            backlog_max,
            syn_backlog_max,
            connection,
            half_open: 0,
            waiting: 0,
            refuses: false,
        });
        self.by_port.entry(at.port()).or_default().push(id.index);
        Ok(id)
    }

    pub(super) fn close(&mut self, id: ListenerId) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        let Some(slot) = self.slots.get_mut(id.index as usize) else { return false };
        slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let Some(listener) = slot.listener.take() else { return false };
        let port = listener.at.port();
        if let Some(at_port) = self.by_port.get_mut(&port) {
            at_port.retain(|&index| index != id.index);
            if at_port.is_empty() {
                self.by_port.remove(&port);
            }
        }
        true
    }

    fn peek(&self, index: u32) -> Option<&Listener> {
        self.slots.get(index as usize)?.listener.as_ref()
    }

    fn get(&self, id: ListenerId) -> Option<&Listener> {
        self.peek(id.index).filter(|listener| listener.id == id)
    }

    fn get_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.slots.get_mut(id.index as usize)?.listener.as_mut().filter(|listener| listener.id == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.slots.iter().filter_map(|slot| slot.listener.as_ref())
    }

    pub(super) fn has_port(&self, port: u16) -> bool {
        self.by_port.contains_key(&port)
    }

    /// The listener for a segment: one at its very address before one at any.
    pub(super) fn find(&self, seg: &Seg) -> Option<ListenerId> {
        let to = seg.flow.local;
        let at_port = self.by_port.get(&seg.flow.local_port)?;
        let rank = |listener: &&Listener| match listener.at.ip() {
            own if own == to => Some(1),
            own if own.is_unspecified() && own.is_ipv4() == to.is_ipv4() => Some(0),
            _ => None,
        };
        let candidates = at_port.iter().filter_map(|&index| self.peek(index));
        candidates.filter(|listener| rank(listener).is_some()).max_by_key(rank).map(|listener| listener.id)
    }

    pub(super) fn set_backlog(&mut self, id: ListenerId, backlog_max: usize) -> bool {
        let Some(listener) = self.get_mut(id) else { return false };
        listener.backlog_max = backlog_max;
        true
    }

    pub(super) fn refuse(&mut self, id: ListenerId, refuses: bool) -> bool {
        let Some(listener) = self.get_mut(id) else { return false };
        listener.refuses = refuses;
        true
    }

    /// Whether nobody is to connect.
    pub(super) fn refuses(&self, id: ListenerId) -> bool {
        self.get(id).is_some_and(|listener| listener.refuses)
    }

    /// Whether another connection may wait to be accepted.
    pub(super) fn has_place(&self, id: ListenerId) -> bool {
        self.get(id).is_some_and(|listener| listener.waiting < listener.backlog_max)
    }

    fn may_open_half(&self, id: ListenerId) -> bool {
        self.get(id).is_some_and(|listener| listener.half_open < listener.syn_backlog_max)
    }

    pub(super) fn on_half_open(&mut self, id: ListenerId) {
        if let Some(listener) = self.get_mut(id) {
            listener.half_open += 1;
        }
    }

    pub(super) fn on_established(&mut self, id: ListenerId) {
        if let Some(listener) = self.get_mut(id) {
            listener.half_open = listener.half_open.saturating_sub(1);
            listener.waiting += 1;
        }
    }

    pub(super) fn on_accepted(&mut self, id: ListenerId) {
        if let Some(listener) = self.get_mut(id) {
            listener.waiting = listener.waiting.saturating_sub(1);
        }
    }

    /// A connection ended before its handshake was complete.
    pub(super) fn on_half_open_gone(&mut self, id: ListenerId) {
        if let Some(listener) = self.get_mut(id) {
            listener.half_open = listener.half_open.saturating_sub(1);
        }
    }

    pub(super) fn options_of(&self, id: ListenerId) -> Option<Arc<ConnectionOptions>> {
        self.get(id).and_then(|listener| listener.connection.clone())
    }
}

impl Listener {
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    pub(super) fn half_open(&self) -> usize {
        self.half_open
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }
}

impl<B: Buffer> Stack<B> {
    /// RFC 9293 §3.10.7.2.
    pub(super) fn on_segment_listen<E: Env<Buffer = B>>(
        &mut self,
        listener: ListenerId,
        seg: &Seg,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        // First, check for a RST.
        if seg.rst() {
            return self.drop_packet(buffer, DropReason::TcpReset, env);
        }
        // Second, check for an ACK: one of our cookies comes back, or it is out of place.
        if seg.acks() && self.tcp.listeners.refuses(listener) {
            return self.reset_in_answer(seg, buffer, DropReason::TcpPortClosed, env);
        }
        if seg.acks() {
            return self.on_ack_of_cookie(listener, seg, buffer, env);
        }
        // Third, check for a SYN.
        if !seg.syn() || seg.fin() {
            return self.drop_packet(buffer, DropReason::TcpAckMissing, env);
        }
        self.on_syn(listener, seg, None, buffer, env)
    }

    /// A SYN for a listener. `iss_from`: the number that ours must be behind.
    fn on_syn<E: Env<Buffer = B>>(
        &mut self,
        listener: ListenerId,
        seg: &Seg,
        iss_from: Option<SeqNum>,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        if self.tcp.listeners.refuses(listener) {
            return self.reset_in_answer(seg, buffer, DropReason::TcpPortClosed, env);
        }
        if !self.tcp.listeners.has_place(listener) {
            return self.drop_packet(buffer, DropReason::TcpAcceptQueueFull, env);
        }
        let cookies = self.tcp.config.syn_cookies;
        let crowded = !self.tcp.listeners.may_open_half(listener) || self.tcp.table.is_full();
        match cookies {
            SynCookies::Always => return self.answer_by_cookie(listener, seg, buffer, env),
            SynCookies::WhenFull if crowded => return self.answer_by_cookie(listener, seg, buffer, env),
            SynCookies::Never if crowded => return self.drop_packet(buffer, DropReason::TcpSynBacklogFull, env),
            _ => {}
        }
        let now = env.now();
        let clock = self.tcp.secret.initial(&seg.flow, now);
        let iss = iss_from.map_or(clock, |from| clock.later(from + REOPEN_SKIP));
        let Some(mut tcb) = self.passive_tcb(listener, seg, iss, env) else {
            return self.drop_packet(buffer, DropReason::TcpConnectionsMax, env);
        };
        tcb.extension = self.extension_for(listener, seg, &buffer);
        tcb.take_syn(seg, now);
        tcb.ecn.ok = tcb.options.ecn && Ecn::is_asked(seg);
        self.tcp.listeners.on_half_open(listener);
        let index = tcb.id.index;
        self.tcp.table.bind(index, tcb);
        self.with(index, env, |tcb, cx| {
            tcb.send_syn(cx);
            tcb.arm_syn_timer(cx.now);
        });
        // Text of a SYN is sent again (RFC 9293 §3.10.7.2 lets it be queued).
        self.ledger.release(env, buffer);
        Verdict::Consumed
    }

    /// The layer above, if the listener has one for this SYN.
    fn extension_for(&mut self, listener: ListenerId, seg: &Seg, buffer: &B) -> Option<Box<dyn Extension<B>>> {
        let (_, extend) = self.tcp.extenders.iter_mut().find(|(of, _)| *of == listener)?;
        let options = buffer.bytes().get(seg.options_at.clone()).unwrap_or_default();
        let (len, fin) = (seg.text_len, seg.fin());
        extend(&SegmentView { offset: 0, len, syn: true, ack: false, fin, rst: false, acked: 0, options })
    }

    /// A connection that a listener is to have, in SYN-RECEIVED.
    pub(super) fn passive_tcb<E: Env<Buffer = B>>(
        &mut self,
        listener: ListenerId,
        seg: &Seg,
        iss: SeqNum,
        env: &mut E,
    ) -> Option<Box<Tcb<B>>> {
        let options = self.tcp.listeners.options_of(listener).unwrap_or_else(|| Arc::clone(&self.tcp.defaults));
        let Some(id) = self.tcp.table.reserve() else {
            self.tcp.counters.connections_max_hit += 1;
            return None;
        };
        let now = env.now();
        let mut tcb = Box::new(Tcb::new(Opening {
            id,
            flow: seg.flow,
            state: State::SynReceived,
            options,
            iss,
            ts_offset: self.tcp.secret.timestamp_offset(&seg.flow),
            path_mtu: PathMtu::new(self.path_mtu_from(seg, now)),
            now,
            seed: env.random(),
        }));
        tcb.passive = true;
        tcb.listener = Some(listener);
        Some(tcb)
    }

    /// Largest packet back to where a segment came from.
    pub(super) fn path_mtu_from(&self, seg: &Seg, now: crate::time::Instant) -> usize {
        let link_mtu = self.interface(seg.packet.interface).map_or(0, |i| i.station.config.mtu);
        self.path_mtu(seg.flow.remote, link_mtu, now)
    }

    /// RFC 6191: a SYN takes the place of a connection in TIME-WAIT.
    pub(super) fn reopen<E: Env<Buffer = B>>(&mut self, index: u32, seg: &Seg, buffer: B, env: &mut E) -> Verdict<B> {
        let snd_nxt = self.tcp.table.peek(index).map(|tcb| tcb.snd_nxt);
        self.with(index, env, |tcb, _| tcb.close(super::CloseReason::Finished));
        match self.tcp.listeners.find(seg) {
            Some(listener) => self.on_syn(listener, seg, snd_nxt, buffer, env),
            None => self.refuse_unknown(seg, buffer, DropReason::TcpPortClosed, env),
        }
    }
}

impl<B: Buffer> Tcb<B> {
    /// RFC 6191 §2, RFC 9293 §3.10.7.4: in TIME-WAIT, whether a SYN is surely a new connection's.
    pub(super) fn yields_to(&self, seg: &Seg) -> bool {
        if self.state != State::TimeWait || !seg.syn() || seg.acks() || seg.rst() {
            return false;
        }
        match seg.options.timestamps.filter(|_| self.timestamps_ok) {
            Some(timestamps) if timestamps.value != self.ts_recent => {
                SeqNum(timestamps.value).after(SeqNum(self.ts_recent))
            }
            _ => seg.seq.after(self.rcv_nxt),
        }
    }
}
