//! Packets that wait for a neighbour's address, in order, bounded in number and time.

use std::collections::VecDeque;

use tailwater_fib::NextHop;

use crate::frame::Frame;

/// Packets that one worker parks in all.
const PARKED_MAX: usize = 512;
/// Packets parked for one next hop and destination (Linux: `unres_qlen_bytes`, about as many small ones).
const PARKED_PER_NEIGHBOUR_MAX: usize = 32;
/// How long a packet waits. The kernel asks three times, a second apart, before it gives a neighbour up.
pub(crate) const PATIENCE_NS: u64 = 3_200_000_000;
/// Time between two looks at the parked packets.
pub(crate) const LOOK_NS: u64 = 200_000;
/// Time between two requests for the same neighbour.
const ASK_AGAIN_NS: u64 = 1_000_000_000;

/// A packet that could not leave yet.
pub(crate) struct Parked {
    pub(crate) frame: Frame,
    pub(crate) next_hop: NextHop,
    pub(crate) destination: std::net::IpAddr,
    pub(crate) since_ns: u64,
    asked_ns: u64,
    /// Made by ourselves (an ICMP error): not to be answered, not to be counted as a hop.
    pub(crate) own: bool,
}

/// The parked packets of one worker.
#[derive(Default)]
pub(crate) struct ParkingLot {
    parked: VecDeque<Parked>,
    /// When to look next.
    pub(crate) look_ns: u64,
}

/// What to do after parking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The first packet for this neighbour: ask for it.
    Now,
    /// Others wait already.
    Asked,
}

impl ParkingLot {
    pub(crate) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.parked.len()
    }

    /// Parks a packet, or gives it back when there is no place.
    pub(crate) fn park(
        &mut self,
        frame: Frame,
        next_hop: NextHop,
        destination: std::net::IpAddr,
        now_ns: u64,
        own: bool,
    ) -> Result<Ask, Frame> {
        let waiting =
            self.parked.iter().filter(|other| other.next_hop == next_hop && other.destination == destination).count();
        if waiting >= PARKED_PER_NEIGHBOUR_MAX || self.parked.len() >= PARKED_MAX {
            return Err(frame);
        }
        self.parked.push_back(Parked { frame, next_hop, destination, since_ns: now_ns, asked_ns: now_ns, own });
        Ok(if waiting == 0 { Ask::Now } else { Ask::Asked })
    }

    /// Takes out every packet for which `leaves` is true, in order.
    pub(crate) fn take(&mut self, mut leaves: impl FnMut(&Parked) -> bool) -> Vec<Parked> {
        let mut taken = Vec::new();
        for _ in 0..self.parked.len() {
            let Some(parked) = self.parked.pop_front() else { break };
            if leaves(&parked) {
                taken.push(parked);
            } else {
                self.parked.push_back(parked);
            }
        }
        taken
    }

    /// Calls `ask` for packets whose neighbour was asked for long ago.
    pub(crate) fn ask_again(&mut self, now_ns: u64, mut ask: impl FnMut(&Parked)) {
        for parked in &mut self.parked {
            if now_ns.saturating_sub(parked.asked_ns) >= ASK_AGAIN_NS {
                parked.asked_ns = now_ns;
                ask(parked);
            }
        }
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Frame> + '_ {
        self.parked.drain(..).map(|parked| parked.frame)
    }
}
