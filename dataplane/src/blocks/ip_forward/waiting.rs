//! Packets whose neighbour is not known yet. Neighbours become known at any moment, also between two packets of a batch and
//! between two looks at the tables: so packets leave in the order of their batch, each behind those of its flow that wait.

use tailwater_fib::Adjacency;

use super::*;
use crate::forwarding::parked::{LOOK_NS, Queue};

impl IpForward {
    /// Sends a packet that the fast path has addressed, behind those of its flow that wait.
    #[inline]
    pub(super) fn follow(&mut self, mut frame: Frame, context: &mut Context<'_>) {
        if !self.carried.parked.is_empty()
            && let Some(next_hop) = self.waits_for(&frame, context)
        {
            // The neighbour comes and goes. The packet is addressed once more later, and that counts a hop.
            raise_hops(&mut frame);
            self.park(frame, next_hop, true, context);
        } else {
            context.emit(OUT, frame);
        }
    }

    /// What packets of the same flow wait for, after those have left that can.
    pub(super) fn waits_for(&mut self, frame: &Frame, context: &mut Context<'_>) -> Option<NextHop> {
        let to = destination(frame)?;
        let queue = self.carried.parked.queue(to)?;
        let flow = self.fast.flow(frame);
        queue.neighbour_of(flow)?;
        self.let_go_to(to, context);
        self.carried.parked.queue(to)?.neighbour_of(flow)
    }

    /// Parks a packet for the neighbour behind `next_hop`; `own` as in [`Parked`].
    pub(super) fn park(&mut self, frame: Frame, next_hop: NextHop, own: bool, context: &mut Context<'_>) {
        let Some(to) = destination(&frame) else {
            context.discard(frame, DropReason::BadIp4);
            return;
        };
        let now_ns = context.now_ns;
        if self.carried.parked.is_empty() {
            self.carried.parked.look_ns = now_ns + LOOK_NS;
        }
        let flow = self.fast.flow(&frame);
        match self.carried.parked.park(to, Parked { frame, next_hop, flow, since_ns: now_ns, own }) {
            Ok(ask) => {
                self.carried.counters.parked += 1;
                if ask == Ask::Now {
                    self.carried.counters.requests += 1;
                    self.plane.request(Request { next_hop, destination: to });
                }
            }
            Err(frame) => context.discard(frame, DropReason::NeighbourQueueFull),
        }
    }

    /// Looks at the parked packets: those whose next hop is known by now leave, those that waited too long are refused.
    #[cold]
    pub(super) fn look_at_parked(&mut self, context: &mut Context<'_>) {
        let now_ns = context.now_ns;
        let queues = self.carried.parked.queues();
        let ready: Vec<IpAddr> = queues.filter(|(_, queue)| self.can_go(queue, now_ns)).map(|(to, _)| to).collect();
        ready.into_iter().for_each(|to| self.let_go_to(to, context));
        let Self { plane, carried, .. } = self;
        carried.parked.ask_again(now_ns, |destination, next_hop| {
            plane.request(Request { next_hop, destination });
        });
        carried.parked.look_ns = now_ns + LOOK_NS;
    }

    /// Whether any of these packets leaves or has waited too long.
    fn can_go(&self, queue: &Queue, now_ns: u64) -> bool {
        let Some(oldest) = queue.packets.front() else { return false };
        let next_hop = self.route(&oldest.frame);
        // Without a group all of them have one way.
        let ways = if next_hop.is_group() { queue.packets.len() } else { 1 };
        let mut packets = queue.packets.iter().take(ways);
        oldest.is_overdue(now_ns)
            || packets.any(|parked| !is_unresolved(self.fast.view.resolve_word(next_hop, parked.flow)))
    }

    /// Lets go of the packets to one destination that can leave or have waited too long, in order.
    fn let_go_to(&mut self, to: IpAddr, context: &mut Context<'_>) {
        let mut queue = self.carried.parked.take(to);
        let Some(oldest) = queue.packets.front() else { return };
        let next_hop = self.route(&oldest.frame);
        let ways_differ = next_hop.is_group();
        // Flows of which a packet stays: what is read of their way later does not count.
        let mut held = Vec::new();
        for _ in 0..queue.packets.len() {
            let Some(parked) = queue.packets.pop_front() else { break };
            let flow = if ways_differ { parked.flow } else { 0 };
            let way = self.fast.view.resolve_word(next_hop, flow);
            let stays = held.contains(&flow);
            if !stays && !is_unresolved(way) {
                self.leave_late(parked, way, context);
                continue;
            }
            if !stays {
                held.push(flow);
            }
            if parked.is_overdue(context.now_ns) {
                self.give_up(parked, context);
            } else {
                queue.packets.push_back(parked);
            }
        }
        self.carried.parked.put_back(to, queue);
    }

    fn leave_late(&mut self, parked: Parked, way: AdjacencyWord, context: &mut Context<'_>) {
        let Parked { mut frame, own, .. } = parked;
        let len = header::packet_len(&frame) as u32;
        match leave(&self.fast.ports, &mut frame, way, len) {
            Ok(()) => context.emit(OUT, frame),
            // Our own packet: no error about an error.
            Err(_) if own => context.discard(frame, DropReason::NoRoute),
            // Nothing of its flow is parked in front of it any more.
            Err(Exception::TooBig { way, mtu }) => self.too_big(frame, way, mtu, context),
            Err(exception) => self.handle(frame, exception, context),
        }
    }

    fn give_up(&mut self, parked: Parked, context: &mut Context<'_>) {
        let Parked { frame, own, .. } = parked;
        if own {
            context.discard(frame, DropReason::NeighbourFailed);
        } else {
            self.refuse(frame, IcmpError::HostUnreachable, DropReason::NeighbourFailed, context);
        }
    }
}

fn is_unresolved(way: AdjacencyWord) -> bool {
    matches!(way.adjacency(), Adjacency::Unresolved { .. })
}
