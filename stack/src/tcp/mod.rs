//! TCP (RFC 9293).
//!
//! - [`congestion`]: how much may be in flight, and how fast it leaves.

pub mod congestion;
