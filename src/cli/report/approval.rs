//! `report approval`: how many attempts each PSP approved, by day and hour, and whether that is what it did in the days before.

use super::{Asked, Period, column, percent, points, shown};
use crate::cli::chart::{Curve, Mark, over_time, side_by_side};
use crate::cli::page::{document, escaped, note, plots, table};
use crate::cli::screen::{Column, Screen, time};
use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};
use smartrouter::domain::EpochMs;
use smartrouter::learn::{Estimate, Proportion};
use std::collections::BTreeMap;

const SQL: &str = include_str!("approval.sql");
/// Fewer attempts are not judged: one failure by itself would stand out.
const JUDGED_MIN: u64 = 30;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// All PSPs together: no PSP has such an id.
const ALL: &str = "(all)";
/// Hours that stand out are shown as text up to this many.
const HOURS_SHOWN_MAX: usize = 25;
/// Behind any attempt of a payment.
const STAGE_MAX: i64 = 1_000_000;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    pub(super) period: Period,
    /// How many days before an hour or a day are its baseline
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=366))]
    baseline_days: u16,
    /// Only the first attempt of each payment
    #[arg(long)]
    first_attempts: bool,
}

#[derive(Debug, Deserialize)]
struct Hourly {
    psp_id: String,
    hour: EpochMs,
    attempts: u64,
    approvals: u64,
}

/// A PSP over a time.
#[derive(Debug, Serialize)]
struct Bucket {
    psp_id: String,
    at: EpochMs,
    attempts: u64,
    approvals: u64,
    approval_rate: Option<Estimate>,
    /// Its rate over the days before; absent when it had no attempts then.
    baseline: Option<f64>,
    baseline_attempts: u64,
    above_baseline: Option<Estimate>,
    /// The interval of the difference leaves out zero, and there are attempts enough to say so.
    stands_out: bool,
}

#[derive(Debug, Serialize)]
struct Told {
    from: EpochMs,
    to: EpochMs,
    baseline_days: u16,
    first_attempts: bool,
    psps: Vec<Bucket>,
    days: Vec<Bucket>,
    hours: Vec<Bucket>,
}

pub(super) fn tell(screen: &Screen, asked: &Asked<'_>, options: &Options) -> Result<String> {
    let stage_max = if options.first_attempts { 1 } else { STAGE_MAX };
    let baseline_ms = i64::from(options.baseline_days) * DAY_MS;
    // Hours are whole, and the first one needs its baseline.
    let (from, to) = (asked.from.div_euclid(HOUR_MS) * HOUR_MS, asked.to);
    let since = SQL.replace("@from@", &(from - baseline_ms).to_string());
    let hours: Vec<Hourly> = asked.rows(&since.replace("@stage_max@", &stage_max.to_string()))?;
    let within: Vec<EpochMs> = hours.iter().map(|hour| hour.hour).filter(|hour| (from..to).contains(hour)).collect();
    let (Some(first), Some(last)) = (within.iter().min(), within.iter().max()) else {
        return asked.nothing("ATHIA_STAGE_OUTCOMES", "attempted_at", "attempt");
    };
    let (psps, days, hours) = weigh(hours, [*first, last + HOUR_MS], baseline_ms);
    let (baseline_days, first_attempts) = (options.baseline_days, options.first_attempts);
    let told = Told { from: *first, to: last + HOUR_MS, baseline_days, first_attempts, psps, days, hours };
    if screen.is_json() {
        screen.object(&told)?;
    } else {
        say(screen, &told)?;
    }
    Ok(page(&told))
}

/// The hours of a PSP in their order, with what was counted before each.
struct Counted {
    hours: Vec<(EpochMs, Proportion)>,
    before: Vec<Proportion>,
}

impl Counted {
    fn new(hours: BTreeMap<EpochMs, Proportion>) -> Self {
        let mut before = vec![Proportion::default()];
        for counted in hours.values() {
            let mut sum = *before.last().unwrap_or(&Proportion::default());
            sum.add(*counted);
            before.push(sum);
        }
        Self { hours: hours.into_iter().collect(), before }
    }

    fn between(&self, from: EpochMs, to: EpochMs) -> Proportion {
        let place = |at: EpochMs| self.before[self.hours.partition_point(|(hour, _)| *hour < at)];
        let (before, until) = (place(from), place(to));
        Proportion::new(until.successes - before.successes, until.trials - before.trials)
    }

    fn bucket(&self, psp_id: &str, span: [EpochMs; 2], baseline_ms: i64) -> Bucket {
        let (counted, baseline) = (self.between(span[0], span[1]), self.between(span[0] - baseline_ms, span[0]));
        let above_baseline = counted.above(baseline);
        Bucket {
            psp_id: psp_id.to_owned(),
            at: span[0],
            attempts: counted.trials,
            approvals: counted.successes,
            approval_rate: counted.interval(),
            baseline: baseline.share(),
            baseline_attempts: baseline.trials,
            above_baseline,
            stands_out: counted.trials >= JUDGED_MIN && above_baseline.is_some_and(|it| it.low > 0.0 || it.high < 0.0),
        }
    }
}

/// Each PSP over the whole time, by day and by hour (UTC), each beside what lay before it. Hours and days without attempts are left out.
fn weigh(hours: Vec<Hourly>, [from, to]: [EpochMs; 2], baseline_ms: i64) -> (Vec<Bucket>, Vec<Bucket>, Vec<Bucket>) {
    let mut by_psp: BTreeMap<String, BTreeMap<EpochMs, Proportion>> = BTreeMap::new();
    for hour in hours {
        let counted = Proportion::new(hour.approvals, hour.attempts);
        by_psp.entry(ALL.to_owned()).or_default().entry(hour.hour).or_default().add(counted);
        by_psp.entry(hour.psp_id).or_default().entry(hour.hour).or_default().add(counted);
    }
    let (mut psps, mut by_day, mut by_hour) = (Vec::new(), Vec::new(), Vec::new());
    for (psp_id, hours) in by_psp {
        let counted = Counted::new(hours);
        psps.push(counted.bucket(&psp_id, [from, to], baseline_ms));
        let day_of_first = from.div_euclid(DAY_MS) * DAY_MS;
        let days = (day_of_first..to).step_by(DAY_MS as usize);
        by_day.extend(days.map(|day| counted.bucket(&psp_id, [day.max(from), (day + DAY_MS).min(to)], baseline_ms)));
        let hours = counted.hours.iter().filter(|(hour, _)| (from..to).contains(hour));
        by_hour.extend(hours.map(|(hour, _)| counted.bucket(&psp_id, [*hour, hour + HOUR_MS], baseline_ms)));
    }
    psps.retain(|bucket| bucket.attempts > 0);
    by_day.retain(|bucket| bucket.attempts > 0);
    (psps, by_day, by_hour)
}

const PSPS: &[Column] = &[
    Column::new("PSP", "/psp_id"),
    Column::new("ATTEMPTS", "/attempts"),
    Column::new("APPROVED", "/approvals"),
    Column::shown("RATE", "/approval_rate", column::percent),
    Column::shown("BASELINE", "/baseline", crate::cli::screen::percent),
    Column::shown("ABOVE IT, POINTS", "/above_baseline", column::points),
    Column::shown("STANDS OUT", "/stands_out", column::yes),
];

const TIMES: &[Column] = &[
    Column::shown("FROM", "/at", time),
    Column::new("PSP", "/psp_id"),
    Column::new("ATTEMPTS", "/attempts"),
    Column::shown("RATE", "/approval_rate", column::percent),
    Column::shown("BASELINE", "/baseline", crate::cli::screen::percent),
    Column::shown("ABOVE IT, POINTS", "/above_baseline", column::points),
    Column::shown("STANDS OUT", "/stands_out", column::yes),
];

fn opening(told: &Told) -> String {
    let attempts = if told.first_attempts { "first attempts" } else { "attempts" };
    format!(
        "Approved of all {attempts} from {} to {}; times are UTC, brackets 95 % intervals (Wilson; Newcombe for differences). The baseline is \
         the PSP's own rate over the {} days before; what stands out differs from it by more than chance explains 19 times of 20.",
        shown(told.from),
        shown(told.to),
        told.baseline_days
    )
}

/// Hours that differ from their baseline, farthest first, and a line that says how many of them chance would make.
fn standing_out(told: &Told) -> (Vec<&Bucket>, String) {
    let compared = told.hours.iter().filter(|hour| hour.attempts >= JUDGED_MIN && hour.above_baseline.is_some()).count();
    let mut hours: Vec<&Bucket> = told.hours.iter().filter(|hour| hour.stands_out).collect();
    let distance = |hour: &Bucket| hour.above_baseline.map_or(0.0, |it| it.low.max(-it.high));
    hours.sort_by(|a, b| distance(b).total_cmp(&distance(a)));
    let line = format!(
        "{} of {compared} hours of a PSP with {JUDGED_MIN} attempts or more stand out; some {:.0} would by chance alone. Those with the surest difference first.",
        hours.len(),
        compared as f64 * 0.05
    );
    (hours, line)
}

fn say(screen: &Screen, told: &Told) -> Result<()> {
    screen.say(opening(told) + "\n")?;
    screen.rows(PSPS, &told.psps, "no PSPs")?;
    screen.say("\nBy day")?;
    screen.rows(TIMES, &told.days, "no days")?;
    let (mut hours, line) = standing_out(told);
    screen.say(format!("\n{line}"))?;
    let more = hours.len().saturating_sub(HOURS_SHOWN_MAX);
    hours.truncate(HOURS_SHOWN_MAX);
    screen.rows(TIMES, &hours, "no hour")?;
    if more > 0 {
        screen.say(format!("... and {more} more: --html FILE or --output json has all"))?;
    }
    Ok(())
}

fn cells(bucket: &Bucket) -> Vec<String> {
    let baseline =
        bucket.baseline.map_or_else(|| "–".to_owned(), |it| format!("{:.1} % of {}", it * 100.0, bucket.baseline_attempts));
    let out = if bucket.stands_out { "yes" } else { "" };
    let rate = percent(bucket.approval_rate);
    vec![bucket.attempts.to_string(), bucket.approvals.to_string(), rate, baseline, points(bucket.above_baseline), out.to_owned()]
}

fn page(told: &Told) -> String {
    let heads = ["attempts", "approved", "rate", "baseline", "above it, points", "stands out"];
    let heads_of = |first: &[&'static str]| first.iter().copied().chain(heads).collect::<Vec<_>>();
    let named = |bucket: &Bucket| std::iter::once(bucket.psp_id.clone()).chain(cells(bucket)).collect();
    let timed = |bucket: &Bucket| [shown(bucket.at), bucket.psp_id.clone()].into_iter().chain(cells(bucket)).collect();
    let rows: Vec<(String, Estimate, u64)> =
        told.psps.iter().filter_map(|it| Some((it.psp_id.clone(), it.approval_rate?, it.attempts))).collect();
    let sections: Vec<String> = told.psps.iter().map(|psp| section(&psp.psp_id, told)).collect();
    let (hours, line) = standing_out(told);
    let body = [
        format!("<h1>Approval by PSP</h1><p>{}</p>", escaped(&opening(told))),
        table(1, &heads_of(&["PSP"]), told.psps.iter().map(named)),
        plots(&[side_by_side("Approved, of all attempts", &rows)]),
        sections.concat(),
        format!("<h2>By day</h2>{}", table(2, &heads_of(&["from", "PSP"]), told.days.iter().map(timed))),
        format!("<h2>Hours that stand out</h2>{}", note(&line)),
        table(2, &heads_of(&["from", "PSP"]), hours.into_iter().map(timed)),
    ];
    document("Approval by PSP", &body.concat())
}

fn section(psp_id: &str, told: &Told) -> String {
    let plot = |title: &str, buckets: &[Bucket], half_ms: i64| {
        let of_psp: Vec<&Bucket> = buckets.iter().filter(|bucket| bucket.psp_id == psp_id).collect();
        let mark = |it: &&Bucket| {
            let rate = it.approval_rate?;
            let told = format!("{} {}: {} of {}", shown(it.at), it.psp_id, percent(it.approval_rate), it.attempts);
            Some(Mark { at: it.at + half_ms, share: rate, told, stands_out: it.stands_out })
        };
        let marks: Vec<Mark> = of_psp.iter().filter_map(mark).collect();
        let points = of_psp.iter().filter_map(|it| Some((it.at + half_ms, it.baseline?))).collect();
        over_time(title, &marks, &[Curve { class: "static", name: "baseline".to_owned(), points }])
    };
    let by_day = plot("by day", &told.days, DAY_MS / 2);
    let by_hour = plot("by hour; what stands out in red", &told.hours, HOUR_MS / 2);
    // One day alone is no course of time.
    let several = told.days.iter().filter(|bucket| bucket.psp_id == psp_id).count() > 1;
    let drawn: Vec<String> = several.then_some(by_day).into_iter().chain([by_hour]).collect();
    format!("<h2>{}</h2>{}", escaped(psp_id), plots(&drawn))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(psp_id: &str, hour: i64, attempts: u64, approvals: u64) -> Hourly {
        Hourly { psp_id: psp_id.to_owned(), hour: hour * HOUR_MS, attempts, approvals }
    }

    #[test]
    fn an_hour_is_compared_with_the_days_before_it_and_nothing_else() {
        // A day of 90 % at a, then an hour of 50 %; b has no past. The hour 30 days before is no baseline of a week.
        let hours = vec![
            hour("a", -720, 1_000, 0),
            hour("a", 0, 100, 90),
            hour("a", 5, 100, 90),
            hour("a", 24, 40, 20),
            hour("a", 25, 10, 9),
            hour("b", 24, 10, 7),
        ];
        let (psps, days, by_hour) = weigh(hours, [24 * HOUR_MS, 26 * HOUR_MS], 7 * DAY_MS);
        let told = |bucket: &Bucket| {
            let rate = bucket.approval_rate.map(|it| it.value);
            (bucket.psp_id.clone(), bucket.at / HOUR_MS, bucket.attempts, rate, bucket.baseline, bucket.stands_out)
        };
        assert_eq!(told(&psps[0]), (ALL.to_owned(), 24, 60, Some(0.6), Some(0.9), true));
        assert_eq!(told(&psps[1]), ("a".to_owned(), 24, 50, Some(0.58), Some(0.9), true));
        assert_eq!(told(&psps[2]), ("b".to_owned(), 24, 10, Some(0.7), None, false));
        let of_a: Vec<_> = by_hour.iter().filter(|it| it.psp_id == "a").map(told).collect();
        let later = ("a".to_owned(), 25, 10, Some(0.9), Some(200.0 / 240.0), false);
        assert_eq!(of_a, [("a".to_owned(), 24, 40, Some(0.5), Some(0.9), true), later]);
        assert_eq!(
            days.iter().map(|it| (it.psp_id.as_str(), it.attempts)).collect::<Vec<_>>(),
            [(ALL, 60), ("a", 50), ("b", 10)]
        );
        // 20 of 40 beside 180 of 200, by another program: -0.4000 [-0.5519, -0.2440].
        let above = by_hour.iter().find(|it| it.psp_id == "a").unwrap().above_baseline.unwrap();
        for (got, want) in [above.value, above.low, above.high].into_iter().zip([-0.4, -0.5519, -0.2440]) {
            assert!((got - want).abs() < 5e-5, "{above:?}");
        }
        // One attempt that failed differs from all before it, and says nothing.
        let (_, _, alone) = weigh(vec![hour("a", 0, 100, 90), hour("a", 24, 1, 0)], [24 * HOUR_MS, 25 * HOUR_MS], 7 * DAY_MS);
        assert!(alone.iter().all(|it| it.above_baseline.is_some_and(|above| above.high < 0.0) && !it.stands_out), "{alone:?}");
    }
}
