//! `decompress`: restores what `compress` has made smaller.
//!
//! In: Ethernet. Out: `out`, restored, in the same order; plain frames too, unless `plain=drop`. While the block is in a
//! graph, the steering programs send compressed frames to the workers. No frame comes out larger than `frame_max`, however
//! small it came in; the header's format is drawn in `compress.rs`.

use lz4_flex::block::decompress_into;

use crate::block::{
    self, Arguments, Block, BuildError, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin,
    Services, State, Value, ValueKind,
};
use crate::blocks::compress::{Form, HEADER_LEN};
use crate::blocks::header::be16;
use crate::blocks::wrap::inlet::{self, Inlet, PLAIN};
use crate::blocks::wrap::{COMPRESSED, Found, SCRATCH_LEN, START_LEN, Scratch, close_gap};
use crate::frame::{Batch, Frame, Pool};
use crate::ledger::DropReason;

const FRAME_MAX: Parameter = Parameter {
    key: "frame_max",
    kind: ValueKind::Integer { min: 64, max: 65_535 },
    default: Some("9238"),
    doc: "largest frame that comes out, in bytes with its Ethernet header",
};

pub(crate) const KIND: Kind = Kind {
    name: "decompress",
    summary: "restore frames of a compress block",
    input: PacketType::Ethernet,
    outputs: &[Pin { name: "out", carries: PacketType::Ethernet }],
    parameters: &[PLAIN, FRAME_MAX],
    state: Some("decompress"),
    prepare: |key, arguments| match key {
        "plain" => inlet::parse_plain(arguments.text(key)).map(|_| None),
        "frame_max" => Ok(None),
        _ => block::fixed(key, arguments),
    },
    build: |arguments, services| Ok(Box::new(Decompress::new(arguments, services)?)),
    ..Kind::PLAIN
};

const OUT: usize = 0;
/// The least that a frame carries: its EtherType.
const CONTENT_MIN: usize = 2;

#[derive(Clone, Copy, Default)]
struct Counted {
    decompressed: u64,
    stored: u64,
    plain: u64,
    corrupt: u64,
    refused: u64,
}

struct Decompress {
    inlet: Inlet,
    frame_max: usize,
    compressed: Scratch,
    whole: Scratch,
    counted: Counted,
}

/// The header's lengths: of the content, and of what is there in its place.
struct Lengths {
    content: usize,
    here: usize,
}

impl Decompress {
    fn new(arguments: &Arguments, services: &Services) -> Result<Self, BuildError> {
        Ok(Self {
            inlet: Inlet::new(COMPRESSED, HEADER_LEN, arguments, services)?,
            frame_max: arguments.integer(FRAME_MAX.key) as usize,
            compressed: Scratch::with_capacity(SCRATCH_LEN),
            whole: Scratch::with_capacity(SCRATCH_LEN),
            counted: Counted::default(),
        })
    }

    fn restore(&mut self, frame: &mut Frame, pool: &mut Pool) -> Result<(), DropReason> {
        let Some(found) = self.inlet.find(frame)? else {
            self.counted.plain += 1;
            return Ok(());
        };
        let lengths = lengths(frame, &found)?;
        // What is behind it is padding.
        frame.truncate(found.at + HEADER_LEN + lengths.here);
        if found.at + lengths.content > self.frame_max {
            return Err(DropReason::DecompressTooBig);
        }
        if found.start.form == Form::Stored as u8 && lengths.here == lengths.content {
            close_gap(frame, found.at, HEADER_LEN);
            self.counted.stored += 1;
        } else if found.start.form == Form::Lz4 as u8 {
            self.decompress(frame, found.at, lengths.content, pool)?;
            self.counted.decompressed += 1;
        } else if found.start.form == Form::Stored as u8 {
            return Err(DropReason::DecompressCorrupt);
        } else {
            return Err(DropReason::EncapsulationVersion);
        }
        Ok(())
    }

    /// Puts the frame together in `whole`, and then back into its chunk, or into new ones if it does not fit there.
    fn decompress(
        &mut self,
        frame: &mut Frame,
        at: usize,
        content_len: usize,
        pool: &mut Pool,
    ) -> Result<(), DropReason> {
        let Self { compressed, whole, .. } = self;
        let whole = whole.bytes(at + content_len);
        let (addresses, content) = whole.split_at_mut(at);
        frame.read_at(0, addresses);
        let written = compressed.with_rest(frame, at + HEADER_LEN, |bytes| decompress_into(bytes, content));
        if !written.is_ok_and(|len| len == content_len) {
            return Err(DropReason::DecompressCorrupt);
        }
        if !frame.is_chained() && frame.set_len(whole.len()).is_ok() {
            frame.bytes_mut().copy_from_slice(whole);
        } else {
            let mut larger = pool.allocate_copy(whole).ok_or(DropReason::NoFrame)?;
            larger.set_port(frame.port());
            std::mem::swap(frame, &mut larger);
            pool.release(larger);
        }
        frame.set_l3_offset(0);
        Ok(())
    }
}

fn lengths(frame: &Frame, found: &Found) -> Result<Lengths, DropReason> {
    let length = |at: usize| be16(frame.bytes(), found.at + at).map(usize::from);
    let (Some(content), Some(here)) = (length(START_LEN), length(START_LEN + 2)) else {
        return Err(DropReason::EncapsulationTruncated);
    };
    if found.at + HEADER_LEN + here > frame.total_len() {
        return Err(DropReason::EncapsulationTruncated);
    }
    if content < CONTENT_MIN { Err(DropReason::DecompressCorrupt) } else { Ok(Lengths { content, here }) }
}

impl Block for Decompress {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        for mut frame in batch.drain() {
            match self.restore(&mut frame, context.pool) {
                Ok(()) => context.emit(OUT, frame),
                Err(reason) => {
                    let corrupt = reason == DropReason::DecompressCorrupt;
                    *if corrupt { &mut self.counted.corrupt } else { &mut self.counted.refused } += 1;
                    context.discard(frame, reason);
                }
            }
        }
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match (key, value) {
            ("plain", Value::Text(text)) => self.inlet.set_plain(text)?,
            ("frame_max", Value::Integer(frame_max)) => self.frame_max = *frame_max as usize,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Counted { decompressed, stored, plain, corrupt, refused } = self.counted;
        report("decompressed", decompressed);
        report("stored", stored);
        report("plain", plain);
        report("corrupt", corrupt);
        report("refused", refused);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.counted))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, &mut self.counted)
    }
}
