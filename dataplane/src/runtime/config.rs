//! What to start.

use std::sync::Arc;

use tailwater_xdp::{AttachMode, Mode, Place, Shared};

use super::PortListener;

use crate::port::af_xdp::Copy;
use crate::worker::Idle;

/// How to reach an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// AF_XDP where it works, else AF_PACKET.
    #[default]
    Auto,
    /// AF_XDP or an error.
    AfXdp,
    /// AF_PACKET rings: the kernel's stack sees every packet, too.
    Packet,
}

/// One interface.
#[derive(Clone, Debug)]
pub struct InterfaceConfig {
    /// Name.
    pub name: String,
    /// Backend.
    pub backend: Backend,
    /// Native or generic XDP.
    pub attach: AttachMode,
    /// How to bind; `None` leaves it to the kernel.
    pub copy: Option<Copy>,
    /// Receive queues to serve; `None` is all that the interface has.
    pub queues: Option<u32>,
}

impl InterfaceConfig {
    /// An interface by name, everything else chosen by probing.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), backend: Backend::Auto, attach: AttachMode::Auto, copy: None, queues: None }
    }
}

/// A kernel interface group whose members join and leave while the dataplane runs.
#[derive(Clone, Debug)]
pub struct FollowGroup {
    /// Number of the group.
    pub number: u32,
    /// How to open an interface that joins; the name does not matter.
    pub like: InterfaceConfig,
}

/// Those who must know of ports that join and leave.
#[derive(Clone, Default)]
pub struct PortListeners(pub Vec<Arc<dyn PortListener>>);

impl std::fmt::Debug for PortListeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} listeners", self.0.len())
    }
}

/// Everything that `Runtime::start` needs to know.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Interfaces in port order.
    pub interfaces: Vec<InterfaceConfig>,
    /// Places for interfaces, taken or not: memory is reserved for as many. 0 is as many as there are at the start.
    pub interfaces_max: usize,
    /// Whose members join and leave later. Those of the start are among `interfaces`.
    pub follow: Option<FollowGroup>,
    /// Who is told.
    pub listeners: PortListeners,
    /// Cores to run workers on, one each.
    pub cores: Vec<usize>,
    /// What idle workers do.
    pub idle: Idle,
    /// Whose traffic it is.
    pub mode: Mode,
    /// Where transit is forwarded (router mode).
    pub place: Place,
    /// Descriptors per ring: a power of two, 64 to 32,768.
    pub ring_size: u32,
    /// Frames in the region; `None` is enough for all rings, and [`frames_kept`](Self::frames_kept) besides.
    pub frames: Option<usize>,
    /// Frames that each worker's blocks may keep, such as text that is sent and not acknowledged.
    pub frames_kept: usize,
    /// Whether huge pages are tried.
    pub huge_pages: bool,
    /// Whether TCP segments that leave together may do so as one packet, where the kernel copies: it then cuts them.
    pub segmentation: bool,
    /// Whether tagged frames are steered like others.
    pub steer_vlan: bool,
    /// Maps that the interfaces' programs share, where others write to them, too; `None` makes new ones.
    pub shared: Option<Shared>,
}

impl RuntimeConfig {
    /// Number of places for interfaces.
    pub fn places(&self) -> usize {
        self.interfaces_max.max(self.interfaces.len())
    }
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            interfaces_max: 0,
            follow: None,
            listeners: PortListeners::default(),
            cores: vec![0],
            idle: Idle::default(),
            mode: Mode::Shared,
            place: Place::User,
            ring_size: 2048,
            frames: None,
            frames_kept: 0,
            huge_pages: true,
            segmentation: true,
            steer_vlan: true,
            shared: None,
        }
    }
}
