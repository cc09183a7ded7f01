//! Opening a connection (RFC 9293 §3.10.1, active).

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::config::ConnectionOptions;
use super::event::{CloseReason, ConnectionId};
use super::extension::Extension;
use super::flow::Flow;
use super::isn::timestamp;
use super::listen::REOPEN_SKIP;
use super::path_mtu::PathMtu;
use super::ports;
use super::receive_window::scale_for;
use super::seq::SeqNum;
use super::state::State;
use super::tcb::{Opening, Tcb};
use crate::buffer::Buffer;
use crate::env::Env;
use crate::stack::Stack;
use crate::time::Instant;

/// How to connect.
#[derive(Debug)]
pub struct Connect<B> {
    pub remote: SocketAddr,
    /// `None`: the address that the route suggests.
    pub local: Option<IpAddr>,
    /// 0: one of [`Config::local_ports`](crate::Config).
    pub local_port: u16,
    /// `None`: the stack's.
    pub connection: Option<ConnectionOptions>,
    /// A layer above.
    pub extension: Option<Box<dyn Extension<B>>>,
}

impl<B> Connect<B> {
    pub fn to(remote: SocketAddr) -> Self {
        Self { remote, local: None, local_port: 0, connection: None, extension: None }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectError {
    /// No route to the peer, or no address to speak from.
    NoRoute,
    /// A group, an unspecified address, port 0, or families that differ.
    Address,
    /// A connection with these addresses and ports exists.
    InUse,
    /// Every port of [`Config::local_ports`](crate::Config) is taken or refused.
    NoPort,
    /// The configured number of connections is open.
    Full,
}

impl<B: Buffer> Stack<B> {
    /// Sends a SYN; [`TcpEvent::Connected`](super::TcpEvent::Connected) or
    /// [`Closed`](super::TcpEvent::Closed) tells how it went. `accepted` may refuse local addresses and
    /// ports that were not asked for: for instance those whose replies would hash to another worker.
    pub fn tcp_connect<E: Env<Buffer = B>>(
        &mut self,
        connect: Connect<B>,
        accepted: impl FnMut(SocketAddr) -> bool,
        env: &mut E,
    ) -> Result<ConnectionId, ConnectError> {
        let options = connect.connection.map_or_else(|| Arc::clone(&self.tcp.defaults), Arc::new);
        let (flow, mtu) = self.flow_to(&connect, accepted, env)?;
        let Some(id) = self.tcp.table.reserve() else {
            self.tcp.counters.connections_max_hit += 1;
            return Err(ConnectError::Full);
        };
        let old = self.take_over(&flow, env);
        let now = env.now();
        let clock = self.tcp.secret.initial(&flow, now);
        let mut tcb = Box::new(Tcb::new(Opening {
            id,
            flow,
            state: State::SynSent,
            options: Arc::clone(&options),
            iss: old.map_or(clock, |old| clock.later(old + REOPEN_SKIP)),
            ts_offset: self.tcp.secret.timestamp_offset(&flow),
            path_mtu: PathMtu::new(mtu),
            now,
            seed: env.random(),
        }));
        tcb.extension = connect.extension;
        tcb.rcv_wscale = if options.window_scaling { scale_for(options.receive_buffer_max) } else { 0 };
        self.tcp.table.bind(id.index, tcb);
        self.with(id.index, env, |tcb, cx| {
            tcb.send_syn(cx);
            tcb.arm_syn_timer(cx.now);
        });
        Ok(id)
    }

    /// The sockets of a new connection, and the MTU between them.
    fn flow_to<E: Env<Buffer = B>>(
        &mut self,
        connect: &Connect<B>,
        mut accepted: impl FnMut(SocketAddr) -> bool,
        env: &mut E,
    ) -> Result<(Flow, usize), ConnectError> {
        let remote = connect.remote;
        let unspecified: IpAddr =
            if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let own = connect.local.unwrap_or(unspecified);
        if !is_peer(remote) || own.is_ipv4() != remote.is_ipv4() {
            return Err(ConnectError::Address);
        }
        let (hop, local) = self.source_and_hop(own, remote, None).map_err(|_| ConnectError::NoRoute)?;
        let link_mtu = self.interface(hop.interface).map_or(0, |i| i.station.config.mtu);
        let mut flow = Flow::on(hop.interface, local, remote.ip(), connect.local_port, remote.port());
        let (tcp, now) = (&mut self.tcp, env.now());
        if flow.local_port == 0 {
            let (table, listeners, asked) = (&tcp.table, &tcp.listeners, flow);
            let free = |port: u16| {
                let old = table.find(&Flow { local_port: port, ..asked }).and_then(|index| table.peek(index));
                !listeners.has_port(port) && old.is_none_or(|old| old.gives_way(now))
            };
            let fits = |port: u16| accepted(SocketAddr::new(local, port)) && free(port);
            let port = ports::choose(&tcp.secret, &flow, self.config.local_ports, &mut tcp.port_counter, fits);
            flow.local_port = port.ok_or(ConnectError::NoPort)?;
        }
        let old = tcp.table.find(&flow).and_then(|index| tcp.table.peek(index));
        if old.is_some_and(|old| !old.gives_way(now)) {
            return Err(ConnectError::InUse);
        }
        Ok((flow, self.path_mtu(remote.ip(), link_mtu, now)))
    }

    /// Ends the connection in TIME-WAIT whose flow this is, if there is one; the last number that it sent.
    fn take_over<E: Env<Buffer = B>>(&mut self, flow: &Flow, env: &mut E) -> Option<SeqNum> {
        let index = self.tcp.table.find(flow)?;
        self.with(index, env, |old, _| {
            old.close(CloseReason::Finished);
            old.snd_nxt
        })
    }
}

impl<B: Buffer> Tcb<B> {
    /// Whether a connection that we open may take the place of this one in TIME-WAIT. RFC 6191 §2, from the other side: its
    /// timestamps begin behind all of this one, so that whoever still waits there knows it for new, and old segments are
    /// known for old (RFC 7323 §5).
    fn gives_way(&self, now: Instant) -> bool {
        let last = self.last_sent_at.max(self.last_heard_at);
        let [last, next] = [last, now].map(|at| SeqNum(timestamp(self.ts_offset, at)));
        self.state == State::TimeWait && self.orphan && self.timestamps_ok && next.after(last)
    }
}

/// Whether a single host can be there (RFC 9293 §3.9.2.3, MUST-57).
fn is_peer(remote: SocketAddr) -> bool {
    let ip = remote.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    remote.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}
