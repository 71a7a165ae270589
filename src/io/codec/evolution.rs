//! Whether a schema may follow its earlier versions.

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use serde_json::{Map, Value};
use std::collections::HashMap;
use thiserror::Error;

/// A version that one side cannot read, or not always.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reader} cannot read {writer}: {detail}")]
pub struct Incompatible {
    pub reader: String,
    pub writer: String,
    pub detail: String,
}

/// `FULL_TRANSITIVE`: the current schema reads every earlier version whatever was written, and every earlier version reads it.
pub fn full_transitive(current: &str, history: &[&str]) -> Result<(), Incompatible> {
    let current = ("the current schema".to_owned(), parse("the current schema", current)?);
    for (index, text) in history.iter().enumerate() {
        let name = format!("version {}", index + 1);
        let earlier = (name.clone(), parse(&name, text)?);
        reads(&current, &earlier)?;
        reads(&earlier, &current)?;
    }
    Ok(())
}

fn reads(reader: &(String, Schema), writer: &(String, Schema)) -> Result<(), Incompatible> {
    let detail = match SchemaCompatibility::can_read(&writer.1, &reader.1) {
        Ok(Compatibility::Full) => return Ok(()),
        Ok(Compatibility::Partial) => {
            "some values cannot be resolved (a symbol without default, or a branch of a union)".to_owned()
        }
        Err(error) => error.to_string(),
    };
    Err(Incompatible { reader: reader.0.clone(), writer: writer.0.clone(), detail })
}

/// Parses with every named type written out at each use: the compatibility check takes a name and its definition for different
/// types, so that moving the first use of a type would look like a change.
fn parse(name: &str, text: &str) -> Result<Schema, Incompatible> {
    let unusable = |detail: String| Incompatible { reader: "Avro".to_owned(), writer: name.to_owned(), detail };
    let json: Value = serde_json::from_str(text).map_err(|error| unusable(error.to_string()))?;
    Schema::parse(&json).map_err(|error| unusable(error.to_string()))?;
    let written_out = Definitions::default().write_out(&json);
    Schema::parse(&written_out).map_err(|error| unusable(error.to_string()))
}

#[derive(Default)]
struct Definitions {
    of_name: HashMap<String, Value>,
    /// Each copy of a definition gets a namespace of its own, since a name may be defined once; names compare without namespace.
    copies: usize,
}

impl Definitions {
    fn write_out(&mut self, node: &Value) -> Value {
        match node {
            Value::String(name) => match self.of_name.get(unqualified(name)).cloned() {
                Some(definition) => self.write_out(&definition),
                None => node.clone(),
            },
            Value::Array(branches) => branches.iter().map(|branch| self.write_out(branch)).collect(),
            Value::Object(members) => self.write_out_object(node, members.clone()),
            _ => node.clone(),
        }
    }

    fn write_out_object(&mut self, node: &Value, mut members: Map<String, Value>) -> Value {
        for inner in ["items", "values"] {
            if let Some(element) = members.get_mut(inner) {
                *element = self.write_out(element);
            }
        }
        for field in members.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(of_field) = field.get_mut("type") {
                *of_field = self.write_out(of_field);
            }
        }
        if let Some(name) = members.get("name").and_then(Value::as_str).map(|name| unqualified(name).to_owned()) {
            self.copies += 1;
            members.insert("namespace".to_owned(), format!("copy{}", self.copies).into());
            members.insert("name".to_owned(), name.clone().into());
            self.of_name.entry(name).or_insert_with(|| node.clone());
        }
        Value::Object(members)
    }
}

fn unqualified(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"{"type": "record", "name": "R", "namespace": "n", "fields": [
        {"name": "a", "type": "int"},
        {"name": "b", "type": ["null", "string"], "default": null},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["UNKNOWN", "X"], "default": "UNKNOWN"}},
        {"name": "f", "type": {"type": "enum", "name": "F", "symbols": ["X", "Y"]}},
        {"name": "g", "type": {"type": "record", "name": "G", "fields": [{"name": "x", "type": "long"}]}},
        {"name": "h", "type": ["null", "G"], "default": null},
        {"name": "e2", "type": "E"}]}"#;

    fn check(what: &str, from: &str, to: &str, want: bool) {
        assert!(BASE.contains(from), "{what}: the row does not apply");
        let changed = BASE.replacen(from, to, 1);
        let got = full_transitive(&changed, &[BASE]);
        assert_eq!(got.is_ok(), want, "{what}: {got:?}");
    }

    #[test]
    fn tells_compatible_changes_from_others() {
        check("nothing", "R", "R", true);
        check("field removed that has no default", r#"{"name": "a", "type": "int"},"#, "", false);
        check("field removed that has a default", r#"{"name": "b", "type": ["null", "string"], "default": null},"#, "", true);
        check("field added without default", r#"{"name": "a""#, r#"{"name": "new", "type": "int"}, {"name": "a""#, false);
        check(
            "field added with default",
            r#"{"name": "a""#,
            r#"{"name": "new", "type": "int", "default": 0}, {"name": "a""#,
            true,
        );
        check("field renamed", r#""name": "a""#, r#""name": "renamed""#, false);
        check(
            "fields reordered",
            r#"{"name": "a", "type": "int"},"#,
            r#"{"name": "b2", "type": "int", "default": 1}, {"name": "a", "type": "int"},"#,
            true,
        );
        check("type widened, so that old readers fail", r#""type": "int""#, r#""type": "long""#, false);
        check("type changed", r#""type": "int""#, r#""type": "string""#, false);
        check(
            "made optional, so that old readers fail",
            r#""type": "int""#,
            r#""type": ["null", "int"], "default": null"#,
            false,
        );
        check("branch added to a union", r#"["null", "string"]"#, r#"["null", "string", "long"]"#, false);
        check("symbol added, enum has a default", r#""UNKNOWN", "X""#, r#""UNKNOWN", "X", "Z""#, true);
        check("symbol removed, enum has a default", r#""UNKNOWN", "X""#, r#""UNKNOWN""#, true);
        check("symbol added, no default", r#""X", "Y""#, r#""X", "Y", "Z""#, false);
        check("symbol removed, no default", r#""X", "Y""#, r#""X""#, false);
        check("enum loses its default and a symbol", r#""UNKNOWN", "X"], "default": "UNKNOWN""#, r#""UNKNOWN"]"#, false);
        check("record renamed", r#""name": "R""#, r#""name": "S""#, false);
        check("nested type changed, also behind a union", r#""x", "type": "long""#, r#""x", "type": "string""#, false);
        check("not JSON", r#"{"type": "record""#, "", false);
    }

    #[test]
    fn the_place_of_a_definition_does_not_matter() {
        let first = r#"{"type": "record", "name": "R", "fields": [
            {"name": "p", "type": {"type": "enum", "name": "E", "symbols": ["U"], "default": "U"}}, {"name": "q", "type": "E"}]}"#;
        let second = r#"{"type": "record", "name": "R", "fields": [
            {"name": "q", "type": {"type": "enum", "name": "E", "symbols": ["U"], "default": "U"}}, {"name": "p", "type": "E"}]}"#;
        assert_eq!(full_transitive(second, &[first]), Ok(()));
    }

    #[test]
    fn every_earlier_version_counts() {
        let two = BASE.replacen(r#"{"name": "a""#, r#"{"name": "n", "type": "int", "default": 0}, {"name": "a""#, 1);
        let three = BASE.replacen(r#"{"name": "a""#, r#"{"name": "n", "type": "string", "default": ""}, {"name": "a""#, 1);
        assert_eq!(full_transitive(&three, &[BASE]), Ok(()));
        assert_eq!(full_transitive(&three, &[BASE, &two]).unwrap_err().writer, "version 2");
    }
}
