//! One stream in its worker: fills its connection or flow, or empties it, and counts.
//!
//! The bulk path: a sender keeps the connection's send buffer full, from the moment that it is half empty; a receiver takes
//! frames and gives them back at once. Neither asks for the time.

use tailwater_dataplane::service::{Datagram, Io};
use tailwater_stack::tcp::ConnectionId;

use super::meter::{Counts, Pace, Path, Sample};
use super::settings::End;
use super::test::{Mark, Test};
use super::udp::Flow;

/// What one stream sends in a turn: so many trains of full segments, the rest in the next. They are still in the core's cache
/// when the kernel copies them.
const TURN_TRAINS: usize = 2;
/// Bytes of text in a packet that the kernel cuts, behind all headers with options.
const TRAIN_BYTES_MAX: usize = 65_535 - 100;
/// Blocks that one stream begins in a turn, so that small ones do not prolong it.
const TURN_BLOCKS_MAX: usize = 1_024;
/// Datagrams that one stream sends in a turn: two calls of the kernel's copying transmit path.
const TURN_DATAGRAMS_MAX: usize = 64;

/// What is sent: the same bytes over and over, never the pool's, where other packets have been.
pub(super) struct Payload {
    pattern: Box<[u8]>,
}

impl Payload {
    /// Longest piece that is written at once: a chunk of packet memory.
    const PIECE_MAX: usize = 4_096;

    pub(super) fn new() -> Self {
        // Digits, which a capture shows at once for what they are.
        Self { pattern: (b'0'..=b'9').cycle().take(Self::PIECE_MAX).collect() }
    }

    #[inline]
    pub(super) fn write(&self, room: &mut [u8]) {
        for piece in room.chunks_mut(Self::PIECE_MAX) {
            piece.copy_from_slice(&self.pattern[..piece.len()]);
        }
    }
}

/// What carries it.
pub(super) enum Carrier {
    Tcp(ConnectionId),
    Udp(Flow),
}

/// What this end does on it.
enum Duty {
    /// Nothing yet.
    Waiting,
    Sending(Sender),
    Receiving,
    /// Nothing more; what still comes is thrown away.
    Over,
}

struct Sender {
    /// Bytes of a block, and those left of the one that has begun.
    len: usize,
    left: usize,
    /// Bytes left in all.
    quota: u64,
    pace: Pace,
    /// Stopped for the turn, with room left.
    hungry: bool,
    /// Bytes when it was last looked at.
    seen: u64,
    told: bool,
}

pub(super) struct Stream {
    pub(super) ticket: usize,
    pub(super) carrier: Carrier,
    place: usize,
    duty: Duty,
    counts: Counts,
    /// What does not count: up to the end of the omission.
    base: Counts,
    /// When something came last, for tests that end by bytes.
    last_ns: Option<u64>,
    last_path: Option<Path>,
}

impl Stream {
    pub(super) fn new(ticket: usize, carrier: Carrier) -> Self {
        let (counts, base) = (Counts::default(), Counts::default());
        Self { ticket, carrier, place: ticket, duty: Duty::Waiting, counts, base, last_ns: None, last_path: None }
    }

    /// At a client, where the place of a stream is known at once: data may come before the word that the test runs.
    pub(super) fn expect(&mut self, test: &Test) {
        if !test.settings.sends(test.end, self.place) {
            self.prepare(test);
            self.duty = Duty::Receiving;
        }
    }

    fn prepare(&mut self, test: &Test) {
        if let Carrier::Udp(flow) = &mut self.carrier {
            flow.counters_64bit = test.settings.counters_64bit;
        }
    }

    /// The test runs.
    pub(super) fn begin(&mut self, test: &Test, payload: &Payload, io: &mut Io<'_, '_>) {
        let settings = &test.settings;
        self.place = test.place(self.ticket);
        self.prepare(test);
        if !settings.sends(test.end, self.place) {
            self.duty = Duty::Receiving;
            return self.drain(io);
        }
        self.duty = Duty::Sending(Sender {
            len: settings.len,
            left: 0,
            // Only the client's side of it ends by itself.
            quota: test.share(self.place).filter(|_| test.end == End::Client).unwrap_or(u64::MAX),
            pace: Pace::new(settings.rate, settings.burst, io.now_ns()),
            hungry: false,
            seen: 0,
            told: false,
        });
        self.fill(payload, io);
    }

    /// When it wants to send without having been asked, [`u64::MAX`] if it does not.
    pub(super) fn next_ns(&self) -> u64 {
        match &self.duty {
            Duty::Sending(sender) if sender.hungry => 0,
            Duty::Sending(sender) if sender.left == 0 && sender.quota > 0 => match sender.pace.next_ns() {
                0 => u64::MAX,
                next_ns => next_ns,
            },
            _ => u64::MAX,
        }
    }

    /// Sends as much as there is room for. Whether a connection has used up the turn.
    pub(super) fn fill(&mut self, payload: &Payload, io: &mut Io<'_, '_>) -> bool {
        let Duty::Sending(sender) = &mut self.duty else { return false };
        match &mut self.carrier {
            Carrier::Tcp(connection) => {
                sender.fill(*connection, &mut self.counts, payload, io);
                sender.hungry
            }
            Carrier::Udp(flow) => {
                sender.fill_flow(flow, &mut self.counts, payload, io);
                false
            }
        }
    }

    /// Takes what has come on a connection.
    #[inline]
    pub(super) fn drain(&mut self, io: &mut Io<'_, '_>) {
        let Carrier::Tcp(connection) = self.carrier else { return };
        let counts = match self.duty {
            Duty::Waiting => return,
            _ => matches!(self.duty, Duty::Receiving),
        };
        let mut bytes = 0;
        while let Ok(Some(text)) = io.receive(connection) {
            bytes += text.total_len() as u64;
            io.release(text);
        }
        if counts && bytes > 0 {
            self.counts.bytes += bytes;
            self.last_ns = Some(io.now_ns());
        }
    }

    /// Takes a datagram of a flow, unless it is a greeting.
    #[inline]
    pub(super) fn take(&mut self, datagram: &Datagram, now_ns: u64) -> bool {
        let Carrier::Udp(flow) = &mut self.carrier else { return false };
        match self.duty {
            Duty::Receiving => flow.take(datagram, now_ns, &mut self.counts),
            Duty::Over => true,
            Duty::Waiting | Duty::Sending(_) => false,
        }
    }

    /// Once a tick: whether it has sent all it had to, and the peer has it; told once.
    pub(super) fn has_sent_all(&mut self, io: &Io<'_, '_>) -> bool {
        let Duty::Sending(sender) = &mut self.duty else { return false };
        let sent = sender.quota == 0 && sender.left == 0 && !sender.told;
        let arrived = || match self.carrier {
            Carrier::Tcp(connection) => io.snapshot(connection).is_none_or(|snapshot| snapshot.send_queue == 0),
            Carrier::Udp(_) => true,
        };
        sender.told |= sent && arrived();
        sent && sender.told
    }

    /// Once a tick: a sender that has not moved since the last one tries again. It may have found the stack out of buffers
    /// when nothing of its own was on the way, so that no acknowledgement will remind it.
    pub(super) fn nudge(&mut self, payload: &Payload, io: &mut Io<'_, '_>) {
        let bytes = self.counts.bytes;
        let Duty::Sending(sender) = &mut self.duty else { return };
        if std::mem::replace(&mut sender.seen, bytes) == bytes {
            self.fill(payload, io);
        }
    }

    /// Bytes sent or received.
    pub(super) fn moved(&self) -> u64 {
        self.counts.bytes
    }

    /// Bytes received, of all that came.
    pub(super) fn received(&self) -> u64 {
        if matches!(self.duty, Duty::Receiving) { self.counts.bytes } else { 0 }
    }

    /// `by_bytes`: the test ends by a number of bytes, so that the last of them is the end.
    pub(super) fn sample(&mut self, mark: Mark, by_bytes: bool, io: &Io<'_, '_>) -> Sample {
        let sends = matches!(self.duty, Duty::Sending(_));
        if let Carrier::Tcp(connection) = self.carrier
            && let Some(snapshot) = io.snapshot(connection).filter(|_| sends)
        {
            self.counts.retransmits = snapshot.segments_resent.into();
            self.last_path = Some(Path::from(&snapshot));
        }
        let jitter_s = match &self.carrier {
            Carrier::Udp(flow) => flow.jitter_s(),
            Carrier::Tcp(_) => 0.0,
        };
        let counts = self.counts.since(&self.base);
        let path = self.last_path.filter(|_| sends);
        let at_ns = self.last_ns.filter(|_| by_bytes && mark == Mark::Final).unwrap_or(io.now_ns());
        Sample { place: self.place, mark, at_ns, sends, counts, jitter_s, path }
    }

    /// What was counted so far does not count.
    pub(super) fn omit(&mut self) {
        self.base = self.counts;
    }

    /// The test is over. iperf3's client reads whole blocks to their end, and hears of nothing else meanwhile: a server
    /// ends its streams behind what it has sent.
    pub(super) fn finish(&mut self, end: End, io: &mut Io<'_, '_>) {
        self.duty = Duty::Over;
        if let (Carrier::Tcp(connection), End::Server) = (&self.carrier, end) {
            // An unknown connection has ended already.
            let _ = io.shutdown(*connection);
        }
    }
}

impl Sender {
    fn fill(&mut self, connection: ConnectionId, counts: &mut Counts, payload: &Payload, io: &mut Io<'_, '_>) {
        self.hungry = false;
        let mut budget = turn_bytes(io.segment_len(connection).unwrap_or(1));
        for _ in 0..TURN_BLOCKS_MAX {
            if !self.begin_block(io.now_ns()) {
                return;
            }
            let wanted = self.left.min(budget);
            // An error means that the connection is over, which is told otherwise.
            let sent = io.send_with(connection, wanted, |_, room| payload.write(room)).unwrap_or(0);
            self.on_sent(sent, counts);
            budget -= sent;
            if sent < wanted {
                return;
            }
            if budget == 0 {
                break;
            }
        }
        self.hungry = true;
    }

    fn fill_flow(&mut self, flow: &mut Flow, counts: &mut Counts, payload: &Payload, io: &mut Io<'_, '_>) {
        self.hungry = false;
        for _ in 0..TURN_DATAGRAMS_MAX {
            if !self.begin_block(io.now_ns()) {
                return;
            }
            let len = self.left;
            if !flow.send(len, counts.packets + 1, payload, io) {
                break;
            }
            counts.packets += 1;
            self.on_sent(len, counts);
        }
        self.hungry = true;
    }

    /// Whether there is a block to send.
    fn begin_block(&mut self, now_ns: u64) -> bool {
        if self.left > 0 {
            return true;
        }
        if self.quota == 0 || !self.pace.permits(now_ns) {
            return false;
        }
        self.left = self.len.min(usize::try_from(self.quota).unwrap_or(usize::MAX));
        self.pace.on_block(self.left);
        true
    }

    fn on_sent(&mut self, bytes: usize, counts: &mut Counts) {
        self.left -= bytes;
        self.quota -= if self.quota == u64::MAX { 0 } else { bytes as u64 };
        counts.bytes += bytes as u64;
    }
}

/// Bytes that a connection sends in a turn.
fn turn_bytes(segment_len: usize) -> usize {
    let segment_len = segment_len.max(1);
    TURN_TRAINS * segment_len * (TRAIN_BYTES_MAX / segment_len).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_takes_full_segments_that_leave_as_two_packets() {
        for (segment_len, segments) in [(1_448, 90), (8_948, 14), (65_483, 2), (0, 130_870)] {
            assert_eq!(turn_bytes(segment_len), segments * segment_len.max(1));
        }
    }

    #[test]
    fn every_byte_of_a_room_is_written_whatever_its_size() {
        let payload = Payload::new();
        for len in [0, 1, 4_095, 4_096, 4_097, 9_000] {
            let mut room = vec![0xff; len];
            payload.write(&mut room);
            assert!(room.iter().all(u8::is_ascii_digit), "{len}");
        }
    }
}
