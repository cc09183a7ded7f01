//! The stack's part of the drop ledger.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)*) => {
        /// Why a packet was thrown away: one reason each, which is also its counter and its label.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl DropReason {
            /// Every reason, in order of [`index`](Self::index).
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            pub const COUNT: usize = Self::ALL.len();

            /// Label in listings, JSON and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it means, for people.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)*
                }
            }

            /// Position in [`ALL`](Self::ALL).
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

drop_reasons! {
    /// Came from an interface that the stack does not have.
    InterfaceUnknown = "interface_unknown",
    /// Shorter than its Ethernet header and tag.
    EthernetTruncated = "ethernet_truncated",
    /// Sent to another station.
    EthernetNotOurs = "ethernet_not_ours",
    /// From a group or the all-zero address.
    EthernetSource = "ethernet_source",
    /// Sent to everybody on the link though the IP address is one station's (RFC 1122 §3.3.6).
    UnicastInLinkGroup = "unicast_in_link_group",
    /// Tagged for another VLAN than the interface's, or untagged on a tagged interface.
    VlanMismatch = "vlan_mismatch",
    /// Neither IPv4, IPv6 nor ARP.
    EthertypeUnknown = "ethertype_unknown",

    /// Truncated, or not IPv4 over Ethernet, or neither request nor reply.
    ArpMalformed = "arp_malformed",
    /// About an address that is not ours, from a station we have no interest in.
    ArpNotOurs = "arp_not_ours",
    /// ARP where the kernel resolves neighbours.
    ArpExternal = "arp_external",

    /// Fewer bytes than an IPv4 header, or than its length field says.
    Ipv4Truncated = "ipv4_truncated",
    /// Version field other than 4.
    Ipv4Version = "ipv4_version",
    /// Header length under 20 bytes.
    Ipv4HeaderLen = "ipv4_header_len",
    /// Total length below the header's, or beyond the frame.
    Ipv4TotalLen = "ipv4_total_len",
    /// Header checksum wrong.
    Ipv4Checksum = "ipv4_checksum",
    /// An option with a length that does not fit.
    Ipv4Option = "ipv4_option",
    /// Source routed (RFC 7126 §4.3, §4.4).
    Ipv4SourceRoute = "ipv4_source_route",
    /// Fewer bytes than an IPv6 header.
    Ipv6Truncated = "ipv6_truncated",
    /// Version field other than 6.
    Ipv6Version = "ipv6_version",
    /// Payload length beyond the frame.
    Ipv6PayloadLen = "ipv6_payload_len",
    /// Extension header truncated, misplaced, or with a malformed option.
    Ipv6Extension = "ipv6_extension",
    /// More extension headers or options than are looked at.
    Ipv6ExtensionTooMany = "ipv6_extension_too_many",
    /// An option that orders nodes without it to discard.
    Ipv6OptionUnknown = "ipv6_option_unknown",
    /// A routing header with segments left.
    Ipv6Routing = "ipv6_routing",
    /// To an address that this interface does not have.
    AddressNotOurs = "address_not_ours",
    /// From a multicast, broadcast, loopback or unspecified address.
    SourceInvalid = "source_invalid",
    /// From one of our own addresses.
    SourceOurs = "source_ours",
    /// A transport that the stack does not have.
    ProtocolUnknown = "protocol_unknown",
    /// Headers of more than the first segment of a multi-buffer frame.
    HeaderSplit = "header_split",

    /// A fragment which is empty, or not the last and not a multiple of eight bytes long.
    FragmentLen = "fragment_len",
    /// A fragment that reaches beyond 65,535 bytes.
    FragmentOversize = "fragment_oversize",
    /// A fragment that covers bytes which another one has brought (RFC 5722), or belongs to a
    /// datagram of which one did.
    FragmentOverlap = "fragment_overlap",
    /// A fragment that had come before.
    FragmentDuplicate = "fragment_duplicate",
    /// Fragments that disagree about where the datagram ends.
    FragmentEnd = "fragment_end",
    /// A first fragment without the whole header chain (RFC 7112), or too short for its transport.
    FragmentTiny = "fragment_tiny",
    /// More fragments than one datagram may have.
    FragmentTooMany = "fragment_too_many",
    /// Given up in favour of a newer datagram: a limit of reassembly was reached.
    ReassemblyEvicted = "reassembly_evicted",
    /// The rest of the datagram did not come in time.
    ReassemblyTimeout = "reassembly_timeout",
    /// Complete, but buffers of this kind cannot hold it.
    ReassemblyNoRoom = "reassembly_no_room",

    /// Under eight bytes.
    UdpTruncated = "udp_truncated",
    /// Length field under eight, or beyond the packet.
    UdpLen = "udp_len",
    /// Checksum wrong. If all are that a veth brings, its other end leaves them undone: `ethtool -K PEER tx off`.
    UdpChecksum = "udp_checksum",
    /// No checksum over IPv6 (RFC 8200 §8.1).
    UdpChecksumMissing = "udp_checksum_missing",
    /// No socket at the port.
    UdpPortClosed = "udp_port_closed",

    /// Under twenty bytes.
    TcpTruncated = "tcp_truncated",
    /// Data offset under twenty bytes, or beyond the segment.
    TcpHeaderLen = "tcp_header_len",
    /// Checksum wrong. If all are that a veth brings, its other end leaves them undone: `ethtool -K PEER tx off`.
    TcpChecksum = "tcp_checksum",
    /// To a group, or from no single host (RFC 9293 §3.9.2.3).
    TcpGroup = "tcp_group",
    /// No connection and no listener there.
    TcpPortClosed = "tcp_port_closed",
    /// The connection is over.
    TcpClosed = "tcp_closed",
    /// Neither SYN nor ACK where one has to be.
    TcpAckMissing = "tcp_ack_missing",
    /// Acknowledges what was never sent, or what nobody waits for any more (RFC 5961 §5).
    TcpAckUnacceptable = "tcp_ack_unacceptable",
    /// A reset that was obeyed, or is to nobody.
    TcpReset = "tcp_reset",
    /// A reset in the window but not at its edge (RFC 5961 §3).
    TcpResetUnacceptable = "tcp_reset_unacceptable",
    /// A SYN on a connection (RFC 5961 §4).
    TcpSynUnexpected = "tcp_syn_unexpected",
    /// Nothing of it lies in the receive window.
    TcpOutOfWindow = "tcp_out_of_window",
    /// Its timestamp is older than one already seen (RFC 7323 §5).
    TcpPaws = "tcp_paws",
    /// No timestamp, though timestamps were agreed (RFC 7323 §3.2).
    TcpTimestampMissing = "tcp_timestamp_missing",
    /// Text that had come before.
    TcpDuplicate = "tcp_duplicate",
    /// As many buffers are held as may be.
    TcpMemory = "tcp_memory",
    /// The listener's half-open connections are as many as may be.
    TcpSynBacklogFull = "tcp_syn_backlog_full",
    /// The listener's connections that wait to be accepted are as many as may be.
    TcpAcceptQueueFull = "tcp_accept_queue_full",
    /// The configured number of connections is open.
    TcpConnectionsMax = "tcp_connections_max",
    /// The layer above refused it.
    TcpExtensionRefused = "tcp_extension_refused",
    /// Received, and the connection ended before the application read it.
    TcpUnread = "tcp_unread",
    /// Written, and the connection ended before it left.
    TcpUnsent = "tcp_unsent",

    /// Shorter than its header.
    IcmpTruncated = "icmp_truncated",
    /// Checksum wrong.
    IcmpChecksum = "icmp_checksum",
    /// Echo requests to broadcast or multicast, or where the kernel answers them.
    EchoRefused = "echo_refused",
    /// Echo reply to a request that nobody here sent.
    EchoUnexpected = "echo_unexpected",
    /// An error which quotes no packet of ours, or too little of it.
    IcmpErrorUnmatched = "icmp_error_unmatched",
    /// A type that the stack does not act on.
    IcmpUnhandled = "icmp_unhandled",
    /// Fails RFC 4861 §7.1: hop limit, code, target, option lengths.
    NdpInvalid = "ndp_invalid",
    /// About an address that is not ours, or a neighbour we did not ask for.
    NdpNotOurs = "ndp_not_ours",
    /// Neighbour discovery where the kernel resolves neighbours.
    NdpExternal = "ndp_external",

    /// No route to the destination.
    NoRoute = "host_no_route",
    /// No own address that could be the source.
    NoSource = "no_source",
    /// The socket was closed.
    SocketUnknown = "socket_unknown",
    /// Longer than the protocol, the fragment limit or the interface allows.
    TooBig = "too_big",
    /// The buffer has no room for the headers.
    NoHeadroom = "host_no_headroom",
    /// No buffer was free.
    NoBuffer = "no_buffer",
    /// The neighbour did not answer.
    NeighbourUnreachable = "neighbour_unreachable",
    /// More packets than one unresolved neighbour's queue holds: the oldest goes (RFC 1122 §2.3.2.2).
    NeighbourQueueFull = "host_neighbour_queue_full",
    /// No room for another neighbour.
    NeighbourTableFull = "neighbour_table_full",
    /// The interface was removed.
    InterfaceRemoved = "interface_removed",
}
