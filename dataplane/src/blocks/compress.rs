//! `compress`: makes frames smaller, for `decompress` at the other end.
//!
//! In: Ethernet. Out: `out`, in the same order; frames for other ports than `port` as they are. Each frame by itself, by
//! LZ4's block format: at the speed of a link, memory is what there is least of, and no frame may need one that was lost.
//! (zstd makes frames a tenth smaller, at several times the cost; `lz4_flex` has no unsafe code as used here.)
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+---------------+-------+-------+
//! |       EtherType 0x88B6        | subtype 0x77  | ver 1 | form  |   form 0: as it was, 1: an LZ4 block
//! +-------------------------------+---------------+-------+-------+
//! |           flow bits           |      length when opened       |
//! +-------------------------------+-------------------------------+
//! |        length here            |  EtherType and all that followed it in the frame ...
//! +-------------------------------+
//! ```
//!
//! Lengths count bytes behind this header, so that padding of short frames on the wire does no harm. A frame that does not
//! get smaller goes as it was behind the header, 10 bytes longer; the forwarder leaves room for those.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::block::{
    self, Arguments, Block, BuildError, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin,
    Services, State, Value, ValueKind,
};
use crate::blocks::wrap::outlet::{FLOW_KEY, Outlet, PORT};
use crate::blocks::wrap::{COMPRESSED, SCRATCH_LEN, START_LEN, Scratch, Start, ethertype_at, open_gap};
use crate::frame::{Batch, Frame};
use crate::ledger::DropReason;

const LEAST: Parameter = Parameter {
    key: "least_bytes",
    kind: ValueKind::Integer { min: 1, max: 65_535 },
    default: Some("128"),
    doc: "frames with fewer bytes behind their addresses are not worth trying",
};

pub(crate) const KIND: Kind = Kind {
    name: "compress",
    summary: "make frames smaller for a decompress block",
    input: PacketType::Ethernet,
    outputs: &[Pin { name: "out", carries: PacketType::Ethernet }],
    parameters: &[PORT, FLOW_KEY, LEAST],
    state: Some("compress"),
    prepare: |key, arguments| match key {
        "least_bytes" => Ok(None),
        _ => block::fixed(key, arguments),
    },
    build: |arguments, services| Ok(Box::new(Compress::new(arguments, services)?)),
    ..Kind::PLAIN
};

const OUT: usize = 0;
/// Bytes of the header.
pub(super) const HEADER_LEN: usize = START_LEN + 4;
/// Largest content, which is also what the small table of the compressor takes.
const CONTENT_MAX: usize = u16::MAX as usize - 1;

/// What stands behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    Stored = 0,
    Lz4 = 1,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    compressed: u64,
    stored: u64,
    passed: u64,
    refused: u64,
    bytes_in: u64,
    bytes_out: u64,
}

struct Compress {
    outlet: Outlet,
    least: usize,
    table: CompressTable,
    content: Scratch,
    smaller: Scratch,
    counted: Counted,
}

impl Compress {
    fn new(arguments: &Arguments, services: &Services) -> Result<Self, BuildError> {
        Ok(Self {
            outlet: Outlet::new(KIND.name, HEADER_LEN as u32, arguments, services)?,
            least: arguments.integer(LEAST.key) as usize,
            table: CompressTable::small(),
            content: Scratch::with_capacity(SCRATCH_LEN),
            smaller: Scratch::with_capacity(get_maximum_output_size(SCRATCH_LEN)),
            counted: Counted::default(),
        })
    }

    fn wrap(&mut self, frame: &mut Frame) -> Result<(), DropReason> {
        let at = ethertype_at(frame.bytes()).ok_or(DropReason::BadEthernet)?;
        let content_len = frame.total_len() - at;
        if content_len > CONTENT_MAX {
            return Err(DropReason::PacketTooBig);
        }
        let flow_bits = self.outlet.flow_bits(frame.bytes(), at);
        self.counted.bytes_in += content_len as u64;
        let len = match self.shrink(frame, at, content_len) {
            Some(len) => {
                write_header(frame, at, Form::Lz4, flow_bits, [content_len, len]);
                frame.write_at(at + HEADER_LEN, &self.smaller.bytes(len)[..len]);
                frame.truncate(at + HEADER_LEN + len);
                frame.set_l3_offset(0);
                self.counted.compressed += 1;
                len
            }
            None => {
                open_gap(frame, at, HEADER_LEN)?;
                self.outlet.check_len(frame, at)?;
                write_header(frame, at, Form::Stored, flow_bits, [content_len; 2]);
                self.counted.stored += 1;
                content_len
            }
        };
        self.counted.bytes_out += (len + HEADER_LEN) as u64;
        Ok(())
    }

    /// Compresses the content into `smaller`. `None` if the frame would not get smaller by that.
    fn shrink(&mut self, frame: &mut Frame, at: usize, content_len: usize) -> Option<usize> {
        if content_len < self.least {
            return None;
        }
        let Self { table, smaller, content, .. } = self;
        let out = smaller.bytes(get_maximum_output_size(content_len));
        let compressed = content.with_rest(frame, at, |content| compress_into_with_table(content, out, table));
        compressed.ok().filter(|len| len + HEADER_LEN < content_len)
    }
}

/// Writes the header over what stands at `at`. Lengths: of the content, and of what is there in its place.
fn write_header(frame: &mut Frame, at: usize, form: Form, flow_bits: u16, [content, here]: [usize; 2]) {
    let mut header = [0; HEADER_LEN];
    header[..START_LEN].copy_from_slice(&Start { ethertype: COMPRESSED, form: form as u8, flow_bits }.bytes());
    header[START_LEN..START_LEN + 2].copy_from_slice(&(content as u16).to_be_bytes());
    header[START_LEN + 2..].copy_from_slice(&(here as u16).to_be_bytes());
    frame.write_at(at, &header);
}

impl Block for Compress {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        self.outlet.refresh();
        for frame in batch.drain() {
            if !self.outlet.takes(&frame) {
                self.counted.passed += 1;
                context.emit(OUT, frame);
                continue;
            }
            let Some(mut frame) = context.unshare(frame) else { continue };
            match self.wrap(&mut frame) {
                Ok(()) => context.emit(OUT, frame),
                Err(reason) => {
                    self.counted.refused += 1;
                    context.discard(frame, reason);
                }
            }
        }
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match (key, value) {
            ("least_bytes", Value::Integer(least)) => self.least = *least as usize,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Counted { compressed, stored, passed, refused, bytes_in, bytes_out } = self.counted;
        report("compressed", compressed);
        report("stored", stored);
        report("passed", passed);
        report("refused", refused);
        report("bytes_in", bytes_in);
        report("bytes_out", bytes_out);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.counted))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, &mut self.counted)
    }
}
