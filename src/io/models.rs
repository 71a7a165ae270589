//! Models on disk: `<models>/<name>/<version>/`, one directory for each version, whole or not there.
//!
//! Owns names, versions and durability. What the files say is `learn`'s business, see `learn::load`.

use crate::learn::Files;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What the gate said of a version: beside its files, and none of them.
pub const VERDICT: &str = "gate.json";
/// A file of a model is at most this large: what is larger is none.
const FILE_BYTES_MOST: u64 = 1 << 30;

/// Why a model cannot be written or read. The user is to act.
#[derive(Debug, Error)]
pub enum ModelsError {
    #[error("{path}: {source}; check the path, its permissions and the free space")]
    Io { path: String, source: io::Error },
    #[error("{0:?} is no name: use letters, digits, `_` and `-`")]
    Name(String),
    #[error("{directory} does not exist; `smartrouter train` makes a model")]
    Missing { directory: String },
    #[error("{path} is too large for a file of a model")]
    TooLarge { path: String },
}

impl ModelsError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.display().to_string(), source }
    }
}

/// The number that the next version of `name` gets: one more than the highest.
pub fn next_version(models: &Path, name: &str) -> Result<u32, ModelsError> {
    let versions = names(&directory(models, name)?)?;
    let highest = versions.iter().filter_map(|version| version.parse().ok()).max().unwrap_or(0);
    Ok(highest + 1)
}

/// Writes the files of a new version, and gives its directory: into a directory of another name first, each file and the directory
/// synced, then renamed.
pub fn write(models: &Path, name: &str, version: u32, files: &Files) -> Result<PathBuf, ModelsError> {
    let parent = directory(models, name)?;
    let unnamed = parent.join(format!(".{version}.tmp"));
    fs::create_dir_all(&parent).map_err(ModelsError::io(&parent))?;
    if unnamed.exists() {
        fs::remove_dir_all(&unnamed).map_err(ModelsError::io(&unnamed))?;
    }
    fs::create_dir(&unnamed).map_err(ModelsError::io(&unnamed))?;
    for (file, bytes) in files {
        let path = unnamed.join(file);
        put(&path, bytes)?;
    }
    let sync = |directory: &Path| File::open(directory).and_then(|it| it.sync_all()).map_err(ModelsError::io(directory));
    sync(&unnamed)?;
    let named = parent.join(version.to_string());
    // Fails where the version exists: a version is never changed.
    fs::rename(&unnamed, &named).map_err(ModelsError::io(&named))?;
    sync(&parent)?;
    Ok(named)
}

/// A file with these bytes, synced.
fn put(path: &Path, bytes: &[u8]) -> Result<(), ModelsError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(ModelsError::io(path))
}

/// Writes what the gate said of a version, in place of what it said before.
pub fn write_verdict(models: &Path, name: &str, version: &str, verdict: &[u8]) -> Result<(), ModelsError> {
    check(version)?;
    let directory = directory(models, name)?.join(version);
    let (unnamed, named) = (directory.join(".gate.tmp"), directory.join(VERDICT));
    put(&unnamed, verdict)?;
    fs::rename(&unnamed, &named).map_err(ModelsError::io(&named))
}

/// Every version that is there, in order of name and number.
pub fn all(models: &Path) -> Result<Vec<(String, String)>, ModelsError> {
    let mut found = Vec::new();
    for name in names(models)? {
        let mut versions = names(&models.join(&name))?;
        versions.sort_by_key(|version| (version.parse::<u64>().ok(), version.clone()));
        found.extend(versions.into_iter().map(|version| (name.clone(), version)));
    }
    Ok(found)
}

/// The directories in `directory` whose names can be a model's or a version's, sorted; none where there is no such directory.
fn names(directory: &Path) -> Result<Vec<String>, ModelsError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(ModelsError::io(directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ModelsError::io(directory))?;
        let name = entry.file_name().into_string().ok().filter(|name| check(name).is_ok());
        names.extend(name.filter(|_| entry.path().is_dir()));
    }
    names.sort();
    Ok(names)
}

pub fn read(models: &Path, name: &str, version: &str) -> Result<Files, ModelsError> {
    check(version)?;
    let directory = directory(models, name)?.join(version);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ModelsError::Missing { directory: directory.display().to_string() });
        }
        entries => entries.map_err(ModelsError::io(&directory))?,
    };
    let mut files = Files::new();
    for entry in entries {
        let path = entry.map_err(ModelsError::io(&directory))?.path();
        let bytes = path.metadata().map_err(ModelsError::io(&path))?.len();
        if bytes > FILE_BYTES_MOST {
            return Err(ModelsError::TooLarge { path: path.display().to_string() });
        }
        if let (true, Some(name)) = (path.is_file(), path.file_name().and_then(|name| name.to_str())) {
            files.insert(name.to_owned(), fs::read(&path).map_err(ModelsError::io(&path))?);
        }
    }
    Ok(files)
}

/// One file of a version; none where it has no such file. For those who need not read the weights.
pub fn read_file(models: &Path, name: &str, version: &str, file: &str) -> Result<Option<Vec<u8>>, ModelsError> {
    check(version)?;
    let path = directory(models, name)?.join(version).join(file);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(ModelsError::io(&path)),
    }
}

fn directory(models: &Path, name: &str) -> Result<PathBuf, ModelsError> {
    check(name)?;
    Ok(models.join(name))
}

/// A name is one step of a path, and leads nowhere else.
fn check(name: &str) -> Result<(), ModelsError> {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(known) { Ok(()) } else { Err(ModelsError::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_and_are_never_changed() {
        let models = tempfile::tempdir().unwrap();
        let models = models.path();
        let files = |text: &str| Files::from([("model.json".to_owned(), text.as_bytes().to_vec())]);
        assert_eq!(next_version(models, "selector").unwrap(), 1);
        write(models, "selector", 1, &files("one")).unwrap();
        write(models, "selector", 12, &files("twelve")).unwrap();
        assert_eq!(next_version(models, "selector").unwrap(), 13);
        assert!(matches!(write(models, "selector", 1, &files("other")), Err(ModelsError::Io { .. })));
        assert_eq!(read(models, "selector", "1").unwrap(), files("one"));
        write(models, "selector", 2, &files("two")).unwrap();
        fs::create_dir(models.join("selector/.13.tmp")).unwrap();
        fs::write(models.join("README.md"), "").unwrap();
        let found = all(models).unwrap();
        assert_eq!(found.iter().map(|(_, version)| version.as_str()).collect::<Vec<_>>(), ["1", "2", "12"]);
        write_verdict(models, "selector", "2", b"one").unwrap();
        write_verdict(models, "selector", "2", b"two").unwrap();
        let found = read(models, "selector", "2").unwrap();
        assert_eq!((found.len(), found[VERDICT].as_slice()), (2, &b"two"[..]));
        assert_eq!(read_file(models, "selector", "2", VERDICT).unwrap(), Some(b"two".to_vec()));
        assert_eq!(read_file(models, "selector", "1", VERDICT).unwrap(), None);
        assert!(write_verdict(models, "selector", "3", b"").is_err());
        assert_eq!(all(&models.join("nowhere")).unwrap(), []);
        assert!(matches!(read(models, "selector", "3"), Err(ModelsError::Missing { .. })));
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["", "..", "a/b", "a b", "é"] {
            assert!(matches!(read(Path::new("/nowhere"), name, "1"), Err(ModelsError::Name(_))), "{name}");
            assert!(matches!(read(Path::new("/nowhere"), "selector", name), Err(ModelsError::Name(_))), "{name}");
        }
    }
}
