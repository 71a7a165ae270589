//! `evaluate`: a model on a dataset: how good its probabilities are, slice by slice; or what a policy that follows it would have earned.
//! With `--gate` see `gate`.
//!
//! Owns the options and the words. All figures are `learn`'s.

use super::context::Context;
use super::gate;
use super::learning_report::figure;
use super::models::Named;
use super::screen::remark;
use super::train::ask;
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use smartrouter::io::dataset;
use smartrouter::learn::{self, Estimate, Head, Measured, Model, Policy, Row, Scorer, Table};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to measure on: a directory that `dataset build` made
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// The model, such as `processor_selector@3`
    #[arg(long, value_name = "NAME@VERSION")]
    model: Named,
    /// Judge it by `models.gate` against the champion, on rows that neither has learned from; ends with 3 when it is rejected
    #[arg(long, conflicts_with_all = ["policy", "first_attempts"])]
    gate: bool,
    /// Judge it against this one instead of the champion
    #[arg(long, value_name = "NAME@VERSION", requires = "gate")]
    against: Option<Named>,
    /// Instead of the model's figures the value of a policy that follows it
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// What an approval is worth to the policy `expected_value`, in minor units of the currency
    #[arg(long, value_name = "V", required_if_eq("policy", "expected_value"))]
    success_value_minor: Option<i64>,
    /// Only first attempts: later ones go where the earlier ones did not
    #[arg(long)]
    first_attempts: bool,
    /// For the samples behind the intervals
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Verdict> {
    let (mut table, _) = dataset::read(&options.dataset)?;
    if ask(&options.model.name, &mut table) == Head::RetrySequence && options.policy.is_some() {
        let why = "a policy is valued by what each attempt brings, and retry_sequence tells what the payment does";
        bail!(WrongUse(format!("--policy with {}: {why}", options.model)));
    }
    if options.gate {
        return gate::run(context, &options.model, options.against.as_ref(), (&table, options.seed));
    }
    let files = options.model.files(context)?;
    let model = learn::load(&files, &table.catalogue).with_context(|| format!("{} is refused", options.model))?;
    if let Some(overlap) = overlap(&files, &table)? {
        remark(overlap);
    }
    let rows: Vec<u32> = (0..table.rows.len() as u32)
        .filter(|row| !options.first_attempts || table.rows[*row as usize].attempt_number == 1)
        .collect();
    let rows = if options.policy.is_some() { with_propensity(&table, rows) } else { rows };
    match options.policy {
        Some(policy) => tell_policy(context, options, policy, (&model, &table, &rows)),
        None => tell_model(context, options, (&model, &table, &rows)),
    }?;
    Ok(Verdict::Done)
}

/// A policy is judged by attempts of which it is known how likely they were to go where they went.
fn with_propensity(table: &Table, rows: Vec<u32>) -> Vec<u32> {
    let all = rows.len();
    let known: Vec<u32> = rows.into_iter().filter(|row| table.rows[*row as usize].propensity.is_some()).collect();
    if known.len() < all {
        remark(format!(
            "{} of {all} rows have no propensity, as they went elsewhere than their decision ranked first: left out",
            all - known.len()
        ));
    }
    known
}

/// What is to be known when the model has learned from some of these rows.
pub(super) fn overlap(files: &learn::Files, table: &Table) -> Result<Option<String>> {
    let (_, lineage) = learn::about(files)?;
    let range = &lineage["dataset"]["attempted_at"];
    let (Some(from), Some(to)) = (range[0].as_i64(), range[1].as_i64()) else { return Ok(None) };
    let seen = table.rows.iter().filter(|row| (from..=to).contains(&row.attempted_at)).count();
    let remark = || {
        format!("{seen} of {} rows lie in the time that the model learned from: its figures there flatter it", table.rows.len())
    };
    Ok((seen > 0).then(remark))
}

fn tell_model(context: &Context, options: &Options, (model, table, rows): (&Model, &Table, &[u32])) -> Result<()> {
    let values: Vec<f32> = rows.iter().flat_map(|row| table.features(*row as usize)).copied().collect();
    let mut said = Vec::with_capacity(rows.len());
    model.score(&values, &mut said);
    let of: Vec<&Row> = rows.iter().map(|row| &table.rows[*row as usize]).collect();
    let measured = learn::measure(&options.model.to_string(), &said, &of, options.seed);
    let slices = learn::slices(&said, &of, options.seed);
    let screen = context.screen();
    screen.say(line(&measured.name, &measured))?;
    for slice in &slices {
        screen.say(line(&format!("{} {}", slice.slice, slice.measured.name), &slice.measured))?;
    }
    let mut result = figures(&measured);
    let sliced = slices.iter().map(|slice| {
        let mut figures = figures(&slice.measured);
        figures.insert("slice".to_owned(), json!(slice.slice));
        figures.insert("value".to_owned(), json!(slice.measured.name));
        Value::Object(figures)
    });
    result.insert("slices".to_owned(), sliced.collect());
    let approved: Vec<bool> = of.iter().map(|row| row.approved).collect();
    let curves = learn::Curves::of(learn::Scored { probabilities: &said, approved: &approved });
    result.insert("reliability".to_owned(), serde_json::to_value(&curves.reliability)?);
    screen.object(&Value::Object(result))
}

pub(super) fn line(name: &str, measured: &Measured) -> String {
    format!(
        "{name:<28} {:>7} rows  AUC {}  log loss {}  Brier {}  ECE {}",
        measured.rows,
        figure(measured.auc),
        figure(measured.log_loss),
        figure(measured.brier),
        figure(measured.ece)
    )
}

/// A figure by its name, its interval by `_low` and `_high`.
pub(super) fn figures(measured: &Measured) -> Map<String, Value> {
    let mut figures = Map::new();
    figures.insert("rows".to_owned(), json!(measured.rows));
    figures.insert("positives".to_owned(), json!(measured.positives));
    for (name, estimate) in
        [("auc", measured.auc), ("log_loss", measured.log_loss), ("brier", measured.brier), ("ece", measured.ece)]
    {
        let estimate: Option<Estimate> = estimate;
        figures.insert(name.to_owned(), json!(estimate.map(|it| it.value)));
        figures.insert(format!("{name}_low"), json!(estimate.map(|it| it.low)));
        figures.insert(format!("{name}_high"), json!(estimate.map(|it| it.high)));
    }
    figures
}

fn tell_policy(
    context: &Context,
    options: &Options,
    policy: Policy,
    (model, table, rows): (&Model, &Table, &[u32]),
) -> Result<()> {
    let policy = match policy {
        Policy::Approval => policy,
        Policy::ExpectedValue { .. } => {
            Policy::ExpectedValue { success_value_minor: options.success_value_minor.unwrap_or_default() }
        }
    };
    let name = policy.name();
    let value = learn::policy_value(table, rows, model, policy, options.seed)?;
    let screen = context.screen();
    screen.say(format!(
        "policy {name} over {} attempts, of which {:.1} % went where it would have sent them",
        value.rows,
        value.agreement * 100.0
    ))?;
    for (what, estimate) in [("IPS", value.ips), ("SNIPS", value.snips), ("DR", value.dr), ("as it went", value.logged)] {
        screen.say(format!("  {what:<10} {}", figure(estimate)))?;
    }
    let cost = value.cost_per_attempt_minor;
    screen.say(format!("  fee of an attempt, minor units: {}", figure(cost)))?;
    screen.object(&json!({
        "policy": name, "rows": value.rows, "ips": value.ips, "snips": value.snips, "dr": value.dr, "logged": value.logged,
        "cost_per_attempt_minor": cost.map(|it| it.value), "cost_per_attempt_minor_low": cost.map(|it| it.low),
        "cost_per_attempt_minor_high": cost.map(|it| it.high), "agreement": value.agreement,
    }))
}
