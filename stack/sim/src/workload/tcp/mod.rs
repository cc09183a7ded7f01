//! Workloads over TCP. Every byte that arrives is compared with what was sent.

mod bulk;
mod pattern;
mod requests;

use tailwater_stack::tcp::{ConnectionId, TcpError};
use tailwater_stack::{Buffer, Env};

pub use bulk::{TcpSink, TcpSource, TcpSourceConfig};
pub use requests::{TcpClient, TcpClientConfig, TcpResponder};

use crate::host::HostContext;

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
        loop {
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
