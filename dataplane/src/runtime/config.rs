//! What to start.

use tailwater_xdp::{AttachMode, Mode, Place, Shared};

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

/// Everything that `Runtime::start` needs to know.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Interfaces in port order.
    pub interfaces: Vec<InterfaceConfig>,
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
    /// Frames in the region; `None` is enough for all rings.
    pub frames: Option<usize>,
    /// Whether huge pages are tried.
    pub huge_pages: bool,
    /// Whether tagged frames are steered like others.
    pub steer_vlan: bool,
    /// Maps that the interfaces' programs share, where others write to them, too; `None` makes new ones.
    pub shared: Option<Shared>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            cores: vec![0],
            idle: Idle::default(),
            mode: Mode::Shared,
            place: Place::User,
            ring_size: 2048,
            frames: None,
            huge_pages: true,
            steer_vlan: true,
            shared: None,
        }
    }
}
