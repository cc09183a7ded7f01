//! What all sockets of a host share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::config::SocketConfig;
use super::error;
use super::gate::Gate;
use super::lane::Lane;
use crate::service::{Listener, Ports, Transport};

/// Longest wait for the host's start: the interfaces' programs are being attached.
const START_MAX: Duration = Duration::from_secs(10);
/// Ports tried when one is wanted that is free, and there is no kernel to ask.
const PORTS_TRIED_MAX: u16 = 64;
/// RFC 6335 §6: the dynamic ports.
const PORT_FIRST: u16 = 49_152;
const PORTS: u16 = u16::MAX - PORT_FIRST;

/// Sockets of a host: how they find its workers.
pub(super) struct Shared {
    pub(super) config: SocketConfig,
    /// By worker.
    lanes: RwLock<Arc<[Arc<Lane>]>>,
    /// Which worker has the next connection.
    turn: AtomicUsize,
    ports: OnceLock<Ports>,
    started: Gate,
    names: Mutex<Names>,
}

/// Addresses of sockets, by protocol.
type Names = BTreeMap<(u8, SocketAddr), Use>;

/// How an address is used.
#[derive(Default)]
struct Use {
    /// The socket that has it, and connections that came in by it.
    holders: usize,
    /// A socket has it.
    bound: bool,
}

impl Shared {
    pub(super) fn new(config: SocketConfig) -> Self {
        Self {
            config,
            lanes: RwLock::new([].into()),
            turn: AtomicUsize::new(0),
            ports: OnceLock::new(),
            started: Gate::default(),
            names: Mutex::default(),
        }
    }

    /// The lane of a worker, made when its service is.
    pub(super) fn lane(&self, worker: usize) -> Arc<Lane> {
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        if worker >= lanes.len() {
            let further = (lanes.len()..=worker).map(|worker| Arc::new(Lane::new(worker, &self.config)));
            *lanes = lanes.iter().cloned().chain(further).collect();
        }
        Arc::clone(&lanes[worker])
    }

    /// A worker has started; this is how ports are asked for.
    pub(super) fn start(&self, ports: &Ports) {
        // The workers of a host all have the same.
        let _ = self.ports.set(ports.clone());
        fence(Ordering::SeqCst);
        self.started.open();
    }

    fn ports(&self) -> std::io::Result<&Ports> {
        self.started.wait(Duration::ZERO, Some(Instant::now() + START_MAX), || self.ports.get().is_some());
        self.ports.get().ok_or_else(|| error::of(error::STOPPED))
    }

    /// Every worker's lane, once the host has started.
    pub(super) fn lanes(&self) -> std::io::Result<Arc<[Arc<Lane>]>> {
        self.ports()?;
        Ok(Arc::clone(&self.lanes.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The lane that is to have the next connection.
    pub(super) fn next_lane(&self) -> std::io::Result<Arc<Lane>> {
        let lanes = self.lanes()?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        lanes.get(turn % lanes.len().max(1)).cloned().ok_or_else(|| error::of(error::STOPPED))
    }

    /// All lanes, another one first each time.
    pub(super) fn lanes_in_turn(&self) -> std::io::Result<Vec<Arc<Lane>>> {
        let mut lanes = self.lanes()?.to_vec();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % lanes.len().max(1);
        lanes.rotate_left(first);
        Ok(lanes)
    }

    /// Takes an address for a socket; port 0 stands for one that is free.
    pub(super) fn name(self: &Arc<Self>, transport: Transport, at: SocketAddr) -> std::io::Result<Arc<Name>> {
        let ports = self.ports()?;
        if !ports.are_granted() {
            return Err(error::of(libc::ENETDOWN));
        }
        if at.port() != 0 {
            let name = self.take(Listener { transport, at }, ports)?;
            ports.reserve(name.listener)?;
            return Ok(name);
        }
        // Another socket may take it meanwhile, and has it reserved then.
        for _ in 0..PORTS_TRIED_MAX {
            let mut at = ports.reserve(Listener { transport, at })?;
            if at.port() == 0 {
                at = self.free(transport, at)?;
            }
            if let Ok(name) = self.take(Listener { transport, at }, ports) {
                return Ok(name);
            }
        }
        Err(error::of(libc::EADDRINUSE))
    }

    fn take(self: &Arc<Self>, listener: Listener, ports: &Ports) -> std::io::Result<Arc<Name>> {
        let mut names = self.names();
        let used = names.entry((listener.transport.number(), listener.at)).or_default();
        if std::mem::replace(&mut used.bound, true) {
            return Err(error::of(libc::EADDRINUSE));
        }
        used.holders += 1;
        Ok(Arc::new(Name { shared: Arc::clone(self), ports: ports.clone(), listener }))
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some dynamic port that no other socket has.
    fn free(&self, transport: Transport, at: SocketAddr) -> std::io::Result<SocketAddr> {
        let start = (crate::clock::now_ns() >> 10) as u16 % PORTS;
        let candidates = (0..PORTS_TRIED_MAX).map(|step| PORT_FIRST + (start % PORTS + step) % PORTS);
        let names = self.names();
        let mut addresses = candidates.map(|port| SocketAddr::new(at.ip(), port));
        let found = addresses.find(|at| !names.contains_key(&(transport.number(), *at)));
        found.ok_or_else(|| error::of(libc::EADDRINUSE))
    }
}

/// An address that is ours while somebody has this: a socket, or a connection that came in by it.
pub(super) struct Name {
    shared: Arc<Shared>,
    ports: Ports,
    listener: Listener,
}

impl Name {
    pub(super) fn at(&self) -> SocketAddr {
        self.listener.at
    }

    /// Has packets come, now that the workers listen.
    pub(super) fn register(&self) -> std::io::Result<()> {
        self.ports.register(self.listener).map(drop)
    }

    /// Another socket may have it.
    pub(super) fn unbind(&self) {
        if let Some(used) = self.shared.names().get_mut(&self.key()) {
            used.bound = false;
        }
    }

    fn key(&self) -> (u8, SocketAddr) {
        (self.listener.transport.number(), self.listener.at)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut names = self.shared.names();
        let Some(used) = names.get_mut(&self.key()) else { return };
        used.holders -= 1;
        if used.holders == 0 {
            names.remove(&self.key());
            // Under the lock: whoever takes the address next asks for the port after this.
            self.ports.release(self.listener);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn sockets_that_want_some_port_at_the_same_time_all_get_one_of_their_own() {
        const SOCKETS: usize = 4;
        const ROUNDS: usize = 2_000;
        let shared = Arc::new(Shared::new(SocketConfig::default()));
        shared.start(&Ports::default());
        let (begin, end) = (Barrier::new(SOCKETS), Barrier::new(SOCKETS));
        let take = || {
            let names = (0..ROUNDS).map(|_| {
                begin.wait();
                let name = shared.name(Transport::Udp, ([192, 0, 2, 1], 0).into());
                end.wait();
                name.is_err()
            });
            names.filter(|refused| *refused).count()
        };
        let refused: usize = std::thread::scope(|scope| {
            let threads = [(); SOCKETS].map(|()| scope.spawn(take));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(refused, 0);
    }
}
