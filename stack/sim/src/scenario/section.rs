//! A table of a file, read key by key; what nobody asked for is an error.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ScenarioError;
use super::expand::Text;
use crate::quantity::QuantityError;

type Result<T> = std::result::Result<T, ScenarioError>;

pub(super) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>> {
    DeTable::parse(text)
        .map_err(|error| ScenarioError::at(text, error.span().unwrap_or(0..0), error.message().trim().to_owned()))
}

pub(super) struct Section<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    asked: Vec<String>,
}

impl<'a> Section<'a> {
    pub(super) fn top(text: &'a str, document: &'a Spanned<DeTable<'a>>) -> Self {
        Self { text, table: document.get_ref(), span: 0..0, asked: Vec::new() }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    fn get(&mut self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key.to_owned());
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> ScenarioError {
        let found = value.get_ref().type_str();
        let message = format!("'{key}' is a value of type {found}: expected {expected}");
        ScenarioError::at(self.text, value.span(), message)
    }

    pub(super) fn string(&mut self, key: &str) -> Result<Option<Text>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = value.get_ref().as_str().ok_or_else(|| self.wrong(key, value, "a text in quotes"))?;
        Ok(Some(Text { value: text.to_owned(), span: value.span() }))
    }

    pub(super) fn integer(&mut self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        number.map(Some).ok_or_else(|| self.wrong(key, value, "a whole number from 0 on"))
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    pub(super) fn quantity<T>(
        &mut self,
        key: &str,
        read: fn(&str) -> std::result::Result<T, QuantityError>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(text) = value.get_ref().as_str() else {
            let QuantityError(expected) = read("").err().unwrap_or(QuantityError("a text in quotes"));
            return Err(self.wrong(key, value, expected));
        };
        let refused = |error: QuantityError| {
            ScenarioError::at(self.text, value.span(), format!("'{text}' is no value for '{key}': {error}"))
        };
        read(text).map(Some).map_err(refused)
    }

    pub(super) fn need<T>(&mut self, key: &str, read: fn(&str) -> std::result::Result<T, QuantityError>) -> Result<T> {
        let expected = read("").err().unwrap_or(QuantityError("a text in quotes"));
        self.quantity(key, read)?.ok_or_else(|| self.missing(key, &expected.to_string()))
    }

    pub(super) fn need_string(&mut self, key: &str, expected: &str) -> Result<Text> {
        self.string(key)?.ok_or_else(|| self.missing(key, expected))
    }

    pub(super) fn missing(&self, key: &str, expected: &str) -> ScenarioError {
        ScenarioError::at(self.text, self.span(), format!("'{key}' is missing: {expected}"))
    }

    /// At the value of `key`, which can be read and yet be no good.
    pub(super) fn wrong_value(&self, key: &str, expected: &str) -> ScenarioError {
        let written = self.text.get(self.span_of(&[key])).unwrap_or_default();
        self.wrong_at(&[key], format!("'{key}' is {written}: expected {expected}"))
    }

    /// At the first of these keys that is there.
    pub(super) fn wrong_at(&self, keys: &[&str], message: impl Into<String>) -> ScenarioError {
        ScenarioError::at(self.text, self.span_of(keys), message)
    }

    fn span_of(&self, keys: &[&str]) -> Range<usize> {
        let value = |key: &&str| self.table.iter().find(|(name, _)| name.get_ref() == *key).map(|(_, value)| value);
        keys.iter().find_map(value).map_or(self.span(), Spanned::span)
    }

    pub(super) fn list(&mut self, key: &str) -> Result<Vec<Text>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let expected = "a list of texts such as [\"a\", \"b\"]";
        let items = value.get_ref().as_array().ok_or_else(|| self.wrong(key, value, expected))?;
        let text = |item: &Spanned<DeValue<'_>>| {
            let text = item.get_ref().as_str().ok_or_else(|| self.wrong(key, item, expected))?;
            Ok(Text { value: text.to_owned(), span: item.span() })
        };
        items.iter().map(text).collect()
    }

    pub(super) fn table(&mut self, key: &str) -> Result<Option<Section<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let expected = "a table such as { rate = \"5 Mbit/s\" }";
        let table = value.get_ref().as_table().ok_or_else(|| self.wrong(key, value, expected))?;
        Ok(Some(Section { text: self.text, table, span: value.span(), asked: Vec::new() }))
    }

    /// Every `[[key]]`.
    pub(super) fn tables(&mut self, key: &str) -> Result<Vec<Section<'a>>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let expected = format!("tables that begin with [[{key}]]");
        let items = value.get_ref().as_array().ok_or_else(|| self.wrong(key, value, &expected))?;
        let section = |item: &'a Spanned<DeValue<'a>>| {
            let table = item.get_ref().as_table().ok_or_else(|| self.wrong(key, item, &expected))?;
            Ok(Section { text: self.text, table, span: item.span(), asked: Vec::new() })
        };
        items.iter().map(section).collect()
    }

    /// Refuses keys that nobody has asked for.
    pub(super) fn finish(self) -> Result<()> {
        let unknown = self.table.iter().find(|(name, _)| !self.asked.iter().any(|asked| name.get_ref() == asked));
        let Some((name, _)) = unknown else { return Ok(()) };
        let error = ScenarioError::at(self.text, name.span(), format!("there is no key '{}' here", name.get_ref()));
        Err(error.similar(name.get_ref(), self.asked.iter(), "keys are"))
    }
}
