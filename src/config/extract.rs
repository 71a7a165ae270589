//! From the merged tree to typed values, section by section and entry by entry, so that every misfit is found at once.

use super::Config;
use super::keys::{is_secret, join, nearest_of};
use super::layers::Merged;
use super::print::shown;
use super::problem::Problem;
use crate::engine::settings::Settings;
use figment::error::Kind;
use figment::value::Value;
use serde::de::DeserializeOwned;

/// None when any part does not fit its type; the problems then say which.
pub(super) fn config(merged: &Merged, problems: &mut Vec<Problem>) -> Option<Config> {
    let kafka = section(merged, "kafka", problems);
    let topics = section(merged, "topics", problems);
    let schema_registry = section(merged, "schema_registry", problems);
    let runtime = section(merged, "runtime", problems);
    let models = section(merged, "models", problems);
    let alerts = section(merged, "alerts", problems);
    let warehouse = section(merged, "warehouse", problems);
    let admin = section(merged, "admin", problems);
    let telemetry = section(merged, "telemetry", problems);
    let settings = settings(merged, problems);
    Some(Config {
        kafka: kafka?,
        topics: topics?,
        schema_registry: schema_registry?,
        runtime: runtime?,
        models: models?,
        alerts: alerts?,
        warehouse: warehouse?,
        admin: admin?,
        telemetry: telemetry?,
        settings: settings?,
    })
}

fn settings(merged: &Merged, problems: &mut Vec<Problem>) -> Option<Settings> {
    let engine = section(merged, "engine", problems);
    let health = section(merged, "health", problems);
    let policy = section(merged, "policy", problems);
    let retry = section(merged, "retry", problems);
    let merchants = list(merged, "merchants", problems);
    let psps = list(merged, "psps", problems);
    let hard_rules = list(merged, "hard_rules", problems);
    let rules = list(merged, "rules", problems);
    let error_codes = list(merged, "error_codes", problems);
    Some(Settings {
        engine: engine?,
        health: health?,
        policy: policy?,
        retry: retry?,
        merchants: merchants?,
        psps: psps?,
        hard_rules: hard_rules?,
        rules: rules?,
        error_codes: error_codes?,
    })
}

fn section<T: DeserializeOwned>(merged: &Merged, name: &str, problems: &mut Vec<Problem>) -> Option<T> {
    let value = merged.values.get(name)?;
    typed(merged, name, value, problems)
}

fn list<T: DeserializeOwned>(merged: &Merged, name: &str, problems: &mut Vec<Problem>) -> Option<Vec<T>> {
    let value = merged.values.get(name)?;
    let Value::Array(_, items) = value else {
        problems.push(Problem {
            key: name.to_owned(),
            value: Some(shown(name, value)),
            origin: merged.origin(value.tag()),
            wrong: "must be a list of tables".into(),
            remedy: format!("write each entry below [[{name}]]"),
        });
        return None;
    };
    let entries: Vec<Option<T>> =
        items.iter().enumerate().map(|(index, item)| typed(merged, &format!("{name}[{index}]"), item, problems)).collect();
    entries.into_iter().collect()
}

fn typed<T: DeserializeOwned>(merged: &Merged, path: &str, value: &Value, problems: &mut Vec<Problem>) -> Option<T> {
    match value.deserialize() {
        Ok(typed) => Some(typed),
        Err(error) => {
            problems.push(misfit(merged, path, value, &error));
            None
        }
    }
}

fn misfit(merged: &Merged, path: &str, value: &Value, error: &figment::Error) -> Problem {
    let mut names: Vec<&str> = error.path.iter().map(String::as_str).collect();
    if let Kind::UnknownField(field, _) = &error.kind
        && names.last() != Some(&field.as_str())
    {
        names.push(field);
    }
    let (mut key, mut at) = (path.to_owned(), value);
    for name in names {
        (key, at) = match at {
            Value::Array(_, items) => {
                (format!("{key}[{name}]"), name.parse().ok().and_then(|index: usize| items.get(index)).unwrap_or(at))
            }
            Value::Dict(_, fields) => (join(&key, name), fields.get(name).unwrap_or(at)),
            _ => (join(&key, name), at),
        };
    }
    let secret = is_secret(&key);
    let (wrong, remedy) = match &error.kind {
        Kind::UnknownField(field, known) => ("unknown key".to_owned(), hint(field, known)),
        Kind::MissingField(field) => (format!("has no {field}"), format!("add {field}")),
        Kind::UnknownVariant(name, known) => ("is not one of the values it can have".to_owned(), hint(name, known)),
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if secret => {
            ("does not fit".to_owned(), format!("give {expected}"))
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            (format!("is {actual}"), format!("give {expected}"))
        }
        other => (other.to_string(), "see what default.toml says about it".to_owned()),
    };
    let says_value = !secret && !matches!(error.kind, Kind::UnknownField(..) | Kind::MissingField(..));
    Problem { value: says_value.then(|| shown(&key, at)), origin: merged.origin(at.tag()), key, wrong, remedy }
}

fn hint(name: &str, known: &[&str]) -> String {
    match nearest_of(name, known) {
        Some(near) => format!("did you mean {near}? Known are {}", known.join(", ")),
        None => format!("known are {}", known.join(", ")),
    }
}
