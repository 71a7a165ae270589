//! How good probabilities are: AUC, log loss, Brier score, calibration error, and the points of the curves that show them.
//!
//! All are functions of probabilities and outcomes. Sums are taken in `f64`. What is not defined (AUC of one class, anything of no
//! rows) is `None`, never NaN.

use serde::{Deserialize, Serialize};

/// Bins of the expected calibration error hold equally many rows each: bins of equal width leave most of them empty here.
pub const ECE_BINS: usize = 15;
/// A probability is not taken for surer than this: one wrong certainty would make the log loss infinite.
const SURE: f64 = 1e-12;

/// Probabilities with what came of them.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    pub probabilities: &'a [f64],
    pub approved: &'a [bool],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub rows: usize,
    pub positives: usize,
    pub auc: Option<f64>,
    pub log_loss: Option<f64>,
    pub brier: Option<f64>,
    pub ece: Option<f64>,
}

impl Metrics {
    pub fn of(scored: Scored<'_>) -> Self {
        Self {
            rows: scored.approved.len(),
            positives: scored.approved.iter().filter(|it| **it).count(),
            auc: auc(scored),
            log_loss: log_loss(scored),
            brier: brier(scored),
            ece: ece(scored),
        }
    }
}

pub fn log_loss(scored: Scored<'_>) -> Option<f64> {
    let loss = |(p, approved): (&f64, &bool)| {
        let p = p.clamp(SURE, 1.0 - SURE);
        if *approved { -p.ln() } else { -(1.0 - p).ln() }
    };
    mean(scored.probabilities.iter().zip(scored.approved).map(loss))
}

pub fn brier(scored: Scored<'_>) -> Option<f64> {
    mean(scored.probabilities.iter().zip(scored.approved).map(|(p, approved)| (p - f64::from(u8::from(*approved))).powi(2)))
}

/// The chance that an approved row has the higher probability than one that is not; ties count half.
pub fn auc(scored: Scored<'_>) -> Option<f64> {
    let order = by_probability(scored.probabilities);
    let positives = scored.approved.iter().filter(|it| **it).count() as f64;
    let negatives = scored.approved.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in order.chunk_by(|a, b| scored.probabilities[*a] == scored.probabilities[*b]) {
        let positive = tied.iter().filter(|row| scored.approved[**row]).count() as f64;
        let negative = tied.len() as f64 - positive;
        wins += positive * (below + negative / 2.0);
        below += negative;
    }
    Some(wins / (positives * negatives))
}

/// Mean distance of probability and share approved over bins of equally many rows, weighted by rows.
pub fn ece(scored: Scored<'_>) -> Option<f64> {
    let rows = scored.approved.len() as f64;
    let bins = reliability(scored, ECE_BINS);
    (rows > 0.0).then(|| bins.iter().map(|bin| bin.rows as f64 / rows * (bin.probability - bin.share).abs()).sum())
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    pub rows: usize,
    /// Mean probability.
    pub probability: f64,
    /// Share approved.
    pub share: f64,
}

/// Rows in order of probability, cut into bins of as equal size as can be; rows of one probability may fall into two.
pub fn reliability(scored: Scored<'_>, bins: usize) -> Vec<ReliabilityBin> {
    let order = by_probability(scored.probabilities);
    let edge = |bin: usize| order.len() * bin / bins;
    let filled = (0..bins).map(|bin| &order[edge(bin)..edge(bin + 1)]).filter(|rows| !rows.is_empty());
    let summed = filled.map(|rows| {
        let count = rows.len() as f64;
        ReliabilityBin {
            rows: rows.len(),
            probability: rows.iter().map(|row| scored.probabilities[*row]).sum::<f64>() / count,
            share: rows.iter().filter(|row| scored.approved[**row]).count() as f64 / count,
        }
    });
    summed.collect()
}

/// A threshold on the probability and what lies at or above it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Share of all rows.
    pub taken: f64,
    /// Share of the approved rows: recall, the true positive rate, the gain.
    pub recall: f64,
    /// Share of the rows that were not approved: the false positive rate.
    pub fallout: f64,
    /// Share approved of what is taken.
    pub precision: f64,
}

/// The points of ROC (fallout, recall), precision-recall (recall, precision) and gains (taken, recall), from the highest
/// probability down; at most `points` of them besides the origin.
pub fn curve(scored: Scored<'_>, points: usize) -> Vec<Point> {
    let mut order = by_probability(scored.probabilities);
    order.reverse();
    let rows = order.len() as f64;
    let positives = scored.approved.iter().filter(|it| **it).count() as f64;
    let mut all = vec![Point { taken: 0.0, recall: 0.0, fallout: 0.0, precision: 1.0 }];
    if positives == 0.0 || positives == rows {
        return all;
    }
    let (mut taken, mut hits) = (0.0, 0.0);
    for tied in order.chunk_by(|a, b| scored.probabilities[*a] == scored.probabilities[*b]) {
        let before = (taken / rows * points as f64) as usize;
        taken += tied.len() as f64;
        hits += tied.iter().filter(|row| scored.approved[**row]).count() as f64;
        if (taken / rows * points as f64) as usize > before {
            let fallout = (taken - hits) / (rows - positives);
            all.push(Point { taken: taken / rows, recall: hits / positives, fallout, precision: hits / taken });
        }
    }
    all
}

fn by_probability(probabilities: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    order
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?} is not {expected}");
    }

    #[test]
    fn values_known_by_hand() {
        type Case<'a> = (&'a [f64], &'a [bool], f64, f64, f64);
        let (t, f) = (true, false);
        // probabilities, approved, AUC, log loss, Brier
        let cases: [Case<'_>; 4] = [
            (&[0.1, 0.4, 0.35, 0.8], &[f, f, t, t], 0.75, 0.472_287_953_809_176_15, 0.158_125),
            (&[0.5, 0.5], &[t, f], 0.5, std::f64::consts::LN_2, 0.25),
            (&[0.9, 0.2], &[t, f], 1.0, (-(0.9_f64.ln()) - 0.8_f64.ln()) / 2.0, 0.025),
            (&[0.3, 0.3, 0.6, 0.6], &[t, f, t, f], 0.5, -(0.3_f64 * 0.7 * 0.6 * 0.4).ln() / 4.0, 0.275),
        ];
        for (probabilities, approved, area, loss, square) in cases {
            let scored = Scored { probabilities, approved };
            near(auc(scored), area);
            near(log_loss(scored), loss);
            near(brier(scored), square);
        }
    }

    #[test]
    fn calibration_is_weighed_by_rows() {
        // 30 rows at .2 of which 12 are approved; the rest at .8, all approved: |.2 - .4| * 1/2 + |.8 - 1| * 1/2.
        let probabilities: Vec<f64> = (0..60).map(|row| if row < 30 { 0.2 } else { 0.8 }).collect();
        let approved: Vec<bool> = (0..60).map(|row| row >= 30 || row % 5 < 2).collect();
        let two = reliability(Scored { probabilities: &probabilities, approved: &approved }, 2);
        assert_eq!(two.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [30, 30]);
        near(two.first().map(|bin| bin.share), 0.4);
        let all: f64 = two.iter().map(|bin| bin.rows as f64 / 60.0 * (bin.probability - bin.share).abs()).sum();
        assert!((all - 0.2).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_defined_is_none() {
        let none = Scored { probabilities: &[], approved: &[] };
        assert_eq!((auc(none), log_loss(none), brier(none), ece(none)), (None, None, None, None));
        assert_eq!(auc(Scored { probabilities: &[0.1, 0.2], approved: &[true, true] }), None);
        assert!(log_loss(Scored { probabilities: &[0.0], approved: &[true] }).unwrap().is_finite());
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_pairs_in_order(rows in prop::collection::vec((0_u8..6, any::<bool>()), 2..60)) {
            let probabilities: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 10.0).collect();
            let approved: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let scored = Scored { probabilities: &probabilities, approved: &approved };
            let (mut wins, mut pairs) = (0.0, 0.0);
            for (p, _) in rows.iter().filter(|row| row.1) {
                for (q, _) in rows.iter().filter(|row| !row.1) {
                    pairs += 1.0;
                    wins += f64::midpoint(f64::from(u8::from(p > q)), f64::from(u8::from(p >= q)));
                }
            }
            prop_assert_eq!(auc(scored).is_none(), pairs == 0.0);
            prop_assert!(auc(scored).is_none_or(|area| (area - wins / pairs).abs() < 1e-12));
            // The area under the points of the curve is the same, and both curves end at all rows.
            let points = curve(scored, 1_000_000);
            if pairs > 0.0 {
                let area: f64 = points.windows(2).map(|two| (two[1].fallout - two[0].fallout) * (two[1].recall + two[0].recall) / 2.0).sum();
                prop_assert!((area - wins / pairs).abs() < 1e-9);
                prop_assert_eq!(points.last().map(|last| (last.taken, last.recall, last.fallout)), Some((1.0, 1.0, 1.0)));
            }
            let bins = reliability(scored, ECE_BINS);
            prop_assert_eq!(bins.iter().map(|bin| bin.rows).sum::<usize>(), rows.len());
            prop_assert!(ece(scored).is_some_and(|error| (0.0..=1.0).contains(&error)));
        }
    }
}
