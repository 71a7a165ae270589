//! `report model`: how sure each version of a model was, how often its first choice was approved, and whether its probabilities came true.

use super::{Asked, auc, column, decimals, percent, shown};
use crate::cli::chart::{Curve, Mark, over_time, reliability, side_by_side};
use crate::cli::page::{document, escaped, note, plots, table};
use crate::cli::screen::{self, Column, Screen};
use anyhow::Result;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use smartrouter::domain::EpochMs;
use smartrouter::learn::{Estimate, Proportion};

const FIGURES: &str = include_str!("model.sql");
const CALIBRATION: &str = include_str!("calibration.sql");
/// The slice that is the whole time.
const ALL: &str = "ALL";

/// A version over the whole time, or on a day, as counted.
#[derive(Debug, Deserialize)]
struct Counted {
    model: String,
    shadow: bool,
    slice: String,
    predictions: u64,
    confidence: Option<f64>,
    attempts: u64,
    approvals: u64,
    predicted: Option<f64>,
    log_loss: Option<f64>,
    brier: Option<f64>,
    places: Option<f64>,
    first_choices: u64,
    first_choice_approvals: u64,
    latency_us_p50: f64,
    latency_us_p95: f64,
}

#[derive(Debug, Deserialize)]
struct CountedBin {
    model: String,
    shadow: bool,
    bin: u32,
    attempts: u64,
    approvals: u64,
    predicted: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    shadow: bool,
    /// ALL, or a day.
    slice: String,
    predictions: u64,
    /// Mean probability of the PSP that was put first.
    confidence: Option<f64>,
    /// First choices that were taken, and how many of them were approved.
    first_choices: u64,
    rank_accuracy: Option<Estimate>,
    /// Attempts with a probability and a result, and both beside each other.
    attempts: u64,
    approvals: u64,
    predicted: Option<f64>,
    approval_rate: Option<Estimate>,
    log_loss: Option<f64>,
    brier: Option<f64>,
    auc: Option<f64>,
    latency_us_p50: f64,
    latency_us_p95: f64,
}

/// Attempts with about the same probability.
#[derive(Debug, Serialize)]
struct Bin {
    model: String,
    shadow: bool,
    from: f64,
    to: f64,
    attempts: u64,
    approvals: u64,
    predicted: f64,
    approval_rate: Option<Estimate>,
    /// The mean probability lies outside the interval.
    is_off: bool,
}

#[derive(Debug, Serialize)]
struct Told {
    models: Vec<Figures>,
    days: Vec<Figures>,
    calibration: Vec<Bin>,
}

pub(super) fn tell(screen: &Screen, asked: &Asked<'_>) -> Result<String> {
    let counted: Vec<Counted> = asked.rows(FIGURES)?;
    if counted.is_empty() {
        return asked.nothing("ATHIA_PREDICTIONS", "scored_at", "prediction");
    }
    let bins: Vec<CountedBin> = asked.rows(CALIBRATION)?;
    let (models, days) = counted.into_iter().map(figures).partition(|it: &Figures| it.slice == ALL);
    let told = Told { models, days, calibration: bins.into_iter().map(bin).collect() };
    if screen.is_json() {
        screen.object(&told)?;
    } else {
        say(screen, &told)?;
    }
    Ok(page(&told, asked))
}

fn figures(counted: Counted) -> Figures {
    let auc = auc(counted.places, counted.approvals, counted.attempts);
    Figures {
        rank_accuracy: Proportion::new(counted.first_choice_approvals, counted.first_choices).interval(),
        approval_rate: Proportion::new(counted.approvals, counted.attempts).interval(),
        model: counted.model,
        shadow: counted.shadow,
        slice: counted.slice,
        predictions: counted.predictions,
        confidence: counted.confidence,
        first_choices: counted.first_choices,
        attempts: counted.attempts,
        approvals: counted.approvals,
        predicted: counted.predicted,
        log_loss: counted.log_loss,
        brier: counted.brier,
        auc,
        latency_us_p50: counted.latency_us_p50,
        latency_us_p95: counted.latency_us_p95,
    }
}

fn bin(counted: CountedBin) -> Bin {
    let approval_rate = Proportion::new(counted.approvals, counted.attempts).interval();
    Bin {
        model: counted.model,
        shadow: counted.shadow,
        from: f64::from(counted.bin) / 10.0,
        to: f64::from(counted.bin + 1) / 10.0,
        attempts: counted.attempts,
        approvals: counted.approvals,
        predicted: counted.predicted,
        is_off: approval_rate.is_some_and(|it| counted.predicted < it.low || counted.predicted > it.high),
        approval_rate,
    }
}

const MODELS: &[Column] = &[
    Column::new("MODEL", "/model"),
    Column::shown("SHADOW", "/shadow", column::yes),
    Column::new("PREDICTIONS", "/predictions"),
    Column::shown("CONFIDENCE", "/confidence", screen::percent),
    Column::new("TAKEN", "/first_choices"),
    Column::shown("RANK ACCURACY", "/rank_accuracy", column::percent),
    Column::new("ATTEMPTS", "/attempts"),
    Column::shown("PREDICTED", "/predicted", screen::percent),
    Column::shown("APPROVED", "/approval_rate", column::percent),
    Column::shown("LOG LOSS", "/log_loss", column::decimals),
    Column::shown("AUC", "/auc", column::decimals),
];

const DAYS: &[Column] = &[
    Column::new("DAY", "/slice"),
    Column::new("MODEL", "/model"),
    Column::shown("SHADOW", "/shadow", column::yes),
    Column::new("PREDICTIONS", "/predictions"),
    Column::shown("CONFIDENCE", "/confidence", screen::percent),
    Column::shown("RANK ACCURACY", "/rank_accuracy", column::percent),
    Column::shown("PREDICTED", "/predicted", screen::percent),
    Column::shown("APPROVED", "/approval_rate", column::percent),
    Column::shown("AUC", "/auc", column::decimals),
];

const BINS: &[Column] = &[
    Column::new("MODEL", "/model"),
    Column::shown("SHADOW", "/shadow", column::yes),
    Column::shown("FROM", "/from", screen::percent),
    Column::new("ATTEMPTS", "/attempts"),
    Column::shown("PREDICTED", "/predicted", screen::percent),
    Column::shown("APPROVED", "/approval_rate", column::percent),
    Column::shown("OFF", "/is_off", column::yes),
];

const WORDS: &str = "Confidence is the mean probability of the PSP that was put first; rank accuracy the share approved where that one was \
    taken. Predicted and approved are of the PSP that took the first attempt that followed the decision, whichever it was. Brackets are 95 % \
    intervals (Wilson).";

fn say(screen: &Screen, told: &Told) -> Result<()> {
    screen.say(format!("{WORDS}\n"))?;
    screen.rows(MODELS, &told.models, "no models")?;
    screen.say("\nBy day of scoring (UTC)")?;
    screen.rows(DAYS, &told.days, "no days")?;
    screen.say("\nCalibration: OFF says that the predicted share lies outside the interval of what came")?;
    screen.rows(BINS, &told.calibration, "no prediction has a result")
}

fn named(model: &str, shadow: bool) -> String {
    if shadow { format!("{model}, looking on") } else { model.to_owned() }
}

fn page(told: &Told, asked: &Asked<'_>) -> String {
    let cells = |it: &Figures| {
        let taken = [it.first_choices.to_string(), percent(it.rank_accuracy), it.attempts.to_string()];
        let outcome =
            [decimals(it.predicted), percent(it.approval_rate), decimals(it.log_loss), decimals(it.brier), decimals(it.auc)];
        let latency = [it.latency_us_p50, it.latency_us_p95].map(|us| format!("{:.2}", us / 1_000.0));
        [it.predictions.to_string(), decimals(it.confidence)].into_iter().chain(taken).chain(outcome).chain(latency)
    };
    let heads = [
        "predictions",
        "confidence",
        "first choice taken",
        "rank accuracy",
        "attempts",
        "predicted",
        "approved",
        "log loss",
        "Brier",
        "AUC",
        "ms, median",
        "ms, 95 %",
    ];
    let model = |it: &Figures| std::iter::once(named(&it.model, it.shadow)).chain(cells(it)).collect();
    let day = |it: &Figures| [it.slice.clone(), named(&it.model, it.shadow)].into_iter().chain(cells(it)).collect();
    let heads_of = |first: &[&'static str]| first.iter().copied().chain(heads).collect::<Vec<_>>();
    let accuracy: Vec<(String, Estimate, u64)> =
        told.models.iter().filter_map(|it| Some((named(&it.model, it.shadow), it.rank_accuracy?, it.first_choices))).collect();
    let sections: Vec<String> = told.models.iter().map(|it| section(&it.model, it.shadow, told)).collect();
    let until = if asked.to == super::EVER { String::new() } else { format!(" before {}", shown(asked.to)) };
    let since = if asked.from == 0 { String::new() } else { format!(" from {}", shown(asked.from)) };
    let body = [
        format!("<h1>Models</h1><p>All predictions{since}{until}. {}</p>", escaped(WORDS)),
        table(1, &heads_of(&["model"]), told.models.iter().map(model)),
        plots(&[side_by_side("Rank accuracy: approved, where the first choice was taken", &accuracy)]),
        sections.concat(),
        format!("<h2>By day of scoring (UTC)</h2>{}", table(2, &heads_of(&["day", "model"]), told.days.iter().map(day))),
    ];
    document("Models", &body.concat())
}

fn section(model: &str, shadow: bool, told: &Told) -> String {
    let bins: Vec<&Bin> = told.calibration.iter().filter(|it| it.model == model && it.shadow == shadow).collect();
    if bins.is_empty() {
        return String::new();
    }
    let reliable: Vec<(f64, Estimate)> = bins.iter().filter_map(|it| Some((it.predicted, it.approval_rate?))).collect();
    let days: Vec<&Figures> = told.days.iter().filter(|it| it.model == model && it.shadow == shadow).collect();
    let marks = days.iter().filter_map(|it| {
        let told = format!("{}: {}", it.slice, percent(it.rank_accuracy));
        Some(Mark { at: midday(&it.slice)?, share: it.rank_accuracy?, told, stands_out: false })
    });
    let confidence = days.iter().filter_map(|it| Some((midday(&it.slice)?, it.confidence?))).collect();
    let confidence = Curve { class: "c2", name: "confidence".to_owned(), points: confidence };
    let row = |it: &&Bin| {
        let off = if it.is_off { "off" } else { "" };
        let range = format!("{:.0} to {:.0} %", it.from * 100.0, it.to * 100.0);
        vec![range, it.attempts.to_string(), decimals(Some(it.predicted)), percent(it.approval_rate), off.to_owned()]
    };
    format!(
        "<h2>{}</h2>{}{}{}",
        escaped(&named(model, shadow)),
        plots(&[
            reliability("Calibration: share approved over mean probability", &reliable),
            over_time("Rank accuracy by day", &marks.collect::<Vec<_>>(), &[confidence]),
        ]),
        table(1, &["probability", "attempts", "predicted", "approved", ""], bins.iter().map(row)),
        note("Off: the predicted share lies outside the interval of what came.")
    )
}

pub(super) fn midday(day: &str) -> Option<EpochMs> {
    let noon = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?.and_hms_opt(12, 0, 0)?;
    Some(noon.and_utc().timestamp_millis())
}
