//! `Sockets`: where an application gets its sockets.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::SocketConfig;
use super::error;
use super::listener::TcpListener;
use super::service::SocketService;
use super::shared::Shared;
use super::stream::TcpStream;
use super::udp::UdpSocket;

/// The sockets of one host, for all threads: clones are the same.
///
/// The first call waits until the host has started. After it has stopped every call fails with
/// [`NetworkDown`](std::io::ErrorKind::NetworkDown).
#[derive(Clone)]
pub struct Sockets {
    shared: Arc<Shared>,
}

impl Sockets {
    /// Sockets, and the service that serves them in the workers of the host that it is given to.
    pub fn new(config: SocketConfig) -> (Self, impl Fn(usize) -> SocketService + Send + Sync + 'static) {
        let shared = Arc::new(Shared::new(config));
        let in_workers = Arc::clone(&shared);
        (Self { shared }, move |worker| SocketService::new(&in_workers, worker))
    }

    /// Listens at an address; `0.0.0.0` and `[::]` stand for all of their family, port 0 for one that is free.
    ///
    /// The port is one that the [`Host`](crate::service::Host) was told of, or it becomes the host's now: reserved in the
    /// kernel and registered with the steering program until a minute after the listener and its last connection are
    /// closed. Where nobody listens any more connections are refused.
    pub fn listen_tcp(&self, at: impl ToSocketAddrs) -> std::io::Result<TcpListener> {
        each(at, |at| TcpListener::open(&self.shared, at))
    }

    /// Connects. In shared mode with the kernel's addresses the host needs
    /// [`local_ports`](crate::service::Host::local_ports) for it.
    pub fn connect(&self, to: impl ToSocketAddrs) -> std::io::Result<TcpStream> {
        each(to, |to| TcpStream::connect(&self.shared, to, None))
    }

    /// Connects, or fails with [`TimedOut`](std::io::ErrorKind::TimedOut).
    pub fn connect_timeout(&self, to: &SocketAddr, timeout: Duration) -> std::io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(error::of(libc::EINVAL));
        }
        TcpStream::connect(&self.shared, *to, Some(Instant::now() + timeout))
    }

    /// Begins to connect and does not wait: the stream does not block, and is ready for writing when it is there, or
    /// when that failed, which [`TcpStream::take_error`] tells.
    pub fn begin_connect(&self, to: &SocketAddr) -> std::io::Result<TcpStream> {
        let stream = TcpStream::begin(&self.shared, *to)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// A UDP socket at an address, as for [`listen_tcp`](Self::listen_tcp).
    pub fn bind_udp(&self, at: impl ToSocketAddrs) -> std::io::Result<UdpSocket> {
        each(at, |at| UdpSocket::bind(&self.shared, at))
    }

    /// A UDP socket to one peer, at a local port of the host's.
    pub fn connect_udp(&self, to: impl ToSocketAddrs) -> std::io::Result<UdpSocket> {
        each(to, |to| UdpSocket::to(&self.shared, to))
    }
}

/// The first address that works, or the last error.
fn each<T>(addresses: impl ToSocketAddrs, attempt: impl Fn(SocketAddr) -> std::io::Result<T>) -> std::io::Result<T> {
    let mut last = error::of(libc::EINVAL);
    for address in addresses.to_socket_addrs()? {
        match attempt(address) {
            Ok(done) => return Ok(done),
            Err(error) => last = error,
        }
    }
    Err(last)
}
