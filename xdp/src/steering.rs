//! One interface under the steering program.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use libbpf_rs::{MapCore, MapFlags};

use crate::attach::{self, AttachMode, Attached, Attachment, Variant};
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::limits::{QUEUES_MAX, WORKERS_MAX};
use crate::mapping::Mapping;
use crate::program::{self, Loaded, PortMaps};
use crate::ring_state::{RING_STATE_LEN, RingState};
use crate::shared::Shared;
use crate::sys;
use crate::verdict::{Tally, Verdict};

/// Whose the traffic is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// Registered listeners, addresses and flows are ours, all else is the kernel's.
    #[default]
    Shared,
    /// Everything is ours, ARP, neighbour discovery and ICMP included.
    Exclusive,
    /// Transit is ours, the host's own traffic is the kernel's.
    Router,
}

/// Where transit is forwarded. Counts in [`Mode::Router`] only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Place {
    /// By the workers.
    #[default]
    User,
    /// By the program, with the kernel's FIB; what it cannot forward comes up to the workers. Needs forwarding
    /// switched on (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`) and the ways out registered with
    /// [`Steering::add_tx_port`].
    Kernel,
}

/// What one port is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// Interface index in the caller's network namespace.
    pub ifindex: u32,
    /// Whose the traffic is.
    pub mode: Mode,
    /// Where transit is forwarded.
    pub place: Place,
    /// Native or generic XDP.
    pub attach: AttachMode,
    /// Receive queues to serve, 1 to 256. Frames of queues beyond find no socket.
    pub queues: u32,
    /// Workers of the process, 1 to 128: each may have a socket on each queue.
    pub workers: u32,
    /// Steer frames with one or two VLAN tags like others. Otherwise they go to the kernel, except in exclusive
    /// mode. Tags which the card strips (`ethtool -k`, rx-vlan-offload) are invisible to the program.
    pub steer_vlan: bool,
}

impl PortConfig {
    /// Shared mode, one queue, one worker, whatever XDP the interface has.
    pub const fn new(ifindex: u32) -> Self {
        Self {
            ifindex,
            mode: Mode::Shared,
            place: Place::User,
            attach: AttachMode::Auto,
            queues: 1,
            workers: 1,
            steer_vlan: true,
        }
    }

    fn check(&self) -> Result<()> {
        Error::in_range("number of queues", self.queues.into(), 1, QUEUES_MAX.into())?;
        Error::in_range("number of workers", self.workers.into(), 1, WORKERS_MAX.into())
    }
}

/// The steering program on one interface. Dropping it, or the end of the process however it comes, detaches.
///
/// Attach first, then open the AF_XDP sockets and hand them in with [`insert_socket`](Self::insert_socket):
/// until then shared and router mode leave everything to the kernel.
#[derive(Debug)]
pub struct Steering {
    // Declared first, dropped first: no packet meets a half dismantled port.
    link: OwnedFd,
    program: Loaded,
    variant: Variant,
    attachment: Attachment,
    config: PortConfig,
    maps: PortMaps,
    rings: Arc<Mapping>,
    shared: PortCount,
}

/// One port counted in the shared maps.
#[derive(Debug)]
struct PortCount(Shared);

impl PortCount {
    fn enter(shared: &Shared) -> Result<Self> {
        shared.enter_port()?;
        Ok(Self(shared.clone()))
    }
}

impl Drop for PortCount {
    fn drop(&mut self) {
        self.0.leave_port();
    }
}

impl Steering {
    /// Loads the program for this port and attaches it. Refuses an interface which is down or has another XDP
    /// program.
    pub fn attach(shared: &Shared, config: PortConfig) -> Result<Self> {
        config.check()?;
        let shared = PortCount::enter(shared)?;
        let interface = Interface::ask(config.ifindex)?;
        let maps = PortMaps::new(&config)?;
        let rings_len = (config.queues as usize) * (config.workers as usize) * RING_STATE_LEN;
        let rings = Arc::new(Mapping::new(maps.ring_states.as_fd(), rings_len)?);
        let load = |variant| program::load(&shared.0, &maps, &config, &interface, variant);
        let attached = attach::attach(config.ifindex, &interface, config.attach, load, Loaded::as_fd)?;
        let Attached { program, variant, link, attachment } = attached;
        tracing::info!(interface = %interface.name, %attachment, mode = ?config.mode, "steering attached");
        Ok(Self { link, program, variant, attachment, config, maps, rings, shared })
    }

    /// How it is attached, and why so.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// What this port was asked to be.
    pub fn config(&self) -> &PortConfig {
        &self.config
    }

    /// Changes mode, placement and VLAN policy, and takes up a changed MAC address or MTU, between two packets.
    /// Sockets, ring states and counters stay.
    pub fn reconfigure(&mut self, mode: Mode, place: Place, steer_vlan: bool) -> Result<()> {
        let config = PortConfig { mode, place, steer_vlan, ..self.config.clone() };
        let interface = Interface::ask(config.ifindex)?;
        let program = program::load(&self.shared.0, &self.maps, &config, &interface, self.variant)?;
        sys::link_update(self.link.as_fd(), program.as_fd())
            .map_err(|error| Error::system("replacement of the XDP program", error))?;
        self.program = program;
        self.config = config;
        Ok(())
    }

    /// Sends the traffic of one worker and queue to an AF_XDP socket, which must be bound to that queue of
    /// this interface. The map holds the socket until it is removed or the socket closed.
    pub fn insert_socket(&self, queue: u32, worker: u32, socket: BorrowedFd<'_>) -> Result<()> {
        let slot = self.slot(queue, worker)?;
        let fd = socket.as_raw_fd().to_ne_bytes();
        let inserted = self.maps.xsks.update(&slot.to_ne_bytes(), &fd, MapFlags::ANY);
        inserted.map_err(|source| Error::map("xsks", "insertion", source))
    }

    /// Takes the socket out. No error if there was none.
    pub fn remove_socket(&self, queue: u32, worker: u32) -> Result<()> {
        let slot = self.slot(queue, worker)?;
        self.maps.xsks.delete(&slot.to_ne_bytes()).map_err(|source| Error::map("xsks", "removal", source))
    }

    /// The fill level the program believes this socket's ring to have.
    pub fn ring_state(&self, queue: u32, worker: u32) -> Result<RingState> {
        let slot = self.slot(queue, worker)?;
        RingState::new(&self.rings, slot as usize).ok_or(Error::OutOfRange {
            what: "slot",
            value: slot.into(),
            least: 0,
            most: 0,
        })
    }

    /// Allows the kernel placement to send out of an interface, if that can transmit redirected frames.
    pub fn add_tx_port(&self, ifindex: u32) -> Result<()> {
        let interface = Interface::ask(ifindex)?;
        // Generic mode transmits through the kernel's ordinary path, which every interface has.
        if self.attachment.mode == AttachMode::Native && !takes_redirects(ifindex) {
            return Err(Error::NoRedirectTarget { interface: interface.name, driver: interface.driver });
        }
        self.shared.0.tx_ports().insert(ifindex)
    }

    /// What became of the frames since the port was attached, one entry for each verdict in order, summed over
    /// all CPUs.
    pub fn verdicts(&self) -> Result<Vec<Tally>> {
        Verdict::ALL.iter().map(|&verdict| self.tally(verdict)).collect()
    }

    fn tally(&self, verdict: Verdict) -> Result<Tally> {
        let key = verdict.number().to_ne_bytes();
        let read = self.maps.verdicts.lookup_percpu(&key, MapFlags::ANY);
        let cpus = read.map_err(|source| Error::map("verdicts", "reading", source))?.unwrap_or_default();
        let (packets, bytes) = crate::tally::sum(&cpus);
        Ok(Tally { verdict, packets, bytes })
    }

    /// Runs the program over a frame as if it had come in on `queue`, without a packet on the wire
    /// (`BPF_PROG_TEST_RUN`). Counters and ring states do count it. The frame must have 14 bytes at least.
    pub fn try_frame(&self, frame: &[u8], queue: u32) -> Result<Trial> {
        let (action, frame) = sys::test_run(self.program.as_fd(), frame, self.config.ifindex, queue)
            .map_err(|error| Error::system("BPF_PROG_TEST_RUN", error))?;
        Ok(Trial { action: Action::from_number(action), frame })
    }

    fn slot(&self, queue: u32, worker: u32) -> Result<u32> {
        Error::in_range("queue", queue.into(), 0, u64::from(self.config.queues) - 1)?;
        Error::in_range("worker", worker.into(), 0, u64::from(self.config.workers) - 1)?;
        Ok(queue * self.config.workers + worker)
    }
}

/// What the program answered to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// The program failed. It never should.
    Aborted,
    /// Drop.
    Drop,
    /// To the kernel's stack.
    Pass,
    /// Back out of the same interface.
    Tx,
    /// To a socket or another interface.
    Redirect,
}

impl Action {
    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Tx,
            4 => Self::Redirect,
            _ => Self::Aborted,
        }
    }
}

/// What became of a frame in [`Steering::try_frame`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trial {
    /// The program's answer.
    pub action: Action,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// Unknown counts as able: kernels before 6.3 do not say.
fn takes_redirects(ifindex: u32) -> bool {
    let features = sys::xdp_query(ifindex).map_or(0, |query| query.feature_flags);
    features == 0 || features & sys::NETDEV_XDP_ACT_NDO_XMIT != 0
}
