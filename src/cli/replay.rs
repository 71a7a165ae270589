//! `replay`: history from files through the engine, or onto Kafka, with a progress bar, a rejects file and a report.
//!
//! Owns the options, the loop and the report. Where the events go is a [`ReplaySink`], opened once files and mapping have proved
//! readable, so that a mistake in them is said before anything is sent.

use super::screen::{Column, Screen, percent, remark, text};
use super::unread::Keeping;
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use smartrouter::io::history::{HistoryEvents, HistoryReader, HistoryReport, HistoryRow, Mapping, Reject, RejectsFile, Requests};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// History: CSV, JSON lines or Parquet, in order of time
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How a row becomes a payment attempt (see `deploy/mappings`)
    #[arg(long, value_name = "MAP.toml")]
    mapping: PathBuf,
    /// Where the events go: an engine in this process, or the topics of a Kafka cluster
    #[arg(long, value_enum, default_value_t = Destination::Embedded)]
    to: Destination,
    /// Where rows that cannot be used are kept, with reasons: JSON lines if it ends in .jsonl, else CSV
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Where what columns of JSON hold beside what the mapping reads is kept, by attempt: JSON lines
    #[arg(long, value_name = "FILE")]
    unread: Option<PathBuf>,
    /// Ask for one routing decision per payment, before its first attempt
    #[arg(long)]
    decide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Destination {
    Embedded,
    Kafka,
}

/// Takes the events of a replay in their order.
pub(super) trait ReplaySink {
    fn accept(&mut self, events: HistoryEvents) -> Result<()>;
    /// All has been accepted: returns once it is processed, or delivered.
    fn finish(self) -> Result<ReplayTotals>;
}

/// What came out, where the sink can tell: events that go to Kafka are answered by whoever runs there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct ReplayTotals {
    pub(super) decisions: Option<u64>,
    pub(super) feedback: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    history: HistoryReport,
    #[serde(flatten)]
    totals: ReplayTotals,
}

/// Rejects that are shown when no file takes them.
const REJECTS_SHOWN_MAX: u64 = 5;
/// Rows between two moves of the progress bar.
const ROWS_PER_TICK: u64 = 512;

pub(super) fn run<S: ReplaySink>(
    screen: &Screen,
    options: &Options,
    open_sink: impl FnOnce(Destination) -> Result<S>,
) -> Result<Verdict> {
    let mapping = Mapping::load(&options.mapping)?;
    let requests = if options.decide { Requests::PerPayment } else { Requests::None };
    let mut reader = HistoryReader::open(&options.files, mapping, requests)?;
    let mut rejects = options.rejects.as_deref().map(|path| create_rejects(path, options)).transpose()?;
    if let Some(path) = &options.unread {
        refuse_what_is_read("--unread", path, options)?;
    }
    let mut sink = Keeping::new(open_sink(options.to)?, options.unread.as_deref())?;
    let history = feed(&mut reader, rejects.as_mut(), &mut sink)?;
    if let Some(file) = rejects {
        file.finish()?;
    }
    let totals = sink.finish().context("the replay did not end well")?;
    let report = Report { history, totals };
    show(screen, &report)?;
    tell_of_rows(&reader);
    if report.history.attempts == 0 {
        bail!("no row could be used; the first reasons are above or in the file of --rejects");
    }
    if !reader.unused_files().is_empty() {
        bail!("no row could be used of {}; the rest was replayed", reader.unused_files().join(", "));
    }
    Ok(Verdict::Done)
}

/// Creating the file empties it, so it must not be one that is read.
fn create_rejects(path: &Path, options: &Options) -> Result<RejectsFile> {
    refuse_what_is_read("--rejects", path, options)?;
    Ok(RejectsFile::create(path)?)
}

fn refuse_what_is_read(option: &str, path: &Path, options: &Options) -> Result<()> {
    let same = |other: &PathBuf| matches!((path.canonicalize(), other.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if options.files.iter().chain([&options.mapping]).any(same) {
        bail!(WrongUse(format!("{option} {} is a file that is read; give another name", path.display())));
    }
    Ok(())
}

/// What the reports do not say: rows out of order, and columns that nobody reads.
pub(super) fn tell_of_rows(reader: &HistoryReader) {
    let late_rows = reader.late_rows();
    if late_rows > 0 {
        remark(format!(
            "{late_rows} rows were left out because they lie before a row above them: name the files in the order of their times, or set \
             `sorted = false` in the mapping"
        ));
    }
    for (file, columns) in reader.unread_columns() {
        remark(format!("not read of {file}: {}; map them, or name them under `ignored` in the mapping", columns.join(", ")));
    }
}

/// Hands all events to the sink, behind a progress bar; rejects that no file takes are told, the first of them.
pub(super) fn feed(
    reader: &mut HistoryReader,
    mut rejects: Option<&mut RejectsFile>,
    sink: &mut impl ReplaySink,
) -> Result<HistoryReport> {
    let bar = progress_bar(reader.progress().bytes_total);
    let mut report = HistoryReport::default();
    let mut rows: u64 = 0;
    while let Some(row) = reader.next() {
        let row = row?;
        report.count(&row);
        match row {
            HistoryRow::Events(events) => sink.accept(*events)?,
            HistoryRow::Reject(reject) => match &mut rejects {
                Some(file) => file.write(&reject)?,
                None if report.rejected <= REJECTS_SHOWN_MAX => bar.suspend(|| remark(described(&reject))),
                None => {}
            },
        }
        rows += 1;
        if rows.is_multiple_of(ROWS_PER_TICK) {
            bar.set_position(reader.progress().bytes_read);
            bar.set_message(format!("{} attempts, {} rejected", report.attempts, report.rejected));
        }
    }
    bar.finish_and_clear();
    if rejects.is_none() && report.rejected > REJECTS_SHOWN_MAX {
        remark(format!("{} more rows rejected; --rejects FILE keeps them all", report.rejected - REJECTS_SHOWN_MAX));
    }
    Ok(report)
}

fn described(reject: &Reject) -> String {
    format!("rejected: {} row {}: {}", reject.file, reject.row, reject.reason)
}

/// On stderr, and only when that is a terminal.
fn progress_bar(bytes_total: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes_total);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} % of {total_bytes}, {elapsed}, {msg}") {
        bar.set_style(style);
    }
    bar
}

#[derive(Serialize)]
struct PspRow<'a> {
    psp_id: &'a str,
    attempts: u64,
    approved: u64,
    approval_rate: f64,
}

#[derive(Serialize)]
struct ChainRow {
    length: u32,
    payments: u64,
    share: f64,
}

const BY_PSP: &[Column] = &[
    Column::new("PSP", "/psp_id"),
    Column::new("ATTEMPTS", "/attempts"),
    Column::new("APPROVED", "/approved"),
    Column::shown("RATE", "/approval_rate", percent),
];

const BY_LENGTH: &[Column] = &[
    Column::new("ATTEMPTS OF A PAYMENT", "/length"),
    Column::new("PAYMENTS", "/payments"),
    Column::shown("SHARE", "/share", percent),
];

fn show(screen: &Screen, report: &Report) -> Result<()> {
    if screen.is_json() {
        return screen.object(report);
    }
    let history = &report.history;
    screen.say(format!(
        "{} attempts, {} outcomes, {} requests; {} rows rejected",
        history.attempts, history.outcomes, history.requests, history.rejected
    ))?;
    screen.say(format!(
        "{} payments, {} approved ({:.1} %); {} attempts approved ({:.1} %)",
        history.payments,
        history.approved_payments,
        100.0 * share(history.approved_payments, history.payments),
        history.approved_attempts,
        100.0 * share(history.approved_attempts, history.attempts)
    ))?;
    let count = |total: Option<u64>| text(&serde_json::json!(total));
    screen.say(format!("{} decisions, {} feedback\n", count(report.totals.decisions), count(report.totals.feedback)))?;
    let psps: Vec<_> = history
        .by_psp
        .iter()
        .map(|(psp_id, psp)| PspRow {
            psp_id,
            attempts: psp.attempts,
            approved: psp.approved,
            approval_rate: share(psp.approved, psp.attempts),
        })
        .collect();
    screen.rows(BY_PSP, &psps, "no PSPs")?;
    screen.say("")?;
    let chains: Vec<_> = history
        .chains
        .iter()
        .map(|(&length, &payments)| ChainRow { length, payments, share: share(payments, history.payments) })
        .collect();
    screen.rows(BY_LENGTH, &chains, "no payments")
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::globals::OutputFormat;
    use super::*;

    #[derive(Default)]
    struct Counting {
        accepted: u64,
        requests: u64,
    }

    impl ReplaySink for Counting {
        fn accept(&mut self, events: HistoryEvents) -> Result<()> {
            self.accepted += 1;
            self.requests += u64::from(events.request.is_some());
            Ok(())
        }
        fn finish(self) -> Result<ReplayTotals> {
            assert_eq!((self.accepted, self.requests), (2, 1));
            Ok(ReplayTotals { decisions: Some(self.requests), feedback: None })
        }
    }

    const MAPPING: &str = r#"
        [fields]
        psp_id = { column = "psp" }
        attempted_at = { column = "at", time = "epoch_s" }
        status = { column = "status" }
        payment.payment_id = { column = "id" }
        payment.merchant_id = { constant = "m" }
        payment.amount_minor = { constant = 1 }
        payment.currency = { constant = "EUR" }
    "#;

    fn replay(rows: &str, rejects: &str) -> (Result<Verdict>, String) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("m.toml"), MAPPING).unwrap();
        std::fs::write(at("h.csv"), format!("id,psp,at,status\n{rows}")).unwrap();
        let options = Options {
            files: vec![at("h.csv")],
            mapping: at("m.toml"),
            to: Destination::Embedded,
            rejects: Some(at(rejects)),
            unread: None,
            decide: true,
        };
        let verdict = run(&Screen::new(OutputFormat::Json), &options, |_| Ok(Counting::default()));
        (verdict, std::fs::read_to_string(at(rejects)).unwrap_or_default())
    }

    #[test]
    fn good_rows_reach_the_sink_and_bad_ones_the_rejects() {
        let (verdict, rejects) = replay("p,a,1546300800,DECLINED\np,b,soon,APPROVED\np,b,1546300801,APPROVED\n", "r.csv");
        assert_eq!(verdict.unwrap(), Verdict::Done);
        assert!(rejects.lines().nth(1).is_some_and(|line| line.contains(",3,") && line.contains("attempted_at")), "{rejects}");
    }

    #[test]
    fn a_file_that_is_read_is_not_overwritten() {
        let (verdict, history) = replay("p,a,1546300800,DECLINED\n", "h.csv");
        assert!(verdict.unwrap_err().to_string().contains("is a file that is read"));
        assert_eq!(history.lines().count(), 2);
    }

    #[test]
    fn the_report_has_the_names_that_scripts_rely_on() {
        let report = Report { history: HistoryReport::default(), totals: ReplayTotals { decisions: Some(0), feedback: None } };
        let json = serde_json::to_value(report).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let expect =
            "attempts outcomes requests rejected payments approved_attempts approved_payments by_psp chains decisions feedback";
        assert_eq!(keys.join(" "), expect);
    }
}
