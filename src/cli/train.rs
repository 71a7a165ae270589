//! `train`: from a dataset to a version of a model, with its report beside it.
//!
//! Owns the options, the progress bar, the plan, and the measuring of latency. What is learned and measured is `learn`'s; where models lie
//! is `io::models`'s.

use super::context::Context;
use super::learning_report::{self, figure};
use super::screen::remark;
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use smartrouter::domain::utc_text;
use smartrouter::engine::features::{Catalogue, Encoder};
use smartrouter::io::dataset::{self, Manifest};
use smartrouter::io::models;
use smartrouter::learn::{self, Head, Kind, Model, Scorer, Shares, Table, Trained, Validation};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to learn from: a directory that `dataset build` made
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// Name of the model, such as `processor_selector`: its directory under the models
    #[arg(long, value_name = "NAME")]
    model: String,
    /// logistic, dnn, wide-deep, forest; auto blends them all
    #[arg(long, value_name = "KIND", default_value = "auto")]
    kind: Kind,
    /// Say what would be done, on what, and how long; do nothing
    #[arg(long)]
    plan: bool,
    /// The same seed and dataset give the same model
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sets of hyperparameters tried of each kind: the budget of the search
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    trials: u64,
    /// Fits of each kind whose scores are averaged
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=32))]
    bags: u64,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Verdict> {
    let (mut table, manifest) = dataset::read(&options.dataset)?;
    let head = ask(&options.model, &mut table);
    let shares = Shares::default();
    let validation = learn::validate(&table, &learn::split(&table.rows, shares), learn::Limits::default());
    for finding in &validation.findings {
        let column = finding.column.as_deref().map(|column| format!("column {column} ")).unwrap_or_default();
        if finding.weight == learn::Weight::Refused {
            remark(format!("refused ({}): {column}{}", finding.check, finding.reason));
        }
    }
    if validation.refusals().next().is_some() {
        bail!("the dataset is refused for the reasons above; nothing was trained");
    }
    let encoder = Encoder::new(Catalogue::shipped()?);
    for column in learn::forget_forbidden(&options.model, &encoder, &mut table) {
        remark(format!("column {column} is not used: the catalogue forbids it to {}", options.model));
    }
    let learning = learn::Options {
        kind: options.kind,
        seed: options.seed,
        shares,
        trials: options.trials as usize,
        bags: options.bags as usize,
    };
    let directory = &context.config().runtime.models_dir;
    let version = models::next_version(directory, &options.model)?;
    if options.plan {
        return plan(context, options, &table, &learning, version);
    }
    let trained = learn(&table, &learning)?;
    let card = card(head, &table, &trained, &validation);
    let mut parameters = json!({ "kind": options.kind.name(), "trials": options.trials, "bags": options.bags });
    parameters["shares"] = json!([shares.train, shares.validation, 1.0 - shares.train - shares.validation]);
    let lineage = lineage(&manifest, options.seed, &parameters, version)?;
    let mut files = learn::save(&trained.model, &table, &card, &lineage)?;
    let title = format!("{}@{version}", options.model);
    files.insert("report.html".to_owned(), learning_report::page(&title, &trained.report, &validation, &card).into_bytes());
    let path = models::write(directory, &options.model, version, &files)?;
    tell(context, options, &trained, version, &path)?;
    Ok(Verdict::Done)
}

/// The rows of a dataset that a model of this name is about, labelled as it is asked; what is left out is remarked.
pub(super) fn ask(model: &str, table: &mut Table) -> Head {
    let head = Head::of(model);
    let unasked = head.ask(table);
    for (rows, why) in [(unasked.firsts, "no retries"), (unasked.open, "of payments that may not be over")] {
        if rows > 0 {
            remark(format!("{rows} rows are left out for {model}: {why}"));
        }
    }
    head
}

fn plan(context: &Context, options: &Options, table: &Table, learning: &learn::Options, version: u32) -> Result<Verdict> {
    let split = learn::split(&table.rows, learning.shares);
    let parts = [split.train.len(), split.validation.len(), split.test.len()];
    let kinds: Vec<&str> = learning.kind.families().into_iter().map(learn::Family::name).collect();
    let fits = learning.trials * 4 / 3 * kinds.len() + 12 * kinds.len() * learning.bags;
    // Measured: trees, nets and crosses taken together learn about 20,000 rows a second on one processor.
    let minutes = fits as f64 * table.rows.len() as f64 / 20_000.0 / 60.0;
    let screen = context.screen();
    screen.say(format!("would train {}@{version} ({}) on {}", options.model, kinds.join(", "), options.dataset.display()))?;
    screen.say(format!(
        "rows by time: {} to learn from, {} to choose by, {} to measure on; then all of them",
        parts[0], parts[1], parts[2]
    ))?;
    screen.say(format!(
        "{} trials of each kind, {} seeds; about {minutes:.0} min on one processor",
        learning.trials, learning.bags
    ))?;
    screen.object(&json!({
        "model": options.model, "version": version.to_string(), "kind": options.kind.name(), "kinds": kinds, "rows": parts,
        "trials": learning.trials, "bags": learning.bags, "minutes": minutes, "plan": true,
    }))?;
    Ok(Verdict::Done)
}

fn learn(table: &Table, options: &learn::Options) -> Result<Trained> {
    let bar = ProgressBar::new(learn::steps(options) as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed} {msg}").context("the progress bar's template")?;
    bar.set_style(style);
    let trained = learn::train(table, options, &mut |what, done, _| {
        bar.set_message(what.to_owned());
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    trained.map_err(|error| match error {
        learn::FitError::Data(reason) => WrongUse(reason).into(),
        other => other.into(),
    })
}

fn card(head: Head, table: &Table, trained: &Trained, validation: &Validation) -> Value {
    let time = |row: Option<&learn::Row>| row.map(|row| utc_text(row.attempted_at));
    json!({
        "purpose": head.purpose(),
        "kind": trained.model.kind,
        "data": { "rows": table.rows.len(), "catalogue": table.catalogue, "from": time(table.rows.first()), "to": time(table.rows.last()) },
        "report": trained.report,
        "validation": validation,
        "calibration": trained.model.calibration,
        "latency_us": { "batch_4": latency_us(&trained.model, table, 4), "batch_32": latency_us(&trained.model, table, 32) },
        "limits": [
            "figures are of the last part of the range, by a model fitted on the parts before; the model here was then fitted on all of it",
            "PSPs, brands and countries that the data does not hold are scored by what is usual",
            "what it learned of a PSP is as old as its data: watch the calibration",
        ],
    })
}

/// Median time to score this many rows, microseconds.
pub(super) fn latency_us(model: &Model, table: &Table, rows: usize) -> f64 {
    let values: Vec<f32> = (0..rows.min(table.rows.len())).flat_map(|row| table.features(row)).copied().collect();
    let mut out = Vec::new();
    let mut once = || {
        let start = Instant::now();
        out.clear();
        model.score(black_box(&values), &mut out);
        black_box(&out);
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..300).map(|_| once()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn lineage(manifest: &Manifest, seed: u64, parameters: &Value, version: u32) -> Result<Value> {
    Ok(json!({
        "dataset": serde_json::to_value(manifest)?,
        "code": concat!("smartrouter ", env!("CARGO_PKG_VERSION")),
        "parameters": parameters,
        "seed": seed,
        "parent": (version > 1).then(|| (version - 1).to_string()),
    }))
}

fn tell(context: &Context, options: &Options, trained: &Trained, version: u32, path: &std::path::Path) -> Result<()> {
    let screen = context.screen();
    screen.say(format!(
        "{}@{version} in {}; on the last {} rows, which it had not seen:",
        options.model,
        path.display(),
        trained.report.split[2]
    ))?;
    for measured in &trained.report.test {
        let figures = [("AUC", measured.auc), ("log loss", measured.log_loss), ("ECE", measured.ece)];
        let figures: Vec<String> = figures.iter().map(|(name, it)| format!("{name} {}", figure(*it))).collect();
        screen.say(format!("  {:<14} {}", measured.name, figures.join("  ")))?;
    }
    let model = trained.report.test.first();
    let value = |pick: fn(&learn::Measured) -> Option<learn::Estimate>| model.and_then(pick).map(|it| it.value);
    let metrics = json!({
        "rows": model.map(|it| it.rows), "auc": value(|it| it.auc), "log_loss": value(|it| it.log_loss),
        "brier": value(|it| it.brier), "ece": value(|it| it.ece),
    });
    screen.object(&json!({
        "model": options.model, "version": version.to_string(), "kind": options.kind.name(), "metrics": metrics,
        "test": trained.report.test, "path": path,
    }))
}
