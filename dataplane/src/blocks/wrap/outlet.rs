//! The sending side of a pair: which frames it takes, their flow bits, and room for the header on the link.

use std::sync::Arc;

use tailwater_xdp::{HashKey, Place, flow_hash};

use super::payload_len;
use crate::block::{Arguments, BuildError, Parameter, ParameterError, PortNames, Services, ValueKind};
use crate::blocks::header::be16;
use crate::forwarding::header::flow_key_of;
use crate::forwarding::{ForwardingPlane, PortEntry, Reservation};
use crate::frame::Frame;
use crate::ledger::DropReason;
use crate::surroundings::Surroundings;

pub(crate) const PORT: Parameter = Parameter {
    key: "port",
    kind: ValueKind::Text,
    default: Some(""),
    doc: "only frames that leave by this port, others pass as they are; empty: all",
};
pub(crate) const FLOW_KEY: Parameter = Parameter {
    key: "flow_key",
    kind: ValueKind::Text,
    default: Some(""),
    doc: "key of the receiving process's flow hash, 32 hexadecimal digits, so that there a flow stays on its worker when \
          the block comes and goes; empty: our own",
};

/// Flows are spread by it where there is no steering program whose key could be used.
const NO_KEY: HashKey = HashKey::new(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345);
const ETHERTYPE_IP4: u16 = 0x0800;
const ETHERTYPE_IP6: u16 = 0x86dd;

pub(crate) struct Outlet {
    /// `None`: it takes all frames.
    port: Option<Wanted>,
    flow_key: HashKey,
    links: Option<Links>,
}

/// The port whose frames it takes.
struct Wanted {
    name: String,
    /// Its index; `None` while it is not there.
    at: Option<u16>,
    /// Kernel index of the interface; 0 if nobody knows.
    ifindex: u32,
}

/// The links' MTUs, as the forwarder knows them, less by our header as long as this is there.
struct Links {
    plane: Arc<ForwardingPlane>,
    version: u64,
    ports: Arc<Vec<PortEntry>>,
    _reservation: Reservation,
}

impl Outlet {
    /// Of a block of this kind that adds `overhead_bytes` to its frames.
    pub(crate) fn new(
        kind: &'static str,
        overhead_bytes: u32,
        arguments: &Arguments,
        services: &Services,
    ) -> Result<Self, BuildError> {
        let surroundings = Surroundings::of(services);
        refuse_kernel_placement(surroundings.as_deref())?;
        let name = arguments.text(PORT.key);
        let port = find_port(name, services)?;
        let plane: Option<Arc<ForwardingPlane>> = services.find();
        let own_key = surroundings.and_then(|surroundings| surroundings.flow_key()).unwrap_or(NO_KEY);
        let mut outlet = Self {
            port,
            flow_key: parse_flow_key(arguments.text(FLOW_KEY.key), own_key)?,
            links: plane.map(|plane| Links {
                _reservation: plane.reserve(kind, name, overhead_bytes),
                version: plane.ports_version(),
                ports: plane.ports(),
                plane,
            }),
        };
        outlet.follow_port();
        Ok(outlet)
    }

    /// To be called for each batch: takes up changed links.
    pub(crate) fn refresh(&mut self) {
        let Some(links) = &mut self.links else { return };
        let version = links.plane.ports_version();
        if version != links.version {
            links.version = version;
            links.ports = links.plane.ports();
            self.follow_port();
        }
    }

    /// A port that has left may come back at another place, and another one take its own.
    fn follow_port(&mut self) {
        let (Some(port), Some(links)) = (&mut self.port, &self.links) else { return };
        let is_there = |at: u16| links.ports.get(usize::from(at)).is_some_and(|entry| entry.ifindex == port.ifindex);
        if port.ifindex != 0 && port.at.is_some_and(is_there) {
            return;
        }
        let found = links.ports.iter().enumerate().find(|(_, entry)| entry.name == port.name);
        (port.at, port.ifindex) = match found {
            Some((at, entry)) => (u16::try_from(at).ok(), entry.ifindex),
            None => (None, 0),
        };
    }

    /// Whether the frame is to be encapsulated.
    pub(crate) fn takes(&self, frame: &Frame) -> bool {
        self.port.as_ref().is_none_or(|port| port.at == Some(frame.port()))
    }

    /// Low bits of the flow hash of what stands behind the EtherType at `at`; 0 for what is not IP.
    pub(crate) fn flow_bits(&self, bytes: &[u8], at: usize) -> u16 {
        let packet = match be16(bytes, at) {
            Some(ETHERTYPE_IP4 | ETHERTYPE_IP6) => bytes.get(at + 2..),
            _ => None,
        };
        packet.and_then(flow_key_of).map_or(0, |flow| flow_hash(&self.flow_key, &flow) as u16)
    }

    /// Refuses an encapsulated frame that is larger than its link carries.
    pub(crate) fn check_len(&self, frame: &Frame, at: usize) -> Result<(), DropReason> {
        let entry = self.links.as_ref().and_then(|links| links.ports.get(usize::from(frame.port())));
        match entry {
            Some(entry) if entry.link_mtu > 0 && payload_len(frame, at) > entry.link_mtu as usize => {
                Err(DropReason::PacketTooBig)
            }
            _ => Ok(()),
        }
    }
}

/// Packets that the program forwards in the kernel never come through the graph.
pub(crate) fn refuse_kernel_placement(surroundings: Option<&Surroundings>) -> Result<(), BuildError> {
    match surroundings {
        Some(surroundings) if surroundings.place == Place::Kernel => Err(BuildError::Other(
            "packets are forwarded in the kernel here and would pass by this block; start with --place user".into(),
        )),
        _ => Ok(()),
    }
}

fn find_port(name: &str, services: &Services) -> Result<Option<Wanted>, BuildError> {
    if name.is_empty() {
        return Ok(None);
    }
    let names = services.find::<PortNames>().ok_or(BuildError::Service("ports with names"))?;
    let at = names.0.iter().position(|port| port == name).ok_or_else(|| ParameterError::Value {
        key: PORT.key.into(),
        value: name.into(),
        wanted: format!("wants one of {}", names.0.join(", ")),
    })?;
    Ok(Some(Wanted { name: name.to_owned(), at: u16::try_from(at).ok(), ifindex: 0 }))
}

fn parse_flow_key(text: &str, own: HashKey) -> Result<HashKey, ParameterError> {
    if text.is_empty() {
        return Ok(own);
    }
    HashKey::from_hex(text).ok_or_else(|| ParameterError::Value {
        key: FLOW_KEY.key.into(),
        value: text.into(),
        wanted: "wants 32 hexadecimal digits, or nothing".into(),
    })
}
