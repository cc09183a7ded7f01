//! IPv4 fragmentation by a router (RFC 791 §2.3, §3.2; RFC 1812 §5.2.6).

use tailwater_stack::checksum;

use crate::frame::{Batch, Frame, Pool};

const DONT_FRAGMENT: u8 = 0x40;
const MORE_FRAGMENTS: u16 = 0x2000;
/// RFC 791 §3.1: an option with this bit is copied into every fragment.
const COPIED: u8 = 0x80;

/// Whether an IPv4 packet (at the frame's network offset) may be fragmented.
pub(crate) fn may_fragment(frame: &Frame) -> bool {
    frame.bytes().get(frame.l3_offset() + 6).is_some_and(|flags| flags & DONT_FRAGMENT == 0)
}

/// Cuts the IPv4 packet in `frame` into fragments that fit `mtu` bytes each, with the same Ethernet header, and appends
/// them to `fragments`. Returns how many, or `None` (with `fragments` unchanged) when frames run out or the MTU is too
/// small to carry 8 bytes.
pub(crate) fn fragment4(frame: &Frame, mtu: usize, pool: &mut Pool, fragments: &mut Batch) -> Option<usize> {
    let l3 = frame.l3_offset();
    let header_len = usize::from(frame.bytes().get(l3)? & 15) * 4;
    let header = frame.bytes().get(l3..l3 + header_len)?;
    let packet_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let word = u16::from_be_bytes([header[6], header[7]]);
    let (offset, more) = (usize::from(word & 0x1fff) * 8, word & MORE_FRAGMENTS);
    let payload_len = packet_len.checked_sub(header_len)?;
    let mut made = Vec::new();
    let mut done = 0;
    while done < payload_len {
        let header = if done == 0 { header.to_vec() } else { header_for_rest(header) };
        let room = mtu.checked_sub(header.len())? & !7;
        let rest = payload_len - done;
        let n = if rest <= mtu - header.len() { rest } else { room };
        if n == 0 {
            return give_back(made, pool);
        }
        let last = done + n == payload_len;
        let word = ((offset + done) / 8) as u16 | if last { more } else { MORE_FRAGMENTS };
        let Some(fragment) = one(frame, l3, header, word, header_len + done, n, pool) else {
            return give_back(made, pool);
        };
        made.push(fragment);
        done += n;
    }
    let count = made.len();
    fragments.extend(made);
    Some(count)
}

fn give_back(made: Vec<Frame>, pool: &mut Pool) -> Option<usize> {
    made.into_iter().for_each(|frame| pool.release(frame));
    None
}

/// One fragment: Ethernet header, IP header with the fragment word `word`, `n` bytes of payload from `from` (counted
/// from the IP header's start).
fn one(
    frame: &Frame,
    l3: usize,
    mut header: Vec<u8>,
    word: u16,
    from: usize,
    n: usize,
    pool: &mut Pool,
) -> Option<Frame> {
    let packet_len = (header.len() + n) as u16;
    header[2..4].copy_from_slice(&packet_len.to_be_bytes());
    header[6..8].copy_from_slice(&word.to_be_bytes());
    header[10..12].fill(0);
    let sum = checksum::of(&header);
    header[10..12].copy_from_slice(&sum);
    let mut bytes = frame.bytes().get(..l3)?.to_vec();
    bytes.extend_from_slice(&header);
    let start = bytes.len();
    bytes.resize(start + n, 0);
    if frame.read_at(l3 + from, &mut bytes[start..]) < n {
        return None;
    }
    let mut fragment = pool.allocate_copy(&bytes)?;
    fragment.set_port(frame.port());
    fragment.set_l3_offset(l3 as u8);
    Some(fragment)
}

/// The header of every fragment but the first: only options that are to be copied, padded to a multiple of 4.
fn header_for_rest(header: &[u8]) -> Vec<u8> {
    let mut rest = header[..20].to_vec();
    let mut options = &header[20..];
    while let [kind, tail @ ..] = options {
        let len = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(tail.first().copied().unwrap_or(0)),
        };
        if len == 0 || len > options.len() {
            break;
        }
        if kind & COPIED != 0 {
            rest.extend_from_slice(&options[..len]);
        }
        options = &options[len..];
    }
    rest.resize(rest.len().next_multiple_of(4), 0);
    rest[0] = 0x40 | (rest.len() / 4) as u8;
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Region, RegionConfig};

    fn packet(payload_len: usize, options: &[u8], word: u16) -> Vec<u8> {
        let header_len = 20 + options.len();
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let mut header =
            vec![0x40 | (header_len / 4) as u8, 0, 0, 0, 7, 7, 0, 0, 64, 17, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2];
        header.extend(options);
        header[2..4].copy_from_slice(&((header_len + payload_len) as u16).to_be_bytes());
        header[6..8].copy_from_slice(&word.to_be_bytes());
        let sum = checksum::of(&header);
        header[10..12].copy_from_slice(&sum);
        bytes.extend(header);
        bytes.extend((0..payload_len).map(|n| n as u8));
        bytes
    }

    #[test]
    fn fragments_join_to_the_packet_and_fit_the_mtu() {
        let config = RegionConfig { chunks: 128, huge_pages: false, ..RegionConfig::default() };
        let mut pool = Pool::new(Region::in_process(config).unwrap());
        // A copied option (loose source route), one not copied (record route), padding.
        let options = [0x83, 7, 4, 1, 1, 1, 1, 7, 3, 4, 0, 0];
        for (payload_len, options, word, mtu) in [
            (1472, &[][..], 0u16, 576),
            (1400, &options[..], 0, 300),
            (1480, &[], MORE_FRAGMENTS | 185, 1000),
            (9, &[], 0, 28),
        ] {
            let bytes = packet(payload_len, options, word);
            let mut frame = pool.allocate_copy(&bytes).unwrap();
            frame.set_l3_offset(14);
            let mut fragments = Batch::default();
            let count = fragment4(&frame, mtu, &mut pool, &mut fragments).unwrap();
            assert_eq!(count, fragments.len());
            let mut joined = Vec::new();
            for (at, fragment) in fragments.iter().enumerate() {
                let ip = &fragment.bytes()[14..];
                let header_len = usize::from(ip[0] & 15) * 4;
                assert!(ip.len() <= mtu && checksum::is_valid(&ip[..header_len]));
                assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
                let found = u16::from_be_bytes([ip[6], ip[7]]);
                assert_eq!(usize::from(found & 0x1fff) * 8, usize::from(word & 0x1fff) * 8 + joined.len());
                let last = at + 1 == count;
                assert_eq!(found & MORE_FRAGMENTS != 0, !last || word & MORE_FRAGMENTS != 0);
                assert_eq!(header_len, if at == 0 { 20 + options.len() } else { 20 + options.len().min(8) });
                joined.extend_from_slice(&ip[header_len..]);
            }
            assert_eq!(joined, bytes[14 + 20 + options.len()..]);
            fragments.drain().for_each(|frame| pool.release(frame));
            pool.release(frame);
        }
    }
}
