//! What columns of JSON hold that no field of a mapping reads, kept in a file beside the history that is replayed: nothing is lost.

use super::replay::{ReplaySink, ReplayTotals};
use anyhow::{Context as _, Result};
use serde_json::json;
use smartrouter::io::history::HistoryEvents;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Passes events on, and writes what was not read of each attempt as a line of JSON: its ids, and the rest of each column.
pub(super) struct Keeping<S> {
    sink: S,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl<S> Keeping<S> {
    pub(super) fn new(sink: S, path: Option<&Path>) -> Result<Self> {
        let create = |path: &Path| -> Result<_> {
            let file = File::create(path).with_context(|| unwritable(path))?;
            Ok((path.to_owned(), BufWriter::new(file)))
        };
        Ok(Self { sink, file: path.map(create).transpose()? })
    }
}

fn unwritable(path: &Path) -> String {
    format!("{} cannot be written", path.display())
}

impl<S: ReplaySink> ReplaySink for Keeping<S> {
    fn accept(&mut self, events: HistoryEvents) -> Result<()> {
        if let Some((path, file)) = self.file.as_mut().filter(|_| !events.unread.is_empty()) {
            let attempt = &events.attempt;
            let line =
                json!({"attempt_id": attempt.attempt_id, "payment_id": attempt.payment.payment_id, "unread": events.unread});
            writeln!(file, "{line}").with_context(|| unwritable(path))?;
        }
        self.sink.accept(events)
    }

    fn finish(self) -> Result<ReplayTotals> {
        if let Some((path, mut file)) = self.file {
            file.flush().with_context(|| unwritable(&path))?;
        }
        self.sink.finish()
    }
}
