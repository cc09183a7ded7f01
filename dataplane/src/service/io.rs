//! What a service may do while it is called.

use std::net::SocketAddr;

use tailwater_stack::udp::BindError;
use tailwater_stack::{DropReason, EchoRequest, Sent, SocketId, Stack};

use super::entropy::Entropy;
use super::env::WorkerEnv;
use crate::block::Context;
use crate::frame::Frame;
use crate::ledger;

/// The worker and its stack, lent to a service for one call.
pub struct Io<'a, 'c> {
    stack: &'a mut Stack<Frame>,
    env: WorkerEnv<'a, 'c>,
    worker: usize,
}

impl<'a, 'c> Io<'a, 'c> {
    pub(super) fn new(
        stack: &'a mut Stack<Frame>,
        context: &'a mut Context<'c>,
        entropy: &'a mut Entropy,
        worker: usize,
    ) -> Self {
        Self { stack, env: WorkerEnv { context, entropy }, worker }
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
        self.worker
    }

    /// 64 bits that nobody can guess.
    pub fn random(&mut self) -> u64 {
        self.env.entropy.next()
    }

    /// Opens a further socket in this worker only: the XDP program knows nothing of it.
    pub fn bind_udp(&mut self, local: SocketAddr, remote: Option<SocketAddr>) -> Result<SocketId, BindError> {
        self.stack.udp_bind(local, remote)
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
