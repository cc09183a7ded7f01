//! Between a socket's queues and the stack's.

use std::sync::Arc;

use tailwater_stack::tcp::{ConnectionId, TcpError};
use tailwater_stack::{DropReason, SocketId};

use super::connection::Connection;
use super::lane::Lane;
use super::table::Held;
use super::udp::{Endpoint, Leaving};
use crate::service::Io;

/// What of the outbox went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// The stack has no more room, and tells when it does.
    Some,
}

/// What of the stack's text went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    All,
    /// The inbox has no more room, and its reader tells when it does.
    Some,
    /// There is no memory for it, and nothing in the inbox that a reader could tell of.
    NoMemory,
}

/// From the outbox into the stack; the end behind it, if that was asked for.
pub(super) fn send(held: &mut Held, id: ConnectionId, io: &mut Io<'_, '_>) -> Sent {
    let connection = &held.connection;
    // An error means that it is over, or its end has been sent: what is in the outbox then goes home with it.
    let next = || connection.outbox.pop().inspect(|text| connection.lane.share.let_go(text));
    let sent = io.send_frames(id, next).unwrap_or(0);
    if let Some(segment_len) = io.segment_len(id) {
        connection.note_segment_len(segment_len);
    }
    if sent > 0 {
        connection.signal_writer();
    }
    if !connection.outbox.is_empty() {
        return Sent::Some;
    }
    if std::mem::take(&mut held.shutting) {
        let _ = io.shutdown(id);
    }
    Sent::All
}

/// From the stack into the inbox.
pub(super) fn receive(connection: &Arc<Connection>, id: ConnectionId, io: &mut Io<'_, '_>) -> Received {
    let mut any = false;
    let mut received = Received::All;
    loop {
        if !connection.has_room() {
            received = if connection.inbox.is_empty() { Received::NoMemory } else { Received::Some };
            break;
        }
        match io.receive(id) {
            Ok(Some(text)) => {
                any = true;
                connection.lane.share.hold(&text);
                if let Err(text) = connection.inbox.push(text) {
                    debug_assert!(false, "only the worker adds to an inbox");
                    connection.lane.share.let_go(&text);
                    io.release(text);
                }
            }
            Err(TcpError::Finished) => {
                any = true;
                connection.finish();
                break;
            }
            Ok(None) | Err(_) => break,
        }
    }
    if any || received != Received::NoMemory {
        connection.note_served();
    }
    if any {
        connection.signal_reader();
    }
    if received == Received::NoMemory {
        connection.offer();
    }
    received
}

/// From a UDP socket's outbox into the stack.
pub(super) fn send_datagrams(endpoint: &Endpoint, socket: SocketId, lane: &Lane, io: &mut Io<'_, '_>) {
    let mut any = false;
    // Bounded by the outbox, but for what is put there meanwhile: no more than it holds.
    for _ in 0..endpoint.outbox_len() {
        let Some(Leaving { payload, to }) = endpoint.next_leaving() else { break };
        any = true;
        lane.share.let_go(&payload);
        // Whatever else may happen to it is counted as a drop.
        if let Err(DropReason::NoRoute | DropReason::NoSource) = io.send_udp_frame(socket, to, payload) {
            endpoint.fail(libc::ENETUNREACH);
        }
    }
    if any {
        endpoint.signal_writer();
    }
}
