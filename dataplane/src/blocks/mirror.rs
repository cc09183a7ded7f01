//! `mirror`: passes every packet on and sends a copy of one in N, cut to a snap length, to a second output.
//!
//! In: any. Out: `out` with the packets themselves, `mirror` with the copies. Which packets are copied is random, so that
//! periodic traffic is not sampled askew (RFC 3176 §3.1 asks the same of sFlow); the seed repeats it.

use tailwater_impair::Random;

use crate::block::{
    Block, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin, State, Value, ValueKind,
};
use crate::frame::{Batch, Frame};

pub(crate) const KIND: Kind = Kind {
    name: "mirror",
    summary: "pass every packet on, and a copy of one in N to a second output",
    outputs: &[Pin { name: "out", carries: PacketType::Any }, Pin { name: "mirror", carries: PacketType::Any }],
    parameters: &[
        Parameter {
            key: "sample_one_in",
            kind: ValueKind::Integer { min: 1, max: 1_000_000 },
            default: Some("1"),
            doc: "copy one packet in this many, on average",
        },
        Parameter {
            key: "snap_bytes",
            kind: ValueKind::Integer { min: 0, max: SNAP_MAX },
            default: Some("0"),
            doc: "bytes to copy of a packet, at most; 0: all",
        },
        Parameter {
            key: "seed",
            kind: ValueKind::Integer { min: 0, max: i64::MAX },
            default: Some("1"),
            doc: "the same seed copies the same packets",
        },
    ],
    state: Some("mirror"),
    prepare: |key, _| match key {
        "seed" => Err(ParameterError::Fixed { key: key.to_owned() }),
        _ => Ok(None),
    },
    build: |arguments, services| {
        let mut mirror = Mirror {
            random: Random::new(arguments.integer("seed") as u64, services.worker as u64),
            one_in: arguments.integer("sample_one_in") as u64,
            snap_bytes: arguments.integer("snap_bytes") as usize,
            gap: 0,
            counted: Counted::default(),
        };
        mirror.gap = mirror.draw_gap();
        Ok(Box::new(mirror))
    },
    ..Kind::PLAIN
};

const MIRROR: usize = 1;
/// The largest cut copy: what fits one chunk of either size behind the standard headroom.
const SNAP_MAX: i64 = 1728;

#[derive(Default)]
struct Counted {
    mirrored: u64,
    cut: u64,
    unmirrored: u64,
}

struct Mirror {
    random: Random,
    one_in: u64,
    snap_bytes: usize,
    /// Packets until the next copy, from 1.
    gap: u64,
    counted: Counted,
}

impl Mirror {
    /// Uniform from 1 to 2N - 1: N on average.
    fn draw_gap(&mut self) -> u64 {
        1 + self.random.below(2 * self.one_in - 1)
    }

    fn copy(&mut self, frame: &Frame, context: &mut Context<'_>) -> Option<Frame> {
        if self.snap_bytes == 0 || frame.total_len() <= self.snap_bytes {
            return context.duplicate(frame);
        }
        let mut copy = context.originate()?;
        let room = copy.tailroom();
        if copy.set_len(self.snap_bytes.min(room)).is_ok() {
            frame.read_at(0, copy.bytes_mut());
        }
        copy.set_port(frame.port());
        copy.set_l3_offset(frame.l3_offset() as u8);
        self.counted.cut += 1;
        Some(copy)
    }
}

impl Block for Mirror {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        for frame in batch.iter() {
            self.gap -= 1;
            if self.gap > 0 {
                continue;
            }
            self.gap = self.draw_gap();
            match self.copy(frame, context) {
                Some(copy) => {
                    self.counted.mirrored += 1;
                    context.emit(MIRROR, copy);
                }
                None => self.counted.unmirrored += 1,
            }
        }
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match (key, value) {
            ("sample_one_in", Value::Integer(one_in)) => {
                self.one_in = *one_in as u64;
                self.gap = self.draw_gap();
            }
            ("snap_bytes", Value::Integer(snap)) => self.snap_bytes = *snap as usize,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Counted { mirrored, cut, unmirrored } = self.counted;
        report("mirrored", mirrored);
        report("cut", cut);
        report("unmirrored", unmirrored);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.counted))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, &mut self.counted)
    }
}
