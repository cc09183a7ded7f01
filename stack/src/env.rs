//! The world around the stack, as an argument of each call.

use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::interface::InterfaceId;
use crate::time::Instant;

/// What the stack asks of its surroundings. A worker implements it over its frame pool and its
/// batches, the simulator over a virtual clock; neither needs dynamic calls or allocation.
///
/// Each buffer given to [`Stack::ingest`](crate::Stack::ingest) or by [`allocate`](Env::allocate)
/// comes back exactly once: through `transmit`, `discard` or `release`, or to the caller inside a
/// [`Verdict`](crate::Verdict).
pub trait Env {
    type Buffer: Buffer;

    /// Now. The same value for a whole burst is fine.
    fn now(&self) -> Instant;

    /// 64 bits an attacker cannot guess.
    fn random(&mut self) -> u64;

    /// An empty buffer with at least [`HEADROOM`](crate::HEADROOM) bytes of headroom, or `None` if
    /// the pool is empty.
    fn allocate(&mut self) -> Option<Self::Buffer>;

    /// A further handle on the bytes of `kept`, to be sent while `kept` stays for a retransmission.
    /// `None` if this kind of buffer cannot, has less than [`HEADROOM`](crate::HEADROOM) in front of them, the pool does not
    /// allow, or one that was sent before is still out; then they are copied. Only what lies in front of the bytes is written while both
    /// live.
    fn share(&mut self, kept: &mut Self::Buffer) -> Option<Self::Buffer> {
        let _ = kept;
        None
    }

    /// Whether a handle that was [`share`](Env::share)d is still out: a queue below reads the bytes.
    fn is_shared(&self, kept: &Self::Buffer) -> bool {
        let _ = kept;
        false
    }

    /// Packets that may leave by an interface now. Where there are none, TCP keeps text that is to be sent until the next
    /// [`end_burst`](crate::Stack::end_burst). What else there is to say leaves all the same: it answers what came in, and is
    /// no more than that.
    fn room(&self, interface: InterfaceId) -> usize {
        let _ = interface;
        usize::MAX
    }

    /// Packets that may leave besides for a connection that has begun: a part of what it has to send costs nearly as much as all
    /// of it.
    fn spare_room(&self, interface: InterfaceId) -> usize {
        let _ = interface;
        0
    }

    /// Sends a whole Ethernet frame without its check sequence.
    fn transmit(&mut self, interface: InterfaceId, frame: Self::Buffer);

    /// Whether what leaves by `interface` now may lack the checksum of its TCP segment, because whoever sends it sums it up once
    /// more. It is then given to [`transmit_unsummed`](Env::transmit_unsummed).
    fn completes_sums(&self, interface: InterfaceId) -> bool {
        let _ = interface;
        false
    }

    /// As [`transmit`](Env::transmit), of a TCP segment in whose place for the checksum there is the sum of the pseudo header.
    fn transmit_unsummed(&mut self, interface: InterfaceId, frame: Self::Buffer) {
        debug_assert!(false, "nobody completes the sum");
        self.transmit(interface, frame);
    }

    /// Takes back a packet that was thrown away, and counts why.
    fn discard(&mut self, buffer: Self::Buffer, reason: DropReason);

    /// Takes back a buffer whose packet has served its purpose.
    fn release(&mut self, buffer: Self::Buffer);
}
