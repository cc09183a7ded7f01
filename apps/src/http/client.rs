//! The downloading part inside a worker: connects, asks, reads, and asks again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use tailwater_dataplane::clock;
use tailwater_dataplane::frame::Frame;
use tailwater_dataplane::service::{Io, Service};
use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId, TcpError};

use super::answer::{self, Head, Length};
use super::spout::{Chunk, Spout};

/// Pause before it is looked again whether a chunk is spare, in ns.
const STALLED_NS: u64 = 500_000;

/// What to download.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) remote: SocketAddr,
    /// The head of a request, as it is sent.
    pub(super) request: Arc<[u8]>,
    pub(super) count: u64,
    /// A connection for each request.
    pub(super) closes: bool,
}

/// What happened in the worker. Times in ns of its clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Happened {
    Connected {
        connect_ns: u64,
    },
    /// An answer has begun.
    Begun(Head),
    /// It is complete.
    Finished {
        bytes: u64,
        took_ns: u64,
    },
    Failed(String),
}

/// What the command sees of the worker.
#[derive(Debug)]
pub(super) struct Outlook {
    /// Bytes of bodies so far.
    pub(super) bytes: AtomicU64,
    /// Bytes wanted for a file or a hash; `None` if they only count.
    pub(super) spout: Option<Spout>,
}

/// What is being read.
#[derive(Debug)]
enum Reading {
    /// A head, or what has come of it.
    Head(Vec<u8>),
    /// A body; bytes still to come.
    Body(Head, u64),
    /// Nothing is asked.
    Nothing,
}

/// The client.
pub(super) struct Client {
    plan: Plan,
    outlook: Arc<Outlook>,
    happened: Sender<Happened>,
    connection: Option<ConnectionId>,
    connecting_ns: u64,
    asked_ns: u64,
    requests: u64,
    reading: Reading,
    /// Bytes of this body so far.
    got: u64,
    chunk: Option<Chunk>,
    /// Where no chunk was spare: when to look again.
    look_ns: Option<u64>,
    over: bool,
}

impl Client {
    pub(super) fn new(plan: Plan, outlook: Arc<Outlook>, happened: Sender<Happened>) -> Self {
        Self {
            plan,
            outlook,
            happened,
            connection: None,
            connecting_ns: 0,
            asked_ns: 0,
            requests: 0,
            reading: Reading::Nothing,
            got: 0,
            chunk: None,
            look_ns: None,
            over: false,
        }
    }

    fn tell(&self, happened: Happened) {
        // Nobody listens any more when the command is ending.
        let _ = self.happened.send(happened);
    }

    fn fail(&mut self, why: impl Into<String>) {
        if !self.over {
            self.over = true;
            self.tell(Happened::Failed(why.into()));
        }
    }

    fn connect(&mut self, io: &mut Io<'_, '_>) {
        self.connecting_ns = clock::now_ns();
        match io.connect(Connect::to(self.plan.remote)) {
            Ok(id) => self.connection = Some(id),
            Err(error) => self.fail(format!("cannot connect to {}: {error:?}", self.plan.remote)),
        }
    }

    fn ask(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        self.requests += 1;
        self.asked_ns = clock::now_ns();
        self.reading = Reading::Head(Vec::new());
        self.got = 0;
        // A request is far shorter than an empty send buffer; less means that there are no frames.
        if io.send(id, &self.plan.request) != Ok(self.plan.request.len()) {
            self.fail("no room to send the request; --frames N gives more memory");
        }
    }

    /// Reads what has arrived, as far as it can be passed on.
    fn read(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        self.look_ns = None;
        while self.connection == Some(id) && !self.over {
            if !self.has_room() {
                self.look_ns = Some(io.now_ns() + STALLED_NS);
                return;
            }
            match io.receive(id) {
                Ok(Some(frame)) => self.take(frame, id, io),
                Ok(None) => return,
                Err(TcpError::Finished) => return self.on_end(id, io),
                Err(_) => return,
            }
        }
    }

    /// Whether a whole frame could be passed on.
    fn has_room(&mut self) -> bool {
        let Some(spout) = &self.outlook.spout else { return true };
        self.chunk.take_if(|chunk| !chunk.has_room()).into_iter().for_each(|chunk| spout.push(chunk));
        if self.chunk.is_none() {
            self.chunk = spout.empty(self.requests);
        }
        self.chunk.is_some()
    }

    fn take(&mut self, frame: Frame, id: ConnectionId, io: &mut Io<'_, '_>) {
        for segment in frame.segments() {
            self.take_bytes(segment, id, io);
        }
        io.release(frame);
    }

    fn take_bytes(&mut self, mut bytes: &[u8], id: ConnectionId, io: &mut Io<'_, '_>) {
        // Each pass completes a head, or takes what belongs to a body.
        while !bytes.is_empty() && !self.over {
            match &mut self.reading {
                Reading::Nothing => return self.fail("the server sends more than was asked for"),
                Reading::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(bytes);
                    match answer::parse(head) {
                        Ok(None) => return,
                        Err(why) => return self.fail(why.to_string()),
                        Ok(Some((head, len))) => {
                            bytes = bytes.get(len - before..).unwrap_or_default();
                            self.begin(head, id, io);
                        }
                    }
                }
                Reading::Body(_, left) => {
                    let n = (*left).min(bytes.len() as u64) as usize;
                    *left -= n as u64;
                    let (body, rest) = bytes.split_at(n);
                    bytes = rest;
                    self.pass_on(body);
                    self.check_complete(id, io);
                }
            }
        }
    }

    fn begin(&mut self, head: Head, id: ConnectionId, io: &mut Io<'_, '_>) {
        // RFC 9110 §15.2: the answer proper follows.
        if matches!(head.code, 100..=199) {
            self.reading = Reading::Head(Vec::new());
            return;
        }
        self.tell(Happened::Begun(head));
        if head.code != 200 {
            return self.fail(format!("the server answers {}", head.code));
        }
        let left = match head.length {
            Length::Known(len) => len,
            Length::UntilClose => u64::MAX,
        };
        self.reading = Reading::Body(head, left);
        self.check_complete(id, io);
    }

    fn pass_on(&mut self, body: &[u8]) {
        self.got += body.len() as u64;
        self.outlook.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        if let Some(chunk) = &mut self.chunk {
            chunk.bytes.extend_from_slice(body);
        }
    }

    fn check_complete(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        if let Reading::Body(head, 0) = self.reading {
            self.complete(head, id, io);
        }
    }

    /// An answer is there: asks again, or is done.
    fn complete(&mut self, head: Head, id: ConnectionId, io: &mut Io<'_, '_>) {
        self.reading = Reading::Nothing;
        if let (Some(chunk), Some(spout)) = (self.chunk.take(), &self.outlook.spout) {
            spout.push(chunk);
        }
        self.tell(Happened::Finished { bytes: self.got, took_ns: clock::now_ns() - self.asked_ns });
        let stays = !head.closes && !self.plan.closes;
        if self.requests >= self.plan.count {
            self.over = true;
        } else if stays {
            return self.ask(id, io);
        }
        self.connection = None;
        // Everything has been read; one that is gone needs no end.
        let _ = io.close(id);
        if !self.over {
            self.connect(io);
        }
    }

    /// The server has sent its last.
    fn on_end(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        match self.reading {
            Reading::Body(head, _) if head.length == Length::UntilClose => self.complete(head, id, io),
            Reading::Body(_, left) => self.fail(format!("the server ended with {left} bytes missing")),
            _ => self.fail("the server ended the connection without an answer"),
        }
    }
}

impl Service for Client {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        self.connect(io);
    }

    fn on_connected(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        self.tell(Happened::Connected { connect_ns: clock::now_ns() - self.connecting_ns });
        self.ask(id, io);
    }

    fn on_readable(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        self.read(id, io);
    }

    fn on_closed(&mut self, id: ConnectionId, reason: CloseReason, _io: &mut Io<'_, '_>) {
        if self.connection != Some(id) {
            return;
        }
        self.connection = None;
        self.fail(match reason {
            CloseReason::Finished => "the server ended the connection",
            CloseReason::Reset => "the server reset the connection",
            CloseReason::Refused => "the server refuses connections at this port",
            CloseReason::TimedOut => "the server does not answer",
            CloseReason::Unreachable => "the server cannot be reached",
        });
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.look_ns
    }

    fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
        self.look_ns = None;
        if let Some(id) = self.connection {
            self.read(id, io);
        }
    }
}
