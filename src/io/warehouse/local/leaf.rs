//! Rows as columns, and columns as Parquet: the values of each column with the levels that say which are absent and which belong to one list.
//!
//! Owns the files' schema. What is written is what can be read: files are merged by their columns as they lie, without a row being made
//! of them. Never knows where a file lies.

use super::super::{Cell, Column, ColumnType, Row, Table};
use ::parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::column::writer::{ColumnWriter, ColumnWriterImpl};
use ::parquet::data_type::{ByteArray, DataType};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::{ColumnPath, Type, TypePtr};
use std::fs::File;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
enum Values {
    Texts(Vec<ByteArray>),
    Flags(Vec<bool>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
}

/// One column: its values one behind the other, those of lists too.
#[derive(Clone, Debug, PartialEq)]
struct Leaf {
    /// Levels of definition: one for each of absent-or-there, empty-or-not.
    def_max: i16,
    /// How deep its lists are.
    rep_max: i16,
    is_nullable: bool,
    values: Values,
    defs: Vec<i16>,
    reps: Vec<i16>,
}

/// Rows of one table that are not in a file yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Batch {
    table: Arc<Table>,
    leaves: Vec<Leaf>,
    rows: usize,
}

impl Leaf {
    fn new(column: &Column) -> Self {
        let (values, def, rep_max) = match column.kind {
            ColumnType::Text | ColumnType::Json => (Values::Texts(Vec::new()), 0, 0),
            ColumnType::Bool => (Values::Flags(Vec::new()), 0, 0),
            ColumnType::Int => (Values::Ints(Vec::new()), 0, 0),
            ColumnType::Long | ColumnType::Timestamp => (Values::Longs(Vec::new()), 0, 0),
            ColumnType::Double => (Values::Doubles(Vec::new()), 0, 0),
            ColumnType::Texts => (Values::Texts(Vec::new()), 1, 1),
            ColumnType::Floats => (Values::Floats(Vec::new()), 1, 1),
            ColumnType::Doubles => (Values::Doubles(Vec::new()), 2, 1),
            ColumnType::FloatLists => (Values::Floats(Vec::new()), 2, 2),
        };
        let def_max = def + i16::from(column.nullable);
        Self { def_max, rep_max, is_nullable: column.nullable, values, defs: Vec::new(), reps: Vec::new() }
    }

    fn level(&mut self, def: i16, rep: i16) {
        if self.def_max > 0 {
            self.defs.push(def);
        }
        if self.rep_max > 0 {
            self.reps.push(rep);
        }
    }

    /// False: the column cannot hold it.
    fn push(&mut self, cell: Cell) -> bool {
        let base = i16::from(self.is_nullable);
        match (&mut self.values, cell) {
            (_, Cell::Null) if !self.is_nullable => return false,
            (_, Cell::Null) => {
                self.level(0, 0);
                return true;
            }
            (Values::Texts(values), Cell::Text(text)) => values.push(ByteArray::from(text.into_bytes())),
            (Values::Flags(values), Cell::Flag(flag)) => values.push(flag),
            (Values::Ints(values), Cell::Int(number)) => values.push(number),
            (Values::Longs(values), Cell::Long(number) | Cell::Time(number)) => values.push(number),
            (Values::Doubles(values), Cell::Double(number)) => values.push(number),
            (Values::Texts(values), Cell::Texts(list)) if self.rep_max == 1 => {
                let count = list.len();
                values.extend(list.into_iter().map(|text| ByteArray::from(text.into_bytes())));
                return self.list(base, std::iter::repeat_n(true, count));
            }
            (Values::Floats(values), Cell::Floats(list)) if self.rep_max == 1 => {
                values.extend_from_slice(&list);
                return self.list(base, std::iter::repeat_n(true, list.len()));
            }
            (Values::Doubles(values), Cell::Doubles(list)) if self.rep_max == 1 => {
                values.extend(list.iter().flatten());
                return self.list(base, list.iter().map(Option::is_some));
            }
            (Values::Floats(values), Cell::FloatLists(lists)) if self.rep_max == 2 => {
                values.extend(lists.iter().flatten());
                return self.lists(base, &lists);
            }
            _ => return false,
        }
        self.level(base, 0);
        self.rep_max == 0
    }

    /// Levels of one list, by whether each element is there.
    fn list(&mut self, base: i16, elements: impl Iterator<Item = bool>) -> bool {
        let mut rep = 0;
        for is_there in elements {
            self.level(if is_there { self.def_max } else { self.def_max - 1 }, rep);
            rep = 1;
        }
        if rep == 0 {
            self.level(base, 0);
        }
        true
    }

    fn lists(&mut self, base: i16, lists: &[Vec<f32>]) -> bool {
        if lists.is_empty() {
            self.level(base, 0);
        }
        for (index, list) in lists.iter().enumerate() {
            let begins = i16::from(index > 0);
            if list.is_empty() {
                self.level(base + 1, begins);
            }
            for element in 0..list.len() {
                self.level(base + 2, if element == 0 { begins } else { 2 });
            }
        }
        true
    }

    /// Columns of a file that is older than this one.
    fn push_absent(&mut self, rows: usize) -> Result<()> {
        if !self.is_nullable {
            return Err(ParquetError::General("lacks a column that is never absent".to_owned()));
        }
        (0..rows).for_each(|_| self.level(0, 0));
        Ok(())
    }

    fn write(&self, writer: &mut ColumnWriter<'_>) -> Result<()> {
        match (&self.values, writer) {
            (Values::Texts(values), ColumnWriter::ByteArrayColumnWriter(writer)) => self.write_all(writer, values),
            (Values::Flags(values), ColumnWriter::BoolColumnWriter(writer)) => self.write_all(writer, values),
            (Values::Ints(values), ColumnWriter::Int32ColumnWriter(writer)) => self.write_all(writer, values),
            (Values::Longs(values), ColumnWriter::Int64ColumnWriter(writer)) => self.write_all(writer, values),
            (Values::Floats(values), ColumnWriter::FloatColumnWriter(writer)) => self.write_all(writer, values),
            (Values::Doubles(values), ColumnWriter::DoubleColumnWriter(writer)) => self.write_all(writer, values),
            _ => Err(ParquetError::General("a column of another type".to_owned())),
        }
    }

    fn write_all<T: DataType>(&self, writer: &mut ColumnWriterImpl<'_, T>, values: &[T::T]) -> Result<()> {
        let (defs, reps) = ((self.def_max > 0).then_some(&*self.defs), (self.rep_max > 0).then_some(&*self.reps));
        writer.write_batch(values, defs, reps).map(|_| ())
    }

    fn read(&mut self, reader: ColumnReader, rows: usize) -> Result<()> {
        let (defs, reps) = (&mut self.defs, &mut self.reps);
        match (&mut self.values, reader) {
            (Values::Texts(values), ColumnReader::ByteArrayColumnReader(reader)) => read_all(reader, rows, values, (defs, reps)),
            (Values::Flags(values), ColumnReader::BoolColumnReader(reader)) => read_all(reader, rows, values, (defs, reps)),
            (Values::Ints(values), ColumnReader::Int32ColumnReader(reader)) => read_all(reader, rows, values, (defs, reps)),
            (Values::Longs(values), ColumnReader::Int64ColumnReader(reader)) => read_all(reader, rows, values, (defs, reps)),
            (Values::Floats(values), ColumnReader::FloatColumnReader(reader)) => read_all(reader, rows, values, (defs, reps)),
            (Values::Doubles(values), ColumnReader::DoubleColumnReader(reader)) => read_all(reader, rows, values, (defs, reps)),
            _ => Err(ParquetError::General("holds a column of another type".to_owned())),
        }
    }

    fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Texts(values) => values.iter().map(|text| 32 + text.len()).sum(),
            Values::Flags(values) => values.len(),
            Values::Ints(values) => 4 * values.len(),
            Values::Longs(values) => 8 * values.len(),
            Values::Floats(values) => 4 * values.len(),
            Values::Doubles(values) => 8 * values.len(),
        };
        values + 2 * (self.defs.len() + self.reps.len())
    }
}

fn read_all<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    into: &mut Vec<T::T>,
    (defs, reps): (&mut Vec<i16>, &mut Vec<i16>),
) -> Result<()> {
    let mut read = 0;
    while read < rows {
        let (records, _, _) = reader.read_records(rows - read, Some(&mut *defs), Some(&mut *reps), into)?;
        if records == 0 {
            return Err(ParquetError::General(format!("has {read} of {rows} rows")));
        }
        read += records;
    }
    Ok(())
}

impl Batch {
    pub(super) fn new(table: Arc<Table>) -> Self {
        let leaves = table.columns.iter().map(Leaf::new).collect();
        Self { table, leaves, rows: 0 }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.leaves.iter().map(Leaf::bytes).sum()
    }

    /// On an error nothing of the batch is of use any more.
    pub(super) fn push(&mut self, row: Row) -> std::result::Result<(), String> {
        if row.0.len() != self.leaves.len() {
            return Err(format!("a row of {} cells for {} columns", row.0.len(), self.leaves.len()));
        }
        for ((leaf, column), cell) in self.leaves.iter_mut().zip(&self.table.columns).zip(row.0) {
            let shown = if matches!(cell, Cell::Null) { "nothing" } else { "a value of another type" };
            if !leaf.push(cell) {
                return Err(format!("{} is given {shown}", column.name));
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Takes the rows of one group of a file.
    fn read(&mut self, group: &dyn RowGroupReader) -> Result<()> {
        let metadata = group.metadata();
        let rows = usize::try_from(metadata.num_rows()).unwrap_or_default();
        for (leaf, column) in self.leaves.iter_mut().zip(&self.table.columns) {
            let is_it = |&place: &usize| metadata.column(place).column_path().parts().first() == Some(&column.name);
            let Some(place) = (0..metadata.num_columns()).find(is_it) else {
                leaf.push_absent(rows)?;
                continue;
            };
            let described = metadata.column(place).column_descr();
            if (described.max_def_level(), described.max_rep_level()) != (leaf.def_max, leaf.rep_max) {
                return Err(ParquetError::General(format!("holds {} in another form", column.name)));
            }
            leaf.read(group.get_column_reader(place)?, rows)?;
        }
        self.rows += rows;
        Ok(())
    }
}

fn schema(table: &Table) -> Result<Arc<Type>> {
    let fields: Result<Vec<TypePtr>> = table.columns.iter().map(|column| field(column).map(Arc::new)).collect();
    Ok(Arc::new(Type::group_type_builder("row").with_fields(fields?).build()?))
}

fn field(column: &Column) -> Result<Type> {
    let repetition = if column.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let text = Some(LogicalType::String);
    let utc = Some(LogicalType::timestamp(true, TimeUnit::MILLIS));
    let name = column.name.as_str();
    match column.kind {
        ColumnType::Text | ColumnType::Json => primitive(name, Physical::BYTE_ARRAY, text, repetition),
        ColumnType::Bool => primitive(name, Physical::BOOLEAN, None, repetition),
        ColumnType::Int => primitive(name, Physical::INT32, None, repetition),
        ColumnType::Long => primitive(name, Physical::INT64, None, repetition),
        ColumnType::Double => primitive(name, Physical::DOUBLE, None, repetition),
        ColumnType::Timestamp => primitive(name, Physical::INT64, utc, repetition),
        ColumnType::Texts => list(name, primitive("element", Physical::BYTE_ARRAY, text, Repetition::REQUIRED)?, repetition),
        ColumnType::Floats => list(name, primitive("element", Physical::FLOAT, None, Repetition::REQUIRED)?, repetition),
        ColumnType::Doubles => list(name, primitive("element", Physical::DOUBLE, None, Repetition::OPTIONAL)?, repetition),
        ColumnType::FloatLists => {
            let inner =
                list("element", primitive("element", Physical::FLOAT, None, Repetition::REQUIRED)?, Repetition::REQUIRED)?;
            list(name, inner, repetition)
        }
    }
}

fn primitive(name: &str, physical: Physical, logical: Option<LogicalType>, repetition: Repetition) -> Result<Type> {
    Type::primitive_type_builder(name, physical).with_logical_type(logical).with_repetition(repetition).build()
}

/// In the three levels that Parquet wants a list to have.
fn list(name: &str, element: Type, repetition: Repetition) -> Result<Type> {
    let repeated =
        Type::group_type_builder("list").with_fields(vec![Arc::new(element)]).with_repetition(Repetition::REPEATED).build()?;
    Type::group_type_builder(name)
        .with_fields(vec![Arc::new(repeated)])
        .with_logical_type(Some(LogicalType::List))
        .with_repetition(repetition)
        .build()
}

fn properties(table: &Table) -> WriterProperties {
    let mut properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    for column in &table.columns {
        let path: &[&str] = match column.kind {
            ColumnType::Floats => &["list", "element"],
            ColumnType::FloatLists => &["list", "element", "list", "element"],
            _ => continue,
        };
        // Features hardly repeat: a dictionary of them is made and thrown away.
        let path = std::iter::once(column.name.as_str()).chain(path.iter().copied()).map(str::to_owned).collect();
        properties = properties.set_column_dictionary_enabled(ColumnPath::new(path), false);
    }
    properties.build()
}

/// Writes batches of one table, each as a group of rows; gives the file for syncing.
pub(super) struct Writer(SerializedFileWriter<File>);

impl Writer {
    pub(super) fn new(file: File, table: &Table) -> Result<Self> {
        Ok(Self(SerializedFileWriter::new(file, schema(table)?, Arc::new(properties(table)))?))
    }

    pub(super) fn write(&mut self, batch: &Batch) -> Result<()> {
        let mut group = self.0.next_row_group()?;
        for leaf in &batch.leaves {
            let Some(mut column) = group.next_column()? else { break };
            leaf.write(column.untyped())?;
            column.close()?;
        }
        group.close().map(|_| ())
    }

    pub(super) fn finish(self) -> Result<File> {
        self.0.into_inner()
    }
}

/// Hands over the rows of a file, one group after the other, on top of what is in `batch`; `visit` may take that away.
pub(super) fn read(file: File, batch: &mut Batch, mut visit: impl FnMut(&mut Batch) -> Result<()>) -> Result<()> {
    let reader = SerializedFileReader::new(file)?;
    for number in 0..reader.num_row_groups() {
        batch.read(&*reader.get_row_group(number)?)?;
        visit(batch)?;
    }
    Ok(())
}

/// Rows that a file says it has.
pub(super) fn rows_of(file: File) -> Result<u64> {
    let reader = SerializedFileReader::new(file)?;
    Ok(u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or_default())
}
