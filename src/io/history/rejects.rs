//! The rejects file: what was left out, where, and why.

use super::{HistoryError, Reject};
use serde::Serialize;
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// A file with one entry per reject: JSON lines when its name ends in `.jsonl`, `.ndjson` or `.json`, else CSV with a header.
pub struct RejectsFile {
    file: String,
    sink: Sink,
}

enum Sink {
    Csv(Box<csv::Writer<BufWriter<File>>>),
    JsonLines(BufWriter<File>),
}

#[derive(Serialize)]
struct Entry<'a> {
    file: &'a str,
    row: u64,
    reason: &'a str,
    text: &'a str,
}

impl RejectsFile {
    /// Overwrites what is there: the rejects are those of one replay.
    pub fn create(path: &Path) -> Result<Self, HistoryError> {
        let file = path.display().to_string();
        let created = File::create(path).map_err(|source| HistoryError::Io { file: file.clone(), source })?;
        let writer = BufWriter::new(created);
        let is_json =
            path.extension().is_some_and(|e| ["jsonl", "ndjson", "json"].iter().any(|known| e.eq_ignore_ascii_case(known)));
        let sink = if is_json { Sink::JsonLines(writer) } else { Sink::Csv(Box::new(csv::Writer::from_writer(writer))) };
        Ok(Self { file, sink })
    }

    pub fn write(&mut self, reject: &Reject) -> Result<(), HistoryError> {
        let entry = Entry { file: &reject.file, row: reject.row, reason: &reject.reason, text: &reject.text };
        let written = match &mut self.sink {
            Sink::Csv(writer) => writer.serialize(entry).map_err(std::io::Error::other),
            Sink::JsonLines(writer) => {
                serde_json::to_writer(&mut *writer, &entry).map_err(std::io::Error::other).and_then(|()| writer.write_all(b"\n"))
            }
        };
        written.map_err(|source| HistoryError::Io { file: self.file.clone(), source })
    }

    /// To be called at the end: what fails to reach the disk is an error, not a silence.
    pub fn finish(self) -> Result<(), HistoryError> {
        let flushed = match self.sink {
            Sink::Csv(mut writer) => writer.flush(),
            Sink::JsonLines(mut writer) => writer.flush(),
        };
        flushed.map_err(|source| HistoryError::Io { file: self.file, source })
    }
}

/// Digits of card numbers after the first six become stars: 13 to 19 digits, single spaces or hyphens between them or not, that
/// pass the Luhn check and start as payment cards do (ISO/IEC 7812-1; a time in milliseconds does not). Rejected rows are the
/// place where a card number in a wrong column would come to light.
pub(super) fn mask_card_numbers(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut masked: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let places = digit_run(bytes, at);
        let end = places.last().map_or(at, |last| last + 1);
        let starts_as_card = matches!(bytes[at], b'2'..=b'6');
        if starts_as_card && (13..=19).contains(&places.len()) && passes_luhn(bytes, &places) {
            let into = masked.get_or_insert_with(|| bytes.to_vec());
            for &place in &places[6..] {
                into[place] = b'*';
            }
        }
        at = end;
    }
    // Only ASCII digits were replaced by ASCII, so the text is still UTF-8.
    masked.and_then(|bytes| String::from_utf8(bytes).ok()).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Where the digits of a run are, separators aside.
fn digit_run(bytes: &[u8], start: usize) -> Vec<usize> {
    let mut places = vec![start];
    let mut at = start + 1;
    while at < bytes.len() {
        let is_separator = matches!(bytes[at], b' ' | b'-') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if bytes[at].is_ascii_digit() {
            places.push(at);
        } else if !is_separator {
            break;
        }
        at += 1;
    }
    places
}

fn passes_luhn(bytes: &[u8], places: &[usize]) -> bool {
    let digit = |place: &usize| u32::from(bytes[*place] - b'0');
    let doubled = |d: u32| if d > 4 { 2 * d - 9 } else { 2 * d };
    let sum: u32 = places.iter().rev().map(digit).enumerate().map(|(i, d)| if i % 2 == 0 { d } else { doubled(d) }).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_masked_and_nothing_else() {
        for (text, expect) in [
            ("a,4111111111111111,b", "a,411111**********,b"),
            ("4111 1111-1111 1111", "4111 11**-**** ****"),
            ("4111111111111112", "4111111111111112"),
            ("1546300871259", "1546300871259"),
            ("Größe 5,19.99", "Größe 5,19.99"),
            ("", ""),
        ] {
            assert_eq!(mask_card_numbers(text), expect);
        }
    }

    #[test]
    fn entries_are_written_in_both_forms() {
        let dir = tempfile::tempdir().expect("a directory");
        let reject = Reject { file: "f.csv".into(), row: 3, reason: "is \"odd\"".into(), text: "a,\"b\nc\"".into() };
        for (name, expect) in [
            ("r.csv", "file,row,reason,text\nf.csv,3,\"is \"\"odd\"\"\",\"a,\"\"b\nc\"\"\"\n"),
            ("r.jsonl", "{\"file\":\"f.csv\",\"row\":3,\"reason\":\"is \\\"odd\\\"\",\"text\":\"a,\\\"b\\nc\\\"\"}\n"),
        ] {
            let path = dir.path().join(name);
            let mut file = RejectsFile::create(&path).expect("created");
            file.write(&reject).expect("written");
            file.finish().expect("flushed");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), expect);
        }
    }
}
