//! `decrypt`: opens what `encrypt` with the same key has sealed, and drops what was changed or repeated on the way.
//!
//! In: Ethernet. Out: `out`, opened, in the same order; plain frames too, unless `plain=drop`. While the block is in a
//! graph, the steering programs send sealed frames to the workers.
//!
//! A frame that is not as its sender sealed it is dropped by name: wrong key, tampered, replayed, too old. When the key
//! changes, the one before is good for `overlap_ms` more, for frames on their way: change it here first, then at `encrypt`.
//! Replays are noticed from the moment that the block is there. What was recorded before it, under the same key and
//! session, it cannot tell from new; a new `session` for each insertion shuts that out.

use std::any::Any;

use crate::block::{
    Arguments, Block, BuildError, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin, Services,
    State, Value, ValueKind,
};
use crate::blocks::wrap::ENCRYPTED;
use crate::blocks::wrap::cipher::{KEY_FILE, Key, SESSION};
use crate::blocks::wrap::inlet::{self, Inlet, PLAIN};
use crate::blocks::wrap::keyring::{Change, Keyring, Opened};
use crate::blocks::wrap::opener::{Opener, Population, Sealed};
use crate::blocks::wrap::sealer::HEADER_LEN;
use crate::blocks::wrap::{SCRATCH_LEN, Scratch};
use crate::frame::{Batch, Frame};
use crate::ledger::DropReason;

const OVERLAP: Parameter = Parameter {
    key: "overlap_ms",
    kind: ValueKind::Integer { min: 0, max: 3_600_000 },
    default: Some("10000"),
    doc: "how long the key before is still good after a change, in milliseconds",
};

pub(crate) const KIND: Kind = Kind {
    name: "decrypt",
    summary: "open frames of an encrypt block, drop changed and repeated ones",
    input: PacketType::Ethernet,
    outputs: &[Pin { name: "out", carries: PacketType::Ethernet }],
    parameters: &[KEY_FILE, SESSION, PLAIN, OVERLAP],
    state: Some("decrypt"),
    prepare: |key, arguments| match key {
        "key_file" | "session" => Ok(Some(Box::new(Change::to(opener(arguments)?)))),
        "plain" => inlet::parse_plain(arguments.text(key)).map(|_| None),
        _ => Ok(None),
    },
    build: |arguments, services| Ok(Box::new(Decrypt::new(arguments, services)?)),
    ..Kind::PLAIN
};

const OUT: usize = 0;
const NS_PER_MS: u64 = 1_000_000;

/// What became of frames, and of those that were not opened, why.
#[derive(Clone, Copy, Default)]
struct Counted {
    opened: u64,
    previous_key: u64,
    plain: u64,
    wrong_key: u64,
    tampered: u64,
    replayed: u64,
    too_old: u64,
    refused: u64,
}

impl Counted {
    fn refuse(&mut self, reason: DropReason) {
        match reason {
            DropReason::DecryptWrongKey => self.wrong_key += 1,
            DropReason::DecryptTampered => self.tampered += 1,
            DropReason::DecryptReplayed => self.replayed += 1,
            DropReason::DecryptTooOld => self.too_old += 1,
            _ => self.refused += 1,
        }
    }
}

/// What a successor takes over.
struct Carried {
    ring: Keyring,
    counted: Counted,
}

struct Decrypt {
    inlet: Inlet,
    overlap_ns: u64,
    scratch: Scratch,
    carried: Carried,
}

impl Decrypt {
    fn new(arguments: &Arguments, services: &Services) -> Result<Self, BuildError> {
        let ring = Keyring::new(opener(arguments)?);
        Ok(Self {
            inlet: Inlet::new(ENCRYPTED, HEADER_LEN, arguments, services)?,
            overlap_ns: overlap_ns(arguments.integer(OVERLAP.key)),
            scratch: Scratch::with_capacity(SCRATCH_LEN),
            carried: Carried { ring, counted: Counted::default() },
        })
    }

    fn open(&mut self, frame: &mut Frame, now_ns: u64) -> Result<(), DropReason> {
        let Self { inlet, overlap_ns, scratch, carried: Carried { ring, counted } } = self;
        let Some(found) = inlet.find(frame)? else {
            counted.plain += 1;
            return Ok(());
        };
        let sealed = Sealed::read(frame, found)?;
        let opened = ring.open(frame, &sealed, scratch, now_ns, *overlap_ns)?;
        counted.opened += 1;
        counted.previous_key += u64::from(opened == Opened::Previous);
        Ok(())
    }
}

/// For the key that the parameters describe, with no sender known.
fn opener(arguments: &Arguments) -> Result<Opener, ParameterError> {
    Key::read(arguments.text(KEY_FILE.key), arguments.text(SESSION.key)).map(Opener::new)
}

fn overlap_ns(overlap_ms: i64) -> u64 {
    overlap_ms as u64 * NS_PER_MS
}

impl Block for Decrypt {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        for mut frame in batch.drain() {
            match self.open(&mut frame, context.now_ns) {
                Ok(()) => context.emit(OUT, frame),
                Err(reason) => {
                    self.carried.counted.refuse(reason);
                    context.discard(frame, reason);
                }
            }
        }
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match (key, value) {
            ("plain", Value::Text(text)) => self.inlet.set_plain(text),
            ("overlap_ms", Value::Integer(overlap_ms)) => {
                self.overlap_ns = overlap_ns(*overlap_ms);
                Ok(())
            }
            _ => Err(ParameterError::Fixed { key: key.to_owned() }),
        }
    }

    fn set_prepared(&mut self, key: &str, prepared: &mut (dyn Any + Send)) -> Result<(), ParameterError> {
        match prepared.downcast_mut::<Change>() {
            Some(change) => change.perform(&mut self.carried.ring),
            None => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Counted { opened, previous_key, plain, wrong_key, tampered, replayed, too_old, refused } =
            self.carried.counted;
        report("opened", opened);
        report("previous_key", previous_key);
        report("plain", plain);
        report("wrong_key", wrong_key);
        report("tampered", tampered);
        report("replayed", replayed);
        report("too_old", too_old);
        report("refused", refused);
        let Population { known, retired } = self.carried.ring.population();
        report("senders", known as u64);
        report("senders_retired", retired as u64);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.carried))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        let carried: &mut Carried = state.content(KIND.name)?;
        if !self.carried.ring.is_like(&carried.ring) {
            return Err(ImportError::Unfit(
                "another key or session; `set` changes it and keeps the last one for a while",
            ));
        }
        std::mem::swap(&mut self.carried, carried);
        Ok(())
    }
}
