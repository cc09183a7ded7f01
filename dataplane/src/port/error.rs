//! Why a port could not be opened, and what to do about it.

/// Errors of opening a port. The messages say what to do next.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PortError {
    #[error("no interface named {name:?} in this network namespace; `ip link` lists them")]
    NoInterface { name: String },
    #[error("not permitted to {what}; run as root, or grant CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK")]
    Privilege { what: &'static str },
    #[error("queue {queue} of {interface} is used by another AF_XDP socket; stop that program or choose other queues")]
    QueueBusy { interface: String, queue: u32 },
    #[error("{interface} has {queues} queue(s), 0 to {last}; queue {queue} does not exist", last = .queues.saturating_sub(1))]
    NoQueue { interface: String, queue: u32, queues: u32 },
    #[error(
        "cannot bind an AF_XDP socket to queue {queue} of {interface}: {error}; `tailwater doctor {interface}` shows what works"
    )]
    Bind { interface: String, queue: u32, error: String },
    #[error("packet memory was made without AF_XDP support; use Region::for_af_xdp")]
    NoUmem,
    #[error("{interface}: MTU {mtu} needs packets of several buffers, which {why}; lower the MTU or use larger frames")]
    Mtu { interface: String, mtu: u32, why: &'static str },
    #[error("{interface}: {error}")]
    Steering { interface: String, error: String },
    #[error("{interface}: {what}: {error}")]
    System { interface: String, what: &'static str, error: std::io::Error },
    #[error("{path}: {error}")]
    File { path: String, error: String },
}
