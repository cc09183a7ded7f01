//! Which station has which address: the cache that ARP and neighbour discovery share.
//!
//! RFC 4861 §7.3.2's state machine, also for IPv4 (as RFC 1122 §2.3.2.1 allows):
//!
//! ```text
//!   (none) --send--> Incomplete --answer--> Reachable --30 s--> Stale --send--> Delay
//!                        |                     ^                  ^              | 5 s
//!                   3 probes lost              +---- answer ------|---- Probe <--+
//!                        v                                        |       |
//!                      Failed (1 s: nothing is asked) <-----------|-- 3 probes lost
//!                                   unsolicited news of another MAC
//! ```
//! Bounds: entries per interface, packets per unresolved neighbour, probes per attempt. A full
//! cache gives up its least recently used entry that nobody waits for; only one full of unresolved
//! neighbours refuses.

use alloc::collections::VecDeque;
use core::net::IpAddr;
use core::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::drop_reason::DropReason;
use crate::time::{Instant, earliest};
use crate::wire::ethernet::MacAddress;

/// RFC 4861 §10: MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT.
const PROBES_MAX: u8 = 3;
/// RFC 4861 §10: RETRANS_TIMER.
const RETRANSMIT: Duration = Duration::from_secs(1);
/// RFC 4861 §10: DELAY_FIRST_PROBE_TIME.
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// RFC 4861 §10: REACHABLE_TIME, before the random factor.
const REACHABLE: Duration = Duration::from_secs(30);
/// RFC 1122 §2.3.2.1: at most one request per second and destination.
const FAILED_HOLD: Duration = Duration::from_secs(1);

/// Who finds out the MAC addresses on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourMode {
    /// The stack, by ARP and neighbour discovery.
    Own,
    /// Somebody else (the kernel): the stack reports
    /// [`ResolveNeeded`](crate::Event::ResolveNeeded) and is told by
    /// [`Stack::set_neighbour`](crate::Stack::set_neighbour).
    External,
}

/// Bounds of one interface's neighbour cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourLimits {
    /// Neighbours known.
    pub entries_max: usize,
    /// Packets that wait for one neighbour: a datagram of 64 KiB is 45 fragments.
    pub pending_max: usize,
    /// Packets that wait for any neighbour: buffers taken from the pool.
    pub pending_total_max: usize,
}

impl Default for NeighbourLimits {
    fn default() -> Self {
        Self { entries_max: 1_024, pending_max: 64, pending_total_max: 256 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourState {
    /// Asked for, not answered yet.
    Incomplete,
    /// Answered a moment ago.
    Reachable,
    /// Known, not confirmed lately; still used.
    Stale,
    /// Used while stale: confirmed or probed soon.
    Delay,
    /// Being asked directly.
    Probe,
    /// Did not answer; sending to it fails at once for a while.
    Failed,
    /// Told by [`Stack::set_neighbour`](crate::Stack::set_neighbour); never expires.
    Fixed,
}

/// What a packet from a neighbour says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Evidence {
    /// It answered our question.
    Answer,
    /// It spoke of itself: its MAC is known, that it hears us is not.
    Hearsay,
    /// As `Hearsay`, but only if it says nothing new (RFC 4861 §7.2.5, override flag clear).
    WeakHearsay,
}

pub(crate) enum Resolved<B> {
    /// The packet can leave.
    Ready(MacAddress, B),
    /// It waits for the answer. `ask`: the question has to be put now.
    Queued {
        ask: bool,
        displaced: Option<B>,
    },
    Refused(B, DropReason),
}

/// What a deadline brings.
pub(crate) enum Due<B> {
    /// Ask everybody, or the station that was last known.
    Ask(IpAddr, Option<MacAddress>),
    Failed(IpAddr, VecDeque<B>),
}

struct Neighbour<B> {
    mac: MacAddress,
    state: NeighbourState,
    deadline: Option<Instant>,
    probes: u8,
    used_at: Instant,
    pending: VecDeque<B>,
}

pub(crate) struct NeighbourCache<B> {
    entries: HashMap<IpAddr, Neighbour<B>, FixedState>,
    entries_max: usize,
    pending_max: usize,
    pending_total_max: usize,
    pending_len: usize,
    /// No entry's deadline is earlier.
    next_deadline: Option<Instant>,
    /// Counts changes that may make another address of one that was looked up.
    version: u32,
}

impl<B> NeighbourCache<B> {
    pub(crate) fn new(limits: NeighbourLimits, seed: u64) -> Self {
        Self {
            entries: HashMap::with_hasher(FixedState::with_seed(seed)),
            entries_max: limits.entries_max.max(1),
            pending_max: limits.pending_max.max(1),
            pending_total_max: limits.pending_total_max.max(1),
            pending_len: 0,
            next_deadline: None,
            version: 0,
        }
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Packets that wait for an answer.
    pub(crate) fn pending_len(&self) -> usize {
        self.pending_len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, Option<MacAddress>, NeighbourState)> {
        self.entries.iter().map(|(&address, n)| {
            let known = !matches!(n.state, NeighbourState::Incomplete | NeighbourState::Failed);
            (address, known.then_some(n.mac), n.state)
        })
    }

    /// Finds the station to send `packet` to, or keeps the packet until it is known.
    pub(crate) fn resolve(&mut self, address: IpAddr, packet: B, now: Instant) -> Resolved<B> {
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.used_at = now;
            match entry.state {
                NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe | NeighbourState::Fixed => {
                    return Resolved::Ready(entry.mac, packet);
                }
                NeighbourState::Stale => {
                    // RFC 4861 §7.3.2: used while stale, it is left time for a hint from above.
                    entry.state = NeighbourState::Delay;
                    entry.deadline = Some(now + DELAY_FIRST_PROBE);
                    self.next_deadline = earliest(self.next_deadline, entry.deadline);
                    return Resolved::Ready(entry.mac, packet);
                }
                NeighbourState::Failed => {
                    return Resolved::Refused(packet, DropReason::NeighbourUnreachable);
                }
                NeighbourState::Incomplete => {
                    // RFC 1122 §2.3.2.2: keep the latest packets.
                    let full = entry.pending.len() >= self.pending_max || self.pending_len >= self.pending_total_max;
                    let displaced = if full { entry.pending.pop_front() } else { None };
                    entry.pending.push_back(packet);
                    self.pending_len += usize::from(displaced.is_none());
                    return Resolved::Queued { ask: false, displaced };
                }
            }
        }
        if self.pending_len >= self.pending_total_max {
            return Resolved::Refused(packet, DropReason::NeighbourQueueFull);
        }
        if !self.make_room() {
            return Resolved::Refused(packet, DropReason::NeighbourTableFull);
        }
        let deadline = Some(now + RETRANSMIT);
        let entry = Neighbour {
            mac: MacAddress::ZERO,
            state: NeighbourState::Incomplete,
            deadline,
            probes: 1,
            used_at: now,
            pending: VecDeque::from([packet]),
        };
        self.entries.insert(address, entry);
        self.pending_len += 1;
        self.next_deadline = earliest(self.next_deadline, deadline);
        Resolved::Queued { ask: true, displaced: None }
    }

    /// Takes in what a neighbour said; returns the packets that waited for it. `create`: make an
    /// entry if there is none. `random` spreads the time until it is asked again.
    pub(crate) fn learn(
        &mut self,
        address: IpAddr,
        mac: MacAddress,
        evidence: Evidence,
        create: bool,
        now: Instant,
        random: u64,
    ) -> VecDeque<B> {
        if !self.entries.contains_key(&address) {
            if !create || !self.make_room() {
                return VecDeque::new();
            }
            self.entries.insert(address, Neighbour::stale(mac, now));
            return VecDeque::new();
        }
        self.changed();
        let Some(entry) = self.entries.get_mut(&address) else { return VecDeque::new() };
        if entry.state == NeighbourState::Fixed {
            return VecDeque::new();
        }
        let unknown = matches!(entry.state, NeighbourState::Incomplete | NeighbourState::Failed);
        let changed = entry.mac != mac;
        match evidence {
            Evidence::Answer => {
                entry.mac = mac;
                entry.state = NeighbourState::Reachable;
                entry.deadline = Some(now + reachable_time(random));
            }
            Evidence::WeakHearsay if !unknown && changed => {
                // RFC 4861 §7.2.5 I: keep the address, but doubt it.
                if entry.state == NeighbourState::Reachable {
                    entry.state = NeighbourState::Stale;
                    entry.deadline = None;
                }
            }
            Evidence::Hearsay | Evidence::WeakHearsay if unknown || changed => {
                entry.mac = mac;
                entry.state = NeighbourState::Stale;
                entry.deadline = None;
            }
            Evidence::Hearsay | Evidence::WeakHearsay => {}
        }
        self.next_deadline = earliest(self.next_deadline, entry.deadline);
        let pending = core::mem::take(&mut entry.pending);
        self.pending_len -= pending.len();
        if !pending.is_empty() && entry.state == NeighbourState::Stale {
            entry.state = NeighbourState::Delay;
            entry.deadline = Some(now + DELAY_FIRST_PROBE);
            self.next_deadline = earliest(self.next_deadline, entry.deadline);
        }
        pending
    }

    /// Whether there is an entry, in whatever state.
    pub(crate) fn knows(&self, address: IpAddr) -> bool {
        self.entries.contains_key(&address)
    }

    /// Whether a question to `address` is open.
    pub(crate) fn is_asked(&self, address: IpAddr) -> bool {
        self.entries
            .get(&address)
            .is_some_and(|entry| matches!(entry.state, NeighbourState::Incomplete | NeighbourState::Probe))
    }

    /// The MAC in use for `address`.
    pub(crate) fn mac_of(&self, address: IpAddr) -> Option<MacAddress> {
        let entry = self.entries.get(&address)?;
        let known = !matches!(entry.state, NeighbourState::Incomplete | NeighbourState::Failed);
        known.then_some(entry.mac)
    }

    /// RFC 4861 §7.3.1: a layer above saw progress, so the neighbour hears us.
    pub(crate) fn confirm(&mut self, address: IpAddr, now: Instant, random: u64) {
        if let Some(entry) = self.entries.get_mut(&address)
            && matches!(
                entry.state,
                NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe
            )
        {
            entry.state = NeighbourState::Reachable;
            entry.deadline = Some(now + reachable_time(random));
            self.next_deadline = earliest(self.next_deadline, entry.deadline);
        }
    }

    /// Sets an entry that stays; returns the packets that waited, or `None` if there is no room.
    pub(crate) fn set_fixed(&mut self, address: IpAddr, mac: MacAddress, now: Instant) -> Option<VecDeque<B>> {
        if !self.entries.contains_key(&address) && !self.make_room() {
            return None;
        }
        self.changed();
        let fixed = Neighbour { state: NeighbourState::Fixed, ..Neighbour::stale(mac, now) };
        let old = self.entries.insert(address, fixed);
        let pending = old.map(|old| old.pending).unwrap_or_default();
        self.pending_len -= pending.len();
        Some(pending)
    }

    pub(crate) fn remove(&mut self, address: IpAddr) -> VecDeque<B> {
        self.changed();
        let pending = self.entries.remove(&address).map(|old| old.pending).unwrap_or_default();
        self.pending_len -= pending.len();
        pending
    }

    /// Every packet that waits; the cache is empty afterwards.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = B> {
        self.changed();
        self.pending_len = 0;
        self.next_deadline = None;
        self.entries.drain().flat_map(|(_, entry)| entry.pending)
    }

    /// Moves on every entry whose deadline has come.
    pub(crate) fn on_timeout(&mut self, now: Instant, mut act: impl FnMut(Due<B>)) {
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.changed();
        let mut next = None;
        let mut failed_len = 0;
        self.entries.retain(|&address, entry| {
            if entry.deadline.is_some_and(|deadline| deadline <= now) {
                if entry.state == NeighbourState::Failed {
                    return false;
                }
                if let Some(due) = entry.on_deadline(address, now) {
                    if let Due::Failed(_, pending) = &due {
                        failed_len += pending.len();
                    }
                    act(due);
                }
            }
            next = earliest(next, entry.deadline);
            true
        });
        self.pending_len -= failed_len;
        self.next_deadline = next;
    }

    /// Whether there is room for one more entry, if need be after giving one up.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < self.entries_max {
            return true;
        }
        self.changed();
        let victim = self
            .entries
            .iter()
            .filter(|(_, n)| n.state != NeighbourState::Fixed && n.pending.is_empty())
            .min_by_key(|(_, n)| n.used_at)
            .map(|(&address, _)| address);
        victim.is_some_and(|address| self.entries.remove(&address).is_some())
    }
}

impl<B> Neighbour<B> {
    fn stale(mac: MacAddress, now: Instant) -> Self {
        Self { mac, state: NeighbourState::Stale, deadline: None, probes: 0, used_at: now, pending: VecDeque::new() }
    }

    fn on_deadline(&mut self, address: IpAddr, now: Instant) -> Option<Due<B>> {
        match self.state {
            NeighbourState::Reachable => {
                self.state = NeighbourState::Stale;
                self.deadline = None;
                None
            }
            NeighbourState::Delay => {
                self.state = NeighbourState::Probe;
                self.probes = 1;
                self.deadline = Some(now + RETRANSMIT);
                Some(Due::Ask(address, Some(self.mac)))
            }
            NeighbourState::Incomplete | NeighbourState::Probe if self.probes < PROBES_MAX => {
                self.probes += 1;
                self.deadline = Some(now + RETRANSMIT);
                let known = self.state == NeighbourState::Probe;
                Some(Due::Ask(address, known.then_some(self.mac)))
            }
            NeighbourState::Incomplete | NeighbourState::Probe => {
                self.state = NeighbourState::Failed;
                self.deadline = Some(now + FAILED_HOLD);
                Some(Due::Failed(address, core::mem::take(&mut self.pending)))
            }
            NeighbourState::Stale | NeighbourState::Failed | NeighbourState::Fixed => {
                self.deadline = None;
                None
            }
        }
    }
}

/// RFC 4861 §6.3.4: between 0.5 and 1.5 times the base, so that hosts do not ask in step.
fn reachable_time(random: u64) -> Duration {
    let base_ms = REACHABLE.as_millis() as u64;
    Duration::from_millis(base_ms / 2 + random % base_ms)
}
