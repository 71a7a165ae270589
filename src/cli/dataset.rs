//! `dataset build`: history from files, or the log of a router, becomes a table of attempts, features and outcomes.
//!
//! Owns the options, the reading of files (that of the log is `dataset_log`) and the report. What a row is, `learn` decides; how it lies
//! on disk, `io::dataset`.

use super::context::Context;
use super::dataset_log;
use super::replay::{ReplaySink, ReplayTotals, feed, tell_of_rows};
use super::screen::remark;
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use clap::{Args, Subcommand};
use serde_json::json;
use smartrouter::domain::EpochMs;
use smartrouter::engine::features::{Catalogue, Encoder};
use smartrouter::engine::settings::Settings;
use smartrouter::io::dataset::{self, Manifest, Source};
use smartrouter::io::history::{HistoryEvents, HistoryReader, HistoryReport, Mapping, Requests};
use smartrouter::learn::{Built, LABEL, PROPENSITY, TableBuilder};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// From history files, or from what the router logged: the features of each attempt as of just before it, its result, and the PSPs
    /// that could have taken it
    Build(Options),
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// History: CSV, JSON lines or Parquet, in order of time
    #[arg(required_unless_present = "from_log", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How a row of the files becomes a payment attempt (see `deploy/mappings`)
    #[arg(long, required_unless_present = "from_log", value_name = "MAP.toml")]
    mapping: Option<PathBuf>,
    /// Instead of files: the router's own predictions with the feedback on them, from the log of the configuration. Features are those
    /// that each decision saw
    #[arg(long, conflicts_with_all = ["files", "mapping"])]
    from_log: bool,
    /// Where the dataset goes; an older one there is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Rows are attempts from this time on, such as 2019-01-20 or 2019-01-20T06:00:00Z; UTC without a zone
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<EpochMs>,
    /// ... and before this one. Features see all the history before each row in either case
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<EpochMs>,
}

pub(super) fn run(context: &Context, command: &Command) -> Result<Verdict> {
    let Command::Build(options) = command;
    if let (Some(from), Some(to)) = (options.from, options.to)
        && from >= to
    {
        bail!(WrongUse("--from is not before --to: no attempt lies between them".to_owned()));
    }
    let range = [options.from, options.to];
    let gathered = match &options.mapping {
        Some(mapping) => from_files(&options.files, mapping, &context.config().settings, range)?,
        None => dataset_log::gather(context, range)?,
    };
    let built = &gathered.built;
    if built.table.rows.is_empty() {
        bail!("no row of the {} attempts that were read lies between --from and --to: nothing was written", built.attempts);
    }
    let manifest = manifest(range, &gathered);
    dataset::write(&options.out, &built.table, &manifest)?;
    remark_on(built);
    tell(context, &options.out, &manifest, built)?;
    Ok(Verdict::Done)
}

/// A table, and what its manifest says of where it comes from.
pub(super) struct Gathered {
    pub(super) built: Built,
    pub(super) origin: Manifest,
}

fn tell(context: &Context, out: &Path, manifest: &Manifest, built: &Built) -> Result<()> {
    let (rows, alternatives) = (built.table.rows.len(), built.table.alternatives.len());
    let positives = built.table.rows.iter().filter(|row| row.approved).count();
    let (columns, rejected) = (built.table.columns.len(), manifest.history_rejected);
    let screen = context.screen();
    screen.say(format!(
        "{rows} rows of {columns} columns, {positives} approved ({:.1} %), {alternatives} alternatives in {}",
        100.0 * positives as f64 / rows as f64,
        out.display()
    ))?;
    screen.say(format!(
        "history: {} attempts, {rejected} records rejected; {} attempts whose result is not due yet",
        built.attempts, built.immature
    ))?;
    screen.say(format!("catalogue {}", built.table.catalogue))?;
    screen.object(&json!({
        "rows": rows, "positives": positives, "catalogue": built.table.catalogue, "columns": columns, "alternatives": alternatives,
        "immature": built.immature, "attempts": built.attempts, "rejected": rejected, "left_out": manifest.left_out, "out": out,
    }))
}

/// Takes events for the table, up to a time if one is given.
struct Gathering {
    builder: TableBuilder,
    until: Option<EpochMs>,
}

impl ReplaySink for Gathering {
    fn accept(&mut self, events: HistoryEvents) -> Result<()> {
        if self.until.is_none_or(|until| events.attempt.attempted_at < until) {
            self.builder.accept(&events.attempt, events.outcome.as_ref());
        }
        Ok(())
    }
    fn finish(self) -> Result<ReplayTotals> {
        Ok(ReplayTotals::default())
    }
}

/// Feeds files to a builder with the shipped catalogue; `until`: attempts from then on are not looked at.
pub(super) fn read_history(
    files: &[PathBuf],
    mapping: &Path,
    settings: &Settings,
    range: [Option<EpochMs>; 2],
    until: Option<EpochMs>,
) -> Result<(TableBuilder, HistoryReport)> {
    let builder = TableBuilder::new(Encoder::new(Catalogue::shipped()?), settings, range);
    let mut sink = Gathering { builder, until };
    let mut reader = HistoryReader::open(files, Mapping::load(mapping)?, Requests::None)?;
    let report = feed(&mut reader, None, &mut sink)?;
    tell_of_rows(&reader);
    if report.attempts == 0 {
        bail!("no row could be used; the first reasons are above");
    }
    if !reader.unused_files().is_empty() {
        bail!("no row could be used of {}; nothing was written", reader.unused_files().join(", "));
    }
    Ok((sink.builder, report))
}

fn from_files(files: &[PathBuf], mapping: &Path, settings: &Settings, range: [Option<EpochMs>; 2]) -> Result<Gathered> {
    let (builder, report) = read_history(files, mapping, settings, range, None)?;
    let source = |path: &Path| Source::of(path).with_context(|| format!("{} cannot be read again", path.display()));
    let origin = Manifest {
        label: LABEL.to_owned(),
        propensity: PROPENSITY.to_owned(),
        history_rejected: report.rejected,
        sources: files.iter().map(|file| source(file)).collect::<Result<_>>()?,
        mapping: Some(source(mapping)?),
        ..Manifest::default()
    };
    Ok(Gathered { built: builder.finish(), origin })
}

fn manifest(range: [Option<EpochMs>; 2], gathered: &Gathered) -> Manifest {
    let (built, rows) = (&gathered.built, &gathered.built.table.rows);
    Manifest {
        label_delay_ms: built.label_delay_ms,
        immature: built.immature,
        attempted_at: rows.first().zip(rows.last()).map(|(first, last)| [first.attempted_at, last.attempted_at]),
        range,
        history_attempts: built.attempts,
        built_by: concat!("smartrouter ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..gathered.origin.clone()
    }
}

fn remark_on(built: &Built) {
    let names = |psps: &[smartrouter::domain::PspId]| psps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !built.unknown_psps.is_empty() {
        remark(format!(
            "not configured are {}: their attempts have no fees, and they are no alternatives to others; name them under [[psps]] \
             in the file of --config",
            names(&built.unknown_psps)
        ));
    }
    if !built.alike_psps.is_empty() {
        remark(format!(
            "models cannot tell these PSPs apart, because their names share a code of the catalogue: {}; rename one of them",
            names(&built.alike_psps)
        ));
    }
}

pub(super) fn time(text: &str) -> Result<EpochMs, String> {
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0).map(|at| at.and_utc().timestamp_millis());
    let read = DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis());
    let read =
        read.or_else(|| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok().map(|at| at.and_utc().timestamp_millis()));
    let read = read.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(midnight));
    read.ok_or_else(|| "is no time such as 2019-01-20, \"2019-01-20 06:00:00\" or 2019-01-20T06:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_three_forms() {
        for text in ["2019-01-20", "2019-01-20 00:00:00", "2019-01-20T00:00:00Z", "2019-01-20T01:00:00+01:00"] {
            assert_eq!(time(text), Ok(1_547_942_400_000), "{text}");
        }
        assert!(time("20.1.2019").unwrap_err().contains("2019-01-20"));
    }
}
