//! Every bound of this crate, with its reason.

/// Ports (interfaces) of one process. More than any host's share of interfaces; guards against leaks.
pub const PORTS_MAX: u32 = 256;
/// Receive queues of one port.
pub const QUEUES_MAX: u32 = 256;
/// Workers of one process: an indirection entry is one byte, and 128 entries cannot share out among more.
pub const WORKERS_MAX: u32 = 128;
/// Sockets of one port, queues times workers: 8 MiB of ring states.
pub const SOCKETS_MAX: u32 = 65_536;

/// Sizes of the shared maps, fixed when [`Shared`](crate::Shared) is made. Zero is raised to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Registered listeners and addresses. Memory is taken as they are inserted.
    pub listeners_max: u32,
    /// The host's own addresses. Memory is taken as they are inserted.
    pub local_addrs_max: u32,
    /// Flow exceptions; about 120 bytes each, taken at start. The least recently used one gives way.
    pub flow_exceptions_max: u32,
    /// One more than the highest interface index the kernel placement may send out of; 8 bytes each. Traffic
    /// out of interfaces beyond comes up to the workers.
    pub tx_ifindex_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { listeners_max: 65_536, local_addrs_max: 65_536, flow_exceptions_max: 65_536, tx_ifindex_max: 65_536 }
    }
}
