//! The files of an embedded log, damaged: opening and reading it is an error that names the directory, or gives committed records,
//! each as it was written, from the first on.
//!
//! Two kinds of damage: bytes of files (RocksDB's checksums stand in the way), and stored values with good checksums, such as a mistaken
//! program would leave: these may be anything, so all that is asked is an error or an answer.

use super::draw::Draw;
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::{EventLog, LogError, Output, Polled, Position, TopicDescription, TopicPartition, Txn};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

pub const RECORDS: i64 = 60;
const TOPIC: &str = "t";

/// Name and bytes of each file.
pub type Files = Vec<(String, Vec<u8>)>;

/// What a log holds: records by offset, and how far its group has come.
#[derive(Debug, Default, PartialEq)]
pub struct Content {
    pub records: BTreeMap<i64, String>,
    pub committed: i64,
}

pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let mut files = template().clone();
    if draw.one_in(4) {
        rewrite(&mut draw, &files);
        return;
    }
    for _ in 0..=draw.below(3) {
        let at = draw.below(files.len());
        damage(&mut draw, &mut files, at);
    }
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &files);
    match read(directory.path()) {
        Ok(content) => check_prefix(&content),
        Err(error) => check_error(directory.path(), &error),
    }
}

fn damage(draw: &mut Draw<'_>, files: &mut Files, at: usize) {
    if files.is_empty() {
        return;
    }
    let at = at % files.len();
    let bytes = &mut files[at].1;
    let place = draw.word() as usize % bytes.len().max(1);
    match draw.below(6) {
        0 => drop(files.remove(at)),
        1 => bytes.truncate(place),
        2 => bytes.clear(),
        3 => {
            let end = (place + 1 + draw.below(64)).min(bytes.len());
            bytes.get_mut(place..end).unwrap_or_default().fill(0);
        }
        4 => {
            let more: Vec<u8> = (0..draw.below(64)).map(|_| draw.byte()).collect();
            bytes.extend(more);
        }
        _ => {
            let mask = draw.byte().max(1);
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= mask;
            }
        }
    }
}

/// Puts a drawn value under a drawn key of the log's own, with RocksDB's help.
fn rewrite(draw: &mut Draw<'_>, files: &Files) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), files);
    let mut options = rocksdb::Options::default();
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    {
        let db = rocksdb::DB::open_cf(&options, directory.path(), ["default", "records"]).unwrap();
        let family = if draw.one_in(3) { "default" } else { "records" };
        let family = db.cf_handle(family).unwrap();
        let stored: Vec<_> = db.iterator_cf(family, rocksdb::IteratorMode::Start).map(|entry| entry.unwrap()).collect();
        let (key, value) = &stored[draw.below(stored.len())];
        let mut key = key.to_vec();
        let mut value = value.to_vec();
        if draw.one_in(4) {
            let at = draw.below(key.len());
            key[at] = draw.byte();
        }
        let at = draw.below(value.len().max(1));
        let with: Vec<u8> = (0..draw.below(24)).map(|_| draw.byte()).collect();
        let end = (at + with.len()).min(value.len());
        value.splice(at.min(end)..end, with);
        db.put_cf(family, key, value).unwrap();
    }
    if let Err(error) = read(directory.path()) {
        check_error(directory.path(), &error);
    }
}

pub fn check_error(directory: &Path, error: &LogError) {
    let text = error.to_string();
    assert!(text.contains(&*directory.to_string_lossy()), "it does not name the directory: {text}");
}

/// All transactions, or the first ones of them, each whole.
pub fn check_prefix(content: &Content) {
    for (index, (offset, value)) in content.records.iter().enumerate() {
        assert_eq!((*offset, value), (index as i64, &value_of(*offset)), "not what was written there");
    }
    assert_eq!(content.committed, content.records.len() as i64, "half a transaction");
}

pub fn value_of(offset: i64) -> String {
    format!("{offset} {}", "v".repeat((offset as usize * 37) % 400))
}

/// A log whose records lie in an SST file (those below 40) and in the write-ahead log.
pub fn template() -> &'static Files {
    static TEMPLATE: OnceLock<Files> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path()).unwrap();
        let topic = TopicDescription { name: TOPIC.into(), partitions: 1, replication: None, settings: BTreeMap::new() };
        log.create_topics(&[topic]).unwrap();
        append(&log, 0..40);
        // Opening writes what the write-ahead log holds into files of its own.
        drop(log);
        let log = open(directory.path()).unwrap();
        append(&log, 40..RECORDS);
        files_of(directory.path())
    })
}

fn append(log: &EmbeddedLog, offsets: std::ops::Range<i64>) {
    let at = TopicPartition::new(TOPIC, 0);
    let mut member = log.member("g", "i", &[TOPIC.to_owned()]).unwrap();
    member.poll(&mut Vec::new(), 1, Duration::ZERO).unwrap();
    for offset in offsets {
        let value = Some(value_of(offset).into());
        let output =
            Output { topic: TOPIC.into(), partition: Some(0), timestamp_ms: Some(offset), key: None, value, headers: Vec::new() };
        member.commit(Txn { outputs: vec![output], input_offsets: BTreeMap::from([(at.clone(), offset + 1)]) }).unwrap();
    }
}

pub fn open(path: &Path) -> Result<EmbeddedLog, LogError> {
    EmbeddedLog::open(path, EmbeddedOptions::default())
}

/// The files as they are now, also while the log is open: what a crash would leave.
pub fn files_of(path: &Path) -> Files {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Files = entries
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .filter(|(name, _)| !name.starts_with("LOG") && name != "LOCK")
        .collect();
    files.sort();
    files
}

pub fn write(directory: &Path, files: &Files) {
    for (name, bytes) in files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}

/// Opens, reads all, closes, and does the same again: what was read once is read again.
pub fn read(path: &Path) -> Result<Content, LogError> {
    let first = read_once(path)?;
    assert_eq!(read_once(path).expect("it was just opened"), first, "another answer the second time");
    Ok(first)
}

fn read_once(path: &Path) -> Result<Content, LogError> {
    let log = open(path)?;
    let mut found = Content::default();
    let at = TopicPartition::new(TOPIC, 0);
    let mut reader = log.reader()?;
    match reader.assign(&[(at.clone(), Position::Beginning)]) {
        Err(LogError::NoTopic(_)) => return Ok(found),
        other => other?,
    }
    found.committed = log.group_offsets("g", std::slice::from_ref(&at))?[&at].unwrap_or(0);
    loop {
        let mut polled = Vec::new();
        reader.poll(&mut polled, 1_000, Duration::ZERO)?;
        for event in polled {
            match event {
                Polled::Record(record) => {
                    let value = String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
                    assert!(found.records.insert(record.offset, value).is_none(), "offset {} comes twice", record.offset);
                }
                Polled::End { .. } => return Ok(found),
                Polled::Assigned(_) | Polled::Revoked(_) => {}
            }
        }
    }
}
