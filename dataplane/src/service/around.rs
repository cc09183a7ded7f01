//! What a worker's block knows of the host around it.

use std::sync::Arc;

use super::flows::Flows;
use super::ports::Ports;
use crate::worker::Waker;

/// Lent to the service with each [`Io`](super::Io).
pub(super) struct Around {
    pub(super) flows: Flows,
    pub(super) ports: Ports,
    /// Who wakes this worker; `None` where it is turned by hand.
    pub(super) waker: Option<Arc<Waker>>,
    /// Chunks of packet memory that are this worker's part, once it has started.
    pub(super) chunks: usize,
}
