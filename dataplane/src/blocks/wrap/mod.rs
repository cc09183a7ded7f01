//! What the pairs `encrypt`/`decrypt` and `compress`/`decompress` have in common: frames in frames.
//!
//! The Ethernet addresses and up to two VLAN tags stay where they are, so that bridges still deliver the frame. Behind
//! them comes one of the local experimental EtherTypes (IEEE 802 §9.2.4), a start that all our encapsulations share, the
//! rest of the pair's own header, and what the frame carried, its EtherType first:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+---------------+-------+-------+
//! |  EtherType 0x88B5 or 0x88B6   | subtype 0x77  |version| form  |
//! +-------------------------------+---------------+-------+-------+
//! |           flow bits           |  rest of the pair's header ...
//! +-------------------------------+
//! ```
//!
//! - *subtype*: others may use these EtherTypes, too; frames with another subtype are plain to us.
//! - *version*: 1. A frame of another one is dropped by name, never taken for plain.
//! - *form*: the pair's own (which cipher; compressed or not).
//! - *flow bits*: low 16 bits of the flow hash. The steering program (`xdp/bpf/parse.h`) picks the worker by them, so that
//!   the frames of a flow keep their order although nobody on the way can see the flow.
//!
//! | file | what |
//! |---|---|
//! | `outlet` | the sending side: which frames, their flow bits, room on the link |
//! | `inlet` | the receiving side: what is for us, what becomes of plain frames |
//! | `cipher` | keys from files, keys of senders, AEAD |
//! | `sealer` | one sender: nonces that never repeat |
//! | `opener` | all senders under one key |
//! | `keyring` | the key, and the one before it |
//! | `replay` | the window against replays |

pub(super) mod cipher;
pub(super) mod inlet;
pub(super) mod keyring;
pub(super) mod opener;
pub(super) mod outlet;
mod replay;
pub(super) mod sealer;

use crate::blocks::header::{ADDRESSES_LEN, VLAN_TAG_LEN, be16, is_vlan_protocol};
use crate::frame::Frame;
use crate::ledger::DropReason;

/// Encrypted frames: IEEE 802 local experimental EtherType 1.
pub(super) const ENCRYPTED: u16 = 0x88b5;
/// Compressed frames: IEEE 802 local experimental EtherType 2.
pub(super) const COMPRESSED: u16 = 0x88b6;
/// EtherType, subtype, version and form, flow bits.
pub(super) const START_LEN: usize = 6;

const SUBTYPE: u8 = 0x77;
const VERSION: u8 = 1;
const VLAN_TAGS_MAX: usize = 2;
const ETHERTYPE_LEN: usize = 2;

/// Where the EtherType of what the frame carries stands: behind the addresses and at most two tags.
pub(super) fn ethertype_at(bytes: &[u8]) -> Option<usize> {
    let mut at = ADDRESSES_LEN;
    for _ in 0..VLAN_TAGS_MAX {
        if !is_vlan_protocol(be16(bytes, at)?) {
            break;
        }
        at += VLAN_TAG_LEN;
    }
    be16(bytes, at).map(|_| at)
}

/// What all our headers start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) ethertype: u16,
    /// 0 to 15.
    pub(super) form: u8,
    pub(super) flow_bits: u16,
}

impl Start {
    pub(super) fn bytes(self) -> [u8; START_LEN] {
        let [ethertype, flow] = [self.ethertype, self.flow_bits].map(u16::to_be_bytes);
        [ethertype[0], ethertype[1], SUBTYPE, VERSION << 4 | self.form & 0x0f, flow[0], flow[1]]
    }
}

/// An encapsulated frame: where its header starts, and how that starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) at: usize,
    pub(super) start: Start,
}

/// Looks for a header of `header_len` bytes that starts with `ethertype`. `None`: the frame is plain.
pub(super) fn find(frame: &Frame, ethertype: u16, header_len: usize) -> Result<Option<Found>, DropReason> {
    let bytes = frame.bytes();
    let Some(at) = ethertype_at(bytes) else { return Ok(None) };
    let Some(header) = bytes.get(at..).filter(|rest| be16(rest, 0) == Some(ethertype)) else { return Ok(None) };
    match header {
        [_, _, SUBTYPE, version, ..] if version >> 4 != VERSION => Err(DropReason::EncapsulationVersion),
        [_, _, SUBTYPE, version, high, low, ..] if header.len() >= header_len => {
            let start = Start { ethertype, form: version & 0x0f, flow_bits: u16::from_be_bytes([*high, *low]) };
            Ok(Some(Found { at, start }))
        }
        [_, _, SUBTYPE, ..] if frame.is_chained() => Err(DropReason::Chained),
        [_, _, SUBTYPE, ..] | [_, _] => Err(DropReason::EncapsulationTruncated),
        _ => Ok(None),
    }
}

/// Makes room for a header of `n` bytes at `at`. Fails without effect.
pub(super) fn open_gap(frame: &mut Frame, at: usize, n: usize) -> Result<(), DropReason> {
    frame.prepend(n).map_err(|_| DropReason::NoHeadroom)?;
    frame.bytes_mut().copy_within(n..n + at, 0);
    frame.set_l3_offset(0);
    Ok(())
}

/// Takes the `n` bytes at `at` out again. The caller has seen that they are there.
pub(super) fn close_gap(frame: &mut Frame, at: usize, n: usize) {
    frame.bytes_mut().copy_within(..at, n);
    let trimmed = frame.trim_front(n);
    debug_assert!(trimmed.is_ok(), "the header was there");
    frame.set_l3_offset(0);
}

/// Appends zeros until the packet has `len` bytes. What is shorter would be padded by the wire, behind our back.
pub(super) fn pad(frame: &mut Frame, len: usize) {
    let before = frame.len();
    if !frame.is_chained() && before < len && frame.set_len(len).is_ok() {
        frame.bytes_mut()[before..].fill(0);
    }
}

/// Memory in which a packet of several chunks lies in one piece. Grows to the largest packet seen, at most
/// [`CHAIN_MAX`](crate::frame::CHAIN_MAX) chunks.
#[derive(Default)]
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    /// Room for packets of `len` bytes without allocating.
    pub(super) fn with_capacity(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    /// `len` bytes of unspecified content.
    pub(super) fn bytes(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len {
            self.0.resize(len, 0);
        }
        &mut self.0[..len]
    }

    /// Calls `work` with the packet's bytes from `offset` on, in one piece and to be changed.
    pub(super) fn with_rest<T>(&mut self, frame: &mut Frame, offset: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
        if !frame.is_chained() {
            return work(frame.bytes_mut().get_mut(offset..).unwrap_or_default());
        }
        let rest = self.bytes(frame.total_len().saturating_sub(offset));
        frame.read_at(offset, rest);
        let outcome = work(rest);
        frame.write_at(offset, rest);
        outcome
    }
}

/// The largest packet that memory is taken for beforehand: a jumbo frame.
pub(super) const SCRATCH_LEN: usize = 9300;

/// Bytes that the encapsulated packet adds behind its EtherType, where a link's MTU counts from.
pub(super) fn payload_len(frame: &Frame, at: usize) -> usize {
    frame.total_len().saturating_sub(at + ETHERTYPE_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Pool, Region, RegionConfig};

    fn pool() -> Pool {
        let config = RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() };
        Pool::new(Region::in_process(config).unwrap())
    }

    fn wrapped(rest: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &[0x88, 0xb5], rest].concat()
    }

    #[test]
    fn the_ethertype_is_found_behind_none_one_and_two_tags() {
        let addresses = [2; 12];
        let tag = [0x81, 0, 0, 5];
        let frame = |tags: usize| [&addresses[..], &tag.repeat(tags), &[8, 0]].concat();
        assert_eq!([0, 1, 2].map(|tags| ethertype_at(&frame(tags))), [Some(12), Some(16), Some(20)]);
        assert_eq!(ethertype_at(&frame(3)), Some(20), "a third tag is what the frame carries");
        assert_eq!(ethertype_at(&frame(1)[..17]), None);
        assert_eq!(ethertype_at(&[]), None);
    }

    #[test]
    fn only_our_subtype_is_ours_and_only_our_version_is_read() {
        let mut pool = pool();
        let mut look = |rest: &[u8]| {
            let frame = pool.allocate_copy(&wrapped(rest)).unwrap();
            let found = find(&frame, ENCRYPTED, START_LEN);
            pool.release(frame);
            found
        };
        let start = Start { ethertype: ENCRYPTED, form: 3, flow_bits: 0x1234 };
        assert_eq!(look(&[0x77, 0x13, 0x12, 0x34]), Ok(Some(Found { at: 12, start })));
        assert_eq!(look(&[0x76, 0x13, 0x12, 0x34]), Ok(None));
        assert_eq!(look(&[0x77, 0x23, 0x12, 0x34]), Err(DropReason::EncapsulationVersion));
        assert_eq!(look(&[0x77, 0x13, 0x12]), Err(DropReason::EncapsulationTruncated));
        assert_eq!(look(&[0x77]), Err(DropReason::EncapsulationTruncated));
        assert_eq!(look(&[]), Err(DropReason::EncapsulationTruncated));
    }

    #[test]
    fn a_gap_that_is_opened_and_closed_leaves_the_frame_as_it_was() {
        let mut pool = pool();
        let bytes: Vec<u8> = (0..200).collect();
        let mut frame = pool.allocate_copy(&bytes).unwrap();
        open_gap(&mut frame, 16, 40).unwrap();
        assert_eq!((&frame.bytes()[..16], &frame.bytes()[56..]), (&bytes[..16], &bytes[16..]));
        close_gap(&mut frame, 16, 40);
        assert_eq!(frame.bytes(), bytes);
        assert_eq!(open_gap(&mut frame, 12, 257), Err(DropReason::NoHeadroom));
        assert_eq!(frame.bytes(), bytes);
        pool.release(frame);
    }

    #[test]
    fn a_chained_packet_is_worked_on_in_one_piece() {
        let mut pool = pool();
        let bytes: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        let mut frame = pool.allocate_copy(&bytes).unwrap();
        assert!(frame.is_chained());
        let mut scratch = Scratch::default();
        for offset in [0, 14, 1727, 1728, 1729, 4000, 4999, 5000] {
            scratch.with_rest(&mut frame, offset, |rest| {
                assert_eq!(rest, &bytes[offset..]);
                rest.iter_mut().for_each(|byte| *byte = !*byte);
            });
            scratch.with_rest(&mut frame, offset, |rest| rest.iter_mut().for_each(|byte| *byte = !*byte));
            let now: Vec<u8> = frame.segments().flatten().copied().collect();
            assert_eq!(now, bytes, "from {offset}");
        }
        pool.release(frame);
    }
}
