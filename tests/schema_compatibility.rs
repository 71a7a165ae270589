//! The schemas evolve compatibly, say what the contract asks for, and match the structs field for field.
//!
//! Samples are made from the schemas themselves, so that a field or symbol that only one side has shows.

#![allow(clippy::unwrap_used, clippy::panic)]

use serde_avro_fast::ser::SerializerConfig;
use serde_json::{Map, Value, json};
use smartrouter::domain::control::{ControlExperiment, ControlModel, ControlRule};
use smartrouter::domain::decision::RoutingDecision;
use smartrouter::domain::learning::{Feedback, Prediction, StatsDelta, StatsProfile};
use smartrouter::domain::payment::{PaymentAttempt, PaymentOutcome, RoutingRequest};
use smartrouter::domain::psp::{PspOutage, PspState};
use smartrouter::io::codec::{Codec, RecordKind, Wire, full_transitive};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Calls a generic check for each type that travels; returns the kinds that it was called for.
macro_rules! for_each_type {
    ($check:ident) => {
        for_each_type!($check: PaymentAttempt, PaymentOutcome, RoutingRequest, RoutingDecision, PspState, PspOutage, Prediction,
            Feedback, StatsDelta, StatsProfile, ControlModel, ControlRule, ControlExperiment)
    };
    ($check:ident: $($record:ty),+) => {{
        let kinds = [$({ $check::<$record>(); <$record as Wire>::KIND }),+];
        assert!(kinds.into_iter().eq(RecordKind::all()), "a record is not checked");
    }};
}

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn schema_of(kind: RecordKind) -> Value {
    serde_json::from_str(kind.schema()).unwrap()
}

#[test]
fn every_schema_is_fully_compatible_with_its_history() {
    for kind in RecordKind::all() {
        let history: Vec<&str> = kind.published().iter().map(|published| published.schema).collect();
        if let Err(error) = full_transitive(kind.schema(), &history) {
            panic!("schemas/{}.avsc: {error}", kind.file());
        }
    }
}

/// Bytes under one id must have one schema: a change needs a further version with an id of its own.
#[test]
fn the_last_published_version_is_the_current_schema() {
    for kind in RecordKind::all() {
        let last: Value = serde_json::from_str(kind.published().last().unwrap().schema).unwrap();
        assert_eq!(
            without_docs(&last),
            without_docs(&schema_of(kind)),
            "schemas/{}.avsc changed without a new version",
            kind.file()
        );
    }
}

fn without_docs(node: &Value) -> Value {
    match node {
        Value::Array(items) => items.iter().map(without_docs).collect(),
        Value::Object(members) => {
            let kept = members.iter().filter(|(key, value)| *key != "doc" || !value.is_string());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_docs(value))).collect())
        }
        _ => node.clone(),
    }
}

#[test]
fn every_file_of_the_history_is_published_and_every_schema_has_one() {
    let mut files = BTreeSet::new();
    for record in std::fs::read_dir(schemas().join("history")).unwrap() {
        let record = record.unwrap();
        for version in std::fs::read_dir(record.path()).unwrap() {
            files.insert(format!("{}/{}", record.file_name().display(), version.unwrap().file_name().display()));
        }
    }
    let published =
        RecordKind::all().flat_map(|kind| (1..=kind.published().len()).map(move |n| format!("{}/{n}.avsc", kind.file())));
    assert_eq!(files, published.collect::<BTreeSet<_>>());

    let current = std::fs::read_dir(schemas()).unwrap().map(|entry| entry.unwrap().path());
    let current = current.filter(|path| path.extension().is_some_and(|e| e == "avsc"));
    let stems: BTreeSet<String> = current.map(|path| path.file_stem().unwrap().display().to_string()).collect();
    assert_eq!(stems, RecordKind::all().map(|kind| kind.file().to_owned()).collect());
}

/// Builds a datum (as JSON) of a schema.
struct Sample<'a> {
    named: BTreeMap<String, &'a Value>,
    /// Whether fields with a default, optional ones among them, are set.
    full: bool,
    /// Which symbol of each enum: over the rounds, each comes up.
    round: usize,
    /// An enum that gets a symbol that nobody knows.
    foreign_enum: Option<&'a str>,
    count: i64,
}

impl<'a> Sample<'a> {
    fn new(full: bool, round: usize) -> Self {
        Self { named: BTreeMap::new(), full, round, foreign_enum: None, count: 0 }
    }

    fn of(&mut self, schema: &'a Value) -> Value {
        self.count += 1;
        let name = match schema {
            Value::String(name) => name.as_str(),
            Value::Array(branches) if self.full => return self.of(&branches[1]),
            Value::Array(_) => return Value::Null,
            _ => schema["type"].as_str().unwrap(),
        };
        match name {
            "string" => format!("s{}", self.count).into(),
            "int" | "long" => self.count.into(),
            "float" | "double" => (self.count as f64 + 0.5).into(),
            "boolean" => self.full.into(),
            "array" if self.full => json!([self.of(&schema["items"]), self.of(&schema["items"])]),
            "array" => json!([]),
            "map" => json!({"k": self.of(&schema["values"])}),
            "enum" => self.symbol(schema),
            "record" => self.record(schema),
            name => {
                let definition = self.named[name];
                self.of(definition)
            }
        }
    }

    fn symbol(&mut self, schema: &'a Value) -> Value {
        let name = schema["name"].as_str().unwrap();
        self.named.insert(name.to_owned(), schema);
        let symbols = schema["symbols"].as_array().unwrap();
        if self.foreign_enum == Some(name) { "NO_SUCH".into() } else { symbols[self.round % symbols.len()].clone() }
    }

    fn record(&mut self, schema: &'a Value) -> Value {
        self.named.insert(schema["name"].as_str().unwrap().to_owned(), schema);
        let mut datum = Map::new();
        for field in schema["fields"].as_array().unwrap() {
            let value = self.of(&field["type"]);
            let default = field.get("default").filter(|_| !self.full);
            datum.insert(field["name"].as_str().unwrap().to_owned(), default.cloned().unwrap_or(value));
        }
        Value::Object(datum)
    }
}

fn round_trip<T: Wire>() {
    let (codec, schema) = (Codec::from_ids().unwrap(), schema_of(T::KIND));
    for (full, round) in (0..9).map(|round| (true, round)).chain([(false, 1)]) {
        let sample = Sample::new(full, round).of(&schema);
        let value: T = serde_json::from_value(sample.clone()).unwrap_or_else(|error| panic!("{}: {error}", T::KIND.file()));
        assert_eq!(serde_json::to_value(&value).unwrap(), sample, "{}: schema and struct differ", T::KIND.file());
        let mut bytes = Vec::new();
        codec.encode(&value, &mut bytes).unwrap();
        let back: T = codec.decode(&bytes).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), sample, "{}: lost on the way", T::KIND.file());
    }
}

#[test]
fn full_and_minimal_records_round_trip() {
    for_each_type!(round_trip);
}

/// serde names the variants that it expects; they must be the symbols of the schema.
fn same_symbols<T: Wire>() {
    let schema = schema_of(T::KIND);
    let mut sample = Sample::new(true, 0);
    sample.of(&schema);
    for (name, definition) in sample.named.iter().filter(|(_, definition)| definition["type"] == "enum") {
        let mut foreign = Sample::new(true, 0);
        foreign.foreign_enum = Some(name);
        let error = serde_json::from_value::<T>(foreign.of(&schema)).err().unwrap().to_string();
        let mut variants: Vec<&str> = error.split('`').skip(1).step_by(2).filter(|text| *text != "NO_SUCH").collect();
        let mut symbols: Vec<&str> =
            definition["symbols"].as_array().unwrap().iter().map(|symbol| symbol.as_str().unwrap()).collect();
        variants.sort_unstable();
        symbols.sort_unstable();
        assert_eq!(variants, symbols, "{}: {name}", T::KIND.file());
    }
}

#[test]
fn enums_have_the_same_symbols_on_both_sides() {
    for_each_type!(same_symbols);
}

/// A writer that does not know any field that has a default: our struct takes the default that our schema states.
fn defaults_agree<T: Wire>() {
    let schema = schema_of(T::KIND);
    let sample = Sample::new(false, 1).of(&schema);
    let mut older = schema.clone();
    let mut definitions = BTreeMap::new();
    let dropped = drop_defaulted(&mut older, &mut definitions);
    let writer: serde_avro_fast::Schema = older.to_string().parse().unwrap();
    let datum =
        serde_avro_fast::to_datum_vec(&shaped(&sample, &older, &definitions), &mut SerializerConfig::new(&writer)).unwrap();
    let codec = Codec::from_ids().unwrap();
    codec.add_writer(1000, &older.to_string()).unwrap();
    let read: T = codec.decode(&[&[0, 0, 0, 3, 232], datum.as_slice()].concat()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), sample, "{}: {dropped} fields dropped", T::KIND.file());
}

/// Removes the fields that have a default, and counts them; notes the definitions that are left.
fn drop_defaulted(node: &mut Value, definitions: &mut BTreeMap<String, Value>) -> usize {
    let Some(fields) = node.get_mut("fields").and_then(Value::as_array_mut) else {
        return node.get_mut("items").map_or(0, |items| drop_defaulted(items, definitions));
    };
    let before = fields.len();
    // A later field may name a type that a dropped one defines: keep such a dropped field.
    let all = Value::from(fields.clone()).to_string();
    fields.retain(|field| {
        let defines = field["type"].to_string();
        field.get("default").is_none() || (defines.contains("\"symbols\"") && all.matches(&name_in(&defines)).count() > 1)
    });
    let dropped = before - fields.len();
    let nested: usize = fields.iter_mut().map(|field| drop_defaulted(&mut field["type"], definitions)).sum();
    definitions.insert(node["name"].as_str().unwrap().to_owned(), node.clone());
    dropped + nested
}

fn name_in(schema: &str) -> String {
    let at = schema.find("\"name\":\"").unwrap() + 8;
    schema[at..].split('"').next().map(|name| format!("\"{name}\"")).unwrap()
}

/// The sample without the members that the schema does not have.
fn shaped(sample: &Value, schema: &Value, definitions: &BTreeMap<String, Value>) -> Value {
    let schema = schema.as_str().and_then(|name| definitions.get(name)).unwrap_or(schema);
    let Some(fields) = schema.get("fields").and_then(Value::as_array) else { return sample.clone() };
    let member = |field: &Value| {
        let name = field["name"].as_str().unwrap();
        (name.to_owned(), shaped(&sample[name], &field["type"], definitions))
    };
    Value::Object(fields.iter().map(member).collect())
}

#[test]
fn the_structs_take_the_defaults_of_the_schemas() {
    for_each_type!(defaults_agree);
}

/// Calls `check` with each field and, where it is one, each type definition of a schema.
fn walk(node: &Value, check: &mut dyn FnMut(&Value)) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| walk(item, check)),
        Value::Object(members) => {
            check(node);
            members.iter().filter(|(key, _)| *key != "default").for_each(|(_, member)| walk(member, check));
        }
        _ => {}
    }
}

fn is_field(node: &Value) -> bool {
    node.get("name").is_some() && !matches!(node["type"].as_str(), Some("record" | "enum" | "fixed"))
}

#[test]
fn no_schema_has_room_for_a_card_number() {
    let forbidden =
        ["pan", "cvv", "cvc", "cvv2", "track", "track1", "track2", "magstripe", "pin", "expiry", "expires", "cardholder"];
    let smells = |name: &str| name.contains("card_number") || name.split('_').any(|word| forbidden.contains(&word));
    assert!(smells("track2_data") && smells("card_number") && smells("pan") && !smells("company"));
    for kind in RecordKind::all() {
        walk(&schema_of(kind), &mut |node| {
            let name = node.get("name").and_then(Value::as_str).unwrap_or("");
            // Whether a verification value was sent is a flag, and may be known.
            let is_flag = name == "cvv_sent" && node["type"] == "boolean";
            assert!(!is_field(node) || is_flag || !smells(name), "schemas/{}.avsc: {name}", kind.file());
        });
    }
}

#[test]
fn schemas_keep_the_conventions_of_the_contract() {
    let times = ["at", "since", "watermark", "tile_start", "not_before"];
    for kind in RecordKind::all() {
        let schema = schema_of(kind);
        assert_eq!((&schema["namespace"], &schema["name"]), (&json!("smartrouter.v1"), &json!(kind.record())));
        walk(&schema, &mut |node| {
            let Some(name) = node.get("name").and_then(Value::as_str) else { return };
            let at = format!("schemas/{}.avsc: {name}", kind.file());
            assert!(node["doc"].as_str().is_some_and(|doc| doc.len() > 3), "{at} has no doc");
            if node["type"] == "enum" {
                assert_eq!((&node["symbols"][0], &node["default"]), (&json!("UNKNOWN"), &json!("UNKNOWN")), "{at}");
            }
            if is_field(node) {
                let is_time = times.contains(&name) || name.ends_with("_at");
                let branches = node["type"].as_array().map_or(std::slice::from_ref(&node["type"]), Vec::as_slice);
                let says_time = branches.iter().any(|branch| branch["logicalType"] == "timestamp-millis");
                assert_eq!(says_time, is_time, "{at}: a time, or not");
                assert_eq!(name, name.to_ascii_lowercase(), "{at}: snake_case");
            }
            if let Some(branches) = node["type"].as_array() {
                assert_eq!((&branches[0], node.get("default")), (&json!("null"), Some(&Value::Null)), "{at}: optional");
            }
        });
    }
}
