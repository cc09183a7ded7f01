//! `vlan`: adds, removes or selects by the outermost VLAN tag (IEEE 802.1Q), in place.
//!
//! In: Ethernet. Out: `out`, and for `pop` and `match` `other` with the frames whose outermost tag is not the wanted one.

use std::cell::Cell;

use crate::block::{
    Arguments, Block, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin, State, Value, ValueKind,
};
use crate::blocks::header::{ADDRESSES_LEN, ETHERNET_LEN, VLAN_TAG_LEN, be16, push_tag};
use crate::frame::{Batch, Frame};
use crate::ledger::DropReason;

pub(crate) const KIND: Kind = Kind {
    name: "vlan",
    summary: "push, pop or match the outermost VLAN tag",
    input: PacketType::Ethernet,
    outputs: &[
        Pin { name: "out", carries: PacketType::Ethernet },
        Pin { name: "other", carries: PacketType::Ethernet },
    ],
    parameters: &[
        Parameter { key: "mode", kind: ValueKind::Text, default: None, doc: "push, pop or match" },
        Parameter {
            key: "id",
            kind: ValueKind::Integer { min: -1, max: 4094 },
            default: Some("-1"),
            doc: "VLAN identifier, 0 to 4094; -1: any (not for push)",
        },
        Parameter {
            key: "pcp",
            kind: ValueKind::Integer { min: 0, max: 7 },
            default: Some("0"),
            doc: "priority code point that push writes, 0 to 7",
        },
        Parameter {
            key: "protocol",
            kind: ValueKind::Text,
            default: Some("0x8100"),
            doc: "tag protocol: 0x8100 (802.1Q) or 0x88a8 (802.1ad)",
        },
    ],
    state: Some("vlan"),
    // The new parameters make a block, so they suit one another.
    prepare: |key, arguments| match key {
        "mode" => Err(ParameterError::Fixed { key: key.to_owned() }),
        _ => Vlan::new(arguments).map(|_| None),
    },
    build: |arguments, _| Ok(Box::new(Vlan::new(arguments)?)),
    ..Kind::PLAIN
};

const OTHER: usize = 1;
const ID_MASK: u16 = 0x0fff;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Push,
    Pop,
    Match,
}

struct Vlan {
    mode: Mode,
    /// `None` takes any identifier.
    id: Option<u16>,
    pcp: u16,
    protocol: u16,
    counted: Counted,
}

#[derive(Default)]
struct Counted {
    passed: u64,
    others: u64,
}

impl Vlan {
    fn new(arguments: &Arguments) -> Result<Self, ParameterError> {
        let mode = match arguments.text("mode") {
            "push" => Mode::Push,
            "pop" => Mode::Pop,
            "match" => Mode::Match,
            other => return Err(wrong("mode", other, "wants push, pop or match")),
        };
        Ok(Self {
            mode,
            id: parse_id(mode, arguments.integer("id"))?,
            pcp: arguments.integer("pcp") as u16,
            protocol: parse_protocol(arguments.text("protocol"))?,
            counted: Counted::default(),
        })
    }

    /// Whether the outermost tag is the wanted one.
    fn is_ours(&self, frame: &Frame) -> bool {
        let bytes = frame.bytes();
        // The tag is followed at least by the ethertype that it encloses.
        bytes.len() >= ETHERNET_LEN + VLAN_TAG_LEN
            && be16(bytes, ADDRESSES_LEN) == Some(self.protocol)
            && self.id.is_none_or(|id| be16(bytes, ETHERNET_LEN).is_some_and(|tag| tag & ID_MASK == id))
    }

    fn push(&self, frame: &mut Frame) -> Result<(), DropReason> {
        push_tag(frame, self.protocol, self.pcp << 13 | self.id.unwrap_or(0))
    }

    fn pop(frame: &mut Frame) {
        frame.bytes_mut().copy_within(..ADDRESSES_LEN, VLAN_TAG_LEN);
        let trimmed = frame.trim_front(VLAN_TAG_LEN);
        debug_assert!(trimmed.is_ok(), "is_ours saw the tag");
        if frame.l3_offset() > 0 {
            frame.set_l3_offset(frame.l3_offset().saturating_sub(VLAN_TAG_LEN) as u8);
        }
    }

    fn push_all(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        let refused = Cell::new(DropReason::BadEthernet);
        let untagged = batch.extract(|frame| match self.push(frame) {
            Ok(()) => false,
            Err(reason) => {
                refused.set(reason);
                true
            }
        });
        for frame in untagged {
            context.discard(frame, refused.get());
        }
        self.counted.passed += batch.len() as u64;
    }
}

impl Block for Vlan {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        if self.mode == Mode::Push {
            return self.push_all(batch, context);
        }
        let received = batch.len();
        for frame in batch.extract(|frame| !self.is_ours(frame)) {
            context.emit(OTHER, frame);
        }
        self.counted.passed += batch.len() as u64;
        self.counted.others += (received - batch.len()) as u64;
        if self.mode == Mode::Pop {
            batch.iter_mut().for_each(Self::pop);
        }
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match (key, value) {
            ("id", Value::Integer(id)) => self.id = parse_id(self.mode, *id)?,
            ("pcp", Value::Integer(pcp)) => self.pcp = *pcp as u16,
            ("protocol", value) => self.protocol = parse_protocol(value.text())?,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("passed", self.counted.passed);
        report("others", self.counted.others);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.counted))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, &mut self.counted)
    }
}

fn wrong(key: &str, value: impl ToString, wanted: &str) -> ParameterError {
    ParameterError::Value { key: key.into(), value: value.to_string(), wanted: wanted.into() }
}

fn parse_id(mode: Mode, id: i64) -> Result<Option<u16>, ParameterError> {
    match u16::try_from(id) {
        Ok(id) => Ok(Some(id)),
        Err(_) if mode == Mode::Push => Err(wrong("id", id, "push needs an identifier from 0 to 4094")),
        Err(_) => Ok(None),
    }
}

fn parse_protocol(text: &str) -> Result<u16, ParameterError> {
    let is = |names: [&str; 3]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    match text {
        _ if is(["0x8100", "802.1q", "33024"]) => Ok(0x8100),
        _ if is(["0x88a8", "802.1ad", "34984"]) => Ok(0x88a8),
        _ => Err(wrong("protocol", text, "wants 0x8100 (802.1Q) or 0x88a8 (802.1ad)")),
    }
}
