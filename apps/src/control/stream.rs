//! Events to a subscriber, in order, for as long as it keeps up.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tailwater_dataplane::live::{EventLog, TooOld};

use super::lines::{Line, Lines};
use super::protocol::{Refusal, Request, Subscribed, parse};
use super::server::{SILENCE, answer};

/// How often it is looked whether the subscriber has something to say.
const LOOK: Duration = Duration::from_millis(100);

/// Sends events from number `from` on (or those to come) until the client unsubscribes. An error ends the connection: the
/// client has gone, does not take what it is sent, or has been told that it fell behind.
pub(super) fn stream(
    connection: &UnixStream,
    lines: &mut Lines<'_>,
    events: &Arc<EventLog>,
    from: Option<u64>,
    stopping: &AtomicBool,
) -> io::Result<()> {
    let mut next = from.unwrap_or_else(|| events.newest() + 1);
    if let Err(TooOld { oldest }) = events.wait(next, Duration::ZERO) {
        return answer(connection, Err(too_old(oldest)));
    }
    answer(connection, Ok(serde_json::to_value(Subscribed { from: next })?))?;
    while !stopping.load(Ordering::Acquire) {
        match events.wait(next, LOOK) {
            Ok(arrived) => {
                for event in arrived {
                    next = event.number + 1;
                    answer(connection, Ok(serde_json::to_value(event)?))?;
                }
            }
            Err(TooOld { oldest }) => {
                answer(connection, Err(too_old(oldest)))?;
                return Err(io::Error::other("the subscriber fell behind"));
            }
        }
        if lines.is_ready()? && ends(connection, lines, next)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether what the client says ends the subscription.
fn ends(connection: &UnixStream, lines: &mut Lines<'_>, next: u64) -> io::Result<bool> {
    let line = match lines.next(SILENCE)? {
        Line::Whole(line) => line,
        Line::TooLong | Line::End => return Err(io::ErrorKind::ConnectionAborted.into()),
    };
    match parse(&line) {
        Ok(Request::Unsubscribe) => {
            answer(connection, Ok(serde_json::to_value(Subscribed { from: next })?))?;
            return Ok(true);
        }
        Ok(_) => {
            answer(connection, Err(Refusal::new("busy", "this connection has a subscription; unsubscribe first")))?
        }
        Err(refusal) => answer(connection, Err(refusal))?,
    }
    Ok(false)
}

fn too_old(oldest: u64) -> Refusal {
    Refusal::new("too_old", TooOld { oldest }.to_string())
        .with_hint(format!("read the graph, then go on from {oldest}"))
}
