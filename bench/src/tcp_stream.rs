//! A stream over TCP for as long as it is read: a source that serves whoever connects, with the kernel's sockets or with our
//! own stack, and a sink that reads from one or several sources at once and counts.

mod ours;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::sockopt;
use serde::{Deserialize, Serialize};

use crate::tools;

pub(crate) use ours::serve as serve_ours;

/// Bytes written or read in one call.
const PIECE: usize = 256 << 10;
/// Connections that a source serves at a time.
const CONNECTIONS_MAX: usize = 64;
/// Without a byte for so long the source is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// What a sink got from one source.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Received {
    pub bytes: u64,
    pub secs: f64,
}

impl Received {
    pub(crate) fn mbps(self) -> f64 {
        self.bytes as f64 * 8.0 / self.secs / 1e6
    }
}

/// Serves with kernel sockets and this congestion control, until killed.
pub(crate) fn serve_kernel(listen: SocketAddr, control: &str, paced: bool) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listening at {listen}"))?;
    set_control(&listener, control)?;
    println!("{}", tools::READY);
    for stream in listener.incoming().take(CONNECTIONS_MAX) {
        let stream = stream?;
        if paced {
            pace(&stream, control)?;
        }
        std::thread::spawn(move || pour(stream));
    }
    bail!("{CONNECTIONS_MAX} connections are all that this source serves")
}

fn set_control(socket: impl AsFd, control: &str) -> Result<()> {
    sockopt::set_tcp_congestion(socket, control).with_context(|| {
        format!("the kernel has no congestion control {control}: sysctl net.ipv4.tcp_available_congestion_control")
    })
}

/// Has the kernel pace this connection by the rate that it works out for each: the window per round trip, and a fifth more.
/// BBR asks the socket for it, and what comes after BBR does not take it back.
fn pace(stream: &TcpStream, control: &str) -> Result<()> {
    set_control(stream, "bbr")?;
    set_control(stream, control)
}

/// Writes until the reader is gone.
fn pour(mut stream: TcpStream) {
    let piece = vec![0; PIECE];
    while stream.write_all(&piece).is_ok() {}
}

/// Connects to each source, in this order, and reads from all; what arrives in the `secs` after the first `skip` counts.
pub(crate) fn drain(sources: &[SocketAddr], skip: f64, secs: f64) -> Result<Vec<Received>> {
    let streams = sources
        .iter()
        .map(|source| TcpStream::connect_timeout(source, SILENCE).with_context(|| format!("connecting to {source}")));
    let streams = streams.collect::<Result<Vec<_>>>()?;
    let threads: Vec<_> =
        streams.into_iter().map(|stream| std::thread::spawn(move || read(stream, skip, secs))).collect();
    let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a reader panicked")));
    joined.collect()
}

fn read(mut stream: TcpStream, skip: f64, secs: f64) -> Result<Received> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut piece = vec![0; PIECE];
    read_for(&mut stream, &mut piece, skip)?;
    read_for(&mut stream, &mut piece, secs)
}

fn read_for(stream: &mut TcpStream, piece: &mut [u8], secs: f64) -> Result<Received> {
    let (started, lasts) = (Instant::now(), Duration::from_secs_f64(secs));
    let mut bytes = 0;
    while started.elapsed() < lasts {
        match stream.read(piece) {
            Ok(0) => bail!("the source has ended after {bytes} bytes"),
            Ok(n) => bytes += n as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("reading"),
        }
    }
    let received = Received { bytes, secs: started.elapsed().as_secs_f64() };
    ensure!(received.secs < secs + 1.0, "the source paused at the end, for {:.1} s", received.secs - secs);
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_source_pours_is_counted_from_each() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let source = std::thread::spawn(move || {
            let streams: Vec<_> = (0..2).map(|_| listener.accept().unwrap().0).collect();
            streams.into_iter().map(|stream| std::thread::spawn(move || pour(stream))).collect::<Vec<_>>()
        });
        let received = drain(&[at, at], 0.01, 0.05).unwrap();
        source.join().unwrap().into_iter().for_each(|pouring| pouring.join().unwrap());
        assert!(received.iter().all(|received| received.bytes > 0 && received.mbps() > 0.0), "{received:?}");
    }

    #[test]
    fn a_source_that_ends_early_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let source = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(drain(&[at], 0.0, 5.0).unwrap_err().to_string().contains("ended"));
        source.join().unwrap();
    }
}
