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

mod error;
mod expand;
mod flow;
mod link;
mod section;

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_stack::{Cidr, Instant};

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
/// Port of the first flow; each has one more.
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
            }
        }
        check_names(text, &nodes)?;
        let mut links = Vec::new();
        for section in top.tables("link")? {
            links.extend(LinkSpec::read(section)?);
        }
        let mut flows = Vec::new();
        for section in top.tables("flow")? {
            flows.extend(FlowSpec::read(section)?);
        }
        top.finish()?;
        let scenario = Self { seed, duration, sample, text: text.to_owned(), nodes, links, flows };
        scenario.build(seed)?;
        Ok(scenario)
    }

    /// Makes the network, with another seed than the file's if wanted.
    pub fn build(&self, seed: u64) -> Result<Built, ScenarioError> {
        let mut simulation = Simulation::new(seed);
        let mut nodes: BTreeMap<&str, (NodeId, Vec<Cidr>)> = BTreeMap::new();
        for (name, kind) in &self.nodes {
            let id = match kind {
                NodeKind::Host => simulation.add_host(&name.value),
                NodeKind::Router => simulation.add_router(&name.value),
                NodeKind::Switch => simulation.add_switch(&name.value),
            };
            nodes.insert(&name.value, (id, Vec::new()));
        }
        let mut captures = Vec::new();
        for link in &self.links {
            let id = self.connect(link, &mut nodes, &mut simulation)?;
            if link.capture {
                captures.extend(simulation.link_ends(id).into_iter().flatten().map(|node| (id, node)));
            }
        }
        for (flow, port) in self.flows.iter().zip((FIRST_PORT..).cycle()) {
            let place = self.place(flow, port, &nodes)?;
            flow.add(&place, &mut simulation);
        }
        Ok(Built { simulation, captures })
    }

    /// When the run ends.
    pub fn end(&self) -> Instant {
        Instant::ZERO + self.duration
    }

    fn connect<'a>(
        &'a self,
        link: &'a LinkSpec,
        nodes: &mut BTreeMap<&'a str, (NodeId, Vec<Cidr>)>,
        simulation: &mut Simulation,
    ) -> Result<LinkId, ScenarioError> {
        let mut ends = Vec::new();
        for end in &link.ends {
            let (node, addresses) = self.find(&end.node, nodes)?;
            let node = *node;
            addresses.extend(&end.addresses);
            ends.push(End { node, addresses: end.addresses.clone() });
        }
        let mut ends = ends.into_iter();
        let (Some(a), Some(b)) = (ends.next(), ends.next()) else {
            return Err(ScenarioError::at(&self.text, link.span.clone(), "a link has two ends"));
        };
        let LinkSpec { there, back, .. } = link;
        let connected = simulation.connect_asymmetric(a, b, *there, *back);
        connected.map_err(|error| ScenarioError::at(&self.text, link.span.clone(), error.to_string()))
    }

    fn find<'n, T>(&self, name: &Text, nodes: &'n mut BTreeMap<&str, T>) -> Result<&'n mut T, ScenarioError> {
        let known: Vec<String> = nodes.keys().map(|&name| name.to_owned()).collect();
        nodes.get_mut(name.value.as_str()).ok_or_else(|| {
            let message = format!("there is no node '{}'", name.value);
            ScenarioError::at(&self.text, name.span.clone(), message).similar(&name.value, known.iter(), "name it in")
        })
    }

    fn place(
        &self,
        flow: &FlowSpec,
        port: u16,
        nodes: &BTreeMap<&str, (NodeId, Vec<Cidr>)>,
    ) -> Result<Place, ScenarioError> {
        let mut nodes = nodes.clone();
        let from = self.host(&flow.from, &mut nodes)?.0;
        let (to, addresses) = self.host(&flow.to, &mut nodes)?;
        let address = addresses.iter().map(Cidr::address).find(|address| address.is_ipv4() != flow.ipv6);
        let Some(address) = address else {
            let family = if flow.ipv6 { "IPv6" } else { "IPv4" };
            let message = format!("'{}' has no {family} address", flow.to.value);
            let hint = "give it one on a link, or choose by ipv6 = true or false";
            return Err(ScenarioError::at(&self.text, flow.to.span.clone(), message).hint(hint));
        };
        Ok(Place { from, to, address, port, start: flow.start, stop: flow.stop.unwrap_or(self.duration) })
    }

    fn host<'n>(
        &self,
        name: &Text,
        nodes: &'n mut BTreeMap<&str, (NodeId, Vec<Cidr>)>,
    ) -> Result<(NodeId, &'n [Cidr]), ScenarioError> {
        let host = self.nodes.iter().any(|(node, kind)| node.value == name.value && *kind == NodeKind::Host);
        let (id, addresses) = self.find(name, nodes)?;
        if !host {
            let message = format!("'{}' is no host: flows begin and end at hosts", name.value);
            return Err(ScenarioError::at(&self.text, name.span.clone(), message));
        }
        Ok((*id, addresses))
    }
}

fn check_names(text: &str, nodes: &[(Text, NodeKind)]) -> Result<(), ScenarioError> {
    let mut seen = BTreeMap::new();
    for (name, _) in nodes {
        if seen.insert(&name.value, ()).is_some() {
            let message = format!("'{}' is the name of two nodes", name.value);
            return Err(ScenarioError::at(text, name.span.clone(), message));
        }
    }
    if nodes.len() > ENTRIES_MAX {
        return Err(ScenarioError::at(text, 0..0, format!("more than {ENTRIES_MAX} nodes")));
    }
    Ok(())
}
