//! Parameters of blocks: described once, checked once, at the edge.

use std::collections::BTreeMap;
use std::fmt;

/// A parameter's value.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// true or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Anything else.
    Text(String),
}

impl Value {
    /// The text; empty for anything else.
    pub fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            _ => "",
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => value.fmt(f),
            Value::Integer(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::Text(value) => value.fmt(f),
        }
    }
}

/// What values a parameter takes.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// true or false.
    Bool,
    /// A whole number within bounds.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A number within bounds.
    Float {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// Text that the block itself checks.
    Text,
    /// A file's path; `ctl` makes relative ones absolute, from its own working directory.
    Path,
}

/// Description of a parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Name, with its unit last (`delay_us`).
    pub key: &'static str,
    /// Values it takes.
    pub kind: ValueKind,
    /// Value when not given, as text; `None` where it must be given.
    pub default: Option<&'static str>,
    /// What it does.
    pub doc: &'static str,
}

/// Why a parameter was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// No such key.
    #[error("unknown parameter {key:?}; this block has: {known}")]
    Unknown {
        /// Key given.
        key: String,
        /// Keys there are.
        known: String,
    },
    /// A key without default was not given.
    #[error("parameter {key:?} must be given ({doc})")]
    Missing {
        /// Key wanted.
        key: &'static str,
        /// What it does.
        doc: &'static str,
    },
    /// Wrong type or out of range.
    #[error("{key}={value}: {wanted}")]
    Value {
        /// Key given.
        key: String,
        /// Value given.
        value: String,
        /// What would be right.
        wanted: String,
    },
    /// It cannot change while the block lives.
    #[error("{key:?} cannot be changed on a running block; replace the block")]
    Fixed {
        /// Key given.
        key: String,
    },
}

impl Parameter {
    /// Checks a value, converting numbers and text where nothing is lost.
    pub fn check(&self, value: &Value) -> Result<Value, ParameterError> {
        let wrong = |wanted: String| ParameterError::Value { key: self.key.into(), value: value.to_string(), wanted };
        match self.kind {
            ValueKind::Bool => match value {
                Value::Bool(_) => Ok(value.clone()),
                Value::Text(text) if text == "true" || text == "on" => Ok(Value::Bool(true)),
                Value::Text(text) if text == "false" || text == "off" => Ok(Value::Bool(false)),
                _ => Err(wrong("wants true or false".into())),
            },
            ValueKind::Integer { min, max } => {
                let number = match value {
                    Value::Integer(number) => Some(*number),
                    Value::Text(text) => text.parse().ok(),
                    _ => None,
                };
                match number {
                    Some(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
                    _ => Err(wrong(format!("wants a whole number from {min} to {max}"))),
                }
            }
            ValueKind::Float { min, max } => {
                let number = match value {
                    Value::Float(number) => Some(*number),
                    Value::Integer(number) => Some(*number as f64),
                    Value::Text(text) => text.parse().ok(),
                    Value::Bool(_) => None,
                };
                match number {
                    Some(number) if (min..=max).contains(&number) => Ok(Value::Float(number)),
                    _ => Err(wrong(format!("wants a number from {min} to {max}"))),
                }
            }
            ValueKind::Text | ValueKind::Path => Ok(Value::Text(value.to_string())),
        }
    }
}

/// Checked parameters of one block: every known key has a value of its kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments {
    values: BTreeMap<String, Value>,
}

impl Arguments {
    /// Checks what was given against the block's description; unknown keys are refused, defaults filled in.
    pub fn check(parameters: &[Parameter], given: &BTreeMap<String, Value>) -> Result<Self, ParameterError> {
        if let Some(key) = given.keys().find(|key| parameters.iter().all(|p| p.key != key.as_str())) {
            let known = parameters.iter().map(|p| p.key).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none".into() } else { known };
            return Err(ParameterError::Unknown { key: key.clone(), known });
        }
        let mut values = BTreeMap::new();
        for parameter in parameters {
            let value = match (given.get(parameter.key), parameter.default) {
                (Some(value), _) => parameter.check(value)?,
                (None, Some(default)) => parameter.check(&Value::Text(default.into()))?,
                (None, None) => return Err(ParameterError::Missing { key: parameter.key, doc: parameter.doc }),
            };
            values.insert(parameter.key.to_owned(), value);
        }
        Ok(Self { values })
    }

    /// The value of a key that the block's description has.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A number; 0 for a key that the description does not have.
    pub fn float(&self, key: &str) -> f64 {
        match self.values.get(key) {
            Some(Value::Float(value)) => *value,
            Some(Value::Integer(value)) => *value as f64,
            _ => 0.0,
        }
    }

    /// A whole number; 0 for a key that the description does not have.
    pub fn integer(&self, key: &str) -> i64 {
        match self.values.get(key) {
            Some(Value::Integer(value)) => *value,
            _ => 0,
        }
    }

    /// A truth value; false for a key that the description does not have.
    pub fn bool(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some(Value::Bool(true)))
    }

    /// Text; empty for a key that the description does not have.
    pub fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", Value::text)
    }

    /// Keys whose values differ.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(|(key, value)| other.value(key) != Some(value)).map(|(key, _)| key.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Parameter =
        Parameter { key: "delay_us", kind: ValueKind::Integer { min: 0, max: 10 }, default: Some("3"), doc: "delay" };
    const FILE: Parameter = Parameter { key: "file", kind: ValueKind::Text, default: None, doc: "where to write" };

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, Value> {
        pairs.iter().map(|(k, v)| (k.to_string(), Value::Text(v.to_string()))).collect()
    }

    #[test]
    fn defaults_fill_what_is_not_given() {
        let arguments = Arguments::check(&[DELAY], &given(&[])).unwrap();
        assert_eq!(arguments.integer("delay_us"), 3);
    }

    #[test]
    fn unknown_missing_and_out_of_range_are_refused_with_what_would_be_right() {
        let unknown = Arguments::check(&[DELAY], &given(&[("dealy_us", "1")])).unwrap_err();
        assert!(unknown.to_string().contains("delay_us"), "{unknown}");
        let missing = Arguments::check(&[FILE], &given(&[])).unwrap_err();
        assert_eq!(missing, ParameterError::Missing { key: "file", doc: "where to write" });
        let range = Arguments::check(&[DELAY], &given(&[("delay_us", "11")])).unwrap_err();
        assert!(range.to_string().contains("from 0 to 10"), "{range}");
    }
}
