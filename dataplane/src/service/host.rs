//! Who the host is, and where its service listens: put together, and started.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tailwater_netlink::{Control as Netlink, Link};
use tailwater_stack::address::link_local;
use tailwater_stack::{Cidr, Config, InterfaceConfig, InterfaceId, MacAddress, NeighbourMode, Route};
use tailwater_xdp::{Indirection, Mode};

use super::block::{Assembly, Parts};
use super::census::Census;
use super::claim::{Claim, LOCAL_PORTS_MAX};
use super::entropy::Entropy;
use super::follower::Follower;
use super::listener::{Listener, Transport};
use super::mailbox::{Mailbox, Questions, UPDATES_MAX, Update};
use super::reservation::Reservation;
use super::{Presence, Service};
use crate::block::{Registry, Services};
use crate::graph::{EGRESS, GraphSpec, INGRESS};
use crate::runtime::{PortListener, Runtime, RuntimeConfig, RuntimeError};

/// Name of the stack's vertex in the graph.
const NODE: &str = "stack";

/// Whose addresses the host answers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Those that the kernel has on the interfaces, with its routes, followed live.
    #[default]
    Kernel,
    /// These, which the kernel does not have; on the only interface.
    Own {
        /// Addresses with the prefix of their link.
        addresses: Vec<Cidr>,
        /// Routers for what is not on the link, one of each family at most.
        gateways: Vec<IpAddr>,
    },
}

/// Why a host did not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum HostError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("cannot reserve {port} in the kernel: {error}")]
    Reserve { port: String, error: std::io::Error },
    #[error("{0} local ports are not possible: 1 to {LOCAL_PORTS_MAX}")]
    TooManyLocalPorts(u16),
    #[error("{0} addresses and routers are more than the {UPDATES_MAX} that fit")]
    TooMany(usize),
    #[error("addresses of our own need exactly one interface, not {0}")]
    OneInterface(usize),
    #[error("router {0} is on none of the links of our addresses")]
    GatewayOffLink(IpAddr),
    #[error("interface {0} has no Ethernet address")]
    NoMac(String),
    #[error("cannot follow the kernel: {0}")]
    Follow(std::io::Error),
}

impl From<tailwater_netlink::Error> for HostError {
    fn from(error: tailwater_netlink::Error) -> Self {
        Self::Runtime(error.into())
    }
}

impl From<tailwater_xdp::Error> for HostError {
    fn from(error: tailwater_xdp::Error) -> Self {
        Self::Runtime(error.into())
    }
}

/// A service with the host that it runs on.
///
/// | mode | [`Addresses::Kernel`] | [`Addresses::Own`] |
/// |---|---|---|
/// | shared | only what comes to the listeners is ours; the kernel resolves neighbours, answers pings, and its port is reserved | all IP traffic to these addresses is ours, everything else the kernel's |
/// | exclusive | everything that comes in is ours, under the kernel's addresses | everything that comes in is ours |
pub struct Host<S> {
    addresses: Addresses,
    listeners: Vec<Listener>,
    local_ports: u16,
    stack: Config,
    service: Arc<dyn Fn(usize) -> S + Send + Sync>,
}

impl<S: Service + 'static> Host<S> {
    /// A host with the kernel's addresses that listens nowhere yet. `service` makes the service of each worker, by number.
    pub fn new(service: impl Fn(usize) -> S + Send + Sync + 'static) -> Self {
        let stack = Config::default();
        let addresses = Addresses::Kernel;
        Self { addresses, listeners: Vec::new(), local_ports: 0, stack, service: Arc::new(service) }
    }

    /// Whose addresses it answers to.
    pub fn addresses(self, addresses: Addresses) -> Self {
        Self { addresses, ..self }
    }

    /// Takes datagrams to this address and port; `0.0.0.0` and `[::]` stand for all addresses of their family.
    pub fn listen_udp(mut self, at: SocketAddr) -> Self {
        self.listeners.push(Listener { transport: Transport::Udp, at });
        self
    }

    /// Takes connections to this address and port, likewise.
    pub fn listen_tcp(mut self, at: SocketAddr) -> Self {
        self.listeners.push(Listener { transport: Transport::Tcp, at });
        self
    }

    /// Holds this many local ports ready for what the service opens, up to [`LOCAL_PORTS_MAX`](super::LOCAL_PORTS_MAX):
    /// where the addresses are the kernel's and the mode is shared, the kernel has them otherwise. Each serves one
    /// connection to each peer at a time. Elsewhere all dynamic ports are there, and this does nothing.
    pub fn local_ports(self, count: u16) -> Self {
        Self { local_ports: count, ..self }
    }

    /// Bounds of the stack.
    pub fn stack_config(self, stack: Config) -> Self {
        Self { stack, ..self }
    }

    /// Starts the workers. See [`prepare`](Self::prepare) for the steps.
    pub fn start(self, config: &RuntimeConfig) -> Result<(Runtime, Presence), HostError> {
        let prepared = self.prepare(config)?;
        let mut config = config.clone();
        config.listeners.0.push(prepared.listener());
        let runtime = Runtime::start(&config, &Registry::builtin(), prepared.services(), graph)?;
        let presence = prepared.begin(&runtime)?;
        Ok((runtime, presence))
    }

    /// The first of three steps, for those who start the runtime themselves: looks up the interfaces, reserves the ports
    /// (so that one in use is refused before anything happens) and reads the kernel's state. Then start the runtime with
    /// [`Prepared::services`], [`Prepared::listener`] and [`graph`], then call [`Prepared::begin`].
    pub fn prepare(mut self, config: &RuntimeConfig) -> Result<Prepared, HostError> {
        let links = links(config)?;
        let workers = config.cores.len().max(1);
        let mailboxes: Arc<[Mailbox]> = (0..workers).map(|_| Mailbox::new()).collect();
        let mirrored = self.addresses == Addresses::Kernel;
        let shares_kernel = mirrored && config.mode == Mode::Shared;
        let mut presence = Presence::default();
        if shares_kernel {
            presence.reservations = reserve(&self.listeners, &mut presence.notes)?;
        }
        let mut known = self.listeners.clone();
        let mut taken = Vec::new();
        if shares_kernel && self.local_ports > 0 {
            let mut claim = Claim::of(self.local_ports, Entropy::new().next())?;
            presence.notes.push(format!("local ports {} are reserved in the kernel", claim.ports));
            known.extend(claim.listeners());
            presence.reservations.append(&mut claim.reservations);
            self.stack.local_ports = claim.ports;
            taken = claim.taken;
        }
        let mut follower = None;
        if mirrored {
            let questions = Arc::new(Questions::new().map_err(HostError::Follow)?);
            let mut ifindices: Vec<u32> = links.iter().map(|link| link.ifindex).collect();
            ifindices.resize(config.places(), 0);
            let opened =
                Follower::open(ifindices, shares_kernel, Arc::clone(&mailboxes), Arc::clone(&questions), known)?;
            let addresses: Vec<String> = opened.addresses().map(|address| address.to_string()).collect();
            presence.notes.push(format!("addresses are the kernel's, followed live: {}", addresses.join(", ")));
            follower = Some((opened, questions));
        } else {
            let [link] = links.as_slice() else { return Err(HostError::OneInterface(links.len())) };
            self.introduce(mac(link)?, config.mode, &mailboxes)?;
        }
        let begun = Arc::new(AtomicBool::new(false));
        let census = Census::new(Arc::clone(&mailboxes), self.stack.tcp.listeners_max);
        let parts = Parts {
            stack: self.stack,
            interfaces: links.iter().map(|link| interface(link, shares_kernel)).collect::<Result<_, _>>()?,
            listeners: self.listeners,
            taken: taken.into(),
            begun: Arc::clone(&begun),
            mailboxes: Arc::clone(&mailboxes),
            questions: follower.as_ref().map(|(_, questions)| Arc::clone(questions)).filter(|_| shares_kernel),
        };
        let mut services = Services::default();
        services.insert(Arc::new(Assembly::new(parts, self.service)));
        services.insert(Arc::new(census));
        Ok(Prepared { services, follower, presence, addresses: self.addresses, mode: config.mode, mailboxes, begun })
    }

    /// A host with addresses of its own on a port that is no interface of the kernel's (memory, pcap): what the `stack`
    /// block of each worker needs, as [`Services::worker`] says for which.
    pub fn detached(self, interface: InterfaceConfig, workers: usize) -> Result<Services, HostError> {
        let mailboxes: Arc<[Mailbox]> = (0..workers).map(|_| Mailbox::new()).collect();
        self.introduce(interface.mac, Mode::Exclusive, &mailboxes)?;
        let (stack, listeners) = (self.stack, self.listeners);
        let census = Census::new(Arc::clone(&mailboxes), stack.tcp.listeners_max);
        let (taken, begun) = ([].into(), Arc::new(AtomicBool::new(true)));
        let parts = Parts { stack, interfaces: vec![interface], listeners, taken, begun, mailboxes, questions: None };
        let mut services = Services::default();
        services.insert(Arc::new(Assembly::new(parts, self.service)));
        services.insert(Arc::new(census));
        Ok(services)
    }

    /// Tells the workers who they are, where the kernel does not.
    fn introduce(&self, mac: MacAddress, mode: Mode, mailboxes: &[Mailbox]) -> Result<(), HostError> {
        let Addresses::Own { addresses, gateways } = &self.addresses else { return Ok(()) };
        let port = InterfaceId(0);
        let mut updates: Vec<Update> = addresses.iter().map(|&address| Update::Address(port, address)).collect();
        // RFC 4291 §2.8: each IPv6 interface has a link-local address. In shared mode it is the kernel's.
        if mode == Mode::Exclusive && addresses.iter().any(|address| address.address().is_ipv6()) {
            let address = Cidr::new(link_local(mac), 64).unwrap_or(Cidr::host(Ipv6Addr::LOCALHOST));
            updates.push(Update::Address(port, address));
        }
        for &gateway in gateways {
            if !addresses.iter().any(|address| address.contains(gateway)) {
                return Err(HostError::GatewayOffLink(gateway));
            }
            let prefix = if gateway.is_ipv4() { Cidr::default_v4() } else { Cidr::default_v6() };
            updates.push(Update::Route(Route { prefix, gateway: Some(gateway), interface: port }));
        }
        let count = updates.len();
        let fits = mailboxes.iter().all(|mailbox| updates.iter().all(|&update| mailbox.updates.push(update).is_ok()));
        mailboxes.iter().for_each(Mailbox::note_mail);
        if fits { Ok(()) } else { Err(HostError::TooMany(count)) }
    }
}

/// A host whose workers have yet to start.
pub struct Prepared {
    services: Services,
    follower: Option<(Follower, Arc<Questions>)>,
    presence: Presence,
    addresses: Addresses,
    mode: Mode,
    mailboxes: Arc<[Mailbox]>,
    begun: Arc<AtomicBool>,
}

impl Prepared {
    /// What the `stack` block needs.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Who must be told of ports that join, leave and change ([`RuntimeConfig::listeners`]).
    pub fn listener(&self) -> Arc<dyn PortListener> {
        match &self.follower {
            Some((_, questions)) => Arc::clone(questions) as _,
            None => Arc::new(Lone(Arc::clone(&self.mailboxes))),
        }
    }

    /// What was arranged, one line each.
    pub fn notes(&self) -> &[String] {
        self.presence.describe()
    }

    /// The last step, once the workers run: tells the XDP program what is ours, and follows the kernel from here on.
    pub fn begin(self, runtime: &Runtime) -> Result<Presence, HostError> {
        let Self { follower, mut presence, addresses, mode, mailboxes, begun, .. } = self;
        let mut follower = follower;
        if let Some(shared) = runtime.shared() {
            shared.set_indirection(&Indirection::even(u8::try_from(mailboxes.len()).unwrap_or(u8::MAX)));
            match (&addresses, &mut follower) {
                _ if mode != Mode::Shared => {}
                (Addresses::Own { addresses, .. }, _) => {
                    for address in addresses {
                        shared.listeners().insert_address(address.address())?;
                    }
                }
                (Addresses::Kernel, Some((follower, _))) => follower.register(shared.clone())?,
                (Addresses::Kernel, None) => {}
            }
        }
        if let Some((follower, questions)) = follower {
            let thread = std::thread::Builder::new().name("tailwater/kernel".into());
            let thread = thread.spawn(move || follower.run()).map_err(HostError::Follow)?;
            presence.follower = Some((questions, thread));
        } else if let Some(mtu) = runtime.mtu(0) {
            // It may have changed since it was looked up.
            Lone(Arc::clone(&mailboxes)).resized(0, mtu);
        }
        begun.store(true, Ordering::Release);
        mailboxes.iter().for_each(Mailbox::wake);
        Ok(presence)
    }
}

/// Tells the workers of a host that follows no kernel.
struct Lone(Arc<[Mailbox]>);

impl PortListener for Lone {
    fn joined(&self, _port: u16, _link: &Link) {}

    fn leaving(&self, _port: u16, _ifindex: u32) {}

    fn resized(&self, port: u16, mtu: u32) {
        for mailbox in self.0.iter() {
            // Besides, it only gets what the workers start with.
            if mailbox.updates.push(Update::Mtu(InterfaceId(port.into()), mtu as usize)).is_ok() {
                mailbox.wake();
            }
        }
    }
}

fn links(config: &RuntimeConfig) -> Result<Vec<Link>, HostError> {
    let names: Vec<String> = config.interfaces.iter().map(|interface| interface.name.clone()).collect();
    Ok(Netlink::open()?.links_by_name(&names)?)
}

/// The interface as the stack is to see it.
pub(super) fn interface(link: &Link, shares_kernel: bool) -> Result<InterfaceConfig, HostError> {
    let (mac, mtu) = (mac(link)?, link.mtu_bytes as usize);
    let config = if shares_kernel { InterfaceConfig::shared(mac, mtu) } else { InterfaceConfig::exclusive(mac, mtu) };
    debug_assert_eq!(shares_kernel, config.neighbours == NeighbourMode::External);
    Ok(InterfaceConfig { scope_id: link.ifindex, ..config })
}

fn mac(link: &Link) -> Result<MacAddress, HostError> {
    link.mac.as_slice().try_into().map(MacAddress).map_err(|_| HostError::NoMac(link.name.clone()))
}

fn reserve(listeners: &[Listener], notes: &mut Vec<String>) -> Result<Vec<Reservation>, HostError> {
    let mut reservations = Vec::new();
    for &listener in listeners {
        let refused = |error: rustix::io::Errno| HostError::Reserve { port: listener.to_string(), error: error.into() };
        let reservation = Reservation::of(listener).map_err(refused)?;
        notes.push(format!("{listener} is reserved in the kernel"));
        reservations.push(reservation);
    }
    Ok(reservations)
}

/// All ports into the stack, and out by the port that it chooses.
pub fn graph(ports: &[String]) -> GraphSpec {
    let spec = GraphSpec::default().node(NODE, super::KIND.name, &[]).edge(NODE, EGRESS);
    ports.iter().fold(spec, |spec, port| spec.edge(&format!("rx:{port}"), NODE))
}

/// The same, with the ports that join later.
pub fn graph_of_group(_ports: &[String]) -> GraphSpec {
    GraphSpec::default().node(NODE, super::KIND.name, &[]).edge(NODE, EGRESS).edge(INGRESS, NODE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::InterfaceConfig;
    use crate::socket::{SocketConfig, Sockets, TcpListener};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};
    use tailwater_lab::Lab;

    fn own() -> Addresses {
        Addresses::Own { addresses: vec![Cidr::new([10, 1, 0, 77], 24).unwrap()], gateways: Vec::new() }
    }

    fn on_d0() -> RuntimeConfig {
        RuntimeConfig { interfaces: vec![InterfaceConfig::named("d0")], ..RuntimeConfig::default() }
    }

    fn set_mtu(lab: &Lab, mtu: u32) {
        lab.client().ip(&format!("link set c0 mtu {mtu}")).unwrap();
        lab.dut().ip(&format!("link set d0 mtu {mtu}")).unwrap();
    }

    /// Payload of our segments on a connection that is opened now.
    fn segment(lab: &Lab, listener: &TcpListener) -> u32 {
        let (to, patience) = ("10.1.0.77:7000".parse().unwrap(), Duration::from_secs(10));
        let _kernel = lab.client().enter(|| TcpStream::connect_timeout(&to, patience)).unwrap().unwrap();
        listener.accept().unwrap().0.snapshot().unwrap().smss
    }

    #[test]
    fn a_host_with_addresses_of_its_own_takes_up_a_new_mtu() {
        let lab = Lab::pair(1, 1500).unwrap();
        let (sockets, service) = Sockets::new(SocketConfig::default());
        let start = || Host::new(service).addresses(own()).start(&on_d0());
        let (mut runtime, _presence) = lab.dut().enter(start).unwrap().unwrap();
        let listener = sockets.listen_tcp("10.1.0.77:7000").unwrap();
        assert!((1_400..=1_460).contains(&segment(&lab, &listener)));
        for (mtu, segments) in [(9_000, 8_900..=8_960), (1_300, 1_200..=1_260)] {
            set_mtu(&lab, mtu);
            let end = Instant::now() + Duration::from_secs(10);
            while !segments.contains(&segment(&lab, &listener)) {
                assert!(Instant::now() < end, "segments of {} bytes at {mtu}", segment(&lab, &listener));
                lab.dut().enter(|| runtime.tend()).unwrap().unwrap();
            }
        }
        drop(listener);
        runtime.stop().unwrap();
    }

    #[test]
    fn a_host_with_addresses_of_its_own_has_the_mtu_that_its_port_was_opened_with() {
        let lab = Lab::pair(1, 1500).unwrap();
        let (sockets, service) = Sockets::new(SocketConfig::default());
        let prepare = || Host::new(service).addresses(own()).prepare(&on_d0());
        let prepared = lab.dut().enter(prepare).unwrap().unwrap();
        set_mtu(&lab, 9_000);
        let services = prepared.services();
        let start = || Runtime::start(&on_d0(), &Registry::builtin(), services, graph);
        let runtime = lab.dut().enter(start).unwrap().unwrap();
        let _presence = prepared.begin(&runtime).unwrap();
        let listener = sockets.listen_tcp("10.1.0.77:7000").unwrap();
        assert!((8_900..=8_960).contains(&segment(&lab, &listener)));
        drop(listener);
        runtime.stop().unwrap();
    }
}
