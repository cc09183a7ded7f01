//! The part of ping that runs in the worker: sends requests when they are due, and times the replies.

use std::net::IpAddr;
use std::sync::mpsc::Sender;

use tailwater_dataplane::clock;
use tailwater_dataplane::frame::Frame;
use tailwater_dataplane::service::{Io, Service};
use tailwater_stack::{DropReason, EchoReply, EchoRequest, Event, Undelivered};

/// Requests whose replies are recognised; older ones are late.
const WINDOW: usize = 4_096;
/// Data compared at a time.
const PIECE: usize = 256;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) request: EchoRequest,
    pub(super) count: Option<u64>,
    pub(super) interval_ns: u64,
    pub(super) size: usize,
}

/// What happened in the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Sent {
        sequence: u16,
    },
    /// The stack could not send it.
    NotSent {
        sequence: u16,
        reason: DropReason,
    },
    Reply {
        sequence: u16,
        from: IpAddr,
        len: usize,
        hop_limit: u8,
        rtt_ns: u64,
        intact: bool,
    },
    /// Answered before.
    Duplicate {
        sequence: u16,
        from: IpAddr,
    },
    /// Longer ago than replies are awaited.
    Late {
        sequence: u16,
        from: IpAddr,
    },
    Undelivered {
        sequence: u16,
        from: IpAddr,
        why: Undelivered,
    },
    /// The next hop does not answer; `requests` waited for it.
    NoNeighbour {
        address: IpAddr,
        requests: u64,
    },
}

/// A request on its way.
#[derive(Clone, Copy)]
struct Asked {
    sequence: u16,
    at_ns: u64,
    ended: bool,
}

/// The asking service of one worker.
pub(super) struct Requester {
    plan: Plan,
    asked: Vec<Asked>,
    sent: u64,
    next_ns: Option<u64>,
    happened: Sender<Happened>,
}

impl Requester {
    pub(super) fn new(plan: Plan, happened: Sender<Happened>) -> Self {
        Self { plan, asked: Vec::with_capacity(WINDOW), sent: 0, next_ns: None, happened }
    }

    fn tell(&self, happened: Happened) {
        // Nobody listens any more when the command is ending.
        let _ = self.happened.send(happened);
    }

    fn ask(&mut self, io: &mut Io<'_, '_>) {
        self.sent += 1;
        let sequence = self.sent as u16;
        let asked = Asked { sequence, at_ns: clock::now_ns(), ended: false };
        match self.asked.get_mut(usize::from(sequence) % WINDOW) {
            Some(slot) => *slot = asked,
            None => self.asked.resize(usize::from(sequence) + 1, asked),
        }
        let request = EchoRequest { sequence, ..self.plan.request };
        self.tell(Happened::Sent { sequence });
        if let Err(reason) = io.echo_request(&request, self.plan.size, write) {
            self.end(sequence);
            self.tell(Happened::NotSent { sequence, reason });
        }
    }

    /// Marks a request as answered; when it was sent, unless it was answered before or is too old to know.
    fn end(&mut self, sequence: u16) -> Ended {
        let slot = self.asked.get_mut(usize::from(sequence) % WINDOW);
        match slot.filter(|asked| asked.sequence == sequence) {
            None => Ended::Unknown,
            Some(asked) if asked.ended => Ended::Again,
            Some(asked) => {
                asked.ended = true;
                Ended::First { at_ns: asked.at_ns }
            }
        }
    }
}

enum Ended {
    First { at_ns: u64 },
    Again,
    Unknown,
}

impl Service for Requester {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        // An identifier of this stack's alone; it is fresh, so it is free.
        io.echo_open(self.plan.request.ident);
        self.next_ns = Some(io.now_ns());
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.next_ns
    }

    fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
        self.ask(io);
        let more = self.plan.count.is_none_or(|count| self.sent < count);
        // From the plan, not from now, so that the interval is kept on average; but a pause is not caught up with.
        let next_ns = self.next_ns.map(|due| (due + self.plan.interval_ns).max(io.now_ns()));
        self.next_ns = next_ns.filter(|_| more);
    }

    fn on_echo_reply(&mut self, reply: &EchoReply<Frame>, _io: &mut Io<'_, '_>) {
        let now_ns = clock::now_ns();
        let (sequence, from) = (reply.sequence, reply.source);
        let happened = match self.end(sequence) {
            Ended::First { at_ns } => Happened::Reply {
                sequence,
                from,
                len: reply.payload_len() + 8,
                hop_limit: reply.hop_limit(),
                rtt_ns: now_ns.saturating_sub(at_ns),
                intact: is_intact(reply, self.plan.size),
            },
            Ended::Again => Happened::Duplicate { sequence, from },
            Ended::Unknown => Happened::Late { sequence, from },
        };
        self.tell(happened);
    }

    fn on_event(&mut self, event: &Event, _io: &mut Io<'_, '_>) {
        match *event {
            Event::EchoUndelivered { ident, sequence, from, why, .. } if ident == self.plan.request.ident => {
                if let Ended::First { .. } = self.end(sequence) {
                    self.tell(Happened::Undelivered { sequence, from, why });
                }
            }
            Event::NeighbourFailed { address, .. } => {
                let waiting = self.asked.iter_mut().filter(|asked| !asked.ended && asked.sequence != 0);
                let requests = waiting.map(|asked| asked.ended = true).count() as u64;
                self.tell(Happened::NoNeighbour { address, requests });
            }
            _ => {}
        }
    }
}

/// The data of a request: each byte is the last of its offset.
fn write(offset: usize, room: &mut [u8]) {
    (offset..).zip(room).for_each(|(at, byte)| *byte = at as u8);
}

fn is_intact(reply: &EchoReply<Frame>, size: usize) -> bool {
    let (mut came, mut wanted) = ([0; PIECE], [0; PIECE]);
    reply.payload_len() == size
        && (0..size).step_by(PIECE).all(|offset| {
            let n = PIECE.min(size - offset);
            write(offset, &mut wanted);
            let room = &mut came[..n];
            reply.read_payload_at(offset, room).is_ok() && room == &wanted[..n]
        })
}
