//! One client's connection: requests in, answers out, one after the other.
//!
//! ```text
//!   received frames --> requests, parsed in place --> answer: head and body in one send --> next request
//!                         | cut short                   | no room
//!                         v                             v
//!                       partial                       outgoing, until there is room: nothing is read meanwhile
//! ```

use tailwater_dataplane::frame::Frame;
use tailwater_dataplane::service::Io;
use tailwater_stack::tcp::{ConnectionId, TcpError};

use super::content::Body;
use super::request::{self, Parsed};
use super::response::Response;
use super::server::Desk;

/// Bytes of a body that one connection sends before others have their turn.
const PIECE_MAX: u64 = 64 << 10;
/// Requests of one connection that are answered before others have their turn.
const REQUESTS_MAX: usize = 64;

/// What is to be done with a connection next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// A callback comes when there is.
    Wait,
    /// Go on, when the others have had their turn.
    Again,
    /// Nothing could be sent for want of frames: try again later.
    Starved,
}

/// An answer under way.
#[derive(Debug)]
struct Outgoing {
    /// What of the head has not been sent; mostly nothing.
    head: Vec<u8>,
    body: Body,
    /// Offset of the next byte, and where the body ends.
    at: u64,
    end: u64,
}

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// When something last went on, in ns: an answer, or room for more of one.
    pub(super) active_ns: u64,
    /// Stands in line for another turn.
    pub(super) queued: bool,
    /// No further request is answered; our side is shut down once everything is sent.
    pub(super) ending: bool,
    /// The end is on its way.
    pub(super) shut: bool,
    /// Requests, the last perhaps not whole, that came while they could not be answered.
    partial: Vec<u8>,
    outgoing: Option<Outgoing>,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, now_ns: u64) -> Self {
        let (queued, ending, shut) = (false, false, false);
        Self { id, active_ns: now_ns, queued, ending, shut, partial: Vec::new(), outgoing: None }
    }

    /// Whether an answer has been begun.
    pub(super) fn is_answering(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Goes on as far as possible: sends, then reads and answers.
    pub(super) fn proceed(&mut self, desk: &mut Desk, io: &mut Io<'_, '_>) -> Next {
        // Each pass sends a part of an answer or takes a frame in, and ends with its turn.
        let mut requests = 0;
        loop {
            if let Some(next) = self.send_outgoing(desk, io) {
                return next;
            }
            if self.ending {
                self.end(io);
                return Next::Wait;
            }
            if requests >= REQUESTS_MAX {
                return Next::Again;
            }
            if !self.partial.is_empty() {
                let bytes = std::mem::take(&mut self.partial);
                let taken = self.answer_all(&bytes, &mut requests, desk, io);
                self.keep_rest(bytes, taken);
                if self.outgoing.is_some() || self.ending || requests >= REQUESTS_MAX {
                    continue;
                }
            }
            match io.receive(self.id) {
                Ok(Some(frame)) => self.take_frame(frame, &mut requests, desk, io),
                Ok(None) => return Next::Wait,
                // The client has sent its last.
                Err(TcpError::Finished) => self.ending = true,
                Err(_) => return Next::Wait,
            }
        }
    }

    /// Answers what a frame holds, in place where that is possible.
    fn take_frame(&mut self, frame: Frame, requests: &mut usize, desk: &mut Desk, io: &mut Io<'_, '_>) {
        if self.partial.is_empty() && !frame.is_chained() {
            let taken = self.answer_all(frame.bytes(), requests, desk, io);
            self.partial.extend_from_slice(frame.bytes().get(taken..).unwrap_or_default());
        } else {
            frame.segments().for_each(|segment| self.partial.extend_from_slice(segment));
        }
        io.release(frame);
        if self.ending {
            self.partial = Vec::new();
        }
    }

    /// Answers the requests at the front of `bytes`, until one cannot be sent whole; how many bytes they took.
    fn answer_all(&mut self, bytes: &[u8], requests: &mut usize, desk: &mut Desk, io: &mut Io<'_, '_>) -> usize {
        let mut taken = 0;
        while self.outgoing.is_none() && !self.ending && *requests < REQUESTS_MAX && taken < bytes.len() {
            let response = match request::parse(bytes.get(taken..).unwrap_or_default()) {
                Parsed::Whole(request, len) => {
                    taken += len;
                    Response::to(&request, &desk.content)
                }
                Parsed::Partial => break,
                Parsed::Refused(status) => {
                    taken = bytes.len();
                    Response::refusal(status)
                }
            };
            *requests += 1;
            self.answer(&response, desk, io);
        }
        taken
    }

    fn keep_rest(&mut self, mut bytes: Vec<u8>, taken: usize) {
        if taken < bytes.len() && !self.ending {
            bytes.drain(..taken);
            self.partial = bytes;
        }
    }

    /// Sends an answer, head and body at once if there is room for both.
    fn answer(&mut self, response: &Response, desk: &mut Desk, io: &mut Io<'_, '_>) {
        desk.tally.count(response.status);
        self.active_ns = io.now_ns();
        self.ending = response.closes;
        desk.head.clear();
        response.write_head(desk.date.at(io.now_ns()), &mut desk.head);
        let (body, at, end) = (response.body, response.from, response.from + response.body_len());
        let (head, content) = (&desk.head, &desk.content);
        let head_len = head.len();
        let len = head_len + (end - at).min(PIECE_MAX) as usize;
        let write = |offset: usize, room: &mut [u8]| {
            let of_head = head.get(offset..).unwrap_or_default();
            let (front, rest) = room.split_at_mut(of_head.len().min(room.len()));
            front.copy_from_slice(&of_head[..front.len()]);
            if !rest.is_empty() {
                content.write(body, at + (offset + front.len() - head_len) as u64, rest);
            }
        };
        // A connection that is gone takes nothing, and says so by a callback.
        let sent = io.send_with(self.id, len, write).unwrap_or(0);
        desk.tally.body_bytes += sent.saturating_sub(head_len) as u64;
        let at = at + sent.saturating_sub(head_len) as u64;
        if sent < head_len || at < end {
            let head = head.get(sent..).unwrap_or_default().to_vec();
            self.outgoing = Some(Outgoing { head, body, at, end });
        }
    }

    /// Goes on with an answer; `None` once it is sent whole.
    fn send_outgoing(&mut self, desk: &mut Desk, io: &mut Io<'_, '_>) -> Option<Next> {
        let Outgoing { head, body, at, end } = self.outgoing.as_mut()?;
        if !head.is_empty() {
            let sent = io.send(self.id, head).unwrap_or(0);
            head.drain(..sent);
            if !head.is_empty() {
                return Some(stuck(self.id, sent, io));
            }
        }
        let len = (*end - *at).min(PIECE_MAX) as usize;
        let sent = match len {
            0 => 0,
            _ => {
                let from = *at;
                let write = |offset: usize, room: &mut [u8]| desk.content.write(*body, from + offset as u64, room);
                io.send_with(self.id, len, write).unwrap_or(0)
            }
        };
        *at += sent as u64;
        desk.tally.body_bytes += sent as u64;
        if sent > 0 {
            self.active_ns = io.now_ns();
        }
        match (*at < *end, sent < len) {
            (false, _) => {
                self.outgoing = None;
                None
            }
            (true, true) => Some(stuck(self.id, sent, io)),
            (true, false) => Some(Next::Again),
        }
    }

    /// Shuts our side down, and reads what comes until the client has done so, too: closing at once could make a reset of
    /// what is still on its way, and the reset could overtake the answer (RFC 9112 §9.6).
    fn end(&mut self, io: &mut Io<'_, '_>) {
        if !self.shut {
            self.shut = true;
            // One that is gone needs no end.
            let _ = io.shutdown(self.id);
        }
        while let Ok(Some(frame)) = io.receive(self.id) {
            io.release(frame);
        }
    }
}

/// Why less was taken than given: no room, which will be told, or no frames, which will not.
fn stuck(id: ConnectionId, sent: usize, io: &mut Io<'_, '_>) -> Next {
    if sent == 0 && io.send_room(id) > 0 { Next::Starved } else { Next::Wait }
}
