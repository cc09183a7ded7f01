//! AF_PACKET sockets, and options of sockets, as the kernel wants them.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// An AF_PACKET socket that sends whole frames, and receives nothing before it is bound to a protocol.
pub(super) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    #[allow(unsafe_code)]
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned it, and nobody else has it.
    #[allow(unsafe_code)]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ties an AF_PACKET socket to an interface, and to what it is to receive: `ETH_P_ALL`, or 0 for nothing.
pub(super) fn bind_packet(fd: &OwnedFd, ifindex: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    #[allow(unsafe_code)]
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as c_int;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is a live sockaddr_ll of that length.
    #[allow(unsafe_code)]
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an option.
pub(super) fn set<T>(fd: impl AsFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    let value: *const c_void = (&raw const *value).cast();
    // SAFETY: a live value and its length; the kernel copies it.
    #[allow(unsafe_code)]
    let result = unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, option, value, len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads an option of plain integers.
pub(super) fn get<T: Copy>(fd: impl AsFd, level: c_int, option: c_int, mut value: T) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let (fd, out) = (fd.as_fd().as_raw_fd(), (&raw mut value).cast());
    // SAFETY: a live value and its length, which the kernel does not exceed; every bit pattern of integers is valid.
    #[allow(unsafe_code)]
    let result = unsafe { libc::getsockopt(fd, level, option, out, &raw mut len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
