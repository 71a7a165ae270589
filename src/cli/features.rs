//! `features`: the catalogue, and what it makes of a routing request, value by value with its source.

use super::context::Context;
use super::dataset::read_history;
use super::screen::{Column, Screen, text};
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use smartrouter::domain::PspId;
use smartrouter::domain::payment::RoutingRequest;
use smartrouter::engine::codes::CodeTable;
use smartrouter::engine::features::{Catalogue, Encoder, Feature, History, RequestFacts, Try};
use smartrouter::engine::policy::can_take;
use smartrouter::engine::settings::Settings;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// All features: kind, source, default, what they may not be used for
    List,
    /// The values that models would see for a routing request, as of its time
    Explain(Options),
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A routing request as JSON, its fields as in `schemas/routing_request.avsc`
    #[arg(value_name = "REQUEST.json")]
    request: PathBuf,
    /// What happened before: history files; without any, nothing is known
    #[arg(long, value_name = "FILE", requires = "mapping", num_args = 1..)]
    history: Vec<PathBuf>,
    /// How a row of history becomes a payment attempt
    #[arg(long, value_name = "MAP.toml", requires = "history")]
    mapping: Option<PathBuf>,
}

pub(super) fn run(context: &Context, command: &Command) -> Result<Verdict> {
    match command {
        Command::List => list(context.screen()),
        Command::Explain(options) => explain(context.screen(), &context.config().settings, options),
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    feature: &'a Feature,
    columns: Vec<&'a str>,
}

const LIST: &[Column] = &[
    Column::new("FEATURE", "/name"),
    Column::new("GROUP", "/group"),
    Column::new("PER", "/per"),
    Column::new("TYPE", "/type"),
    Column::new("SOURCE", "/source"),
    Column::new("DESCRIPTION", "/description"),
];

fn list(screen: &Screen) -> Result<Verdict> {
    let encoder = Encoder::new(Catalogue::shipped()?);
    let catalogue = encoder.catalogue();
    let columns = |index: usize| encoder.columns_of(index).map(|place| encoder.columns()[place].name.as_str()).collect();
    let every = catalogue.features.iter().enumerate();
    let rows: Vec<Listed<'_>> = every.map(|(index, feature)| Listed { feature, columns: columns(index) }).collect();
    screen.rows(LIST, &rows, "no features")?;
    screen.say(format!("{} features, {} columns, version {}", rows.len(), encoder.width(), catalogue.version))?;
    Ok(Verdict::Done)
}

/// A feature and its values: one of the request, or one for each candidate.
#[derive(Serialize)]
struct Explained<'a> {
    feature: &'a str,
    group: Value,
    /// By PSP; of the request under an empty name. Several columns: sine and cosine, or the value and whether it is missing.
    values: BTreeMap<String, Vec<f32>>,
    columns: Vec<&'a str>,
    source: &'a str,
}

fn explain(screen: &Screen, settings: &Settings, options: &Options) -> Result<Verdict> {
    let path = options.request.display();
    let bytes = std::fs::read(&options.request).with_context(|| format!("{path} cannot be read"))?;
    let request: RoutingRequest =
        serde_json::from_slice(&bytes).map_err(|error| WrongUse(format!("{path} is no routing request: {error}")))?;
    let (encoder, mut history) = history_of(settings, options, &request)?;
    if let Some(previous) = &request.previous_attempts {
        let codes = CodeTable::new(&settings.error_codes);
        history.suppose_tried(&request.payment.payment_id, previous.iter().map(|attempt| Try::told(attempt, &codes)));
    }
    let psps = candidates(settings, &request);
    if psps.is_empty() {
        bail!("no PSP of the configuration can take the payment: name some under [[psps]] in the file of --config");
    }
    let (at, mut values) = (request.requested_at, Vec::new());
    let facts = RequestFacts::gather(&request.payment, at, 1, &history);
    encoder.encode(&facts, &psps, &history, &mut values);
    let rows = explained(&encoder, &psps, &values);
    if screen.is_json() {
        let report = json!({
            "payment_id": request.payment.payment_id, "requested_at": at, "catalogue": encoder.catalogue().version,
            "candidates": psps, "features": rows,
        });
        screen.object(&report)?;
        return Ok(Verdict::Done);
    }
    let shown: Vec<Value> = rows.iter().map(|row| json!({"row": row, "shown": shown(row, &psps)})).collect();
    screen.say(format!("candidates, in the order of their values: {}", names(&psps)))?;
    screen.rows(EXPLAIN, &shown, "no features")?;
    Ok(Verdict::Done)
}

fn names(psps: &[PspId]) -> String {
    psps.iter().map(PspId::as_str).collect::<Vec<_>>().join(", ")
}

const EXPLAIN: &[Column] =
    &[Column::new("FEATURE", "/row/feature"), Column::shown("VALUE", "/shown", text), Column::new("SOURCE", "/row/source")];

/// Without files, an empty history.
fn history_of(settings: &Settings, options: &Options, request: &RoutingRequest) -> Result<(Encoder, History)> {
    let Some(mapping) = &options.mapping else {
        let catalogue = Catalogue::shipped()?;
        let history = History::new(catalogue.history.clone());
        return Ok((Encoder::new(catalogue), history));
    };
    let at = request.requested_at;
    // No rows: only history is wanted.
    let (builder, _) = read_history(&options.history, mapping, settings, [Some(at), Some(at)], Some(at))?;
    Ok(builder.into_history(at))
}

/// As for a decision: the merchant's PSPs that take the payment; of a merchant that is not configured, all.
fn candidates(settings: &Settings, request: &RoutingRequest) -> Vec<PspId> {
    let merchant = settings.merchants.iter().find(|merchant| merchant.id == request.payment.merchant_id);
    let allowed = |psp: &PspId| request.allowed_psps.as_ref().is_none_or(|allowed| allowed.contains(psp));
    let eligible = settings.psps.iter().filter(|psp| allowed(&psp.id) && can_take(psp, merchant, &request.payment));
    eligible.map(|psp| psp.id.clone()).collect()
}

fn explained<'a>(encoder: &'a Encoder, psps: &[PspId], values: &[f32]) -> Vec<Explained<'a>> {
    let width = encoder.width();
    let mut rows = Vec::new();
    for (index, feature) in encoder.catalogue().features.iter().enumerate() {
        let places: Vec<usize> = encoder.columns_of(index).collect();
        let of = |row: usize| places.iter().map(|place| values[row * width + place]).collect::<Vec<f32>>();
        let of_candidate = places.first().is_some_and(|place| encoder.columns()[*place].of_candidate);
        let values = if of_candidate {
            psps.iter().enumerate().map(|(row, psp)| (psp.to_string(), of(row))).collect()
        } else {
            BTreeMap::from([(String::new(), of(0))])
        };
        rows.push(Explained {
            feature: &feature.name,
            group: serde_json::to_value(feature.group).unwrap_or_default(),
            values,
            columns: places.iter().map(|place| encoder.columns()[*place].name.as_str()).collect(),
            source: &feature.source,
        });
    }
    rows
}

/// `0.25`, `missing (16)`, or one for each candidate.
fn shown(row: &Explained<'_>, psps: &[PspId]) -> String {
    let has_indicator = row.columns.last().is_some_and(|name| name.ends_with("_missing"));
    let one = |values: &Vec<f32>| match (values.as_slice(), has_indicator) {
        ([value, missing], true) if *missing > 0.5 => format!("missing ({value})"),
        ([value, _], true) => format!("{value:.4}"),
        (values, _) => values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(" / "),
    };
    match row.values.get("") {
        Some(values) => one(values),
        None => psps.iter().filter_map(|psp| row.values.get(psp.as_str())).map(one).collect::<Vec<_>>().join("; "),
    }
}
