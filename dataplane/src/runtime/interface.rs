//! One interface of a running dataplane: its program, and the sockets until the workers have them.

use std::sync::Arc;

use tailwater_netlink::{Control as Netlink, Link};
use tailwater_xdp::{AttachMode, Mode, PortConfig, Shared, Steering, Support};

use super::text::Text;
use super::{Backend, InterfaceConfig, RuntimeConfig, RuntimeError};
use crate::frame::{Region, RegionConfig};
use crate::port::af_xdp::{self, Copy, Entrance, ONE_CHUNK, OpenConfig, is_large};
use crate::port::packet::{self, PacketConfig};
use crate::port::{LinkMtu, Port, PortError};

/// Frames that workers hold besides those in rings: batches, blocks, pools.
const FRAMES_PER_WORKER: usize = 2048;
/// Frames times queues, beyond which fewer frames are asked for than rings could hold: the kernel keeps 136 bytes for each
/// frame with each queue that a socket is bound to (570 MB in all), and takes its time to make them.
const FRAME_QUEUES_MAX: usize = 1 << 22;
/// Frames for each queue that are asked for all the same.
const FRAMES_PER_QUEUE_MIN: usize = 64;
/// Largest Ethernet header in front of the MTU (two VLAN tags), in bytes.
const HEADER_MAX: usize = 22;

/// An interface's program and what it did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct InterfaceReport {
    /// Name.
    pub name: String,
    /// Kernel index.
    pub ifindex: u32,
    /// What was chosen, and why.
    pub description: String,
    /// Verdicts of the XDP program: name, packets, bytes. Only those that occurred.
    pub verdicts: Vec<(&'static str, u64, u64)>,
}

pub(super) struct Interface {
    name: String,
    /// The name it was opened by, which its ports go on to have.
    port_name: String,
    /// Whether it is here as a member of the group that is followed.
    pub(super) is_member: bool,
    ifindex: u32,
    /// What was chosen, in words, in front of the MTU and behind it.
    description: [String; 2],
    mtu: LinkMtu,
    region: Arc<Region>,
    /// Where the kernel copies, and may cut.
    text: Option<Text>,
    steering: Option<Steering>,
    entrances: Vec<Entrance>,
    last_verdicts: Vec<(&'static str, u64, u64)>,
    /// Ethernet address and MTU that the program and the ports know.
    seen: (Vec<u8>, u32),
}

impl Interface {
    pub(super) fn open(
        wanted: &InterfaceConfig,
        link: &Link,
        config: &RuntimeConfig,
        region: &Arc<Region>,
        shared: Option<&Shared>,
        workers: usize,
    ) -> Result<(Self, Vec<Box<dyn Port>>), RuntimeError> {
        if wanted.backend == Backend::Packet {
            return Self::open_packet(link, config, region, workers, "as asked for");
        }
        let opened = Self::open_af_xdp(wanted, link, config, region, shared, workers);
        match opened {
            // Only where the interface cannot: a busy one or a lack of privileges is for the user to settle.
            Err(RuntimeError::Steering(error @ tailwater_xdp::Error::NoXdp { .. }))
                if wanted.backend == Backend::Auto =>
            {
                Self::open_packet(link, config, region, workers, &format!("because {error}"))
            }
            other => other,
        }
    }

    fn open_packet(
        link: &Link,
        config: &RuntimeConfig,
        region: &Arc<Region>,
        workers: usize,
        why: &str,
    ) -> Result<(Self, Vec<Box<dyn Port>>), RuntimeError> {
        let mtu = LinkMtu::from(link.mtu_bytes);
        let ports = packet::open(&PacketConfig {
            interface: link.name.clone(),
            ifindex: link.ifindex,
            mtu: mtu.clone(),
            mac: link.mac.as_slice().try_into().unwrap_or_default(),
            workers: workers as u32,
            ring_size: config.ring_size,
            promiscuous: config.mode == Mode::Exclusive,
        })?;
        let interface = Self {
            name: link.name.clone(),
            port_name: link.name.clone(),
            is_member: false,
            ifindex: link.ifindex,
            description: [
                format!("{}: AF_PACKET rings, {why}", link.name),
                format!(
                    "; the kernel's stack sees every packet, too{}",
                    if config.mode == Mode::Router {
                        ": switch its forwarding off, or packets go out twice"
                    } else {
                        ""
                    },
                ),
            ],
            mtu,
            region: Arc::clone(region),
            text: None,
            steering: None,
            entrances: Vec::new(),
            last_verdicts: Vec::new(),
            seen: (link.mac.clone(), link.mtu_bytes),
        };
        Ok((interface, ports.into_iter().map(|port| Box::new(port) as Box<dyn Port>).collect()))
    }

    fn open_af_xdp(
        wanted: &InterfaceConfig,
        link: &Link,
        config: &RuntimeConfig,
        region: &Arc<Region>,
        shared: Option<&Shared>,
        workers: usize,
    ) -> Result<(Self, Vec<Box<dyn Port>>), RuntimeError> {
        let shared = shared.ok_or(PortError::NoUmem)?;
        let probe = tailwater_xdp::Probe::interface(link.ifindex)?;
        let queues_max = probe.rx_queues.max(1);
        let queues = wanted.queues.unwrap_or(queues_max);
        if queues == 0 || queues > queues_max {
            let queue = queues.saturating_sub(1);
            return Err(PortError::NoQueue { interface: link.name.clone(), queue, queues: queues_max }.into());
        }
        let steering = Steering::attach(
            shared,
            PortConfig {
                mode: config.mode,
                place: config.place,
                attach: wanted.attach,
                queues,
                workers: workers as u32,
                steer_vlan: config.steer_vlan,
                ..PortConfig::new(link.ifindex)
            },
        )?;
        // The look at the settings comes before the first packet; what changes meanwhile is heard of.
        let text = (config.segmentation && config.frames_kept > 0).then(|| Text::of(&probe));
        let mtu = LinkMtu::from(link.mtu_bytes);
        // Where the kernel copies it costs nothing. A driver that has zero-copy for one chunk only would be made to copy.
        let copies = wanted.copy == Some(Copy::Copy) || probe.zero_copy == Support::No;
        let mut opened = af_xdp::open(
            region,
            &OpenConfig {
                interface: link.name.clone(),
                ifindex: link.ifindex,
                mtu: mtu.clone(),
                multi_buffer: copies || probe.zero_copy_frags_max > 1,
                mac: link.mac.as_slice().try_into().unwrap_or_default(),
                queues,
                workers: workers as u32,
                ring_size: config.ring_size,
                fill_target: fill_target(config, region, queues),
                copy: wanted.copy,
                text: text.as_ref().map(|text| Arc::clone(&text.switch)),
            },
        )?;
        let entrances = opened.entrances(&steering)?;
        let chosen =
            format!("{}: AF_XDP, {}, {:?} mode, {queues} queue(s)", link.name, steering.attachment(), opened.copy);
        let mut further = format!(
            ", {} packets per transmit call",
            opened.ports.first().map_or(0, |port| port.capabilities().tx_budget),
        );
        if !opened.ports.iter().any(|port| port.capabilities().busy_poll) {
            further.push_str("; no busy polling (the driver gives sockets no NAPI id)");
        }
        for note in &opened.notes {
            further.push_str("; ");
            further.push_str(note);
        }
        let ports = opened.ports.into_iter().map(|port| Box::new(port) as Box<dyn Port>).collect();
        let interface = Self {
            name: link.name.clone(),
            port_name: link.name.clone(),
            is_member: false,
            ifindex: link.ifindex,
            description: [chosen, further],
            mtu,
            region: Arc::clone(region),
            text: text.filter(|_| opened.copy == Copy::Copy),
            steering: Some(steering),
            entrances,
            last_verdicts: Vec::new(),
            seen: (link.mac.clone(), link.mtu_bytes),
        };
        Ok((interface, ports))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether its program runs in the driver.
    pub(super) fn is_native(&self) -> bool {
        self.steering.as_ref().is_some_and(|steering| steering.attachment().mode == AttachMode::Native)
    }

    /// The name its ports have, where that is not its own any more.
    pub(super) fn alias(&self) -> Option<&str> {
        (self.port_name != self.name).then_some(self.port_name.as_str())
    }

    pub(super) fn rename(&mut self, name: &str) {
        self.name = name.to_owned();
    }

    pub(super) fn describe(&self) -> String {
        let [chosen, further] = &self.description;
        let described = format!("{chosen}, MTU {}{further}", self.mtu.get());
        match &self.text {
            Some(text) => format!("{described}; {}", text.why()),
            None => described,
        }
    }

    /// Lets the program forward to another interface by itself.
    pub(super) fn add_tx_port(&self, ifindex: u32) -> Result<(), RuntimeError> {
        match &self.steering {
            Some(steering) => Ok(steering.add_tx_port(ifindex)?),
            None => Ok(()),
        }
    }

    /// Lets the program redirect into the sockets: packets arrive from here on.
    pub(super) fn let_in(&mut self) -> Result<(), RuntimeError> {
        let Some(steering) = &self.steering else { return Ok(()) };
        for entrance in &self.entrances {
            entrance.open(steering)?;
        }
        Ok(())
    }

    pub(super) fn detach(&mut self) {
        self.read_verdicts();
        self.steering = None;
        self.entrances.clear();
    }

    fn read_verdicts(&mut self) {
        let Some(steering) = &self.steering else { return };
        if let Ok(tallies) = steering.verdicts() {
            self.last_verdicts = tallies
                .iter()
                .filter(|tally| tally.packets > 0)
                .map(|tally| (tally.verdict.name(), tally.packets, tally.bytes))
                .collect();
        }
    }

    /// Takes up a changed Ethernet address or MTU (the program has both built in, the ports the MTU), and what the device does
    /// for TCP.
    pub(super) fn tend(&mut self, link: &Link) -> Result<(), RuntimeError> {
        if let Some(text) = &mut self.text {
            text.tend(link);
        }
        let seen = (link.mac.clone(), link.mtu_bytes);
        if seen == self.seen {
            return Ok(());
        }
        self.mtu.set(link.mtu_bytes);
        if let Some(steering) = &mut self.steering {
            if link.mtu_bytes > self.seen.1 && is_large(&self.region, &self.mtu) && !self.region.is_multi_buffer() {
                let (interface, most) = (&link.name, self.region.segment_max());
                tracing::warn!(interface, "packets of more than {most} bytes are lost: {ONE_CHUNK}");
            }
            let PortConfig { mode, place, steer_vlan, .. } = *steering.config();
            steering.reconfigure(mode, place, steer_vlan)?;
        }
        self.seen = seen;
        Ok(())
    }

    pub(super) fn mtu(&self) -> u32 {
        self.mtu.get()
    }

    pub(super) fn report(&mut self) -> InterfaceReport {
        self.read_verdicts();
        InterfaceReport {
            name: self.name.clone(),
            ifindex: self.ifindex,
            description: self.describe(),
            verdicts: self.last_verdicts.clone(),
        }
    }
}

/// The links behind the names given, each once.
pub(super) fn links(netlink: &mut Netlink, wanted: &[InterfaceConfig]) -> Result<Vec<Link>, RuntimeError> {
    if wanted.is_empty() {
        return Err(RuntimeError::NoInterface);
    }
    let names: Vec<String> = wanted.iter().map(|interface| interface.name.clone()).collect();
    let links = netlink.links_by_name(&names)?;
    let named = |link: &Link, name: &String| link.name == *name || link.alternative_names.contains(name);
    let twice = names.iter().enumerate().find(|(at, name)| links.get(*at).is_none_or(|link| !named(link, name)));
    match twice {
        Some((_, name)) => Err(RuntimeError::DuplicateInterface(name.clone())),
        None => Ok(links),
    }
}

/// Enough frames for every ring to be full and some in hand, but for a crowd of interfaces, whose rings are never all full;
/// chunks large enough for the MTU, or for a third of it.
pub(super) fn memory_for(config: &RuntimeConfig, links: &[Link], workers: usize) -> RegionConfig {
    let mtu = links.iter().map(|link| link.mtu_bytes as usize).max().unwrap_or(1500);
    let chunk_len = if mtu + HEADER_MAX > 2048 - crate::frame::DATA_OFFSET { 4096 } else { 2048 };
    let descriptors = |queues: u32| (queues.max(1) as usize + workers) * config.ring_size as usize;
    let queues = |(wanted, link): (&InterfaceConfig, &Link)| wanted.queues.unwrap_or(link.rx_queues_max);
    let present = config.interfaces.iter().zip(links).map(queues);
    // Who joins later is expected to be like the largest of those that are here.
    let later = config.follow.as_ref().and_then(|follow| follow.like.queues).or(present.clone().max()).unwrap_or(1);
    let spare = config.places() - config.interfaces.len();
    let all_queues = present.clone().sum::<u32>() as usize + spare * later as usize;
    let crowd_max = (FRAME_QUEUES_MAX / all_queues.max(1)).max(all_queues * FRAMES_PER_QUEUE_MIN);
    let rings: usize = present.map(descriptors).sum::<usize>() + spare * descriptors(later);
    let rings = rings.min(crowd_max);
    RegionConfig {
        chunk_len,
        chunks: config.frames.unwrap_or(rings + workers * (FRAMES_PER_WORKER + config.frames_kept)),
        huge_pages: config.huge_pages,
        ring_size: config.ring_size,
    }
}

/// A fill ring takes its share of at most half the frames, so that some are left to send with.
fn fill_target(config: &RuntimeConfig, region: &Region, queues: u32) -> u32 {
    let rings = config.places() as u32 * queues;
    (region.chunks() as u32 / 2 / rings.max(1)).clamp(1, config.ring_size)
}
