//! The tables: what `schemas/warehouse/*.toml` says of their columns, from which files, DDL and documentation are made.

use crate::io::codec::RecordKind;
use serde::Deserialize;
use thiserror::Error;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    Text,
    /// A text that is JSON.
    Json,
    Bool,
    Int,
    Long,
    Double,
    /// Milliseconds, UTC.
    Timestamp,
    Texts,
    Floats,
    /// Each may be absent.
    Doubles,
    FloatLists,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    #[serde(default)]
    pub nullable: bool,
    /// The field of the record, when it is named otherwise.
    #[serde(default)]
    from: Option<String>,
    /// Made of other fields.
    #[serde(default)]
    derived: bool,
    pub comment: String,
}

impl Column {
    /// The field of the record, as a path with dots. None: made of other fields.
    pub fn field(&self) -> Option<&str> {
        if self.derived { None } else { Some(self.from.as_deref().unwrap_or(&self.name)) }
    }
}

/// A table with its columns, those of its place in the log first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// The record whose topic fills it. None: replaced as a whole.
    pub record: Option<RecordKind>,
    pub comment: String,
    pub columns: Vec<Column>,
    /// How many of them say where a row comes from.
    pub place_columns: usize,
    /// Columns that tell its rows apart, where no topic fills it.
    pub key: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    pub tables: Vec<Table>,
}

/// A mistake in the shipped files: ours.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("schemas/warehouse/{file}: {problem}")]
pub struct CatalogueError {
    pub file: &'static str,
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceFile {
    columns: Vec<Column>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    name: String,
    #[serde(default)]
    record: Option<String>,
    comment: String,
    #[serde(default)]
    key: Vec<String>,
    columns: Vec<Column>,
}

macro_rules! files {
    ($($file:literal),+ $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($file, include_str!(concat!("../../../schemas/warehouse/", $file)))),+];
    };
}

files!["athia_predictions.toml", "athia_feedback.toml", "athia_decisions.toml", "ml_model_stages.toml", "ml_model_cards.toml"];
const PLACE: (&str, &str) = ("place.toml", include_str!("../../../schemas/warehouse/place.toml"));

impl Catalogue {
    pub fn shipped() -> Result<Self, CatalogueError> {
        let wrong = |file: &'static str| move |error: toml::de::Error| CatalogueError { file, problem: error.to_string() };
        let place: PlaceFile = toml::from_str(PLACE.1).map_err(wrong(PLACE.0))?;
        let table = |&(file, text): &(&'static str, &str)| {
            let read: TableFile = toml::from_str(text).map_err(wrong(file))?;
            let record =
                read.record.map(|name| kind_of(&name).ok_or(CatalogueError { file, problem: format!("no record {name}") }));
            let record = record.transpose()?;
            let place = if record.is_some() { place.columns.clone() } else { Vec::new() };
            let place_columns = place.len();
            let columns = place.into_iter().chain(read.columns).collect();
            Ok(Table { name: read.name, record, comment: read.comment, columns, place_columns, key: read.key })
        };
        Ok(Self { tables: FILES.iter().map(table).collect::<Result<_, _>>()? })
    }

    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Those that a topic fills.
    pub fn streamed(&self) -> impl Iterator<Item = (&Table, RecordKind)> {
        self.tables.iter().filter_map(|table| Some((table, table.record?)))
    }
}

fn kind_of(file: &str) -> Option<RecordKind> {
    RecordKind::all().find(|kind| kind.file() == file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// Paths of all fields of a record, those of records inside it included; lists, maps and alternatives are looked through.
    fn fields(schema: &Value, prefix: &str, into: &mut BTreeSet<String>) {
        match schema {
            Value::Array(alternatives) => alternatives.iter().for_each(|it| fields(it, prefix, into)),
            Value::Object(of) if of.get("type") == Some(&Value::from("record")) => {
                for field in of["fields"].as_array().unwrap() {
                    let path = format!("{prefix}{}", field["name"].as_str().unwrap());
                    fields(&field["type"], &format!("{path}."), into);
                    into.insert(path);
                }
            }
            Value::Object(of) if of.contains_key("items") => fields(&of["items"], prefix, into),
            Value::Object(of) if of["type"].is_object() || of["type"].is_array() => fields(&of["type"], prefix, into),
            _ => {}
        }
    }

    #[test]
    fn every_field_of_a_record_has_its_column() {
        let catalogue = Catalogue::shipped().unwrap();
        assert_eq!(catalogue.streamed().count(), 4);
        for (table, kind) in catalogue.streamed() {
            let mut wanted = BTreeSet::new();
            fields(&serde_json::from_str(kind.schema()).unwrap(), "", &mut wanted);
            let columns = &table.columns[table.place_columns..];
            let found: BTreeSet<&str> = columns.iter().filter_map(Column::field).collect();
            for path in &found {
                assert!(wanted.contains(*path), "{}: {} has no field {path}", table.name, kind.record());
            }
            let covers = |path: &str, column: &&Column| {
                let field = column.field();
                field == Some(path)
                    || (column.kind == ColumnType::Json && field.is_some_and(|it| path.starts_with(&format!("{it}."))))
            };
            for path in &wanted {
                let is_there = columns.iter().any(|column| covers(path, &column));
                let parts_are = wanted.iter().any(|other| other.starts_with(&format!("{path}.")));
                assert!(is_there || parts_are, "{} has no column for {path} of {}", table.name, kind.record());
            }
        }
    }

    #[test]
    fn columns_are_named_once_and_say_what_they_are() {
        for table in Catalogue::shipped().unwrap().tables {
            let names: BTreeSet<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            assert_eq!(names.len(), table.columns.len(), "{}", table.name);
            let usable = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(names.iter().all(|name| usable(name)), "{names:?}");
            assert!(table.columns.iter().all(|column| column.comment.ends_with('.')), "{}", table.name);
            assert!(table.key.is_empty() == table.record.is_some() && table.key.iter().all(|key| names.contains(key.as_str())));
        }
    }
}
