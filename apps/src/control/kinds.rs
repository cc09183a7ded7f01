//! Kinds of blocks as messages.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use tailwater_dataplane::block::{Kind, PacketType, Parameter, ValueKind};

/// A kind of block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KindInfo {
    pub(crate) name: String,
    pub(crate) summary: String,
    /// What it takes in: `ethernet`, `ip4`, `ip6` or `any`.
    pub(crate) input: String,
    /// Names of its outputs; the first is the one that `insert` uses.
    pub(crate) outputs: Vec<String>,
    /// Whether it keeps state that a successor can take over.
    pub(crate) stateful: bool,
    pub(crate) parameters: Vec<ParameterInfo>,
}

/// A parameter of a kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParameterInfo {
    pub(crate) key: String,
    /// `bool`, `integer`, `float`, `text` or `path`.
    #[serde(rename = "type")]
    pub(crate) value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<Number>,
    /// Not there where the parameter must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<String>,
    /// Whether `set` can change it.
    pub(crate) live: bool,
    pub(crate) doc: String,
}

impl KindInfo {
    pub(crate) fn of(kind: &Kind) -> Self {
        Self {
            name: kind.name.to_owned(),
            summary: kind.summary.to_owned(),
            input: packet_type(kind.input).to_owned(),
            outputs: kind.outputs.iter().map(|pin| pin.name.to_owned()).collect(),
            stateful: kind.state.is_some(),
            parameters: kind.parameters.iter().map(|parameter| ParameterInfo::of(kind, parameter)).collect(),
        }
    }
}

impl ParameterInfo {
    fn of(kind: &Kind, parameter: &Parameter) -> Self {
        let (value, range) = match parameter.kind {
            ValueKind::Bool => ("bool", None),
            ValueKind::Integer { min, max } => ("integer", Some((Number::from(min), Number::from(max)))),
            ValueKind::Float { min, max } => ("float", Number::from_f64(min).zip(Number::from_f64(max))),
            ValueKind::Text => ("text", None),
            ValueKind::Path => ("path", None),
        };
        let (min, max) = range.unzip();
        Self {
            key: parameter.key.to_owned(),
            value: value.to_owned(),
            min,
            max,
            default: parameter.default.map(str::to_owned),
            live: kind.is_live(parameter.key),
            doc: parameter.doc.to_owned(),
        }
    }
}

fn packet_type(packet_type: PacketType) -> &'static str {
    match packet_type {
        PacketType::Ethernet => "ethernet",
        PacketType::Ip4 => "ip4",
        PacketType::Ip6 => "ip6",
        PacketType::Any => "any",
    }
}
