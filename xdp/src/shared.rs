//! What all ports of a process share: who listens, whose addresses these are, which worker owns a flow.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::ethertypes::{Ethertypes, RegisteredEthertype};
use crate::hash::{FlowKey, HashKey, INDIRECTION_LEN, Indirection, flow_hash};
use crate::layout::{ListenerKey, LocalAddrKey, SETTINGS_LEN, settings_offset};
use crate::limits::{Limits, PORTS_MAX, WORKERS_MAX};
use crate::mapping::Mapping;
use crate::{log, sys};

/// Transport protocol of a listener.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// TCP, protocol 6.
    Tcp,
    /// UDP, protocol 17.
    Udp,
}

impl Transport {
    /// Protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// What to do with every frame, whatever its port's mode says. For operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bypass {
    /// As the mode says.
    Off,
    /// Leave all to the kernel.
    PassAll,
    /// Drop all.
    DropAll,
}

/// The maps all ports of a process share. Clones name the same maps; the kernel frees them with the last
/// clone and the last attached port.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Maps>);

#[derive(Debug)]
struct Maps {
    settings: MapHandle,
    listeners: MapHandle,
    local_addrs: MapHandle,
    flow_exceptions: MapHandle,
    tx_ports: MapHandle,
    tx_ports_linear: MapHandle,
    settings_memory: Mapping,
    hash_key: HashKey,
    ethertypes: Ethertypes,
    ports: AtomicU32,
}

impl Shared {
    /// Makes the maps, with a random hash key and everything owned by worker 0.
    pub fn new(limits: Limits) -> Result<Self> {
        let random = || sys::random_u64().map_err(|error| Error::system("getrandom", error));
        Self::with_hash_key(limits, HashKey::new(random()?, random()?))
    }

    /// Makes the maps, with a given hash key: for tests and for runs to be repeated.
    pub fn with_hash_key(limits: Limits, hash_key: HashKey) -> Result<Self> {
        log::install();
        let settings = create("settings", MapType::Array, 4, SETTINGS_LEN, 1, libbpf_sys::BPF_F_MMAPABLE)?;
        let settings_memory = Mapping::new(settings.as_fd(), SETTINGS_LEN)?;
        let no_prealloc = libbpf_sys::BPF_F_NO_PREALLOC;
        let Limits { listeners_max, local_addrs_max, flow_exceptions_max, tx_ifindex_max } = limits;
        let maps = Maps {
            listeners: create("listeners", MapType::Hash, size_of::<ListenerKey>(), 4, listeners_max, no_prealloc)?,
            local_addrs: create(
                "local_addrs",
                MapType::Hash,
                size_of::<LocalAddrKey>(),
                4,
                local_addrs_max,
                no_prealloc,
            )?,
            flow_exceptions: create(
                "flow_exceptions",
                MapType::LruHash,
                size_of::<FlowKey>(),
                4,
                flow_exceptions_max,
                0,
            )?,
            tx_ports: create("tx_ports", MapType::Devmap, 4, 4, tx_ifindex_max, 0)?,
            tx_ports_linear: create("tx_ports_linear", MapType::Devmap, 4, 4, tx_ifindex_max, 0)?,
            settings,
            settings_memory,
            hash_key,
            ethertypes: Ethertypes::default(),
            ports: AtomicU32::new(0),
        };
        maps.store_hash_key();
        Ok(Self(Arc::new(maps)))
    }

    /// Listeners and addresses, for ports in shared mode.
    pub fn listeners(&self) -> Listeners<'_> {
        Listeners(&self.0.listeners)
    }

    /// The host's own addresses, for ports in router mode.
    pub fn local_addrs(&self) -> LocalAddrs<'_> {
        LocalAddrs(&self.0.local_addrs)
    }

    /// Flows which do not live where their hash says.
    pub fn flow_exceptions(&self) -> FlowExceptions<'_> {
        FlowExceptions(&self.0)
    }

    /// Interfaces the kernel placement may send out of.
    pub fn tx_ports(&self) -> TxPorts<'_> {
        TxPorts(&self.0)
    }

    /// The key of the flow hash, the same for the life of these maps.
    pub fn hash_key(&self) -> HashKey {
        self.0.hash_key
    }

    /// Frames of this EtherType that carry our encapsulation header (subtype, version, 16 bits of the flow hash) go to
    /// the workers, until the value returned and all its equals are dropped. At most four at once.
    pub fn register_ethertype(&self, ethertype: u16) -> Result<RegisteredEthertype> {
        RegisteredEthertype::new(self, ethertype)
    }

    pub(crate) fn ethertypes(&self) -> &Ethertypes {
        &self.0.ethertypes
    }

    /// Shows the program all registered EtherTypes, by one store.
    pub(crate) fn show_ethertypes(&self, word: u64) {
        if let Some(cell) = self.0.settings_memory.u64(settings_offset::ETHERTYPES) {
            cell.store(word, Ordering::Relaxed);
        }
    }

    /// Shares the hash buckets out among workers. Each bucket changes at once for all ports, without a system
    /// call; a packet may see the old owner until the store reaches its CPU.
    pub fn set_indirection(&self, table: &Indirection) {
        for (bucket, &worker) in table.buckets().iter().enumerate() {
            if let Some(cell) = self.0.settings_memory.u8(settings_offset::INDIRECTION + bucket) {
                cell.store(worker, Ordering::Relaxed);
            }
        }
    }

    /// The worker that a flow's packets go to, exceptions apart.
    pub fn owner(&self, flow: &FlowKey) -> u8 {
        let bucket = flow_hash(&self.0.hash_key, flow) as usize % INDIRECTION_LEN;
        let cell = self.0.settings_memory.u8(settings_offset::INDIRECTION + bucket);
        cell.map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// The indirection table the program uses now.
    pub fn indirection(&self) -> Indirection {
        let mut buckets = [0; INDIRECTION_LEN];
        for (bucket, worker) in buckets.iter_mut().enumerate() {
            let cell = self.0.settings_memory.u8(settings_offset::INDIRECTION + bucket);
            *worker = cell.map_or(0, |cell| cell.load(Ordering::Relaxed));
        }
        Indirection::from_buckets(buckets)
    }

    /// Overrides the mode of every port, at once.
    pub fn set_bypass(&self, bypass: Bypass) {
        let number = match bypass {
            Bypass::Off => 0,
            Bypass::PassAll => 1,
            Bypass::DropAll => 2,
        };
        if let Some(cell) = self.0.settings_memory.u32(settings_offset::BYPASS) {
            cell.store(number, Ordering::Relaxed);
        }
    }

    /// Name in the program and descriptor of each map.
    pub(crate) fn maps(&self) -> [(&'static str, BorrowedFd<'_>); 6] {
        let maps = &*self.0;
        [
            ("settings", maps.settings.as_fd()),
            ("listeners", maps.listeners.as_fd()),
            ("local_addrs", maps.local_addrs.as_fd()),
            ("flow_exceptions", maps.flow_exceptions.as_fd()),
            ("tx_ports", maps.tx_ports.as_fd()),
            ("tx_ports_linear", maps.tx_ports_linear.as_fd()),
        ]
    }

    /// Counts a port in.
    pub(crate) fn enter_port(&self) -> Result<()> {
        let before = self.0.ports.fetch_add(1, Ordering::Relaxed);
        if before >= PORTS_MAX {
            self.leave_port();
            return Error::in_range("number of ports", u64::from(before) + 1, 1, PORTS_MAX.into());
        }
        Ok(())
    }

    /// Counts a port out.
    pub(crate) fn leave_port(&self) {
        self.0.ports.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Maps {
    fn store_hash_key(&self) {
        for (index, word) in self.hash_key.words().into_iter().enumerate() {
            if let Some(cell) = self.settings_memory.u64(settings_offset::HASH_KEY + index * 8) {
                cell.store(word, Ordering::Relaxed);
            }
        }
    }
}

/// Makes a map whose name the kernel shows.
pub(crate) fn create(
    name: &'static str,
    map_type: MapType,
    key_len: usize,
    value_len: usize,
    entries_max: u32,
    flags: u32,
) -> Result<MapHandle> {
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: flags,
        ..Default::default()
    };
    // Key and value lengths are sizes of small structs.
    let (key_len, value_len) = (key_len as u32, value_len as u32);
    MapHandle::create(map_type, Some(name), key_len, value_len, entries_max.max(1), &opts)
        .map_err(|source| Error::map(name, "creation", source))
}

/// Inserts or overwrites.
fn insert(map: &MapHandle, name: &'static str, key: &[u8], value: u32) -> Result<()> {
    map.update(key, &value.to_ne_bytes(), MapFlags::ANY).map_err(|source| match raw_os_error(&source) {
        Some(libc::E2BIG) => Error::Full { map: name, entries_max: map.max_entries() },
        _ => Error::map(name, "insertion", source),
    })
}

/// Removes; says whether it was there.
fn remove(map: &MapHandle, name: &'static str, key: &[u8]) -> Result<bool> {
    match map.delete(key) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::map(name, "removal", source)),
    }
}

fn raw_os_error(error: &libbpf_rs::Error) -> Option<i32> {
    let cause = std::error::Error::source(error)?;
    cause.downcast_ref::<std::io::Error>()?.raw_os_error()
}

/// Listeners and whole addresses registered for ports in shared mode.
#[derive(Debug)]
pub struct Listeners<'a>(&'a MapHandle);

impl Listeners<'_> {
    /// TCP or UDP to this address and port is ours. The unspecified address (`0.0.0.0`, `[::]`) stands for any
    /// address of its family. Inserting twice is no error.
    pub fn insert(&self, transport: Transport, at: SocketAddr) -> Result<()> {
        Error::in_range("port", at.port().into(), 1, u16::MAX.into())?;
        insert(self.0, "listeners", ListenerKey::listener(transport, at).as_bytes(), 0)
    }

    /// Leaves it to the kernel again. Answers whether it was registered.
    pub fn remove(&self, transport: Transport, at: SocketAddr) -> Result<bool> {
        remove(self.0, "listeners", ListenerKey::listener(transport, at).as_bytes())
    }

    /// All IP traffic to this address is ours, ICMP, fragments, ARP and neighbour discovery included. The
    /// address must not be the kernel's too, or both would answer. Multicast addresses may be registered, the
    /// unspecified address may not.
    pub fn insert_address(&self, addr: IpAddr) -> Result<()> {
        if addr.is_unspecified() {
            return Err(Error::System {
                what: "registration of the unspecified address (use exclusive mode for everything)",
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        }
        insert(self.0, "listeners", ListenerKey::address(addr).as_bytes(), 0)
    }

    /// Leaves the address to the kernel again. Answers whether it was registered.
    pub fn remove_address(&self, addr: IpAddr) -> Result<bool> {
        remove(self.0, "listeners", ListenerKey::address(addr).as_bytes())
    }
}

/// The host's own addresses: in router mode their traffic is the kernel's. Directed broadcast addresses
/// belong here too.
#[derive(Debug)]
pub struct LocalAddrs<'a>(&'a MapHandle);

impl LocalAddrs<'_> {
    /// Traffic to this address is the kernel's. Inserting twice is no error.
    pub fn insert(&self, addr: IpAddr) -> Result<()> {
        insert(self.0, "local_addrs", LocalAddrKey::new(addr).as_bytes(), 0)
    }

    /// Traffic to this address is transit again. Answers whether it was there.
    pub fn remove(&self, addr: IpAddr) -> Result<bool> {
        remove(self.0, "local_addrs", LocalAddrKey::new(addr).as_bytes())
    }
}

/// Flows which live on another worker than their hash says: migrated, pinned, joined.
///
/// The program looks here only while [`set_active`](Self::set_active) is not zero: the caller counts what it
/// has inserted. Eviction (least recently used first) does not change that count.
#[derive(Debug)]
pub struct FlowExceptions<'a>(&'a Maps);

impl FlowExceptions<'_> {
    /// Packets of this flow, as they arrive (the peer is the source), go to `worker`.
    pub fn insert(&self, flow: &FlowKey, worker: u8) -> Result<()> {
        Error::in_range("worker", worker.into(), 0, u64::from(WORKERS_MAX) - 1)?;
        insert(&self.0.flow_exceptions, "flow_exceptions", flow.as_bytes(), worker.into())
    }

    /// The flow follows its hash again. Answers whether it was there.
    pub fn remove(&self, flow: &FlowKey) -> Result<bool> {
        remove(&self.0.flow_exceptions, "flow_exceptions", flow.as_bytes())
    }

    /// How many exceptions there are; zero spares the program the lookup. No system call.
    pub fn set_active(&self, flows: u32) {
        if let Some(cell) = self.0.settings_memory.u32(settings_offset::FLOW_EXCEPTIONS_ACTIVE) {
            cell.store(flows, Ordering::Relaxed);
        }
    }
}

/// Interfaces the kernel placement may send out of. Traffic whose way out is not among them comes up to the
/// worker.
#[derive(Debug)]
pub struct TxPorts<'a>(&'a Maps);

impl TxPorts<'_> {
    /// Allows an interface of the caller's network namespace. Frames redirected to an interface which cannot
    /// transmit them are lost, so prefer [`Steering::add_tx_port`](crate::Steering::add_tx_port), which asks first.
    pub fn insert(&self, ifindex: u32) -> Result<()> {
        let key = ifindex.to_ne_bytes();
        insert(&self.0.tx_ports, "tx_ports", &key, ifindex)?;
        insert(&self.0.tx_ports_linear, "tx_ports_linear", &key, ifindex)
    }

    /// Takes it back. No error if it was not there.
    pub fn remove(&self, ifindex: u32) -> Result<()> {
        let key = ifindex.to_ne_bytes();
        remove(&self.0.tx_ports, "tx_ports", &key)?;
        remove(&self.0.tx_ports_linear, "tx_ports_linear", &key).map(drop)
    }
}
