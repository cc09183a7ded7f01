//! What can go wrong, and what to do about it.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// Failures of talking to the kernel, or of naming things to it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket itself could not be made or used.
    #[error("cannot {doing} over rtnetlink: {source}")]
    Socket { doing: &'static str, source: io::Error },
    /// The kernel understood and said no.
    #[error("kernel refused to {doing}: {source}{}", hint(.source))]
    Refused { doing: String, source: io::Error },
    /// No answer within the time limit; rtnetlink answers at once unless the kernel hangs.
    #[error("kernel gave no answer to '{doing}' within {timeout_ms} ms")]
    NoAnswer { doing: &'static str, timeout_ms: u64 },
    #[error("no interface named '{name}'{}", did_you_mean(.similar))]
    NoSuchLink { name: String, similar: Vec<String> },
    #[error("no interface group named '{name}' in /etc/iproute2/group{}; a number works too", did_you_mean(.similar))]
    NoSuchGroup { name: String, similar: Vec<String> },
    #[error("0 is not the index of any interface")]
    ZeroIndex,
    #[error("interface group {group} has no members in this network namespace; nothing was changed")]
    EmptyGroup { group: u32 },
    #[error("group 0 is every interface nobody put into a group; name an interface, or set a group first")]
    DefaultGroup,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run as root or with CAP_NET_ADMIN",
        _ if source.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
            "; where it is about neighbours, raise net.ipv4.neigh.default.gc_thresh3 (or ipv6)"
        }
        _ => "",
    }
}

fn did_you_mean(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!(" (did you mean {}?)", similar.join(", ")) }
}

pub type Result<T> = std::result::Result<T, Error>;
