//! `config print`: every key, its value, and where it came from.

use super::keys::{is_secret, join};
use super::layers::Merged;
use figment::value::{Dict, Value};

pub(super) const MASK: &str = "***";

/// How `Loaded::print` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns: key, value, origin.
    Table,
    /// One line: an object of `key: {value, origin}`.
    Json,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Masked when secret.
    pub(super) value: serde_json::Value,
    pub(super) origin: String,
}

/// One entry per key; a list of tables has one per table.
pub(super) fn entries(merged: &Merged) -> Vec<Entry> {
    let mut entries = Vec::new();
    collect(merged, &merged.values, "", &mut entries);
    entries
}

fn collect(merged: &Merged, dict: &Dict, prefix: &str, entries: &mut Vec<Entry>) {
    for (name, value) in dict {
        let key = join(prefix, name);
        match value {
            Value::Dict(_, inner) => collect(merged, inner, &key, entries),
            Value::Array(_, items) if items.iter().any(|item| matches!(item, Value::Dict(..))) => {
                let each = items.iter().enumerate().map(|(index, item)| entry(merged, format!("{key}[{index}]"), item));
                entries.extend(each);
            }
            _ => entries.push(entry(merged, key, value)),
        }
    }
}

fn entry(merged: &Merged, key: String, value: &Value) -> Entry {
    let origin = merged.origin(value.tag());
    Entry { value: masked(&key, value), key, origin }
}

/// Lists and tables are looked into: their keys are masked one by one.
fn masked(key: &str, value: &Value) -> serde_json::Value {
    match value {
        Value::Dict(_, fields) => fields.iter().map(|(name, inner)| (name.clone(), masked(&join(key, name), inner))).collect(),
        Value::Array(_, items) => items.iter().map(|item| masked(key, item)).collect(),
        _ if is_secret(key) && value.as_str() != Some("") => MASK.into(),
        _ => serde_json::to_value(value).unwrap_or(serde_json::Value::Null),
    }
}

/// A value in one line, masked when secret.
pub(super) fn shown(key: &str, value: &Value) -> String {
    masked(key, value).to_string()
}

pub(super) fn print(entries: &[Entry], format: Format) -> String {
    match format {
        Format::Json => json(entries),
        Format::Table => table(entries),
    }
}

fn json(entries: &[Entry]) -> String {
    let object = |entry: &Entry| {
        let inner = serde_json::Map::from_iter([
            ("value".to_owned(), entry.value.clone()),
            ("origin".to_owned(), entry.origin.clone().into()),
        ]);
        (entry.key.clone(), serde_json::Value::Object(inner))
    };
    serde_json::Value::Object(entries.iter().map(object).collect()).to_string()
}

/// Long values do not widen the column: they push their own origin to the right.
fn table(entries: &[Entry]) -> String {
    const VALUE_WIDTH: usize = 40;
    let key_width = entries.iter().map(|entry| entry.key.chars().count()).max().unwrap_or(0);
    let line = |entry: &Entry| format!("{:key_width$}  {:VALUE_WIDTH$}  {}\n", entry.key, entry.value.to_string(), entry.origin);
    entries.iter().map(line).collect()
}
