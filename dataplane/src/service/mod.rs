//! Applications inside the workers: a [`Service`] is called in the worker's turn, on the core where the packet came in,
//! and reads it where the kernel wrote it.
//!
//! ```text
//!  port --> stack block --ingest--> Datagram --> Service::on_datagram --> After::Reply --> same frame --> port
//!             |   ^                                    |
//!             |   +-- addresses, routes, neighbours    +--> Io::send: a new frame
//!             v       from the kernel, live
//!        the worker's own tailwater_stack::Stack
//! ```
//!
//! Each worker has a stack and a service of its own; nothing is shared, so nothing locks. The XDP program sees to it that
//! all packets of a flow come to one worker. [`Host`] puts it all together: who the host is on its interfaces
//! ([`Addresses`]), where the service listens, and the [`RuntimeConfig`](crate::runtime::RuntimeConfig).
//!
//! A service that answers each datagram with its length:
//!
//! ```no_run
//! use tailwater_dataplane::runtime::{InterfaceConfig, RuntimeConfig};
//! use tailwater_dataplane::service::{After, Datagram, Host, Io, Service};
//!
//! struct Length;
//!
//! impl Service for Length {
//!     fn on_datagram(&mut self, datagram: &mut Datagram, _io: &mut Io<'_, '_>) -> After {
//!         let answer = (datagram.payload_len() as u32).to_be_bytes();
//!         datagram.truncate_payload(0);
//!         match datagram.append_payload(answer.len()) {
//!             Ok(room) => room.copy_from_slice(&answer),
//!             Err(_) => return After::Release,
//!         }
//!         After::Reply
//!     }
//! }
//!
//! let host = Host::new(|_worker| Length).listen_udp("0.0.0.0:7000".parse()?);
//! let config = RuntimeConfig { interfaces: vec![InterfaceConfig::named("eth1")], ..RuntimeConfig::default() };
//! let (runtime, presence) = host.start(&config)?;
//! std::thread::sleep(std::time::Duration::from_secs(60));
//! drop(presence);
//! println!("{:?}", runtime.stop()?.workers[0].dropped);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod around;
mod block;
mod boot_secret;
mod census;
mod claim;
mod entropy;
mod env;
mod flows;
mod follower;
mod host;
mod io;
mod listener;
mod mailbox;
mod ports;
mod presence;
mod reservation;

pub(crate) use block::KIND;
pub use boot_secret::run_folder;
pub use census::{CENSUS_PAGE_MAX, Census, CensusError, CensusFilter, CensusListener, CensusPage, CensusQuery};
pub use claim::LOCAL_PORTS_MAX;
pub use host::{Addresses, Host, HostError, Prepared, graph, graph_of_group};
pub use io::Io;
pub(crate) use listener::{Listener, Transport};
pub(crate) use ports::Ports;
pub use presence::Presence;

use std::net::SocketAddr;

use tailwater_stack::tcp::{CloseReason, ConnectionId};
use tailwater_stack::{EchoReply, Event};

use crate::frame::Frame;

/// A received UDP datagram in its frame: payload, addresses, hop limit.
pub type Datagram = tailwater_stack::Datagram<Frame>;

/// What becomes of a datagram after the service has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It goes back to where it came from, in the same frame, with the payload that it has now.
    Reply,
    /// The service is done with it.
    Release,
    /// The service wants it whole: [`Service::keep_datagram`] follows.
    Keep,
}

/// An application inside a worker. All calls happen in the worker's turn and must not block: what a call takes is added
/// to the delay of every packet of this worker.
///
/// A connection belongs to one worker, as its packets do. What arrives on it waits until the service takes it with
/// [`Io::receive`], and while it waits the peer's window shrinks; what the service sends waits until it is acknowledged,
/// and when too much does, [`Io::send`] takes less and [`on_writable`](Self::on_writable) says when to go on.
pub trait Service: Send {
    /// The worker has started, the stack knows its addresses, and the XDP program knows what is ours: connections can be
    /// opened. The first call of all.
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        let _ = io;
    }

    /// A datagram came to one of the addresses that the service listens at. Read it, change it in place.
    fn on_datagram(&mut self, datagram: &mut Datagram, io: &mut Io<'_, '_>) -> After {
        let _ = (datagram, io);
        After::Release
    }

    /// The datagram of which [`on_datagram`](Self::on_datagram) said [`After::Keep`]: give its frame back by
    /// [`Io::release`] some time.
    fn keep_datagram(&mut self, datagram: Datagram, io: &mut Io<'_, '_>) {
        io.release(datagram.into_buffer());
    }

    /// A peer has connected to a TCP port that the service listens at.
    fn on_accepted(&mut self, connection: ConnectionId, remote: SocketAddr, io: &mut Io<'_, '_>) {
        let _ = (connection, remote, io);
    }

    /// A connection of [`Io::connect`] is there.
    fn on_connected(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        let _ = (connection, io);
    }

    /// There is text to read, or the end of it: take it with [`Io::receive`], now or later. Called again only when more
    /// has arrived.
    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        let _ = (connection, io);
    }

    /// There is room to send again, after there was none.
    fn on_writable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        let _ = (connection, io);
    }

    /// The connection is over; its number means nothing any more. If it ended well, everything was read before.
    fn on_closed(&mut self, connection: ConnectionId, reason: CloseReason, io: &mut Io<'_, '_>) {
        let _ = (connection, reason, io);
    }

    /// An answer to an echo request of [`Io::echo_request`].
    fn on_echo_reply(&mut self, reply: &EchoReply<Frame>, io: &mut Io<'_, '_>) {
        let _ = (reply, io);
    }

    /// Something else happened: a packet of ours did not arrive, a neighbour does not answer.
    fn on_event(&mut self, event: &Event, io: &mut Io<'_, '_>) {
        let _ = (event, io);
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called, in ns of [`Io::now_ns`]'s clock; 0 for at once. Asked each
    /// turn, and last before the worker sleeps: who wakes it by [`Io::waker`] does so after this has changed.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// The deadline has come.
    fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
        let _ = io;
    }

    /// The service's own counters, by name.
    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let _ = report;
    }
}
