//! `[[flow]]`: a kind of workload between two hosts. A new kind is a line in [`KINDS`].

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tailwater_stack::tcp::ConnectionOptions;
use tailwater_stack::tcp::congestion::{CONTROLS, control};

use super::error::ScenarioError;
use super::expand::Text;
use super::link::repeat;
use super::section::Section;
use crate::quantity;
use crate::simulation::{NodeId, Simulation};
use crate::workload::{
    Ping, Pings, TcpClient, TcpClientConfig, TcpResponder, TcpSink, TcpSource, TcpSourceConfig, UdpEcho, UdpRequests,
    UdpRequestsConfig, UdpSink, UdpSource, UdpSourceConfig, Workload, any_of,
};

type Result<T> = std::result::Result<T, ScenarioError>;

/// Where a flow runs.
pub(super) struct Place {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    /// Of the receiving host.
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) start: Duration,
    pub(super) stop: Duration,
}

impl Place {
    fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    fn any(&self) -> SocketAddr {
        SocketAddr::new(any_of(self.address), self.port)
    }
}

/// The two ends of a flow.
struct Ends {
    from: Box<dyn Workload>,
    to: Option<Box<dyn Workload>>,
}

/// Makes the ends of a flow of this name.
type Make = Box<dyn Fn(&str, &Place) -> Ends + Send + Sync>;

/// What a kind's own keys say.
struct Recipe {
    make: Make,
    /// Sends again as soon as there is an answer, without end.
    hurries: bool,
    /// Takes one of the sending host's echo identifiers, and no port.
    pings: bool,
}

impl Recipe {
    fn new(make: impl Fn(&str, &Place) -> Ends + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), hurries: false, pings: false }
    }
}

struct Kind {
    name: &'static str,
    /// Reads the kind's own keys.
    read: fn(&mut Section<'_>) -> Result<Recipe>,
}

const KINDS: &[Kind] = &[
    Kind { name: "udp", read: udp },
    Kind { name: "udp-requests", read: udp_requests },
    Kind { name: "ping", read: ping },
    Kind { name: "tcp", read: tcp },
    Kind { name: "tcp-requests", read: tcp_requests },
];

pub(super) struct FlowSpec {
    name: String,
    pub(super) from: Text,
    pub(super) to: Text,
    pub(super) ipv6: bool,
    pub(super) start: Duration,
    pub(super) stop: Option<Duration>,
    pub(super) span: Range<usize>,
    recipe: Arc<Recipe>,
}

impl FlowSpec {
    /// One, or as many as `repeat` says.
    pub(super) fn read(mut section: Section<'_>) -> Result<Vec<Self>> {
        let name = section.need_string("name", "a name such as \"download\"")?;
        let kinds: Vec<String> = KINDS.iter().map(|kind| kind.name.to_owned()).collect();
        let kind = section.need_string("kind", &format!("one of {}", kinds.join(", ")))?;
        let Some(known) = KINDS.iter().find(|known| known.name == kind.value) else {
            let error = ScenarioError::at(section.text(), kind.span, format!("there is no kind '{}'", kind.value));
            return Err(error.similar(&kind.value, kinds.iter(), "kinds are"));
        };
        let from = section.need_string("from", "the name of a host")?;
        let to = section.need_string("to", "the name of a host")?;
        let ipv6 = section.flag("ipv6")?.unwrap_or(false);
        let start = section.quantity("start", quantity::time)?.unwrap_or_default();
        let stop = section.quantity("stop", quantity::time)?;
        let repeat = repeat(&mut section)?;
        let recipe = Arc::new((known.read)(&mut section)?);
        let span = section.span();
        section.finish()?;
        let flow = |n| Self {
            name: name.with(n).value,
            from: from.with(n),
            to: to.with(n),
            ipv6,
            start,
            stop,
            span: span.clone(),
            recipe: Arc::clone(&recipe),
        };
        Ok((1..=repeat).map(flow).collect())
    }

    pub(super) fn hurries(&self) -> bool {
        self.recipe.hurries
    }

    pub(super) fn pings(&self) -> bool {
        self.recipe.pings
    }

    pub(super) fn add(&self, place: &Place, simulation: &mut Simulation) {
        let Ends { from, to } = (self.recipe.make)(&self.name, place);
        if let Some(to) = to {
            simulation.add_boxed_workload(place.to, to);
        }
        simulation.add_boxed_workload(place.from, from);
    }
}

/// Bytes of a UDP payload.
fn payload_size(section: &mut Section<'_>, default: usize) -> Result<usize> {
    let size = section.quantity("size", quantity::size)?.map_or(default, |size| size as usize);
    if !(16..=65_507).contains(&size) {
        return Err(section.wrong_value("size", "16 B to 65507 B"));
    }
    Ok(size)
}

/// Of what is sent again after this time whatever happens, so that something else can happen too.
fn at_least_a_microsecond(section: &mut Section<'_>, key: &str) -> Result<Option<Duration>> {
    match section.quantity(key, quantity::time)? {
        Some(time) if time < Duration::from_micros(1) => Err(section.wrong_value(key, "at least 1 us")),
        time => Ok(time),
    }
}

fn udp(section: &mut Section<'_>) -> Result<Recipe> {
    let rate_bps = section.need("rate", quantity::rate)?;
    if rate_bps == 0 {
        return Err(section.wrong_value("rate", "a rate with an end, such as \"10 Mbit/s\""));
    }
    let size = payload_size(section, 1_200)?;
    Ok(Recipe::new(move |name, place| {
        let config = UdpSourceConfig { to: place.remote(), rate_bps, size, start: place.start, stop: Some(place.stop) };
        let to = UdpSink::new(name, place.any());
        Ends { from: Box::new(UdpSource::new(name, config)), to: Some(Box::new(to)) }
    }))
}

fn udp_requests(section: &mut Section<'_>) -> Result<Recipe> {
    let size = payload_size(section, 64)?;
    let pause = section.quantity("pause", quantity::time)?.unwrap_or_default();
    let timeout = at_least_a_microsecond(section, "timeout")?.unwrap_or(Duration::from_secs(1));
    let recipe = Recipe::new(move |name, place| {
        let (to, start, stop) = (place.remote(), place.start, Some(place.stop));
        let from = UdpRequests::new(name, UdpRequestsConfig { to, size, start, stop, pause, timeout });
        Ends { from: Box::new(from), to: Some(Box::new(UdpEcho::new(name, place.any()))) }
    });
    Ok(Recipe { hurries: pause.is_zero(), ..recipe })
}

fn ping(section: &mut Section<'_>) -> Result<Recipe> {
    let interval = at_least_a_microsecond(section, "interval")?.unwrap_or(Duration::from_secs(1));
    let count = section.integer("count")?.unwrap_or(u64::MAX);
    let size = payload_size(section, 56)?;
    let recipe = Recipe::new(move |name, place| {
        let pings = Pings { count, interval, size, start: place.start, ..Pings::to(place.address) };
        Ends { from: Box::new(Ping::new(name, pings)), to: None }
    });
    Ok(Recipe { pings: true, ..recipe })
}

/// What connections start with: the stack's choices, but for what the section says.
fn connection(section: &mut Section<'_>) -> Result<ConnectionOptions> {
    let mut options = ConnectionOptions::default();
    if let Some(name) = section.string("control")? {
        let names: Vec<String> = CONTROLS.iter().map(|control| control.name.to_owned()).collect();
        options.congestion_control = control(&name.value).ok_or_else(|| {
            let message = format!("there is no congestion control '{}'", name.value);
            ScenarioError::at(section.text(), name.span, message).similar(&name.value, names.iter(), "controls are")
        })?;
    }
    options.ecn = section.flag("ecn")?.unwrap_or(options.ecn);
    options.pacing = section.flag("pacing")?.unwrap_or(options.pacing);
    options.send_buffer_max = buffer(section, "send_buffer")?.unwrap_or(options.send_buffer_max);
    options.receive_buffer = buffer(section, "receive_buffer")?.unwrap_or(options.receive_buffer);
    Ok(options)
}

fn buffer(section: &mut Section<'_>, key: &str) -> Result<Option<u32>> {
    match section.quantity(key, quantity::size)? {
        Some(0) => Err(section.wrong_value(key, "at least 1 B")),
        size => Ok(size.map(|size| u32::try_from(size).unwrap_or(u32::MAX))),
    }
}

fn tcp(section: &mut Section<'_>) -> Result<Recipe> {
    let bytes = section.quantity("bytes", quantity::size)?;
    let options = connection(section)?;
    let recipe = Recipe::new(move |name, place| {
        let (to, start, stop) = (place.remote(), place.start, Some(place.stop));
        let from = TcpSource::new(name, TcpSourceConfig { to, bytes, start, stop, options });
        Ends { from: Box::new(from), to: Some(Box::new(TcpSink::new(name, place.any(), options))) }
    });
    Ok(Recipe { hurries: bytes.is_none(), ..recipe })
}

fn tcp_requests(section: &mut Section<'_>) -> Result<Recipe> {
    let request = section.quantity("request", quantity::size)?.unwrap_or(64);
    let response = section.quantity("response", quantity::size)?.unwrap_or(1_024);
    if request == 0 || response == 0 {
        return Err(section.missing("request", "request and response of at least 1 B"));
    }
    let per_connection = section.integer("per_connection")?.unwrap_or(u64::MAX).max(1);
    let pause = section.quantity("pause", quantity::time)?.unwrap_or_default();
    let options = connection(section)?;
    let recipe = Recipe::new(move |name, place| {
        let (to, start, stop) = (place.remote(), place.start, Some(place.stop));
        let config = TcpClientConfig { to, request, response, per_connection, pause, start, stop, options };
        let responder = TcpResponder::new(name, place.any(), request, response, options);
        Ends { from: Box::new(TcpClient::new(name, config)), to: Some(Box::new(responder)) }
    });
    Ok(Recipe { hurries: pause.is_zero(), ..recipe })
}
