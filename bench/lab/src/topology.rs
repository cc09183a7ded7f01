//! The two networks that every test and benchmark uses.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::sweep::{PREFIX, sweep};
use crate::{LabError, Namespace};

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// `client` c0 --- d0 `dut`.
    Pair,
    /// `gen` g0 --- d0 `dut` d1 --- s0 `sink`; the device under test routes (IPv4 and IPv6 forwarding are on).
    Router,
    /// `gen` g0 --- d0 `near` d1 --- w0 `wire` w1 --- e0 `far` e1 --- s0 `sink`; near and far route, wire is a bridge on which
    /// everything between them is seen and can be added to.
    Line,
}

/// How the network is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabConfig {
    /// Receive and transmit queues of every interface, 1 to 64.
    pub queues: u16,
    /// MTU of every interface in bytes, 68 to 65535.
    pub mtu_bytes: u32,
    /// Also configures IPv6; without it IPv6 is off, which keeps its chatter out of packet counts.
    pub ipv6: bool,
    /// Leaves checksums of the outer interfaces (c0, g0, s0) to the receiver, as veth does by default. Off, a program
    /// behind AF_XDP gets frames as a wire would carry them; on, the kernel's frames reach it without checksums.
    pub checksum_offload: bool,
    /// Enters the hosts on each link into each other's neighbour tables for good, so that no ARP is seen.
    pub static_neighbours: bool,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self { queues: 1, mtu_bytes: 1500, ipv6: true, checksum_offload: false, static_neighbours: false }
    }
}

/// A network that exists as long as this value.
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    /// In the order of the drawing, left to right.
    namespaces: Vec<Namespace>,
}

/// One veth pair: which namespaces, which interfaces, which subnet.
struct Link {
    left: (usize, &'static str),
    right: (usize, &'static str),
    subnet: u8,
    /// Host numbers within the subnet: the device under test always has 1. From [`BRIDGED`] on an end has no address.
    hosts: (u8, u8),
}

const BRIDGED: u8 = 200;

const PAIR: [Link; 1] = [Link { left: (0, "c0"), right: (1, "d0"), subnet: 1, hosts: (2, 1) }];
const ROUTER: [Link; 2] = [
    Link { left: (0, "g0"), right: (1, "d0"), subnet: 1, hosts: (2, 1) },
    Link { left: (1, "d1"), right: (2, "s0"), subnet: 2, hosts: (1, 2) },
];
const LINE: [Link; 4] = [
    Link { left: (0, "g0"), right: (1, "d0"), subnet: 1, hosts: (2, 1) },
    Link { left: (1, "d1"), right: (2, "w0"), subnet: 3, hosts: (1, BRIDGED) },
    Link { left: (2, "w1"), right: (3, "e0"), subnet: 3, hosts: (BRIDGED + 1, 2) },
    Link { left: (3, "e1"), right: (4, "s0"), subnet: 2, hosts: (1, 2) },
];

impl Lab {
    /// A client and a device under test, with this many queues and this MTU, IPv4 and IPv6.
    pub fn pair(queues: u16, mtu_bytes: u32) -> Result<Self, LabError> {
        Self::build(Topology::Pair, &LabConfig { queues, mtu_bytes, ..LabConfig::default() })
    }

    /// A generator, a router under test and a sink, with this many queues and this MTU, IPv4 and IPv6.
    pub fn router(queues: u16, mtu_bytes: u32) -> Result<Self, LabError> {
        Self::build(Topology::Router, &LabConfig { queues, mtu_bytes, ..LabConfig::default() })
    }

    /// A generator, two routers with a wire between them that can be tapped, and a sink, IPv4 and IPv6.
    pub fn line(queues: u16, mtu_bytes: u32) -> Result<Self, LabError> {
        Self::build(Topology::Line, &LabConfig { queues, mtu_bytes, ..LabConfig::default() })
    }

    /// Builds the network. Labs of processes that were killed are removed first.
    pub fn build(topology: Topology, config: &LabConfig) -> Result<Self, LabError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        sweep()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let roles: &[&str] = match topology {
            Topology::Pair => &["client", "dut"],
            Topology::Router => &["gen", "dut", "sink"],
            Topology::Line => &["gen", "near", "wire", "far", "sink"],
        };
        let mut lab = Self { topology, namespaces: Vec::with_capacity(roles.len()) };
        for role in roles {
            lab.namespaces.push(Namespace::create(format!("{PREFIX}-{}-{number}-{role}", std::process::id()))?);
        }
        lab.configure(config)?;
        Ok(lab)
    }

    /// The left end: `client` of a pair, `gen` of a router. (`gen` itself is a keyword.)
    pub fn gen_side(&self) -> &Namespace {
        &self.namespaces[0]
    }

    /// The left end of a pair.
    pub fn client(&self) -> &Namespace {
        self.gen_side()
    }

    /// The device under test.
    pub fn dut(&self) -> &Namespace {
        &self.namespaces[1]
    }

    /// The router of a line next to the generator.
    pub fn near(&self) -> &Namespace {
        self.dut()
    }

    /// What lies between the routers of a line: interfaces w0 towards near and w1 towards far, bridged.
    pub fn wire(&self) -> &Namespace {
        self.role(2)
    }

    /// The router of a line next to the sink.
    pub fn far(&self) -> &Namespace {
        self.role(3)
    }

    /// The namespace at this place of the drawing; the last one if there are fewer.
    fn role(&self, at: usize) -> &Namespace {
        &self.namespaces[at.min(self.namespaces.len() - 1)]
    }

    /// The right end. A pair has none of its own: there it is the client, where everything comes back to.
    pub fn sink(&self) -> &Namespace {
        match self.topology {
            Topology::Pair => &self.namespaces[0],
            Topology::Router => &self.namespaces[2],
            Topology::Line => &self.namespaces[4],
        }
    }

    /// Has the kernel's TCP over IPv4 on every link use this congestion control, whatever its default is on this machine. The
    /// routes say so, because a namespace has for its default only what the machine's administrator allows everybody.
    pub fn set_congestion_control(&self, name: &str) -> Result<(), LabError> {
        for link in self.links() {
            let ends = [(link.left, link.hosts.0), (link.right, link.hosts.1)];
            for ((namespace, interface), host) in ends.into_iter().filter(|&(_, host)| host < BRIDGED) {
                let subnet = link.subnet;
                self.namespaces[namespace].ip(&format!(
                    "route replace 10.{subnet}.0.0/24 dev {interface} proto kernel scope link src 10.{subnet}.0.{host} \
                     congctl {name}"
                ))?;
            }
        }
        Ok(())
    }

    fn links(&self) -> &'static [Link] {
        match self.topology {
            Topology::Pair => &PAIR,
            Topology::Router => &ROUTER,
            Topology::Line => &LINE,
        }
    }

    fn configure(&self, config: &LabConfig) -> Result<(), LabError> {
        let links = self.links();
        for namespace in &self.namespaces {
            let off = u8::from(!config.ipv6);
            namespace.sysctl("net.ipv6.conf.all.disable_ipv6", off)?;
            namespace.sysctl("net.ipv6.conf.default.disable_ipv6", off)?;
            // Duplicate address detection would keep the link-local addresses unusable for a second.
            namespace.sysctl("net.ipv6.conf.default.accept_dad", 0)?;
        }
        for link in links {
            self.connect(link, config)?;
        }
        for link in links {
            for (namespace, interface) in [link.left, link.right] {
                self.namespaces[namespace].wait_until_up(interface)?;
            }
        }
        match self.topology {
            Topology::Pair => Ok(()),
            Topology::Router => self.route(&[1], config),
            Topology::Line => {
                self.bridge(config)?;
                self.route(&[1, 3], config)?;
                self.route_line(config)
            }
        }
    }

    fn connect(&self, link: &Link, config: &LabConfig) -> Result<(), LabError> {
        let (left, right) = (&self.namespaces[link.left.0], &self.namespaces[link.right.0]);
        let (subnet, (left_host, right_host)) = (link.subnet, link.hosts);
        let queues = format!("numrxqueues {0} numtxqueues {0}", config.queues);
        left.ip(&format!(
            "link add {} address {} mtu {mtu} {queues} type veth peer name {} netns {} address {} mtu {mtu} {queues}",
            link.left.1,
            mac(subnet, left_host),
            link.right.1,
            right.name(),
            mac(subnet, right_host),
            mtu = config.mtu_bytes,
        ))?;
        let ends = [(left, link.left.1, left_host, right_host), (right, link.right.1, right_host, left_host)];
        for (namespace, interface, host, other) in ends {
            let bridged = host >= BRIDGED;
            let mut batch = String::new();
            if !bridged {
                batch += &format!("addr add 10.{subnet}.0.{host}/24 dev {interface}\n");
            }
            if config.ipv6 && !bridged {
                // Without duplicate detection the address is usable at once.
                batch += &format!("addr add fd00:{subnet}::{host}/64 dev {interface} nodad\n");
            }
            batch += &format!("link set {interface} up\n");
            if config.static_neighbours && !bridged && other < BRIDGED {
                let lladdr = mac(subnet, other);
                batch +=
                    &format!("neigh replace 10.{subnet}.0.{other} lladdr {lladdr} dev {interface} nud permanent\n");
                if config.ipv6 {
                    batch += &format!(
                        "neigh replace fd00:{subnet}::{other} lladdr {lladdr} dev {interface} nud permanent\n"
                    );
                }
            }
            namespace.ip_batch(&batch)?;
            if !config.checksum_offload && host == 2 {
                namespace.offload(interface, &["tx"], false)?;
            }
        }
        Ok(())
    }

    /// Joins the two halves of a line's wire. The bridge itself has no address and says nothing.
    fn bridge(&self, config: &LabConfig) -> Result<(), LabError> {
        let wire = self.wire();
        wire.ip_batch(&format!(
            "link add wire mtu {} type bridge stp_state 0 mcast_snooping 0 ageing_time 0\nlink set w0 master wire\n\
             link set w1 master wire\n",
            config.mtu_bytes
        ))?;
        wire.sysctl("net.ipv6.conf.all.disable_ipv6", 1)?;
        wire.ip("link set wire up").map(drop)
    }

    /// Makes routers of these namespaces, and gives each end its default route.
    fn route(&self, routers: &[usize], config: &LabConfig) -> Result<(), LabError> {
        for &router in routers {
            self.role(router).sysctl("net.ipv4.ip_forward", 1)?;
            if config.ipv6 {
                self.role(router).sysctl("net.ipv6.conf.all.forwarding", 1)?;
            }
        }
        for (end, subnet) in [(self.gen_side(), 1), (self.sink(), 2)] {
            end.ip(&format!("route add default via 10.{subnet}.0.1"))?;
            if config.ipv6 {
                end.ip(&format!("-6 route add default via fd00:{subnet}::1"))?;
            }
        }
        Ok(())
    }

    /// Tells both routers of a line the way to the other one's end.
    fn route_line(&self, config: &LabConfig) -> Result<(), LabError> {
        for (router, subnet, via) in [(self.near(), 2, 2), (self.far(), 1, 1)] {
            router.ip(&format!("route add 10.{subnet}.0.0/24 via 10.3.0.{via}"))?;
            if config.ipv6 {
                router.ip(&format!("-6 route add fd00:{subnet}::/64 via fd00:3::{via}"))?;
            }
        }
        Ok(())
    }
}

fn mac(subnet: u8, host: u8) -> String {
    format!("02:00:00:00:{subnet:02x}:{host:02x}")
}
