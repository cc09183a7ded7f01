//! One sender of encrypted frames.
//!
//! What `encrypt` writes and `decrypt` reads, behind the Ethernet addresses and tags:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+---------------+-------+-------+
//! |       EtherType 0x88B5        | subtype 0x77  | ver 1 |cipher |   cipher 1: ChaCha20-Poly1305
//! +-------------------------------+---------------+-------+-------+          2: AES-256-GCM
//! |           flow bits           |            key id             |
//! +-------------------------------+-------------------------------+
//! |                                                               |
//! +                        sender (64 bits)                       +   random, one for each worker and start
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                                                               |
//! +                       counter (64 bits)                       +   from 1; the sender's nonces
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                                                               |
//! +                                                               +
//! |                                                               |
//! +                        tag (128 bits)                         +
//! |                                                               |
//! +                                                               +
//! |                                                               |
//! +---------------------------------------------------------------+
//! |  sealed: EtherType and all that followed it in the frame ...  |
//! ```
//!
//! The tag also covers the Ethernet addresses and all of the header in front of it. VLAN tags it does not: bridges change
//! them. All 40 bytes go in front of the payload, so a frame needs headroom only.

use sha2::{Digest, Sha256};

use super::cipher::{Algorithm, Cipher, Key, TAG_LEN};
use super::{START_LEN, Scratch, Start};
use crate::blocks::header::ADDRESSES_LEN;
use crate::frame::Frame;

/// Bytes that sealing adds to a frame.
pub(crate) const HEADER_LEN: usize = FIELDS_LEN + TAG_LEN;
/// The header without the tag.
pub(super) const FIELDS_LEN: usize = START_LEN + 2 + 8 + 8;
/// What the tag covers besides the text.
pub(super) const COVERED_LEN: usize = ADDRESSES_LEN + FIELDS_LEN;
/// Frames under one sender's key. AES-GCM's advantage to an attacker grows with the square of the blocks: with frames of
/// 2048 bytes it stays below 2^-49 (RFC 8446 §5.5 reasons likewise). Then the sender takes another name.
const FRAMES_MAX: u64 = 1 << 32;

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) start: Start,
    pub(super) key_id: u16,
    pub(super) sender: u64,
    pub(super) counter: u64,
}

impl Fields {
    pub(super) fn bytes(self) -> [u8; FIELDS_LEN] {
        let mut bytes = [0; FIELDS_LEN];
        bytes[..START_LEN].copy_from_slice(&self.start.bytes());
        bytes[6..8].copy_from_slice(&self.key_id.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sender.to_be_bytes());
        bytes[16..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    /// Reads what follows the start.
    pub(super) fn read(start: Start, bytes: &[u8; FIELDS_LEN]) -> Self {
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_be_bytes(*word));
        Self { start, key_id: u16::from_be_bytes([bytes[6], bytes[7]]), sender: word(8), counter: word(16) }
    }
}

/// What the tag covers: addresses and fields, in one piece.
pub(super) fn covered(addresses: &[u8; ADDRESSES_LEN], fields: &[u8; FIELDS_LEN]) -> [u8; COVERED_LEN] {
    let mut covered = [0; COVERED_LEN];
    covered[..ADDRESSES_LEN].copy_from_slice(addresses);
    covered[ADDRESSES_LEN..].copy_from_slice(fields);
    covered
}

/// Names for senders that nobody has used or will use: a hash of 256 random bits and a count.
pub(crate) struct Names {
    seed: [u8; 32],
    given: u64,
}

impl Names {
    /// Asks the kernel for the random bits.
    pub(crate) fn draw() -> std::io::Result<Self> {
        let mut seed = [0; 32];
        // Up to 256 bytes come whole once the kernel has seeded itself: getrandom(2).
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self { seed, given: 0 })
    }

    fn next(&mut self) -> u64 {
        self.given += 1;
        let hash = Sha256::new().chain_update(self.seed).chain_update(self.given.to_be_bytes()).finalize();
        hash.first_chunk().map_or(0, |word| u64::from_be_bytes(*word))
    }
}

/// A sender: seals frames, each under a nonce of its own. It cannot be copied, and whoever takes it over goes on counting
/// where it stood, so no nonce is used twice.
pub(crate) struct Sealer {
    key: Key,
    names: Names,
    cipher: Cipher,
    sender: u64,
    counter: u64,
}

impl Sealer {
    pub(crate) fn new(key: Key, algorithm: Algorithm, mut names: Names) -> Self {
        let sender = names.next();
        Self { cipher: key.cipher(algorithm, sender), key, names, sender, counter: 0 }
    }

    /// Whether it seals under this one's key, by the same algorithm.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.key.is(&other.key) && self.cipher.algorithm() == other.cipher.algorithm()
    }

    /// Seals a frame whose header of [`HEADER_LEN`] bytes is still to be written at `at`. False, with the frame's content
    /// unspecified, if it is no frame of that kind.
    pub(crate) fn seal(&mut self, frame: &mut Frame, at: usize, start: Start, scratch: &mut Scratch) -> bool {
        if self.counter == FRAMES_MAX {
            self.sender = self.names.next();
            self.cipher = self.key.cipher(self.cipher.algorithm(), self.sender);
            self.counter = 0;
        }
        self.counter += 1;
        let start = Start { form: self.cipher.algorithm() as u8, ..start };
        let Self { key, sender, counter, cipher, .. } = self;
        let fields = Fields { start, key_id: key.id(), sender: *sender, counter: *counter }.bytes();
        let Some(addresses) = frame.bytes().first_chunk() else { return false };
        let covered = covered(addresses, &fields);
        let sealed = scratch.with_rest(frame, at + HEADER_LEN, |text| cipher.seal(*counter, &covered, text));
        let header = frame.bytes_mut().get_mut(at..).and_then(|rest| rest.first_chunk_mut::<HEADER_LEN>());
        let (Some(tag), Some(header)) = (sealed, header) else { return false };
        header[..FIELDS_LEN].copy_from_slice(&fields);
        header[FIELDS_LEN..].copy_from_slice(&tag);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::wrap::{ENCRYPTED, open_gap};
    use crate::frame::{Pool, Region, RegionConfig};

    const START: Start = Start { ethertype: ENCRYPTED, form: 0, flow_bits: 0xabcd };

    fn names() -> Names {
        Names { seed: [5; 32], given: 0 }
    }

    fn key() -> Key {
        Key::new(&std::array::from_fn(|n| n as u8), "a session")
    }

    fn seal(sealer: &mut Sealer, packet: &[u8]) -> Vec<u8> {
        let config = RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() };
        let mut pool = Pool::new(Region::in_process(config).unwrap());
        let mut frame = pool.allocate_copy(packet).unwrap();
        open_gap(&mut frame, 12, HEADER_LEN).unwrap();
        assert!(sealer.seal(&mut frame, 12, START, &mut Scratch::default()));
        let bytes = frame.segments().flatten().copied().collect();
        pool.release(frame);
        bytes
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Frames of both ciphers as `tests/vectors/sealed.py` makes them from the description above: other programs, and other
    /// versions of this one, must read and write the same.
    #[test]
    fn sealed_frames_are_those_of_another_implementation() {
        let packet = [&[0x11; 6][..], &[0x22; 6], &[0x08, 0x00], b"what the frame carries"].concat();
        for (algorithm, expected) in [
            (Algorithm::ChaCha20Poly1305, include_str!("../../../tests/vectors/sealed-chacha20-poly1305.hex")),
            (Algorithm::Aes256Gcm, include_str!("../../../tests/vectors/sealed-aes-256-gcm.hex")),
        ] {
            let mut sealer = Sealer::new(key(), algorithm, names());
            sealer.sender = 0x0123_4567_89ab_cdef;
            sealer.cipher = sealer.key.cipher(algorithm, sealer.sender);
            sealer.counter = 0x1_0000_0000 - 1;
            assert_eq!(hex(&seal(&mut sealer, &packet)), expected.trim_end(), "{algorithm:?}");
        }
    }

    #[test]
    fn counters_and_senders_never_repeat() {
        let mut sealer = Sealer::new(key(), Algorithm::ChaCha20Poly1305, names());
        let packet = [7; 60];
        let nonce = |frame: &[u8]| frame[20..36].to_vec();
        let mut nonces = vec![nonce(&seal(&mut sealer, &packet)), nonce(&seal(&mut sealer, &packet))];
        sealer.counter = FRAMES_MAX - 1;
        nonces.extend((0..3).map(|_| nonce(&seal(&mut sealer, &packet))));
        assert_eq!(nonces[2][8..], FRAMES_MAX.to_be_bytes());
        assert_eq!(nonces[3][8..], 1u64.to_be_bytes());
        assert_ne!(nonces[3][..8], nonces[2][..8], "a new name with the counter's start");
        let count = nonces.len();
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), count);
    }

    #[test]
    fn names_differ_between_draws_and_within_one() {
        let mut names: Vec<u64> = (0..4)
            .flat_map(|_| {
                let mut drawn = Names::draw().unwrap();
                (0..4).map(move |_| drawn.next())
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 16);
    }
}
