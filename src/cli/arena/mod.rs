//! `arena`: router policies on the same payments with the same luck, through scripted outages; told as a table, as JSON, as HTML.
//!
//! Owns the options, the threads that play the seeds, and the words. All that is played and measured is `sim::arena`'s. The thresholds
//! of the engine are those of the configuration in force, its merchant and PSPs the arena's own.

mod rows;
mod html;
mod plot;

use super::context::Context;
use super::screen::remark;
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result};
use clap::Args;
use rows::{COLUMNS, Line};
use smartrouter::engine::settings::Settings;
use smartrouter::sim::arena::{self, Report, SCENARIOS, Score};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

const MEANINGS: &str = "\
What is measured, over one attempt a payment:
  lost           approvals that the oracle has and the policy has not: the mean of a run with its 95 % interval (bootstrap), and the median
  to detect      from the first payment that an outage spoilt to the first decision that avoids the PSP; of several outages the slowest
  false alarms   times that a PSP, or a part of its traffic, is said not to be well (ejected, open, DOWN, DEGRADED) while none of its
                 outages is on; of all seeds together, in 100,000 payments. What is wrong at all PSPs at once is no PSP's outage
  probes         payments sent to a PSP that was left out, to see whether it is back
  down after     seconds from the end of an outage that was noticed until the PSP has half of its usual share again
  moved          share of the payments that went elsewhere than the merchant's first choice while that one was well, probes aside
What is not named a mean is a median over seeds with the order statistics that hold it in 95 samples of 100. In JSON: <key>_low, <key>_high.";

#[derive(Debug, Args)]
#[command(after_long_help = MEANINGS)]
pub(super) struct Options {
    /// How often each scenario is played under each policy, with other payments and other luck each time
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: u64,
    /// The first seed; the others follow it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these scenarios
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    scenario: Vec<String>,
    /// Only these policies
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    policy: Vec<String>,
    /// Writes a report with plots, one file that needs no other
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Verdict> {
    let scenarios = named("scenario", &options.scenario, SCENARIOS.iter().map(|script| script.name))?;
    let policies = named("policy", &options.policy, arena::policy_names())?;
    if cfg!(debug_assertions) && options.seeds > 10 {
        remark("this binary is not optimised: a seed takes some seconds");
    }
    let report = arena::report(&play(&context.config().settings, options, &scenarios, &policies));
    if let Some(file) = &options.html {
        std::fs::write(file, html::page(&report, options.seed))
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    tell(context, &report)?;
    Ok(Verdict::Done)
}

/// The names asked for in the order of the list, or all of it.
fn named<'a>(what: &str, asked: &[String], known: impl Iterator<Item = &'a str>) -> Result<Vec<&'a str>> {
    let known: Vec<&str> = known.collect();
    if let Some(unknown) = asked.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(WrongUse(format!("no {what} is called {unknown:?}; there are {}", known.join(", "))).into());
    }
    Ok(known.into_iter().filter(|name| asked.is_empty() || asked.iter().any(|it| it == name)).collect())
}

/// Every seed on whatever processor is free; the scores in the order of the seeds.
fn play(settings: &Settings, options: &Options, scenarios: &[&str], policies: &[&str]) -> Vec<Score> {
    let next = AtomicUsize::new(0);
    let seeds: Vec<u64> = (0..options.seeds).map(|offset| options.seed.wrapping_add(offset)).collect();
    let some = || {
        let mut played: Vec<(usize, Vec<Score>)> = Vec::new();
        while let Some((index, seed)) = claim(&next, &seeds) {
            played.push((index, arena::run(settings, seed, scenarios, policies)));
        }
        played
    };
    let mut played: Vec<(usize, Vec<Score>)> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(seeds.len());
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        // A thread that panicked has said so: the others' scores are not to stand for all.
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    played.sort_by_key(|(index, _)| *index);
    played.into_iter().flat_map(|(_, scores)| scores).collect()
}

fn claim(next: &AtomicUsize, seeds: &[u64]) -> Option<(usize, u64)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    seeds.get(index).map(|seed| (index, *seed))
}

fn tell(context: &Context, report: &Report) -> Result<()> {
    let screen = context.screen();
    let lines: Vec<Line> = report.rows.iter().map(|row| Line::of(row, report)).collect();
    if screen.is_json() {
        return screen.rows(COLUMNS, &lines, "");
    }
    for script in &SCENARIOS {
        let of: Vec<&Line> = lines.iter().filter(|line| line.scenario == script.name).collect();
        let Some(first) = of.first() else { continue };
        let payments = first.payments.unwrap_or_default();
        screen.say(format!("{}: {}; {} seeds of {payments:.0} payments", script.name, script.about, first.seed_count))?;
        screen.rows(COLUMNS, &of, "")?;
        if let Some(verdict) = report.verdicts.iter().find(|verdict| verdict.scenario == script.name) {
            screen.say(rows::sentence(verdict))?;
        }
        screen.say("")?;
    }
    screen.say(rows::summary(report))?;
    screen.say(
        "Payments lost against the oracle, mean of a run; other figures are medians, false alarms those of all seeds together; - is never, or \
         not defined. What each means: smartrouter arena --help. All intervals: --output json.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartrouter::config::{Config, LoadOptions};

    fn played() -> Report {
        let settings = Config::load(&LoadOptions::default()).unwrap().config.settings;
        arena::report(&arena::run(&settings, 3, &["low_traffic"], &arena::policy_names().collect::<Vec<_>>()))
    }

    #[test]
    fn rows_have_the_keys_that_scripts_rely_on() {
        let report = played();
        for row in &report.rows {
            let line = serde_json::to_value(Line::of(row, &report)).unwrap();
            assert!(line["scenario"] == "low_traffic" && line["policy"] == row.policy && line["seed_count"] == 1, "{line}");
            let figures = [
                "payments_lost_vs_oracle",
                "payments_to_detect",
                "seconds_to_detect",
                "false_alarms_per_100k",
                "probes",
                "seconds_down_after_recovery",
            ];
            for figure in figures {
                for key in [figure.to_owned(), format!("{figure}_low"), format!("{figure}_high")] {
                    let value = line.get(&key);
                    assert!(value.is_some_and(|it| it.is_number() || it.is_null()), "{key} of {line}");
                }
            }
            assert_eq!(line["verdict"].is_string(), row.policy == arena::OURS, "{line}");
        }
    }

    #[test]
    fn the_page_is_whole() {
        let page = html::page(&played(), 3);
        for (open, close) in [("<table", "</table>"), ("<tr", "</tr>"), ("<svg", "</svg>"), ("<section", "</section>")] {
            let count = |tag: &str| page.matches(tag).count();
            assert!(count(open) > 0 && count(open) == count(close), "{open}: {} and {}", count(open), count(close));
        }
        for policy in arena::policy_names() {
            assert!(page.contains(policy), "{policy}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"), "a figure that is none");
    }

    #[test]
    fn names_keep_the_order_of_the_list() {
        let asked = ["b".to_owned(), "a".to_owned()];
        assert_eq!(named("thing", &asked, ["a", "b", "c"].into_iter()).unwrap(), ["a", "b"]);
        assert_eq!(named("thing", &[], ["a", "b"].into_iter()).unwrap(), ["a", "b"]);
        let error = named("thing", &["d".to_owned()], ["a", "b"].into_iter()).unwrap_err();
        assert!(error.is::<WrongUse>() && error.to_string().contains("there are a, b"), "{error}");
    }
}
