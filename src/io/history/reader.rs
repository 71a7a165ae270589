//! The reader: files in, rows of events out, in order of time.

use super::chains::{self, Chains, Placed, stable_id};
use super::convert;
use super::mapping::Mapping;
use super::rejects::mask_card_numbers;
use super::source::{Cell, RawRow, RowSource};
use super::spread::{Counts, Spread};
use super::targets::Draft;
use super::{HistoryError, HistoryEvents, HistoryRow, Reject, Requests};
use crate::domain::payment::{PaymentOutcome, RoutingRequest};
use crate::domain::{EpochMs, InvalidRecord, Validate};
use std::collections::{BTreeMap, VecDeque};
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
    /// Where rows count attempts: those that have begun, and the row that begins next.
    spread: Option<Spread>,
    begins_next: Option<Candidate>,
    /// The time of the last row that was used.
    last_at: Option<EpochMs>,
    /// Rows that were left out because they lie before one above them.
    late_rows: u64,
    /// Rows of the open file, and those of them that were used.
    rows_of_file: (u64, u64),
    /// Columns that no field reads and the mapping does not name, by file.
    unread_columns: BTreeMap<Arc<str>, Vec<String>>,
    /// Files that were read in order, and of which no row was used.
    unused_files: Vec<Arc<str>>,
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
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) origin: Origin,
    pub(super) key: String,
    pub(super) draft: Box<Draft>,
    /// How many attempts it stands for, where rows count them.
    counts: Option<Counts>,
}

/// Where a row comes from, for a reject.
#[derive(Clone)]
pub(super) struct Origin {
    file: Arc<str>,
    pub(super) row: u64,
    pub(super) text: String,
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
            RowSource::open(path, &mapping.sheet)?;
        }
        Ok(Self {
            chains: Chains::new(mapping.chains.clone()),
            spread: mapping.counts.map(Spread::new),
            begins_next: None,
            order: if mapping.sorted { Order::AsRead } else { Order::Gathering(Vec::new()) },
            mapping,
            requests,
            waiting: files.iter().cloned().collect(),
            open: None,
            last_at: None,
            late_rows: 0,
            rows_of_file: (0, 0),
            unread_columns: BTreeMap::new(),
            unused_files: Vec::new(),
            bytes_of_read_files: 0,
            bytes_total,
            has_failed: false,
        })
    }

    pub fn progress(&self) -> Progress {
        let of_open = self.open.as_ref().map_or(0, |(_, source)| source.bytes_read());
        Progress { bytes_read: (self.bytes_of_read_files + of_open).min(self.bytes_total), bytes_total: self.bytes_total }
    }

    /// Rows that were left out because they lie before one above them: the files, or what is in them, are not in order.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// Files with rows of which not one was used, as far as they are read. Known of files in order only.
    pub fn unused_files(&self) -> &[Arc<str>] {
        &self.unused_files
    }

    /// Columns that no field reads and that the mapping does not name as ignored, by file, as far as files are read to their end.
    pub fn unread_columns(&self) -> &BTreeMap<Arc<str>, Vec<String>> {
        &self.unread_columns
    }

    fn next_history_row(&mut self) -> Result<Option<HistoryRow>, HistoryError> {
        let next = if self.spread.is_some() { self.next_counted()? } else { self.next_in_order()? };
        Ok(next.map(|next| match next {
            Ok(candidate) => self.use_candidate(candidate),
            Err(reject) => HistoryRow::Reject(reject),
        }))
    }

    /// The next of the attempts that rows count.
    fn next_counted(&mut self) -> Result<Option<Result<Candidate, Reject>>, HistoryError> {
        loop {
            if self.begins_next.is_none() {
                match self.next_in_order()? {
                    Some(Ok(candidate)) => self.begins_next = Some(candidate),
                    Some(Err(reject)) => return Ok(Some(Err(reject))),
                    None => {}
                }
            }
            let limit = self.begins_next.as_ref().map(|candidate| candidate.draft.attempt.attempted_at);
            let Some(spread) = &mut self.spread else { return Ok(None) };
            if let Some(attempt) = spread.next_before(limit) {
                return Ok(Some(Ok(attempt)));
            }
            let Some(candidate) = self.begins_next.take() else { return Ok(None) };
            match candidate.counts {
                // It begins before what was handed out: it is turned away as a whole.
                Some(_) if self.last_at.is_some_and(|last_at| limit < Some(last_at)) => return Ok(Some(Ok(candidate))),
                Some(counts) => spread.take(candidate, counts),
                None => {}
            }
        }
    }

    /// The next row, in order of time where the mapping asks for that.
    fn next_in_order(&mut self) -> Result<Option<Result<Candidate, Reject>>, HistoryError> {
        loop {
            if let Order::Sorted(rows) = &mut self.order {
                return Ok(rows.next().map(Ok));
            }
            match (self.next_candidate()?, &mut self.order) {
                (Some(Ok(candidate)), Order::Gathering(rows)) => rows.push(candidate),
                (Some(row), _) => return Ok(Some(row)),
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
                let source = RowSource::open(&path, &self.mapping.sheet)?;
                self.open = Some((Arc::from(path.display().to_string()), source));
                continue;
            };
            if let Some(row) = source.next_row()? {
                self.rows_of_file.0 += 1;
                let file = file.clone();
                return Ok(Some(candidate(&self.mapping, row, file)));
            }
            self.bytes_of_read_files += source.bytes_read();
            let unread = source.unread().iter().filter(|name| !self.mapping.sheet.ignored.contains(name));
            let unread: Vec<String> = unread.cloned().collect();
            if !unread.is_empty() {
                self.unread_columns.insert(file.clone(), unread);
            }
            if let (1.., 0, Order::AsRead) = (self.rows_of_file.0, self.rows_of_file.1, &self.order) {
                self.unused_files.push(file.clone());
            }
            self.rows_of_file = (0, 0);
            self.open = None;
        }
    }

    /// Finds the row's place in its payment; a row that breaks a rule of the records leaves no trace there.
    fn use_candidate(&mut self, candidate: Candidate) -> HistoryRow {
        let Candidate { origin, key, draft, counts: _ } = candidate;
        let at = draft.attempt.attempted_at;
        if let Some(last_at) = self.last_at.filter(|&last_at| at < last_at) {
            self.late_rows += 1;
            let late_ms = last_at.saturating_sub(at);
            let remedy = "set `sorted = false` in the mapping, so that all rows are read and sorted first";
            return HistoryRow::Reject(
                origin.reject(format!("attempted_at is {late_ms} ms before that of a row above it; {remedy}")),
            );
        }
        let placed = self.chains.place(&key, &draft);
        match events(*draft, &placed, self.requests) {
            Ok(events) => {
                self.chains.take(placed, at);
                self.last_at = Some(at);
                self.rows_of_file.1 += 1;
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
    let text =
        text.unwrap_or_else(|| cells.as_ref().map_or_else(|_| String::new(), |cells| cells_text(&mapping.sheet.columns, cells)));
    let origin = Origin { file, row: number, text };
    let read = cells.and_then(|cells| {
        let mut draft: Draft = convert::fill(&mapping.sheet, &cells)?;
        draft.unread = convert::unread_json(&mapping.sheet, &cells);
        let counts = mapping.counts.map(|rule| Counts::read(&rule, &mapping.sheet.columns, &cells)).transpose()?;
        Ok((chains::key(&mapping.chains, &cells, &draft), draft, counts))
    });
    match read {
        Ok((key, draft, counts)) => Ok(Candidate { origin, key, draft: Box::new(draft), counts }),
        Err(reason) => Err(origin.reject(reason)),
    }
}

/// A row of a file that holds no text: the mapped columns as JSON.
pub(super) fn cells_text(columns: &[String], cells: &[Cell]) -> String {
    let value = |cell: &Cell| match cell {
        Cell::Empty => serde_json::Value::Null,
        Cell::Text(text) => text.as_str().into(),
        Cell::Instant(ms) | Cell::WallClock(ms) => (*ms).into(),
    };
    let object: serde_json::Map<_, _> = columns.iter().cloned().zip(cells.iter().map(value)).collect();
    serde_json::Value::Object(object).to_string()
}

/// The records of a row, complete and checked.
fn events(draft: Draft, placed: &Placed, requests: Requests) -> Result<HistoryEvents, InvalidRecord> {
    let Draft { mut attempt, outcome, has_outcome, latency_ms, occurred_at, attempt_number, unread } = draft;
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
    Ok(HistoryEvents { request, attempt, outcome, place: placed.place, unread })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::history::mapping::{Shape, Sheet};
    use crate::io::history::source::Format;
    use crate::io::history::targets::Fill;
    use proptest::prelude::*;

    const MAPPING: &str = r#"
        [chains]
        same = ["card"]
        gap_s = 60
        until = "approved"
        [fields]
        psp_id = { column = "psp" }
        attempted_at = { column = "at", time = "epoch_s" }
        status = { column = "ok", values = { 0 = "DECLINED", 1 = "APPROVED" } }
        payment.merchant_id = { constant = "m" }
        payment.amount_minor = { column = "amount" }
        payment.currency = { constant = "EUR" }
    "#;

    fn read(texts: &[&str], mapping: &str) -> Vec<HistoryRow> {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |(index, text): (usize, &&str)| {
            let path = dir.path().join(format!("{index}.csv"));
            std::fs::write(&path, format!("at,psp,card,amount,ok\n{text}")).expect("written");
            path
        };
        let files: Vec<PathBuf> = texts.iter().enumerate().map(file).collect();
        let mapping = Mapping::parse(mapping, "m.toml").expect("a good mapping");
        let reader = HistoryReader::open(&files, mapping, Requests::PerAttempt).expect("readable");
        reader.map(|row| row.expect("readable")).collect()
    }

    fn described(rows: &[HistoryRow]) -> Vec<String> {
        let described = |row: &HistoryRow| match row {
            HistoryRow::Events(e) => {
                format!("{} {} {}", e.attempt.attempted_at / 1_000, e.attempt.psp_id, e.attempt.attempt_number)
            }
            HistoryRow::Reject(reject) => format!("! {} {}", reject.row, reject.reason),
        };
        rows.iter().map(described).collect()
    }

    #[test]
    fn chains_go_on_in_the_next_file() {
        let rows = read(&["1546300800,a,x,1,0\n", "1546300810,b,x,1,1\n1546300811,c,x,1,0\n"], MAPPING);
        assert_eq!(described(&rows), ["1546300800 a 1", "1546300810 b 2", "1546300811 c 1"]);
    }

    #[test]
    fn a_row_that_breaks_a_rule_leaves_no_trace_in_its_payment() {
        // The second row is in the year 2500, the third has a negative amount, the fourth goes back in time.
        let text = "1546300800,a,x,1,0\n16725225600,b,x,1,1\n1546300805,c,x,-1,0\n1546300799,d,x,1,0\n1546300810,e,x,1,0\n";
        let rows = described(&read(&[text], MAPPING));
        assert_eq!((rows[0].as_str(), rows[4].as_str()), ("1546300800 a 1", "1546300810 e 2"));
        for (row, part) in [(1, "! 3 attempted_at is"), (2, "! 4 amount_minor is \"-1\""), (3, "set `sorted = false`")] {
            assert!(rows[row].contains(part), "{rows:?}");
        }
    }

    #[test]
    fn rows_that_count_are_spread_over_their_time() {
        let mapping = MAPPING
            .replace("[chains]\n        same = [\"card\"]\n        gap_s = 60\n        until = \"approved\"", "[counts]\n        attempts = \"card\"\n        successes = \"ok\"\n        otherwise = \"TIMEOUT\"\n        over_s = 100")
            .replace("status = { column = \"ok\", values = { 0 = \"DECLINED\", 1 = \"APPROVED\" } }", "");
        // Two PSPs in the same 100 s, one in the next, one that counts nothing, one that makes no sense, one that comes too late.
        let text = "1546300800,a,4,1,3\n1546300800,b,2,1,0\n1546300900,a,1,1,1\n1546300900,c,0,1,0\n1546300900,d,1,1,2\n1546300800,e,1,1,1\n";
        let rows = read(&[text], &mapping);
        let told: Vec<String> = rows
            .iter()
            .map(|row| match row {
                HistoryRow::Events(it) => {
                    let outcome = it.outcome.as_ref().expect("an outcome");
                    format!(
                        "{} {} {:?} {}",
                        it.attempt.attempted_at - 1_546_300_800_000,
                        it.attempt.psp_id,
                        outcome.status,
                        it.place.length
                    )
                }
                HistoryRow::Reject(reject) => format!("! {} {}", reject.row, reject.reason.chars().take(24).collect::<String>()),
            })
            .collect();
        let of = |psp: &str| told.iter().filter(|it| it.split(' ').nth(1) == Some(psp)).cloned().collect::<Vec<_>>();
        let times = |psp: &str| of(psp).iter().map(|it| it.split(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (times("a"), times("b")),
            (
                ["12500", "37500", "62500", "87500", "150000"].map(str::to_owned).to_vec(),
                ["25000", "75000"].map(str::to_owned).to_vec()
            )
        );
        assert_eq!(of("a").iter().filter(|it| it.contains("Approved")).count(), 4, "{told:?}");
        assert!(of("b").iter().all(|it| it.ends_with("Timeout 1")), "{told:?}");
        let rejects: Vec<&String> = told.iter().filter(|it| it.starts_with('!')).collect();
        assert_eq!(rejects, ["! 6 counts more successes (2", "! 7 attempted_at is 87500 ms"], "{told:?}");
        let mut ids: Vec<String> = rows
            .iter()
            .filter_map(|row| if let HistoryRow::Events(it) = row { Some(it.attempt.payment.payment_id.clone()) } else { None })
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 7, "each attempt is a payment of its own");
        let events =
            |rows: Vec<HistoryRow>| rows.into_iter().filter(|row| matches!(row, HistoryRow::Events(_))).collect::<Vec<_>>();
        assert_eq!(events(read(&[text], &mapping)), events(rows), "the same file reads the same");
    }

    #[test]
    fn unsorted_files_are_sorted_when_the_mapping_says_so() {
        let mapping = format!("sorted = false\n{MAPPING}");
        let rows = read(&["1546300810,b,x,1,1\n", "1546300811,c,x,1,0\nbroken\n1546300800,a,x,1,0\n"], &mapping);
        let expect = ["! 3 has 1 columns where the header has 5", "1546300800 a 1", "1546300810 b 2", "1546300811 c 1"];
        assert_eq!(described(&rows), expect);
    }

    #[test]
    fn records_of_a_row_belong_together() {
        let rows = read(&["1546300800,a,x,1,1\n"], MAPPING);
        let HistoryRow::Events(events) = &rows[0] else { panic!("a good row") };
        let (attempt, outcome) = (&events.attempt, events.outcome.as_ref().expect("an outcome"));
        let request = events.request.as_ref().expect("a request");
        assert_eq!(request.payment, attempt.payment);
        assert_eq!((&outcome.attempt_id, &outcome.payment_id), (&attempt.attempt_id, &attempt.payment.payment_id));
        assert_eq!(attempt.payment.order_id, attempt.payment.payment_id);
        assert_eq!(request.validate(), Ok(()));
    }

    /// Pieces that mappings are made of, right and wrong, in any combination.
    fn any_field() -> impl Strategy<Value = String> {
        let target = prop::sample::select(Draft::TARGETS.iter().map(|target| target.path).collect::<Vec<_>>());
        let options = [
            "column = \"a\"",
            "column = \"b.c\"",
            "column = \"\"",
            "constant = 7",
            "constant = \"x\"",
            "default = \"1\"",
            "case = \"upper\"",
            "case = \"lower\"",
            "first_chars = 0",
            "json_path = \"/a\"",
            "unit = \"major\"",
            "unit = \"s\"",
            "decimal_mark = \",\"",
            "time = \"epoch_ns\"",
            "time = [\"%Y\", \"%+\", \"%s\"]",
            "time = []",
            "separator = \"\"",
            "values = { 1 = \"APPROVED\" }",
        ];
        let options = prop::collection::btree_set(prop::sample::select(options.to_vec()), 0..4);
        (target, options)
            .prop_map(|(path, options)| format!("\"{path}\" = {{ {} }}", options.into_iter().collect::<Vec<_>>().join(", ")))
    }

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let pieces =
            ["a,b\n", "a", ",", "\"", "\n", "\r\n", "{\"a\": 1}\n", "{", "}", ":", "1546300800", "-1", "\u{feff}", "PAR1", "ü"];
        let piece = prop_oneof![
            prop::sample::select(pieces.to_vec()).prop_map(|p| p.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..8)
        ];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_mapping_panics(fields in prop::collection::vec(any_field(), 0..12), noise in "\\PC{0,40}") {
            let _ = Mapping::parse(&format!("[fields]\n{}", fields.join("\n")), "m.toml");
            let _ = Mapping::parse(&noise, "m.toml");
        }

        #[test]
        fn no_file_panics_and_every_reading_ends(bytes in any_bytes(), extra in any_field(), sorted: bool) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("file");
            std::fs::write(&path, &bytes).expect("written");
            for format in [Format::Csv, Format::JsonLines, Format::Parquet] {
                let needed = "\"psp_id\" = { column = \"a\" }\n\"attempted_at\" = { column = \"a\", time = \"epoch_s\" }\n\
                    \"payment.merchant_id\" = { constant = \"m\" }\n\"payment.amount_minor\" = { constant = 1 }\n\
                    \"payment.currency\" = { constant = \"EUR\" }";
                let head = format!("sorted = {sorted}\n[chains]\nsame = [\"a\"]\ngap_s = 0\n[fields]\n{needed}\n");
                let with_extra = Mapping::parse(&format!("{head}{extra}"), "m.toml").or_else(|_| Mapping::parse(&head, "m.toml"));
                let mapping = with_extra.expect("a good mapping");
                let shape = Shape { format: Some(format), ..mapping.sheet.shape };
                let mapping = Mapping { sheet: Sheet { shape, ..mapping.sheet }, ..mapping };
                if let Ok(reader) = HistoryReader::open(std::slice::from_ref(&path), mapping, Requests::PerPayment) {
                    // A row has at least one byte.
                    prop_assert!(reader.count() <= bytes.len() + 1);
                }
            }
        }
    }
}
