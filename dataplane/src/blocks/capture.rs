//! `capture`: copies packets into a pcapng file, at any edge of the graph, and passes them on.
//!
//! In: any. Out: `out`, unchanged. All workers' instances write to one file. The copy goes through a bounded queue to a
//! writer thread: a packet for which the queue has no room is passed on uncaptured and counted as `missed`. A packet's
//! time is that of the worker's turn. Counters other than `filtered` are those of the file, of all workers together.

use std::any::Any;
use std::sync::Arc;

use crate::block::{
    Arguments, Block, BuildError, Context, ImportError, Kind, Parameter, ParameterError, PortNames, Services, State,
    Value, ValueKind,
};
use crate::blocks::bpf::Filter;
use crate::frame::Batch;
use crate::port::pcap::{Direction, Recorder, RecorderConfig, RecorderCounters};

pub(crate) const KIND: Kind = Kind {
    name: "capture",
    summary: "copy packets into a pcapng file and pass them on",
    parameters: &[
        Parameter {
            key: "file",
            kind: ValueKind::Path,
            default: None,
            doc: "file to write, overwritten if it exists; - is standard output",
        },
        Parameter {
            key: "snap_bytes",
            kind: ValueKind::Integer { min: 0, max: 1 << 18 },
            default: Some("0"),
            doc: "bytes kept of a packet; 0: all",
        },
        Parameter {
            key: "expression",
            kind: ValueKind::Text,
            default: Some(""),
            doc: "capture only what matches this libpcap expression; empty: everything",
        },
        Parameter {
            key: "count_max",
            kind: ValueKind::Integer { min: 0, max: i64::MAX },
            default: Some("0"),
            doc: "packets to capture; 0: no limit",
        },
        Parameter {
            key: "file_size_mb",
            kind: ValueKind::Integer { min: 0, max: 1 << 20 },
            default: Some("0"),
            doc: "go on with a next, numbered file after this many MiB; 0: one file",
        },
        Parameter {
            key: "files",
            kind: ValueKind::Integer { min: 0, max: 100_000 },
            default: Some("0"),
            doc: "numbered files to keep, the newest ones; 0: all",
        },
        Parameter {
            key: "queue_packets",
            kind: ValueKind::Integer { min: 1, max: 1 << 20 },
            default: Some("8192"),
            doc: "packets that may wait for the disk, 2 KiB each",
        },
        Parameter {
            key: "interfaces",
            kind: ValueKind::Text,
            default: Some(""),
            doc: "names of the ports in the file, in port order, separated by commas; empty: as they are",
        },
        Parameter {
            key: "direction",
            kind: ValueKind::Text,
            default: Some(""),
            doc: "in or out: noted with each packet; empty: nothing is noted",
        },
    ],
    state: Some("capture"),
    prepare: |key, arguments| match key {
        "expression" => Ok(Some(Box::new(compile(arguments.text(key))?))),
        "direction" => parse_direction(arguments.text(key)).map(|_| None),
        _ => Err(ParameterError::Fixed { key: key.to_owned() }),
    },
    build: |arguments, services| Ok(Box::new(Capture::new(arguments, services)?)),
    ..Kind::PLAIN
};

struct Capture {
    recorder: Arc<Recorder>,
    /// `None` captures everything.
    filter: Option<Filter>,
    direction: Direction,
    filtered: u64,
}

impl Capture {
    fn new(arguments: &Arguments, services: &Services) -> Result<Self, BuildError> {
        let filter = compile(arguments.text("expression"))?;
        let direction = parse_direction(arguments.text("direction"))?;
        let ports = services.find::<PortNames>().map(|names| names.0.join(","));
        let names = match arguments.text("interfaces") {
            "" => ports.as_deref().unwrap_or_default(),
            names => names,
        };
        let config = RecorderConfig {
            path: arguments.text("file").to_owned(),
            snap_bytes: arguments.integer("snap_bytes") as usize,
            queue_packets: arguments.integer("queue_packets") as usize,
            count_max: arguments.integer("count_max") as u64,
            file_bytes_max: (arguments.integer("file_size_mb") as u64) << 20,
            files: arguments.integer("files") as u32,
            interfaces: names.split(',').filter(|_| !names.is_empty()).map(|name| name.trim().to_owned()).collect(),
            filter: arguments.text("expression").to_owned(),
        };
        let recorder = Recorder::shared(&config).map_err(|error| BuildError::Other(error.to_string()))?;
        Ok(Self { recorder, filter, direction, filtered: 0 })
    }
}

impl Block for Capture {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        for frame in batch.iter() {
            if self.filter.as_ref().is_some_and(|filter| !filter.matches(frame)) {
                self.filtered += 1;
                continue;
            }
            self.recorder.record(frame, frame.port(), self.direction, context.now_ns);
        }
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match key {
            "direction" => self.direction = parse_direction(value.text())?,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn set_prepared(&mut self, key: &str, prepared: &mut (dyn Any + Send)) -> Result<(), ParameterError> {
        match prepared.downcast_mut() {
            Some(filter) => std::mem::swap(&mut self.filter, filter),
            None => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let RecorderCounters { captured, missed, written, failed } = self.recorder.counters();
        report("captured", captured);
        report("missed", missed);
        report("written", written);
        report("failed", failed);
        report("filtered", self.filtered);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.filtered))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, &mut self.filtered)
    }
}

fn compile(expression: &str) -> Result<Option<Filter>, ParameterError> {
    if expression.is_empty() { Ok(None) } else { Filter::compile("expression", expression).map(Some) }
}

fn parse_direction(text: &str) -> Result<Direction, ParameterError> {
    match text {
        "" => Ok(Direction::Unknown),
        "in" => Ok(Direction::Inbound),
        "out" => Ok(Direction::Outbound),
        _ => Err(ParameterError::Value {
            key: "direction".into(),
            value: text.into(),
            wanted: "wants in, out or nothing".into(),
        }),
    }
}
