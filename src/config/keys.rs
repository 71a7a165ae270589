//! The keys that exist: those of the embedded default, with their kinds; and which of them a wrong one was meant to be.

use figment::value::{Dict, Value};
use std::collections::BTreeMap;

/// Below this key any name is allowed: they are librdkafka's.
pub(super) const OPEN_TABLE: &str = "kafka.properties";

const ALERT_SINKS: &str = "alerts.sinks";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text is taken as it is, whatever it looks like.
    Text,
    Table,
    /// Numbers, booleans, lists: written as in TOML.
    Literal,
}

#[derive(Clone, Debug)]
pub(super) struct Keys {
    kinds: BTreeMap<String, Kind>,
}

impl Keys {
    pub(super) fn of(defaults: &Dict) -> Self {
        let mut kinds = BTreeMap::new();
        collect(defaults, "", &mut kinds);
        Self { kinds }
    }

    pub(super) fn kind(&self, path: &str) -> Option<Kind> {
        self.kinds.get(path).copied()
    }

    /// The known key that is closest to an unknown one, if any is close enough to be meant.
    pub(super) fn nearest(&self, path: &str) -> Option<&str> {
        let leaf = last(path);
        let near = |key: &str| {
            let same_place = distance(key, path);
            // The right name in the wrong section.
            let elsewhere = distance(last(key), leaf) + 1;
            same_place.min(elsewhere)
        };
        let best = self.kinds.keys().map(|key| (near(key), key)).min()?;
        (best.0 <= allowed(leaf)).then_some(best.1.as_str())
    }
}

/// The one of `names` that is closest to `name`, if close enough to be meant.
pub(super) fn nearest_of<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let best = names.iter().map(|other| (distance(other, name), *other)).min()?;
    (best.0 <= allowed(name)).then_some(best.1)
}

/// The full path of `key` below `prefix`.
pub(super) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// Whether the value of a key must not be shown.
pub(super) fn is_secret(path: &str) -> bool {
    let name = path.strip_prefix("kafka.properties.").unwrap_or(path).to_ascii_lowercase();
    let telling = ["password", "passphrase", "secret", "token", "credential", "routing_key"];
    // Who knows the address of a webhook may write to it. A list that is none was meant to be one, addresses and keys included.
    let of_sinks = name.strip_prefix(ALERT_SINKS).is_some_and(|rest| rest.is_empty() || last(rest) == "url");
    of_sinks || name.starts_with("sasl.") || name.starts_with("ssl.key.") || telling.iter().any(|word| name.contains(word))
}

fn collect(dict: &Dict, prefix: &str, kinds: &mut BTreeMap<String, Kind>) {
    for (key, value) in dict {
        let path = join(prefix, key);
        let kind = match value {
            Value::Dict(_, inner) => {
                collect(inner, &path, kinds);
                Kind::Table
            }
            Value::String(..) => Kind::Text,
            _ => Kind::Literal,
        };
        kinds.insert(path, kind);
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// A third of the letters may be wrong, but at least two.
fn allowed(name: &str) -> usize {
    (name.chars().count() / 3).max(2)
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
