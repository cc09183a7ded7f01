//! Looking at forwarded frames before anything is measured, so that a figure cannot come from less work than it says.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use tailwater_lab::Lab;

use crate::interrupt;
use crate::tools;

/// How long a forwarder may take from its start until it forwards.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long each round listens.
const LISTEN: Duration = Duration::from_millis(100);
/// Datagrams of a round: to that many destinations, in turn the smallest and the largest.
const DATAGRAMS: u32 = 64;
/// Destinations lie this far apart, so that a round touches the whole table.
const STRIDE: u32 = tools::PREFIXES / DATAGRAMS;
const PORT: u16 = 9;
const SMALL: usize = 18;
const LARGE: usize = 1472;
/// ETH_P_ALL in network byte order, which is how packet(7) wants it.
const ALL_PROTOCOLS: u32 = 0x0003u16.to_be() as u32;

const ROUTER_IN: [u8; 6] = [2, 0, 0, 0, 1, 1];
const ROUTER_OUT: [u8; 6] = [2, 0, 0, 0, 2, 1];
const NEXT_HOP: [u8; 6] = [2, 0, 0, 0, 2, 3];

/// Sends datagrams from the generator until a whole round of them has arrived at the sink as they should: routed (TTL
/// one less, checksum right, MAC addresses of the next link) or, from contenders that do less, unchanged. Returns how many.
pub(crate) fn forwards(lab: &Lab, routed: bool, mut alive: impl FnMut() -> Result<()>) -> Result<u64> {
    let end = Instant::now() + PATIENCE;
    let sender = lab.gen_side().enter(|| UdpSocket::bind("10.1.0.2:0"))?.context("binding the test sender")?;
    let listener = lab.sink().enter(|| -> rustix::io::Result<_> {
        let protocol = Protocol::from_raw(std::num::NonZeroU32::new(ALL_PROTOCOLS).ok_or(rustix::io::Errno::INVAL)?);
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(LISTEN / 10))?;
        Ok(socket)
    })?;
    let listener = listener.context("opening a packet socket")?;
    let mut frame = vec![0; 2048];
    let mut problem = String::new();
    while Instant::now() < end {
        interrupt::check()?;
        alive()?;
        let mut seen = BTreeSet::new();
        let mut wrong = None;
        for number in 0..DATAGRAMS {
            let length = if number % 2 == 0 { SMALL } else { LARGE };
            let _ = sender.send_to(&payload(number, length), (tools::destination(number * STRIDE), PORT));
        }
        let listen_end = Instant::now() + LISTEN;
        while Instant::now() < listen_end && seen.len() < DATAGRAMS as usize {
            let Ok((_, length)) = recv(&listener, &mut frame[..], RecvFlags::empty()) else { continue };
            match check(frame.get(..length).unwrap_or_default(), routed) {
                Ok(Some(number)) => drop(seen.insert(number)),
                Ok(None) => {}
                Err(what) => wrong = Some(what),
            }
        }
        match wrong {
            None if seen.len() == DATAGRAMS as usize => return Ok(u64::from(DATAGRAMS)),
            None => problem = format!("only {} of {DATAGRAMS} datagrams arrived", seen.len()),
            Some(what) => problem = what,
        }
    }
    bail!("it does not forward as it should: {problem}")
}

fn payload(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; length];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number of one of our datagrams, None for a foreign frame, or what is wrong with it.
fn check(frame: &[u8], routed: bool) -> Result<Option<u32>, String> {
    let Some((ethernet, packet)) = frame.split_at_checked(14) else { return Ok(None) };
    let Some(header) = packet.get(..20) else { return Ok(None) };
    let Some(udp) = packet.get(20..28) else { return Ok(None) };
    if ethernet[12..14] != [8, 0] || header[0] != 0x45 || header[9] != 17 || udp[2..4] != PORT.to_be_bytes() {
        return Ok(None);
    }
    let Some(length) = usize::from(u16::from_be_bytes([udp[4], udp[5]])).checked_sub(8) else { return Ok(None) };
    let Some(number) = packet.get(28..32).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) else {
        return Ok(None);
    };
    let destination = tools::destination(number.wrapping_mul(STRIDE)).octets();
    if number >= DATAGRAMS || header[16..20] != destination {
        return Err(format!("datagram {number} arrived with a destination that is not its own"));
    }
    if packet.get(28..28 + length) != Some(&payload(number, length)[..]) {
        return Err(format!("the content of datagram {number} changed"));
    }
    if checksum(header) != 0xffff {
        return Err(format!("the header checksum is wrong (TTL {})", header[8]));
    }
    let (ttl, to, from) = if routed { (63, NEXT_HOP, Some(ROUTER_OUT)) } else { (64, ROUTER_IN, None) };
    if header[8] != ttl {
        return Err(format!("TTL is {} instead of {ttl}", header[8]));
    }
    if ethernet[..6] != to || from.is_some_and(|from| ethernet[6..12] != from) {
        return Err(format!("MAC addresses are {:02x?} instead of {to:02x?} from {from:02x?}", &ethernet[..12]));
    }
    Ok(Some(number))
}

/// One's complement sum of a header; 0xffff if its checksum is right (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A datagram of ours as a right router would deliver it.
    fn routed_frame(number: u32) -> Vec<u8> {
        let payload = payload(number, SMALL);
        let mut header = vec![0x45, 0, 0, 28 + SMALL as u8, 0, 0, 0, 0, 63, 17, 0, 0, 10, 1, 0, 2];
        header.extend(tools::destination(number * STRIDE).octets());
        let sum = !checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let udp = [0x23, 0x28, 0, PORT as u8, 0, 8 + SMALL as u8, 0, 0];
        [&NEXT_HOP[..], &ROUTER_OUT, &[8, 0], &header, &udp, &payload].concat()
    }

    #[test]
    fn routed_datagram_is_recognised() {
        assert_eq!(check(&routed_frame(7), true), Ok(Some(7)));
    }

    #[test]
    fn untouched_ttl_is_refused() {
        let mut frame = routed_frame(7);
        frame[14 + 8] = 64;
        // As an incremental update would have left it: one more in the upper byte, one less in the checksum.
        frame[14 + 10] = frame[14 + 10].wrapping_sub(1);
        assert!(check(&frame, true).unwrap_err().contains("TTL"), "{:?}", check(&frame, true));
    }

    #[test]
    fn wrong_checksum_is_refused() {
        let mut frame = routed_frame(7);
        frame[14 + 11] ^= 1;
        assert!(check(&frame, true).unwrap_err().contains("checksum"));
    }

    #[test]
    fn frame_for_another_next_hop_is_refused() {
        let mut frame = routed_frame(7);
        frame[5] = 9;
        assert!(check(&frame, true).unwrap_err().contains("MAC"));
    }

    #[test]
    fn changed_content_or_destination_is_refused() {
        let mut frame = routed_frame(7);
        *frame.last_mut().unwrap() ^= 1;
        assert!(check(&frame, true).unwrap_err().contains("content"));
        let mut frame = routed_frame(7);
        frame[14 + 19] ^= 1;
        assert!(check(&frame, true).unwrap_err().contains("destination"));
    }

    #[test]
    fn foreign_and_truncated_frames_are_passed_over() {
        let frame = routed_frame(7);
        for length in 0..46 {
            assert_eq!(check(&frame[..length], true), Ok(None), "{length}");
        }
        let mut arp = frame;
        arp[13] = 6;
        assert_eq!(check(&arp, true), Ok(None));
    }
}
