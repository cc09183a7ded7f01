//! The control connection, in its worker: bytes pass through, either way.

use tailwater_dataplane::service::Io;
use tailwater_stack::tcp::{CloseReason, ConnectionId, TcpError};

use super::desk::{Desk, Event};

/// Bytes read at a time.
const PIECE: usize = 4_096;

pub(super) struct Control {
    pub(super) connection: ConnectionId,
    pub(super) session: u64,
    /// What there was no room to send yet.
    outbox: Vec<u8>,
    /// What the director has no room for yet; meanwhile nothing is read, and the peer's window shrinks.
    stash: Option<Event>,
    finished: bool,
}

impl Control {
    pub(super) fn new(connection: ConnectionId, session: u64) -> Self {
        Self { connection, session, outbox: Vec::new(), stash: None, finished: false }
    }

    pub(super) fn say(&mut self, bytes: &[u8], io: &mut Io<'_, '_>) {
        self.outbox.extend_from_slice(bytes);
        self.flush(io);
    }

    pub(super) fn flush(&mut self, io: &mut Io<'_, '_>) {
        if self.outbox.is_empty() {
            return;
        }
        // An error means that the connection is over, which is told otherwise.
        let sent = io.send(self.connection, &self.outbox).unwrap_or(self.outbox.len());
        self.outbox.drain(..sent);
    }

    /// Passes on what has come.
    pub(super) fn hear(&mut self, desk: &Desk, io: &mut Io<'_, '_>) {
        if let Some(event) = self.stash.take()
            && !self.pass(event, desk)
        {
            return;
        }
        let mut piece = [0; PIECE];
        while !self.finished {
            let event = match io.read(self.connection, &mut piece) {
                Ok(0) => return,
                Ok(n) => Event::Heard { session: self.session, bytes: piece[..n].to_vec() },
                Err(TcpError::Finished) => {
                    self.finished = true;
                    Event::HungUp { session: self.session, reason: CloseReason::Finished }
                }
                Err(_) => return,
            };
            if !self.pass(event, desk) {
                return;
            }
        }
    }

    /// The connection is over. What the director had no room for is lost with it, but not that.
    pub(super) fn hang_up(&mut self, reason: CloseReason, desk: &Desk) {
        self.finished = true;
        self.pass(Event::HungUp { session: self.session, reason }, desk);
    }

    fn pass(&mut self, event: Event, desk: &Desk) -> bool {
        self.stash = desk.try_tell(event).err();
        self.stash.is_none()
    }
}
