//! What a service may do while it is called.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tailwater_stack::tcp::congestion::Control;
use tailwater_stack::tcp::{Connect, ConnectError, ConnectionId, TcpError, TcpSnapshot};
use tailwater_stack::udp::BindError;
use tailwater_stack::{DropReason, EchoRequest, Instant, Sent, SocketId, Stack};

use super::entropy::Entropy;
use super::env::WorkerEnv;
use super::flows::Flows;
use super::listener::Transport;
use crate::block::Context;
use crate::frame::Frame;
use crate::ledger;

/// The worker and its stack, lent to a service for one call.
pub struct Io<'a, 'c> {
    stack: &'a mut Stack<Frame>,
    env: WorkerEnv<'a, 'c>,
    flows: &'a Flows,
}

impl<'a, 'c> Io<'a, 'c> {
    pub(super) fn new(
        stack: &'a mut Stack<Frame>,
        context: &'a mut Context<'c>,
        entropy: &'a mut Entropy,
        flows: &'a Flows,
    ) -> Self {
        Self { stack, env: WorkerEnv { context, entropy }, flows }
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
        self.flows.worker()
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
        let (flows, random) = (self.flows, self.env.entropy.next());
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

    /// Where a socket is bound.
    pub fn udp_local(&self, socket: SocketId) -> Option<SocketAddr> {
        self.stack.udp_local(socket)
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
        let (flows, remote) = (self.flows, connect.remote);
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

    /// Bytes that [`send`](Self::send) would take; after a 0, [`on_writable`](super::Service::on_writable) follows.
    pub fn send_room(&mut self, connection: ConnectionId) -> usize {
        self.stack.tcp_send_room(connection)
    }

    /// The next text that has arrived, in the frame that it came in; give that back by [`release`](Self::release) or
    /// [`send_frame`](Self::send_frame). `None`: nothing there; [`TcpError::Finished`]: nothing will come.
    pub fn receive(&mut self, connection: ConnectionId) -> Result<Option<Frame>, TcpError> {
        self.stack.tcp_receive(connection, &mut self.env)
    }

    /// Copies what has arrived; returns how many bytes.
    pub fn read(&mut self, connection: ConnectionId, to: &mut [u8]) -> Result<usize, TcpError> {
        self.stack.tcp_read(connection, to, &mut self.env)
    }

    /// Takes a received frame back.
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
