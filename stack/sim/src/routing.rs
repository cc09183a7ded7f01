//! Routes of all routers and hosts, by the fewest hops. Computed from the whole network, as a routing protocol would have
//! done it long before a simulation begins.

use std::collections::VecDeque;
use std::net::IpAddr;

use tailwater_stack::Cidr;

use crate::router::RouterRoute;

/// A port of a host or a router, and the segment that it is on: what links and switches join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attachment {
    pub(crate) node: usize,
    pub(crate) port: usize,
    pub(crate) router: bool,
    pub(crate) segment: usize,
    pub(crate) addresses: Vec<Cidr>,
}

/// Sets of ports that are joined, by a representative.
#[derive(Debug)]
pub(crate) struct Segments {
    parents: Vec<usize>,
}

impl Segments {
    pub(crate) fn new(ports: usize) -> Self {
        Self { parents: (0..ports).collect() }
    }

    pub(crate) fn find(&mut self, port: usize) -> usize {
        let mut at = port;
        while let Some(&parent) = self.parents.get(at).filter(|&&parent| parent != at) {
            // Halves the way for whoever asks next.
            let above = self.parents.get(parent).copied().unwrap_or(parent);
            if let Some(place) = self.parents.get_mut(at) {
                *place = above;
            }
            at = above;
        }
        at
    }

    /// Whether they were apart before.
    pub(crate) fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        if let Some(parent) = self.parents.get_mut(a.max(b)) {
            *parent = a.min(b);
        }
        a != b
    }
}

/// A router that is one hop closer: by which port, and at which addresses.
#[derive(Clone, Debug)]
struct FirstHop {
    port: usize,
    gateways: Vec<IpAddr>,
}

/// Routes of the router `node`.
pub(crate) fn routes_of(node: usize, attachments: &[Attachment]) -> Vec<RouterRoute> {
    let mut routes: Vec<RouterRoute> = Vec::new();
    let mut seen = vec![node];
    let mut queue: VecDeque<(usize, Option<FirstHop>)> = VecDeque::from([(node, None)]);
    while let Some((at, first_hop)) = queue.pop_front() {
        for own in attachments.iter().filter(|attachment| attachment.node == at) {
            add_prefixes(own, &first_hop, attachments, &mut routes);
            let others = attachments.iter().filter(|other| other.router && other.segment == own.segment);
            for other in others {
                if !seen.contains(&other.node) {
                    seen.push(other.node);
                    let gateways = other.addresses.iter().map(Cidr::address).collect();
                    let direct = FirstHop { port: own.port, gateways };
                    queue.push_back((other.node, Some(first_hop.clone().unwrap_or(direct))));
                }
            }
        }
    }
    routes
}

/// Routes to every prefix on the segment of `own`, unless a shorter way is known.
fn add_prefixes(
    own: &Attachment,
    first_hop: &Option<FirstHop>,
    attachments: &[Attachment],
    routes: &mut Vec<RouterRoute>,
) {
    let on_segment = attachments.iter().filter(|other| other.segment == own.segment);
    for prefix in on_segment.flat_map(|other| &other.addresses).map(Cidr::network) {
        if routes.iter().any(|route| route.prefix == prefix) {
            continue;
        }
        let route = match first_hop {
            None => Some(RouterRoute { prefix, port: own.port, gateway: None }),
            Some(hop) => {
                let gateway = hop.gateways.iter().find(|gateway| gateway.is_ipv4() == prefix.address().is_ipv4());
                gateway.map(|&gateway| RouterRoute { prefix, port: hop.port, gateway: Some(gateway) })
            }
        };
        routes.extend(route);
    }
}

/// The router that a host at `own` sends everything else to: the first on its segment within one of its prefixes.
pub(crate) fn gateways_of(own: &Attachment, attachments: &[Attachment]) -> [Option<IpAddr>; 2] {
    [true, false].map(|ipv4| {
        let routers = attachments.iter().filter(|other| other.router && other.segment == own.segment);
        let mut addresses = routers.flat_map(|router| &router.addresses).map(Cidr::address);
        addresses.find(|address| address.is_ipv4() == ipv4 && own.addresses.iter().any(|own| own.contains(*address)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addressing::parse;

    fn attachment(node: usize, port: usize, router: bool, segment: usize, address: &str) -> Attachment {
        Attachment { node, port, router, segment, addresses: vec![parse(address).unwrap()] }
    }

    /// `h0 -(s0)- r1 -(s1)- r2 -(s2)- h3`
    fn line() -> Vec<Attachment> {
        vec![
            attachment(0, 0, false, 0, "10.0.0.1/24"),
            attachment(1, 0, true, 0, "10.0.0.254/24"),
            attachment(1, 1, true, 1, "10.1.0.1/24"),
            attachment(2, 0, true, 1, "10.1.0.2/24"),
            attachment(2, 1, true, 2, "10.2.0.254/24"),
            attachment(3, 0, false, 2, "10.2.0.1/24"),
        ]
    }

    #[test]
    fn a_router_knows_the_way_to_every_prefix() {
        let routes = routes_of(1, &line());
        let gateway = |address: &str| Some(address.parse().unwrap());
        assert_eq!(
            routes,
            [
                RouterRoute { prefix: parse("10.0.0.0/24").unwrap(), port: 0, gateway: None },
                RouterRoute { prefix: parse("10.1.0.0/24").unwrap(), port: 1, gateway: None },
                RouterRoute { prefix: parse("10.2.0.0/24").unwrap(), port: 1, gateway: gateway("10.1.0.2") },
            ]
        );
    }

    #[test]
    fn a_host_sends_to_the_router_of_its_prefix() {
        let line = line();
        assert_eq!(gateways_of(&line[0], &line), [Some("10.0.0.254".parse().unwrap()), None]);
        assert_eq!(gateways_of(&line[5], &line), [Some("10.2.0.254".parse().unwrap()), None]);
    }

    #[test]
    fn of_two_ways_the_shorter_is_taken() {
        // A third router beside the two, over segments 3 and 4.
        let mut ring = line();
        ring.push(attachment(1, 2, true, 3, "10.3.0.1/24"));
        ring.push(attachment(4, 0, true, 3, "10.3.0.2/24"));
        ring.push(attachment(4, 1, true, 4, "10.4.0.1/24"));
        ring.push(attachment(2, 2, true, 4, "10.4.0.2/24"));
        let routes = routes_of(1, &ring);
        let to = |prefix: &str| routes.iter().find(|route| route.prefix == parse(prefix).unwrap()).unwrap().port;
        assert_eq!((to("10.2.0.0/24"), to("10.4.0.0/24")), (1, 1));
        assert_eq!(routes.len(), 5);
    }
}
