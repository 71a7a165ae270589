//! The reader: files in, rows of events out, in order of time.

use super::chains::{self, stable_id, Chains, Placed};
use super::convert;
use super::mapping::Mapping;
use super::rejects::mask_card_numbers;
use super::source::{Cell, RawRow, RowSource};
use super::targets::Draft;
use super::{HistoryError, HistoryEvents, HistoryRow, Reject, Requests};
use crate::domain::payment::{PaymentOutcome, RoutingRequest};
use crate::domain::{EpochMs, InvalidRecord, Validate};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How far the reading is, for a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub bytes_read: u64,
    pub bytes_total: u64,
}

/// Reads files one after the other. After an error it yields nothing more.
pub struct HistoryReader {
    mapping: Mapping,
    requests: Requests,
    waiting: VecDeque<PathBuf>,
    open: Option<(Arc<str>, RowSource)>,
    order: Order,
    chains: Chains,
    /// The time of the last row that was used.
    last_at: Option<EpochMs>,
    bytes_of_read_files: u64,
    bytes_total: u64,
    has_failed: bool,
}

/// How rows come into order of time.
enum Order {
    /// The files are in order.
    AsRead,
    /// They are not: rows are gathered until all are read,
    Gathering(Vec<Candidate>),
    /// then handed out.
    Sorted(std::vec::IntoIter<Candidate>),
}

/// A row that reads well, before its place in a payment is known.
struct Candidate {
    origin: Origin,
    key: String,
    draft: Box<Draft>,
}

/// Where a row comes from, for a reject.
struct Origin {
    file: Arc<str>,
    row: u64,
    text: String,
}

impl Origin {
    fn reject(self, reason: String) -> Reject {
        Reject { file: self.file.to_string(), row: self.row, reason, text: mask_card_numbers(&self.text).into_owned() }
    }
}

impl HistoryReader {
    /// Opens every file once, so that a missing file or column is said before the first record is sent.
    pub fn open(files: &[PathBuf], mapping: Mapping, requests: Requests) -> Result<Self, HistoryError> {
        let mut bytes_total = 0;
        for path in files {
            bytes_total += file_bytes(path)?;
            RowSource::open(path, &mapping)?;
        }
        Ok(Self {
            chains: Chains::new(mapping.chains.clone()),
            order: if mapping.sorted { Order::AsRead } else { Order::Gathering(Vec::new()) },
            mapping,
            requests,
            waiting: files.iter().cloned().collect(),
            open: None,
            last_at: None,
            bytes_of_read_files: 0,
            bytes_total,
            has_failed: false,
        })
    }

    pub fn progress(&self) -> Progress {
        let of_open = self.open.as_ref().map_or(0, |(_, source)| source.bytes_read());
        Progress { bytes_read: (self.bytes_of_read_files + of_open).min(self.bytes_total), bytes_total: self.bytes_total }
    }

    fn next_history_row(&mut self) -> Result<Option<HistoryRow>, HistoryError> {
        loop {
            if let Order::Sorted(rows) = &mut self.order {
                let next = rows.next();
                return Ok(next.map(|candidate| self.use_candidate(candidate)));
            }
            match (self.next_candidate()?, &mut self.order) {
                (Some(Err(reject)), _) => return Ok(Some(HistoryRow::Reject(reject))),
                (Some(Ok(candidate)), Order::Gathering(rows)) => rows.push(candidate),
                (Some(Ok(candidate)), _) => return Ok(Some(self.use_candidate(candidate))),
                (None, Order::Gathering(rows)) => {
                    let mut rows = std::mem::take(rows);
                    // Stable: rows of the same time stay as they stand in the files.
                    rows.sort_by_key(|candidate| candidate.draft.attempt.attempted_at);
                    self.order = Order::Sorted(rows.into_iter());
                }
                (None, _) => return Ok(None),
            }
        }
    }

    /// The next row of the files, read by the mapping.
    fn next_candidate(&mut self) -> Result<Option<Result<Candidate, Reject>>, HistoryError> {
        loop {
            let Some((file, source)) = &mut self.open else {
                let Some(path) = self.waiting.pop_front() else {
                    return Ok(None);
                };
                let source = RowSource::open(&path, &self.mapping)?;
                self.open = Some((Arc::from(path.display().to_string()), source));
                continue;
            };
            if let Some(row) = source.next_row()? {
                let file = file.clone();
                return Ok(Some(candidate(&self.mapping, row, file)));
            }
            self.bytes_of_read_files += source.bytes_read();
            self.open = None;
        }
    }

    /// Finds the row's place in its payment; a row that breaks a rule of the records leaves no trace there.
    fn use_candidate(&mut self, candidate: Candidate) -> HistoryRow {
        let Candidate { origin, key, draft } = candidate;
        let at = draft.attempt.attempted_at;
        if let Some(last_at) = self.last_at.filter(|&last_at| at < last_at) {
            let late_ms = last_at.saturating_sub(at);
            let remedy = "set `sorted = false` in the mapping, so that all rows are read and sorted first";
            return HistoryRow::Reject(origin.reject(format!("attempted_at is {late_ms} ms before that of a row above it; {remedy}")));
        }
        let placed = self.chains.place(&key, &draft);
        match events(*draft, &placed, self.requests) {
            Ok(events) => {
                self.chains.take(placed, at);
                self.last_at = Some(at);
                HistoryRow::Events(Box::new(events))
            }
            Err(invalid) => HistoryRow::Reject(origin.reject(invalid.to_string())),
        }
    }
}

impl Iterator for HistoryReader {
    type Item = Result<HistoryRow, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = self.next_history_row();
        self.has_failed = next.is_err();
        next.transpose()
    }
}

fn file_bytes(path: &Path) -> Result<u64, HistoryError> {
    let metadata = std::fs::metadata(path);
    metadata.map(|meta| meta.len()).map_err(|source| HistoryError::Io { file: path.display().to_string(), source })
}

fn candidate(mapping: &Mapping, row: RawRow, file: Arc<str>) -> Result<Candidate, Reject> {
    let RawRow { number, text, cells } = row;
    let text = text.unwrap_or_else(|| cells.as_ref().map_or_else(|_| String::new(), |cells| cells_text(mapping, cells)));
    let origin = Origin { file, row: number, text };
    let read = cells.and_then(|cells| {
        let draft = convert::draft(mapping, &cells)?;
        Ok((chains::key(&mapping.chains, &cells, &draft), draft))
    });
    match read {
        Ok((key, draft)) => Ok(Candidate { origin, key, draft: Box::new(draft) }),
        Err(reason) => Err(origin.reject(reason)),
    }
}

/// A row of a file that holds no text: the mapped columns as JSON.
fn cells_text(mapping: &Mapping, cells: &[Cell]) -> String {
    let value = |cell: &Cell| match cell {
        Cell::Empty => serde_json::Value::Null,
        Cell::Text(text) => text.as_str().into(),
        Cell::Instant(ms) | Cell::WallClock(ms) => (*ms).into(),
    };
    let object: serde_json::Map<_, _> = mapping.columns.iter().cloned().zip(cells.iter().map(value)).collect();
    serde_json::Value::Object(object).to_string()
}

/// The records of a row, complete and checked.
fn events(draft: Draft, placed: &Placed, requests: Requests) -> Result<HistoryEvents, InvalidRecord> {
    let Draft { mut attempt, outcome, has_outcome, latency_ms, occurred_at, attempt_number } = draft;
    attempt.attempt_number = attempt_number.unwrap_or(i32::try_from(placed.place.length).unwrap_or(i32::MAX));
    let payment = &mut attempt.payment;
    payment.payment_id = placed.payment_id.to_string();
    if payment.order_id.is_empty() {
        payment.order_id.clone_from(&payment.payment_id);
    }
    let name = [attempt.payment.payment_id.as_str(), &attempt.attempt_number.to_string(), &attempt.attempted_at.to_string()];
    if attempt.attempt_id.is_empty() {
        attempt.attempt_id = stable_id("history.attempt", &name);
    }
    attempt.validate()?;
    let wants_request = match requests {
        Requests::None => false,
        Requests::PerPayment => placed.place.length == 1,
        Requests::PerAttempt => true,
    };
    let request = wants_request.then(|| RoutingRequest {
        request_id: stable_id("history.request", &[&attempt.payment.payment_id, &attempt.attempt_id]),
        payment: attempt.payment.clone(),
        requested_at: attempt.attempted_at,
        deadline_ms: None,
        allowed_psps: None,
        previous_attempts: None,
        dry_run: false,
    });
    let outcome = has_outcome.then(|| {
        let latency_ms = latency_ms.or(occurred_at.map(|at| at.saturating_sub(attempt.attempted_at))).unwrap_or(0);
        PaymentOutcome {
            attempt_id: attempt.attempt_id.clone(),
            payment_id: attempt.payment.payment_id.clone(),
            customer_id: attempt.payment.customer_id.clone(),
            psp_id: attempt.psp_id.clone(),
            latency_ms,
            occurred_at: occurred_at.unwrap_or(attempt.attempted_at.saturating_add(latency_ms)),
            ..outcome
        }
    });
    if let Some(outcome) = &outcome {
        outcome.validate()?;
    }
    Ok(HistoryEvents { request, attempt, outcome, place: placed.place })
}
