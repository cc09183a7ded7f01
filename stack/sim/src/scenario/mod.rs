//! A network from a TOML file.
//!
//! ```toml
//! seed = 7
//! duration = "10 s"
//! hosts = ["client{1..2}", "server"]     # client1, client2, server
//! routers = ["gateway"]
//!
//! [[link]]
//! repeat = 2                             # {n} is 1 and 2
//! ends = ["client{n} 10.0.{n}.1/24", "gateway 10.0.{n}.254/24"]
//! delay = "1 ms"
//!
//! [[link]]
//! ends = ["gateway 10.1.0.254/24", "server 10.1.0.1/24"]
//! rate = "20 Mbit/s"
//! delay = "10 ms"
//! loss = "0.5 %"
//! queue = "60 kB"
//! back = { rate = "5 Mbit/s" }           # the way back differs in this
//!
//! [[flow]]
//! name = "video{n}"
//! repeat = 2
//! kind = "udp"
//! from = "client{n}"
//! to = "server"
//! rate = "8 Mbit/s"
//! ```
//!
//! [`Scenario::parse`] refuses what it does not understand, and says where and what would be right.

mod endless;
mod error;
mod expand;
mod flow;
mod link;
mod section;

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use tailwater_stack::{Cidr, Config, ECHO_IDENTS_MAX, Instant};

pub use error::ScenarioError;

use crate::addressing::End;
use crate::link::LinkId;
use crate::quantity;
use crate::simulation::{NodeId, Simulation};
use expand::Text;
use flow::{FlowSpec, Place};
use link::LinkSpec;
use section::Section;

/// Nodes, links and flows of a file, each, after expansion.
pub const ENTRIES_MAX: usize = 100_000;
/// Points of a flow's curves unless the file gives an interval.
const SAMPLES: u32 = 200;
/// Port of the first flow to a host; each further one has one more.
const FIRST_PORT: u16 = 5_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NodeKind {
    Host,
    Router,
    Switch,
}

/// A network and what happens in it, read and checked.
pub struct Scenario {
    pub seed: u64,
    /// Virtual time to run.
    pub duration: Duration,
    /// Virtual time between points of the curves.
    pub sample: Duration,
    text: String,
    nodes: Vec<(Text, NodeKind)>,
    /// The place of each name among the nodes.
    numbers: BTreeMap<String, usize>,
    links: Vec<LinkSpec>,
    flows: Vec<FlowSpec>,
}

/// A network ready to run.
pub struct Built {
    pub simulation: Simulation,
    /// Ends of links that the file wants captured.
    pub captures: Vec<(LinkId, NodeId)>,
}

impl Scenario {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let document = section::parse(text)?;
        let mut top = Section::top(text, &document);
        let seed = top.integer("seed")?.unwrap_or(1);
        let duration = top.need("duration", quantity::time)?;
        let sample = top.quantity("sample", quantity::time)?.unwrap_or(duration / SAMPLES);
        let mut nodes = Vec::new();
        for (key, kind) in [("hosts", NodeKind::Host), ("routers", NodeKind::Router), ("switches", NodeKind::Switch)] {
            for name in top.list(key)? {
                nodes.extend(expand::names(text, &name)?.into_iter().map(|name| (name, kind)));
                check_count(text, name.span, nodes.len(), "nodes")?;
            }
        }
        let numbers = number(text, &nodes)?;
        let mut links = Vec::new();
        for section in top.tables("link")? {
            let span = section.span();
            links.extend(LinkSpec::read(section)?);
            check_count(text, span, links.len(), "links")?;
        }
        let mut flows = Vec::new();
        for section in top.tables("flow")? {
            let span = section.span();
            flows.extend(FlowSpec::read(section)?);
            check_count(text, span, flows.len(), "flows")?;
        }
        top.finish()?;
        let scenario = Self { seed, duration, sample, text: text.to_owned(), nodes, numbers, links, flows };
        scenario.build(seed)?;
        scenario.check_that_time_passes()?;
        Ok(scenario)
    }

    /// Makes the network, with another seed than the file's if wanted.
    pub fn build(&self, seed: u64) -> Result<Built, ScenarioError> {
        let mut simulation = Simulation::new(seed);
        let config = self.host_config();
        let add = |(name, kind): &(Text, NodeKind)| {
            let id = match kind {
                NodeKind::Host => simulation.add_host_with(&name.value, config),
                NodeKind::Router => simulation.add_router(&name.value),
                NodeKind::Switch => simulation.add_switch(&name.value),
            };
            Made { id, addresses: Vec::new(), ports: FIRST_PORT..=u16::MAX, pings: 0 }
        };
        let mut nodes: Vec<Made> = self.nodes.iter().map(add).collect();
        let mut captures = Vec::new();
        for link in &self.links {
            let id = self.connect(link, &mut nodes, &mut simulation)?;
            if link.capture {
                captures.extend(simulation.link_ends(id).into_iter().flatten().map(|node| (id, node)));
            }
        }
        let places = self.flows.iter().map(|flow| self.place(flow, &mut nodes));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        self.flows.iter().zip(&places).for_each(|(flow, place)| flow.add(place, &mut simulation));
        Ok(Built { simulation, captures })
    }

    /// Room for the ends of every flow at any host.
    fn host_config(&self) -> Config {
        let mut config = Config::default();
        config.sockets_max = config.sockets_max.max(self.flows.len());
        config.tcp.listeners_max = config.tcp.listeners_max.max(self.flows.len());
        config
    }

    /// When the run ends.
    pub fn end(&self) -> Instant {
        Instant::ZERO + self.duration
    }

    fn connect(
        &self,
        link: &LinkSpec,
        nodes: &mut [Made],
        simulation: &mut Simulation,
    ) -> Result<LinkId, ScenarioError> {
        let mut ends = Vec::new();
        for end in &link.ends {
            if let Some(node) = nodes.get_mut(self.find(&end.node)?) {
                node.addresses.extend(&end.addresses);
                ends.push(End { node: node.id, addresses: end.addresses.clone() });
            }
        }
        let mut ends = ends.into_iter();
        let (Some(a), Some(b)) = (ends.next(), ends.next()) else {
            return Err(ScenarioError::at(&self.text, link.span.clone(), "a link has two ends"));
        };
        let LinkSpec { there, back, .. } = link;
        let connected = simulation.connect_asymmetric(a, b, *there, *back);
        connected.map_err(|error| ScenarioError::at(&self.text, link.span.clone(), error.to_string()))
    }

    /// The place of a node among the nodes.
    fn find(&self, name: &Text) -> Result<usize, ScenarioError> {
        self.numbers.get(&name.value).copied().ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &Text) -> ScenarioError {
        let message = format!("there is no node '{}'", name.value);
        let error = ScenarioError::at(&self.text, name.span.clone(), message);
        error.similar(&name.value, self.numbers.keys(), "name it in")
    }

    fn place(&self, flow: &FlowSpec, nodes: &mut [Made]) -> Result<Place, ScenarioError> {
        let (from, to) = (self.find_host(&flow.from)?, self.find_host(&flow.to)?);
        let from = nodes.get_mut(from).ok_or_else(|| self.unknown(&flow.from))?;
        from.pings += usize::from(flow.pings());
        if from.pings > ECHO_IDENTS_MAX {
            let message = format!("more than {ECHO_IDENTS_MAX} flows of pings leave '{}'", flow.from.value);
            let hint = "let some leave another host";
            return Err(ScenarioError::at(&self.text, flow.from.span.clone(), message).hint(hint));
        }
        let from = from.id;
        let Made { id: to, addresses, ports, .. } = nodes.get_mut(to).ok_or_else(|| self.unknown(&flow.to))?;
        let wrong = |message, hint| ScenarioError::at(&self.text, flow.to.span.clone(), message).hint(hint);
        let address = addresses.iter().map(Cidr::address).find(|address| address.is_ipv4() != flow.ipv6);
        let address = address.ok_or_else(|| {
            let message = format!("'{}' has no {} address", flow.to.value, if flow.ipv6 { "IPv6" } else { "IPv4" });
            wrong(message, "give it one on a link, or choose by ipv6 = true or false")
        })?;
        let port = if flow.pings() { Some(0) } else { ports.next() };
        let port = port.ok_or_else(|| {
            let message = format!("more flows lead to '{}' than there are ports", flow.to.value);
            wrong(message, "let some lead to another host")
        })?;
        Ok(Place { from, to: *to, address, port, start: flow.start, stop: flow.stop.unwrap_or(self.duration) })
    }

    fn find_host(&self, name: &Text) -> Result<usize, ScenarioError> {
        let number = self.find(name)?;
        if self.kind(number) != Some(NodeKind::Host) {
            let message = format!("'{}' is no host: flows begin and end at hosts", name.value);
            return Err(ScenarioError::at(&self.text, name.span.clone(), message));
        }
        Ok(number)
    }

    fn kind(&self, number: usize) -> Option<NodeKind> {
        self.nodes.get(number).map(|(_, kind)| *kind)
    }
}

/// A node of the network that is being made.
struct Made {
    id: NodeId,
    addresses: Vec<Cidr>,
    /// For flows that lead to it.
    ports: RangeInclusive<u16>,
    /// Flows of pings that leave it.
    pings: usize,
}

/// The place of each name; no name is there twice.
fn number(text: &str, nodes: &[(Text, NodeKind)]) -> Result<BTreeMap<String, usize>, ScenarioError> {
    let mut numbers = BTreeMap::new();
    for (number, (name, _)) in nodes.iter().enumerate() {
        if numbers.insert(name.value.clone(), number).is_some() {
            let message = format!("'{}' is the name of two nodes", name.value);
            return Err(ScenarioError::at(text, name.span.clone(), message));
        }
    }
    Ok(numbers)
}

fn check_count(text: &str, span: Range<usize>, count: usize, what: &str) -> Result<(), ScenarioError> {
    if count <= ENTRIES_MAX {
        return Ok(());
    }
    Err(ScenarioError::at(text, span, format!("more than {ENTRIES_MAX} {what} from here on")))
}
