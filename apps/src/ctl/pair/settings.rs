//! Which parameter is for which end.

use std::collections::BTreeMap;

use tailwater_dataplane::block::Value;

use super::super::edit::{Pair as Parameter, absolute};
use crate::control::KindInfo;
use crate::failure::Failure;

/// Parameters of both blocks.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Settings {
    pub(super) from: BTreeMap<String, Value>,
    pub(super) to: BTreeMap<String, Value>,
}

impl Settings {
    /// Gives each parameter to the ends whose kind has it, or to the one that it names.
    pub(super) fn split(parameters: &[Parameter], from: &KindInfo, to: &KindInfo) -> anyhow::Result<Self> {
        let mut settings = Self::default();
        for Parameter { key, value } in parameters {
            let (side, key) = key.split_once(':').unwrap_or(("", key));
            let given = [
                (side != "to").then(|| give(&mut settings.from, from, key, value)).transpose()?,
                (side != "from").then(|| give(&mut settings.to, to, key, value)).transpose()?,
            ];
            if !matches!(side, "" | "from" | "to") {
                let hint = "write KEY=VALUE, from:KEY=VALUE or to:KEY=VALUE";
                return Err(Failure::usage(format!("there is no end {side:?}"), hint).into());
            }
            if !given.contains(&Some(true)) {
                return Err(unknown(key, from, to).into());
            }
        }
        Ok(settings)
    }
}

/// Adds a parameter if the kind has it. Paths are ours, not the process's.
fn give(values: &mut BTreeMap<String, Value>, kind: &KindInfo, key: &str, value: &str) -> anyhow::Result<bool> {
    let Some(parameter) = kind.parameters.iter().find(|parameter| parameter.key == key) else { return Ok(false) };
    let value = if parameter.value == "path" { absolute(value)? } else { value.to_owned() };
    values.insert(key.to_owned(), Value::Text(value));
    Ok(true)
}

fn unknown(key: &str, from: &KindInfo, to: &KindInfo) -> Failure {
    let keys = |kind: &KindInfo| {
        let keys: Vec<&str> = kind.parameters.iter().map(|parameter| parameter.key.as_str()).collect();
        format!("{} has {}", kind.name, keys.join(", "))
    };
    Failure::usage(format!("no end has a parameter {key:?}"), format!("{}; {}", keys(from), keys(to)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ParameterInfo;

    fn kind(name: &str, keys: &[(&str, &str)]) -> KindInfo {
        let parameter = |&(key, value): &(&str, &str)| ParameterInfo {
            key: key.into(),
            value: value.into(),
            min: None,
            max: None,
            default: None,
            live: false,
            doc: String::new(),
        };
        KindInfo {
            name: name.into(),
            summary: String::new(),
            input: "ethernet".into(),
            outputs: Vec::new(),
            stateful: true,
            parameters: keys.iter().map(parameter).collect(),
        }
    }

    fn split(words: &[&str]) -> anyhow::Result<Settings> {
        let parameters: Vec<Parameter> = words
            .iter()
            .map(|word| super::super::parameter(word).map_err(anyhow::Error::msg))
            .collect::<Result<_, _>>()?;
        let from = kind("encrypt", &[("key_file", "path"), ("cipher", "text"), ("port", "text")]);
        let to = kind("decrypt", &[("key_file", "path"), ("plain", "text")]);
        Settings::split(&parameters, &from, &to)
    }

    fn words(values: &BTreeMap<String, Value>) -> Vec<String> {
        values.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn a_parameter_goes_to_the_ends_that_have_it_or_to_the_one_it_names() {
        let settings = split(&["key_file=/k", "port=d1", "to:key_file=/other", "plain=drop"]).unwrap();
        assert_eq!(words(&settings.from), ["key_file=/k", "port=d1"]);
        assert_eq!(words(&settings.to), ["key_file=/other", "plain=drop"]);
        let here = std::env::current_dir().unwrap().join("k").display().to_string();
        assert_eq!(words(&split(&["from:key_file=k"]).unwrap().from), [format!("key_file={here}")]);
    }

    #[test]
    fn what_no_end_has_is_refused_with_what_they_have() {
        let hint = |words: &[&str]| {
            let error = split(words).unwrap_err();
            format!("{error} | {}", crate::failure::hint(&error).unwrap_or_default())
        };
        assert!(hint(&["prot=d1"]).contains("encrypt has key_file, cipher, port; decrypt has key_file, plain"));
        assert!(hint(&["to:port=d1"]).contains("no end has a parameter \"port\""));
        assert!(hint(&["middle:port=d1"]).contains("from:KEY=VALUE"));
    }
}
