//! Every packet has one end, and it is counted.

use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::interface::InterfaceId;

/// Packets in and packets out of a [`Stack`](crate::Stack). At any time, with
/// [`Stack::held`](crate::Stack::held) packets inside:
///
/// ```text
/// ingested + originated = delivered + answered + transmitted + consumed + discarded + held
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// Frames received.
    pub ingested: u64,
    /// Packets given by the application or made by the stack.
    pub originated: u64,
    /// Received and handed to the application.
    pub delivered: u64,
    /// Received and sent back in place as the answer.
    pub answered: u64,
    /// Originated and sent.
    pub transmitted: u64,
    /// Did their work inside the stack: ARP, neighbour discovery, ICMP errors; fragments that
    /// became part of another packet, and packets that were sent in fragments.
    pub consumed: u64,
    discarded: [u64; DropReason::COUNT],
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            ingested: 0,
            originated: 0,
            delivered: 0,
            answered: 0,
            transmitted: 0,
            consumed: 0,
            discarded: [0; DropReason::COUNT],
        }
    }
}

impl Ledger {
    pub fn discarded(&self, reason: DropReason) -> u64 {
        self.discarded.get(reason.index()).copied().unwrap_or(0)
    }

    pub fn discarded_total(&self) -> u64 {
        self.discarded.iter().sum()
    }

    /// Reasons that occurred, with their counts.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().copied().zip(self.discarded).filter(|&(_, count)| count != 0)
    }

    /// Whether the equation holds with `held` packets inside.
    pub fn is_balanced(&self, held: usize) -> bool {
        let ended = self.delivered + self.answered + self.transmitted + self.consumed;
        self.ingested + self.originated == ended + self.discarded_total() + held as u64
    }

    pub(crate) fn allocate<E: Env>(&mut self, env: &mut E) -> Option<E::Buffer> {
        let buffer = env.allocate()?;
        self.originated += 1;
        Some(buffer)
    }

    pub(crate) fn transmit<E: Env>(&mut self, env: &mut E, to: InterfaceId, frame: E::Buffer) {
        debug_assert!(!frame.is_empty());
        self.transmitted += 1;
        env.transmit(to, frame);
    }

    pub(crate) fn transmit_unsummed<E: Env>(&mut self, env: &mut E, to: InterfaceId, frame: E::Buffer) {
        debug_assert!(!frame.is_empty());
        self.transmitted += 1;
        env.transmit_unsummed(to, frame);
    }

    pub(crate) fn answer<E: Env>(&mut self, env: &mut E, to: InterfaceId, frame: E::Buffer) {
        self.answered += 1;
        env.transmit(to, frame);
    }

    pub(crate) fn discard<E: Env>(&mut self, env: &mut E, buffer: E::Buffer, reason: DropReason) {
        if let Some(count) = self.discarded.get_mut(reason.index()) {
            *count += 1;
        }
        env.discard(buffer, reason);
    }

    pub(crate) fn release<E: Env>(&mut self, env: &mut E, buffer: E::Buffer) {
        self.consumed += 1;
        env.release(buffer);
    }
}
