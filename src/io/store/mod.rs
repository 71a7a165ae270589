//! The state store: what the tasks of this process remember, in one RocksDB under the state directory.
//!
//! Owns the layout of keys and the promise that a commit's writes, of all tasks of a thread, happen together with the changelog
//! positions that they stand for. Never interprets a value. The changelog topics are the authority: whatever is here can be
//! wiped and rebuilt from them. Neighbours: `runtime::restore` reads positions, `runtime::task_group` writes batches.
//!
//! Key: store (1 byte) · partition (4 bytes, big endian) · the entry's own key. Store 0 holds the positions.

mod batch;

pub use batch::StateBatch;

use crate::io::mark::{self, Mark};
use rocksdb::{DB, Direction, IteratorMode, Options, ReadOptions, WriteOptions};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoreName {
    Payments,
    Customers,
    Psps,
    Profiles,
}

impl StoreName {
    pub const ALL: [Self; 4] = [Self::Payments, Self::Customers, Self::Psps, Self::Profiles];

    /// The store's name in its changelog topic.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payments => "payments",
            Self::Customers => "customers",
            Self::Psps => "psps",
            Self::Profiles => "profiles",
        }
    }

    fn id(self) -> u8 {
        match self {
            Self::Payments => 1,
            Self::Customers => 2,
            Self::Psps => 3,
            Self::Profiles => 4,
        }
    }
}

const POSITIONS: u8 = 0;

/// One store's part for one partition: the unit that is restored, wiped and owned by a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    pub store: StoreName,
    pub partition: i32,
}

impl Shard {
    pub fn new(store: StoreName, partition: i32) -> Self {
        Self { store, partition }
    }

    fn prefix(self) -> [u8; 5] {
        prefix(self.store.id(), self.partition)
    }

    fn key(self, key: &[u8]) -> Vec<u8> {
        [&self.prefix()[..], key].concat()
    }

    fn position_key(self) -> Vec<u8> {
        let mut key = prefix(POSITIONS, self.partition).to_vec();
        key.push(self.store.id());
        key
    }
}

fn prefix(store: u8, partition: i32) -> [u8; 5] {
    let p = partition.to_be_bytes();
    [store, p[0], p[1], p[2], p[3]]
}

/// What a shard's content stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPosition {
    /// The log that the changelog belongs to: another log's state is void.
    pub log_id: String,
    /// Partitions of the changelog topic when this was written: keys move when it changes.
    pub partitions: i32,
    /// Layout of the values: state of another format is rebuilt.
    pub format: u32,
    /// All changelog records below this offset are applied.
    pub changelog_offset: i64,
    /// The last changelog record that is applied. Absent when none is, or when an older version wrote this.
    pub last: Option<LastRecord>,
}

/// A record of a changelog, to be known again: a topic that was deleted and made anew has another one at its offset, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    pub offset: i64,
    fingerprint: Fingerprint,
}

/// Of a record's key and value.
pub type Fingerprint = [u8; 16];

pub fn fingerprint(key: &[u8], value: Option<&[u8]>) -> Fingerprint {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update([u8::from(value.is_some())]);
    hash.update(value.unwrap_or_default());
    let mut short = Fingerprint::default();
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

impl LastRecord {
    pub fn new(offset: i64, fingerprint: Fingerprint) -> Self {
        Self { offset, fingerprint }
    }
}

pub struct StateStore {
    db: DB,
    read: ReadOptions,
    path: PathBuf,
    mark: Mutex<Mark>,
}

impl StateStore {
    /// Opens or creates the store under `state_dir`.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join("store");
        std::fs::create_dir_all(&path).map_err(|error| StoreError::Unusable { path: path.clone(), detail: error.to_string() })?;
        let mark = Mark::open(&path).map_err(|error| StoreError::Unusable { path: path.clone(), detail: error.to_string() })?;
        let damaged = |detail: String| StoreError::Damaged { path: path.clone(), detail };
        let mark = mark.ok_or_else(|| damaged(format!("its file {} cannot be what was written", mark::FILE)))?;
        if mark.manifest_was_cut() {
            return Err(damaged("its manifest is shorter than it was".to_owned()));
        }
        let db = DB::open(&options(), &path).map_err(|error| StoreError::on_open(&path, &error))?;
        let store = Self { db, read: ReadOptions::default(), path, mark: Mutex::new(mark) };
        store.follow()?;
        Ok(store)
    }

    /// Deletes the store, in whatever shape it is, unless a process has it open.
    pub fn destroy(state_dir: &Path) -> Result<(), StoreError> {
        let path = state_dir.join("store");
        DB::destroy(&options(), &path).map_err(|error| StoreError::on_open(&path, &error))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the entry to `read`, where it lies.
    pub fn get<T>(&self, shard: Shard, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, StoreError> {
        let found = self.db.get_pinned_opt(shard.key(key), &self.read).map_err(|error| self.failed(&error))?;
        Ok(found.map(|bytes| read(&bytes)))
    }

    /// Visits the entries of a shard in key order, from the first key at or behind `from`, until `visit` breaks.
    pub fn scan(
        &self,
        shard: Shard,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut read = ReadOptions::default();
        if let Some(end) = end_of(shard.prefix()) {
            read.set_iterate_upper_bound(end);
        }
        // Entries are shown where they lie: a start scans all of them.
        let mut entries = self.db.raw_iterator_opt(read);
        entries.seek(shard.key(from));
        while let Some((key, value)) = entries.item() {
            if visit(key.get(shard.prefix().len()..).unwrap_or_default(), value).is_break() {
                return Ok(());
            }
            entries.next();
        }
        entries.status().map_err(|error| self.failed(&error))
    }

    pub fn position(&self, shard: Shard) -> Result<Option<ShardPosition>, StoreError> {
        let Some(mut bytes) = self.db.get(shard.position_key()).map_err(|error| self.failed(&error))? else { return Ok(None) };
        // An older version's position ends before `last`: with a zero behind it that reads as none.
        bytes.push(0);
        // A position that cannot be read says as little as none: the shard is then rebuilt.
        Ok(postcard::from_bytes(&bytes).ok())
    }

    /// Partitions of which this store holds entries or a position.
    pub fn partitions(&self, store: StoreName) -> Result<Vec<i32>, StoreError> {
        let mut found = BTreeSet::new();
        let mut from = prefix(store.id(), 0).to_vec();
        // From one partition's first key to the next one's: entries are not read.
        while let Some((partition, behind)) = self.next_partition(store.id(), &from)? {
            found.insert(partition);
            from = behind;
        }
        let mut from = prefix(POSITIONS, 0).to_vec();
        while let Some((partition, behind)) = self.next_partition(POSITIONS, &from)? {
            if self.position(Shard::new(store, partition))?.is_some() {
                found.insert(partition);
            }
            from = behind;
        }
        Ok(found.into_iter().collect())
    }

    /// The partition of the first key of this store at or behind `from`, and where the next partition begins.
    fn next_partition(&self, store: u8, from: &[u8]) -> Result<Option<(i32, Vec<u8>)>, StoreError> {
        let Some(entry) = self.db.iterator(IteratorMode::From(from, Direction::Forward)).next() else { return Ok(None) };
        let (key, _) = entry.map_err(|error| self.failed(&error))?;
        let Some((&id, bytes)) = key.get(..5).and_then(<[u8]>::split_first) else { return Ok(None) };
        let partition = bytes.try_into().map(i32::from_be_bytes).unwrap_or_default();
        Ok((id == store).then(|| end_of(prefix(id, partition)).map(|behind| (partition, behind))).flatten())
    }

    /// Writes all of the batch or nothing of it; it survives the end of the process, however it ends.
    pub fn write(&self, batch: StateBatch) -> Result<(), StoreError> {
        self.db.write_opt(batch.into_inner(), &WriteOptions::default()).map_err(|error| self.failed(&error))?;
        self.follow()
    }

    /// RocksDB writes files behind our back: what its manifest knows of them must still be there when it is opened again.
    fn follow(&self) -> Result<(), StoreError> {
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        mark.follow().map_err(|error| StoreError::Failed { path: self.path.join(mark::FILE), detail: error.to_string() })
    }

    /// Forgets a shard and its position.
    pub fn wipe(&self, shard: Shard) -> Result<(), StoreError> {
        let mut batch = rocksdb::WriteBatch::default();
        let end = end_of(shard.prefix()).unwrap_or_else(|| vec![0xff; 6]);
        batch.delete_range(shard.prefix().to_vec(), end);
        batch.delete(shard.position_key());
        self.db.write(batch).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &rocksdb::Error) -> StoreError {
        let (path, detail) = (self.path.clone(), error.to_string());
        match error.kind() {
            rocksdb::ErrorKind::Corruption => StoreError::Damaged { path, detail },
            _ if is_missing(&detail) => StoreError::Damaged { path, detail },
            _ => StoreError::Failed { path, detail },
        }
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    // The write-ahead log is taken up to the first damaged entry. What is lost is the newest batches, whole: positions and entries go
    // back together, and are rolled forward from the changelog.
    options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::PointInTime);
    options.set_paranoid_checks(true);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options.set_write_buffer_size(64 << 20);
    options.set_max_write_buffer_number(3);
    options.set_keep_log_file_num(2);
    options.set_max_open_files(512);
    // Most payments are new, and all that is known of them is that they are not here: a filter over the memtable answers that.
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_memtable_whole_key_filtering(true);
    // One thread writes at a time.
    options.set_allow_concurrent_memtable_write(false);
    let mut table = rocksdb::BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(&rocksdb::Cache::new_lru_cache(128 << 20));
    options.set_block_based_table_factory(&table);
    options
}

/// The first key behind all keys with this prefix.
fn end_of(prefix: [u8; 5]) -> Option<Vec<u8>> {
    let number = prefix.iter().fold(0_u64, |number, &byte| (number << 8) | u64::from(byte)) + 1;
    (number < 1 << 40).then(|| number.to_be_bytes()[3..].to_vec())
}

/// What the operator has to know about the state directory.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the state directory {path} cannot be used: {detail}; make it writable, or name another with --state-dir", path = path.display())]
    Unusable { path: PathBuf, detail: String },
    #[error("the state directory {path} is in use by another process; give each process its own --state-dir", path = path.display())]
    Locked { path: PathBuf },
    #[error("the state in {path} is damaged: {detail}; `smartrouter reset --execute` drops it, it is rebuilt from the changelog", path = path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("the state store {path} failed: {detail}; check the disk", path = path.display())]
    Failed { path: PathBuf, detail: String },
}

impl StoreError {
    fn on_open(path: &Path, error: &rocksdb::Error) -> Self {
        let path = path.to_owned();
        let detail = error.to_string();
        match error.kind() {
            rocksdb::ErrorKind::IOError if detail.contains("lock ") => Self::Locked { path },
            rocksdb::ErrorKind::Corruption | rocksdb::ErrorKind::InvalidArgument | rocksdb::ErrorKind::NotSupported => {
                Self::Damaged { path, detail }
            }
            rocksdb::ErrorKind::IOError if is_missing(&detail) => Self::Damaged { path, detail },
            _ => Self::Unusable { path, detail },
        }
    }
}

/// A file that RocksDB wrote and does not find again.
fn is_missing(detail: &str) -> bool {
    detail.contains("No such file")
}

#[cfg(test)]
mod tests;
