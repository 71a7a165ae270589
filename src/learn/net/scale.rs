//! What each input is moved and divided by, so that all are of one size.

use super::lanes;
use serde::{Deserialize, Serialize};

/// An input is not taken for further from its mean than this many deviations.
const FAR: f32 = 5.0;

/// Stored as pairs of mean and deviation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(f32, f32)>", into = "Vec<(f32, f32)>")]
pub(super) struct Scale {
    means: Vec<f32>,
    deviations: Vec<f32>,
}

impl Scale {
    /// Mean and deviation of each input; a deviation of nought is one.
    pub(super) fn fit(values: &[f32], width: usize) -> Self {
        let rows = (values.len() / width.max(1)).max(1) as f64;
        let mean_of = |of: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0; width];
            for row in values.chunks_exact(width.max(1)) {
                sums.iter_mut().zip(row).enumerate().for_each(|(input, (sum, value))| *sum += of(input, f64::from(*value)));
            }
            sums.into_iter().map(|sum| sum / rows).collect::<Vec<f64>>()
        };
        let means = mean_of(&|_, value| value);
        let variances = mean_of(&|input, value| (value - means[input]).powi(2));
        let deviation = |variance: f64| if variance > 1e-12 { variance.sqrt() as f32 } else { 1.0 };
        Self {
            means: means.iter().map(|mean| *mean as f32).collect(),
            deviations: variances.into_iter().map(deviation).collect(),
        }
    }

    /// How many inputs there are.
    pub(super) fn width(&self) -> usize {
        self.means.len()
    }

    /// Rows of inputs, end to end.
    pub(super) fn apply(&self, rows: &mut [f32]) {
        lanes::standardise(&self.means, &self.deviations, FAR, rows);
    }
}

impl From<Vec<(f32, f32)>> for Scale {
    fn from(pairs: Vec<(f32, f32)>) -> Self {
        let (means, deviations) = pairs.into_iter().unzip();
        Self { means, deviations }
    }
}

impl From<Scale> for Vec<(f32, f32)> {
    fn from(scale: Scale) -> Self {
        scale.means.into_iter().zip(scale.deviations).collect()
    }
}
