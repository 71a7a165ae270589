//! `explore`: the data report of a merchant's history, from files: how much there is and of what, how PSPs, retries and declines look, whether an
//! experiment would have its samples, and what the files do not tell.
//!
//! Owns the options and the reading; what is counted, `learn` decides. `words` says it as text, `html` as a page with plots.

mod html;
mod words;

use super::context::Context;
use super::dataset::time;
use super::replay::{ReplaySink, ReplayTotals, feed, tell_of_rows};
use super::screen::remark;
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use smartrouter::domain::EpochMs;
use smartrouter::io::history::{HistoryEvents, HistoryReader, Mapping, Requests};
use smartrouter::learn::{Discovery, DiscoveryReport, Place};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// History: CSV, JSON lines or Parquet
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How a row becomes a payment attempt (see `deploy/mappings`)
    #[arg(long, value_name = "MAP.toml")]
    mapping: PathBuf,
    /// Only attempts from this time on, such as 2019-01-20 or 2019-01-20T06:00:00Z; UTC without a zone
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<EpochMs>,
    /// ... and before this one
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<EpochMs>,
    /// Only payments of this merchant
    #[arg(long, value_name = "ID")]
    merchant: Option<String>,
    /// Write a page with plots too, which needs no other file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What the files are about, and how well they could be read.
#[derive(Serialize)]
struct Told {
    files: Vec<PathBuf>,
    rejected: u64,
    unread_columns: BTreeMap<String, Vec<String>>,
    json_keys: BTreeMap<String, JsonKey>,
    #[serde(flatten)]
    report: DiscoveryReport,
}

/// What a column of JSON holds that no field reads.
#[derive(Default, Serialize)]
struct JsonKey {
    attempts: u64,
    example: String,
}

/// Keys of JSON that are told apart, and how much of a value is shown.
const JSON_KEYS_MAX: usize = 200;
const EXAMPLE_CHARS_MAX: usize = 60;

pub(super) fn run(context: &Context, options: &Options) -> Result<Verdict> {
    if let (Some(from), Some(to)) = (options.from, options.to)
        && from >= to
    {
        bail!(WrongUse("--from is not before --to: nothing lies between them".to_owned()));
    }
    let mut reader = HistoryReader::open(&options.files, Mapping::load(&options.mapping)?, Requests::None)?;
    let mut counting = Counting { options, discovery: Discovery::default(), json_keys: BTreeMap::new() };
    let history = feed(&mut reader, None, &mut counting)?;
    tell_of_rows(&reader);
    let Some(report) = counting.discovery.finish() else {
        bail!(
            "none of the {} attempts that were read lies between --from and --to or is of that merchant; {} rows were rejected",
            history.attempts,
            history.rejected
        );
    };
    let unread = reader.unread_columns().iter().map(|(file, columns)| (file.to_string(), columns.clone()));
    let told = Told {
        files: options.files.clone(),
        rejected: history.rejected,
        unread_columns: unread.collect(),
        json_keys: counting.json_keys,
        report,
    };
    if context.screen().is_json() {
        context.screen().object(&told)?;
    } else {
        words::say(context.screen(), &told)?;
    }
    if let Some(path) = &options.html {
        std::fs::write(path, html::page(&told)).with_context(|| format!("{} cannot be written", path.display()))?;
        remark(format!("plots: {}", path.display()));
    }
    Ok(Verdict::Done)
}

struct Counting<'a> {
    options: &'a Options,
    discovery: Discovery,
    json_keys: BTreeMap<String, JsonKey>,
}

impl ReplaySink for Counting<'_> {
    fn accept(&mut self, events: HistoryEvents) -> Result<()> {
        let attempt = &events.attempt;
        let is_late_enough = self.options.from.is_none_or(|from| attempt.attempted_at >= from);
        let is_early_enough = self.options.to.is_none_or(|to| attempt.attempted_at < to);
        let is_of_merchant = self.options.merchant.as_ref().is_none_or(|merchant| *merchant == attempt.payment.merchant_id);
        if is_late_enough && is_early_enough && is_of_merchant {
            let place = Place { length: events.place.length, is_first_approval: events.place.is_first_approval };
            self.discovery.count(attempt, events.outcome.as_ref(), place);
            self.count_keys("", &events.unread);
        }
        Ok(())
    }

    fn finish(self) -> Result<ReplayTotals> {
        Ok(ReplayTotals::default())
    }
}

impl Counting<'_> {
    /// Objects are entered: a key is written as a path.
    fn count_keys(&mut self, above: &str, object: &Map<String, Value>) {
        for (key, value) in object {
            let path = if above.is_empty() { key.clone() } else { format!("{above}/{key}") };
            if let Value::Object(inner) = value {
                self.count_keys(&path, inner);
            } else if self.json_keys.len() < JSON_KEYS_MAX || self.json_keys.contains_key(&path) {
                let known = self.json_keys.entry(path).or_default();
                if known.attempts == 0 {
                    known.example = value.to_string().chars().take(EXAMPLE_CHARS_MAX).collect();
                }
                known.attempts += 1;
            }
        }
    }
}
