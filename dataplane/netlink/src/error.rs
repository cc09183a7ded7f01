//! What can go wrong, and what to do about it.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

use crate::socket::Refusal;

/// Failures of talking to the kernel, or of naming things to it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket itself could not be made or used.
    #[error("cannot {doing} over rtnetlink: {source}")]
    Socket { doing: &'static str, source: io::Error },
    /// The kernel understood and said no; `said` is its reason in words, where it gave one (extended acknowledgement).
    #[error("kernel refused to {doing}: {source}{}{}", in_words(.said), hint(.source))]
    Refused { doing: String, source: io::Error, said: Option<String> },
    /// No answer within the time limit; rtnetlink answers at once unless the kernel hangs.
    #[error("kernel gave no answer to '{doing}' within {timeout_ms} ms")]
    NoAnswer { doing: &'static str, timeout_ms: u64 },
    #[error("no interface named '{name}'{}", did_you_mean(.similar))]
    NoSuchLink { name: String, similar: Vec<String> },
    #[error("no interface group named '{name}' in iproute2's group file{}; a number works too", did_you_mean(.similar))]
    NoSuchGroup { name: String, similar: Vec<String> },
    #[error("0 is not the index of any interface")]
    ZeroIndex,
    #[error("interface group {group} has no members in this network namespace; nothing was changed")]
    EmptyGroup { group: u32 },
    #[error("group 0 is every interface nobody put into a group; name an interface, or set a group first")]
    DefaultGroup,
}

impl Error {
    pub(crate) fn refused(doing: impl Into<String>, refusal: Refusal) -> Self {
        let Refusal { source, said } = refusal;
        Self::Refused { doing: doing.into(), source, said }
    }

    /// Why, without what was to be done: the kernel's error and its words.
    pub fn reason(&self) -> String {
        match self {
            Self::Refused { source, said, .. } => format!("{source}{}", in_words(said)),
            other => other.to_string(),
        }
    }
}

fn in_words(said: &Option<String>) -> String {
    said.as_ref().map(|said| format!(": {said}")).unwrap_or_default()
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
