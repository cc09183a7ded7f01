//! Request and response over the kernel's TCP sockets: a client that keeps many connections busy from one thread, and an
//! echo server that does the same. Either end may be another implementation.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use serde::{Deserialize, Serialize};

use crate::tools;

/// Transactions at the beginning are not counted for so long.
const WARM_UP: Duration = Duration::from_millis(300);
/// Nanoseconds; what takes longer counts as this long.
const HIGHEST_NS: u64 = 10_000_000_000;
/// Without an event for so long the server is gone.
const SILENCE: Duration = Duration::from_secs(5);
/// Events taken at once.
const EVENTS: usize = 256;
const LISTENER: u64 = u64::MAX;
/// Connections of the server at the same time.
const CONNECTIONS_MAX: usize = 65_536;

/// What a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A request and its response, on a connection that stays.
    Rr,
    /// A connection, a request and its response, and the end of the connection.
    Crr,
}

/// How the client loads a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub server: SocketAddr,
    pub kind: Kind,
    /// Transactions at the same time.
    pub connections: usize,
    /// Bytes of request and response.
    pub size: usize,
    /// Looks for events without sleeping.
    pub poll: bool,
    pub secs: f64,
}

/// What the client found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Transactions {
    pub count: u64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// A transaction in progress.
struct Exchange {
    stream: TcpStream,
    began: Instant,
    /// Bytes of the response that are here.
    received: usize,
    /// The request has been sent.
    asked: bool,
}

struct Client {
    load: Load,
    epoll: rustix::fd::OwnedFd,
    exchanges: Vec<Exchange>,
    request: Vec<u8>,
    response: Vec<u8>,
    started: Instant,
    histogram: Histogram<u64>,
}

/// Loads a server for as long as asked.
pub(crate) fn run(load: Load) -> Result<Transactions> {
    ensure!(load.connections > 0 && load.size > 0, "at least one connection and one byte");
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut client = Client {
        load,
        epoll,
        exchanges: Vec::with_capacity(load.connections),
        request: (0..load.size).map(|at| at as u8).collect(),
        response: vec![0; load.size],
        started: Instant::now(),
        histogram: Histogram::new_with_bounds(1, HIGHEST_NS, 3).context("making a histogram")?,
    };
    for at in 0..load.connections {
        let exchange = client.open(at as u64)?;
        client.exchanges.push(exchange);
    }
    client.drive()
}

impl Client {
    /// Begins a connection; it is ready to be written when it is there.
    fn open(&self, number: u64) -> Result<Exchange> {
        let family = if self.load.server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let began = Instant::now();
        match connect(&socket, &self.load.server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => bail!("connecting to {}: {error}", self.load.server),
        }
        let stream = TcpStream::from(socket);
        epoll::add(
            &self.epoll,
            &stream,
            EventData::new_u64(number),
            EventFlags::OUT | EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Exchange { stream, began, received: 0, asked: false })
    }

    fn drive(mut self) -> Result<Transactions> {
        let end = self.started + WARM_UP + Duration::from_secs_f64(self.load.secs);
        let mut events = Vec::with_capacity(EVENTS);
        let mut heard = Instant::now();
        while Instant::now() < end {
            let timeout = if self.load.poll { Duration::ZERO } else { Duration::from_millis(100) };
            wait(&self.epoll, &mut events, timeout)?;
            if events.is_empty() {
                ensure!(heard.elapsed() < SILENCE, "{} does not answer", self.load.server);
                continue;
            }
            heard = Instant::now();
            for event in &events {
                self.advance(event.data.u64() as usize)?;
            }
        }
        let counted = (self.started.elapsed() - WARM_UP).as_secs_f64();
        ensure!(!self.histogram.is_empty(), "no transaction came to its end");
        let at = |quantile: f64| self.histogram.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Transactions {
            count: self.histogram.len(),
            per_second: self.histogram.len() as f64 / counted,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max() as f64 / 1e3,
        })
    }

    /// Goes on with an exchange as far as it goes.
    fn advance(&mut self, number: usize) -> Result<()> {
        let Self { exchanges, request, response, .. } = self;
        let Some(exchange) = exchanges.get_mut(number) else { return Ok(()) };
        // Each pass ends an exchange or returns.
        loop {
            if !exchange.asked {
                match exchange.stream.write(request) {
                    Ok(n) => ensure!(n == request.len(), "the send buffer is full of one request"),
                    Err(error) if blocked(&error) => return Ok(()),
                    Err(error) => bail!("sending a request: {error}"),
                }
                exchange.asked = true;
            }
            let Some(room) = response.get_mut(exchange.received..) else { return Ok(()) };
            match exchange.stream.read(room) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(n) => exchange.received += n,
                Err(error) if blocked(&error) => return Ok(()),
                Err(error) => bail!("receiving a response: {error}"),
            }
            if exchange.received < request.len() {
                continue;
            }
            ensure!(request == response, "the response is not the request");
            let took = u64::try_from(exchange.began.elapsed().as_nanos()).unwrap_or(HIGHEST_NS);
            if self.started.elapsed() > WARM_UP {
                self.histogram.saturating_record(took);
            }
            match self.load.kind {
                Kind::Rr => {
                    (exchange.began, exchange.received, exchange.asked) = (Instant::now(), 0, false);
                }
                Kind::Crr => {
                    let next = self.open(number as u64)?;
                    // The old connection ends with its value.
                    if let Some(exchange) = self.exchanges.get_mut(number) {
                        *exchange = next;
                    }
                    return Ok(());
                }
            }
        }
    }
}

fn blocked(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}

fn wait(epoll: impl AsFd, events: &mut Vec<Event>, timeout: Duration) -> Result<()> {
    events.clear();
    let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: timeout.as_nanos() as _ };
    match epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Echoes on every connection until killed; prints the ready line first.
pub(crate) fn echo(listen: SocketAddr, poll: bool) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listening at {listen}"))?;
    // What the standard library asks for is little for a server under load.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    println!("{} {}", tools::READY, listener.local_addr()?);
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let timeout = if poll { Duration::ZERO } else { Duration::from_millis(500) };
        wait(&epoll, &mut events, timeout)?;
        for event in &events {
            match event.data.u64() {
                LISTENER => accept(&listener, &epoll, &mut streams)?,
                number => serve(streams.get_mut(number as usize), &mut buffer),
            }
        }
    }
}

fn accept(listener: &TcpListener, epoll: impl AsFd, streams: &mut Vec<Option<TcpStream>>) -> Result<()> {
    // Ends when the backlog is empty.
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let number = stream.as_raw_fd() as usize;
        ensure!(number < CONNECTIONS_MAX, "too many connections");
        epoll::add(&epoll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
        if streams.len() <= number {
            streams.resize_with(number + 1, || None);
        }
        if let Some(place) = streams.get_mut(number) {
            *place = Some(stream);
        }
    }
    Ok(())
}

/// Like any server: a connection that fails is closed.
fn serve(place: Option<&mut Option<TcpStream>>, buffer: &mut [u8]) {
    let Some(place) = place else { return };
    let Some(stream) = place else { return };
    let goes_on = match stream.read(buffer) {
        Ok(0) => false,
        Ok(n) => buffer.get(..n).is_some_and(|read| stream.write_all(read).is_ok()),
        Err(error) => blocked(&error),
    };
    if !goes_on {
        *place = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> SocketAddr {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        std::thread::spawn(move || echo(free, false));
        for _ in 0..200 {
            if TcpStream::connect(free).is_ok() {
                return free;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no server at {free}");
    }

    fn load(kind: Kind, server: SocketAddr) -> Load {
        Load { server, kind, connections: 4, size: 64, poll: false, secs: 0.2 }
    }

    #[test]
    fn transactions_of_both_kinds_come_to_their_end() {
        let server = server();
        for kind in [Kind::Rr, Kind::Crr] {
            let found = run(load(kind, server)).unwrap();
            assert!(found.count > 0 && found.p50_us <= found.p999_us, "{found:?}");
        }
    }

    #[test]
    fn wrong_response_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut request = [0; 64];
                if stream.read_exact(&mut request).is_ok() {
                    let _ = stream.write_all(&[0xee; 64]);
                }
            }
        });
        assert!(run(load(Kind::Rr, at)).unwrap_err().to_string().contains("not the request"));
    }

    #[test]
    fn refused_connection_is_an_error() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(run(load(Kind::Crr, free)).is_err());
    }
}
