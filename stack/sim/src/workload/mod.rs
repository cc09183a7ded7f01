//! Applications on the simulated hosts. A new one is a file here that implements [`Workload`].

mod ping;
mod requests;
mod sequence;
mod tcp;
mod udp;

use tailwater_stack::tcp::TcpEvent;
use tailwater_stack::{Datagram, EchoReply, Env, Event, Instant, SocketId, Stack};

use crate::buffer::SimBuffer;
use crate::flow::Flow;
use crate::host::HostContext;

pub use ping::{Ping, Pings};
pub use requests::{UdpEcho, UdpRequests, UdpRequestsConfig};
pub use tcp::{Rests, TcpClient, TcpClientConfig, TcpResponder, TcpSink, TcpSource, TcpSourceConfig};
pub(crate) use udp::any_of;
pub use udp::{UdpSink, UdpSource, UdpSourceConfig};

/// One application of one host.
///
/// # Events in
/// [`start`](Self::start) once; [`on_datagram`](Self::on_datagram), [`on_echo_reply`](Self::on_echo_reply),
/// [`on_event`](Self::on_event), [`on_tcp`](Self::on_tcp) and [`on_timeout`](Self::on_timeout) as they happen.
///
/// # Outputs
/// What it does with its host's stack in these calls; [`poll_timeout`](Self::poll_timeout);
/// [`report`](Self::report).
pub trait Workload: Send {
    /// The simulation begins, or goes on with this workload added.
    fn start(&mut self, host: &mut HostContext<'_, '_>);

    /// Whether datagrams to this socket are its own.
    fn has_socket(&self, socket: SocketId) -> bool {
        let _ = socket;
        false
    }

    /// A datagram to a socket of its own.
    fn on_datagram(&mut self, datagram: Datagram<SimBuffer>, host: &mut HostContext<'_, '_>) {
        host.env.release(datagram.into_buffer());
    }

    /// Whether replies to echo requests of this identifier are its own.
    fn has_ident(&self, ident: u16) -> bool {
        let _ = ident;
        false
    }

    /// A reply to an echo request of its own.
    fn on_echo_reply(&mut self, reply: EchoReply<SimBuffer>, host: &mut HostContext<'_, '_>) {
        host.env.release(reply.into_buffer());
    }

    /// The stack has something to tell. Every workload of the host hears it.
    fn on_event(&mut self, event: &Event, host: &mut HostContext<'_, '_>) {
        let _ = (event, host);
    }

    /// Something happened to a connection. Every workload of the host hears it, and knows its own.
    fn on_tcp(&mut self, event: &TcpEvent, host: &mut HostContext<'_, '_>) {
        let _ = (event, host);
    }

    /// When to be called by [`on_timeout`](Self::on_timeout).
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    fn on_timeout(&mut self, host: &mut HostContext<'_, '_>) {
        let _ = host;
    }

    /// The flow that this is an end of.
    fn flow(&self) -> &str;

    /// Adds what this end knows to its flow's figures.
    fn report(&self, flow: &mut Flow, stack: &Stack<SimBuffer>, now: Instant);
}
