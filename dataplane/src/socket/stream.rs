//! `TcpStream`: a connection as its application has it.

use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tailwater_stack::tcp::TcpSnapshot;
use tailwater_stack::tcp::congestion::CONTROLS;

use super::connection::{Connection, Manners, ask};
use super::error;
use super::event::Readiness;
use super::shared::Shared;

/// Lets go of the connection when the last stream on it is dropped.
struct Owner(Arc<Connection>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.ask(ask::CLOSE);
        if self.0.lane.is_gone() {
            self.0.clear();
        }
    }
}

/// A TCP connection, as [`std::net::TcpStream`] is one: reads and writes wait unless it is told not to, also through `&`
/// and from several threads. Closed when the last clone is dropped: what was written still arrives, and if something was
/// left unread the peer is told by a reset, as the kernel does.
///
/// Once the peer is reset, has gone, or the host has stopped, one call returns the error; later reads return 0 and later
/// writes [`BrokenPipe`](std::io::ErrorKind::BrokenPipe).
///
/// # Waiting for several
/// The descriptor of [`AsFd`] is an eventfd for poll(2) and epoll, always to be asked for `POLLIN`: it is readable exactly
/// while the stream is ready for something it is watched for, which is reading unless [`watch_for`](Self::watch_for) says
/// otherwise. Never read it or write to it; it follows by itself. [`readiness`](Self::readiness) tells what it is.
#[derive(Clone)]
pub struct TcpStream {
    owner: Arc<Owner>,
}

impl TcpStream {
    pub(super) fn of(connection: Arc<Connection>) -> Self {
        Self { owner: Arc::new(Owner(connection)) }
    }

    /// Begins to connect.
    pub(super) fn begin(shared: &Shared, remote: SocketAddr) -> std::io::Result<Self> {
        let connection = Connection::blank(&shared.next_lane()?, &shared.config)?.to(remote);
        connection.ask(ask::CONNECT);
        Ok(Self::of(connection))
    }

    /// Connects, until then at most.
    pub(super) fn connect(shared: &Shared, remote: SocketAddr, until: Option<Instant>) -> std::io::Result<Self> {
        let stream = Self::begin(shared, remote)?;
        let connection = stream.connection();
        if !connection.await_writable(until) {
            return Err(error::of(libc::ETIMEDOUT));
        }
        match connection.take_error() {
            Some(error) => Err(error),
            None if connection.is_over() => Err(error::of(error::STOPPED)),
            None => Ok(stream),
        }
    }

    fn connection(&self) -> &Arc<Connection> {
        &self.owner.0
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.connection().remote)
    }

    /// Our own address; not known before the connection is there.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.connection().local().ok_or_else(|| error::of(libc::ENOTCONN))
    }

    /// A second handle on the same connection, with the same settings.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(self.clone())
    }

    /// Ends one direction or both. After the last written byte the peer reads the end; what it sends afterwards is still
    /// received, unless reading has ended too.
    pub fn shutdown(&self, how: Shutdown) -> std::io::Result<()> {
        if self.connection().is_over() {
            return Err(error::of(libc::ENOTCONN));
        }
        if how != Shutdown::Write {
            self.connection().shut_reading();
        }
        if how != Shutdown::Read {
            self.connection().shut_writing();
        }
        Ok(())
    }

    /// Whether calls fail with [`WouldBlock`](std::io::ErrorKind::WouldBlock) instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
        self.connection().manners.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// Whether small segments leave at once, without waiting for acknowledgements of others (no Nagle algorithm).
    pub fn set_nodelay(&self, nodelay: bool) -> std::io::Result<()> {
        self.connection().options.nodelay.store(nodelay, Ordering::Relaxed);
        self.connection().ask(ask::OPTIONS);
        Ok(())
    }

    /// Whether [`set_nodelay`](Self::set_nodelay) was asked for.
    pub fn nodelay(&self) -> std::io::Result<bool> {
        Ok(self.connection().options.nodelay.load(Ordering::Relaxed))
    }

    /// Exchanges the congestion control: `cubic`, `reno`, `bbr`, `bbr3`. An unknown name is refused with
    /// [`NotFound`](std::io::ErrorKind::NotFound).
    pub fn set_congestion_control(&self, name: &str) -> std::io::Result<()> {
        let found = CONTROLS.iter().position(|control| control.name == name);
        let at = found.ok_or_else(|| error::of(libc::ENOENT))?;
        self.connection().options.congestion_control.store(at as u8 + 1, Ordering::Relaxed);
        self.connection().ask(ask::OPTIONS);
        Ok(())
    }

    /// Longest wait of a read, which then fails with [`WouldBlock`](std::io::ErrorKind::WouldBlock); `None`: for ever.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> std::io::Result<()> {
        Manners::set_timeout(&self.connection().manners.read_timeout_ns, timeout)
    }

    /// The same for writes.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> std::io::Result<()> {
        Manners::set_timeout(&self.connection().manners.write_timeout_ns, timeout)
    }

    /// What [`set_read_timeout`](Self::set_read_timeout) set.
    pub fn read_timeout(&self) -> std::io::Result<Option<Duration>> {
        Ok(Manners::timeout(&self.connection().manners.read_timeout_ns))
    }

    /// What [`set_write_timeout`](Self::set_write_timeout) set.
    pub fn write_timeout(&self) -> std::io::Result<Option<Duration>> {
        Ok(Manners::timeout(&self.connection().manners.write_timeout_ns))
    }

    /// Reads without taking: the next read returns the same bytes, of the first segment at most.
    pub fn peek(&self, to: &mut [u8]) -> std::io::Result<usize> {
        self.connection().read(to, true)
    }

    /// What went wrong and no call has returned yet; of a connection that is being opened, how that went.
    pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
        Ok(self.connection().take_error())
    }

    /// Everything about the connection, as `TCP_INFO` tells it, at some moment of this call; asks the worker.
    /// [`NotConnected`](std::io::ErrorKind::NotConnected) when it is over.
    pub fn snapshot(&self) -> std::io::Result<TcpSnapshot> {
        self.connection().snapshot().ok_or_else(|| error::of(libc::ENOTCONN))
    }

    /// What it is ready for now. A stream that is over is ready for everything: calls return at once.
    pub fn readiness(&self) -> Readiness {
        self.connection().readiness()
    }

    /// What the descriptor is readable for from now on.
    pub fn watch_for(&self, interest: Readiness) {
        self.connection().set_interest(interest);
    }
}

impl Read for &TcpStream {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.connection().read(to, false)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.connection().write(&[IoSlice::new(from)])
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> std::io::Result<usize> {
        self.connection().write(from)
    }

    /// What was written is on its way already.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        (&*self).read(to)
    }
}

impl Write for TcpStream {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        (&*self).write(from)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> std::io::Result<usize> {
        (&*self).write_vectored(from)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection().watch()
    }
}

impl std::fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TcpStream({:?} to {})", self.connection().local(), self.connection().remote)
    }
}
