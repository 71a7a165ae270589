//! Columns of values as a Parquet file, and back. Knows Parquet, and nothing of what the columns mean.

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::{ByteArray, DataType};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::{Type, TypePtr};
use std::fs::File;
use std::sync::Arc;

/// The values of one column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cells {
    Texts(Vec<ByteArray>),
    Flags(Vec<bool>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    /// Milliseconds since 1970, UTC.
    Times(Vec<i64>),
    Floats(Vec<f32>),
    /// May be absent.
    Doubles(Vec<Option<f64>>),
}

pub(super) type Named = (String, Cells);

impl Cells {
    fn schema(&self, name: &str) -> Result<Type> {
        let (physical, logical) = match self {
            Self::Texts(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Self::Flags(_) => (Physical::BOOLEAN, None),
            Self::Ints(_) => (Physical::INT32, None),
            Self::Longs(_) => (Physical::INT64, None),
            Self::Times(_) => (Physical::INT64, Some(LogicalType::timestamp(true, ::parquet::basic::TimeUnit::MILLIS))),
            Self::Floats(_) => (Physical::FLOAT, None),
            Self::Doubles(_) => (Physical::DOUBLE, None),
        };
        let repetition = if matches!(self, Self::Doubles(_)) { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        Type::primitive_type_builder(name, physical).with_logical_type(logical).with_repetition(repetition).build()
    }

    /// As many of them as there are, at the end of what is written already.
    fn write(&self, writer: &mut ColumnWriter<'_>) -> Result<usize> {
        match (self, writer) {
            (Self::Texts(values), ColumnWriter::ByteArrayColumnWriter(writer)) => writer.write_batch(values, None, None),
            (Self::Flags(values), ColumnWriter::BoolColumnWriter(writer)) => writer.write_batch(values, None, None),
            (Self::Ints(values), ColumnWriter::Int32ColumnWriter(writer)) => writer.write_batch(values, None, None),
            (Self::Longs(values) | Self::Times(values), ColumnWriter::Int64ColumnWriter(writer)) => {
                writer.write_batch(values, None, None)
            }
            (Self::Floats(values), ColumnWriter::FloatColumnWriter(writer)) => writer.write_batch(values, None, None),
            (Self::Doubles(values), ColumnWriter::DoubleColumnWriter(writer)) => {
                let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let present: Vec<f64> = values.iter().flatten().copied().collect();
                writer.write_batch(&present, Some(&levels), None)
            }
            _ => Err(ParquetError::General("a column of another type".to_owned())),
        }
    }

    fn read(&mut self, reader: ColumnReader, rows: usize) -> Result<()> {
        match (self, reader) {
            (Self::Texts(values), ColumnReader::ByteArrayColumnReader(reader)) => read_all(reader, rows, values),
            (Self::Flags(values), ColumnReader::BoolColumnReader(reader)) => read_all(reader, rows, values),
            (Self::Ints(values), ColumnReader::Int32ColumnReader(reader)) => read_all(reader, rows, values),
            (Self::Longs(values) | Self::Times(values), ColumnReader::Int64ColumnReader(reader)) => {
                read_all(reader, rows, values)
            }
            (Self::Floats(values), ColumnReader::FloatColumnReader(reader)) => read_all(reader, rows, values),
            (Self::Doubles(values), ColumnReader::DoubleColumnReader(mut reader)) => {
                let (mut present, mut levels) = (Vec::new(), Vec::new());
                reader.read_records(rows, Some(&mut levels), None, &mut present)?;
                let mut present = present.into_iter();
                values.extend(levels.into_iter().map(|level| if level > 0 { present.next() } else { None }));
                Ok(())
            }
            _ => Err(ParquetError::General("holds a column of another type".to_owned())),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Texts(values) => values.len(),
            Self::Flags(values) => values.len(),
            Self::Ints(values) => values.len(),
            Self::Longs(values) | Self::Times(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Doubles(values) => values.len(),
        }
    }
}

fn read_all<T: DataType>(mut reader: ColumnReaderImpl<T>, rows: usize, into: &mut Vec<T::T>) -> Result<()> {
    // A column that cannot be absent has no levels.
    reader.read_records(rows, None, None, into).map(|_| ())
}

/// `chunk(n)` gives the columns of the n-th group of rows, each time the same columns; `None` after the last.
pub(super) fn write(file: File, mut chunk: impl FnMut(usize) -> Option<Vec<Named>>) -> Result<()> {
    let mut next = chunk(0);
    let fields: Result<Vec<TypePtr>> = next.iter().flatten().map(|(name, cells)| cells.schema(name).map(Arc::new)).collect();
    let schema = Arc::new(Type::group_type_builder("row").with_fields(fields?).build()?);
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
    let mut number = 0;
    while let Some(columns) = next {
        let mut group = writer.next_row_group()?;
        for (_, cells) in &columns {
            let Some(mut column) = group.next_column()? else { break };
            cells.write(column.untyped())?;
            column.close()?;
        }
        group.close()?;
        number += 1;
        next = chunk(number);
    }
    writer.close().map(|_| ())
}

/// Fills `columns`, which are found by name; others are skipped.
pub(super) fn read(file: File, columns: &mut [Named]) -> Result<()> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let missing = |name: &str| ParquetError::General(format!("has no column {name:?}"));
    let mut places = Vec::with_capacity(columns.len());
    for (name, _) in columns.iter() {
        let place = (0..schema.num_columns()).find(|&place| schema.column(place).name() == name);
        places.push(place.ok_or_else(|| missing(name))?);
    }
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
        for ((_, cells), &place) in columns.iter_mut().zip(&places) {
            cells.read(group.get_column_reader(place)?, rows)?;
        }
    }
    Ok(())
}
