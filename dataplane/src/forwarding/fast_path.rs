//! The fast path of a router: check a batch of packets, look their destinations up side by side, address them to their next
//! stations. Whatever needs more than that is set aside, by position, with the reason.
//!
//! Destinations are looked up 32 at a time, so that the table's cache misses overlap with each other and with the checks
//! of the packets behind.

use std::sync::Arc;

use tailwater_fib::{Adjacency, AdjacencyWord, BATCH, FibError, FibView, NextHop};
use tailwater_xdp::flow_hash;

use super::header::{self, Surprise, Transit};
use super::{ForwardingPlane, PortEntry};
use crate::frame::Frame;

/// Why a frame is set aside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exception {
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

/// Destinations of a chunk of one family, with the place of each packet and its length.
struct Wanted<A> {
    to: [A; BATCH],
    at: [(u16, u32); BATCH],
    count: usize,
}

impl<A: Copy + Default> Default for Wanted<A> {
    fn default() -> Self {
        Self { to: [A::default(); BATCH], at: [(0, 0); BATCH], count: 0 }
    }
}

impl<A: Copy> Wanted<A> {
    #[inline]
    fn add(&mut self, at: usize, destination: A, len: u32) {
        if let (Some(to), Some(place)) = (self.to.get_mut(self.count), self.at.get_mut(self.count)) {
            (*to, *place) = (destination, (at as u16, len));
            self.count += 1;
        }
    }
}

/// Reused from chunk to chunk, so that nothing is cleared.
#[derive(Default)]
struct Scratch {
    v4: Wanted<u32>,
    v6: Wanted<u128>,
}

/// One worker's view of the tables, and what it found in the current batch.
pub struct FastPath {
    plane: Arc<ForwardingPlane>,
    pub(crate) view: FibView,
    pub(crate) ports: Arc<Vec<PortEntry>>,
    ports_version: u64,
    scratch: Box<Scratch>,
    /// Frames of the current batch that need more, by position.
    pub(crate) exceptions: Vec<(usize, Exception)>,
}

impl FastPath {
    /// Takes a reader's seat at the tables of `plane`.
    pub fn join(plane: Arc<ForwardingPlane>) -> Result<Self, FibError> {
        Ok(Self {
            view: plane.reader().join()?,
            ports_version: plane.ports_version(),
            ports: plane.ports(),
            plane,
            scratch: Box::default(),
            exceptions: Vec::with_capacity(256),
        })
    }

    /// To be called between batches: nothing read from the tables is held any more, and a changed port table is taken up.
    #[inline]
    pub fn quiescent(&mut self) {
        self.view.quiescent();
        let version = self.plane.ports_version();
        if version != self.ports_version {
            self.ports_version = version;
            self.ports = self.plane.ports();
        }
    }

    /// Prepares frames to leave by the ports that they name then. Returns how many were set aside instead.
    #[inline]
    pub fn forward(&mut self, frames: &mut [Frame]) -> usize {
        for (at, chunk) in frames.chunks_mut(BATCH).enumerate() {
            self.forward_chunk(at * BATCH, chunk);
        }
        self.exceptions.len()
    }

    #[inline]
    fn forward_chunk(&mut self, first: usize, frames: &mut [Frame]) {
        let Self { plane, view, ports, scratch, exceptions, .. } = self;
        let Scratch { v4, v6 } = &mut **scratch;
        (v4.count, v6.count) = (0, 0);
        for (at, frame) in frames.iter_mut().enumerate() {
            match header::transit(frame) {
                Ok(Transit::Ip4(destination, len)) => {
                    view.prefetch4(destination);
                    v4.add(at, destination, len);
                }
                Ok(Transit::Ip6(destination, len)) => {
                    view.prefetch6(destination);
                    v6.add(at, destination, len);
                }
                Err(surprise) => exceptions.push((first + at, Exception::Surprise(surprise))),
            }
        }
        let mut next_hops = [NextHop::NONE; BATCH];
        let mut departure = Departure { plane, view, ports, exceptions, first };
        if v4.count > 0 {
            view.lookup4_batch(&v4.to[..v4.count], &mut next_hops[..v4.count]);
            departure.leave_all(frames, &v4.at[..v4.count], &next_hops[..v4.count]);
        }
        if v6.count > 0 {
            view.lookup6_batch(&v6.to[..v6.count], &mut next_hops[..v6.count]);
            departure.leave_all(frames, &v6.at[..v6.count], &next_hops[..v6.count]);
        }
    }

    /// Hash of the flow that a frame belongs to.
    pub(crate) fn flow(&self, frame: &Frame) -> u32 {
        flow_hash_of(&self.plane, frame)
    }

    /// What the tables say about a packet of the flow of `frame` with this next hop.
    pub(crate) fn way(&self, frame: &Frame, next_hop: NextHop) -> AdjacencyWord {
        way(&self.plane, &self.view, frame, next_hop)
    }
}

/// The second half of the work on a chunk.
struct Departure<'a> {
    plane: &'a ForwardingPlane,
    view: &'a FibView,
    ports: &'a [PortEntry],
    exceptions: &'a mut Vec<(usize, Exception)>,
    /// Position of the chunk in the batch.
    first: usize,
}

impl Departure<'_> {
    /// Prepares the frames at these places (position, length of the IP packet) to leave by their next hops.
    #[inline(always)]
    fn leave_all(&mut self, frames: &mut [Frame], at: &[(u16, u32)], next_hops: &[NextHop]) {
        for (&(at, len), &next_hop) in at.iter().zip(next_hops) {
            let Some(frame) = frames.get_mut(usize::from(at)) else { continue };
            let way = way(self.plane, self.view, frame, next_hop);
            if let Err(exception) = leave(self.ports, frame, way, len) {
                self.exceptions.push((self.first + usize::from(at), exception));
            }
        }
    }
}

#[inline]
fn way(plane: &ForwardingPlane, view: &FibView, frame: &Frame, next_hop: NextHop) -> AdjacencyWord {
    let hash = if next_hop.is_group() { flow_hash_of(plane, frame) } else { 0 };
    view.resolve_word(next_hop, hash)
}

fn flow_hash_of(plane: &ForwardingPlane, frame: &Frame) -> u32 {
    header::flow_key(frame).map_or(0, |flow| flow_hash(plane.hash_key(), &flow))
}

/// Prepares a transit frame with an IP packet of `len` bytes to leave, or says why it cannot. Its other callers are rare and must
/// not make it a call for each packet.
#[inline(always)]
pub(crate) fn leave(ports: &[PortEntry], frame: &mut Frame, way: AdjacencyWord, len: u32) -> Result<(), Exception> {
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
