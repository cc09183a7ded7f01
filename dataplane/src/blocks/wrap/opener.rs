//! All senders of encrypted frames under one key, each with its window against replays.
//!
//! A sender is let in by its first genuine frame; forged ones cost time but no memory. When [`SENDERS_MAX`] are known, the
//! one not heard of for longest makes room. Its name is remembered, so that its frames, recorded, never pass again; when
//! [`RETIRED_MAX`] are remembered no new sender is let in until the key or the session changes.

use super::cipher::{Algorithm, Cipher, Key, TAG_LEN};
use super::replay::Window;
use super::sealer::{FIELDS_LEN, Fields, HEADER_LEN, covered};
use super::{Found, Scratch, close_gap};
use crate::frame::Frame;
use crate::ledger::DropReason;

/// Senders known at a time: twice as many as a process can have workers.
const SENDERS_MAX: usize = 256;
/// Names of senders that had to make room: 32 KiB.
const RETIRED_MAX: usize = 4096;

struct Sender {
    name: u64,
    cipher: Cipher,
    window: Window,
    /// When its last frame was opened, in frames.
    heard: u64,
}

/// Opens frames sealed under one key.
pub(crate) struct Opener {
    key: Key,
    senders: Vec<Sender>,
    /// Place of the sender heard last.
    last: usize,
    retired: Vec<u64>,
    opened: u64,
}

/// How many senders there are and were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Population {
    pub(crate) known: usize,
    pub(crate) retired: usize,
}

impl Opener {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            senders: Vec::with_capacity(SENDERS_MAX),
            last: 0,
            retired: Vec::with_capacity(RETIRED_MAX),
            opened: 0,
        }
    }

    /// Whether this is the key that the frame names.
    pub(crate) fn has_key(&self, key_id: u16) -> bool {
        self.key.id() == key_id
    }

    /// Whether it opens frames under this one's key.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.key.is(&other.key)
    }

    pub(crate) fn population(&self) -> Population {
        Population { known: self.senders.len(), retired: self.retired.len() }
    }

    /// Checks and opens a frame, and takes the header off. Refused, the frame is as it was.
    pub(crate) fn open(&mut self, frame: &mut Frame, sealed: &Sealed, scratch: &mut Scratch) -> Result<(), DropReason> {
        let Fields { sender, counter, .. } = sealed.fields;
        match self.find(sender, sealed.algorithm) {
            Some(at) => {
                self.senders[at].window.check(counter)?;
                unseal(&self.senders[at].cipher, frame, sealed, scratch)?;
                self.note(at, counter);
            }
            None => {
                self.may_enter(sender)?;
                let cipher = self.key.cipher(sealed.algorithm, sender);
                unseal(&cipher, frame, sealed, scratch)?;
                let at = self.enter(sender, cipher);
                self.note(at, counter);
            }
        }
        close_gap(frame, sealed.found.at, HEADER_LEN);
        Ok(())
    }

    fn find(&self, name: u64, algorithm: Algorithm) -> Option<usize> {
        let is = |sender: &Sender| sender.name == name && sender.cipher.algorithm() == algorithm;
        if self.senders.get(self.last).is_some_and(is) {
            return Some(self.last);
        }
        self.senders.iter().position(is)
    }

    fn note(&mut self, at: usize, counter: u64) {
        self.opened += 1;
        self.last = at;
        self.senders[at].heard = self.opened;
        self.senders[at].window.mark(counter);
    }

    #[cold]
    fn may_enter(&self, name: u64) -> Result<(), DropReason> {
        if self.retired.contains(&name) {
            return Err(DropReason::DecryptReplayed);
        }
        let full = self.senders.len() == SENDERS_MAX && self.retired.len() == RETIRED_MAX;
        if full { Err(DropReason::DecryptSendersFull) } else { Ok(()) }
    }

    #[cold]
    fn enter(&mut self, name: u64, cipher: Cipher) -> usize {
        let sender = Sender { name, cipher, window: Window::default(), heard: 0 };
        if self.senders.len() < SENDERS_MAX {
            self.senders.push(sender);
            return self.senders.len() - 1;
        }
        let longest = self.senders.iter().enumerate().min_by_key(|(_, sender)| sender.heard).map_or(0, |(at, _)| at);
        let gone = std::mem::replace(&mut self.senders[longest], sender);
        self.retired.push(gone.name);
        longest
    }
}

/// A frame that looks sealed.
pub(crate) struct Sealed {
    found: Found,
    pub(super) fields: Fields,
    algorithm: Algorithm,
    tag: [u8; TAG_LEN],
}

impl Sealed {
    /// Reads the header of a frame in which one was found.
    pub(crate) fn read(frame: &Frame, found: Found) -> Result<Self, DropReason> {
        let header = frame.bytes().get(found.at..).and_then(|rest| rest.first_chunk::<HEADER_LEN>());
        let header = header.ok_or(DropReason::EncapsulationTruncated)?;
        let (Some(fields), Some(tag)) = (header.first_chunk::<FIELDS_LEN>(), header.last_chunk::<TAG_LEN>()) else {
            return Err(DropReason::EncapsulationTruncated);
        };
        let algorithm = Algorithm::from_form(found.start.form).ok_or(DropReason::EncapsulationVersion)?;
        Ok(Self { found, fields: Fields::read(found.start, fields), algorithm, tag: *tag })
    }
}

/// Decrypts what follows the header, if it is genuine.
fn unseal(cipher: &Cipher, frame: &mut Frame, sealed: &Sealed, scratch: &mut Scratch) -> Result<(), DropReason> {
    let addresses = frame.bytes().first_chunk().ok_or(DropReason::BadEthernet)?;
    let covered = covered(addresses, &sealed.fields.bytes());
    let offset = sealed.found.at + HEADER_LEN;
    let opened =
        scratch.with_rest(frame, offset, |text| cipher.open(sealed.fields.counter, &covered, text, &sealed.tag));
    opened.map_err(|_| DropReason::DecryptTampered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::wrap::sealer::{Names, Sealer};
    use crate::blocks::wrap::{ENCRYPTED, Start, find, open_gap};
    use crate::frame::{Pool, Region, RegionConfig};

    fn key() -> Key {
        Key::new(&[1; 32], "")
    }

    fn pool() -> Pool {
        let config = RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() };
        Pool::new(Region::in_process(config).unwrap())
    }

    fn sealer() -> Sealer {
        Sealer::new(key(), Algorithm::ChaCha20Poly1305, Names::draw().unwrap())
    }

    fn sealed_by(sealer: &mut Sealer, pool: &mut Pool) -> Vec<u8> {
        let mut frame = pool.allocate_copy(&[9; 80]).unwrap();
        open_gap(&mut frame, 12, HEADER_LEN).unwrap();
        let start = Start { ethertype: ENCRYPTED, form: 0, flow_bits: 0 };
        assert!(sealer.seal(&mut frame, 12, start, &mut Scratch::default()));
        let bytes = frame.bytes().to_vec();
        pool.release(frame);
        bytes
    }

    fn open(opener: &mut Opener, pool: &mut Pool, bytes: &[u8]) -> Result<(), DropReason> {
        let mut frame = pool.allocate_copy(bytes).unwrap();
        let found = find(&frame, ENCRYPTED, HEADER_LEN).unwrap().unwrap();
        let sealed = Sealed::read(&frame, found).unwrap();
        let outcome = opener.open(&mut frame, &sealed, &mut Scratch::default());
        let expected: &[u8] = if outcome.is_ok() { &[9; 80] } else { bytes };
        assert_eq!(frame.bytes(), expected, "opened whole, or left alone");
        pool.release(frame);
        outcome
    }

    #[test]
    fn senders_beyond_the_bound_make_the_quietest_one_leave_for_good() {
        let (mut opener, mut pool) = (Opener::new(key()), pool());
        let mut first = sealer();
        let recorded = sealed_by(&mut first, &mut pool);
        let kept = sealed_by(&mut first, &mut pool);
        assert_eq!(open(&mut opener, &mut pool, &recorded), Ok(()));
        for _ in 1..SENDERS_MAX {
            let frame = sealed_by(&mut sealer(), &mut pool);
            assert_eq!(open(&mut opener, &mut pool, &frame), Ok(()));
        }
        assert_eq!(opener.population(), Population { known: SENDERS_MAX, retired: 0 });
        assert_eq!(open(&mut opener, &mut pool, &recorded), Err(DropReason::DecryptReplayed), "known, by its window");
        let frame = sealed_by(&mut sealer(), &mut pool);
        assert_eq!(open(&mut opener, &mut pool, &frame), Ok(()));
        assert_eq!(opener.population(), Population { known: SENDERS_MAX, retired: 1 });
        for frame in [recorded, kept] {
            assert_eq!(open(&mut opener, &mut pool, &frame), Err(DropReason::DecryptReplayed), "gone, by its name");
        }
        opener.retired.resize(RETIRED_MAX, 0);
        let frame = sealed_by(&mut sealer(), &mut pool);
        assert_eq!(open(&mut opener, &mut pool, &frame), Err(DropReason::DecryptSendersFull));
    }

    #[test]
    fn forged_frames_let_nobody_in() {
        let (mut opener, mut pool) = (Opener::new(key()), pool());
        for at in 0..500u32 {
            let mut frame = sealed_by(&mut sealer(), &mut pool);
            let last = frame.len() - 1;
            frame[last - at as usize % 60] ^= 1;
            assert_eq!(open(&mut opener, &mut pool, &frame), Err(DropReason::DecryptTampered));
        }
        assert_eq!(opener.population(), Population { known: 0, retired: 0 });
    }
}
