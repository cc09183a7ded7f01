//! A stream over UDP. Each datagram begins with its time and its number:
//!
//! ```text
//!   0        4        8        12       16
//!   | second | microsecond     |
//!   |        |        | number (32 bits)        or
//!   |        |        | number (64 bits)|       if both ends agreed on it
//! ```
//!
//! Numbers begin with 1. One that is left out counts as lost until it comes after all, which counts as out of order.

use std::net::SocketAddr;

use tailwater_dataplane::service::{Datagram, Io};
use tailwater_stack::SocketId;

use super::meter::Counts;
use super::protocol::{UDP_ANSWER, UDP_ANSWER_OLD, UDP_HELLO, UDP_HELLO_OLD};
use super::stream::Payload;

const HEADER_LEN: usize = 12;
const HEADER_64_LEN: usize = 16;

/// One flow, as seen from one end.
pub(super) struct Flow {
    pub(super) socket: SocketId,
    pub(super) remote: SocketAddr,
    pub(super) counters_64bit: bool,
    jitter: Jitter,
}

/// The header of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Header {
    sent_us: u64,
    number: u64,
}

impl Header {
    fn write(self, wide: bool) -> ([u8; HEADER_64_LEN], usize) {
        let mut bytes = [0; HEADER_64_LEN];
        bytes[..4].copy_from_slice(&((self.sent_us / 1_000_000) as u32).to_be_bytes());
        bytes[4..8].copy_from_slice(&((self.sent_us % 1_000_000) as u32).to_be_bytes());
        if wide {
            bytes[8..].copy_from_slice(&self.number.to_be_bytes());
            return (bytes, HEADER_64_LEN);
        }
        bytes[8..12].copy_from_slice(&(self.number as u32).to_be_bytes());
        (bytes, HEADER_LEN)
    }

    fn read(bytes: &[u8], wide: bool) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let sent_us = u64::from(word(0)?) * 1_000_000 + u64::from(word(4)?);
        let high = u64::from(word(8)?);
        let number = if wide { high << 32 | u64::from(word(12)?) } else { high };
        Some(Self { sent_us, number })
    }
}

impl Flow {
    pub(super) fn new(socket: SocketId, remote: SocketAddr) -> Self {
        Self { socket, remote, counters_64bit: false, jitter: Jitter::default() }
    }

    /// The first datagram of a client's.
    pub(super) fn say_hello(&self, io: &mut Io<'_, '_>) {
        // What is lost is sent again.
        let _ = io.send_udp(self.socket, self.remote, UDP_HELLO.len(), |at, room| {
            room.copy_from_slice(&UDP_HELLO[at..at + room.len()]);
        });
    }

    /// Whether the datagram went out.
    pub(super) fn send(&self, len: usize, number: u64, payload: &Payload, io: &mut Io<'_, '_>) -> bool {
        let (header, header_len) = Header { sent_us: io.now_ns() / 1_000, number }.write(self.counters_64bit);
        let write = |at: usize, room: &mut [u8]| {
            if at > 0 {
                return payload.write(room);
            }
            let n = header_len.min(room.len());
            let (front, rest) = room.split_at_mut(n);
            front.copy_from_slice(&header[..n]);
            payload.write(rest);
        };
        io.send_udp(self.socket, self.remote, len, write).is_ok()
    }

    #[inline]
    pub(super) fn take(&mut self, datagram: &Datagram, now_ns: u64, counts: &mut Counts) -> bool {
        let Some(header) = Header::read(datagram.payload(), self.counters_64bit) else { return false };
        counts.bytes += datagram.payload_len() as u64;
        count_number(header.number, counts);
        self.jitter.on_arrival(header.sent_us, now_ns / 1_000);
        true
    }

    pub(super) fn jitter_s(&self) -> f64 {
        self.jitter.us / 1e6
    }
}

#[inline]
fn count_number(number: u64, counts: &mut Counts) {
    if number > counts.packets {
        counts.lost += number - counts.packets - 1;
        counts.packets = number;
    } else {
        counts.out_of_order += 1;
        counts.lost = counts.lost.saturating_sub(1);
    }
}

/// Interarrival jitter (RFC 1889 §6.3.1, appendix A.8).
#[derive(Clone, Copy, Debug, Default)]
struct Jitter {
    us: f64,
    transit_us: Option<i64>,
}

impl Jitter {
    #[inline]
    fn on_arrival(&mut self, sent_us: u64, now_us: u64) {
        let transit_us = now_us.wrapping_sub(sent_us) as i64;
        if let Some(before) = self.transit_us.replace(transit_us) {
            self.us += (transit_us.wrapping_sub(before).unsigned_abs() as f64 - self.us) / 16.0;
        }
    }
}

/// The answer to the first datagram of a stream, if it is one.
pub(super) fn answer_to(hello: &[u8]) -> Option<[u8; 4]> {
    match hello {
        hello if hello == UDP_HELLO => Some(UDP_ANSWER),
        hello if hello == UDP_HELLO_OLD => Some(UDP_ANSWER_OLD),
        _ => None,
    }
}

/// Whether it is the answer to ours.
pub(super) fn is_answer(answer: &[u8]) -> bool {
    answer == UDP_ANSWER || answer == UDP_ANSWER_OLD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_in_both_widths_and_short_ones_not_at_all() {
        for (wide, number) in [(false, 7), (false, u32::MAX.into()), (true, u64::MAX - 1)] {
            let header = Header { sent_us: 3_000_999_999, number };
            let (bytes, len) = header.write(wide);
            assert_eq!(Header::read(&bytes[..len], wide), Some(header));
            assert_eq!(Header::read(&bytes[..len - 1], wide), None);
        }
    }

    #[test]
    fn missing_numbers_are_lost_until_they_come_late() {
        let mut counts = Counts::default();
        [1, 2, 5, 4, 6].into_iter().for_each(|number| count_number(number, &mut counts));
        assert_eq!((counts.packets, counts.lost, counts.out_of_order), (6, 1, 1));
    }

    #[test]
    fn jitter_is_smoothed_over_sixteen_and_no_clock_need_agree() {
        let mut jitter = Jitter::default();
        // A steady stream between clocks that are hours apart has none.
        (0..100).for_each(|n| jitter.on_arrival(n * 1_000, 9_000_000_000 + n * 1_000));
        assert_eq!(jitter.us, 0.0);
        jitter.on_arrival(100_000, 9_000_100_000 + 160);
        assert_eq!(jitter.us, 10.0);
    }

    #[test]
    fn greetings_old_and_new_have_their_answers() {
        assert_eq!(answer_to(b"9876"), Some(*b"6789"));
        assert!(is_answer(b"6789") && is_answer(&[0xb1, 0x68, 0xde, 0x3a]) && !is_answer(b"9876"));
        assert_eq!(answer_to(&[0x15, 0xcd, 0x5b, 0x07]), Some(UDP_ANSWER_OLD));
        assert_eq!(answer_to(&[0; 16]), None);
    }
}
