//! Datasets on disk: a directory with the rows, the alternatives, and a manifest that says where they come from.
//!
//! Owns the layout: `rows.parquet` and `alternatives.parquet` (one column for each feature, named `f_` and its name; zstd), and
//! `manifest.json`, which is written last: a directory without it is no dataset. Reading checks the files against it.
//! Never computes a feature, and knows no catalogue: the columns of a table are what it says they are.

mod columns;
mod manifest;
mod layout;

pub use manifest::{LogRange, Manifest, Source, StoredColumn, StoredFile, sha256_of_file};

use crate::learn::Table;
use std::fs;
use std::io;
use std::path::Path;
use thiserror::Error;

const MANIFEST: &str = "manifest.json";
const ROWS: &str = "rows.parquet";
const ALTERNATIVES: &str = "alternatives.parquet";

/// Why a dataset cannot be written or read. The user is to act: each text names the file and the remedy.
#[derive(Debug, Error)]
pub enum DatasetError {
    #[error("{file}: {source}; check the path, its permissions and the free space")]
    Io { file: String, source: io::Error },
    #[error("{directory} holds no dataset (no {MANIFEST}): build one with `smartrouter dataset build`")]
    NoDataset { directory: String },
    #[error("{directory} is not empty and holds no dataset: give another directory, nothing was written")]
    Occupied { directory: String },
    #[error("{file}: {problem}; build the dataset again")]
    Damaged { file: String, problem: String },
    #[error("the table cannot be written: {problem}")]
    Table { problem: String },
}

impl DatasetError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io { file: path.display().to_string(), source }
    }

    fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { file: path.display().to_string(), problem: problem.into() }
    }
}

/// Writes a dataset into `directory`, which is made, or holds an older dataset that is replaced. What the manifest says of
/// columns, counts and files is taken from the table, whatever the one that is passed in says of them.
pub fn write(directory: &Path, table: &Table, manifest: &Manifest) -> Result<(), DatasetError> {
    layout::check(table)?;
    fs::create_dir_all(directory).map_err(DatasetError::io(directory))?;
    let manifest_path = directory.join(MANIFEST);
    match fs::remove_file(&manifest_path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_empty(directory)?,
        Err(error) => return Err(DatasetError::io(&manifest_path)(error)),
    }
    layout::write_rows(&directory.join(ROWS), table)?;
    layout::write_alternatives(&directory.join(ALTERNATIVES), table)?;
    let mut files = Vec::new();
    for (name, rows) in [(ROWS, table.rows.len()), (ALTERNATIVES, table.alternatives.len())] {
        let sha256 = sha256_of_file(&directory.join(name)).map_err(DatasetError::io(&directory.join(name)))?;
        files.push(StoredFile { file: name.to_owned(), rows: rows as u64, sha256 });
    }
    let manifest = Manifest {
        catalogue: table.catalogue.clone(),
        rows: table.rows.len() as u64,
        positives: table.rows.iter().filter(|row| row.approved).count() as u64,
        files,
        columns: table.columns.iter().map(StoredColumn::from).collect(),
        ..manifest.clone()
    };
    let written = manifest.to_json().map_err(|problem| DatasetError::Table { problem })?;
    let unnamed = directory.join("manifest.json.tmp");
    fs::write(&unnamed, written).map_err(DatasetError::io(&unnamed))?;
    fs::rename(&unnamed, &manifest_path).map_err(DatasetError::io(&manifest_path))
}

/// Files of a dataset whose writing was cut off may be there; anything else is somebody's.
fn check_empty(directory: &Path) -> Result<(), DatasetError> {
    let entries = fs::read_dir(directory).map_err(DatasetError::io(directory))?;
    for entry in entries {
        let name = entry.map_err(DatasetError::io(directory))?.file_name();
        if ![ROWS, ALTERNATIVES, "manifest.json.tmp"].iter().any(|ours| name == *ours) {
            return Err(DatasetError::Occupied { directory: directory.display().to_string() });
        }
    }
    Ok(())
}

/// Reads a dataset; every file must be the one that the manifest names.
pub fn read(directory: &Path) -> Result<(Table, Manifest), DatasetError> {
    let path = directory.join(MANIFEST);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DatasetError::NoDataset { directory: directory.display().to_string() });
        }
        read => read.map_err(DatasetError::io(&path))?,
    };
    let manifest = Manifest::from_json(&text).map_err(|problem| DatasetError::damaged(&path, problem))?;
    for stored in &manifest.files {
        let file = directory.join(&stored.file);
        if sha256_of_file(&file).map_err(DatasetError::io(&file))? != stored.sha256 {
            return Err(DatasetError::damaged(&file, format!("is not the file that {MANIFEST} names (another SHA-256)")));
        }
    }
    let mut table = Table { catalogue: manifest.catalogue.clone(), ..Table::default() };
    table.columns = manifest.columns.iter().map(StoredColumn::to_column).collect();
    layout::read_rows(&directory.join(ROWS), &mut table)?;
    layout::read_alternatives(&directory.join(ALTERNATIVES), &mut table)?;
    if manifest.rows != table.rows.len() as u64 {
        return Err(DatasetError::damaged(&path, format!("says {} rows, and there are {}", manifest.rows, table.rows.len())));
    }
    Ok((table, manifest))
}

#[cfg(test)]
mod tests;
