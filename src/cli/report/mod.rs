//! `report`: the standard answers of analysts from the local warehouse, as text, as JSON and as a page with plots.
//!
//! Owns the options, how the warehouse is asked (through DuckDB, as `query` does) and how figures are written. Each answer is a file of SQL
//! that counts, and a module that makes rates with intervals of the counts and shows them.

mod approval;
mod model;
mod retries;
mod shadow;

use super::Verdict;
use super::WrongUse;
use super::context::Context;
use super::dataset::time;
use super::screen::remark;
use super::warehouse::duckdb::{DuckDb, Form};
use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, SecondsFormat};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use smartrouter::domain::EpochMs;
use smartrouter::learn::Estimate;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Approval rate of each PSP by day and hour, against its own rate of the days before
    Approval(approval::Options),
    /// How sure each version of a model was, and what came of its choices: confidence, rank accuracy, calibration
    Model(Period),
    /// What retries brought: by stage, PSP before, category of the code before, wait
    Retries(Period),
    /// Models that look on beside what decided and what came of it, on the same decisions
    Shadow(Period),
}

#[derive(Debug, Args)]
pub(super) struct Period {
    /// From this time on, such as 2026-01-20 or 2026-01-20T06:00:00Z; UTC without a zone
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<EpochMs>,
    /// ... and before this one
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<EpochMs>,
    /// Write a page with plots too, which needs no other file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Behind any time that a payment has.
const EVER: EpochMs = 9_000_000_000_000_000;

pub(super) fn run(context: &Context, command: &Command) -> Result<Verdict> {
    let period = match command {
        Command::Approval(options) => &options.period,
        Command::Model(period) | Command::Retries(period) | Command::Shadow(period) => period,
    };
    if let (Some(from), Some(to)) = (period.from, period.to)
        && from >= to
    {
        bail!(WrongUse("--from is not before --to: nothing lies between them".to_owned()));
    }
    let asked = Asked { duckdb: DuckDb::find(context)?, from: period.from.unwrap_or(0), to: period.to.unwrap_or(EVER) };
    let page = match command {
        Command::Approval(options) => approval::tell(context.screen(), &asked, options)?,
        Command::Model(_) => model::tell(context.screen(), &asked)?,
        Command::Retries(_) => retries::tell(context.screen(), &asked)?,
        Command::Shadow(_) => shadow::tell(context.screen(), &asked)?,
    };
    if let Some(path) = &period.html {
        std::fs::write(path, page).with_context(|| format!("{} cannot be written", path.display()))?;
        remark(format!("plots: {}", path.display()));
    }
    Ok(Verdict::Done)
}

/// The warehouse, and which time of it is asked for.
struct Asked<'a> {
    duckdb: DuckDb<'a>,
    from: EpochMs,
    to: EpochMs,
}

impl Asked<'_> {
    fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>> {
        // Whole numbers only: nothing that came from outside gets into the statement.
        let sql = sql.replace("@from@", &self.from.to_string()).replace("@to@", &self.to.to_string());
        Ok(serde_json::from_slice(&self.duckdb.ask(&sql, Form::Json)?)?)
    }

    /// Why there is nothing to report, and what to do: `table` is asked by its `time`.
    fn nothing<T>(&self, table: &str, time: &str, what: &str) -> Result<T> {
        #[derive(Deserialize)]
        struct Span {
            first: Option<EpochMs>,
            last: Option<EpochMs>,
        }
        let span = format!("SELECT EPOCH_MS(MIN({time})) AS first, EPOCH_MS(MAX({time})) AS last FROM {table}");
        let span: Vec<Span> = self.rows(&span)?;
        let root = self.duckdb.root().display();
        match span.first() {
            Some(Span { first: Some(first), last: Some(last) }) => {
                bail!(
                    "no {what} in that time: {table} in {root} has rows from {} to {}; move --from and --to",
                    shown(*first),
                    shown(*last)
                )
            }
            _ => bail!("no {what}: {table} in {root} has no rows; `smartrouter sync --once` brings what the log has"),
        }
    }
}

fn shown(at: EpochMs) -> String {
    DateTime::from_timestamp_millis(at).map_or_else(|| at.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// In per cent, with its interval.
pub(super) fn percent(share: Option<Estimate>) -> String {
    share
        .map_or_else(|| "–".to_owned(), |it| format!("{:.1} % [{:.1}, {:.1}]", it.value * 100.0, it.low * 100.0, it.high * 100.0))
}

/// In points of per cent, with its interval and sign.
fn points(difference: Option<Estimate>) -> String {
    let told = |it: Estimate| format!("{:+.1} [{:+.1}, {:+.1}]", it.value * 100.0, it.low * 100.0, it.high * 100.0);
    difference.map_or_else(|| "–".to_owned(), told)
}

fn decimals(figure: Option<f64>) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.3}"))
}

/// The same of values in rows: what a column of a table shows.
pub(super) mod column {
    use super::{Estimate, Value};

    fn estimate(value: &Value) -> Option<Estimate> {
        serde_json::from_value(value.clone()).ok()
    }

    pub(in crate::cli) fn percent(value: &Value) -> String {
        super::percent(estimate(value))
    }

    pub(in crate::cli) fn points(value: &Value) -> String {
        super::points(estimate(value))
    }

    pub(in crate::cli) fn decimals(value: &Value) -> String {
        super::decimals(value.as_f64())
    }

    pub(in crate::cli) fn estimated(value: &Value) -> String {
        crate::cli::learning_report::figure(estimate(value))
    }

    /// Said only where it holds.
    pub(in crate::cli) fn yes(value: &Value) -> String {
        if value.as_bool() == Some(true) { "yes".to_owned() } else { String::new() }
    }
}

/// The area under the curve from the sum of the places of what was approved, places counted from 1 by probability.
fn auc(places: Option<f64>, approvals: u64, attempts: u64) -> Option<f64> {
    let (yes, no) = (approvals as f64, (attempts - approvals.min(attempts)) as f64);
    places.filter(|_| yes > 0.0 && no > 0.0).map(|places| (places - yes * (yes + 1.0) / 2.0) / (yes * no))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_with_their_intervals() {
        let it = Some(Estimate { value: 0.875, low: 0.861, high: 0.8884 });
        assert_eq!((percent(it), points(it)), ("87.5 % [86.1, 88.8]".to_owned(), "+87.5 [+86.1, +88.8]".to_owned()));
        assert_eq!((percent(None), decimals(None), decimals(Some(0.5))), ("–".to_owned(), "–".to_owned(), "0.500".to_owned()));
        assert_eq!(column::percent(&serde_json::json!({"value": 0.5, "low": 0.25, "high": 0.75})), "50.0 % [25.0, 75.0]");
    }

    #[test]
    fn the_area_follows_from_places() {
        // Approved at the places 2 and 4 of 4: of the four pairs three are in order.
        assert_eq!(auc(Some(6.0), 2, 4), Some(0.75));
        assert_eq!((auc(Some(3.0), 2, 2), auc(None, 1, 2)), (None, None));
    }
}
