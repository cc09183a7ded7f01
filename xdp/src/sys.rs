//! System calls which no library wraps safely: bpf links, XDP queries, interface ioctls.
//!
//! All act in the network namespace of the calling thread.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `enum netdev_xdp_act` of linux/netdev.h: what a driver says it can do.
pub(crate) const NETDEV_XDP_ACT_BASIC: u64 = 1;
/// Redirect verdicts.
pub(crate) const NETDEV_XDP_ACT_REDIRECT: u64 = 2;
/// Transmits frames redirected to it.
pub(crate) const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;
/// Zero-copy AF_XDP.
pub(crate) const NETDEV_XDP_ACT_XSK_ZEROCOPY: u64 = 8;
/// Receives frames in several buffers.
pub(crate) const NETDEV_XDP_ACT_RX_SG: u64 = 32;

/// Attaches a program to an interface by a link: it goes when the descriptor does, `kill -9` included.
#[allow(unsafe_code)]
pub(crate) fn link_create(program: BorrowedFd<'_>, ifindex: u32, mode_flag: u32) -> io::Result<OwnedFd> {
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: mode_flag,
        ..Default::default()
    };
    let target = c_int::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: opts is a valid, sized option struct which outlives the call; the rest are plain numbers.
    let fd = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), target, libbpf_sys::BPF_XDP, &opts) };
    let fd = positive(fd)?;
    // SAFETY: the kernel has just opened this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Replaces the program of a link, between two packets.
#[allow(unsafe_code)]
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open; a null option struct is allowed.
    let answer = unsafe { libbpf_sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) };
    positive(answer).map(drop)
}

/// What is attached to an interface, and which XDP features its driver claims.
#[allow(unsafe_code)]
pub(crate) fn xdp_query(ifindex: u32) -> io::Result<libbpf_sys::bpf_xdp_query_opts> {
    let mut opts = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let target = c_int::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: opts is a valid, sized option struct which outlives the call.
    positive(unsafe { libbpf_sys::bpf_xdp_query(target, 0, &mut opts) })?;
    Ok(opts)
}

/// Name of a loaded program.
#[allow(unsafe_code)]
pub(crate) fn program_name(id: u32) -> io::Result<String> {
    // SAFETY: takes a plain number.
    let fd = positive(unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) })?;
    // SAFETY: the kernel has just opened this descriptor for us and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of::<libbpf_sys::bpf_prog_info>() as u32;
    // SAFETY: info is writable and len is its size; both outlive the call.
    positive(unsafe { libbpf_sys::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &mut info, &mut len) })?;
    let bytes = info.name.map(|c| c.cast_unsigned());
    let name = CStr::from_bytes_until_nul(&bytes).map(CStr::to_string_lossy).unwrap_or_default();
    Ok(name.into_owned())
}

/// Lets a program write and send live frames, as many as one call allows. A signal ends it with `EINTR`.
#[allow(unsafe_code)]
pub(crate) fn test_run_live(program: BorrowedFd<'_>, frame: &[u8], batch: u32) -> io::Result<()> {
    let mut opts = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        repeat: c_int::MAX,
        flags: libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES,
        batch_size: batch,
        ..Default::default()
    };
    // SAFETY: opts is a valid, sized option struct; data_in is readable for data_size_in bytes and outlives the
    // call; no output buffers are given.
    let answer = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut opts) };
    positive(answer).map(drop)
}

/// Runs a program once over a frame said to come from an interface's queue. Answers the action and the frame as
/// the program left it.
#[allow(unsafe_code)]
pub(crate) fn test_run(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32, queue: u32) -> io::Result<(u32, Vec<u8>)> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let context: [u32; 6] = [0, len, 0, ifindex, queue, 0];
    let mut after = vec![0; frame.len()];
    let mut opts = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: len,
        data_out: after.as_mut_ptr().cast(),
        data_size_out: len,
        ctx_in: context.as_ptr().cast(),
        ctx_size_in: size_of_val(&context) as u32,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: opts is a valid, sized option struct; the buffers are readable or writable for the lengths beside
    // them and outlive the call.
    let answer = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut opts) };
    positive(answer)?;
    after.truncate(opts.data_size_out as usize);
    Ok((opts.retval, after))
}

/// Fills a buffer with random bytes from the kernel.
#[allow(unsafe_code)]
pub(crate) fn random_u64() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is writable for the given length.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != 8 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// Capability sets of the calling thread: bits of the effective set.
pub(crate) fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// libbpf answers a negative errno.
fn positive(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::from_raw_os_error(answer.saturating_neg())) } else { Ok(answer) }
}

/// A socket to ask about interfaces with.
pub(crate) struct Asker(OwnedFd);

#[allow(unsafe_code)]
impl Asker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?))
    }

    /// Name of an interface, `None` if there is none of this index.
    pub(crate) fn name(&self, ifindex: u32) -> Option<String> {
        let mut request = blank();
        request.ifr_ifru.ifru_ifindex = c_int::try_from(ifindex).ok()?;
        self.ask(libc::SIOCGIFNAME, &mut request).ok()?;
        let bytes = request.ifr_name.map(|c| c.cast_unsigned());
        Some(CStr::from_bytes_until_nul(&bytes).ok()?.to_string_lossy().into_owned())
    }

    pub(crate) fn mtu(&self, name: &str) -> io::Result<u32> {
        let mut request = named(name);
        self.ask(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU fills this member.
        Ok(unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned())
    }

    pub(crate) fn is_up(&self, name: &str) -> io::Result<bool> {
        let mut request = named(name);
        self.ask(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS fills this member.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        Ok(c_int::from(flags) & libc::IFF_UP != 0)
    }

    pub(crate) fn mac(&self, name: &str) -> io::Result<[u8; 6]> {
        let mut request = named(name);
        self.ask(libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: SIOCGIFHWADDR fills this member.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let [a, b, c, d, e, f, ..] = address.sa_data.map(|c| c.cast_unsigned());
        Ok([a, b, c, d, e, f])
    }

    /// Name of the driver. Virtual interfaces without ethtool have none.
    pub(crate) fn driver(&self, name: &str) -> Option<String> {
        let mut info = DriverInfo { cmd: ETHTOOL_GDRVINFO, driver: [0; 32], version: 0, rest: [0; 156] };
        self.ethtool(name, &mut info).ok()?;
        Some(CStr::from_bytes_until_nul(&info.driver).ok()?.to_string_lossy().into_owned())
    }

    /// Receive and transmit queues in use. Virtual interfaces without ethtool do not say.
    pub(crate) fn queues(&self, name: &str) -> Option<(u32, u32)> {
        let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Default::default() };
        self.ethtool(name, &mut channels).ok()?;
        let Channels { rx, tx, combined, .. } = channels;
        Some((rx.saturating_add(combined), tx.saturating_add(combined)))
    }

    /// Whether the kernel leaves checksums of what it sends to the interface (`ethtool -k`, tx-checksumming).
    pub(crate) fn tx_checksum(&self, name: &str) -> Option<bool> {
        self.is_on(name, ETHTOOL_GTXCSUM)
    }

    /// Whether the kernel leaves it to the interface to cut TCP segments (`ethtool -k`, tcp-segmentation-offload).
    pub(crate) fn tso(&self, name: &str) -> Option<bool> {
        self.is_on(name, ETHTOOL_GTSO)
    }

    fn is_on(&self, name: &str, cmd: u32) -> Option<bool> {
        let mut value = EthtoolValue { cmd, data: 0 };
        self.ethtool(name, &mut value).ok()?;
        Some(value.data != 0)
    }

    /// The driver's statistics by name (`ethtool -S`).
    pub(crate) fn statistics(&self, name: &str) -> Option<Vec<(String, u64)>> {
        let mut set = SetLen { cmd: ETHTOOL_GSSET_INFO, reserved: 0, mask: 1 << ETH_SS_STATS, len: 0 };
        self.ethtool(name, &mut set).ok()?;
        let len = set.len;
        if len > STATISTICS_MAX {
            return None;
        }
        let mut names =
            Names { cmd: ETHTOOL_GSTRINGS, set: ETH_SS_STATS, len, names: [[0; 32]; STATISTICS_MAX as usize] };
        self.ethtool(name, &mut names).ok()?;
        let mut values = Values { cmd: ETHTOOL_GSTATS, len, values: [0; STATISTICS_MAX as usize] };
        self.ethtool(name, &mut values).ok()?;
        let text = |bytes: &[u8; 32]| CStr::from_bytes_until_nul(bytes).map(|c| c.to_string_lossy().into_owned());
        let pairs = names.names.iter().zip(values.values).take(len as usize);
        Some(pairs.filter_map(|(bytes, value)| Some((text(bytes).ok()?, value))).collect())
    }

    fn ethtool<T: EthtoolCommand>(&self, name: &str, command: &mut T) -> io::Result<()> {
        let mut request = named(name);
        request.ifr_ifru.ifru_data = std::ptr::from_mut(command).cast();
        self.ask(libc::SIOCETHTOOL, &mut request)
    }

    fn ask(&self, what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: every request used here takes an ifreq; where it points to more (ethtool), that is a
        // struct of the command's full size, alive during the call.
        let answer = unsafe { libc::ioctl(self.0.as_raw_fd(), what as _, std::ptr::from_mut(request)) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Structs which the kernel fills for the ethtool command in their first word, and whose size it knows.
trait EthtoolCommand {}
impl EthtoolCommand for DriverInfo {}
impl EthtoolCommand for Channels {}
impl EthtoolCommand for EthtoolValue {}
impl EthtoolCommand for SetLen {}
impl EthtoolCommand for Names {}
impl EthtoolCommand for Values {}

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
/// The set of strings which names the statistics.
const ETH_SS_STATS: u32 = 1;
/// Statistics read of one driver. The kernel writes as many as the driver has, whatever we ask for, so drivers
/// with more are not asked.
const STATISTICS_MAX: u32 = 1024;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_drvinfo`, 196 bytes.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    version: u32,
    rest: [u8; 156],
}
const _: () = assert!(size_of::<DriverInfo>() == 196);

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_sset_info` for one set.
#[repr(C)]
struct SetLen {
    cmd: u32,
    reserved: u32,
    mask: u64,
    len: u32,
}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Names {
    cmd: u32,
    set: u32,
    len: u32,
    names: [[u8; 32]; STATISTICS_MAX as usize],
}

/// `struct ethtool_stats`.
#[repr(C)]
struct Values {
    cmd: u32,
    len: u32,
    values: [u64; STATISTICS_MAX as usize],
}

#[allow(unsafe_code)]
fn blank() -> libc::ifreq {
    // SAFETY: ifreq is plain data, valid when all zero.
    unsafe { std::mem::zeroed() }
}

fn named(name: &str) -> libc::ifreq {
    let mut request = blank();
    // One byte is left for the terminating zero.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}
