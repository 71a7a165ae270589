//! `report shadow`: a model that looks on beside what decided, on the same decisions, and both beside what came of them.

use super::model::midday;
use super::{Asked, auc, column, decimals, percent};
use crate::cli::chart::{Curve, Mark, over_time};
use crate::cli::learning_report::figure;
use crate::cli::page::{document, escaped, note, plots, table};
use crate::cli::screen::{self, Column, Screen};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use smartrouter::learn::{Estimate, Proportion};

const SQL: &str = include_str!("shadow.sql");
/// Half of a 95 % interval of a mean, in standard errors.
const Z: f64 = 1.96;

/// A pair over a slice, as counted.
#[derive(Debug, Deserialize)]
struct Counted {
    shadow_model: String,
    champion_model: String,
    kind: Kind,
    slice: String,
    decisions: u64,
    agreed: u64,
    attempts: u64,
    approvals: u64,
    champion_predicted: Option<f64>,
    shadow_predicted: Option<f64>,
    champion_log_loss: Option<f64>,
    shadow_log_loss: Option<f64>,
    log_loss_spread: Option<f64>,
    champion_brier: Option<f64>,
    shadow_brier: Option<f64>,
    champion_places: Option<f64>,
    shadow_places: Option<f64>,
    agreed_taken: u64,
    agreed_approvals: u64,
    champion_taken: u64,
    champion_approvals: u64,
    shadow_taken: u64,
    shadow_approvals: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    All,
    Day,
    Psp,
}

/// What one of the two said of the attempts that both gave a probability.
#[derive(Debug, Serialize)]
struct Said {
    predicted: Option<f64>,
    log_loss: Option<f64>,
    brier: Option<f64>,
    auc: Option<f64>,
}

/// First choices that were taken.
#[derive(Debug, Serialize)]
struct Taken {
    attempts: u64,
    approvals: u64,
    approval_rate: Option<Estimate>,
}

#[derive(Debug, Serialize)]
struct Pair {
    shadow_model: String,
    champion_model: String,
    kind: Kind,
    slice: String,
    decisions: u64,
    /// Decisions with the same first choice.
    agreement: Option<Estimate>,
    attempts: u64,
    approvals: u64,
    approval_rate: Option<Estimate>,
    champion: Said,
    shadow: Said,
    /// By how much the shadow's log loss is lower on the same attempts.
    log_loss_less: Option<Estimate>,
    /// Both had the same first choice; they had not, and the champion's was taken; or the shadow's, by chance or on a retry.
    agreed: Taken,
    champion_alone: Taken,
    shadow_alone: Taken,
}

#[derive(Debug, Serialize)]
struct Told {
    pairs: Vec<Pair>,
}

pub(super) fn tell(screen: &Screen, asked: &Asked<'_>) -> Result<String> {
    let counted: Vec<Counted> = asked.rows(SQL)?;
    if counted.is_empty() {
        let what = "decision on which a model looked (`smartrouter models promote NAME@VERSION --to shadow` lets one)";
        return asked.nothing("ATHIA_PREDICTIONS", "scored_at", what);
    }
    let told = Told { pairs: counted.into_iter().map(pair).collect() };
    if screen.is_json() {
        screen.object(&told)?;
    } else {
        say(screen, &told)?;
    }
    Ok(page(&told))
}

fn pair(it: Counted) -> Pair {
    let taken =
        |approvals, attempts| Taken { attempts, approvals, approval_rate: Proportion::new(approvals, attempts).interval() };
    let less = it.champion_log_loss.zip(it.shadow_log_loss).map(|(champion, shadow)| champion - shadow);
    let log_loss_less = less.zip(it.log_loss_spread).map(|(value, spread)| {
        let half = Z * spread / (it.attempts as f64).sqrt();
        Estimate { value, low: value - half, high: value + half }
    });
    Pair {
        agreement: Proportion::new(it.agreed, it.decisions).interval(),
        approval_rate: Proportion::new(it.approvals, it.attempts).interval(),
        champion: Said {
            predicted: it.champion_predicted,
            log_loss: it.champion_log_loss,
            brier: it.champion_brier,
            auc: auc(it.champion_places, it.approvals, it.attempts),
        },
        shadow: Said {
            predicted: it.shadow_predicted,
            log_loss: it.shadow_log_loss,
            brier: it.shadow_brier,
            auc: auc(it.shadow_places, it.approvals, it.attempts),
        },
        log_loss_less,
        agreed: taken(it.agreed_approvals, it.agreed_taken),
        champion_alone: taken(it.champion_approvals, it.champion_taken),
        shadow_alone: taken(it.shadow_approvals, it.shadow_taken),
        shadow_model: it.shadow_model,
        champion_model: it.champion_model,
        kind: it.kind,
        slice: it.slice,
        decisions: it.decisions,
        attempts: it.attempts,
        approvals: it.approvals,
    }
}

const SAID: &[Column] = &[
    Column::new("SHADOW", "/shadow_model"),
    Column::new("DECIDED", "/champion_model"),
    Column::new("", "/slice"),
    Column::new("DECISIONS", "/decisions"),
    Column::shown("SAME FIRST CHOICE", "/agreement", column::percent),
    Column::new("ATTEMPTS", "/attempts"),
    Column::shown("SHADOW SAID", "/shadow/predicted", screen::percent),
    Column::shown("OTHER SAID", "/champion/predicted", screen::percent),
    Column::shown("APPROVED", "/approval_rate", column::percent),
    Column::shown("LOG LOSS LESS", "/log_loss_less", column::estimated),
];

const CHOICES: &[Column] = &[
    Column::new("SHADOW", "/shadow_model"),
    Column::new("DECIDED", "/champion_model"),
    Column::shown("SHADOW AUC", "/shadow/auc", column::decimals),
    Column::shown("OTHER AUC", "/champion/auc", column::decimals),
    Column::new("AGREED", "/agreed/attempts"),
    Column::shown("APPROVED", "/agreed/approval_rate", column::percent),
    Column::new("OTHER'S TAKEN", "/champion_alone/attempts"),
    Column::shown("APPROVED", "/champion_alone/approval_rate", column::percent),
    Column::new("SHADOW'S TAKEN", "/shadow_alone/attempts"),
    Column::shown("APPROVED", "/shadow_alone/approval_rate", column::percent),
];

const WORDS: &str = "A model that looks on has no say: what came is of the PSP that was taken. Said is the mean probability of that PSP; log loss \
    less is by how much the shadow's is lower on the same attempts (above zero: better). Where the two had different first choices, the \
    shadow's was taken only by chance: by exploration, by a sample, or because the other one was out. Brackets are 95 % intervals.";

fn say(screen: &Screen, told: &Told) -> Result<()> {
    let of = |kind: Kind| told.pairs.iter().filter(move |pair| pair.kind == kind).collect::<Vec<_>>();
    screen.say(format!("{WORDS}\n"))?;
    screen.rows(SAID, &of(Kind::All), "no pair")?;
    screen.say("\nFirst choices that were taken")?;
    screen.rows(CHOICES, &of(Kind::All), "no pair")?;
    screen.say("\nBy PSP that was taken")?;
    screen.rows(SAID, &of(Kind::Psp), "no attempt")?;
    screen.say("\nBy day (UTC)")?;
    screen.rows(SAID, &of(Kind::Day), "no day")
}

fn page(told: &Told) -> String {
    let sections: Vec<String> = told.pairs.iter().filter(|pair| pair.kind == Kind::All).map(|pair| section(pair, told)).collect();
    let body = format!("<h1>Models that look on</h1><p>{}</p>{}", escaped(WORDS), sections.concat());
    document("Models that look on", &body)
}

fn section(all: &Pair, told: &Told) -> String {
    let is_of = |pair: &&Pair| pair.shadow_model == all.shadow_model && pair.champion_model == all.champion_model;
    let said = |name: &str, it: &Said| {
        let figures = [it.predicted, it.log_loss, it.brier, it.auc].map(decimals);
        std::iter::once(name.to_owned()).chain(figures).collect::<Vec<_>>()
    };
    let taken = |name: &str, it: &Taken| {
        vec![name.to_owned(), it.attempts.to_string(), it.approvals.to_string(), percent(it.approval_rate)]
    };
    let slice = |it: &Pair| {
        let figures =
            [percent(it.agreement), it.attempts.to_string(), decimals(it.shadow.predicted), decimals(it.champion.predicted)];
        let rest = [percent(it.approval_rate), figure(it.log_loss_less)];
        [it.slice.clone(), it.decisions.to_string()].into_iter().chain(figures).chain(rest).collect()
    };
    let heads = ["decisions", "same first choice", "attempts", "shadow said", "other said", "approved", "log loss less"];
    let sliced = |title: &str, kind: Kind| {
        let heads: Vec<&str> = std::iter::once(title).chain(heads).collect();
        table(1, &heads, told.pairs.iter().filter(is_of).filter(|it| it.kind == kind).map(slice))
    };
    let marks = said_by_day(told, is_of);
    let came = format!(
        "{} decisions, the same first choice in {}. Of {} attempts {} were approved; the shadow's log loss is lower by {}.",
        all.decisions,
        percent(all.agreement),
        all.attempts,
        percent(all.approval_rate),
        figure(all.log_loss_less)
    );
    [
        format!("<h2>{}</h2>", escaped(&format!("{} beside {}", all.shadow_model, all.champion_model))),
        format!("<p>{}</p>", escaped(&came)),
        table(
            1,
            &["of these attempts", "said", "log loss", "Brier", "AUC"],
            [said(&all.shadow_model, &all.shadow), said(&all.champion_model, &all.champion)].into_iter(),
        ),
        table(
            1,
            &["first choice that was taken", "attempts", "approved", "rate"],
            [
                taken("the same of both", &all.agreed),
                taken("not the same: that of the one that decided", &all.champion_alone),
                taken("not the same: the shadow's", &all.shadow_alone),
            ]
            .into_iter(),
        ),
        plots(&[marks]),
        sliced("PSP that was taken", Kind::Psp),
        sliced("day", Kind::Day),
        note("Days are UTC, of the decision."),
    ]
    .concat()
}

/// What both said of each day's attempts, beside what came.
fn said_by_day(told: &Told, is_of: impl Fn(&&Pair) -> bool) -> String {
    let days: Vec<&Pair> = told.pairs.iter().filter(|it| is_of(it) && it.kind == Kind::Day).collect();
    let mark = |it: &&Pair| {
        let told = format!("{}: {}", it.slice, percent(it.approval_rate));
        Some(Mark { at: midday(&it.slice)?, share: it.approval_rate?, told, stands_out: false })
    };
    let curve = |class, name: &str, said: fn(&Pair) -> Option<f64>| {
        let points = days.iter().filter_map(|it| Some((midday(&it.slice)?, said(it)?))).collect();
        Curve { class, name: name.to_owned(), points }
    };
    let marks: Vec<Mark> = days.iter().filter_map(mark).collect();
    let curves =
        [curve("c2", "shadow said", |it| it.shadow.predicted), curve("static", "other said", |it| it.champion.predicted)];
    over_time("approved by day, and what both said", &marks, &curves)
}
