//! The RocksDB under the embedded log: its options, its keys, and its errors in the port's words.
//!
//! Owns the directory (RocksDB's `LOCK` keeps other processes out) and the key layout. Never decides what is written or read.
//!
//! Column family `records`: `topic id u32 | partition u32 | offset i64`, big endian → a batch. The offset is the *last* that the
//! batch can hold, so a forward seek to any offset finds the batch that holds it or the next one.
//! Default column family, by first byte: `F` format, `I` log id, `M` number of the last synced write (`mark`), `T` + name → topic, `N` + topic id + partition → next offset,
//! `S` + topic id + partition → first offset that retention left, `C` + topic id + partition → offset up to which it was compacted, `G` + length of group + group + topic id + partition → offset.

use super::super::{LogError, TopicPartition};
use super::EmbeddedOptions;
use super::batch::Damage;
use crate::io::mark::{self, Mark};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, DBRecoveryMode,
    ErrorKind, Options, ReadOptions, WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const RECORDS: &str = "records";
const FORMAT: u8 = 1;
const BLOCK_BYTES: usize = 32 << 10;
const CACHE_BYTES: usize = 32 << 20;
const WAL_BYTES_MAX: u64 = 256 << 20;

pub(super) struct Disk {
    db: DB,
    path: PathBuf,
    sync: bool,
    log_id: String,
    /// Held over a synced write, so that numbers grow in the order of writes.
    mark: Mutex<Mark>,
}

/// A topic as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TopicRow {
    pub(super) id: u32,
    pub(super) partitions: i32,
    pub(super) settings: BTreeMap<String, String>,
}

pub(super) fn record_key(topic: u32, partition: i32, offset: i64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..8].copy_from_slice(&partition.to_be_bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// The offset in a record key.
pub(super) fn offset_of(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.get(8..16)?.try_into().ok()?))
}

pub(super) fn topic_key(name: &str) -> Vec<u8> {
    [b"T", name.as_bytes()].concat()
}

pub(super) fn next_offset_key(topic: u32, partition: i32) -> [u8; 9] {
    partition_key(b'N', topic, partition)
}

pub(super) fn first_offset_key(topic: u32, partition: i32) -> [u8; 9] {
    partition_key(b'S', topic, partition)
}

pub(super) fn compacted_key(topic: u32, partition: i32) -> [u8; 9] {
    partition_key(b'C', topic, partition)
}

fn partition_key(kind: u8, topic: u32, partition: i32) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..5].copy_from_slice(&topic.to_be_bytes());
    key[5..].copy_from_slice(&partition.to_be_bytes());
    key
}

pub(super) fn group_key(group: &str, topic: u32, partition: i32) -> Vec<u8> {
    let len = (group.len() as u32).to_be_bytes();
    [b"G", &len[..], group.as_bytes(), &topic.to_be_bytes(), &partition.to_be_bytes()].concat()
}

impl Disk {
    pub(super) fn open(path: &Path, options: &EmbeddedOptions) -> Result<Self, LogError> {
        std::fs::create_dir_all(path).map_err(|error| {
            LogError::Refused(format!(
                "cannot make the directory {}: {error}; choose another --state-dir or change its rights",
                path.display()
            ))
        })?;
        check_directory(path)?;
        let mark = Mark::open(path).map_err(|error| LogError::Refused(format!("cannot open {}: {error}", path.display())))?;
        let mark = mark.ok_or_else(|| corrupt(path, &format!("its file {} cannot be what was written", mark::FILE)))?;
        if mark.manifest_was_cut() {
            return Err(corrupt(path, "its manifest is shorter than it was"));
        }
        let families = ["default", RECORDS].map(|name| ColumnFamilyDescriptor::new(name, family_options(options)));
        let db = DB::open_cf_descriptors(&database_options(), path, families).map_err(|error| open_error(path, &error))?;
        let marked = mark.number();
        let mut disk = Self { db, path: path.to_path_buf(), sync: options.sync, log_id: String::new(), mark: Mutex::new(mark) };
        let synced = disk.offset(b"M")?.unwrap_or(0).cast_unsigned();
        if synced < marked {
            return Err(disk.damaged(&format!("it ends before write {marked}, which the disk had: newest records are lost")));
        }
        disk.mark().raise(synced);
        disk.log_id = disk.identify()?;
        // What was recovered is on the disk, under a manifest of its own: that counts from now on.
        disk.sync()?;
        Ok(disk)
    }

    fn mark(&self) -> std::sync::MutexGuard<'_, Mark> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the format and tells the log id; a new log gets both.
    fn identify(&self) -> Result<String, LogError> {
        match self.get(b"F")?.as_deref() {
            Some([FORMAT]) => {}
            Some(other) => {
                return Err(LogError::Refused(format!(
                    "{} holds an event log of format {other:?}, and this version knows {FORMAT} only: run the version that wrote it",
                    self.path.display()
                )));
            }
            None => {
                if self.db.full_iterator(rocksdb::IteratorMode::Start).next().is_some() {
                    return Err(foreign(&self.path));
                }
                if self.db.full_iterator_cf(self.records()?, rocksdb::IteratorMode::Start).next().is_some() {
                    return Err(self.damaged("it holds records, but no topics"));
                }
                // RocksDB draws an identity for each new database; ours is kept beside the data, whatever becomes of that file.
                let identity = self.db.get_db_identity().map_err(|error| self.error(&error))?;
                let mut batch = WriteBatch::default();
                batch.put(b"F", [FORMAT]);
                batch.put(b"I", identity);
                self.write_synced(batch)?;
            }
        }
        let id = self.get(b"I")?.ok_or_else(|| self.damaged("its id is missing"))?;
        String::from_utf8(id).map_err(|_| self.damaged("its id is not text"))
    }

    pub(super) fn log_id(&self) -> &str {
        &self.log_id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn records(&self) -> Result<&ColumnFamily, LogError> {
        self.db.cf_handle(RECORDS).ok_or_else(|| self.damaged("its column family `records` is missing"))
    }

    /// The batches of a partition whose key offset is in `from..to`.
    pub(super) fn batches(&self, topic: u32, partition: i32, from: i64, to: i64) -> Result<DBRawIterator<'_>, LogError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(record_key(topic, partition, to).to_vec());
        let mut batches = self.db.raw_iterator_cf_opt(self.records()?, options);
        batches.seek(record_key(topic, partition, from));
        Ok(batches)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LogError> {
        self.db.get(key).map_err(|error| self.error(&error))
    }

    pub(super) fn offset(&self, key: &[u8]) -> Result<Option<i64>, LogError> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        let value = <[u8; 8]>::try_from(value.as_slice()).map_err(|_| self.damaged("a stored offset has not 8 bytes"))?;
        Ok(Some(i64::from_be_bytes(value)))
    }

    /// All topics, by name.
    pub(super) fn topics(&self) -> Result<Vec<(String, TopicRow)>, LogError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(b"U".to_vec());
        let mut rows = self.db.raw_iterator_opt(options);
        rows.seek(b"T");
        let mut topics = Vec::new();
        while let Some((key, value)) = rows.item() {
            let name = String::from_utf8(key[1..].to_vec()).map_err(|_| self.damaged("a topic's name is not text"))?;
            let row = postcard::from_bytes(value).map_err(|error| self.damaged(&format!("topic {name}: {error}")))?;
            topics.push((name, row));
            rows.next();
        }
        rows.status().map_err(|error| self.error(&error))?;
        Ok(topics)
    }

    /// The last offset that a batch of the partition can hold; none without a batch.
    pub(super) fn last_offset(&self, topic: u32, partition: i32) -> Result<Option<i64>, LogError> {
        let highest = record_key(topic, partition, i64::MAX);
        let mut batches = self.db.raw_iterator_cf(self.records()?);
        batches.seek_for_prev(highest);
        let last = batches.key().filter(|key| key.starts_with(&highest[..8])).and_then(offset_of);
        batches.status().map_err(|error| self.error(&error))?;
        Ok(last)
    }

    pub(super) fn write(&self, batch: WriteBatch) -> Result<(), LogError> {
        if self.sync {
            return self.write_synced(batch);
        }
        self.db.write(batch).map_err(|error| self.error(&error))?;
        self.mark().follow().map_err(|error| self.unmarked(&error))
    }

    /// The batch, and everything written before it, survives a loss of power when this returns.
    pub(super) fn write_synced(&self, mut batch: WriteBatch) -> Result<(), LogError> {
        let mut mark = self.mark();
        let number = mark.number() + 1;
        batch.put(b"M", number.to_be_bytes());
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(batch, &options).map_err(|error| self.error(&error))?;
        mark.advance(number).map_err(|error| self.unmarked(&error))
    }

    fn unmarked(&self, error: &std::io::Error) -> LogError {
        LogError::Unavailable(format!("{}: {error}; check the disk's space and health", self.path.join(mark::FILE).display()))
    }

    /// Whether writes work: after a failed one RocksDB may refuse all of them.
    pub(super) fn probe(&self) -> Result<(), LogError> {
        let mut batch = WriteBatch::default();
        batch.put(b"F", [FORMAT]);
        self.write_synced(batch)
    }

    /// Everything written so far survives a loss of power when this returns.
    pub(super) fn sync(&self) -> Result<(), LogError> {
        self.write_synced(WriteBatch::default())
    }

    /// Frees the files that hold nothing but record keys in `from..=to`.
    pub(super) fn drop_files(&self, from: [u8; 16], to: [u8; 16]) -> Result<(), LogError> {
        self.db.delete_file_in_range_cf(self.records()?, from, to).map_err(|error| self.error(&error))
    }

    /// A RocksDB error while the log is in use.
    pub(super) fn error(&self, error: &rocksdb::Error) -> LogError {
        let place = self.path.display();
        match error.kind() {
            ErrorKind::Corruption => self.damaged(error.as_ref()),
            ErrorKind::IOError => LogError::Unavailable(format!("{place}: {error}; check the disk's space and health")),
            _ => LogError::Unavailable(format!("{place}: {error}")),
        }
    }

    pub(super) fn damaged(&self, detail: &str) -> LogError {
        corrupt(&self.path, detail)
    }

    pub(super) fn damaged_batch(&self, at: &TopicPartition, damage: Damage) -> LogError {
        match damage {
            Damage::UnknownVersion(version) => LogError::Refused(format!(
                "{}: {at} holds a batch of version {version}, which this version cannot read: run the version that wrote it",
                self.path.display()
            )),
            Damage::Malformed => self.damaged(&format!("{at} holds a batch that cannot be read")),
        }
    }
}

/// A log that was closed is on the disk as a whole.
impl Drop for Disk {
    fn drop(&mut self) {
        // Nobody is left to be told; what could not be synced is what a crash leaves.
        let _ = self.sync();
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // What a crash left of the write-ahead log is taken up to the first torn entry: whole transactions, in order. A loss of power may
    // tear it anywhere behind the last sync, so that is no damage; that nothing synced is missing is for `mark` to tell.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(512);
    options.set_keep_log_file_num(4);
    options.increase_parallelism(2);
    options
}

fn family_options(options: &EmbeddedOptions) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    let mut family = Options::default();
    family.set_block_based_table_factory(&blocks);
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_write_buffer_size(options.write_buffer_bytes);
    family.set_max_write_buffer_number(3);
    family
}

/// RocksDB makes a new database where it finds no `CURRENT`, whatever else is there: data must not vanish like that.
fn check_directory(path: &Path) -> Result<(), LogError> {
    let unreadable = |error: std::io::Error| {
        LogError::Refused(format!(
            "cannot read the directory {}: {error}; change its rights or choose another --state-dir",
            path.display()
        ))
    };
    if path.join("CURRENT").exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "sst" || extension == "log") {
            return Err(corrupt(path, "its file CURRENT is missing"));
        }
    }
    Ok(())
}

fn open_error(path: &Path, error: &rocksdb::Error) -> LogError {
    let text: &str = error.as_ref();
    let place = path.display();
    match error.kind() {
        ErrorKind::IOError if text.contains("lock ") => LogError::Refused(format!(
            "the event log in {place} is open in another process: stop that one, or choose another --state-dir ({text})"
        )),
        ErrorKind::IOError if text.contains("No such file") => corrupt(path, text),
        ErrorKind::IOError => {
            LogError::Refused(format!("cannot open the event log in {place}: {text}; check the directory's rights and space"))
        }
        ErrorKind::InvalidArgument if text.contains("olumn famil") => foreign(path),
        ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotSupported => corrupt(path, text),
        _ => LogError::Unavailable(format!("cannot open the event log in {place}: {text}")),
    }
}

fn corrupt(path: &Path, detail: &str) -> LogError {
    LogError::Corrupt(format!("{}: {detail}; restore the directory from a copy, or move it away to begin anew", path.display()))
}

fn foreign(path: &Path) -> LogError {
    LogError::Refused(format!("{} holds a database that is no event log: choose another --state-dir", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{DB, Disk, EmbeddedOptions, Options, RECORDS, WriteBatch, record_key};
    use crate::io::log::LogError;
    use std::path::Path;
    use tempfile::TempDir;

    fn open(path: &Path) -> Result<Disk, LogError> {
        Disk::open(path, &EmbeddedOptions::default())
    }

    #[test]
    fn another_database_is_left_alone() {
        let mut create = Options::default();
        create.create_if_missing(true);
        create.create_missing_column_families(true);
        for families in [&["default"][..], &["default", RECORDS], &["default", "state"]] {
            let directory = TempDir::new().expect("a directory");
            DB::open_cf(&create, directory.path(), families).and_then(|db| db.put(b"key", b"value")).expect("another's data");
            let error = open(directory.path()).err().expect("it is not ours");
            assert!(matches!(&error, LogError::Refused(detail) if detail.contains("no event log")), "{families:?}: {error:?}");
            assert_eq!(
                DB::list_cf(&create, directory.path()).expect("families").contains(&"state".to_owned()),
                families.contains(&"state")
            );
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let directory = TempDir::new().expect("a directory");
        open(directory.path()).expect("a new log").db.put(b"F", [9]).expect("a newer version's mark");
        let error = open(directory.path()).err().expect("it is newer");
        assert!(matches!(&error, LogError::Refused(detail) if detail.contains("[9]")), "{error:?}");
    }

    #[test]
    fn a_flipped_byte_is_damage() {
        let directory = TempDir::new().expect("a directory");
        let disk = open(directory.path()).expect("a new log");
        let mut write = WriteBatch::default();
        for offset in 0..100 {
            write.put_cf(disk.records().expect("records"), record_key(0, 0, offset), [7; 1_000]);
        }
        disk.write(write).expect("write");
        disk.db.flush_cf(disk.records().expect("records")).expect("flush");
        let read = |disk: &Disk| {
            let mut batches = disk.batches(0, 0, 0, 100).expect("batches");
            while batches.valid() {
                batches.next();
            }
            batches.status().map_err(|error| disk.error(&error))
        };
        read(&disk).expect("all is well");
        drop(disk);
        for file in std::fs::read_dir(directory.path()).expect("list").map(|entry| entry.expect("entry").path()) {
            if file.extension().is_some_and(|extension| extension == "sst") {
                let mut bytes = std::fs::read(&file).expect("read");
                bytes[40] ^= 1;
                std::fs::write(&file, bytes).expect("write");
            }
        }
        let error = open(directory.path()).and_then(|disk| read(&disk)).expect_err("a byte is another");
        assert!(matches!(error, LogError::Corrupt(_)), "{error:?}");
    }
}
