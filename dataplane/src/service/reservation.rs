//! A port that is ours is taken in the kernel, too: no other program can bind it and wonder why nothing arrives.
//!
//! In shared mode the XDP program takes the packets to a listener before the kernel sees them, so the kernel's port is
//! held by a plain socket that nobody reads. What the program leaves to the kernel (fragments, which carry no port) ends
//! there, in a queue of the smallest size.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use super::listener::{Listener, Transport};

/// Bytes of receive queue asked for; the kernel raises it to its minimum.
const QUEUE_BYTES: usize = 1;

/// A port of the kernel's, held until dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    socket: OwnedFd,
}

impl Reservation {
    /// Takes the port at an address that need not be configured yet. The unspecified IPv6 address leaves IPv4 alone.
    /// A TCP socket that is bound and does not listen accepts nobody: the kernel resets what reaches it.
    pub(super) fn of(Listener { transport, at }: Listener) -> rustix::io::Result<Self> {
        let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = open(family, transport)?;
        if at.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
            sockopt::set_ipv6_freebind(&socket, true)?;
        } else {
            sockopt::set_ip_freebind(&socket, true)?;
        }
        Self::bind(socket, at)
    }

    /// Takes the port at every address of both families.
    pub(super) fn everywhere(transport: Transport, port: u16) -> rustix::io::Result<Self> {
        match open(AddressFamily::INET6, transport) {
            Err(Errno::AFNOSUPPORT) => {
                Self::bind(open(AddressFamily::INET, transport)?, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
            }
            socket => {
                let socket = socket?;
                sockopt::set_ipv6_v6only(&socket, false)?;
                Self::bind(socket, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
            }
        }
    }

    /// The port, where any was asked for.
    pub(super) fn port(&self) -> rustix::io::Result<u16> {
        let at: SocketAddr = rustix::net::getsockname(&self.socket)?.try_into()?;
        Ok(at.port())
    }

    fn bind(socket: OwnedFd, at: SocketAddr) -> rustix::io::Result<Self> {
        sockopt::set_socket_recv_buffer_size(&socket, QUEUE_BYTES)?;
        // Past connections in TIME-WAIT are no obstacle; whoever comes later is refused, also with this option.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &at)?;
        sockopt::set_socket_reuseaddr(&socket, false)?;
        Ok(Self { socket })
    }
}

fn open(family: AddressFamily, transport: Transport) -> rustix::io::Result<OwnedFd> {
    let (kind, protocol) = match transport {
        Transport::Udp => (SocketType::DGRAM, ipproto::UDP),
        Transport::Tcp => (SocketType::STREAM, ipproto::TCP),
    };
    socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn reserve(transport: Transport, at: SocketAddr) -> Reservation {
        Reservation::of(Listener { transport, at }).unwrap()
    }

    #[test]
    fn reserved_tcp_port_is_refused_to_others_until_it_is_given_back() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let reservation = reserve(Transport::Tcp, free);
        assert_eq!(TcpListener::bind(free).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        drop(reservation);
        TcpListener::bind(free).unwrap();
    }

    #[test]
    fn reserved_port_is_refused_to_others_until_it_is_given_back() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let reservation = reserve(Transport::Udp, free);
        assert_eq!(UdpSocket::bind(free).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        drop(reservation);
        UdpSocket::bind(free).unwrap();
    }

    #[test]
    fn port_of_a_past_connection_can_be_reserved() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let client = TcpStream::connect(at).unwrap();
        let (server, _) = listener.accept().unwrap();
        // The end that closes first stays in TIME-WAIT, at the listener's port.
        drop((server, listener));
        let mut nothing = [0];
        assert_eq!((&client).read(&mut nothing).unwrap(), 0);
        drop(client);
        let reservation = reserve(Transport::Tcp, at);
        assert_eq!(TcpListener::bind(at).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        drop(reservation);
    }

    #[test]
    fn address_that_is_not_there_yet_can_be_reserved() {
        reserve(Transport::Udp, "192.0.2.77:7".parse().unwrap());
        reserve(Transport::Tcp, "192.0.2.77:7".parse().unwrap());
    }
}
