//! Loading the steering program with the constants and maps of one port.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapHandle, MapType, OpenMapMut, libbpf_sys};

use crate::attach::Variant;
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::limits::SOCKETS_MAX;
use crate::log;
use crate::ring_state::RING_STATE_LEN;
use crate::shared::{Shared, create};
use crate::steering::{Mode, Place, PortConfig};
use crate::verdict::Verdict;

mod skel {
    #![allow(unsafe_code, unreachable_pub, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used)]
    #![allow(clippy::panic, dead_code, non_camel_case_types, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

/// Bytes of `struct tally`.
pub(crate) const TALLY_LEN: usize = 16;

/// Frames longer than this may come in fragments, so their bytes are counted by a helper call.
const LINEAR_MTU_MAX: u32 = 3000;

/// The maps which exist once per port.
#[derive(Debug)]
pub(crate) struct PortMaps {
    pub(crate) xsks: MapHandle,
    pub(crate) ring_states: MapHandle,
    pub(crate) verdicts: MapHandle,
}

impl PortMaps {
    pub(crate) fn new(config: &PortConfig) -> Result<Self> {
        let sockets = config.queues.saturating_mul(config.workers);
        Error::in_range("queues times workers", sockets.into(), 1, SOCKETS_MAX.into())?;
        let mmapable = libbpf_sys::BPF_F_MMAPABLE;
        Ok(Self {
            xsks: create("xsks", MapType::Xskmap, 4, 4, sockets, 0)?,
            ring_states: create("ring_states", MapType::Array, 4, RING_STATE_LEN, sockets, mmapable)?,
            verdicts: create("verdicts", MapType::PercpuArray, 4, TALLY_LEN, Verdict::COUNT, 0)?,
        })
    }

    fn maps(&self) -> [(&'static str, BorrowedFd<'_>); 3] {
        [("xsks", self.xsks.as_fd()), ("ring_states", self.ring_states.as_fd()), ("verdicts", self.verdicts.as_fd())]
    }
}

/// A loaded program. The kernel keeps it, and its maps, as long as this or a link does.
#[derive(Debug)]
pub(crate) struct Loaded(OwnedFd);

impl AsFd for Loaded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Loads one variant of the program for one port.
pub(crate) fn load(
    shared: &Shared,
    maps: &PortMaps,
    config: &PortConfig,
    interface: &Interface,
    variant: Variant,
) -> Result<Loaded> {
    let what = "steering";
    drop(log::take_tail());
    let failed = |source| Error::load(what, source, log::take_tail());
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::SteerSkelBuilder::default().open(&mut storage).map_err(failed)?;

    let constants = open.maps.rodata_data.as_mut().ok_or_else(|| failed(no_constants()))?;
    set_constants(&mut constants.port, config, interface);
    open.progs.steer.set_autoload(variant == Variant::Frags);
    open.progs.steer_linear.set_autoload(variant == Variant::Linear);
    open.progs.hash_probe.set_autoload(false);
    for (name, fd) in shared.maps().into_iter().chain(maps.maps()) {
        let map = by_name(&mut open.maps, name).ok_or_else(|| failed(no_constants()))?;
        map.reuse_fd(fd).map_err(|source| Error::map(name, "reuse", source))?;
    }

    let skel = open.load().map_err(failed)?;
    let program = match variant {
        Variant::Frags => skel.progs.steer.as_fd(),
        Variant::Linear => skel.progs.steer_linear.as_fd(),
    };
    let fd = program.try_clone_to_owned().map_err(|error| Error::system("dup of a program", error))?;
    Ok(Loaded(fd))
}

fn no_constants() -> libbpf_rs::Error {
    libbpf_rs::Error::from(std::io::Error::from(std::io::ErrorKind::InvalidData))
}

fn set_constants(port: &mut skel::types::port, config: &PortConfig, interface: &Interface) {
    let mode = match config.mode {
        Mode::Shared => 0,
        Mode::Exclusive => 1,
        Mode::Router => 2,
    };
    let mut mac = [0; 8];
    for (to, from) in mac.iter_mut().zip(interface.mac) {
        *to = from;
    }
    *port = skel::types::port {
        mode,
        place_xdp: u32::from(config.place == Place::Kernel),
        ifindex: config.ifindex,
        workers: config.workers,
        steer_vlan: u32::from(config.steer_vlan),
        frags: u32::from(interface.mtu > LINEAR_MTU_MAX),
        mac,
    };
}

fn by_name<'a, 'obj>(maps: &'a mut skel::OpenSteerMaps<'obj>, name: &str) -> Option<&'a mut OpenMapMut<'obj>> {
    Some(match name {
        "settings" => &mut maps.settings,
        "listeners" => &mut maps.listeners,
        "local_addrs" => &mut maps.local_addrs,
        "flow_exceptions" => &mut maps.flow_exceptions,
        "tx_ports" => &mut maps.tx_ports,
        "tx_ports_linear" => &mut maps.tx_ports_linear,
        "xsks" => &mut maps.xsks,
        "ring_states" => &mut maps.ring_states,
        "verdicts" => &mut maps.verdicts,
        _ => return None,
    })
}
