//! Interfaces that join and leave while packets flow: the members of a kernel interface group, followed live.
//!
//! ```text
//!  joins:   program attached, sockets opened -> ports into a free place of every worker -> sockets into the
//!           program's map, packets arrive -> listeners (routes, addresses) told
//!  leaves:  listeners told, and waited for -> program detached, grace period -> workers empty the receive rings and
//!           give the ports back -> what was sent comes home, what was not is taken back
//! ```
//!
//! A place keeps the name of the last interface that had it as long as the graph names that, so that the same interface
//! comes back to the same place. What a link is called, and which group it is in, is listed anew when a link has changed
//! and every [`RELIST`], because the kernel is silent about the group of a link that is down.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tailwater_netlink::{Link, LinkWatch};
use tailwater_xdp::Place;

use super::interface::Interface;
use super::{COMPLETION_LOOKS_MAX, COMPLETION_PAUSE, Runtime, RuntimeError, grace_period};
use crate::frame::{Pool, Region};
use crate::graph::Seat;
use crate::live::{Undone, What};
use crate::port::{Port, Vacant};
use crate::trace::Tracer;

/// Time between two listings of the links when nothing was heard.
const RELIST: Duration = Duration::from_secs(10);
/// Interfaces that join in one go; more wait for the next, so that whoever asks the runtime something is not kept waiting.
const JOIN_MAX: usize = 8;

/// When to look at the links.
pub(super) struct Attendance {
    watch: LinkWatch,
    listed: Instant,
    again: bool,
    /// Interfaces that could not join, as they were then.
    refused: HashMap<u32, Link>,
}

impl Attendance {
    pub(super) fn open() -> Result<Self, tailwater_netlink::Error> {
        // Whatever changes while everything is being started is found by the first listing.
        Ok(Self { watch: LinkWatch::open()?, listed: Instant::now(), again: true, refused: HashMap::new() })
    }

    fn is_due(&mut self) -> Result<bool, tailwater_netlink::Error> {
        let rang = self.watch.rang()?;
        let late = self.listed.elapsed() >= RELIST;
        if late {
            self.refused.clear();
        }
        Ok(rang || late || std::mem::take(&mut self.again))
    }
}

/// An opened interface with the ports for its place, by worker.
struct Candidate {
    at: usize,
    interface: Interface,
    ports: Vec<Box<dyn Port>>,
    link: Link,
}

impl Runtime {
    /// Takes up changes of the interfaces: Ethernet address, MTU, name; members that have come to the group that is
    /// followed, or left it. Call it a few times a second.
    pub fn tend(&mut self) -> Result<(), RuntimeError> {
        if self.tracer.as_mut().is_some_and(Tracer::is_over) {
            self.tracer = None;
        }
        if !self.attendance.is_due()? {
            return Ok(());
        }
        let listed = self.netlink.links_now();
        let links = listed.inspect_err(|_| self.attendance.again = true)?;
        self.attendance.listed = Instant::now();
        self.rename(&links);
        let following = self.follow(&links);
        following.and(self.tend_interfaces(&links))
    }

    fn tend_interfaces(&mut self, links: &[Link]) -> Result<(), RuntimeError> {
        let by_index: HashMap<u32, &Link> = links.iter().map(|link| (link.ifindex, link)).collect();
        for (at, place) in self.places.iter_mut().enumerate() {
            let Some(interface) = place else { continue };
            let Some(link) = by_index.get(&interface.ifindex()) else { continue };
            let before = interface.mtu();
            let tended = interface.tend(link);
            if interface.mtu() != before {
                self.config.listeners.0.iter().for_each(|listener| listener.resized(at as u16, interface.mtu()));
            }
            tended?;
        }
        Ok(())
    }

    fn rename(&mut self, links: &[Link]) {
        for at in 0..self.places.len() {
            let Some(interface) = &mut self.places[at] else { continue };
            let Some(link) = links.iter().find(|link| link.ifindex == interface.ifindex()) else { continue };
            if link.name != interface.name() {
                let (from, to) = (interface.name().to_owned(), link.name.clone());
                tracing::info!(from, to, "an interface has another name");
                interface.rename(&to);
                self.live.name_port(at, &to);
                self.live.note_port(What::PortRenamed { from, to, port: at });
            }
        }
    }

    fn follow(&mut self, links: &[Link]) -> Result<(), RuntimeError> {
        let Some(number) = self.config.follow.as_ref().map(|follow| follow.number) else { return Ok(()) };
        let leaving = self.places.iter().enumerate().filter_map(|(at, place)| {
            let interface = place.as_ref().filter(|interface| interface.is_member)?;
            match links.iter().find(|link| link.ifindex == interface.ifindex()) {
                Some(link) if link.group == number => None,
                Some(link) => Some((at, format!("it is in group {} now", link.group))),
                None => Some((at, "it is gone from this network namespace".to_owned())),
            }
        });
        let leaving: Vec<_> = leaving.collect();
        if !leaving.is_empty() {
            self.part_with(&leaving);
        }
        let here = |link: &Link| self.places.iter().flatten().any(|interface| interface.ifindex() == link.ifindex);
        let joining = links.iter().filter(|link| link.group == number && link.up && !here(link));
        let refused = &self.attendance.refused;
        let joining = joining.filter(|link| refused.get(&link.ifindex) != Some(link));
        let joining: Vec<Link> = joining.take(JOIN_MAX + 1).cloned().collect();
        self.attendance.again |= joining.len() > JOIN_MAX;
        self.join(&joining[..joining.len().min(JOIN_MAX)])
    }

    fn join(&mut self, links: &[Link]) -> Result<(), RuntimeError> {
        let mut candidates: Vec<Candidate> = Vec::new();
        for link in links {
            let taken: Vec<usize> = candidates.iter().map(|candidate| candidate.at).collect();
            match self.open_candidate(link, &taken) {
                Ok(candidate) => candidates.push(candidate),
                Err(why) => self.refuse(link, why),
            }
        }
        if candidates.is_empty() { Ok(()) } else { self.seat(candidates) }
    }

    fn open_candidate(&self, link: &Link, taken: &[usize]) -> Result<Candidate, String> {
        let Some(follow) = &self.config.follow else { return Err("no group is followed".into()) };
        if link.mac.len() != 6 {
            return Err("it has no Ethernet address".into());
        }
        let at = self.place_for(&link.name, taken).ok_or_else(|| {
            format!("all {} places for interfaces are taken or named in the graph", self.places.len())
        })?;
        let workers = self.workers.len();
        let opened = Interface::open(&follow.like, link, &self.config, &self.region, self.shared.as_ref(), workers);
        let (mut interface, mut ports) = opened.map_err(|error| error.to_string())?;
        interface.is_member = true;
        ports.iter_mut().for_each(|port| port.set_number(at as u16));
        Ok(Candidate { at, interface, ports, link: link.clone() })
    }

    /// A free place: the one that had this name, else one whose name, if any, nobody needs any more.
    fn place_for(&self, name: &str, taken: &[usize]) -> Option<usize> {
        let free = |at: &usize| self.places[*at].is_none() && !taken.contains(at);
        let names = self.live.ports();
        let places = || (0..self.places.len()).filter(free);
        places()
            .find(|&at| names[at] == name)
            .or_else(|| places().find(|&at| names[at].is_empty() || !self.live.names_port(&names[at])))
    }

    fn seat(&mut self, candidates: Vec<Candidate>) -> Result<(), RuntimeError> {
        let mut seats: Vec<Vec<Seat>> = (0..self.workers.len()).map(|_| Vec::new()).collect();
        let mut joined = Vec::new();
        for Candidate { at, interface, ports, link } in candidates {
            ports.into_iter().zip(&mut seats).for_each(|(port, seats)| seats.push(Seat { at, port }));
            joined.push((at, interface, link));
        }
        if let Err(Undone { error, plans }) = self.live.reseat(seats) {
            joined.iter_mut().for_each(|(_, interface, _)| interface.detach());
            grace_period();
            retire(plans.into_iter().flatten().map(|seat| seat.port), &self.region);
            joined.iter().for_each(|(_, _, link)| self.refuse(link, error.to_string()));
            return Ok(());
        }
        for (at, mut interface, link) in joined {
            interface.let_in()?;
            if self.config.place == Place::Kernel
                && let Err(error) = interface.add_tx_port(link.ifindex)
            {
                tracing::warn!(%error, interface = link.name, "the program does not forward out of it; the workers do");
            }
            tracing::info!(port = at, "joined: {}", interface.describe());
            self.places[at] = Some(interface);
            self.attendance.refused.remove(&link.ifindex);
            self.live.name_port(at, &link.name);
            self.config.listeners.0.iter().for_each(|listener| listener.joined(at as u16, &link));
            self.live.note_port(What::PortJoined { name: link.name, ifindex: link.ifindex, port: at });
        }
        Ok(())
    }

    fn refuse(&mut self, link: &Link, why: String) {
        tracing::warn!(interface = link.name, why, "a member of the group cannot join");
        self.attendance.refused.insert(link.ifindex, link.clone());
        self.live.note_port(What::PortRefused { name: link.name.clone(), ifindex: link.ifindex, why });
    }

    fn part_with(&mut self, leaving: &[(usize, String)]) {
        for &(at, _) in leaving {
            let Some(interface) = &mut self.places[at] else { continue };
            let ifindex = interface.ifindex();
            self.config.listeners.0.iter().for_each(|listener| listener.leaving(at as u16, ifindex));
            interface.detach();
            if let Some(shared) = &self.shared
                && self.config.place == Place::Kernel
                && let Err(error) = shared.tx_ports().remove(ifindex)
            {
                tracing::debug!(%error, "a way out was not taken back; the kernel has forgotten it with the interface");
            }
        }
        grace_period();
        let empty = |&(at, _): &(usize, String)| Seat { at, port: Box::new(Vacant::default()) as Box<dyn Port> };
        let seats = self.workers.iter().map(|_| leaving.iter().map(empty).collect()).collect();
        let seats = match self.live.reseat(seats) {
            Ok(seats) => seats,
            Err(Undone { error, .. }) => {
                tracing::warn!(%error, "ports that should leave could not yet; trying again");
                self.attendance.again = true;
                return;
            }
        };
        let mut ends: HashMap<usize, Vec<Box<dyn Port>>> = HashMap::new();
        seats.into_iter().flatten().for_each(|seat| ends.entry(seat.at).or_default().push(seat.port));
        for (at, why) in leaving {
            retire(ends.remove(at).unwrap_or_default().into_iter(), &self.region);
            let Some(mut interface) = self.places[*at].take() else { continue };
            self.departed.add(&interface.report());
            let (name, ifindex) = (interface.name().to_owned(), interface.ifindex());
            tracing::info!(port = at, interface = name, why, "left");
            self.live.note_port(What::PortLeft { name, ifindex, port: *at, why: why.clone() });
        }
    }
}

/// Takes the ports of one interface apart that no worker has any more, and brings their frames home.
fn retire(ends: impl Iterator<Item = Box<dyn Port>>, region: &Arc<Region>) {
    let mut ends: Vec<Box<dyn Port>> = ends.collect();
    let mut pool = Pool::new(Arc::clone(region));
    let (mut in_flight, mut unsent) = (0, 0);
    // What the kernel has taken comes back when it is sent; what it has not taken never will be.
    for _ in 0..COMPLETION_LOOKS_MAX {
        ends.iter_mut().for_each(|port| port.flush(&mut pool));
        in_flight = ends.iter().map(|port| port.tx_in_flight()).sum::<i64>();
        unsent = ends.iter_mut().map(|port| port.tx_pending() as i64).sum();
        if in_flight <= unsent {
            break;
        }
        std::thread::sleep(COMPLETION_PAUSE);
    }
    // Where fewer are under way than the rings name, the kernel has given the oldest back without saying so in the ring;
    // of which ring is known only where a single one names any. The rest is sorted out at the stop.
    let rings = ends.iter_mut().filter_map(|port| (port.tx_pending() > 0).then_some(())).count();
    let keep = match unsent - in_flight {
        ..=0 => Some(0),
        back if rings == 1 => Some(back as usize),
        _ => None,
    };
    if in_flight > unsent {
        tracing::warn!(missing = in_flight - unsent, "segments that an interface took with it when it left");
    }
    for port in &mut ends {
        if let Some(keep) = keep {
            port.take_back_unsent(&mut pool, keep);
        }
        port.close(&mut pool);
    }
}
