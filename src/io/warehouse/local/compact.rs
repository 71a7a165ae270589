//! Keeping a table in order: small files of a day become larger ones, and days that are too old go. Readers never see a row twice, nor half a day.
//!
//! A day is made anew beside the tables, merged files and hard links to those that stay, and then changes places with the one that is there: one
//! step of the file system (`RENAME_EXCHANGE`), before which a reader finds the old files and after it the new ones. A reader that listed
//! the old names and opens them later finds some gone: it gets an error and asks again, never a wrong answer.

use super::super::{Table, WarehouseError};
use super::leaf::{self, Batch, Writer};
use super::names::{self, FileName};
use super::{LocalRules, make_directory, parquet_error, remove, sync};
use crate::io::failpoint;
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use chrono::{Days, NaiveDate};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows, and bytes in memory, of one group of a merged file.
const GROUP_ROWS: usize = 50_000;
const GROUP_BYTES: usize = 32 << 20;
/// What goes into one merged file at most, on disk.
const MERGED_BYTES_MAX: u64 = 256 << 20;

/// A table's directory, and where new things are made.
pub(super) struct Site<'a> {
    pub(super) table: &'a Arc<Table>,
    pub(super) directory: &'a Path,
    pub(super) work: &'a Path,
}

/// Files that become one; a single one stays as it is.
type Run = Vec<FileName>;

/// Removes days older than what is kept, but for those that hold the last row of a channel: its offset is the channel's token.
pub(super) fn remove_old(site: &Site<'_>, newest: NaiveDate, rules: LocalRules) -> Result<usize, WarehouseError> {
    let Some(first) = newest.checked_sub_days(Days::new(rules.retention_days.into())).filter(|_| rules.retention_days > 0) else {
        return Ok(0);
    };
    let tokens = super::tokens(site.directory)?;
    let mut removed = 0;
    for day in names::days(site.directory)?.into_iter().filter(|day| *day < first) {
        let directory = names::directory_of(site.directory, day);
        let holds_token = |file: &FileName| tokens.get(&file.at) == Some(&file.last);
        if names::files(&directory)?.iter().any(holds_token) {
            continue;
        }
        let aside = site.work.join(format!("{}-{day}", site.table.name));
        fs::rename(&directory, &aside).map_err(WarehouseError::io(&directory))?;
        sync(site.directory)?;
        remove(&aside)?;
        removed += 1;
    }
    Ok(removed)
}

/// Merges the small files of one day at most, so that a call takes no longer than that.
pub(super) fn merge(site: &Site<'_>, newest: NaiveDate, rules: LocalRules) -> Result<usize, WarehouseError> {
    for day in names::days(site.directory)? {
        let directory = names::directory_of(site.directory, day);
        let runs = runs(&directory, rules.small_bytes)?;
        let saved: usize = runs.iter().map(|run| run.len() - 1).sum();
        // A day that is over gets no more files: its last ones need not wait for others.
        if saved > 0 && (saved >= rules.files_max || day < newest) {
            make_anew(site, &directory, &runs)?;
            return Ok(saved + runs.iter().filter(|run| run.len() > 1).count());
        }
    }
    Ok(0)
}

/// Neighbours among the files of each channel that are small, up to the size of a merged file.
fn runs(directory: &Path, small_bytes: u64) -> Result<Vec<Run>, WarehouseError> {
    let mut channels: BTreeMap<_, Vec<Run>> = BTreeMap::new();
    let mut open = 0;
    for file in names::files(directory)? {
        let path = directory.join(file.text());
        let bytes = fs::metadata(&path).map_err(WarehouseError::io(&path))?.len();
        let runs = channels.entry(file.at.clone()).or_default();
        let fits = bytes < small_bytes && open > 0 && open + bytes <= MERGED_BYTES_MAX;
        if let Some(run) = runs.last_mut().filter(|_| fits) {
            open += bytes;
            run.push(file);
        } else {
            open = if bytes < small_bytes { bytes } else { 0 };
            runs.push(vec![file]);
        }
    }
    Ok(channels.into_values().flatten().collect())
}

fn make_anew(site: &Site<'_>, directory: &Path, runs: &[Run]) -> Result<(), WarehouseError> {
    let made = site.work.join(format!("{}-merged", site.table.name));
    if made.exists() {
        remove(&made)?;
    }
    make_directory(&made)?;
    for run in runs {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let named = made.join(FileName { first: first.first, ..last.clone() }.text());
        if run.len() == 1 {
            fs::hard_link(directory.join(first.text()), &named).map_err(WarehouseError::io(&named))?;
        } else {
            let paths: Vec<PathBuf> = run.iter().map(|file| directory.join(file.text())).collect();
            merge_files(site.table, &paths, &named)?;
        }
    }
    sync(&made)?;
    failpoint::pass("warehouse-merged");
    renameat_with(CWD, &made, CWD, directory, RenameFlags::EXCHANGE)
        .map_err(|error| WarehouseError::io(directory)(error.into()))?;
    failpoint::pass("warehouse-exchanged");
    sync(site.directory)?;
    sync(site.work)?;
    remove(&made)
}

/// All rows of the files, in their order, in one file that is synced.
fn merge_files(table: &Arc<Table>, paths: &[PathBuf], into: &Path) -> Result<(), WarehouseError> {
    let open = |path: &Path| File::open(path).map_err(WarehouseError::io(path));
    let file = File::create(into).map_err(WarehouseError::io(into))?;
    let mut writer = Writer::new(file, table).map_err(|error| parquet_error(into, error))?;
    let mut batch = Batch::new(table.clone());
    let (mut read, mut written) = (0, 0);
    for path in paths {
        read += leaf::rows_of(open(path)?).map_err(|error| parquet_error(path, error))?;
        let full = |batch: &mut Batch| {
            if batch.rows() < GROUP_ROWS && batch.bytes() < GROUP_BYTES {
                return Ok(());
            }
            written += flush(&mut writer, batch, table)?;
            Ok(())
        };
        leaf::read(open(path)?, &mut batch, full).map_err(|error| parquet_error(path, error))?;
    }
    let finished = (|| -> ParquetResult<File> {
        written += flush(&mut writer, &mut batch, table)?;
        if written != read {
            return Err(ParquetError::General(format!("{written} of {read} rows were merged")));
        }
        writer.finish()
    })();
    let file = finished.map_err(|error| parquet_error(into, error))?;
    file.sync_all().map_err(WarehouseError::io(into))
}

fn flush(writer: &mut Writer, batch: &mut Batch, table: &Arc<Table>) -> ParquetResult<u64> {
    let full = std::mem::replace(batch, Batch::new(table.clone()));
    if full.rows() > 0 {
        writer.write(&full)?;
    }
    Ok(full.rows() as u64)
}
