//! The drop ledger: where every packet that is not forwarded, delivered or still held has gone.
//!
//! received + originated = transmitted + delivered + dropped + held, for every worker at every turn's end.

/// A named reason to let go of a packet, with a sentence for people.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why the dataplane discarded a packet. Counter, trace label and test assertion in one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant,)+ }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)+];

            /// Name in listings, JSON and metrics.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)+ }
            }

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self { $(DropReason::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// A block's output leads nowhere in this graph.
    UnboundOutput = "unbound_output",
    /// The transmit ring of the port was full even after a kick.
    TxRingFull = "tx_ring_full",
    /// The port is down, gone or refuses to transmit.
    PortDown = "port_down",
    /// No free frame to copy or create a packet in.
    NoFrame = "no_frame",
    /// Too short for, or inconsistent with, its Ethernet or VLAN header.
    BadEthernet = "bad_ethernet",
    /// Addressed to another station.
    NotForUs = "not_for_us",
    /// An ethertype that no block handles.
    UnknownEthertype = "unknown_ethertype",
    /// A malformed IPv4 header.
    BadIp4 = "bad_ip4",
    /// A wrong IPv4 header checksum.
    BadIp4Checksum = "bad_ip4_checksum",
    /// A malformed IPv6 header.
    BadIp6 = "bad_ip6",
    /// A source or destination that must not be forwarded (RFC 1812 §5.3.7, RFC 4291 §2.5).
    MartianAddress = "martian_address",
    /// Time to live or hop limit used up; an ICMP time exceeded was due.
    TtlExceeded = "ttl_exceeded",
    /// For this host, or routed to an interface that is not ours. The kernel keeps such packets where the steering
    /// program or the packet port leaves them to it; what gets here came in the moment of a change.
    ForHost = "for_host",
    /// No route to the destination.
    NoRoute = "no_route",
    /// A blackhole route.
    Blackhole = "blackhole",
    /// An unreachable or prohibit route.
    RouteRefused = "route_refused",
    /// Larger than the next link's MTU and not to be fragmented.
    PacketTooBig = "packet_too_big",
    /// The next hop did not answer in time.
    NeighbourFailed = "neighbour_failed",
    /// The queue of packets that wait for this next hop was full.
    NeighbourQueueFull = "neighbour_queue_full",
    /// Not wanted by a filter block.
    Filtered = "filtered",
    /// Lost on purpose by an impair block.
    Impaired = "impaired",
    /// An impair block's queue was full.
    ImpairQueueFull = "impair_queue_full",
    /// More than a rate limit block lets through.
    RateLimited = "rate_limited",
    /// No room left in front of the packet for another header.
    NoHeadroom = "no_headroom",
    /// The packet spans chunks where a block needs it in one.
    Chained = "chained",
    /// Larger than the receive ring's slots, and the kernel kept no whole copy.
    Truncated = "truncated",
    /// A packet whose checksum or segmentation was left to us in a way that does not fit its headers.
    BadOffload = "bad_offload",
    /// A received packet with more segments than fit one frame.
    TooManySegments = "too_many_segments",
    /// A descriptor from the kernel that lies outside its chunk.
    BadDescriptor = "bad_descriptor",
    /// The block that held the packet was taken out of the running graph, and the packet could not go on by itself.
    BlockRemoved = "block_removed",
    /// Shorter than the encapsulation header that it announces.
    EncapsulationTruncated = "encapsulation_truncated",
    /// An encapsulation of another version, or of a form that this program does not know.
    EncapsulationVersion = "encapsulation_version",
    /// Plain, where a block was told to take encapsulated frames only (`plain=drop`).
    NotEncapsulated = "not_encapsulated",
    /// Sealed under a key, or in a session, that the block does not have.
    DecryptWrongKey = "decrypt_wrong_key",
    /// Not what its sender sealed: the authentication failed.
    DecryptTampered = "decrypt_tampered",
    /// Seen before, or of a sender that made room for others.
    DecryptReplayed = "decrypt_replayed",
    /// Too far behind its sender's newest frame to tell whether it has been seen before.
    DecryptTooOld = "decrypt_too_old",
    /// Of a new sender, when the table of senders and that of former ones were full; change the key or the session.
    DecryptSendersFull = "decrypt_senders_full",
    /// Compressed data that does not decompress to what its header says.
    DecompressCorrupt = "decompress_corrupt",
    /// Would decompress to more than the block lets out (`frame_max`).
    DecompressTooBig = "decompress_too_big",
    /// The worker stopped while a block still held the packet.
    Shutdown = "shutdown",
}

/// What the reason of that name means, whether it is the dataplane's or the stack's.
pub fn meaning(name: &str) -> Option<&'static str> {
    let own = DropReason::ALL.iter().find(|reason| reason.name() == name).map(|reason| reason.meaning());
    own.or_else(|| {
        let stack = tailwater_stack::DropReason::ALL.iter().find(|reason| reason.name() == name);
        stack.map(|reason| reason.meaning())
    })
}

/// Counters by reason, of one worker: the dataplane's reasons and the stack's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    dropped: [u64; DropReason::ALL.len()],
    stack: [u64; tailwater_stack::DropReason::COUNT],
}

impl Default for Ledger {
    fn default() -> Self {
        Self { dropped: [0; DropReason::ALL.len()], stack: [0; tailwater_stack::DropReason::COUNT] }
    }
}

impl Ledger {
    /// Counts one packet.
    #[inline]
    pub fn count(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    /// Counts one packet that the stack discarded.
    #[inline]
    pub fn count_stack(&mut self, reason: tailwater_stack::DropReason) {
        self.stack[reason.index()] += 1;
    }

    /// Packets discarded for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Packets discarded for any reason.
    pub fn total(&self) -> u64 {
        self.dropped.iter().chain(&self.stack).sum()
    }

    /// Names of the reasons that occurred, with their counts.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let own = DropReason::ALL.iter().map(|reason| reason.name()).zip(self.dropped);
        let stack = tailwater_stack::DropReason::ALL.iter().map(|reason| reason.name()).zip(self.stack);
        own.chain(stack).filter(|&(_, n)| n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let own = DropReason::ALL.iter().map(|reason| reason.name());
        let stack = tailwater_stack::DropReason::ALL.iter().map(|reason| reason.name());
        let mut names: Vec<_> = own.chain(stack).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "two reasons share a name");
    }

    #[test]
    fn every_reason_can_be_looked_up_by_name() {
        assert_eq!(meaning("no_route"), Some("No route to the destination."));
        assert_eq!(meaning("arp_not_ours"), Some(tailwater_stack::DropReason::ArpNotOurs.meaning()));
        assert_eq!(meaning("levitated"), None);
    }
}
