//! Requests over TCP, one at a time, and one large answer: the kernel's client, served by the kernel and by us.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::network::Side;
use super::round_trip::{RoundTrips, evaluate};
use crate::failure::Failure;

/// Bytes of a small answer's body.
const SMALL: u64 = 64;
/// Bytes of the large answer: more than there is time for.
const LARGE: u64 = 1 << 40;
/// Longest time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes read or written at once.
const PIECE: usize = 256 << 10;

/// What a measurement came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Tcp {
    #[serde(flatten)]
    pub(super) requests: RoundTrips,
    pub(super) bulk_mbit_per_s: f64,
}

/// Small answers for half of the time, a large one for the other half, unless `stop` says otherwise.
pub(super) fn measure(
    from: &Side<'_>,
    to: (Ipv4Addr, u16),
    time: Duration,
    stop: impl Fn() -> bool,
) -> anyhow::Result<Tcp> {
    let half = time / 2;
    let requests = small(connect(from, to)?, half, &stop)?;
    let bulk_mbit_per_s = large(connect(from, to)?, half, &stop)?;
    Ok(Tcp { requests, bulk_mbit_per_s })
}

fn connect(from: &Side<'_>, to: (Ipv4Addr, u16)) -> anyhow::Result<TcpStream> {
    let connected = from.enter(|| TcpStream::connect_timeout(&to.into(), PATIENCE))?;
    let stream = connected.map_err(|error| {
        let hint = "see what the step before printed";
        Failure::new(format!("nobody serves at {}:{}: {error}", to.0, to.1), hint)
    })?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn request(len: u64) -> String {
    format!("GET /bytes/{len} HTTP/1.1\r\nHost: demo\r\n\r\n")
}

fn small(stream: TcpStream, time: Duration, stop: &impl Fn() -> bool) -> anyhow::Result<RoundTrips> {
    let (mut reader, mut samples, end) = (BufReader::new(stream), Vec::new(), Instant::now() + time);
    let (request, mut line, mut body) = (request(SMALL), String::new(), [0; SMALL as usize]);
    while Instant::now() < end {
        if stop() {
            return Err(super::interrupted());
        }
        let sent = Instant::now();
        reader.get_mut().write_all(request.as_bytes())?;
        line.clear();
        // Up to the empty line that ends the head.
        while reader.read_line(&mut line)? > "\r\n".len() {}
        reader.read_exact(&mut body).context("an answer is cut short")?;
        samples.push(sent.elapsed());
    }
    Ok(evaluate(samples, 0))
}

fn large(mut stream: TcpStream, time: Duration, stop: &impl Fn() -> bool) -> anyhow::Result<f64> {
    stream.write_all(request(LARGE).as_bytes())?;
    let (mut piece, began, mut bytes) = (vec![0; PIECE], Instant::now(), 0);
    while began.elapsed() < time {
        if stop() {
            return Err(super::interrupted());
        }
        match stream.read(&mut piece)? {
            0 => return Err(Failure::new("the large answer ended early", "").into()),
            n => bytes += n,
        }
    }
    Ok(bytes as f64 * 8.0 / 1e6 / began.elapsed().as_secs_f64())
}

/// The same service on kernel sockets, one client at a time, until dropped.
pub(super) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(side: &Side<'_>, port: u16) -> anyhow::Result<Self> {
        let listener = side.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?.context("cannot listen")?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that goes away in the middle has seen enough.
                    Ok((stream, _)) => drop(serve(stream, &stopped)),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn serve(stream: TcpStream, stopped: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let (mut line, piece) = (String::new(), vec![7; PIECE]);
    while !stopped.load(Ordering::Relaxed) {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).and_then(|path| path.rsplit('/').next()?.parse().ok());
        let mut left: u64 = path.ok_or(std::io::ErrorKind::InvalidData)?;
        while reader.read_line(&mut line)? > "\r\n".len() {}
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n").into_bytes();
        let first = left.min(SMALL) as usize;
        answer.extend_from_slice(&piece[..first]);
        reader.get_mut().write_all(&answer)?;
        left -= first as u64;
        while left > 0 && !stopped.load(Ordering::Relaxed) {
            let n = left.min(PIECE as u64) as usize;
            reader.get_mut().write_all(&piece[..n])?;
            left -= n as u64;
        }
    }
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}
