//! The key that is good, and the one before it, which stays good for frames on their way.

use super::Scratch;
use super::opener::{Opener, Population, Sealed};
use crate::frame::Frame;
use crate::ledger::DropReason;

/// Which of the keys a frame was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    Current,
    Previous,
}

pub(crate) struct Keyring {
    current: Opener,
    /// Kept after its time, so that a change that is taken back finds the windows where they were.
    previous: Option<Opener>,
    /// When the first frame after a change came.
    changed_ns: Option<u64>,
}

impl Keyring {
    pub(crate) fn new(opener: Opener) -> Self {
        Self { current: opener, previous: None, changed_ns: None }
    }

    /// Opens a frame with the key that it names, the one before for `overlap_ns` after a change.
    pub(crate) fn open(
        &mut self,
        frame: &mut Frame,
        sealed: &Sealed,
        scratch: &mut Scratch,
        now_ns: u64,
        overlap_ns: u64,
    ) -> Result<Opened, DropReason> {
        let mut outcome = Err(DropReason::DecryptWrongKey);
        if self.current.has_key(sealed.fields.key_id) {
            outcome = self.current.open(frame, sealed, scratch).map(|()| Opened::Current);
        }
        let Some(previous) = &mut self.previous else { return outcome };
        let since_ns = *self.changed_ns.get_or_insert(now_ns);
        // Two keys in 65,536 have the same number on the wire.
        let another = matches!(outcome, Err(DropReason::DecryptWrongKey | DropReason::DecryptTampered));
        if another && previous.has_key(sealed.fields.key_id) && now_ns.saturating_sub(since_ns) <= overlap_ns {
            outcome = previous.open(frame, sealed, scratch).map(|()| Opened::Previous);
        }
        outcome
    }

    /// Whether it is for frames under the same key as the other.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.current.is_like(&other.current)
    }

    pub(crate) fn population(&self) -> Population {
        self.current.population()
    }
}

/// A change of the key, ready to be made and taken back; nothing is allocated or freed for either.
pub(crate) struct Change {
    /// The opener that is not in the ring: the new one, or the one before the last.
    spare: Option<Opener>,
    made: Option<Made>,
}

/// How a change was made.
enum Made {
    /// The key is the one there was.
    Nothing,
    /// The key was the one before.
    Exchanged,
    Rotated,
}

impl Change {
    pub(crate) fn to(opener: Opener) -> Self {
        Self { spare: Some(opener), made: None }
    }

    /// Makes the change, or takes it back if it has been made. Windows of keys that are known are kept.
    pub(crate) fn perform(&mut self, ring: &mut Keyring) {
        self.made = match self.made.take() {
            None => Some(self.make(ring)),
            Some(made) => {
                self.take_back(made, ring);
                None
            }
        };
        ring.changed_ns = None;
    }

    fn make(&mut self, ring: &mut Keyring) -> Made {
        let Some(new) = self.spare.take_if(|new| !new.is_like(&ring.current)) else { return Made::Nothing };
        if let Some(previous) = ring.previous.as_mut().filter(|previous| previous.is_like(&new)) {
            std::mem::swap(&mut ring.current, previous);
            self.spare = Some(new);
            return Made::Exchanged;
        }
        self.spare = ring.previous.take();
        ring.previous = Some(std::mem::replace(&mut ring.current, new));
        Made::Rotated
    }

    fn take_back(&mut self, made: Made, ring: &mut Keyring) {
        match (made, &mut ring.previous) {
            (Made::Exchanged, Some(previous)) => std::mem::swap(&mut ring.current, previous),
            (Made::Rotated, Some(previous)) => {
                std::mem::swap(&mut ring.current, previous);
                // Now the new one is the previous one, and changes places with the one before the last.
                std::mem::swap(&mut ring.previous, &mut self.spare);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::wrap::cipher::{Algorithm, Key};
    use crate::blocks::wrap::sealer::{HEADER_LEN, Names, Sealer};
    use crate::blocks::wrap::{ENCRYPTED, Start, find, open_gap};
    use crate::frame::{Pool, Region, RegionConfig};

    const OVERLAP_NS: u64 = 1000;

    /// A sender and a receiver whose keys are called by a letter.
    struct Rig {
        pool: Pool,
        ring: Keyring,
        now_ns: u64,
    }

    fn key(name: u8) -> Key {
        Key::new(&[name; 32], "")
    }

    fn change(name: u8) -> Change {
        Change::to(Opener::new(key(name)))
    }

    fn sealer(name: u8) -> Sealer {
        Sealer::new(key(name), Algorithm::ChaCha20Poly1305, Names::draw().unwrap())
    }

    impl Rig {
        fn new(name: u8) -> Self {
            let config = RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() };
            let pool = Pool::new(Region::in_process(config).unwrap());
            Self { pool, ring: Keyring::new(Opener::new(key(name))), now_ns: 0 }
        }

        fn sealed(&mut self, by: &mut Sealer) -> Vec<u8> {
            let mut frame = self.pool.allocate_copy(&[9; 80]).unwrap();
            open_gap(&mut frame, 12, HEADER_LEN).unwrap();
            let start = Start { ethertype: ENCRYPTED, form: 0, flow_bits: 0 };
            assert!(by.seal(&mut frame, 12, start, &mut Scratch::default()));
            let bytes = frame.bytes().to_vec();
            self.pool.release(frame);
            bytes
        }

        fn open(&mut self, bytes: &[u8]) -> Result<Opened, DropReason> {
            let mut frame = self.pool.allocate_copy(bytes).unwrap();
            let found = find(&frame, ENCRYPTED, HEADER_LEN).unwrap().unwrap();
            let sealed = Sealed::read(&frame, found).unwrap();
            let outcome = self.ring.open(&mut frame, &sealed, &mut Scratch::default(), self.now_ns, OVERLAP_NS);
            self.pool.release(frame);
            outcome
        }
    }

    #[test]
    fn the_key_before_is_good_for_the_overlap_from_the_first_frame_on() {
        let mut rig = Rig::new(b'a');
        let (mut a, mut b) = (sealer(b'a'), sealer(b'b'));
        let frames: Vec<_> = (0..4).map(|_| rig.sealed(&mut a)).collect();
        assert_eq!(rig.open(&frames[0]), Ok(Opened::Current));
        change(b'b').perform(&mut rig.ring);
        rig.now_ns = 50_000;
        assert_eq!(rig.open(&frames[1]), Ok(Opened::Previous));
        assert_eq!(rig.open(&frames[1]), Err(DropReason::DecryptReplayed), "with its window");
        let new = rig.sealed(&mut b);
        assert_eq!(rig.open(&new), Ok(Opened::Current));
        rig.now_ns += OVERLAP_NS;
        assert_eq!(rig.open(&frames[2]), Ok(Opened::Previous));
        rig.now_ns += 1;
        assert_eq!(rig.open(&frames[3]), Err(DropReason::DecryptWrongKey));
    }

    #[test]
    fn a_change_that_is_taken_back_leaves_every_window_as_it_was() {
        let mut rig = Rig::new(b'a');
        let mut senders = [b'a', b'b', b'c'].map(sealer);
        let frames = [0, 1, 2].map(|at| rig.sealed(&mut senders[at]));
        let late = rig.sealed(&mut senders[0]);
        assert_eq!(rig.open(&frames[0]), Ok(Opened::Current));
        change(b'b').perform(&mut rig.ring);
        assert_eq!(rig.open(&frames[1]), Ok(Opened::Current));
        let mut third = change(b'c');
        for _ in 0..3 {
            third.perform(&mut rig.ring);
            assert!(rig.ring.current.is_like(&Opener::new(key(b'c'))));
            assert_eq!(rig.open(&frames[0]), Err(DropReason::DecryptWrongKey), "the one before the last");
            third.perform(&mut rig.ring);
            assert_eq!(rig.open(&frames[1]), Err(DropReason::DecryptReplayed));
            assert_eq!(rig.open(&frames[0]), Err(DropReason::DecryptReplayed));
            assert_eq!(rig.open(&frames[2]), Err(DropReason::DecryptWrongKey));
        }
        assert_eq!(rig.open(&late), Ok(Opened::Previous));
    }

    #[test]
    fn going_back_to_a_key_that_is_known_keeps_its_window() {
        let mut rig = Rig::new(b'a');
        let mut sender = sealer(b'a');
        let seen = rig.sealed(&mut sender);
        assert_eq!(rig.open(&seen), Ok(Opened::Current));
        for name in [b'a', b'b', b'a', b'a'] {
            let mut there = change(name);
            there.perform(&mut rig.ring);
            assert_eq!(rig.open(&seen), Err(DropReason::DecryptReplayed), "{}", char::from(name));
            there.perform(&mut rig.ring);
            assert_eq!(rig.open(&seen), Err(DropReason::DecryptReplayed));
            there.perform(&mut rig.ring);
        }
    }
}
