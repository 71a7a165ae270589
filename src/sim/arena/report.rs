//! Scores of many seeds become rows, and a verdict for each scenario.

use super::score::Score;
use super::statistics::{Estimate, mean, median};
use super::{CURVE_POINTS, ORACLE, OURS, SCENARIOS, policy_names};

/// One policy in one scenario. Medians over seeds; where a median would say nothing, the mean, and its name says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub scenario: &'static str,
    pub policy: &'static str,
    pub seeds: usize,
    pub payments: Estimate,
    pub lost: Estimate,
    pub lost_mean: Estimate,
    pub payments_to_detect: Estimate,
    pub seconds_to_detect: Estimate,
    /// Of all seeds together: alarms are rare, and a median of rare counts is zero.
    pub false_alarms_per_100k: Estimate,
    pub probes: Estimate,
    pub seconds_down: Estimate,
    pub moved_share: Estimate,
    /// Mean losses so far, at equal steps of time.
    pub curve: Vec<f64>,
}

/// How ours stands beside the rival with the lowest mean loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Loses fewer payments, beyond chance.
    First,
    /// The interval of the difference holds zero.
    WithinNoise,
    Behind,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub scenario: &'static str,
    pub standing: Standing,
    pub best_rival: &'static str,
    /// Payments lost by ours less those lost by the best rival, seed by seed: the mean, with its interval.
    pub difference: Estimate,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// By scenario in the order of the list, then by mean loss.
    pub rows: Vec<Row>,
    pub verdicts: Vec<Verdict>,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::WithinNoise => "within noise of first",
            Self::Behind => "behind",
        }
    }
}

/// The scores of a policy in a scenario have to stand in the order of the same seeds.
pub fn report(scores: &[Score]) -> Report {
    let mut report = Report::default();
    for scenario in SCENARIOS.iter().map(|script| script.name) {
        let of = |policy: &str| -> Vec<&Score> {
            scores.iter().filter(|score| score.scenario == scenario && score.policy == policy).collect()
        };
        let played: Vec<Vec<&Score>> = policy_names().map(of).filter(|scores| !scores.is_empty()).collect();
        let mut rows: Vec<Row> = played.iter().filter_map(|scores| row(scores)).collect();
        rows.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
        let best = rows.iter().find(|row| row.policy != OURS && row.policy != ORACLE).map(|row| row.policy);
        report.verdicts.extend(best.and_then(|best| verdict(&of(OURS), &of(best))));
        report.rows.append(&mut rows);
    }
    report
}

fn loss(row: &Row) -> f64 {
    row.lost_mean.value.unwrap_or(f64::INFINITY)
}

fn row(scores: &[&Score]) -> Option<Row> {
    let first = scores.first()?;
    let each = |figure: &dyn Fn(&Score) -> f64| -> Vec<f64> { scores.iter().map(|score| figure(score)).collect() };
    let defined =
        |figure: &dyn Fn(&Score) -> Option<f64>| -> Vec<f64> { scores.iter().filter_map(|score| figure(score)).collect() };
    let lost = each(&|score| score.lost as f64);
    let point = |point: usize| each(&|score| score.curve[point] as f64).iter().sum::<f64>() / scores.len() as f64;
    Some(Row {
        scenario: first.scenario,
        policy: first.policy,
        seeds: scores.len(),
        payments: median(&each(&|score| score.payments as f64)),
        lost: median(&lost),
        lost_mean: mean(&lost),
        payments_to_detect: median(&defined(&|score| score.payments_to_detect)),
        seconds_to_detect: median(&defined(&|score| score.seconds_to_detect)),
        false_alarms_per_100k: false_alarms(scores),
        probes: median(&each(&|score| score.probes as f64)),
        seconds_down: median(&defined(&|score| score.seconds_down)),
        moved_share: median(&each(&|score| score.moved as f64 / score.payments.max(1) as f64)),
        curve: (0..CURVE_POINTS).map(point).collect(),
    })
}

/// The upper end is never below what as many payments without a single alarm would leave possible: 3.7 alarms (Poisson, 97.5 %).
fn false_alarms(scores: &[&Score]) -> Estimate {
    let payments: u64 = scores.iter().map(|score| score.payments).sum();
    let per_run = payments as f64 / scores.len() as f64;
    let alarms: Vec<f64> = scores.iter().map(|score| score.false_alarms as f64 / per_run * 100_000.0).collect();
    let Estimate { value, low, high } = mean(&alarms);
    Estimate { value, low, high: high.map(|high| high.max(3.7 / payments.max(1) as f64 * 100_000.0)) }
}

fn verdict(ours: &[&Score], rival: &[&Score]) -> Option<Verdict> {
    let scenario = ours.first()?.scenario;
    let best_rival = rival.first()?.policy;
    let pairs = ours.iter().zip(rival).filter(|(ours, rival)| ours.seed == rival.seed);
    let difference = mean(&pairs.map(|(ours, rival)| (ours.lost - rival.lost) as f64).collect::<Vec<_>>());
    let standing = match (difference.low?, difference.high?) {
        (_, high) if high < 0.0 => Standing::First,
        (low, _) if low > 0.0 => Standing::Behind,
        _ => Standing::WithinNoise,
    };
    Some(Verdict { scenario, standing, best_rival, difference })
}
