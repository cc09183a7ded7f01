//! Workloads over TCP. Every byte that arrives is compared with what was sent.

mod bulk;
mod pattern;
mod requests;

use std::time::Duration;

use tailwater_stack::tcp::{ConnectionId, TcpError};
use tailwater_stack::{Buffer, Env, Instant};

pub use bulk::{TcpSink, TcpSource, TcpSourceConfig};
pub use requests::{TcpClient, TcpClientConfig, TcpResponder};

use crate::host::HostContext;

/// When an application rests: each time that it has written or read so much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rests {
    /// At least; a segment is read as a whole.
    pub after_bytes: u64,
    pub rest: Duration,
}

/// How far an application may go on with its stream, and since when it rests.
#[derive(Clone, Copy, Debug)]
struct Sitting {
    rests: Option<Rests>,
    /// Of the stream: there the next rest begins.
    end: u64,
    until: Option<Instant>,
}

impl Sitting {
    fn new(rests: Option<Rests>) -> Self {
        Self { rests, end: rests.map_or(u64::MAX, |rests| rests.after_bytes.max(1)), until: None }
    }

    /// Where it has to stop, if it does not rest.
    fn end(&self) -> Option<u64> {
        self.until.is_none().then_some(self.end)
    }

    /// It has come to byte `at` of the stream.
    fn rest_if_due(&mut self, at: u64, now: Instant) {
        if let Some(rests) = self.rests.filter(|_| at >= self.end) {
            self.end = at + rests.after_bytes.max(1);
            self.until = Some(now + rests.rest);
        }
    }

    /// Whether a rest is over.
    fn go_on(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }
}

/// What a connection has received so far, of a stream of the pattern.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Received {
    bytes: u64,
    /// Not what was sent, or not in its place.
    wrong: u64,
    /// The peer has closed, and everything was read.
    finished: bool,
}

impl Received {
    /// Reads all there is.
    fn read(&mut self, id: ConnectionId, host: &mut HostContext<'_, '_>) {
        self.read_until(u64::MAX, id, host);
    }

    /// Reads until `end` bytes have come in all.
    fn read_until(&mut self, end: u64, id: ConnectionId, host: &mut HostContext<'_, '_>) {
        while self.bytes < end {
            match host.stack.tcp_receive(id, host.env) {
                Ok(Some(text)) => {
                    for segment in text.segments() {
                        self.wrong += pattern::differences(self.bytes, segment);
                        self.bytes += segment.len() as u64;
                    }
                    host.env.release(text);
                }
                Err(TcpError::Finished) => {
                    self.finished = true;
                    return;
                }
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Writes the pattern's bytes from `written` to `end`, as far as there is room; returns where it has come to.
fn write(id: ConnectionId, written: u64, end: u64, host: &mut HostContext<'_, '_>) -> u64 {
    let mut written = written;
    while written < end {
        let asked = usize::try_from(end - written).unwrap_or(usize::MAX).min(host.stack.tcp_send_room(id).max(1));
        let from = written;
        let fill = |at: usize, room: &mut [u8]| pattern::fill(from + at as u64, room);
        match host.stack.tcp_send_with(id, asked, fill, host.env) {
            Ok(n) => written += n as u64,
            Err(_) => break,
        }
        if written < from + asked as u64 {
            break;
        }
    }
    written
}
