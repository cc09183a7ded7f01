//! What a service may do while it is called.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tailwater_stack::tcp::congestion::Control;
use tailwater_stack::tcp::{
    Connect, ConnectError, ConnectionId, Listen, ListenError, ListenerId, TcpError, TcpSnapshot,
};
use tailwater_stack::udp::BindError;
use tailwater_stack::{DropReason, EchoRequest, Instant, Sent, SocketId, Stack};

use super::around::Around;
use super::entropy::Entropy;
use super::env::WorkerEnv;
use super::listener::Transport;
use super::ports::Ports;
use crate::block::Context;
use crate::frame::Frame;
use crate::ledger;
use crate::worker::Waker;

/// The worker and its stack, lent to a service for one call.
pub struct Io<'a, 'c> {
    stack: &'a mut Stack<Frame>,
    env: WorkerEnv<'a, 'c>,
    around: &'a Around,
}

impl<'a, 'c> Io<'a, 'c> {
    pub(super) fn new(
        stack: &'a mut Stack<Frame>,
        context: &'a mut Context<'c>,
        entropy: &'a mut Entropy,
        around: &'a Around,
    ) -> Self {
        Self { stack, env: WorkerEnv { context, entropy }, around }
    }

    pub(super) fn parts(&mut self) -> (&mut Stack<Frame>, &mut WorkerEnv<'a, 'c>) {
        (self.stack, &mut self.env)
    }

    /// Nanoseconds of the monotonic clock, read once per turn. [`clock::now_ns`](crate::clock::now_ns) reads it now.
    pub fn now_ns(&self) -> u64 {
        self.env.context.now_ns
    }

    /// Number of the worker that the service runs in.
    pub fn worker(&self) -> usize {
        self.around.flows.worker()
    }

    /// Wakes this worker from other threads; `None` where it is turned by hand.
    pub fn waker(&self) -> Option<Arc<Waker>> {
        self.around.waker.clone()
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.around.ports
    }

    /// 64 bits that nobody can guess.
    pub fn random(&mut self) -> u64 {
        self.env.entropy.next()
    }

    /// Opens a socket to `remote`, at a local port whose datagrams come back to this worker: for that the host has
    /// [`local_ports`](super::Host::local_ports), or addresses of its own.
    pub fn open_udp(&mut self, remote: SocketAddr) -> Result<SocketId, BindError> {
        let unspecified = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let local = self.stack.source_for(remote).unwrap_or(unspecified);
        let (flows, random) = (&self.around.flows, self.env.entropy.next());
        let comes_back = |port| flows.come_back(Transport::Udp, SocketAddr::new(local, port), remote);
        self.stack.udp_bind_ephemeral(local, Some(remote), random, comes_back)
    }

    /// Closes a socket of [`open_udp`](Self::open_udp) or [`bind_udp`](Self::bind_udp). Whether it was open.
    pub fn close_udp(&mut self, socket: SocketId) -> bool {
        self.stack.udp_close(socket)
    }

    /// Opens a further socket in this worker only: the XDP program knows nothing of it.
    pub fn bind_udp(&mut self, local: SocketAddr, remote: Option<SocketAddr>) -> Result<SocketId, BindError> {
        self.stack.udp_bind(local, remote)
    }

    /// The socket that is open at exactly this address: of the host's listeners, for instance.
    pub fn udp_at(&self, local: SocketAddr) -> Option<SocketId> {
        let mut sockets = self.stack.udp_sockets();
        sockets.find(|(_, at, remote)| *at == local && remote.is_none()).map(|(socket, ..)| socket)
    }

    /// Gives what a socket sends from now on this DSCP, the upper six bits of the traffic class. Whether it is open.
    pub fn set_udp_dscp(&mut self, socket: SocketId, dscp: u8) -> bool {
        self.stack.udp_set_dscp(socket, dscp)
    }

    /// Where a socket is bound.
    pub fn udp_local(&self, socket: SocketId) -> Option<SocketAddr> {
        self.stack.udp_local(socket)
    }

    /// Sends a datagram whose payload lies in a frame of [`allocate`](Self::allocate).
    pub fn send_udp_frame(&mut self, socket: SocketId, to: SocketAddr, payload: Frame) -> Result<Sent, DropReason> {
        self.stack.udp_send(socket, to, payload, &mut self.env)
    }

    /// Sends a datagram of `len` bytes, written by `write` straight into the frame(s) it leaves in: `write` is called
    /// with the offset and the room of each piece, in order.
    pub fn send_udp(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Result<Sent, DropReason> {
        let payload = self.payload(len, write)?;
        self.stack.udp_send(socket, to, payload, &mut self.env)
    }

    /// Opens a connection; [`on_connected`](super::Service::on_connected) or
    /// [`on_closed`](super::Service::on_closed) says how it went. The local port is one whose packets
    /// come back to this worker, unless it is given. In shared mode with the kernel's addresses the host needs
    /// [`local_ports`](super::Host::local_ports) for that: what comes to others is the kernel's.
    pub fn connect(&mut self, connect: Connect<Frame>) -> Result<ConnectionId, ConnectError> {
        let (flows, remote) = (&self.around.flows, connect.remote);
        let comes_back = |local| flows.come_back(Transport::Tcp, local, remote);
        self.stack.tcp_connect(connect, comes_back, &mut self.env)
    }

    /// Sends bytes on a connection, as many as there is room for; returns how many.
    pub fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> Result<usize, TcpError> {
        self.stack.tcp_send(connection, bytes, &mut self.env)
    }

    /// Sends `len` bytes, written by `write` straight into the frames they leave in: it is called with the offset and the
    /// room of each piece, in order. Returns how many there was room for.
    pub fn send_with(
        &mut self,
        connection: ConnectionId,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Result<usize, TcpError> {
        self.stack.tcp_send_with(connection, len, write, &mut self.env)
    }

    /// Sends the bytes of a frame, for instance of one that was received. It comes back with the error.
    pub fn send_frame(&mut self, connection: ConnectionId, text: Frame) -> Result<(), (TcpError, Option<Frame>)> {
        self.stack.tcp_send_buffer(connection, text, &mut self.env)
    }

    /// Sends the frames that `next` gives, which leave together, while there is room; returns how many.
    pub fn send_frames(
        &mut self,
        connection: ConnectionId,
        next: impl FnMut() -> Option<Frame>,
    ) -> Result<usize, TcpError> {
        self.stack.tcp_send_buffers(connection, next, &mut self.env)
    }

    /// Bytes of payload in a full segment: as many fit a frame that is to be sent without being cut.
    pub fn segment_len(&self, connection: ConnectionId) -> Option<usize> {
        self.stack.tcp_segment_len(connection)
    }

    /// The connection's own address, and the peer's.
    pub fn addresses(&self, connection: ConnectionId) -> Option<(SocketAddr, SocketAddr)> {
        self.stack.tcp_addresses(connection)
    }

    /// Bytes that [`send`](Self::send) would take; after a 0, [`on_writable`](super::Service::on_writable) follows.
    pub fn send_room(&mut self, connection: ConnectionId) -> usize {
        self.stack.tcp_send_room(connection)
    }

    /// The next text that has arrived, in the frame that it came in; give that back by [`release`](Self::release) or
    /// [`send_frame`](Self::send_frame). `None`: nothing there; [`TcpError::Finished`]: nothing will come.
    #[inline]
    pub fn receive(&mut self, connection: ConnectionId) -> Result<Option<Frame>, TcpError> {
        self.stack.tcp_receive(connection, &mut self.env)
    }

    /// Copies what has arrived; returns how many bytes.
    pub fn read(&mut self, connection: ConnectionId, to: &mut [u8]) -> Result<usize, TcpError> {
        self.stack.tcp_read(connection, to, &mut self.env)
    }

    /// An empty frame, to be filled and sent, or released. `None`: all are in use.
    pub fn allocate(&mut self) -> Option<Frame> {
        self.env.context.pool.allocate()
    }

    /// Chunks of packet memory that are this worker's part. The stack keeps no more than half of them; who keeps more than
    /// half of the others leaves too few to receive with.
    pub fn chunks(&self) -> usize {
        self.around.chunks
    }

    /// Bytes that a frame of [`allocate`](Self::allocate) has room for.
    pub fn chunk_room(&self) -> usize {
        self.env.context.pool.region().segment_max()
    }

    /// Takes a received frame back.
    #[inline]
    pub fn release(&mut self, frame: Frame) {
        self.env.context.pool.release(frame);
    }

    /// Ends our side of a connection, behind everything sent. Reading goes on.
    pub fn shutdown(&mut self, connection: ConnectionId) -> Result<(), TcpError> {
        self.stack.tcp_shutdown(connection, &mut self.env)
    }

    /// Lets go of a connection: what was sent still arrives, and no callback follows.
    pub fn close(&mut self, connection: ConnectionId) -> Result<(), TcpError> {
        self.stack.tcp_close(connection, &mut self.env)
    }

    /// Resets a connection; no callback follows.
    pub fn abort(&mut self, connection: ConnectionId) -> Result<(), TcpError> {
        self.stack.tcp_abort(connection, &mut self.env)
    }

    /// Holds small segments back while others are unacknowledged, or not.
    pub fn set_nagle(&mut self, connection: ConnectionId, nagle: bool) -> Result<(), TcpError> {
        self.stack.tcp_set_nagle(connection, nagle, &mut self.env)
    }

    /// Gives what a connection sends from now on this DSCP, the upper six bits of the traffic class.
    pub fn set_dscp(&mut self, connection: ConnectionId, dscp: u8) -> Result<(), TcpError> {
        self.stack.tcp_set_dscp(connection, dscp, &mut self.env)
    }

    /// Bytes that may wait to be sent or acknowledged from now on.
    pub fn set_send_buffer(&mut self, connection: ConnectionId, bytes: u32) -> Result<(), TcpError> {
        self.stack.tcp_set_send_buffer(connection, bytes, &mut self.env)
    }

    /// Puts another congestion control in place of the connection's.
    pub fn set_congestion_control(
        &mut self,
        connection: ConnectionId,
        control: &'static Control,
    ) -> Result<(), TcpError> {
        self.stack.tcp_set_congestion_control(connection, control, &mut self.env)
    }

    /// Listens in this worker only; of what comes, the XDP program must know.
    pub fn listen_tcp(&mut self, at: SocketAddr, backlog_max: usize) -> Result<ListenerId, ListenError> {
        self.stack.tcp_listen(at, Listen { backlog_max, ..Listen::default() })
    }

    /// The listener at exactly this address: of the host's, for instance.
    pub fn listener_at(&self, at: SocketAddr) -> Option<ListenerId> {
        self.stack.tcp_listeners().find(|(_, known, ..)| *known == at).map(|(listener, ..)| listener)
    }

    /// How many connections of a listener may wait to be accepted from now on, beside those that the service was told of.
    /// Whether there is such a listener.
    pub fn set_backlog(&mut self, listener: ListenerId, backlog_max: usize) -> bool {
        self.stack.tcp_set_backlog(listener, backlog_max)
    }

    /// Refuses connections at a listener from now on, or takes them again. Whether there is such a listener.
    pub fn refuse(&mut self, listener: ListenerId, refuses: bool) -> bool {
        self.stack.tcp_refuse(listener, refuses)
    }

    /// Ends a listener. Whether there was one.
    pub fn unlisten(&mut self, listener: ListenerId) -> bool {
        self.stack.tcp_unlisten(listener, &mut self.env)
    }

    /// Has every listener refuse for now, and names them.
    pub(crate) fn refuse_all(&mut self) -> Vec<ListenerId> {
        let listeners: Vec<ListenerId> = self.stack.tcp_listeners().map(|(listener, ..)| listener).collect();
        for &listener in &listeners {
            self.stack.tcp_refuse(listener, true);
        }
        listeners
    }

    /// Everything about a connection.
    pub fn snapshot(&self, connection: ConnectionId) -> Option<TcpSnapshot> {
        self.stack.tcp_snapshot(connection, Instant::from_nanos(self.now_ns()))
    }

    /// Takes replies to echo requests with this identifier from now on; `false` if it is taken.
    pub fn echo_open(&mut self, ident: u16) -> bool {
        self.stack.echo_open(ident)
    }

    /// Sends an echo request with `len` bytes of data, written as in [`send_udp`](Self::send_udp).
    pub fn echo_request(
        &mut self,
        request: &EchoRequest,
        len: usize,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Result<Sent, DropReason> {
        let data = self.payload(len, write)?;
        self.stack.echo_request(request, data, &mut self.env)
    }

    /// `len` bytes in as many chunks as they need.
    fn payload(&mut self, len: usize, write: impl FnMut(usize, &mut [u8])) -> Result<Frame, DropReason> {
        let payload = self.env.context.pool.allocate_with(len, write);
        if payload.is_none() {
            // A packet that was to be, and could not.
            *self.env.context.originated += 1;
            self.env.context.ledger.count(ledger::DropReason::NoFrame);
        }
        payload.ok_or(DropReason::NoBuffer)
    }
}
