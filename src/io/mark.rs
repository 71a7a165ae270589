//! How far the disk was known to hold a database: a file beside it with the number of the last synced write, which the database holds
//! too, and how long RocksDB's manifest was.
//!
//! A write-ahead log or manifest that was cut looks like one whose last write a crash tore, and a write-ahead log that vanished like
//! none that was ever needed: RocksDB opens them, without what was in them. Without the end of its manifest it even misses what lies
//! in the middle: a file that it forgot, before a write-ahead log that it has. The file tells them apart: it is written after each
//! sync, so it is never ahead of the database unless something that the disk had is gone. Without the file nothing is checked.
//! Never synced itself: should a loss of power take its newest content, the older one is as true.
//! Read by `store` and `log::embedded`; knows nothing of what either holds.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(super) const FILE: &str = "SYNCED";
const WORDS: usize = 4;
const BYTES: usize = WORDS * 8;

/// What was known to be on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    number: u64,
    manifest: Manifest,
}

/// The manifest in force: later ones have higher numbers, and each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Manifest {
    number: u64,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Mark {
    directory: PathBuf,
    file: File,
    held: Held,
}

impl Mark {
    /// None: the file holds something that was never written to it.
    pub(super) fn open(directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join(FILE);
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.by_ref().take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(parse(&bytes).map(|held| Self { directory: directory.to_owned(), file, held }))
    }

    /// The number of the last synced write.
    pub(super) fn number(&self) -> u64 {
        self.held.number
    }

    /// The database knows better: the file was not there.
    pub(super) fn raise(&mut self, number: u64) {
        self.held.number = self.held.number.max(number);
    }

    /// Whether the manifest lacks something that it had. Before the database is opened: that begins a new one.
    pub(super) fn manifest_was_cut(&self) -> bool {
        // One that cannot be told is for RocksDB to complain about.
        manifest(&self.directory).is_some_and(|found| found < self.held.manifest)
    }

    /// After a write: the manifest may have grown.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        let Manifest { number, bytes } = self.held.manifest;
        let same = std::fs::metadata(self.directory.join(name_of(number))).is_ok_and(|found| found.len() == bytes);
        if same { Ok(()) } else { self.advance(self.held.number) }
    }

    /// After a synced write.
    pub(super) fn advance(&mut self, number: u64) -> io::Result<()> {
        self.held = Held { number, manifest: manifest(&self.directory).unwrap_or(self.held.manifest) };
        let words = [number, self.held.manifest.number, self.held.manifest.bytes, check(self.held)];
        self.file.write_all_at(&words.map(u64::to_le_bytes).concat(), 0)
    }
}

fn manifest(directory: &Path) -> Option<Manifest> {
    let current = std::fs::read_to_string(directory.join("CURRENT")).ok()?;
    let number = current.trim_end().strip_prefix("MANIFEST-")?.parse().ok()?;
    let bytes = std::fs::metadata(directory.join(name_of(number))).ok()?.len();
    Some(Manifest { number, bytes })
}

fn name_of(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

/// Empty or zeros: made, and not written before a loss of power.
fn parse(bytes: &[u8]) -> Option<Held> {
    if bytes.iter().all(|&byte| byte == 0) && bytes.len() <= BYTES {
        return Some(Held::default());
    }
    let (words, []) = bytes.as_chunks::<8>() else { return None };
    let [number, manifest_number, manifest_bytes, told] = <[[u8; 8]; WORDS]>::try_from(words).ok()?.map(u64::from_le_bytes);
    let held = Held { number, manifest: Manifest { number: manifest_number, bytes: manifest_bytes } };
    (told == check(held)).then_some(held)
}

/// Differs when any one byte does.
fn check(held: Held) -> u64 {
    !(held.number ^ held.manifest.number.rotate_left(21) ^ held.manifest.bytes.rotate_left(42))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_is_read_and_damage_is_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Mark::open(directory.path()).expect("readable");
        assert_eq!(open().expect("new").number(), 0);
        open().expect("new").advance(7).expect("written");
        open().expect("good").advance((1 << 40) + 7).expect("written");
        assert_eq!(open().expect("good").number(), (1 << 40) + 7);
        let path = directory.path().join(FILE);
        let good = std::fs::read(&path).expect("readable");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            std::fs::write(&path, bad).expect("written");
            assert!(open().is_none(), "byte {at}");
        }
        for bad in [&good[..5], &good[..8], &[&good[..], b"x"].concat(), &[0; BYTES + 1]] {
            std::fs::write(&path, bad).expect("written");
            assert!(open().is_none(), "{bad:?}");
        }
        std::fs::write(&path, [0; BYTES]).expect("written");
        assert_eq!(open().expect("as new").number(), 0);
    }

    #[test]
    fn a_manifest_that_shrinks_or_steps_back_is_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        let set = |number: u64, bytes: usize| {
            let name = format!("MANIFEST-{number:06}");
            std::fs::write(directory.path().join(&name), vec![1; bytes]).expect("written");
            std::fs::write(directory.path().join("CURRENT"), format!("{name}\n")).expect("written");
        };
        set(5, 100);
        Mark::open(directory.path()).expect("readable").expect("new").advance(1).expect("written");
        let mut mark = Mark::open(directory.path()).expect("readable").expect("good");
        set(5, 120);
        mark.follow().expect("written");
        for (number, bytes, cut) in [(5, 120, false), (5, 119, true), (5, 121, false), (4, 500, true), (6, 1, false)] {
            set(number, bytes);
            let mark = Mark::open(directory.path()).expect("readable").expect("good");
            assert_eq!(mark.manifest_was_cut(), cut, "{number} {bytes}");
        }
    }
}
