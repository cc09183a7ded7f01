//! The states of a connection (RFC 9293 §3.3.2).
//!
//! ```text
//!                            +---------+
//!                            |  Closed | --------------------- connect: SYN ---+
//!                            +---------+                                       v
//!                     listen |                                           +---------+
//!                            v            SYN: SYN,ACK (both at once)    | SynSent |
//!   +---------+  SYN:   +-------------+ <------------------------------- |         |
//!   |  Listen | SYN,ACK | SynReceived |                                  +---------+
//!   |         | ------> |             | -- ACK --+          SYN,ACK: ACK  |
//!   +---------+         +-------------+          v                        |
//!                          | shutdown: FIN  +-------------+ <-------------+
//!                          |                | Established |
//!                          |  +- shutdown --|             |-- FIN: ACK --+
//!                          v  v     FIN     +-------------+              v
//!   +----------+ ACK +----------+                                  +-----------+
//!   | FinWait2 | <-- | FinWait1 | -- FIN: ACK --> +---------+      | CloseWait |
//!   +----------+     +----------+                 | Closing |      +-----------+
//!     | FIN: ACK          | FIN,ACK: ACK          +---------+        | shutdown: FIN
//!     |                   v                            | ACK         v
//!     |             +----------+ <---------------------+         +---------+
//!     +-----------> | TimeWait | -- 2 MSL --> Closed <--- ACK -- | LastAck |
//!                   +----------+                                 +---------+
//! ```

/// Where a connection is. `Closed` is one that is about to be forgotten; `Listen` belongs to
/// listeners and is never a connection's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl State {
    /// Both ends know both initial sequence numbers.
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, Self::Closed | Self::Listen | Self::SynSent | Self::SynReceived)
    }

    /// The peer's number is known: what does not fit is answered by an acknowledgement (RFC 9293 §3.10.7.4, first).
    pub const fn acknowledges(self) -> bool {
        !matches!(self, Self::Closed | Self::Listen | Self::SynSent)
    }

    /// RFC 9293 §3.10.7.4, seventh: text is taken in.
    pub const fn takes_text(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// The application may still hand over text.
    pub const fn may_send(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived | Self::Established | Self::CloseWait)
    }

    /// Text and FIN in the queue may leave.
    pub const fn transmits(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::CloseWait | Self::Closing | Self::LastAck)
    }

    /// As `ss` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        }
    }
}
