//! `filter`: selects packets by a libpcap expression (see `man pcap-filter`).
//!
//! In: Ethernet. Out: `match`, and `other` unless `drop=true`, where the others are dropped as `filtered`. Of a packet in
//! several chunks the expression sees the first chunk's bytes and the whole packet's length.

use std::any::Any;

use crate::block::{
    Block, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin, State, Value, ValueKind,
};
use crate::blocks::bpf::Filter as Program;
use crate::frame::Batch;
use crate::ledger::DropReason;

pub(crate) const KIND: Kind = Kind {
    name: "filter",
    summary: "select packets by a libpcap expression",
    input: PacketType::Ethernet,
    outputs: &[Pin { name: "match", carries: PacketType::Any }, Pin { name: "other", carries: PacketType::Any }],
    parameters: &[
        Parameter {
            key: "expression",
            kind: ValueKind::Text,
            default: None,
            doc: "what to match, as tcpdump takes it: \"udp port 53\"; empty matches all",
        },
        Parameter {
            key: "drop",
            kind: ValueKind::Bool,
            default: Some("false"),
            doc: "drop what does not match instead of sending it to `other`",
        },
    ],
    state: Some("filter"),
    prepare: |key, arguments| match key {
        "expression" => Ok(Some(Box::new(Program::compile(key, arguments.text(key))?))),
        _ => Ok(None),
    },
    build: |arguments, _| {
        Ok(Box::new(Filter {
            program: Program::compile("expression", arguments.text("expression"))?,
            drop: arguments.bool("drop"),
            counted: Counted::default(),
        }))
    },
    ..Kind::PLAIN
};

const OTHER: usize = 1;

#[derive(Default)]
struct Counted {
    matched: u64,
    others: u64,
}

struct Filter {
    program: Program,
    drop: bool,
    counted: Counted,
}

impl Block for Filter {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        let Self { program, drop, counted } = self;
        for frame in batch.extract(|frame| !program.matches(frame)) {
            counted.others += 1;
            if *drop {
                context.discard(frame, DropReason::Filtered);
            } else {
                context.emit(OTHER, frame);
            }
        }
        counted.matched += batch.len() as u64;
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match (key, value) {
            ("drop", Value::Bool(drop)) => self.drop = *drop,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn set_prepared(&mut self, key: &str, prepared: &mut (dyn Any + Send)) -> Result<(), ParameterError> {
        match prepared.downcast_mut() {
            Some(program) => std::mem::swap(&mut self.program, program),
            None => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("matched", self.counted.matched);
        report("others", self.counted.others);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.counted))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, &mut self.counted)
    }
}
