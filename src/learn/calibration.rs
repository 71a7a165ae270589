//! From what a model says to a probability that keeps its word, fitted on rows that the model was not fitted on.
//!
//! Three ways (isotonic, Platt, temperature) and none; which one is chosen by measure, each fitted on one half of the rows and judged
//! on the other. Also the blend of several models: a weighted sum of their logits, weights not negative.

use super::metrics::{self, Scored};
use super::rates::{logit, sigmoid};
use serde::{Deserialize, Serialize};

/// A step of the isotonic curve stands on at least this many rows.
const STEP_ROWS_LEAST: usize = 100;
/// Holds the weights of a blend near equal shares: members are alike, and the difference of two of them is mostly noise.
const BLEND_RIDGE: f64 = 20.0;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "way")]
pub enum Calibration {
    #[default]
    None,
    Temperature {
        slope: f64,
    },
    Platt {
        slope: f64,
        offset: f64,
    },
    /// Logit to probability, linear between the points, level outside.
    Isotonic {
        logits: Vec<f64>,
        probabilities: Vec<f64>,
    },
}

/// Fits a calibration to logits and what came of them.
type Way = fn(&[f64], &[bool]) -> Calibration;

impl Calibration {
    pub fn apply(&self, logit: f64) -> f64 {
        match self {
            Self::None => sigmoid(logit),
            Self::Temperature { slope } => sigmoid(slope * logit),
            Self::Platt { slope, offset } => sigmoid(slope * logit + offset),
            Self::Isotonic { logits, probabilities } => interpolate(logits, probabilities, logit),
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Temperature { .. } => "temperature",
            Self::Platt { .. } => "platt",
            Self::Isotonic { .. } => "isotonic",
        }
    }

    /// The way with the least log loss on rows that it was not fitted on; the rows come in order of time.
    pub(super) fn choose(logits: &[f64], approved: &[bool]) -> Self {
        let ways: [Way; 4] = [|_, _| Self::None, Self::temperature, Self::platt, Self::isotonic];
        let half = logits.len() / 2;
        let judged = |way: &Way| {
            let one = |fit: std::ops::Range<usize>, judge: std::ops::Range<usize>| {
                let fitted = way(&logits[fit.clone()], &approved[fit]);
                let said: Vec<f64> = logits[judge.clone()].iter().map(|logit| fitted.apply(*logit)).collect();
                metrics::log_loss(Scored { probabilities: &said, approved: &approved[judge] }).unwrap_or(f64::INFINITY)
            };
            one(0..half, half..logits.len()) + one(half..logits.len(), 0..half)
        };
        // The first of equals: what changes least.
        let best = ways.iter().map(|way| (judged(way), way)).reduce(|best, next| if next.0 < best.0 { next } else { best });
        best.map_or(Self::None, |(_, way)| way(logits, approved))
    }

    fn temperature(logits: &[f64], approved: &[bool]) -> Self {
        Self::Temperature { slope: newton(logits, approved, false).0 }
    }

    fn platt(logits: &[f64], approved: &[bool]) -> Self {
        let (slope, offset) = newton(logits, approved, true);
        Self::Platt { slope, offset }
    }

    /// Pool adjacent violators, over groups of rows.
    fn isotonic(logits: &[f64], approved: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*a].total_cmp(&logits[*b]));
        // Sum of logits, of approvals, rows.
        let mut steps: Vec<(f64, f64, f64)> = Vec::new();
        for group in order.chunks(STEP_ROWS_LEAST) {
            let hits = group.iter().filter(|row| approved[**row]).count() as f64;
            steps.push((group.iter().map(|row| logits[*row]).sum(), hits, group.len() as f64));
            while let [.., before, last] = steps[..] {
                if before.1 / before.2 < last.1 / last.2 {
                    break;
                }
                steps.truncate(steps.len() - 2);
                steps.push((before.0 + last.0, before.1 + last.1, before.2 + last.2));
            }
        }
        // No rate is nought or one for sure.
        let probability = |step: &(f64, f64, f64)| (step.1 + 0.2) / (step.2 + 1.0);
        Self::Isotonic {
            logits: steps.iter().map(|step| step.0 / step.2).collect(),
            probabilities: steps.iter().map(probability).collect(),
        }
    }
}

fn interpolate(xs: &[f64], ys: &[f64], x: f64) -> f64 {
    let after = xs.partition_point(|it| *it <= x);
    match (after.checked_sub(1).and_then(|at| Some((xs.get(at)?, ys.get(at)?))), xs.get(after).zip(ys.get(after))) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some((_, y)), None) | (None, Some((_, y))) => *y,
        (None, None) => sigmoid(x),
    }
}

/// Slope and offset of the logits that make the outcomes likeliest.
fn newton(logits: &[f64], approved: &[bool], with_offset: bool) -> (f64, f64) {
    let (mut slope, mut offset) = (1.0, 0.0);
    for _ in 0..30 {
        let (mut g, mut h) = ([0.0; 2], [1e-6, 0.0, 1e-6]);
        for (x, approved) in logits.iter().zip(approved) {
            let p = sigmoid(slope * x + offset);
            let (error, weight) = (f64::from(u8::from(*approved)) - p, p * (1.0 - p));
            g = [g[0] + error * x, g[1] + error];
            h = [h[0] + weight * x * x, h[1] + weight * x, h[2] + weight];
        }
        let step = if with_offset {
            let determinant = h[0] * h[2] - h[1] * h[1];
            [(h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant]
        } else {
            [g[0] / h[0], 0.0]
        };
        slope += step[0];
        offset += step[1];
        if step[0].abs() + step[1].abs() < 1e-9 {
            break;
        }
    }
    if slope.is_finite() && offset.is_finite() && slope > 0.0 { (slope, offset) } else { (1.0, 0.0) }
}

/// Weights of the members' logits, and an offset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blend {
    pub weights: Vec<f64>,
    pub offset: f64,
}

impl Blend {
    pub(super) fn even(members: usize) -> Self {
        Self { weights: vec![1.0 / members.max(1) as f64; members], offset: 0.0 }
    }

    pub(super) fn logit(&self, logits: impl Iterator<Item = f64>) -> f64 {
        self.weights.iter().zip(logits).map(|(weight, logit)| weight * logit).sum::<f64>() + self.offset
    }

    /// `logits[member][row]`: said of rows that the members were not fitted on.
    pub(super) fn fit(logits: &[Vec<f64>], approved: &[bool]) -> Self {
        let mut blend = Self::even(logits.len());
        let even = 1.0 / logits.len().max(1) as f64;
        for _ in 0..200 {
            let mut moved = 0.0_f64;
            // The last is the offset.
            for member in 0..=logits.len() {
                let (mut slope, mut curvature) = (0.0, 1e-6);
                for row in 0..approved.len() {
                    let p = sigmoid(blend.logit(logits.iter().map(|of| of[row])));
                    let x = logits.get(member).map_or(1.0, |of| of[row]);
                    slope += (f64::from(u8::from(approved[row])) - p) * x;
                    curvature += p * (1.0 - p) * x * x;
                }
                let step = if let Some(weight) = blend.weights.get_mut(member) {
                    let to = (*weight + (slope - BLEND_RIDGE * (*weight - even)) / (curvature + BLEND_RIDGE)).max(0.0);
                    let step = to - *weight;
                    *weight = to;
                    step
                } else {
                    blend.offset += slope / curvature;
                    slope / curvature
                };
                moved = moved.max(step.abs());
            }
            if moved < 1e-5 {
                break;
            }
        }
        blend
    }
}

/// The logit of the share approved: what is said when nothing is known.
pub(super) fn base_logit(approved: &[bool]) -> f64 {
    let hits = approved.iter().filter(|it| **it).count() as f64;
    logit((hits + 0.2) / (approved.len() as f64 + 1.0))
}

#[cfg(test)]
mod tests {
    use super::super::draw::Draw;
    use super::*;

    /// Logits, and outcomes that come with the probability `sigmoid(slope * logit + offset)`.
    fn drawn(rows: usize, slope: f64, offset: f64) -> (Vec<f64>, Vec<bool>) {
        let mut draw = Draw::new(4, 4);
        let logits: Vec<f64> = (0..rows).map(|_| draw.normal()).collect();
        let approved = logits.iter().map(|logit| draw.uniform() < sigmoid(slope * logit + offset)).collect();
        (logits, approved)
    }

    #[test]
    fn the_distortion_is_found_and_undone() {
        let (logits, approved) = drawn(40_000, 0.5, -1.0);
        let Calibration::Platt { slope, offset } = Calibration::platt(&logits, &approved) else { panic!("not Platt") };
        assert!((slope - 0.5).abs() < 0.03 && (offset + 1.0).abs() < 0.03, "{slope} {offset}");
        for way in [
            Calibration::platt(&logits, &approved),
            Calibration::isotonic(&logits, &approved),
            Calibration::choose(&logits, &approved),
        ] {
            let said: Vec<f64> = logits.iter().map(|logit| way.apply(*logit)).collect();
            let error = metrics::ece(Scored { probabilities: &said, approved: &approved }).unwrap();
            assert!(error < 0.01, "{} {error}", way.name());
        }
    }

    #[test]
    fn what_is_right_is_left_alone_or_nearly() {
        let (logits, approved) = drawn(40_000, 1.0, 0.0);
        let chosen = Calibration::choose(&logits, &approved);
        for logit in [-2.0, 0.0, 1.5] {
            assert!((chosen.apply(logit) - sigmoid(logit)).abs() < 0.02, "{} at {logit}", chosen.name());
        }
    }

    #[test]
    fn isotonic_never_falls() {
        let (logits, approved) = drawn(5_000, 0.3, 0.2);
        let fitted = Calibration::isotonic(&logits, &approved);
        let said: Vec<f64> = (-40..40).map(|at| fitted.apply(f64::from(at) / 10.0)).collect();
        assert!(said.windows(2).all(|two| two[0] <= two[1]) && said.iter().all(|p| *p > 0.0 && *p < 1.0), "{said:?}");
    }

    #[test]
    fn a_member_that_knows_nothing_weighs_nothing() {
        let (logits, approved) = drawn(20_000, 1.0, 0.0);
        let noise: Vec<f64> = drawn(20_000, 0.0, 0.0).0.into_iter().rev().collect();
        let blend = Blend::fit(&[logits, noise], &approved);
        assert!((blend.weights[0] - 1.0).abs() < 0.05 && blend.weights[1] < 0.06, "{blend:?}");
    }
}
