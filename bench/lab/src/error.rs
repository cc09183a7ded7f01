//! What can go wrong while building or using a lab.

use std::io;
use std::time::Duration;

/// Why a lab could not be built or used.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("{program} could not be started: {source}; run ci/setup, which installs what the labs need")]
    Start { program: String, source: io::Error },
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed { command: String, status: String, stderr: String },
    #[error("`{command}` did not end within {deadline:?}")]
    Deadline { command: String, deadline: Duration },
    #[error("`{command}` printed no line that {wanted} within {deadline:?}; its output ends with:\n{output}")]
    NoLine { command: String, wanted: String, deadline: Duration, output: String },
    #[error("`{command}` ended ({status}) before it printed a line that {wanted}; its output ends with:\n{output}")]
    EndedEarly { command: String, wanted: String, status: String, output: String },
    #[error("{interface} in {namespace} did not come up")]
    NotUp { namespace: String, interface: String },
    #[error("network namespaces need root (CAP_SYS_ADMIN): run as root")]
    Privileges,
    #[error("interface {interface} does not exist in namespace {namespace}")]
    NoInterface { namespace: String, interface: String },
    #[error("{interface} in {namespace} has no NAPI thread: attach XDP or switch gro on first, then ask for one")]
    NoNapiThread { namespace: String, interface: String },
    #[error("{what}: {source}")]
    System { what: String, source: io::Error },
}

impl LabError {
    pub(crate) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { what: what.into(), source: source.into() }
    }
}
