//! What went wrong, as the numbers that the kernel's sockets would give: the kinds of [`std::io::Error`] follow.

use tailwater_stack::tcp::{CloseReason, ConnectError, ListenError};
use tailwater_stack::udp::BindError;

/// The host has stopped, or has not started.
pub(super) const STOPPED: i32 = libc::ENETDOWN;

pub(super) fn of(number: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(number)
}

pub(super) fn would_block() -> std::io::Error {
    of(libc::EAGAIN)
}

/// How a connection ended; 0: in order.
pub(super) fn of_close(reason: CloseReason) -> i32 {
    match reason {
        CloseReason::Finished => 0,
        CloseReason::Reset => libc::ECONNRESET,
        CloseReason::Refused => libc::ECONNREFUSED,
        CloseReason::TimedOut => libc::ETIMEDOUT,
        CloseReason::Unreachable => libc::EHOSTUNREACH,
    }
}

pub(super) fn of_connect(error: ConnectError) -> i32 {
    match error {
        ConnectError::NoRoute => libc::ENETUNREACH,
        ConnectError::Address => libc::EINVAL,
        ConnectError::InUse => libc::EADDRINUSE,
        ConnectError::NoPort => libc::EADDRNOTAVAIL,
        ConnectError::Full => libc::ENFILE,
    }
}

pub(super) fn of_listen(error: ListenError) -> i32 {
    match error {
        ListenError::InUse => libc::EADDRINUSE,
        ListenError::Full => libc::ENFILE,
        ListenError::Address => libc::EINVAL,
    }
}

pub(super) fn of_bind(error: BindError) -> i32 {
    match error {
        BindError::InUse => libc::EADDRINUSE,
        BindError::Full => libc::ENFILE,
        BindError::Address => libc::EINVAL,
        BindError::NoPort => libc::EADDRNOTAVAIL,
    }
}
