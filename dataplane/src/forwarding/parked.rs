//! Packets that wait for a neighbour's address: by destination, in order, bounded in number and time.
//!
//! A packet is never let past one of its flow ([`Parked::flow`]) that waits.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tailwater_fib::NextHop;

use crate::frame::Frame;

/// Packets that one worker parks in all.
const PARKED_MAX: usize = 512;
/// Packets parked for one destination (Linux: `unres_qlen_bytes`, 212,992 bytes with all that belongs to a packet, which are
/// 101 of 1500 bytes).
const PARKED_PER_DESTINATION_MAX: usize = 101;
/// How long a packet waits. The kernel asks three times, a second apart, before it gives a neighbour up.
pub(crate) const PATIENCE_NS: u64 = 3_200_000_000;
/// Time between two looks at the parked packets.
pub(crate) const LOOK_NS: u64 = 200_000;
/// Time between two requests for the same neighbour.
const ASK_AGAIN_NS: u64 = 1_000_000_000;

/// A packet that could not leave yet.
pub(crate) struct Parked {
    pub(crate) frame: Frame,
    /// The unresolved adjacency.
    pub(crate) next_hop: NextHop,
    /// Hash of its flow.
    pub(crate) flow: u32,
    pub(crate) since_ns: u64,
    /// Made by ourselves (an ICMP error), or addressed once already: not to be answered.
    pub(crate) own: bool,
}

impl Parked {
    pub(crate) fn is_overdue(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) > PATIENCE_NS
    }
}

/// The packets that wait on their way to one destination, oldest first.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) packets: VecDeque<Parked>,
    /// The neighbours they need, and when each was asked for last.
    asked: Vec<(NextHop, u64)>,
}

impl Queue {
    /// What packets of this flow wait for, if any do.
    pub(crate) fn neighbour_of(&self, flow: u32) -> Option<NextHop> {
        self.packets.iter().find(|parked| parked.flow == flow).map(|parked| parked.next_hop)
    }

    fn ask(&mut self, next_hop: NextHop, now_ns: u64) -> Ask {
        if self.asked.iter().any(|(asked, _)| *asked == next_hop) {
            return Ask::Asked;
        }
        self.asked.push((next_hop, now_ns));
        Ask::Now
    }
}

/// What to do after parking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The first packet for this neighbour: ask for it.
    Now,
    /// Others wait already.
    Asked,
}

/// The parked packets of one worker.
#[derive(Default)]
pub(crate) struct ParkingLot {
    queues: HashMap<IpAddr, Queue>,
    parked: usize,
    /// When to look next.
    pub(crate) look_ns: u64,
}

impl ParkingLot {
    pub(crate) fn is_empty(&self) -> bool {
        self.parked == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.parked
    }

    pub(crate) fn queue(&self, destination: IpAddr) -> Option<&Queue> {
        self.queues.get(&destination)
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = (IpAddr, &Queue)> {
        self.queues.iter().map(|(destination, queue)| (*destination, queue))
    }

    /// Parks a packet behind all for its destination, or gives it back when there is no place.
    pub(crate) fn park(&mut self, destination: IpAddr, parked: Parked) -> Result<Ask, Frame> {
        let waiting = self.queues.get(&destination).map_or(0, |queue| queue.packets.len());
        if waiting >= PARKED_PER_DESTINATION_MAX || self.parked >= PARKED_MAX {
            return Err(parked.frame);
        }
        self.parked += 1;
        let queue = self.queues.entry(destination).or_default();
        let ask = queue.ask(parked.next_hop, parked.since_ns);
        queue.packets.push_back(parked);
        Ok(ask)
    }

    /// Takes out all that wait for one destination.
    pub(crate) fn take(&mut self, destination: IpAddr) -> Queue {
        let queue = self.queues.remove(&destination).unwrap_or_default();
        self.parked -= queue.packets.len();
        queue
    }

    /// Puts back what has to wait on, in front of what was parked meanwhile.
    pub(crate) fn put_back(&mut self, destination: IpAddr, mut queue: Queue) {
        if queue.packets.is_empty() {
            return;
        }
        // As bounded as the packets are: of a neighbour that none of them needs any more nothing is kept.
        queue.asked.retain(|(asked, _)| queue.packets.iter().any(|parked| parked.next_hop == *asked));
        self.parked += queue.packets.len();
        if let Some(newer) = self.queues.insert(destination, queue)
            && let Some(queue) = self.queues.get_mut(&destination)
        {
            queue.packets.extend(newer.packets);
            queue.asked.extend(newer.asked);
        }
    }

    /// Calls `ask` for the neighbours that were asked for long ago.
    pub(crate) fn ask_again(&mut self, now_ns: u64, mut ask: impl FnMut(IpAddr, NextHop)) {
        for (&destination, queue) in &mut self.queues {
            for (next_hop, asked_ns) in &mut queue.asked {
                if now_ns.saturating_sub(*asked_ns) >= ASK_AGAIN_NS {
                    *asked_ns = now_ns;
                    ask(destination, *next_hop);
                }
            }
        }
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Frame> + '_ {
        self.parked = 0;
        self.queues.drain().flat_map(|(_, queue)| queue.packets).map(|parked| parked.frame)
    }
}
