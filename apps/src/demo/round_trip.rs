//! UDP round trips, one packet at a time, by a client that polls.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::network::Side;
use crate::failure::Failure;

/// Bytes of payload; the first eight number the packet.
const PAYLOAD: usize = 64;
/// A packet that is not back after this long is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// Losses in a row after which nobody is believed to answer.
const LOST_MAX: u64 = 20;
/// Round trips kept of one measurement.
const SAMPLES_MAX: usize = 4 << 20;

/// What a measurement came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct RoundTrips {
    pub(super) count: usize,
    pub(super) lost: u64,
    pub(super) median_us: f64,
    pub(super) p99_us: f64,
}

/// Sends and waits, again and again, until the time is over or `stop` says so.
pub(super) fn measure(
    from: &Side<'_>,
    to: (Ipv4Addr, u16),
    time: Duration,
    stop: impl Fn() -> bool,
) -> anyhow::Result<RoundTrips> {
    let socket = from.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?.context("cannot open a UDP socket")?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    let (mut samples, mut lost, mut in_a_row) = (Vec::new(), 0, 0);
    let end = Instant::now() + time;
    let mut number = 0u64;
    while Instant::now() < end && samples.len() < SAMPLES_MAX {
        number += 1;
        if stop() {
            return Err(super::interrupted());
        }
        match round_trip(&socket, number)? {
            Some(elapsed) => {
                samples.push(elapsed);
                in_a_row = 0;
            }
            None => {
                lost += 1;
                in_a_row += 1;
            }
        }
        if in_a_row >= LOST_MAX {
            return Err(Failure::new(
                format!("nobody answers at {}:{}", to.0, to.1),
                "see what the step before printed",
            )
            .into());
        }
    }
    Ok(evaluate(samples, lost))
}

fn round_trip(socket: &UdpSocket, number: u64) -> std::io::Result<Option<Duration>> {
    let mut payload = [0u8; PAYLOAD];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    let sent = Instant::now();
    socket.send(&payload)?;
    let mut answer = [0u8; PAYLOAD];
    loop {
        match socket.recv(&mut answer) {
            // An answer to an earlier packet, given up before, is passed over.
            Ok(PAYLOAD) if answer == payload => return Ok(Some(sent.elapsed())),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
            Err(error) => return Err(error),
        }
        if sent.elapsed() > LOST_AFTER {
            return Ok(None);
        }
    }
}

/// Median and tail of what was sampled.
pub(super) fn evaluate(mut samples: Vec<Duration>, lost: u64) -> RoundTrips {
    samples.sort_unstable();
    let at = |share: f64| {
        let place = (samples.len() as f64 * share) as usize;
        samples.get(place).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1e6)
    };
    RoundTrips { count: samples.len(), lost, median_us: at(0.5), p99_us: at(0.99) }
}

/// An echo on a kernel socket, until dropped.
pub(super) struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(super) fn start(side: &Side<'_>, port: u16) -> anyhow::Result<Self> {
        let socket = side.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))?.context("cannot bind the echo")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0u8; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    // What cannot be sent counts as lost at the other end.
                    let _ = socket.send_to(&buffer[..len], from);
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_tail_are_of_the_sorted_samples() {
        let samples = (1..=100).rev().map(Duration::from_micros).collect();
        let RoundTrips { count, lost, median_us, p99_us } = evaluate(samples, 3);
        assert_eq!((count, lost), (100, 3));
        assert!((median_us - 51.0).abs() < 1e-6 && (p99_us - 100.0).abs() < 1e-6);
    }
}
