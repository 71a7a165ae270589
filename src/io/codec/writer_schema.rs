//! A writer's schema, made ready to be read into our structs.
//!
//! Resolution needs no intermediate value: fields are matched by name, those we do not know are skipped, those that the writer does
//! not know take the struct's default (a test holds it to the default of our schema), numbers widen. What is left are symbols
//! of an enum that we do not know: they are replaced by the default of our enum here, once per schema.

use super::{CodecError, RecordKind};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) struct WriterSchema {
    pub(super) id: i32,
    /// Absent: a record that is none of ours.
    pub(super) kind: Option<RecordKind>,
    /// Name of the record, without namespace.
    pub(super) record: String,
    pub(super) schema: serde_avro_fast::Schema,
}

impl WriterSchema {
    pub(super) fn parse(id: i32, text: &str) -> Result<Self, CodecError> {
        let unusable = |detail: String| CodecError::UnusableSchema { id, detail };
        let mut json: Value = serde_json::from_str(text).map_err(|error| unusable(format!("it is not JSON: {error}")))?;
        let is_record = json.get("type").and_then(Value::as_str) == Some("record");
        let name = json.get("name").and_then(Value::as_str).filter(|_| is_record);
        let record = unqualified(name.ok_or_else(|| unusable("it is not of a record".to_owned()))?).to_owned();
        let kind = RecordKind::of_record(&record);
        if let Some(kind) = kind {
            let mut known = BTreeMap::new();
            collect_enums(&own_json(kind)?, &mut known);
            replace_unknown_symbols(&mut json, &known);
        }
        let schema = json.to_string().parse().map_err(|error| unusable(format!("it is not Avro: {error}")))?;
        Ok(Self { id, kind, record, schema })
    }
}

fn own_json(kind: RecordKind) -> Result<Value, CodecError> {
    serde_json::from_str(kind.schema())
        .map_err(|error| CodecError::Build { detail: format!("schemas/{}.avsc: {error}", kind.file()) })
}

fn unqualified(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

struct KnownEnum {
    symbols: Vec<Value>,
    default: Value,
}

fn enum_parts(node: &Value) -> Option<(&str, &Vec<Value>)> {
    let is_enum = node.get("type").and_then(Value::as_str) == Some("enum");
    is_enum.then_some(())?;
    Some((unqualified(node.get("name")?.as_str()?), node.get("symbols")?.as_array()?))
}

fn collect_enums(node: &Value, known: &mut BTreeMap<String, KnownEnum>) {
    if let (Some((name, symbols)), Some(default)) = (enum_parts(node), node.get("default")) {
        known.insert(name.to_owned(), KnownEnum { symbols: symbols.clone(), default: default.clone() });
    }
    match node {
        Value::Array(items) => items.iter().for_each(|item| collect_enums(item, known)),
        Value::Object(members) => members.values().for_each(|member| collect_enums(member, known)),
        _ => {}
    }
}

fn replace_unknown_symbols(node: &mut Value, known: &BTreeMap<String, KnownEnum>) {
    let ours = enum_parts(node).and_then(|(name, _)| known.get(name));
    if let (Some(ours), Some(symbols)) = (ours, node.get_mut("symbols").and_then(Value::as_array_mut)) {
        symbols.iter_mut().filter(|symbol| !ours.symbols.contains(symbol)).for_each(|symbol| *symbol = ours.default.clone());
    }
    match node {
        Value::Array(items) => items.iter_mut().for_each(|item| replace_unknown_symbols(item, known)),
        Value::Object(members) => members.values_mut().for_each(|member| replace_unknown_symbols(member, known)),
        _ => {}
    }
}
