//! Small XDP programs for measuring: sinks, reflectors, peers to compare with, and a packet [`Generator`].
//!
//! They have nothing to do with steering, and are attached the same way: by a link which dies with the
//! process. A veth accepts redirected frames only while its peer has an XDP program (or GRO on):
//! [`Tool::Pass`] is the least such program.

mod generator;
mod program;

use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

pub use generator::{Flood, Generator, GeneratorReport};

use crate::attach::{self, AttachMode, Attached, Attachment};
use crate::error::{Error, Result};
use crate::interface::Interface;
use program::{Constants, Loaded, Program};

/// What to attach.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tool {
    /// Counts and drops every frame.
    Sink,
    /// Counts every frame and sends it back, MAC addresses swapped.
    Reflect,
    /// Leaves every frame to the kernel.
    Pass,
    /// Sends every frame out of another interface, unchanged.
    Redirect {
        /// Index of that interface, in the same namespace.
        to: u32,
    },
    /// Forwards IPv4 and IPv6 with the kernel's FIB: the least code which does it correctly. What cannot be
    /// forwarded goes to the kernel. The peer of [`Place::Kernel`](crate::Place::Kernel).
    FibRedirect,
}

/// A tool on an interface; dropping it detaches.
#[derive(Debug)]
pub struct AttachedTool {
    // Held for their drop alone.
    _link: OwnedFd,
    _program: OwnedFd,
    seen: MapHandle,
    attachment: Attachment,
}

/// Frames and bytes a tool has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Frames.
    pub packets: u64,
    /// Bytes from the Ethernet header on, without FCS; of frames in several buffers, the first one's.
    pub bytes: u64,
}

/// Attaches a tool to an interface of the caller's network namespace. Refuses an interface which is down or
/// has another XDP program.
pub fn attach(tool: Tool, ifindex: u32, mode: AttachMode) -> Result<AttachedTool> {
    let interface = Interface::ask(ifindex)?;
    let (program, to) = match tool {
        Tool::Sink => (Program::Sink, 0),
        Tool::Reflect => (Program::Reflect, 0),
        Tool::Pass => (Program::Pass, 0),
        Tool::Redirect { to } => (Program::Redirect, to),
        Tool::FibRedirect => (Program::FibRedirect, 0),
    };
    let constants = Constants { ifindex: to, ..Constants::default() };
    // Both variants are the same here: the programs look at headers only.
    let load = |_| program::load(program, &constants);
    let attached = attach::attach(ifindex, &interface, mode, load, |loaded: &Loaded| loaded.program.as_fd())?;
    let Attached { program: Loaded { program, seen }, link, attachment, .. } = attached;
    Ok(AttachedTool { _link: link, _program: program, seen, attachment })
}

impl AttachedTool {
    /// How it is attached, and why so.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// What it has counted since it was attached. Only [`Tool::Sink`] and [`Tool::Reflect`] count.
    pub fn seen(&self) -> Result<Seen> {
        read_seen(&self.seen)
    }
}

fn read_seen(map: &MapHandle) -> Result<Seen> {
    let read = map.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY);
    let cpus = read.map_err(|source| Error::map("seen", "reading", source))?.unwrap_or_default();
    let (packets, bytes) = crate::tally::sum(&cpus);
    Ok(Seen { packets, bytes })
}
