//! UDP's demultiplexing table: one hash lookup, then the best match among the few at a port.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::ports::LocalPorts;

/// Sockets at one port; they are searched one by one.
pub const SOCKETS_PER_PORT_MAX: usize = 64;

/// Names a UDP socket of one [`Stack`](crate::Stack); never used again after it was closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId {
    index: u32,
    generation: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindError {
    /// Another socket has exactly these addresses and ports.
    InUse,
    /// The configured number of sockets is open, or [`SOCKETS_PER_PORT_MAX`] at this port.
    Full,
    /// Port 0, or a local and a remote address of different families.
    Address,
    /// Every ephemeral port is taken or refused.
    NoPort,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) local: SocketAddr,
    pub(crate) remote: Option<SocketAddr>,
    /// Of what it sends.
    pub(crate) dscp: u8,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    bound: Option<Bound>,
}

#[derive(Debug)]
pub(crate) struct UdpSockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_port: HashMap<u16, Vec<SocketId>, FixedState>,
    sockets_max: usize,
}

impl UdpSockets {
    pub(crate) fn new(sockets_max: usize, seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_port: HashMap::with_hasher(FixedState::with_seed(seed)),
            sockets_max: sockets_max.min(u32::MAX as usize),
        }
    }

    pub(crate) fn bind(&mut self, local: SocketAddr, remote: Option<SocketAddr>) -> Result<SocketId, BindError> {
        let families_differ = remote.is_some_and(|r| r.is_ipv4() != local.is_ipv4());
        if local.port() == 0 || remote.is_some_and(|r| r.port() == 0) || families_differ {
            return Err(BindError::Address);
        }
        let bound = Bound { local, remote, dscp: 0 };
        let at_port = self.by_port.get(&local.port()).map(Vec::as_slice).unwrap_or_default();
        let same = |id: &SocketId| self.get(*id).is_some_and(|b| b.local.ip() == local.ip() && b.remote == remote);
        if at_port.iter().any(same) {
            return Err(BindError::InUse);
        }
        let open = self.slots.len() - self.free.len();
        if at_port.len() >= SOCKETS_PER_PORT_MAX || open >= self.sockets_max {
            return Err(BindError::Full);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, bound: None });
                (self.slots.len() - 1) as u32
            }
        };
        let slot = self.slots.get_mut(index as usize).ok_or(BindError::Full)?;
        slot.bound = Some(bound);
        let id = SocketId { index, generation: slot.generation };
        self.by_port.entry(local.port()).or_default().push(id);
        Ok(id)
    }

    /// RFC 6056 §3.3.1: ports in order from a random one on, the first that is free and `accepted`.
    pub(crate) fn bind_ephemeral(
        &mut self,
        address: IpAddr,
        remote: Option<SocketAddr>,
        ports: LocalPorts,
        random: u64,
        mut accepted: impl FnMut(u16) -> bool,
    ) -> Result<SocketId, BindError> {
        for port in ports.from(random) {
            if self.by_port.contains_key(&port) || !accepted(port) {
                continue;
            }
            return self.bind(SocketAddr::new(address, port), remote);
        }
        Err(BindError::NoPort)
    }

    pub(crate) fn close(&mut self, id: SocketId) -> bool {
        let Some(slot) = self.slots.get_mut(id.index as usize) else { return false };
        if slot.generation != id.generation {
            return false;
        }
        let Some(bound) = slot.bound.take() else { return false };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        let port = bound.local.port();
        if let Some(at_port) = self.by_port.get_mut(&port) {
            at_port.retain(|&other| other != id);
            if at_port.is_empty() {
                self.by_port.remove(&port);
            }
        }
        true
    }

    #[inline]
    pub(crate) fn get(&self, id: SocketId) -> Option<&Bound> {
        let slot = self.slots.get(id.index as usize)?;
        slot.bound.as_ref().filter(|_| slot.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Bound> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.bound.as_mut().filter(|_| slot.generation == id.generation)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketId, &Bound)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = SocketId { index: index as u32, generation: slot.generation };
            slot.bound.as_ref().map(|bound| (id, bound))
        })
    }

    /// The socket for a packet from `remote` to `local`: a connected one before one that has the
    /// address before one that takes any.
    #[inline]
    pub(crate) fn lookup(&self, local: SocketAddr, remote: SocketAddr) -> Option<SocketId> {
        let mut best = None;
        for &id in self.by_port.get(&local.port())? {
            let Some(bound) = self.get(id) else { continue };
            let Some(rank) = bound.rank(local, remote) else { continue };
            if best.is_none_or(|(highest, _)| rank > highest) {
                best = Some((rank, id));
            }
        }
        best.map(|(_, id)| id)
    }
}

impl Bound {
    /// How well a packet from `remote` to `local` fits: two points for the remote end, one for the address.
    fn rank(&self, local: SocketAddr, remote: SocketAddr) -> Option<u8> {
        let (own, to) = (self.local.ip(), local.ip());
        let address = match own == to {
            true => 1,
            false if own.is_unspecified() && own.is_ipv4() == to.is_ipv4() => 0,
            false => return None,
        };
        match self.remote {
            None => Some(address),
            Some(r) if (r.ip(), r.port()) == (remote.ip(), remote.port()) => Some(address + 2),
            Some(_) => None,
        }
    }
}
