//! The warehouse as Parquet files in a directory, for DuckDB, pandas, Spark, or whatever reads such directories by pattern.
//!
//! Owns the directory, which one process at a time writes. A flush of a channel is one file, whole under its name or not there: written and
//! synced aside, renamed, then the directory is synced. What is highest in the names is the token, so the token and the rows cannot differ.
//!
//! A file lies in the day (UTC) on which its rows were taken in, not in that of its events: one flush is one file is one rename. Over several
//! days of events it would be several renames, and after a crash between two of them the highest offset would hide a gap. Also, days that are over
//! do not change any more, and history that is replayed is not deleted as it comes. Events' times are columns, with bounds in each file.
//!
//! Readers look at the directory whenever they like. What they must not see twice is never there twice: small files become larger ones in a copy
//! of their day's directory, which then changes places with the old one in one step (`compact`).
//! Reading order: here, `names`, `leaf` (rows as columns, columns as Parquet), `compact`.

mod compact;
mod leaf;
mod names;
#[cfg(test)]
mod tests;

use super::{Catalogue, Channel, Row, Table, Upkeep, Warehouse, WarehouseError};
use crate::domain::EpochMs;
use crate::io::failpoint;
use crate::io::log::TopicPartition;
use ::parquet::errors::ParquetError;
use chrono::NaiveDate;
use leaf::{Batch, Writer};
use names::FileName;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK: &str = "LOCK";
const LOG: &str = "LOG";
/// Outside the tables, so that no pattern over them finds what is being made.
const WORK: &str = ".work";
const SNAPSHOT: &str = "snapshot/rows.parquet";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRules {
    /// Days after which a day's rows go; 0: never.
    pub retention_days: u32,
    /// Small files of one table and day that are merged when there are so many.
    pub files_max: usize,
    /// Below this a file is small.
    pub small_bytes: u64,
}

pub struct LocalWarehouse {
    root: PathBuf,
    tables: BTreeMap<String, Arc<Table>>,
    rules: LocalRules,
    channels: BTreeMap<Channel, Pending>,
    /// The newest day of each table: nothing is written into an older one any more.
    newest: BTreeMap<String, NaiveDate>,
    /// Held as long as this lives.
    _lock: File,
}

/// What a channel has, and what was appended to it.
struct Pending {
    token: Option<i64>,
    batch: Batch,
    offsets: Option<(i64, i64)>,
    ingested_at: EpochMs,
}

/// A table as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub table: String,
    pub files: usize,
    pub bytes: u64,
    pub days: usize,
    /// The highest offset of each partition.
    pub tokens: BTreeMap<TopicPartition, i64>,
}

impl LocalWarehouse {
    /// Opens the directory for writing, or makes it. `log_id`: whose rows it is to hold.
    pub fn open(root: &Path, catalogue: &Catalogue, log_id: &str, rules: LocalRules) -> Result<Self, WarehouseError> {
        let work = root.join(WORK);
        fs::create_dir_all(&work).map_err(WarehouseError::io(&work))?;
        let lock = lock(root)?;
        same_log(root, log_id)?;
        for left in fs::read_dir(&work).map_err(WarehouseError::io(&work))? {
            remove(&left.map_err(WarehouseError::io(&work))?.path())?;
        }
        let mut newest = BTreeMap::new();
        for table in &catalogue.tables {
            newest.extend(names::days(&root.join(&table.name))?.pop().map(|day| (table.name.clone(), day)));
        }
        let tables = catalogue.tables.iter().map(|table| (table.name.clone(), Arc::new(table.clone()))).collect();
        Ok(Self { root: root.to_owned(), tables, rules, channels: BTreeMap::new(), newest, _lock: lock })
    }

    fn table(&self, name: &str) -> Result<Arc<Table>, WarehouseError> {
        let unknown = || WarehouseError::Row { table: name.to_owned(), problem: "is not in the catalogue".to_owned() };
        self.tables.get(name).cloned().ok_or_else(unknown)
    }

    /// The day of these rows; the newest one that is there, should the clock have gone back behind it.
    fn day_for(&mut self, table: &str, ingested_at: EpochMs) -> NaiveDate {
        let day = names::day_of(ingested_at);
        let newest = self.newest.entry(table.to_owned()).or_insert(day);
        *newest = day.max(*newest);
        *newest
    }

    /// A file with these rows, synced, under a name that nobody looks for.
    fn write_aside(&self, name: &str, batch: &Batch, table: &Table) -> Result<PathBuf, WarehouseError> {
        let path = self.root.join(WORK).join(format!("{name}.tmp"));
        let file = File::create(&path).map_err(WarehouseError::io(&path))?;
        let written = Writer::new(file, table).and_then(|mut writer| {
            writer.write(batch)?;
            writer.finish()
        });
        let file = written.map_err(|error| parquet_error(&path, error))?;
        failpoint::pass("warehouse-written");
        file.sync_all().map_err(WarehouseError::io(&path))?;
        failpoint::pass("warehouse-synced");
        Ok(path)
    }

    fn put(&self, aside: &Path, named: &Path) -> Result<(), WarehouseError> {
        let directory = named.parent().unwrap_or(&self.root);
        make_directory(directory)?;
        fs::rename(aside, named).map_err(WarehouseError::io(named))?;
        failpoint::pass("warehouse-renamed");
        sync(directory)
    }
}

impl Warehouse for LocalWarehouse {
    fn open(&mut self, channel: &Channel) -> Result<Option<i64>, WarehouseError> {
        let table = self.table(&channel.table)?;
        let token = tokens(&self.root.join(&channel.table))?.get(&channel.at).copied();
        let pending = Pending { token, batch: Batch::new(table), offsets: None, ingested_at: 0 };
        self.channels.insert(channel.clone(), pending);
        Ok(token)
    }

    fn append(&mut self, channel: &Channel, rows: Vec<Row>, (first, last): (i64, i64)) -> Result<(), WarehouseError> {
        let wrong = |problem: String| WarehouseError::Row { table: channel.table.clone(), problem };
        let Some(pending) = self.channels.get_mut(channel) else { return Err(wrong(format!("{channel} is not open"))) };
        let behind = pending.offsets.map_or(pending.token, |(_, last)| Some(last));
        if behind.is_some_and(|behind| first <= behind) || last < first {
            return Err(wrong(format!("{channel}: rows {first} to {last} do not follow {behind:?}")));
        }
        for row in rows {
            if pending.batch.rows() == 0 {
                pending.ingested_at = ingested_at(&row);
            }
            pending.batch.push(row).map_err(wrong)?;
        }
        pending.offsets = Some((pending.offsets.map_or(first, |(first, _)| first), last));
        Ok(())
    }

    fn commit(&mut self, channel: &Channel) -> Result<Option<i64>, WarehouseError> {
        let table = self.table(&channel.table)?;
        let Some(pending) = self.channels.get(channel) else { return Ok(None) };
        let Some(offsets) = pending.offsets else { return Ok(pending.token) };
        let ingested_at = pending.ingested_at;
        let name = FileName::of(channel, offsets).text();
        let aside = self.write_aside(&name, &pending.batch, &table)?;
        let day = self.day_for(&channel.table, ingested_at);
        self.put(&aside, &names::directory_of(&self.root.join(&channel.table), day).join(name))?;
        failpoint::pass("warehouse-committed");
        let token = Some(offsets.1);
        self.channels.insert(channel.clone(), Pending { token, batch: Batch::new(table), offsets: None, ingested_at });
        Ok(token)
    }

    fn close(&mut self, channel: &Channel) {
        self.channels.remove(channel);
    }

    fn replace(&mut self, table: &str, rows: Vec<Row>) -> Result<(), WarehouseError> {
        let known = self.table(table)?;
        let mut batch = Batch::new(known.clone());
        for row in rows {
            batch.push(row).map_err(|problem| WarehouseError::Row { table: table.to_owned(), problem })?;
        }
        let aside = self.write_aside(table, &batch, &known)?;
        self.put(&aside, &self.root.join(table).join(SNAPSHOT))
    }

    fn maintain(&mut self) -> Result<Upkeep, WarehouseError> {
        let mut upkeep = Upkeep::default();
        for (name, table) in self.tables.iter().filter(|(_, table)| table.record.is_some()) {
            let Some(&newest) = self.newest.get(name) else { continue };
            let site = compact::Site { table, directory: &self.root.join(name), work: &self.root.join(WORK) };
            upkeep.days_removed += compact::remove_old(&site, newest, self.rules)?;
            upkeep.files_merged += compact::merge(&site, newest, self.rules)?;
        }
        Ok(upkeep)
    }
}

/// What lies in a directory, whoever writes it.
pub fn held(root: &Path, catalogue: &Catalogue) -> Result<Vec<Held>, WarehouseError> {
    let held = |table: &Table| {
        let directory = root.join(&table.name);
        let (mut files, mut bytes, days) = (0, 0, names::days(&directory)?);
        for day in &days {
            let day = names::directory_of(&directory, *day);
            for file in names::files(&day)? {
                files += 1;
                // One that went meanwhile became part of another.
                bytes += fs::metadata(day.join(file.text())).map_or(0, |found| found.len());
            }
        }
        if let Ok(found) = fs::metadata(directory.join(SNAPSHOT)) {
            (files, bytes) = (files + 1, bytes + found.len());
        }
        Ok(Held { table: table.name.clone(), files, bytes, days: days.len(), tokens: tokens(&directory)? })
    };
    catalogue.tables.iter().map(held).collect()
}

/// The highest offset of each partition in the names of a table's files.
fn tokens(table: &Path) -> Result<BTreeMap<TopicPartition, i64>, WarehouseError> {
    let mut tokens = BTreeMap::new();
    for day in names::days(table)? {
        for file in names::files(&names::directory_of(table, day))? {
            let token = tokens.entry(file.at).or_insert(file.last);
            *token = file.last.max(*token);
        }
    }
    Ok(tokens)
}

/// Rows of a topic say it in their last place column.
fn ingested_at(row: &Row) -> EpochMs {
    row.0.iter().find_map(|cell| if let super::Cell::Time(at) = cell { Some(*at) } else { None }).unwrap_or_default()
}

fn lock(root: &Path) -> Result<File, WarehouseError> {
    let path = root.join(LOCK);
    let file = File::options().create(true).append(true).open(&path).map_err(WarehouseError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WarehouseError::Locked { directory: root.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(WarehouseError::io(&path)(error)),
    }
}

/// A warehouse holds the rows of one log: offsets of another would say nothing of what is here.
fn same_log(root: &Path, log_id: &str) -> Result<(), WarehouseError> {
    let path = root.join(LOG);
    if let Ok(found) = fs::read_to_string(&path) {
        let found = found.trim().to_owned();
        let directory = root.display().to_string();
        return if found == log_id {
            Ok(())
        } else {
            Err(WarehouseError::OtherLog { directory, found, wanted: log_id.to_owned() })
        };
    }
    let aside = root.join(WORK).join(LOG);
    let written = File::create(&aside).and_then(|mut file| {
        writeln!(file, "{log_id}")?;
        file.sync_all()
    });
    written.map_err(WarehouseError::io(&aside))?;
    fs::rename(&aside, &path).map_err(WarehouseError::io(&path))?;
    sync(root)
}

/// With its parents, each known to be there after a loss of power.
fn make_directory(directory: &Path) -> Result<(), WarehouseError> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directory(parent)?;
        fs::create_dir(directory).map_err(WarehouseError::io(directory))?;
        sync(parent)?;
    }
    Ok(())
}

fn sync(directory: &Path) -> Result<(), WarehouseError> {
    File::open(directory).and_then(|it| it.sync_all()).map_err(WarehouseError::io(directory))
}

fn remove(path: &Path) -> Result<(), WarehouseError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(WarehouseError::io(path))
}

/// A disk that is full says so through the writer of the file.
fn parquet_error(path: &Path, error: ParquetError) -> WarehouseError {
    let place = path.display().to_string();
    match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(source) => WarehouseError::io(path)(*source),
            Err(other) => WarehouseError::Damaged { place, problem: other.to_string() },
        },
        other => WarehouseError::Damaged { place, problem: other.to_string() },
    }
}
