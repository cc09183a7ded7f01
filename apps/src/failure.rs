//! Errors as the user sees them: what went wrong, and what to do about it.
//!
//! ```text
//! tailwater: no interface named 'eht0' (did you mean eth0?)
//! hint: `ip -br link` lists the interfaces of this network namespace
//! ```

use std::fmt;
use std::process::ExitCode;

use tailwater_dataplane::port::PortError;
use tailwater_dataplane::runtime::RuntimeError;
use tailwater_netlink::Error as NetlinkError;
use tailwater_xdp::Error as XdpError;

use crate::control::Refusal;
use crate::output;

/// Exit code for a command line that cannot be right.
const USAGE: u8 = 2;

/// An error of this program's own.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: String,
    usage: bool,
}

impl Failure {
    /// Something did not work.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), usage: false }
    }

    /// The command line cannot be right.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(message, hint) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints an error with its hint and says how to exit.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    output::note(format_args!("tailwater: {}", message(error)));
    if let Some(hint) = hint(error) {
        output::note(format_args!("hint: {hint}"));
    }
    match error.downcast_ref::<Failure>() {
        Some(failure) if failure.usage => ExitCode::from(USAGE),
        _ => ExitCode::FAILURE,
    }
}

/// The error and its causes, each said once: many messages quote their cause already.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said {
        said if said.is_empty() => cause,
        said if said.contains(&cause) => said,
        said => format!("{said}: {cause}"),
    })
}

/// What to do about it, where the message itself does not say.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return Some(failure.hint.clone()).filter(|hint| !hint.is_empty());
        }
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return refusal.hint.clone();
        }
        if let Some(error) = cause.downcast_ref::<RuntimeError>() {
            return runtime_hint(error);
        }
        match cause.downcast_ref::<NetlinkError>() {
            Some(NetlinkError::NoSuchLink { .. }) => Some(LIST.into()),
            Some(NetlinkError::NoSuchGroup { .. } | NetlinkError::EmptyGroup { .. }) => Some(LIST_GROUPS.into()),
            _ => None,
        }
    })
}

const LIST_GROUPS: &str = "`tailwater group` lists groups; `tailwater group GROUP attach IF` puts interfaces into one";
const LIST: &str = "`ip -br link` lists the interfaces of this network namespace";

fn runtime_hint(error: &RuntimeError) -> Option<String> {
    match error {
        RuntimeError::Netlink(NetlinkError::NoSuchLink { .. }) => Some(LIST.into()),
        RuntimeError::DuplicateInterface(_) => Some("name each interface once".into()),
        RuntimeError::Port(PortError::NoQueue { queues, .. }) => {
            Some(format!("give --queues {queues} or less, or add queues with `ethtool -L IF rx N`"))
        }
        RuntimeError::Steering(XdpError::NoNative { interface, .. }) => {
            Some(format!("--mode auto takes what there is; `tailwater doctor {interface}` shows it"))
        }
        RuntimeError::Steering(XdpError::NoXdp { .. }) => Some("--backend packet works on any interface".into()),
        RuntimeError::Memory(_) => Some("--frames N and --ring-size N ask for less memory".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn hint_is_found_below_added_context() {
        let error = RuntimeError::Netlink(NetlinkError::NoSuchLink { name: "eht0".into(), similar: Vec::new() });
        let error = Err::<(), _>(error).context("starting").unwrap_err();
        assert_eq!(hint(&error).as_deref(), Some(LIST));
    }

    #[test]
    fn cause_is_not_repeated_where_the_message_quotes_it() {
        let refused = std::io::Error::other("Operation not supported");
        let error = anyhow::Error::new(refused).context("driver refused (Operation not supported)").context("d0");
        assert_eq!(message(&error), "d0: driver refused (Operation not supported)");
    }

    #[test]
    fn failure_without_hint_prints_none() {
        assert_eq!(hint(&Failure::new("broken", "").into()), None);
    }
}
