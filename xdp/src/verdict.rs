//! What the steering program does with a frame, and why.

/// What a verdict does with the frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Into a worker's AF_XDP socket.
    Redirect,
    /// Out of another port, in the kernel.
    Tx,
    /// To the kernel's own stack.
    Pass,
    /// Nowhere.
    Drop,
}

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $kind:ident;)+) => {
        /// Why a frame left the steering program the way it did. Each is a counter.
        ///
        /// Same order as `enum verdict` in `bpf/verdict.h`; a test holds them together.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Verdict {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Verdict {
            /// Every verdict, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Name in counters, traces and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What becomes of the frame.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)+ }
            }

            /// One line for people.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

verdicts! {
    /// TCP or UDP for a registered listener, to the owner of the flow.
    RedirectListener = "redirect_listener", Redirect;
    /// IP for an address registered as wholly ours, to the owner of the flow.
    RedirectAddress = "redirect_address", Redirect;
    /// A flow exception named the worker.
    RedirectException = "redirect_exception", Redirect;
    /// Exclusive mode: IP, to the owner of the flow.
    RedirectFlow = "redirect_flow", Redirect;
    /// ARP or neighbour discovery about an address of ours, to worker 0.
    RedirectNeighbour = "redirect_neighbour", Redirect;
    /// Exclusive mode: not understood (ethertype, truncated, malformed), to worker 0.
    RedirectSlowPath = "redirect_slow_path", Redirect;
    /// Router mode: transit, to the owner of the flow.
    RedirectTransit = "redirect_transit", Redirect;
    /// An encapsulation whose EtherType is registered, to the worker that its header's flow hash names.
    RedirectEncapsulated = "redirect_encapsulated", Redirect;
    /// Kernel placement gave up: TTL or hop limit at its end.
    UpTtl = "up_ttl", Redirect;
    /// Kernel placement gave up: IPv4 options or IPv6 hop-by-hop options.
    UpOptions = "up_options", Redirect;
    /// Kernel placement gave up: larger than the MTU of the way out.
    UpTooBig = "up_too_big", Redirect;
    /// Kernel placement gave up: the next hop's MAC address is not known.
    UpNoNeighbour = "up_no_neighbour", Redirect;
    /// Kernel placement gave up: blackhole, unreachable or prohibit route.
    UpUnreachable = "up_unreachable", Redirect;
    /// Kernel placement gave up: the kernel would not forward this (no route, or not unicast).
    UpNotForwarded = "up_not_forwarded", Redirect;
    /// Kernel placement gave up: forwarding is off on this interface (sysctl net.ipv4.ip_forward, net.ipv6.conf.*.forwarding).
    UpForwardingOff = "up_forwarding_off", Redirect;
    /// Kernel placement gave up: the way out is not one of our ports.
    UpEgressUnmanaged = "up_egress_unmanaged", Redirect;
    /// Kernel placement gave up: VLAN tagged.
    UpTagged = "up_tagged", Redirect;
    /// Kernel placement gave up: the FIB lookup failed in another way.
    UpFibError = "up_fib_error", Redirect;
    /// Forwarded in the kernel.
    TxForwarded = "tx_forwarded", Tx;
    /// Shared mode: nothing registered for it.
    PassUnregistered = "pass_unregistered", Pass;
    /// Router mode: for one of the host's own addresses.
    PassLocal = "pass_local", Pass;
    /// Unicast to a MAC address which is not ours.
    PassForeignMac = "pass_foreign_mac", Pass;
    /// Router mode: link-layer broadcast or multicast.
    PassGroupMac = "pass_group_mac", Pass;
    /// Router mode: an IP address that never leaves its link (loopback, link-local, multicast, broadcast).
    PassScope = "pass_scope", Pass;
    /// Neither IPv4 nor IPv6, or ARP which is not about us.
    PassNotIp = "pass_not_ip", Pass;
    /// Shared mode: a fragment, whose listener cannot be told.
    PassFragment = "pass_fragment", Pass;
    /// Shared mode: IPv6 extension headers hide the ports.
    PassExtension = "pass_extension", Pass;
    /// A header does not fit into the linear part of the frame.
    PassTruncated = "pass_truncated", Pass;
    /// An IP header which contradicts itself.
    PassMalformed = "pass_malformed", Pass;
    /// VLAN tagged, and tagged frames are left to the kernel.
    PassVlan = "pass_vlan", Pass;
    /// No socket is open for this queue and worker.
    PassNoSocket = "pass_no_socket", Pass;
    /// The bypass is set to pass.
    PassBypass = "pass_bypass", Pass;
    /// The worker's receive ring is full: shed before the copy.
    DropRingFull = "drop_ring_full", Drop;
    /// Exclusive mode: no socket is open for this queue and worker.
    DropNoSocket = "drop_no_socket", Drop;
    /// The bypass is set to drop.
    DropBypass = "drop_bypass", Drop;
}

impl Verdict {
    /// Number of verdicts, and entries of the `verdicts` map.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Number of this verdict in the program.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Frames and bytes which left with one verdict since the port was attached, over all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Why.
    pub verdict: Verdict,
    /// Frames.
    pub packets: u64,
    /// Bytes from the Ethernet header on, without FCS.
    pub bytes: u64,
}
