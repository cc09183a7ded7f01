//! Attaching a program to an interface, by a link which dies with the process.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use libbpf_rs::libbpf_sys;

use crate::error::{Error, Result, is_privilege};
use crate::interface::Interface;
use crate::sys;

/// How to attach.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AttachMode {
    /// Native where the driver has it, else generic.
    #[default]
    Auto,
    /// In the driver, before a socket buffer exists.
    Native,
    /// In the kernel's receive path: any interface, slower.
    Generic,
}

/// What attaching came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// [`Native`](AttachMode::Native) or [`Generic`](AttachMode::Generic).
    pub mode: AttachMode,
    /// The program takes frames in several fragments (MTU above a page).
    pub frags: bool,
    /// Why it is this mode, in a sentence.
    pub reason: String,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = mode_name(self.mode);
        let frags = if self.frags { "multi-buffer" } else { "single-buffer" };
        write!(f, "{mode}, {frags}: {}", self.reason)
    }
}

/// Which of the two programs to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Variant {
    Frags,
    Linear,
}

/// What is attached to an interface already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Occupant {
    /// Program id, as `bpftool prog` shows it.
    pub id: u32,
    /// Program name, empty if it has none.
    pub name: String,
    /// `native`, `generic`, `offload` or `multiple`.
    pub mode: &'static str,
}

impl Occupant {
    fn flag(&self) -> &'static str {
        match self.mode {
            "native" => "xdpdrv",
            "generic" => "xdpgeneric",
            "offload" => "xdpoffload",
            _ => "xdp",
        }
    }

    pub(crate) fn refuse(self, interface: &Interface) -> Error {
        let flag = self.flag();
        let Self { id, name, mode } = self;
        Error::Busy { interface: interface.name.clone(), program: name, id, mode, flag }
    }
}

/// Asks what is attached.
pub(crate) fn occupant(ifindex: u32) -> Result<Option<Occupant>> {
    let query = sys::xdp_query(ifindex).map_err(|error| Error::system("query of the XDP program", error))?;
    let (mode, id) = match u32::from(query.attach_mode) {
        libbpf_sys::XDP_ATTACHED_NONE => return Ok(None),
        libbpf_sys::XDP_ATTACHED_DRV => ("native", query.drv_prog_id),
        libbpf_sys::XDP_ATTACHED_SKB => ("generic", query.skb_prog_id),
        libbpf_sys::XDP_ATTACHED_HW => ("offload", query.hw_prog_id),
        _ => ("multiple", query.drv_prog_id.max(query.skb_prog_id)),
    };
    // The program may go while we ask, and its name needs a privilege the query does not.
    Ok(Some(Occupant { id, name: sys::program_name(id).unwrap_or_default(), mode }))
}

/// A program attached to an interface.
#[derive(Debug)]
pub(crate) struct Attached<P> {
    pub(crate) program: P,
    pub(crate) variant: Variant,
    pub(crate) link: OwnedFd,
    pub(crate) attachment: Attachment,
}

/// Attaches the program that `load` makes, trying what `mode` allows: multi-buffer before single-buffer, native
/// before generic. An interface which is down or taken is refused.
pub(crate) fn attach<P>(
    ifindex: u32,
    interface: &Interface,
    mode: AttachMode,
    load: impl Fn(Variant) -> Result<P>,
    fd: impl for<'a> Fn(&'a P) -> BorrowedFd<'a>,
) -> Result<Attached<P>> {
    if let Some(occupant) = occupant(ifindex)? {
        return Err(occupant.refuse(interface));
    }
    if !interface.up {
        return Err(Error::Down { interface: interface.name.clone() });
    }
    let ways = ways(mode);
    let mut refusals: Vec<Refusal> = Vec::with_capacity(ways.len());
    for &(mode, variant) in ways {
        let program = load(variant)?;
        match sys::link_create(fd(&program), ifindex, mode_flag(mode)) {
            Ok(link) => {
                let reason = reason(mode, interface, &refusals);
                let attachment = Attachment { mode, frags: variant == Variant::Frags, reason };
                return Ok(Attached { program, variant, link, attachment });
            }
            Err(source) => refusals.push(sort_out(ifindex, interface, mode, source)?),
        }
    }
    Err(give_up(interface, refusals))
}

const fn ways(mode: AttachMode) -> &'static [(AttachMode, Variant)] {
    use {AttachMode::*, Variant::*};
    match mode {
        Native => &[(Native, Frags), (Native, Linear)],
        Generic => &[(Generic, Frags), (Generic, Linear)],
        Auto => &[(Native, Frags), (Native, Linear), (Generic, Frags), (Generic, Linear)],
    }
}

struct Refusal {
    mode: AttachMode,
    source: io::Error,
}

/// Tells refusals which another way may get around from those it cannot.
fn sort_out(ifindex: u32, interface: &Interface, mode: AttachMode, source: io::Error) -> Result<Refusal> {
    if is_privilege(&source) {
        return Err(Error::Privileges { what: "attaching an XDP program" });
    }
    match source.raw_os_error() {
        // Somebody attached between our question and our attempt.
        Some(libc::EBUSY | libc::EEXIST) => match occupant(ifindex)? {
            Some(occupant) => Err(occupant.refuse(interface)),
            None => Ok(Refusal { mode, source }),
        },
        Some(libc::ENODEV) => Err(Error::NoInterface { ifindex }),
        _ => Ok(Refusal { mode, source }),
    }
}

fn reason(mode: AttachMode, interface: &Interface, refusals: &[Refusal]) -> String {
    let driver = &interface.driver;
    let native = refusals.iter().rev().find(|refusal| refusal.mode == AttachMode::Native);
    match (mode, native) {
        (AttachMode::Generic, Some(refusal)) => format!("driver {driver} refused native mode ({})", refusal.source),
        (AttachMode::Generic, None) => "generic mode was asked for".into(),
        (_, Some(refusal)) => format!("driver {driver} refused multi-buffer ({})", refusal.source),
        (_, None) => format!("driver {driver} has native XDP"),
    }
}

/// Largest frame a driver without multi-buffer support can be expected to take in one page.
const LINEAR_MTU_MAX: u32 = 3498;

fn give_up(interface: &Interface, mut refusals: Vec<Refusal>) -> Error {
    let (name, driver) = (interface.name.clone(), interface.driver.clone());
    let Some(Refusal { mode, source }) = refusals.pop() else {
        return Error::NoInterface { ifindex: 0 };
    };
    if mode == AttachMode::Generic {
        return Error::NoXdp { interface: name, mode, source };
    }
    let size = matches!(source.raw_os_error(), Some(libc::ERANGE | libc::EINVAL | libc::E2BIG));
    if size && interface.mtu > LINEAR_MTU_MAX {
        return Error::MtuTooLarge { interface: name, mtu: interface.mtu, driver };
    }
    Error::NoNative { interface: name, driver, source }
}

const fn mode_flag(mode: AttachMode) -> u32 {
    match mode {
        AttachMode::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
        AttachMode::Native | AttachMode::Auto => libbpf_sys::XDP_FLAGS_DRV_MODE,
    }
}

const fn mode_name(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::Auto => "auto",
        AttachMode::Native => "native",
        AttachMode::Generic => "generic",
    }
}
