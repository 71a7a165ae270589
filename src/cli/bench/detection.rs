//! `bench detection`: how many payments until the sequential test sees a fall, and how many between its false alarms, beside what theory
//! allows; and how many false alarms a PSP with all its segments raises in days that are well. No log, no server.

use super::figures::{Figures, Goal};
use super::{Bench, Size};
use clap::Args;
use smartrouter::sim::{CalmDays, Fall, run_lengths};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct Options {
    /// Simulated runs of each cell [default: 10000, 500 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
    cells: Option<u64>,
    /// Payments between two false alarms that the thresholds are computed for [default: 100000]
    #[arg(long, value_name = "PAYMENTS")]
    run_length: Option<u64>,
    /// Days that are well, of PSPs with all their segments and tests [default: 200, 10 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    psp_days: Option<u64>,
}

const NAME: &str = "detection";
/// (share of successes before, after, the goal for the median delay at one false alarm in 100,000).
const FALLS: [(f64, f64, Option<f64>); 4] =
    [(0.9, 0.8, Some(320.0)), (0.9, 0.5, Some(30.0)), (0.9, 0.05, Some(8.0)), (0.99, 0.95, None)];
const RUN_LENGTH: u64 = 100_000;
/// Results that come as one count, of unknown order: a commit's of a busy segment.
const DELTA: u64 = 20;

/// Days that one PSP is watched for: its first has no day before it.
const DAYS_EACH: u64 = 10;
const PAYMENTS_PER_DAY: u64 = 14_400;

pub(super) fn run(bench: &Bench<'_>, options: &Options, figures: &mut Figures) {
    let runs = options.cells.unwrap_or(match bench.size {
        Size::Full => 10_000,
        Size::Quick => 500,
    });
    let run_length = options.run_length.unwrap_or(RUN_LENGTH) as f64;
    for seed in 0..u64::from(bench.runs) {
        for before in [0.9, 0.99] {
            let figure = format!("{} % well: payments to a false alarm, mean", before * 100.0);
            let measured = run_lengths(before, run_length, runs, seed);
            figures.add(NAME, &figure, ("payments", Some(Goal::AtLeast(run_length))), measured.mean);
        }
        for (before, after, goal) in FALLS {
            let fall = Fall { before, after };
            let what = |figure: &str| format!("{} % to {} %: {figure}", before * 100.0, after * 100.0);
            let goal = goal.filter(|_| run_length == RUN_LENGTH as f64).map(Goal::AtMost);
            let delays = fall.delays(run_length, runs, seed);
            figures.add(NAME, &what("Lorden's bound for the mean"), ("payments", None), fall.bound(run_length));
            figures.add(NAME, &what("payments to detect, mean"), ("payments", None), delays.mean);
            figures.add(NAME, &what("payments to detect, median"), ("payments", goal), delays.median);
            figures.add(NAME, &what("payments to detect, 95 %"), ("payments", None), delays.p95);
            let in_deltas = fall.delays_in_deltas(DELTA, run_length, runs, seed).median;
            figures.add(NAME, &what(&format!("the same in deltas of {DELTA}, median")), ("payments", None), in_deltas);
        }
    }
    calm(bench, options, figures);
}

/// With the thresholds that are configured: `run_length` is not theirs.
fn calm(bench: &Bench<'_>, options: &Options, figures: &mut Figures) {
    let asked = options.psp_days.unwrap_or(match bench.size {
        Size::Full => 200,
        Size::Quick => 10,
    });
    let settings = bench.settings();
    let days = CalmDays { days: DAYS_EACH, payments_per_day: PAYMENTS_PER_DAY };
    let psps = asked.div_ceil(DAYS_EACH);
    let goal = Goal::AtMost(settings.health.sequential.false_alarms_per_day);
    for seed in 0..u64::from(bench.runs) {
        let alarms: usize = (0..psps).map(|psp| days.false_alarms(psp, settings, seed).len()).sum();
        let a_day = alarms as f64 / (psps * DAYS_EACH) as f64;
        let what = format!("false alarms of a PSP a day, {PAYMENTS_PER_DAY} payments a day, 16 segments");
        figures.add(NAME, &what, ("alarms", Some(goal)), a_day);
    }
}
