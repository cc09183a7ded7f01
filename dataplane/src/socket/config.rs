//! Bounds of the sockets of one host.

use std::time::Duration;

/// How many sockets there may be, and how much each may hold.
#[derive(Clone, Copy, Debug)]
pub struct SocketConfig {
    /// Sockets that one worker serves at the same time, 1 to 1,048,576; further ones are refused with `ENFILE`.
    pub sockets_max: usize,
    /// Connections of one listener that wait in one worker to be accepted, at least 1. Further ones are not answered, so that
    /// their clients try again.
    pub backlog_max: usize,
    /// Chunks of packet memory that all sockets of one worker hold together: what waits for readers or for the worker, and
    /// blank frames. No more than a quarter of what the worker has, whatever this says. As it is used up the queues of each
    /// socket are shorter than `inbox_max` and `outbox_max`, down to two frames; the last eighth is for those only who read or
    /// write at the moment, a frame at a time, and half of it for datagrams whose readers once did.
    pub chunks_max: usize,
    /// Received frames that wait for a socket's reader, at least 2. Behind them the stack's receive buffer fills, and
    /// when that is full the peer's window is closed.
    pub inbox_max: usize,
    /// Written frames that wait for the worker, at least 2. Behind them lies the stack's send buffer.
    pub outbox_max: usize,
    /// Blank frames that each worker keeps ready for writers, an eighth of `chunks_max` at most.
    pub blanks_max: usize,
    /// Longest that a connection lasts whose application has closed it, and whose peer takes nothing more of what was
    /// written: then it is reset.
    pub linger: Duration,
    /// Connections of one worker that last so, having something to send; what is closed beyond them is reset at once.
    pub lingering_max: usize,
    /// How long a blocking call spins before it sleeps. Zero suits threads that share cores; a few tens of microseconds
    /// save the wake-up of a thread that has a core of its own.
    pub spin: Duration,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            sockets_max: 65_536,
            backlog_max: 1_024,
            chunks_max: 65_536,
            inbox_max: 256,
            outbox_max: 256,
            blanks_max: 512,
            // As long as the stack waits for one whose own queue is empty.
            linger: Duration::from_secs(60),
            lingering_max: 4_096,
            spin: Duration::ZERO,
        }
    }
}
