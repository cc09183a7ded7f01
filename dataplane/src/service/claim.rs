//! Local ports of our own beside the kernel's: for what the service opens, where the addresses are the kernel's.
//!
//! They lie above those that the kernel chooses from by itself (`ip_local_port_range`, 32768 to 60999). Each is held by
//! sockets of the kernel's, and known to the XDP program as listeners are.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use rustix::io::Errno;
use tailwater_stack::LocalPorts;

use super::HostError;
use super::listener::{Listener, Transport};
use super::reservation::Reservation;

/// Where they lie.
const ROOM: RangeInclusive<u16> = 61_000..=65_535;
/// Ports that a host may have; each costs two descriptors and, for each address, two entries of the program's map.
pub const LOCAL_PORTS_MAX: u16 = 4_096;

/// Ports that are ours until dropped.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) ports: LocalPorts,
    /// Of these, somebody else's; sorted.
    pub(super) taken: Vec<u16>,
    pub(super) reservations: Vec<Reservation>,
}

impl Claim {
    /// Reserves `count` ports in a row, from a random one on; those that are taken already are left out.
    pub(super) fn of(count: u16, random: u64) -> Result<Self, HostError> {
        let spare = (ROOM.end() - ROOM.start() + 1).checked_sub(count).filter(|_| count <= LOCAL_PORTS_MAX);
        let spare = spare.filter(|_| count > 0).ok_or(HostError::TooManyLocalPorts(count))?;
        let first = ROOM.start() + (random % (u64::from(spare) + 1)) as u16;
        let ports = LocalPorts::new(first..=first + (count - 1)).ok_or(HostError::TooManyLocalPorts(count))?;
        let mut claim = Self { ports, taken: Vec::new(), reservations: Vec::new() };
        (first..=first + (count - 1)).try_for_each(|port| claim.take(port))?;
        if claim.reservations.is_empty() { Err(claim.refused(first, Errno::ADDRINUSE)) } else { Ok(claim) }
    }

    fn take(&mut self, port: u16) -> Result<(), HostError> {
        let both = [Transport::Tcp, Transport::Udp].map(|transport| Reservation::everywhere(transport, port));
        match both {
            [Ok(tcp), Ok(udp)] => self.reservations.extend([tcp, udp]),
            [Err(Errno::ADDRINUSE), _] | [_, Err(Errno::ADDRINUSE)] => self.taken.push(port),
            [Err(error), _] | [_, Err(error)] => return Err(self.refused(port, error)),
        }
        Ok(())
    }

    fn refused(&self, port: u16, error: Errno) -> HostError {
        let port = format!("local port {port} ({} of them are)", self.reservations.len() / 2);
        HostError::Reserve { port, error: error.into() }
    }

    /// As the XDP program is to know them: at all addresses.
    pub(super) fn listeners(&self) -> impl Iterator<Item = Listener> {
        let ours = (1..=u16::MAX).filter(|&port| self.ports.contains(port) && !self.taken.contains(&port));
        ours.flat_map(|port| {
            let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            any.into_iter().flat_map(move |ip| {
                let at = SocketAddr::new(ip, port);
                [Transport::Tcp, Transport::Udp].map(|transport| Listener { transport, at })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    #[test]
    fn ports_are_held_until_dropped_and_taken_ones_are_left_out() {
        let middle = ROOM.start() + (ROOM.end() - ROOM.start()) / 2;
        let Ok(other) = TcpListener::bind(("127.0.0.1", middle)) else { panic!("port {middle} is in use here") };
        let claim = Claim::of(300, u64::from(middle - ROOM.start() - 100)).unwrap();
        assert!(claim.taken.contains(&middle) && claim.ports.contains(middle));
        let held = claim.listeners().find(|listener| listener.transport == Transport::Tcp).unwrap().at.port();
        assert!(TcpListener::bind(("127.0.0.1", held)).is_err());
        drop((claim, other));
        // A process that another test starts has our descriptors until it runs its program.
        let end = Instant::now() + Duration::from_secs(10);
        while let Err(error) = TcpListener::bind(("127.0.0.1", held)) {
            assert!(error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < end, "port {held}: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn more_ports_than_there_are_or_none_are_refused() {
        assert!([0, LOCAL_PORTS_MAX + 1].iter().all(|&count| Claim::of(count, 0).is_err()));
    }
}
