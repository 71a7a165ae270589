//! The layers of a configuration, lowest first: embedded default, the command's own, file, environment, flags. Each key remembers its layer.

use super::LoadOptions;
use super::keys::{Keys, Kind, OPEN_TABLE, join};
use super::problem::{ConfigError, Problem};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Deserialize;
use std::path::Path;

pub(super) const DEFAULT_TOML: &str = include_str!("default.toml");
const ENVIRONMENT_PREFIX: &str = "SMARTROUTER__";

/// Values of one source.
struct Layer {
    origin: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// All layers as one tree, in which every value carries the tag of its layer.
pub(super) struct Merged {
    figment: Figment,
    pub(super) values: Dict,
}

impl Merged {
    pub(super) fn origin(&self, tag: Tag) -> String {
        self.figment.get_metadata(tag).map_or_else(|| "default".to_owned(), |metadata| metadata.name.to_string())
    }
}

/// Puts the layers together. Unknown keys become problems and are left out of the tree.
pub(super) fn merge(options: &LoadOptions, problems: &mut Vec<Problem>) -> Result<Merged, ConfigError> {
    let defaults = Layer { origin: "default".into(), values: parse(DEFAULT_TOML, "the embedded default")? };
    let keys = Keys::of(&defaults.values);
    let mut layers = vec![defaults];
    if let Some(text) = &options.base {
        layers.push(Layer { origin: "command".into(), values: parse(text, "the command's own configuration")? });
    }
    if let Some(path) = &options.file {
        layers.push(file_layer(path)?);
    }
    let mut variables: Vec<&(String, String)> =
        options.env.iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    variables.sort();
    layers.extend(
        variables
            .into_iter()
            .map(|(name, text)| single(variable_path(name), text, format!("environment variable {name}"), &keys)),
    );
    layers.extend(options.overrides.iter().map(|(path, text)| single(key_path(path), text, format!("flag for {path}"), &keys)));

    let mut figment = Figment::new();
    for mut layer in layers {
        flatten_open_table(&mut layer.values);
        let known = |path: &str, value: &Value| check_key(path, value, &layer.origin, &keys);
        layer.values = keep_known(layer.values, "", &known, problems);
        figment = figment.merge(layer);
    }
    let internal =
        |error: figment::Error| ConfigError::Syntax { origin: "the merged configuration".into(), reason: error.to_string() };
    let values = figment.data().map_err(internal)?.remove(&Profile::Default).unwrap_or_default();
    Ok(Merged { figment, values })
}

fn file_layer(path: &Path) -> Result<Layer, ConfigError> {
    let origin = format!("file {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::Read { path: path.to_owned(), reason })?;
    let values = parse(&text, &origin)?;
    Ok(Layer { origin, values })
}

/// What is wrong is told by line and column: the line itself may hold a secret.
fn parse(text: &str, origin: &str) -> Result<Dict, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let place = before.map_or_else(String::new, |before| {
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            format!("line {}, column {column}: ", before.matches('\n').count() + 1)
        });
        ConfigError::Syntax { origin: origin.to_owned(), reason: format!("{place}{}", error.message()) }
    })
}

/// A layer that sets one key.
fn single(path: Vec<String>, text: &str, origin: String, keys: &Keys) -> Layer {
    let value = value_of(&path.join("."), text, keys);
    let nested = path.into_iter().rev().fold(value, |inner, name| Value::from(Dict::from([(name, inner)])));
    Layer { origin, values: nested.into_dict().unwrap_or_default() }
}

/// `SMARTROUTER__HEALTH__WINDOW_MS` is `health.window_ms`. Names of librdkafka's properties have dots, never underscores.
fn variable_path(name: &str) -> Vec<String> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name).to_ascii_lowercase();
    let parts: Vec<String> = rest.split("__").map(str::to_owned).collect();
    match parts.as_slice() {
        [kafka, properties, name @ ..] if kafka == "kafka" && properties == "properties" && !name.is_empty() => {
            vec![kafka.clone(), properties.clone(), name.join(".").replace('_', ".")]
        }
        _ => parts,
    }
}

fn key_path(path: &str) -> Vec<String> {
    match path.strip_prefix(OPEN_TABLE).and_then(|rest| rest.strip_prefix('.')) {
        Some(name) => vec!["kafka".into(), "properties".into(), name.into()],
        None => path.split('.').map(str::to_owned).collect(),
    }
}

/// A text key takes the text as it is; any other takes it as TOML, so that `["MXN"]`, `0.5` and `true` mean what they say.
fn value_of(path: &str, text: &str, keys: &Keys) -> Value {
    let is_text = keys.kind(path) == Some(Kind::Text) || path.starts_with(OPEN_TABLE);
    if is_text {
        return Value::from(text);
    }
    let parsed = toml::de::ValueDeserializer::parse(text.trim()).and_then(<Value as Deserialize>::deserialize);
    parsed.unwrap_or_else(|_| Value::from(text))
}

fn check_key(path: &str, value: &Value, origin: &str, keys: &Keys) -> Result<(), Problem> {
    let problem = |wrong: &str, remedy: String| {
        Err(Problem { key: path.to_owned(), value: None, origin: origin.to_owned(), wrong: wrong.to_owned(), remedy })
    };
    match (keys.kind(path), value) {
        (None, _) => {
            let remedy = match keys.nearest(path) {
                Some(near) => format!("did you mean {near}?"),
                None => "remove it; `smartrouter config print` lists the known keys".to_owned(),
            };
            problem("unknown key", remedy)
        }
        (Some(Kind::Table), Value::Dict(..)) | (Some(Kind::Text | Kind::Literal), _) => Ok(()),
        (Some(Kind::Table), _) => problem("is a section, not a value", format!("write its keys below [{path}]")),
    }
}

/// The tree without what `check` refuses.
fn keep_known(
    dict: Dict,
    prefix: &str,
    check: &dyn Fn(&str, &Value) -> Result<(), Problem>,
    problems: &mut Vec<Problem>,
) -> Dict {
    let mut kept = Dict::new();
    for (key, value) in dict {
        let path = join(prefix, &key);
        if let Err(problem) = check(&path, &value) {
            problems.push(problem);
            continue;
        }
        let value = match value {
            Value::Dict(tag, inner) if path != OPEN_TABLE => Value::Dict(tag, keep_known(inner, &path, check, problems)),
            other => other,
        };
        kept.insert(key, value);
    }
    kept
}

/// In TOML `ssl.ca.location = "x"` without quotes is a table in a table: below `kafka.properties` it is meant as one name, and
/// all values are texts to librdkafka.
fn flatten_open_table(values: &mut Dict) {
    let Some(Value::Dict(_, kafka)) = values.get_mut("kafka") else { return };
    let Some(Value::Dict(_, properties)) = kafka.get_mut("properties") else { return };
    let mut flat = Dict::new();
    flatten(properties, "", &mut flat);
    *properties = flat;
}

fn flatten(dict: &Dict, prefix: &str, flat: &mut Dict) {
    for (key, value) in dict {
        let path = join(prefix, key);
        match value {
            Value::Dict(_, inner) => flatten(inner, &path, flat),
            Value::Num(..) | Value::Bool(..) | Value::Char(..) => {
                let text = serde_json::to_string(value).unwrap_or_default();
                flat.insert(path, Value::from(text));
            }
            other => {
                flat.insert(path, other.clone());
            }
        }
    }
}
