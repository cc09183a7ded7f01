//! `ethernet`: reads the Ethernet II header, filters by destination and sorts by ethertype.
//!
//! Sets the frames' network header offset. In: Ethernet. Out: `ip4`, `ip6`, `arp`, and `other` for every other ethertype,
//! for IEEE 802.3 length fields, for tagged frames while `vlan=other`, and for more than two tags.

use std::cell::Cell;

use crate::block::{
    Arguments, Block, BuildError, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin, State, Value,
    ValueKind,
};
use crate::blocks::header::{ETHERNET_LEN, VLAN_TAG_LEN, be16, is_vlan_protocol};
use crate::frame::Batch;
use crate::ledger::DropReason;

pub(crate) const KIND: Kind = Kind {
    name: "ethernet",
    summary: "parse Ethernet headers, filter by destination, sort by ethertype",
    input: PacketType::Ethernet,
    outputs: &[
        Pin { name: "ip4", carries: PacketType::Ip4 },
        Pin { name: "ip6", carries: PacketType::Ip6 },
        Pin { name: "arp", carries: PacketType::Ethernet },
        Pin { name: "other", carries: PacketType::Ethernet },
    ],
    parameters: &[
        Parameter {
            key: "mac",
            kind: ValueKind::Text,
            default: Some(""),
            doc: "take only frames for this address (02:00:00:00:00:01), for groups and for all; empty: take every frame",
        },
        Parameter {
            key: "vlan",
            kind: ValueKind::Text,
            default: Some("other"),
            doc: "accept: look behind one or two VLAN tags; other: tagged frames leave by that output",
        },
    ],
    state: Some("ethernet"),
    prepare: |key, arguments| match key {
        "mac" => parse_mac(arguments.text(key)).map(|_| None),
        _ => parse_vlan(arguments.text(key)).map(|_| None),
    },
    build: |arguments, _| Ok(Box::new(Ethernet::new(arguments)?)),
    ..Kind::PLAIN
};

/// VLAN tags that are looked behind (IEEE 802.1ad: a service and a customer tag).
const VLAN_TAGS_MAX: usize = 2;

const IP6: usize = 1;
const ARP: usize = 2;
const OTHER: usize = 3;

/// What the header says about a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Ip4,
    Output(usize),
    Drop(DropReason),
}

#[derive(Default)]
struct Counted {
    ip4: u64,
    ip6: u64,
    arp: u64,
    other: u64,
    tagged: u64,
}

struct Ethernet {
    mac: Option<[u8; 6]>,
    look_behind_tags: bool,
    counted: Counted,
}

impl Ethernet {
    fn new(arguments: &Arguments) -> Result<Self, BuildError> {
        Ok(Self {
            mac: parse_mac(arguments.text("mac"))?,
            look_behind_tags: parse_vlan(arguments.text("vlan"))?,
            counted: Counted::default(),
        })
    }

    #[inline]
    fn classify(&mut self, bytes: &[u8]) -> (Class, usize) {
        let (Some(destination), Some(mut ethertype)) = (bytes.first_chunk::<6>(), be16(bytes, 12)) else {
            return (Class::Drop(DropReason::BadEthernet), 0);
        };
        // The group bit, the lowest of the first octet, covers multicast and broadcast.
        if self.mac.is_some_and(|mac| mac != *destination && destination[0] & 1 == 0) {
            return (Class::Drop(DropReason::NotForUs), 0);
        }
        let mut l3 = ETHERNET_LEN;
        if is_vlan_protocol(ethertype) {
            self.counted.tagged += 1;
            for _ in 0..if self.look_behind_tags { VLAN_TAGS_MAX } else { 0 } {
                if !is_vlan_protocol(ethertype) {
                    break;
                }
                let Some(next) = be16(bytes, l3 + 2) else { return (Class::Drop(DropReason::BadEthernet), 0) };
                (ethertype, l3) = (next, l3 + VLAN_TAG_LEN);
            }
        }
        let class = match ethertype {
            0x0800 => Class::Ip4,
            0x86dd => Class::Output(IP6),
            0x0806 => Class::Output(ARP),
            _ => Class::Output(OTHER),
        };
        (class, l3)
    }
}

impl Block for Ethernet {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        let class = Cell::new(Class::Ip4);
        let received = batch.len();
        let mut moved = 0;
        let mut tallies = [0u64; 4];
        // A batch of IPv4 only, the usual one, stays as it is.
        let not_ip4 = batch.extract(|frame| {
            let (found, l3) = self.classify(frame.bytes());
            frame.set_l3_offset(l3 as u8);
            class.set(found);
            found != Class::Ip4
        });
        for frame in not_ip4 {
            moved += 1;
            match class.get() {
                Class::Output(output) => {
                    tallies[output] += 1;
                    context.emit(output, frame);
                }
                Class::Drop(reason) => context.discard(frame, reason),
                Class::Ip4 => context.emit(0, frame),
            }
        }
        self.counted.ip4 += (received - moved) as u64;
        self.counted.ip6 += tallies[IP6];
        self.counted.arp += tallies[ARP];
        self.counted.other += tallies[OTHER];
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match key {
            "mac" => self.mac = parse_mac(value.text())?,
            "vlan" => self.look_behind_tags = parse_vlan(value.text())?,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Counted { ip4, ip6, arp, other, tagged } = self.counted;
        report("ip4", ip4);
        report("ip6", ip6);
        report("arp", arp);
        report("other", other);
        report("tagged", tagged);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.counted))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, &mut self.counted)
    }
}

fn parse_mac(text: &str) -> Result<Option<[u8; 6]>, ParameterError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || ParameterError::Value {
        key: "mac".into(),
        value: text.into(),
        wanted: "wants six octets in hexadecimal, as in 02:00:00:00:00:01, or nothing".into(),
    };
    let mut mac = [0; 6];
    let mut octets = text.split([':', '-']);
    for octet in &mut mac {
        let digits = octets.next().filter(|digits| matches!(digits.len(), 1 | 2) && !digits.starts_with('+'));
        *octet = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(wrong)?;
    }
    if octets.next().is_some() { Err(wrong()) } else { Ok(Some(mac)) }
}

fn parse_vlan(text: &str) -> Result<bool, ParameterError> {
    match text {
        "accept" => Ok(true),
        "other" => Ok(false),
        _ => Err(ParameterError::Value {
            key: "vlan".into(),
            value: text.into(),
            wanted: "wants accept or other".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_six_octets_or_nothing() {
        assert_eq!(parse_mac("").unwrap(), None);
        assert_eq!(parse_mac("02:00:5e:00:ff:1").unwrap(), Some([2, 0, 0x5e, 0, 0xff, 1]));
        for wrong in ["02:00:00:00:00", "02:00:00:00:00:00:00", "02:00:00:00:00:+1", "02:00:00:00:00:", "mac"] {
            assert!(parse_mac(wrong).is_err(), "{wrong}");
        }
    }
}
