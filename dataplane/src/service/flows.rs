//! Which flows come back to a worker: what it opens must be one of them.

use std::net::SocketAddr;
use std::sync::Arc;

use tailwater_xdp::{FlowKey, Shared};

use super::listener::Transport;

/// A worker's view of how flows are shared out, and of the local ports that are not ours after all.
pub(super) struct Flows {
    worker: usize,
    /// `None`: no program shares flows out, and all of them come here.
    shared: Option<Shared>,
    /// Sorted.
    taken: Arc<[u16]>,
}

impl Flows {
    pub(super) fn new(worker: usize, shared: Option<Shared>, taken: Arc<[u16]>) -> Self {
        Self { worker, shared, taken }
    }

    /// The worker that they come to.
    pub(super) fn worker(&self) -> usize {
        self.worker
    }

    /// Whether packets from `remote` to `local` come to this worker, and the port is not somebody else's.
    pub(super) fn come_back(&self, transport: Transport, local: SocketAddr, remote: SocketAddr) -> bool {
        if self.taken.binary_search(&local.port()).is_ok() {
            return false;
        }
        let Some(shared) = &self.shared else { return true };
        let flow = FlowKey::between(remote, local, transport.number());
        flow.is_some_and(|flow| usize::from(shared.owner(&flow)) == self.worker)
    }
}
