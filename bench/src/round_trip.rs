//! UDP ping-pong: a client that times each round trip, and the kernel's side of it, an echo server on ordinary sockets.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::tools;

/// A reply that takes longer is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// Round trips at the beginning which are not counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// Bytes of each datagram: a 64-byte payload, as the usual tools send.
const DATAGRAM_BYTES: usize = 64;
/// Nanoseconds; a longer round trip is lost already.
const HIGHEST_NS: u64 = 1_000_000_000;

/// What the client found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct RoundTrips {
    pub count: u64,
    pub lost: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// Bounces datagrams off `server` for `secs` seconds.
pub(crate) fn ping_pong(server: SocketAddr, polling: bool, secs: f64) -> Result<RoundTrips> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).context("opening a socket")?;
    socket.connect(server).with_context(|| format!("connecting to {server}"))?;
    socket.set_read_timeout(Some(LOST_AFTER))?;
    socket.set_nonblocking(polling)?;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, HIGHEST_NS, 3).context("making a histogram")?;
    let (start, mut lost, mut sequence) = (Instant::now(), 0, 0u64);
    while start.elapsed().as_secs_f64() < secs + WARM_UP.as_secs_f64() {
        sequence += 1;
        let sent = Instant::now();
        match bounce(&socket, sequence, sent) {
            true if start.elapsed() > WARM_UP => {
                histogram.saturating_record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(HIGHEST_NS));
            }
            true => {}
            false => lost += 1,
        }
    }
    ensure!(!histogram.is_empty(), "no reply from {server} ({lost} datagrams lost)");
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Ok(RoundTrips {
        count: histogram.len(),
        lost,
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: histogram.max() as f64 / 1e3,
    })
}

/// Sends one datagram and waits for the reply that carries its number; late replies to earlier ones are passed over.
fn bounce(socket: &UdpSocket, sequence: u64, sent: Instant) -> bool {
    let mut datagram = [0u8; DATAGRAM_BYTES];
    datagram[..8].copy_from_slice(&sequence.to_be_bytes());
    if socket.send(&datagram).is_err() {
        return false;
    }
    let mut reply = [0u8; 2048];
    loop {
        match socket.recv(&mut reply) {
            Ok(DATAGRAM_BYTES) if reply[..DATAGRAM_BYTES] == datagram => return true,
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            // Port unreachable: the server is not there yet.
            Err(_) => return false,
        }
        if sent.elapsed() >= LOST_AFTER {
            return false;
        }
    }
}

/// Echoes datagrams until killed; prints the ready line first.
pub(crate) fn echo(listen: SocketAddr, polling: bool) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("binding to {listen}"))?;
    socket.set_nonblocking(polling)?;
    println!("{} {}", tools::READY, socket.local_addr()?);
    let mut datagram = [0u8; 2048];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            // Like any UDP server: what cannot be sent is lost.
            let _ = socket.send_to(datagram.get(..length).unwrap_or_default(), from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut datagram = [0u8; 2048];
            let mut number = 0;
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                number += 1;
                // Every seventh reply is a stale one, which must not count.
                let reply = if number % 7 == 0 { &[0xee; DATAGRAM_BYTES][..] } else { &datagram[..length] };
                let _ = socket.send_to(reply, from);
            }
        });
        address
    }

    #[test]
    fn wrong_reply_is_counted_as_lost_and_never_as_a_round_trip() {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server()).unwrap();
        client.set_read_timeout(Some(LOST_AFTER)).unwrap();
        let replies: Vec<bool> = (1..=8).map(|sequence| bounce(&client, sequence, Instant::now())).collect();
        assert_eq!(replies, [true, true, true, true, true, true, false, true]);
    }

    #[test]
    fn percentiles_are_ordered_and_counted() {
        let found = ping_pong(server(), false, 0.2).unwrap();
        assert!(found.count > 0);
        assert!(found.p50_us <= found.p99_us && found.p99_us <= found.p999_us && found.p999_us <= found.max_us * 1.001);
    }

    #[test]
    fn silent_server_is_an_error() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(ping_pong(silent.local_addr().unwrap(), false, 0.1).is_err());
    }
}
