//! `compare`: models on the same rows, side by side, and how much each differs from the first, over the same samples.
//!
//! Owns the options and the words. All figures are `learn`'s.

use super::context::Context;
use super::evaluate::{figures, line, overlap};
use super::models::Named;
use super::screen::remark;
use super::train::ask;
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use smartrouter::io::dataset;
use smartrouter::learn::{self, Head, Measured, Row, Scorer};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to measure on: a directory that `dataset build` made
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// Models, such as `processor_selector@2`: the others are held against the first
    #[arg(value_name = "NAME@VERSION", required = true, num_args = 2..)]
    models: Vec<Named>,
    /// For the samples behind the intervals
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Verdict> {
    let (mut table, _) = dataset::read(&options.dataset)?;
    let first = &options.models[0];
    if let Some(other) = options.models.iter().find(|it| Head::of(&it.name) != Head::of(&first.name)) {
        bail!(WrongUse(format!("{first} and {other} are asked different questions: compare models of the same name")));
    }
    ask(&first.name, &mut table);
    let rows: Vec<&Row> = table.rows.iter().collect();
    let mut said: Vec<Vec<f64>> = Vec::new();
    for named in &options.models {
        let files = named.files(context)?;
        let model = learn::load(&files, &table.catalogue).with_context(|| format!("{named} is refused"))?;
        if let Some(overlap) = overlap(&files, &table)? {
            remark(format!("{named}: {overlap}"));
        }
        let mut probabilities = Vec::with_capacity(rows.len());
        model.score(&table.values, &mut probabilities);
        said.push(probabilities);
    }
    let named = options.models.iter().zip(&said);
    let measured: Vec<Measured> =
        named.clone().map(|(name, said)| learn::measure(&name.to_string(), said, &rows, options.seed)).collect();
    let first_said = &said[0];
    let differences: Vec<Measured> =
        named.skip(1).map(|(name, said)| learn::difference(&name.to_string(), [said, first_said], &rows, options.seed)).collect();
    let screen = context.screen();
    for it in &measured {
        screen.say(line(&it.name, it))?;
    }
    screen.say(format!("difference to {first}, paired"))?;
    for it in &differences {
        screen.say(line(&it.name, it))?;
    }
    let object = |it: &Measured, against: Option<&Named>| {
        let mut object = figures(it);
        object.insert("model".to_owned(), json!(it.name));
        against.map(|against| object.insert("against".to_owned(), json!(against.to_string())));
        Value::Object(object)
    };
    screen.object(&json!({
        "rows": rows.len(),
        "models": measured.iter().map(|it| object(it, None)).collect::<Vec<_>>(),
        "differences": differences.iter().map(|it| object(it, Some(first))).collect::<Vec<_>>(),
    }))?;
    Ok(Verdict::Done)
}
