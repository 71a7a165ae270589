//! `report retries`: what attempts after the first brought, by what came before them.

use super::model::midday;
use super::{Asked, column, percent};
use crate::cli::chart::{Mark, over_time, side_by_side};
use crate::cli::page::{document, escaped, note, plots, table};
use crate::cli::screen::{self, Column, Screen};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use smartrouter::learn::{Estimate, Proportion};
use std::collections::BTreeMap;

const CHAINS: &str = include_str!("chains.sql");
const PAYMENTS: &str = include_str!("payments.sql");
/// Chains are shown as text up to this many.
const CHAINS_SHOWN_MAX: usize = 30;
/// The waits that `chains.sql` tells apart, in words.
const WAITS: [&str; 6] = ["under 10 s", "10 s to 1 min", "1 to 10 min", "10 min to 1 h", "1 h to 1 day", "a day and more"];

/// Attempts after the first of their payment, with the same story.
#[derive(Debug, Deserialize)]
struct Chain {
    stage: u64,
    previous_psp_id: String,
    /// Empty: none told.
    previous_category: String,
    previous_hard_soft: String,
    psp_id: String,
    wait: usize,
    attempts: u64,
    approvals: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Daily {
    day: String,
    payments: u64,
    approved_at_first: u64,
    retried: u64,
    recovered: u64,
    /// Recovered, of those that were tried again.
    #[serde(default)]
    success: Option<Estimate>,
}

/// Retries that have something in common.
#[derive(Debug, Serialize)]
struct Group {
    name: String,
    attempts: u64,
    approvals: u64,
    approval_rate: Option<Estimate>,
}

#[derive(Debug, Serialize)]
struct ChainTold {
    stage: u64,
    previous_psp_id: String,
    previous_category: String,
    psp_id: String,
    attempts: u64,
    approvals: u64,
    approval_rate: Option<Estimate>,
}

#[derive(Debug, Serialize)]
struct Told {
    payments: u64,
    approved_at_first: u64,
    retried: u64,
    recovered: u64,
    /// Of payments that were tried again, how many were approved in the end.
    success: Option<Estimate>,
    /// Approved payments in all, and what they would be without retries.
    approval_rate: Option<Estimate>,
    approval_rate_at_first: Option<Estimate>,
    groups: BTreeMap<&'static str, Vec<Group>>,
    chains: Vec<ChainTold>,
    days: Vec<Daily>,
}

type ValueOf = fn(&Chain) -> String;

/// How retries are told apart, in the order in which it is shown.
const CUTS: [(&str, ValueOf); 5] = [
    ("stage", |it| format!("attempt {}", it.stage)),
    ("category before", |it| told_or(&it.previous_category, "no category told")),
    ("decline before", |it| told_or(&it.previous_hard_soft, "neither hard nor soft")),
    ("PSP", |it| if it.psp_id == it.previous_psp_id { "the same again".to_owned() } else { "another".to_owned() }),
    ("wait", |it| WAITS.get(it.wait).copied().unwrap_or_default().to_owned()),
];

pub(super) fn tell(screen: &Screen, asked: &Asked<'_>) -> Result<String> {
    let days: Vec<Daily> = asked.rows(PAYMENTS)?;
    if days.is_empty() {
        return asked.nothing("ATHIA_SESSION_SUMMARY", "first_attempted_at", "payment");
    }
    let told = weigh(asked.rows(CHAINS)?, days);
    if screen.is_json() {
        screen.object(&told)?;
    } else {
        say(screen, &told)?;
    }
    Ok(page(&told))
}

fn weigh(chains: Vec<Chain>, mut days: Vec<Daily>) -> Told {
    for day in &mut days {
        day.success = Proportion::new(day.recovered, day.retried).interval();
    }
    let sum = |of: fn(&Daily) -> u64| days.iter().map(of).sum::<u64>();
    let (payments, at_first) = (sum(|day| day.payments), sum(|day| day.approved_at_first));
    let (retried, recovered) = (sum(|day| day.retried), sum(|day| day.recovered));
    let groups = CUTS.iter().map(|(cut, name)| (*cut, grouped(&chains, *name))).collect();
    let mut by_chain: BTreeMap<_, Proportion> = BTreeMap::new();
    for chain in chains {
        let key = (chain.stage, chain.previous_psp_id, chain.previous_category, chain.psp_id);
        by_chain.entry(key).or_default().add(Proportion::new(chain.approvals, chain.attempts));
    }
    let chain = |((stage, previous_psp_id, previous_category, psp_id), counted): (_, Proportion)| ChainTold {
        stage,
        previous_psp_id,
        previous_category,
        psp_id,
        attempts: counted.trials,
        approvals: counted.successes,
        approval_rate: counted.interval(),
    };
    let mut chains: Vec<ChainTold> = by_chain.into_iter().map(chain).collect();
    chains.sort_by(|a, b| a.stage.cmp(&b.stage).then(b.attempts.cmp(&a.attempts)));
    Told {
        payments,
        approved_at_first: at_first,
        retried,
        recovered,
        success: Proportion::new(recovered, retried).interval(),
        approval_rate: Proportion::new(at_first + recovered, payments).interval(),
        approval_rate_at_first: Proportion::new(at_first, payments).interval(),
        groups,
        chains,
        days,
    }
}

/// In the order of their names: waits keep theirs, as the rows come sorted by it.
fn grouped(chains: &[Chain], name: fn(&Chain) -> String) -> Vec<Group> {
    let mut groups: Vec<(String, Proportion)> = Vec::new();
    for chain in chains {
        let (name, more) = (name(chain), Proportion::new(chain.approvals, chain.attempts));
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, counted)) => counted.add(more),
            None => groups.push((name, more)),
        }
    }
    let place = |name: &str| WAITS.iter().position(|wait| *wait == name);
    groups.sort_by(|a, b| place(&a.0).cmp(&place(&b.0)).then_with(|| a.0.cmp(&b.0)));
    let group = |(name, counted): (String, Proportion)| Group {
        name,
        attempts: counted.trials,
        approvals: counted.successes,
        approval_rate: counted.interval(),
    };
    groups.into_iter().map(group).collect()
}

fn told_or(text: &str, absent: &str) -> String {
    if text.is_empty() { absent.to_owned() } else { text.to_owned() }
}

const GROUPS: &[Column] = &[
    Column::new("", "/name"),
    Column::new("RETRIES", "/attempts"),
    Column::new("APPROVED", "/approvals"),
    Column::shown("SUCCESS", "/approval_rate", column::percent),
];

const BY_CHAIN: &[Column] = &[
    Column::new("ATTEMPT", "/stage"),
    Column::new("PSP BEFORE", "/previous_psp_id"),
    Column::shown("CATEGORY BEFORE", "/previous_category", |value| told_or(&screen::text(value), "-")),
    Column::new("PSP", "/psp_id"),
    Column::new("RETRIES", "/attempts"),
    Column::shown("SUCCESS", "/approval_rate", column::percent),
];

const BY_DAY: &[Column] = &[
    Column::new("DAY", "/day"),
    Column::new("PAYMENTS", "/payments"),
    Column::new("APPROVED AT FIRST", "/approved_at_first"),
    Column::new("RETRIED", "/retried"),
    Column::new("RECOVERED", "/recovered"),
    Column::shown("SUCCESS", "/success", column::percent),
];

fn opening(told: &Told) -> String {
    format!(
        "{} payments: {} approved at the first attempt. {} others were tried again, and {} of them approved in the end: {}. With retries {} of \
         all payments are approved, without them {}. Brackets are 95 % intervals (Wilson).",
        told.payments,
        told.approved_at_first,
        told.retried,
        told.recovered,
        percent(told.success),
        percent(told.approval_rate),
        percent(told.approval_rate_at_first)
    )
}

fn say(screen: &Screen, told: &Told) -> Result<()> {
    screen.say(opening(told))?;
    for (cut, _) in CUTS {
        screen.say(format!("\nBy {cut}"))?;
        screen.rows(GROUPS, &told.groups[cut], "no retry")?;
    }
    screen.say("\nBy chain")?;
    let shown: Vec<&ChainTold> = told.chains.iter().take(CHAINS_SHOWN_MAX).collect();
    screen.rows(BY_CHAIN, &shown, "no retry")?;
    if told.chains.len() > shown.len() {
        screen.say(format!("... and {} more: --html FILE or --output json has all", told.chains.len() - shown.len()))?;
    }
    screen.say("\nBy day (UTC) of the first attempt")?;
    screen.rows(BY_DAY, &told.days, "no day")
}

fn page(told: &Told) -> String {
    let group = |it: &Group| vec![it.name.clone(), it.attempts.to_string(), it.approvals.to_string(), percent(it.approval_rate)];
    let cut = |(cut, _): &(&str, fn(&Chain) -> String)| {
        let groups = &told.groups[cut];
        let rows: Vec<(String, Estimate, u64)> =
            groups.iter().filter_map(|it| Some((it.name.clone(), it.approval_rate?, it.attempts))).collect();
        let plot = plots(&[side_by_side("approved, of retries", &rows)]);
        format!("<h2>By {cut}</h2>{plot}{}", table(1, &["", "retries", "approved", "success"], groups.iter().map(group)))
    };
    let chain = |it: &ChainTold| {
        let story = [it.stage.to_string(), it.previous_psp_id.clone(), told_or(&it.previous_category, "–"), it.psp_id.clone()];
        story.into_iter().chain([it.attempts.to_string(), it.approvals.to_string(), percent(it.approval_rate)]).collect()
    };
    let day = |it: &Daily| {
        let counts = [it.payments, it.approved_at_first, it.retried, it.recovered].map(|count| count.to_string());
        std::iter::once(it.day.clone()).chain(counts).chain([percent(it.success)]).collect()
    };
    let mark = |it: &Daily| {
        let told = format!("{}: {} of {} payments", it.day, percent(it.success), it.retried);
        Some(Mark { at: midday(&it.day)?, share: it.success?, told, stands_out: false })
    };
    let marks: Vec<Mark> = told.days.iter().filter_map(mark).collect();
    let days = ["day", "payments", "approved at first", "retried", "recovered", "success"];
    let chains = ["attempt", "PSP before", "category before", "PSP", "retries", "approved", "success"];
    let body = [
        format!("<h1>Retries</h1><p>{}</p>", escaped(&opening(told))),
        CUTS.iter().map(cut).collect::<Vec<_>>().concat(),
        format!("<h2>By chain</h2>{}", table(4, &chains, told.chains.iter().map(chain))),
        format!("<h2>By day</h2>{}", plots(&[over_time("recovered, of payments that were tried again", &marks, &[])])),
        table(1, &days, told.days.iter().map(day)),
        note("Days are UTC, of the first attempt of a payment."),
    ];
    document("Retries", &body.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_counted_once_in_each_cut() {
        let chain = |stage, before: &str, category: &str, psp: &str, wait, attempts, approvals| Chain {
            stage,
            previous_psp_id: before.to_owned(),
            previous_category: category.to_owned(),
            previous_hard_soft: "SOFT".to_owned(),
            psp_id: psp.to_owned(),
            wait,
            attempts,
            approvals,
        };
        let day = |day: &str, payments, approved_at_first, retried, recovered| Daily {
            day: day.to_owned(),
            payments,
            approved_at_first,
            retried,
            recovered,
            success: None,
        };
        let chains = vec![
            chain(2, "a", "funds", "b", 5, 6, 3),
            chain(2, "a", "funds", "b", 0, 4, 1),
            chain(2, "a", "", "a", 0, 20, 2),
            chain(3, "b", "funds", "a", 1, 10, 8),
        ];
        let told = weigh(chains, vec![day("2026-01-05", 60, 30, 20, 10), day("2026-01-06", 40, 30, 10, 4)]);
        assert_eq!((told.payments, told.retried, told.recovered), (100, 30, 14));
        let shares = [told.success, told.approval_rate, told.approval_rate_at_first].map(|it| it.unwrap().value);
        assert_eq!(shares, [14.0 / 30.0, 0.74, 0.6]);
        let of = |cut: &str| told.groups[cut].iter().map(|it| (it.name.as_str(), it.attempts, it.approvals)).collect::<Vec<_>>();
        assert_eq!(of("stage"), [("attempt 2", 30, 6), ("attempt 3", 10, 8)]);
        assert_eq!(of("PSP"), [("another", 20, 12), ("the same again", 20, 2)]);
        assert_eq!(of("category before"), [("funds", 20, 12), ("no category told", 20, 2)]);
        assert_eq!(of("wait"), [("under 10 s", 24, 3), ("10 s to 1 min", 10, 8), ("a day and more", 6, 3)]);
        assert_eq!(of("decline before"), [("SOFT", 40, 14)]);
        let chains: Vec<_> =
            told.chains.iter().map(|it| (it.stage, it.previous_psp_id.as_str(), it.attempts, it.approvals)).collect();
        assert_eq!(chains, [(2, "a", 20, 2), (2, "a", 10, 4), (3, "b", 10, 8)]);
        assert_eq!(told.days[1].success.unwrap().value, 0.4);
    }
}
