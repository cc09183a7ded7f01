//! `ip-forward`: the router. Looks the destination up in the kernel's routes, counts the hop, addresses the frame to the
//! next station (RFC 1812, RFC 8200).
//!
//! Takes Ethernet frames, IPv4 and IPv6 mixed. Output `out` goes to `tx:*`: the block sets each frame's port.
//!
//! The fast path ([`FastPath`]) deals with a whole batch; frames that need anything else than forwarding are set aside and
//! handled after it ([`Exception`]).

mod waiting;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tailwater_fib::{AdjacencyWord, NextHop};
use tailwater_stack::icmp_error::{self, IcmpError, Offending};
use tailwater_stack::rate_limit::{RateLimit, TokenBucket};
use tailwater_stack::{Buffer, Instant};

use crate::block::{
    self, Block, BuildError, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin, Services, State,
    Value, ValueKind,
};
use crate::forwarding::fast_path::{Exception, FastPath, leave};
use crate::forwarding::header::{self, Surprise};
use crate::forwarding::parked::{Ask, Parked, ParkingLot};
use crate::forwarding::{ForwardingPlane, Request, fragment4};
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
    ..Kind::PLAIN
};

const OUT: usize = 0;
const ETHERNET_LEN: usize = 14;

struct IpForward {
    fast: FastPath,
    plane: Arc<ForwardingPlane>,
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
        let fast = FastPath::join(Arc::clone(&plane)).map_err(|error| BuildError::Other(error.to_string()))?;
        Ok(Self { fast, plane, carried: Carried::default(), errors: bucket(icmp_rate_pps) })
    }

    /// Sends what the fast path has addressed and deals with what it has set aside, in the order in which they came.
    #[cold]
    fn sort_out(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        let mut exceptions = std::mem::take(&mut self.fast.exceptions);
        // IPv6 is looked up after IPv4, so positions may come out of order.
        exceptions.sort_unstable_by_key(|(at, _)| *at);
        let mut next = exceptions.drain(..).peekable();
        for (at, frame) in batch.drain().enumerate() {
            match next.next_if(|(position, _)| *position == at) {
                Some((_, exception)) => self.handle(frame, exception, context),
                None => self.follow(frame, context),
            }
        }
        drop(next);
        self.fast.exceptions = exceptions;
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
            Exception::TooBig { way, mtu } => match self.waits_for(&frame, context) {
                Some(next_hop) => self.park(frame, next_hop, false, context),
                None => self.too_big(frame, way, mtu, context),
            },
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
            match leave(&self.fast.ports, &mut fragment, way, len) {
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
        let entry = self.fast.ports.get(usize::from(frame.port()))?;
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
        raise_hops(&mut frame);
        let (way, len) = (self.way(&frame), header::packet_len(&frame) as u32);
        match leave(&self.fast.ports, &mut frame, way, len) {
            Ok(()) => context.emit(OUT, frame),
            Err(Exception::Unresolved(next_hop)) => self.park(frame, next_hop, true, context),
            // No error about an error.
            Err(_) => context.discard(frame, DropReason::NoRoute),
        }
    }

    fn route(&self, frame: &Frame) -> NextHop {
        match destination(frame) {
            Some(IpAddr::V4(ip)) => self.fast.view.lookup4(ip.to_bits()),
            Some(IpAddr::V6(ip)) => self.fast.view.lookup6(ip.to_bits()),
            None => NextHop::NONE,
        }
    }

    fn way(&self, frame: &Frame) -> AdjacencyWord {
        self.fast.way(frame, self.route(frame))
    }
}

impl Block for IpForward {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        let set_aside = self.fast.forward(batch.frames_mut());
        self.carried.counters.forwarded += (batch.len() - set_aside) as u64;
        if set_aside > 0 || !self.carried.parked.is_empty() {
            self.sort_out(batch, context);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        self.fast.quiescent();
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

/// One hop more, in IPv4 with the checksum following (RFC 1624).
fn raise_hops(frame: &mut Frame) {
    let l3 = frame.l3_offset();
    let Some(header) = frame.bytes_mut().get_mut(l3..).and_then(|packet| packet.first_chunk_mut::<20>()) else {
        return;
    };
    if header[0] >> 4 != 4 {
        header[7] = header[7].saturating_add(1);
        return;
    }
    let (old, new) = ([header[8], header[9]], [header[8].saturating_add(1), header[9]]);
    let sum = tailwater_stack::checksum::update_u16([header[10], header[11]], old, new);
    header[8..10].copy_from_slice(&new);
    header[10..12].copy_from_slice(&sum);
}
