//! A mapping and a file of history: a problem with a name, or rows of valid records and rejects with their reasons.

use super::parts;
use smartrouter::domain::Validate;
use smartrouter::io::history::{HistoryReader, HistoryRow, Mapping, Requests};
use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;

const ROWS_MAX: usize = 200;

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(tempfile::NamedTempFile::with_suffix(".csv").expect("a file"));
}

/// The mapping, and behind `PART` the file. True when the mapping is good.
pub fn run(data: &[u8]) {
    let (mapping, history) = parts(data);
    let Ok(text) = std::str::from_utf8(mapping) else { return };
    let mapping = match Mapping::parse(text, "m.toml") {
        Ok(mapping) => mapping,
        Err(error) => {
            assert!(error.to_string().contains("m.toml"), "{error}");
            return;
        }
    };
    let path = written(history);
    let reader = match HistoryReader::open(std::slice::from_ref(&path), mapping, Requests::PerAttempt) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
            return;
        }
    };
    let mut last_at = i64::MIN;
    for row in reader.take(ROWS_MAX) {
        match row {
            Ok(HistoryRow::Events(events)) => {
                events.attempt.validate().expect("an attempt is checked");
                events.outcome.iter().for_each(|it| it.validate().expect("an outcome is checked"));
                events.request.iter().for_each(|it| it.validate().expect("a request is checked"));
                assert!(events.attempt.attempted_at >= last_at, "time goes back");
                last_at = events.attempt.attempted_at;
            }
            Ok(HistoryRow::Reject(reject)) => assert!(!reject.reason.is_empty() && reject.row > 0, "{reject:?}"),
            Err(error) => assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}"),
        }
    }
}

fn written(history: &[u8]) -> PathBuf {
    FILE.with_borrow_mut(|file| {
        let path = file.path().to_owned();
        let out = file.as_file_mut();
        out.set_len(0).unwrap();
        std::io::Seek::rewind(out).unwrap();
        out.write_all(history).unwrap();
        path
    })
}
