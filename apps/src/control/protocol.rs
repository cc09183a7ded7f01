//! The messages. Each is one line of JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tailwater_dataplane::graph::GraphSpec;
use tailwater_dataplane::live::{Change, ChangeError, Transaction};
use tailwater_dataplane::trace::TraceConfig;

use super::ConnectionsQuery;

/// Version of the protocol. A new operation does not change it; a changed meaning does.
pub(crate) const VERSION: u32 = 1;
/// Longest answer, in bytes; enough for a report of many workers.
pub(crate) const ANSWER_MAX: u64 = 16 << 20;
/// Longest request, in bytes; enough for a graph of 1024 blocks.
pub(crate) const REQUEST_MAX: usize = 1 << 20;

/// What can be asked. Arguments stand beside `op`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Who are you? Answered with an [`Identity`].
    Identify,
    /// All counters. Answered with a [`Snapshot`](crate::snapshot::Snapshot).
    Report,
    /// The packet graph. Answered with its vertices and edges.
    Graph,
    /// The packet graph with its version and ports. Answered with a [`Dump`].
    Dump,
    /// Follow packets. Answered with `true`.
    Trace(TraceConfig),
    /// What has been followed, and with `end` an end to it. Answered with a [`Trace`](tailwater_dataplane::trace::Trace).
    Traced {
        #[serde(default)]
        end: bool,
    },
    /// What the other end of a pair of blocks has to know. Answered with [`Links`].
    Links,
    /// TCP connections, so many at a time. Answered with [`Connections`](super::Connections).
    Connections(ConnectionsQuery),
    /// The kinds of blocks there are. Answered with a list of [`KindInfo`](super::KindInfo).
    Kinds,
    /// Operations on the graph, all or none. Answered with a [`Changed`].
    Change(Transaction),
    /// Brings the graph back from before the last change. Answered with a [`Changed`].
    Undo {
        /// Refused if the graph has another version by now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<u64>,
        /// Only tells what would be changed.
        #[serde(default)]
        dry_run: bool,
    },
    /// Events from a number on, or those to come. Answered with a [`Subscribed`], then with one event after another.
    Subscribe {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
    },
    /// Ends that.
    Unsubscribe,
}

/// The packet graph as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dump {
    pub(crate) version: u64,
    pub(crate) ports: Vec<String>,
    pub(crate) graph: GraphSpec,
}

/// The links, and how flows are spread over the workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Links {
    pub(crate) workers: usize,
    /// Key of the flow hash, for a sender that is to spread flows alike. Not there without a steering program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flow_key: Option<String>,
    /// In the order of the ports; empty where the command does not forward.
    pub(crate) links: Vec<Link>,
}

/// A link as the forwarder sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) name: String,
    /// Bytes of the largest packet that the link carries; 0 while it is down.
    pub(crate) mtu: u32,
    /// Bytes of the largest packet that is forwarded to it: less by what blocks add behind the forwarder.
    pub(crate) room: u32,
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changed {
    #[serde(flatten)]
    pub(crate) change: Change,
    /// What else is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// A subscription has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscribed {
    /// Number of the first event to come.
    pub(crate) from: u64,
}

/// A request on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) request: Request,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Subcommand.
    pub(crate) command: String,
    pub(crate) interfaces: Vec<String>,
    pub(crate) uptime_ms: u64,
}

/// Why a request was not met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// For programs: `syntax`, `version`, `busy`, `denied`, `failed`, or why a change was refused.
    pub(crate) kind: String,
    /// For people.
    pub(crate) message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// The graph's version, where another was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into(), hint: None, current: None }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        let current = match error {
            ChangeError::Conflict { current, .. } => Some(current),
            _ => None,
        };
        Self { kind: error.code().to_owned(), message: error.to_string(), hint: error.hint(), current }
    }
}

/// An answer on its way: one of the two is there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ok: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Refusal>,
}

impl Answer {
    pub(crate) fn new(outcome: Result<Value, Refusal>) -> Self {
        let (ok, error) = match outcome {
            Ok(value) => (Some(value), None),
            Err(refusal) => (None, Some(refusal)),
        };
        Self { version: VERSION, ok, error }
    }
}

/// Reads a request.
pub(crate) fn parse(line: &str) -> Result<Request, Refusal> {
    let syntax = |error: serde_json::Error| Refusal::new("syntax", format!("not a request: {error}"));
    let value: Value = serde_json::from_str(line).map_err(syntax)?;
    match value.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            let message =
                format!("version {version} is not spoken here, only {VERSION}; use the same tailwater on both sides");
            return Err(Refusal::new("version", message));
        }
        None => return Err(Refusal::new("syntax", "a request needs a version")),
    }
    serde_json::from_value::<Envelope>(value).map(|envelope| envelope.request).map_err(syntax)
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn requests_are_flat_objects_named_by_op() {
        let line = serde_json::to_string(&Envelope { version: VERSION, request: Request::Report }).unwrap();
        assert_eq!(line, r#"{"version":1,"op":"report"}"#);
        assert_eq!(parse(&line), Ok(Request::Report));
    }

    #[test]
    fn operations_of_a_change_are_a_list_of_flat_objects() {
        let line = r#"{"version":1,"op":"change","base":4,"operations":[{"op":"set","name":"n","key":"k","value":7},{"op":"bind","edge":"a -> b"}]}"#;
        let Ok(Request::Change(transaction)) = parse(line) else { panic!("{:?}", parse(line)) };
        assert_eq!((transaction.base, transaction.dry_run, transaction.operations.len()), (Some(4), false, 2));
        let unknown = parse(r#"{"version":1,"op":"change","operations":[{"op":"rm","nmae":"n"}]}"#).unwrap_err();
        assert!(unknown.message.contains("nmae"), "{unknown}");
    }

    #[test]
    fn other_versions_unknown_operations_and_noise_are_told_apart() {
        let kind = |line: &str| parse(line).map_err(|refusal| refusal.kind);
        assert_eq!(kind(r#"{"version":2,"op":"report"}"#), Err("version".into()));
        assert_eq!(kind(r#"{"version":1,"op":"levitate"}"#), Err("syntax".into()));
        assert_eq!(kind(r#"{"op":"report"}"#), Err("syntax".into()));
        assert_eq!(kind("GET / HTTP/1.1"), Err("syntax".into()));
    }

    #[test]
    fn an_answer_holds_either_content_or_refusal() {
        let ok = serde_json::to_string(&Answer::new(Ok(Value::from(7)))).unwrap();
        assert_eq!(ok, r#"{"version":1,"ok":7}"#);
        let refused = serde_json::to_string(&Answer::new(Err(Refusal::new("failed", "no")))).unwrap();
        assert_eq!(refused, r#"{"version":1,"error":{"kind":"failed","message":"no"}}"#);
    }
}
