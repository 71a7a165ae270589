//! Which columns the files of a dataset have.

use super::DatasetError;
use super::columns::{self, Cells, Named};
use crate::domain::PspId;
use crate::learn::{Alternative, Column, ColumnKind, Row, Table};
use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use std::fs::File;
use std::path::Path;

/// Rows that are held a second time while they are written.
const ROWS_PER_GROUP: usize = 65_536;

/// What the files, or whoever reads them, cannot hold.
pub(super) fn check(table: &Table) -> Result<(), DatasetError> {
    let width = table.columns.len();
    let wrong = |problem: String| Err(DatasetError::Table { problem });
    if table.values.len() != table.rows.len() * width {
        return wrong(format!("{} values are not {} rows of {width} columns", table.values.len(), table.rows.len()));
    }
    for (index, alternative) in table.alternatives.iter().enumerate() {
        if alternative.values.len() != width {
            return wrong(format!("alternative {index} has {} values for {width} columns", alternative.values.len()));
        }
        if alternative.row as usize >= table.rows.len() {
            return wrong(format!("alternative {index} is of row {}, which is not there", alternative.row));
        }
    }
    if i32::try_from(table.rows.len()).is_err() {
        return wrong("more than 2,147,483,647 rows; build it by shorter ranges of time".to_owned());
    }
    Ok(())
}

fn text<'a>(values: impl Iterator<Item = &'a str>) -> Cells {
    Cells::Texts(values.map(ByteArray::from).collect())
}

fn named(name: &str, cells: Cells) -> Named {
    (name.to_owned(), cells)
}

/// One column for each feature: `value(row, column)`.
fn features(columns: &[Column], rows: usize, value: impl Fn(usize, usize) -> f32) -> impl Iterator<Item = Named> {
    columns.iter().enumerate().map(move |(place, column)| {
        let values = (0..rows).map(|row| value(row, place));
        let cells = match column.kind {
            ColumnKind::Number | ColumnKind::Rate => Cells::Floats(values.collect()),
            ColumnKind::Category { .. } => Cells::Ints(values.map(|code| code as i32).collect()),
        };
        (format!("f_{}", column.name), cells)
    })
}

fn empty_features(columns: &[Column]) -> impl Iterator<Item = Named> {
    features(columns, 0, |_, _| 0.0)
}

fn row_columns(rows: &[Row]) -> Vec<Named> {
    vec![
        named("attempt_id", text(rows.iter().map(|row| row.attempt_id.as_str()))),
        named("payment_id", text(rows.iter().map(|row| row.payment_id.as_str()))),
        named("attempt_number", Cells::Ints(rows.iter().map(|row| row.attempt_number).collect())),
        named("attempted_at", Cells::Times(rows.iter().map(|row| row.attempted_at).collect())),
        named("psp_id", text(rows.iter().map(|row| row.psp_id.as_str()))),
        named("approved", Cells::Flags(rows.iter().map(|row| row.approved).collect())),
        named("amount_minor", Cells::Longs(rows.iter().map(|row| row.amount_minor).collect())),
        named("currency", text(rows.iter().map(|row| row.currency.as_str()))),
        named("brand", text(rows.iter().map(|row| row.brand.as_str()))),
        named("issuer_country", text(rows.iter().map(|row| row.issuer_country.as_str()))),
        named("propensity", Cells::Doubles(rows.iter().map(|row| row.propensity).collect())),
        named("fee_success_minor", Cells::Longs(rows.iter().map(|row| row.fee_minor[0]).collect())),
        named("fee_failure_minor", Cells::Longs(rows.iter().map(|row| row.fee_minor[1]).collect())),
    ]
}

fn alternative_columns(alternatives: &[Alternative]) -> Vec<Named> {
    vec![
        named("row", Cells::Ints(alternatives.iter().map(|it| it.row as i32).collect())),
        named("psp_id", text(alternatives.iter().map(|it| it.psp_id.as_str()))),
        named("propensity", Cells::Doubles(alternatives.iter().map(|it| it.propensity).collect())),
        named("fee_success_minor", Cells::Longs(alternatives.iter().map(|it| it.fee_minor[0]).collect())),
        named("fee_failure_minor", Cells::Longs(alternatives.iter().map(|it| it.fee_minor[1]).collect())),
    ]
}

pub(super) fn write_rows(path: &Path, table: &Table) -> Result<(), DatasetError> {
    let width = table.columns.len();
    write_groups(path, table.rows.len(), |first, rows| {
        let mut columns = row_columns(&table.rows[first..first + rows]);
        columns.extend(features(&table.columns, rows, |row, column| table.values[(first + row) * width + column]));
        columns
    })
}

pub(super) fn write_alternatives(path: &Path, table: &Table) -> Result<(), DatasetError> {
    write_groups(path, table.alternatives.len(), |first, rows| {
        let alternatives = &table.alternatives[first..first + rows];
        let mut columns = alternative_columns(alternatives);
        columns.extend(features(&table.columns, rows, |row, column| alternatives[row].values[column]));
        columns
    })
}

/// A file without rows still tells its columns.
fn write_groups(path: &Path, total: usize, columns: impl Fn(usize, usize) -> Vec<Named>) -> Result<(), DatasetError> {
    let file = File::create(path).map_err(DatasetError::io(path))?;
    let written = columns::write(file, |number| {
        let first = number * ROWS_PER_GROUP;
        (first < total || number == 0).then(|| columns(first, ROWS_PER_GROUP.min(total - first)))
    });
    written.map_err(|error| DatasetError::Io { file: path.display().to_string(), source: std::io::Error::other(error) })
}

fn read_columns(path: &Path, columns: &mut [Named]) -> Result<usize, DatasetError> {
    let file = File::open(path).map_err(DatasetError::io(path))?;
    columns::read(file, columns).map_err(|error| DatasetError::damaged(path, plain(error)))?;
    let rows = columns.first().map_or(0, |(_, cells)| cells.len());
    if columns.iter().any(|(_, cells)| cells.len() != rows) {
        return Err(DatasetError::damaged(path, "has columns of different lengths"));
    }
    Ok(rows)
}

fn plain(error: ParquetError) -> String {
    match error {
        ParquetError::General(text) => text,
        other => other.to_string(),
    }
}

/// Takes the columns of a file one after the other, as `row_columns` and `alternative_columns` have them.
struct Taken<'a> {
    columns: std::vec::IntoIter<Named>,
    path: &'a Path,
}

impl Taken<'_> {
    fn next<T>(&mut self, unpack: impl FnOnce(Cells) -> Option<T>) -> Result<T, DatasetError> {
        let (name, cells) = self.columns.next().unwrap_or_else(|| (String::new(), Cells::Flags(Vec::new())));
        unpack(cells).ok_or_else(|| DatasetError::damaged(self.path, format!("column {name:?} has another type")))
    }

    fn texts(&mut self) -> Result<Vec<String>, DatasetError> {
        let texts = self.next(|cells| if let Cells::Texts(values) = cells { Some(values) } else { None })?;
        let read: Option<Vec<String>> = texts.iter().map(|text| text.as_utf8().ok().map(str::to_owned)).collect();
        read.ok_or_else(|| DatasetError::damaged(self.path, "holds a text that is no UTF-8"))
    }

    fn longs(&mut self) -> Result<Vec<i64>, DatasetError> {
        self.next(|cells| if let Cells::Longs(values) | Cells::Times(values) = cells { Some(values) } else { None })
    }

    fn ints(&mut self) -> Result<Vec<i32>, DatasetError> {
        self.next(|cells| if let Cells::Ints(values) = cells { Some(values) } else { None })
    }

    fn doubles(&mut self) -> Result<Vec<Option<f64>>, DatasetError> {
        self.next(|cells| if let Cells::Doubles(values) = cells { Some(values) } else { None })
    }

    fn flags(&mut self) -> Result<Vec<bool>, DatasetError> {
        self.next(|cells| if let Cells::Flags(values) = cells { Some(values) } else { None })
    }

    /// What is left are features: row-major.
    fn features(self, rows: usize) -> Vec<f32> {
        let width = self.columns.len();
        let mut values = vec![0.0; rows * width];
        for (place, (_, cells)) in self.columns.enumerate() {
            let into = values.iter_mut().skip(place).step_by(width.max(1));
            match cells {
                Cells::Floats(column) => into.zip(column).for_each(|(value, read)| *value = read),
                Cells::Ints(column) => into.zip(column).for_each(|(value, read)| *value = read as f32),
                _ => {}
            }
        }
        values
    }
}

pub(super) fn read_rows(path: &Path, table: &mut Table) -> Result<(), DatasetError> {
    let mut columns = row_columns(&[]);
    columns.extend(empty_features(&table.columns));
    let rows = read_columns(path, &mut columns)?;
    let mut taken = Taken { columns: columns.into_iter(), path };
    let (attempt_ids, payment_ids, numbers) = (taken.texts()?, taken.texts()?, taken.ints()?);
    let (times, psps, approved, amounts) = (taken.longs()?, taken.texts()?, taken.flags()?, taken.longs()?);
    let (mut currencies, mut brands, mut countries) = (taken.texts()?, taken.texts()?, taken.texts()?);
    let (propensities, successes, failures) = (taken.doubles()?, taken.longs()?, taken.longs()?);
    let ids = attempt_ids.into_iter().zip(payment_ids);
    table.rows = ids
        .enumerate()
        .map(|(row, (attempt_id, payment_id))| Row {
            attempt_id,
            payment_id,
            attempt_number: numbers[row],
            attempted_at: times[row],
            psp_id: PspId::new(&psps[row]),
            approved: approved[row],
            amount_minor: amounts[row],
            currency: std::mem::take(&mut currencies[row]),
            brand: std::mem::take(&mut brands[row]),
            issuer_country: std::mem::take(&mut countries[row]),
            propensity: propensities[row],
            fee_minor: [successes[row], failures[row]],
        })
        .collect();
    table.values = taken.features(rows);
    Ok(())
}

pub(super) fn read_alternatives(path: &Path, table: &mut Table) -> Result<(), DatasetError> {
    let mut columns = alternative_columns(&[]);
    columns.extend(empty_features(&table.columns));
    let rows = read_columns(path, &mut columns)?;
    let mut taken = Taken { columns: columns.into_iter(), path };
    let (of_rows, psps, propensities) = (taken.ints()?, taken.texts()?, taken.doubles()?);
    let (successes, failures) = (taken.longs()?, taken.longs()?);
    let width = table.columns.len();
    let values = taken.features(rows);
    if of_rows.iter().any(|&row| !usize::try_from(row).is_ok_and(|row| row < table.rows.len())) {
        return Err(DatasetError::damaged(path, "has an alternative to a row that is not there"));
    }
    table.alternatives = (0..rows)
        .map(|index| Alternative {
            row: of_rows[index] as u32,
            psp_id: PspId::new(&psps[index]),
            fee_minor: [successes[index], failures[index]],
            propensity: propensities[index],
            values: values[index * width..(index + 1) * width].to_vec(),
        })
        .collect();
    Ok(())
}
