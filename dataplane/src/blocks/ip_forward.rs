//! `ip-forward`: the router. Looks the destination up in the kernel's routes, counts the hop, addresses the frame to the
//! next station (RFC 1812, RFC 8200).
//!
//! Takes Ethernet frames, IPv4 and IPv6 mixed. Output `out` goes to `tx:*`: the block sets each frame's port.
//!
//! A batch is looked up 32 destinations at a time, so that the table's cache misses overlap. Frames that need anything
//! else than forwarding are set aside and handled after the batch ([`Exception`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tailwater_fib::{Adjacency, AdjacencyWord, BATCH, FibView, NextHop};
use tailwater_stack::icmp_error::{self, IcmpError, Offending};
use tailwater_stack::rate_limit::{RateLimit, TokenBucket};
use tailwater_stack::{Buffer, Instant};
use tailwater_xdp::flow_hash;

use crate::block::{
    self, Block, BuildError, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin, Services, State,
    Value, ValueKind,
};
use crate::forwarding::header::{self, Surprise, Transit};
use crate::forwarding::parked::{Ask, LOOK_NS, PATIENCE_NS, Parked, ParkingLot};
use crate::forwarding::{ForwardingPlane, PortEntry, Request, fragment4};
use crate::frame::{Batch, Frame};
use crate::ledger::DropReason;

const ICMP_RATE: Parameter = Parameter {
    key: "icmp_rate_pps",
    kind: ValueKind::Integer { min: 0, max: 1_000_000 },
    default: Some("1000"),
    doc: "ICMP errors that one worker sends per second, in the long run (RFC 1812 §4.3.2.8)",
};
const ICMP_BURST: i64 = 50;

pub(crate) const KIND: Kind = Kind {
    name: "ip-forward",
    summary: "forward IPv4 and IPv6 by the kernel's routes",
    input: PacketType::Ethernet,
    outputs: &[Pin { name: "out", carries: PacketType::Ethernet }, Pin { name: "host", carries: PacketType::Ethernet }],
    parameters: &[ICMP_RATE],
    polled: true,
    state: Some("ip-forward"),
    prepare: block::live,
    build: |arguments, services| Ok(Box::new(IpForward::new(arguments.integer(ICMP_RATE.key), services)?)),
};

const OUT: usize = 0;
const ETHERNET_LEN: usize = 14;

/// Why a frame is set aside.
#[derive(Clone, Copy, Debug)]
enum Exception {
    Surprise(Surprise),
    NoRoute,
    Prohibited,
    Blackhole,
    Host,
    Unresolved(NextHop),
    /// Larger than the way out carries.
    TooBig {
        way: AdjacencyWord,
        mtu: u32,
    },
    PortDown,
}

/// Destinations of a chunk, by family, with the place of each packet and its length.
struct Wanted {
    to4: [u32; BATCH],
    at4: [(u16, u32); BATCH],
    count4: usize,
    to6: [u128; BATCH],
    at6: [(u16, u32); BATCH],
    count6: usize,
    next_hops: [NextHop; BATCH],
}

impl Wanted {
    #[inline]
    fn add4(&mut self, at: usize, destination: u32, len: u32) {
        if let (Some(to), Some(place)) = (self.to4.get_mut(self.count4), self.at4.get_mut(self.count4)) {
            (*to, *place) = (destination, (at as u16, len));
            self.count4 += 1;
        }
    }

    #[inline]
    fn add6(&mut self, at: usize, destination: u128, len: u32) {
        if let (Some(to), Some(place)) = (self.to6.get_mut(self.count6), self.at6.get_mut(self.count6)) {
            (*to, *place) = (destination, (at as u16, len));
            self.count6 += 1;
        }
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            to4: [0; BATCH],
            at4: [(0, 0); BATCH],
            count4: 0,
            to6: [0; BATCH],
            at6: [(0, 0); BATCH],
            count6: 0,
            next_hops: [NextHop::NONE; BATCH],
        }
    }
}

struct IpForward {
    /// Reused from chunk to chunk, so that nothing is cleared.
    wanted: Option<Box<Wanted>>,
    plane: Arc<ForwardingPlane>,
    view: FibView,
    ports: Arc<Vec<PortEntry>>,
    ports_version: u64,
    /// Frames of the current batch to be handled after it, by position.
    exceptions: Vec<(usize, Exception)>,
    carried: Carried,
    errors: TokenBucket,
}

/// What a successor takes over.
#[derive(Default)]
struct Carried {
    parked: ParkingLot,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    forwarded: u64,
    icmp_sent: u64,
    icmp_suppressed: u64,
    fragmented: u64,
    parked: u64,
    requests: u64,
}

impl IpForward {
    fn new(icmp_rate_pps: i64, services: &Services) -> Result<Self, BuildError> {
        let plane: Arc<ForwardingPlane> = services.find().ok_or(BuildError::Service("a forwarding plane"))?;
        let view = plane.reader().join().map_err(|error| BuildError::Other(error.to_string()))?;
        Ok(Self {
            wanted: Some(Box::default()),
            ports_version: plane.ports_version(),
            ports: plane.ports(),
            view,
            plane,
            exceptions: Vec::with_capacity(256),
            carried: Carried::default(),
            errors: bucket(icmp_rate_pps),
        })
    }

    /// Looks up and rewrites up to [`BATCH`] frames; those that cannot simply go out are noted by position.
    #[inline]
    fn forward_chunk(&mut self, first: usize, frames: &mut [Frame]) {
        let Some(mut wanted) = self.wanted.take() else { return };
        (wanted.count4, wanted.count6) = (0, 0);
        for (at, frame) in frames.iter_mut().enumerate() {
            match header::transit(frame) {
                Ok(Transit::Ip4(destination, len)) => wanted.add4(at, destination, len),
                Ok(Transit::Ip6(destination, len)) => wanted.add6(at, destination, len),
                Err(surprise) => self.exceptions.push((first + at, Exception::Surprise(surprise))),
            }
        }
        let Wanted { to4, at4, count4, to6, at6, count6, next_hops, .. } = &mut *wanted;
        if *count4 > 0 {
            self.view.lookup4_batch(&to4[..*count4], &mut next_hops[..*count4]);
            self.leave_all(first, frames, &at4[..*count4], &next_hops[..*count4]);
        }
        if *count6 > 0 {
            self.view.lookup6_batch(&to6[..*count6], &mut next_hops[..*count6]);
            self.leave_all(first, frames, &at6[..*count6], &next_hops[..*count6]);
        }
        self.wanted = Some(wanted);
    }

    /// Prepares the frames at these places (position, length of the IP packet) to leave by their next hops.
    #[inline]
    fn leave_all(&mut self, first: usize, frames: &mut [Frame], at: &[(u16, u32)], next_hops: &[NextHop]) {
        let Self { plane, view, ports, exceptions, carried: Carried { counters, .. }, .. } = self;
        let before = exceptions.len();
        for (&(at, len), &next_hop) in at.iter().zip(next_hops) {
            let Some(frame) = frames.get_mut(usize::from(at)) else { continue };
            let hash = if next_hop.is_group() { flow_hash_of(plane, frame) } else { 0 };
            let way = view.resolve_word(next_hop, hash);
            if let Err(exception) = leave(ports, frame, way, len) {
                exceptions.push((first + usize::from(at), exception));
            }
        }
        counters.forwarded += (at.len() - (exceptions.len() - before)) as u64;
    }

    fn way(&self, frame: &Frame, next_hop: NextHop) -> AdjacencyWord {
        let hash = if next_hop.is_group() { flow_hash_of(&self.plane, frame) } else { 0 };
        self.view.resolve_word(next_hop, hash)
    }

    /// Deals with one frame that was set aside.
    #[cold]
    fn handle(&mut self, frame: Frame, exception: Exception, context: &mut Context<'_>) {
        match exception {
            Exception::Surprise(Surprise::Drop(reason)) => context.discard(frame, reason),
            Exception::Surprise(Surprise::TtlExceeded) => {
                self.refuse(frame, IcmpError::TimeExceeded, DropReason::TtlExceeded, context);
            }
            Exception::NoRoute => self.refuse(frame, IcmpError::NoRoute, DropReason::NoRoute, context),
            Exception::Prohibited => self.refuse(frame, IcmpError::Prohibited, DropReason::RouteRefused, context),
            Exception::Blackhole => context.discard(frame, DropReason::Blackhole),
            Exception::PortDown => self.refuse(frame, IcmpError::HostUnreachable, DropReason::PortDown, context),
            Exception::Host => context.discard(frame, DropReason::ForHost),
            Exception::Unresolved(next_hop) => self.park(frame, next_hop, false, context),
            Exception::TooBig { way, mtu } => self.too_big(frame, way, mtu, context),
        }
    }

    /// RFC 1812 §5.2.6, RFC 8200 §5: IPv4 without "don't fragment" is cut up, everything else refused.
    fn too_big(&mut self, frame: Frame, way: AdjacencyWord, mtu: u32, context: &mut Context<'_>) {
        let is_ip4 = frame.bytes().get(frame.l3_offset()).is_some_and(|first| first >> 4 == 4);
        if !is_ip4 || !crate::forwarding::may_fragment(&frame) {
            self.refuse(frame, IcmpError::PacketTooBig { mtu: mtu as usize }, DropReason::PacketTooBig, context);
            return;
        }
        let mut fragments = Batch::default();
        match fragment4(&frame, mtu as usize, context.pool, &mut fragments) {
            Some(count) => {
                *context.originated += count as u64;
                self.carried.counters.fragmented += 1;
                context.deliver(frame);
            }
            None => context.discard(frame, DropReason::NoFrame),
        }
        let mut left = Batch::default();
        for mut fragment in fragments.drain() {
            let len = header::packet_len(&fragment) as u32;
            match leave(&self.ports, &mut fragment, way, len) {
                Ok(()) => left.push(fragment),
                Err(_) => context.discard(fragment, DropReason::PacketTooBig),
            }
        }
        context.emit_batch(OUT, &mut left);
    }

    /// Discards a frame and tells its sender why, where that is allowed and not too often.
    fn refuse(&mut self, frame: Frame, error: IcmpError, reason: DropReason, context: &mut Context<'_>) {
        if let Some(answer) = self.answer(&frame, error, context) {
            self.send_own(answer, context);
        }
        context.discard(frame, reason);
    }

    /// An ICMP error about `frame`, without Ethernet header yet.
    fn answer(&mut self, frame: &Frame, error: IcmpError, context: &mut Context<'_>) -> Option<Frame> {
        let ethernet = frame.bytes().first_chunk::<ETHERNET_LEN>()?;
        let packet = frame.bytes().get(frame.l3_offset().max(ETHERNET_LEN)..)?;
        let offending = Offending { packet, to_group: ethernet[0] & 1 != 0 };
        let entry = self.ports.get(usize::from(frame.port()))?;
        let source = match packet.first()? >> 4 {
            4 => IpAddr::V4(entry.ip4?),
            _ => IpAddr::V6(entry.ip6?),
        };
        icmp_error::may_answer(error, offending).ok()?;
        if !self.errors.take(Instant::from_nanos(context.now_ns)) {
            self.carried.counters.icmp_suppressed += 1;
            return None;
        }
        let mut answer = context.originate()?;
        match icmp_error::build(error, offending, source, &mut answer) {
            Ok(()) => {
                self.carried.counters.icmp_sent += 1;
                Some(answer)
            }
            Err(_) => {
                context.deliver(answer);
                None
            }
        }
    }

    /// Sends a packet of our own: an IP packet without Ethernet header.
    fn send_own(&mut self, mut frame: Frame, context: &mut Context<'_>) {
        if Buffer::prepend(&mut frame, ETHERNET_LEN).is_err() {
            context.discard(frame, DropReason::NoFrame);
            return;
        }
        frame.set_l3_offset(ETHERNET_LEN as u8);
        let is_ip4 = frame.bytes().get(ETHERNET_LEN).is_some_and(|first| first >> 4 == 4);
        if let Some(ethertype) = frame.bytes_mut().get_mut(12..14) {
            ethertype.copy_from_slice(if is_ip4 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        }
        // `leave` counts a hop; ours starts with one more.
        let hops = ETHERNET_LEN + if is_ip4 { 8 } else { 7 };
        if is_ip4 {
            raise_ttl(&mut frame);
        } else if let Some(hops) = frame.bytes_mut().get_mut(hops) {
            *hops = hops.saturating_add(1);
        }
        let next_hop = self.route(&frame);
        self.send_or_park(frame, next_hop, true, context);
    }

    fn route(&self, frame: &Frame) -> NextHop {
        match destination(frame) {
            Some(IpAddr::V4(ip)) => self.view.lookup4(ip.to_bits()),
            Some(IpAddr::V6(ip)) => self.view.lookup6(ip.to_bits()),
            None => NextHop::NONE,
        }
    }

    fn send_or_park(&mut self, mut frame: Frame, next_hop: NextHop, own: bool, context: &mut Context<'_>) {
        let (way, len) = (self.way(&frame, next_hop), header::packet_len(&frame) as u32);
        match leave(&self.ports, &mut frame, way, len) {
            Ok(()) => context.emit(OUT, frame),
            Err(Exception::Unresolved(next_hop)) => self.park(frame, next_hop, own, context),
            // Our own packet: no error about an error.
            Err(_) if own => context.discard(frame, DropReason::NoRoute),
            Err(exception) => self.handle(frame, exception, context),
        }
    }

    fn park(&mut self, frame: Frame, next_hop: NextHop, own: bool, context: &mut Context<'_>) {
        let Some(destination) = destination(&frame) else {
            context.discard(frame, DropReason::BadIp4);
            return;
        };
        if self.carried.parked.is_empty() {
            self.carried.parked.look_ns = context.now_ns + LOOK_NS;
        }
        match self.carried.parked.park(frame, next_hop, destination, context.now_ns, own) {
            Ok(ask) => {
                self.carried.counters.parked += 1;
                if ask == Ask::Now {
                    self.carried.counters.requests += 1;
                    self.plane.request(Request { next_hop, destination });
                }
            }
            Err(frame) => context.discard(frame, DropReason::NeighbourQueueFull),
        }
    }

    /// Looks at the parked packets: those whose next hop is known by now leave, those that waited too long are refused.
    #[cold]
    fn look_at_parked(&mut self, context: &mut Context<'_>) {
        let mut parked = std::mem::take(&mut self.carried.parked);
        let now_ns = context.now_ns;
        let ready = parked.take(|waiting| {
            let adjacency = self.way(&waiting.frame, self.route(&waiting.frame)).adjacency();
            let resolved = !matches!(adjacency, Adjacency::Unresolved { .. });
            resolved || now_ns.saturating_sub(waiting.since_ns) > PATIENCE_NS
        });
        parked.ask_again(now_ns, |waiting| {
            self.plane.request(Request { next_hop: waiting.next_hop, destination: waiting.destination });
        });
        parked.look_ns = now_ns + LOOK_NS;
        self.carried.parked = parked;
        for Parked { frame, since_ns, own, .. } in ready {
            let next_hop = self.route(&frame);
            let unresolved = matches!(self.way(&frame, next_hop).adjacency(), Adjacency::Unresolved { .. });
            match (unresolved, own) {
                (false, _) => self.send_or_park(frame, next_hop, own, context),
                (true, true) => context.discard(frame, DropReason::NeighbourFailed),
                (true, false) if now_ns.saturating_sub(since_ns) > PATIENCE_NS => {
                    self.refuse(frame, IcmpError::HostUnreachable, DropReason::NeighbourFailed, context);
                }
                (true, false) => self.send_or_park(frame, next_hop, own, context),
            }
        }
    }
}

impl Block for IpForward {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        if !self.carried.parked.is_empty() {
            // Packets that waited for the same neighbour go first.
            self.look_at_parked(context);
        }
        for (at, chunk) in batch.frames_mut().chunks_mut(BATCH).enumerate() {
            self.forward_chunk(at * BATCH, chunk);
        }
        if self.exceptions.is_empty() {
            return;
        }
        // IPv6 is looked up after IPv4, so positions may come out of order.
        let mut exceptions = std::mem::take(&mut self.exceptions);
        exceptions.sort_unstable_by_key(|(at, _)| *at);
        let (mut at, mut next) = (0, 0);
        let mut aside = Batch::default();
        aside.extend(batch.extract(|_| {
            let taken = exceptions.get(next).is_some_and(|(position, _)| *position == at);
            next += usize::from(taken);
            at += 1;
            taken
        }));
        for (frame, (_, exception)) in aside.drain().zip(exceptions.drain(..)) {
            self.handle(frame, exception, context);
        }
        self.exceptions = exceptions;
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        self.view.quiescent();
        let version = self.plane.ports_version();
        if version != self.ports_version {
            self.ports_version = version;
            self.ports = self.plane.ports();
        }
        if !self.carried.parked.is_empty() && context.now_ns >= self.carried.parked.look_ns {
            self.look_at_parked(context);
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        (!self.carried.parked.is_empty()).then_some(self.carried.parked.look_ns)
    }

    fn held(&self) -> usize {
        self.carried.parked.len()
    }

    fn drain(&mut self, batch: &mut Batch) {
        batch.extend(self.carried.parked.drain());
    }

    fn let_go(&mut self, context: &mut Context<'_>) {
        // None of them has been addressed to its next hop.
        self.carried.parked.drain().for_each(|frame| context.discard(frame, DropReason::BlockRemoved));
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.carried))
    }

    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        state.exchange(KIND.name, &mut self.carried)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match value {
            Value::Integer(rate_pps) if key == ICMP_RATE.key => {
                self.errors = bucket(*rate_pps);
                Ok(())
            }
            _ => Err(ParameterError::Fixed { key: key.to_owned() }),
        }
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Counters { forwarded, icmp_sent, icmp_suppressed, fragmented, parked, requests } = &self.carried.counters;
        report("forwarded", *forwarded);
        report("icmp_sent", *icmp_sent);
        report("icmp_suppressed", *icmp_suppressed);
        report("fragmented", *fragmented);
        report("parked", *parked);
        report("neighbour_requests", *requests);
    }
}

/// Prepares a transit frame with an IP packet of `len` bytes to leave, or says why it cannot.
#[inline]
fn leave(ports: &[PortEntry], frame: &mut Frame, way: AdjacencyWord, len: u32) -> Result<(), Exception> {
    if let Some(port) = way.port()
        && let Some(entry) = ports.get(usize::from(port))
        && len <= entry.mtu
    {
        header::rewrite(frame, way, entry.mac);
        frame.set_port(port);
        return Ok(());
    }
    Err(why_not(ports, way))
}

#[cold]
fn why_not(ports: &[PortEntry], way: AdjacencyWord) -> Exception {
    match way.adjacency() {
        Adjacency::Forward { port, .. } => match ports.get(usize::from(port)).map(|entry| entry.mtu) {
            None | Some(0) => Exception::PortDown,
            Some(mtu) => Exception::TooBig { way, mtu },
        },
        Adjacency::Unresolved { next_hop } => Exception::Unresolved(next_hop),
        Adjacency::Local => Exception::Host,
        Adjacency::Blackhole => Exception::Blackhole,
        Adjacency::Unreachable => Exception::NoRoute,
        Adjacency::Prohibit => Exception::Prohibited,
    }
}

fn flow_hash_of(plane: &ForwardingPlane, frame: &Frame) -> u32 {
    header::flow_key(frame).map_or(0, |flow| flow_hash(plane.hash_key(), &flow))
}

fn bucket(rate_pps: i64) -> TokenBucket {
    TokenBucket::new(RateLimit {
        rate_per_second: u32::try_from(rate_pps).unwrap_or(0),
        burst: u32::try_from(ICMP_BURST.min(rate_pps)).unwrap_or(0),
    })
}

fn destination(frame: &Frame) -> Option<IpAddr> {
    let packet = frame.bytes().get(frame.l3_offset()..)?;
    match packet.first()? >> 4 {
        4 => Some(Ipv4Addr::from(*packet.get(16..)?.first_chunk::<4>()?).into()),
        6 => Some(Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// One hop more, with the checksum following (RFC 1624).
fn raise_ttl(frame: &mut Frame) {
    let l3 = frame.l3_offset();
    let Some(header) = frame.bytes_mut().get_mut(l3..).and_then(|packet| packet.first_chunk_mut::<20>()) else {
        return;
    };
    let (old, new) = ([header[8], header[9]], [header[8].saturating_add(1), header[9]]);
    let sum = tailwater_stack::checksum::update_u16([header[10], header[11]], old, new);
    header[8..10].copy_from_slice(&new);
    header[10..12].copy_from_slice(&sum);
}
