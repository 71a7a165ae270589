//! Parquet, row by row. A column is a name, or names with dots between them that lead into groups. Only what is mapped is decoded.

use super::{Cell, RawRow, listed};
use crate::io::history::HistoryError;
use crate::io::history::convert::json_text;
use ::parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::{Type, TypePtr};
use serde_json::Value;
use std::fs::File;
use std::sync::Arc;

pub(in super::super) struct ParquetRows {
    rows: RowIter<'static>,
    file: String,
    columns: Vec<Column>,
    unread: Vec<String>,
    number: u64,
    rows_total: u64,
    bytes_total: u64,
}

/// Where a column of the mapping is in a row.
struct Column {
    /// Names from the top.
    path: Vec<String>,
    clock: Clock,
}

/// What the row API does not tell of a time column.
#[derive(Clone, Copy, Default)]
struct Clock {
    /// Local time, to be read in the mapping's time zone. What has no zone in Parquet's older types counts as UTC.
    is_local: bool,
    /// By what its integers are divided to get milliseconds; `None` when they are no times.
    per_ms: Option<i64>,
}

impl ParquetRows {
    pub(super) fn open(opened: File, columns: &[String], file: String) -> Result<Self, HistoryError> {
        caught(|| Self::open_trusted(opened, columns, file.clone())).unwrap_or_else(|| {
            Err(HistoryError::Format { file, problem: "is a damaged Parquet file: its metadata contradicts itself".to_owned() })
        })
    }

    fn open_trusted(opened: File, columns: &[String], file: String) -> Result<Self, HistoryError> {
        let problem = |problem: String| HistoryError::Format { file: file.clone(), problem };
        let bytes_total = opened.metadata().map_or(0, |meta| meta.len());
        let reader =
            SerializedFileReader::new(opened).map_err(|error| problem(format!("is not a readable Parquet file: {error}")))?;
        let metadata = reader.metadata().file_metadata();
        let rows_total = metadata.num_rows().max(0) as u64;
        let root = metadata.schema_descr().root_schema().clone();
        let mut projected: Vec<TypePtr> = Vec::new();
        let mut found = Vec::with_capacity(columns.len());
        for column in columns {
            let Some(path) = resolve(root.get_fields(), column) else {
                let present = listed(root.get_fields().iter().map(|field| field.name()));
                return Err(HistoryError::MissingColumn { file, column: column.clone(), present });
            };
            let Some(top) = root.get_fields().iter().find(|field| Some(field.name()) == path.first().map(|node| node.name()))
            else {
                continue;
            };
            check_leaves(top).map_err(|leaf| problem(format!("column {column:?} has a type that cannot be read: {leaf}")))?;
            if !projected.iter().any(|known| known.name() == top.name()) {
                projected.push(top.clone());
            }
            let clock = path.last().map(|leaf| clock(leaf)).unwrap_or_default();
            found.push(Column { path: path.iter().map(|node| node.name().to_owned()).collect(), clock });
        }
        let is_read = |name: &str| projected.iter().any(|known| known.name() == name);
        let unread = root.get_fields().iter().map(|field| field.name().to_owned()).filter(|name| !is_read(name)).collect();
        let projection = Type::group_type_builder(root.name()).with_fields(projected).build();
        let rows = projection
            .and_then(|projection| RowIter::from_file_into(Box::new(reader)).project(Some(projection)))
            .map_err(|error| problem(format!("has a schema that cannot be read: {error}")))?;
        Ok(Self { rows, file, columns: found, unread, number: 0, rows_total, bytes_total })
    }

    pub(super) fn unread(&self) -> &[String] {
        &self.unread
    }

    /// Parquet is not read from front to back: the share of rows stands for the share of bytes.
    pub(super) fn bytes_read(&self) -> u64 {
        let share = u128::from(self.bytes_total) * u128::from(self.number) / u128::from(self.rows_total.max(1));
        u64::try_from(share).unwrap_or(u64::MAX).min(self.bytes_total)
    }

    /// A row that cannot be decoded ends the file: where the next one starts is not known.
    pub(super) fn next_row(&mut self) -> Result<Option<RawRow>, HistoryError> {
        let problem = |problem: String| HistoryError::Format { file: self.file.clone(), problem };
        match caught(|| self.rows.next()) {
            None => Err(problem(format!("cannot be read on after row {}: the file is damaged", self.number))),
            Some(None) => Ok(None),
            Some(Some(Ok(row))) => {
                self.number += 1;
                let cells =
                    self.columns.iter().map(|column| find(&row, &column.path).map_or(Cell::Empty, |f| cell(f, column.clock)));
                Ok(Some(RawRow { number: self.number, cells: Ok(cells.collect()), text: None }))
            }
            Some(Some(Err(error))) => Err(problem(format!("cannot be read on after row {}: {error}", self.number))),
        }
    }
}

/// The Parquet crate asserts what a damaged file may contradict: what panics in there is a fault of the file, not of ours.
/// After `None` the reader is not used again.
fn caught<T>(read: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).ok()
}

/// The types from the top down to the column.
fn resolve(fields: &[TypePtr], path: &str) -> Option<Vec<Arc<Type>>> {
    if let Some(field) = fields.iter().find(|field| field.name() == path) {
        return Some(vec![field.clone()]);
    }
    let mut ends = path.rmatch_indices('.');
    ends.find_map(|(at, _)| {
        let group = fields.iter().find(|field| field.name() == &path[..at] && field.is_group())?;
        let mut below = resolve(group.get_fields(), &path[at + 1..])?;
        below.insert(0, group.clone());
        Some(below)
    })
}

fn clock(leaf: &Type) -> Clock {
    match leaf.get_basic_info().logical_type_ref() {
        Some(LogicalType::Timestamp(time)) => {
            let per_ms = match time.unit {
                TimeUnit::MILLIS => 1,
                TimeUnit::MICROS => 1_000,
                TimeUnit::NANOS => 1_000_000,
            };
            Clock { is_local: !time.is_adjusted_to_u_t_c, per_ms: Some(per_ms) }
        }
        _ => Clock::default(),
    }
}

/// The row API panics at intervals: such a column is refused when the file is opened.
fn check_leaves(node: &Type) -> Result<(), String> {
    if node.is_group() {
        return node.get_fields().iter().try_for_each(|field| check_leaves(field));
    }
    match node.get_basic_info().converted_type() {
        ConvertedType::INTERVAL => Err("INTERVAL".to_owned()),
        _ => Ok(()),
    }
}

fn find<'a>(row: &'a Row, path: &[String]) -> Option<&'a Field> {
    let (first, rest) = path.split_first()?;
    let field = row.get_column_iter().find(|(name, _)| *name == first).map(|(_, field)| field)?;
    match (field, rest) {
        (_, []) => Some(field),
        (Field::Group(inner), rest) => find(inner, rest),
        _ => None,
    }
}

fn cell(field: &Field, clock: Clock) -> Cell {
    match (field, clock.per_ms) {
        (Field::TimestampMillis(ms), _) => time(*ms, clock.is_local),
        (Field::TimestampMicros(us), _) => time(us.div_euclid(1_000), clock.is_local),
        (Field::Long(value), Some(per_ms)) => time(value.div_euclid(per_ms), clock.is_local),
        (Field::Date(days), _) => time(i64::from(*days) * 86_400_000, true),
        _ => json_text(&json(field)).map_or(Cell::Empty, Cell::Text),
    }
}

fn time(ms: i64, is_local: bool) -> Cell {
    if is_local { Cell::WallClock(ms) } else { Cell::Instant(ms) }
}

/// Decimals as texts, exactly; what holds other values as JSON.
fn json(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) | Field::Date(value) => Value::from(*value),
        Field::Long(value) | Field::TimestampMillis(value) | Field::TimestampMicros(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float16(value) => Value::from(value.to_string()),
        Field::Float(value) => Value::from(value.to_string()),
        Field::Double(value) => Value::from(value.to_string()),
        Field::Str(text) => Value::from(text.as_str()),
        Field::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes.data())),
        Field::Group(row) => Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), json(field))).collect()),
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(json).collect()),
        Field::MapInternal(map) => {
            let entry = |(key, value): &(Field, Field)| (json_text(&json(key)).unwrap_or_default(), json(value));
            Value::Object(map.entries().iter().map(entry).collect())
        }
        Field::Decimal(_) | Field::TimeMillis(_) | Field::TimeMicros(_) => Value::from(field.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
    };
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
    use ::parquet::schema::parser::parse_message_type;
    use std::io::{Seek, Write};

    const SCHEMA: &str = "message history {
        required int64 id;
        optional binary brand (UTF8);
        required double amount;
        required fixed_len_byte_array(4) price (DECIMAL(9, 2));
        required int64 at_us (TIMESTAMP(MICROS, true));
        required int64 at_local (TIMESTAMP(MILLIS, false));
        required int64 at_ns (TIMESTAMP(NANOS, true));
        required int32 day (DATE);
        required boolean ok;
        required group routing { required binary algorithm (UTF8); }
        required int32 unused;
    }";

    macro_rules! write {
        ($group:expr, $kind:ty, $values:expr, $levels:expr) => {{
            let mut column = $group.next_column().expect("writable").expect("a column");
            column.typed::<$kind>().write_batch($values, $levels, None).expect("writable");
            column.close().expect("writable");
        }};
    }

    fn write_columns(group: &mut SerializedRowGroupWriter<'_, &mut File>) {
        write!(group, Int64Type, &[7, 8], None);
        write!(group, ByteArrayType, &[ByteArray::from("Visa")], Some(&[1, 0]));
        write!(group, DoubleType, &[19.99, 1e21], None);
        let price = |cents: i32| FixedLenByteArray::from(cents.to_be_bytes().to_vec());
        write!(group, FixedLenByteArrayType, &[price(1999), price(-5)], None);
        write!(group, Int64Type, &[1_546_300_871_256_999, 0], None);
        write!(group, Int64Type, &[1_546_300_871_000, 0], None);
        write!(group, Int64Type, &[1_546_300_871_256_999_999, i64::MIN], None);
        write!(group, Int32Type, &[17_897, i32::MAX], None);
        write!(group, BoolType, &[true, false], None);
        write!(group, ByteArrayType, &[ByteArray::from("rule"), ByteArray::from("")], None);
        write!(group, Int32Type, &[0, 0], None);
    }

    fn sample() -> File {
        let mut file = tempfile::tempfile().expect("a file");
        let schema = Arc::new(parse_message_type(SCHEMA).expect("a schema"));
        let mut writer =
            SerializedFileWriter::new(&mut file, schema, Arc::new(WriterProperties::builder().build())).expect("writable");
        for _ in 0..2 {
            let mut group = writer.next_row_group().expect("writable");
            write_columns(&mut group);
            group.close().expect("writable");
        }
        writer.close().expect("writable");
        file.rewind().expect("seekable");
        file
    }

    fn open(file: File, columns: &[&str]) -> Result<ParquetRows, HistoryError> {
        let columns: Vec<String> = columns.iter().map(|&c| c.to_owned()).collect();
        ParquetRows::open(file, &columns, "f.parquet".to_owned())
    }

    #[test]
    fn every_type_becomes_a_cell() {
        let columns =
            ["brand", "id", "amount", "price", "at_us", "at_local", "at_ns", "day", "ok", "routing.algorithm", "routing"];
        let mut rows = open(sample(), &columns).expect("readable");
        let mut got = Vec::new();
        while let Some(row) = rows.next_row().expect("readable") {
            got.push((row.number, row.cells.expect("cells")));
        }
        let text = |value: &str| Cell::Text(value.to_owned());
        let first = [
            text("Visa"),
            text("7"),
            text("19.99"),
            text("19.99"),
            Cell::Instant(1_546_300_871_256),
            Cell::WallClock(1_546_300_871_000),
            Cell::Instant(1_546_300_871_256),
            Cell::WallClock(17_897 * 86_400_000),
            text("true"),
            text("rule"),
            text("{\"algorithm\":\"rule\"}"),
        ];
        assert_eq!(got.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(got[0].1, first);
        assert_eq!(got[2].1, first, "the second row group");
        assert_eq!(got[1].1[..4], [Cell::Empty, text("8"), text("1000000000000000000000"), text("-0.05")]);
        assert_eq!(rows.bytes_read(), rows.bytes_total);
    }

    #[test]
    fn a_missing_column_says_what_is_there() {
        for column in ["bin", "routing.psp", "id.x"] {
            let error = open(sample(), &[column]).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(column) && error.contains("id, brand, amount"), "{error}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_and_no_panic() {
        let mut whole = Vec::new();
        std::io::Read::read_to_end(&mut sample(), &mut whole).expect("readable");
        let columns = ["brand", "id", "amount", "price", "at_us", "day", "ok", "routing"];
        let mut failed = 0;
        for at in (0..whole.len()).step_by(3) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xFF;
            if at % 2 == 0 {
                damaged.truncate(whole.len() - 1 - at / 2);
            }
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&damaged).expect("written");
            let ended = open(file, &columns).and_then(|mut rows| {
                for _ in 0..100 {
                    if rows.next_row()?.is_none() {
                        break;
                    }
                }
                Ok(())
            });
            failed += usize::from(ended.is_err());
        }
        assert!(failed > whole.len() / 12, "{failed} of {}", whole.len() / 3);
    }
}
