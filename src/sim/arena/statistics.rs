//! Medians, means and their 95 % intervals over seeds.

use crate::sim::draw::{Draw, Purpose};

/// A figure with its 95 % interval. None: not defined, or not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    pub value: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

const RESAMPLES: u64 = 2_000;

/// The median, with the order statistics that hold it in 95 of 100 samples whatever the distribution is.
pub(super) fn median(values: &[f64]) -> Estimate {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n == 0 {
        return Estimate::default();
    }
    let finite = |value: f64| value.is_finite().then_some(value);
    let rank = tail_rank(n);
    // Halves of what is not finite are not.
    let middle = f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]);
    Estimate { value: finite(middle), low: finite(sorted[rank]), high: finite(sorted[n - 1 - rank]) }
}

/// The highest rank, from 0, below which the median lies in less than one sample of forty.
fn tail_rank(n: usize) -> usize {
    let mut term = 0.5_f64.powi(n as i32);
    let mut below = term;
    let mut rank = 0;
    while below <= 0.025 && rank < n / 2 {
        rank += 1;
        term *= (n - rank + 1) as f64 / rank as f64;
        below += term;
    }
    rank.saturating_sub(1)
}

/// The mean, with its bootstrap interval.
pub(super) fn mean(values: &[f64]) -> Estimate {
    let n = values.len();
    if n == 0 {
        return Estimate::default();
    }
    let mean = |total: f64| total / n as f64;
    let mut draw = Draw::keyed(0, Purpose::Arena, n as u64, 4);
    let mut resampled = || mean((0..n).map(|_| values[draw.below(n as u64) as usize]).sum());
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resampled()).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| Some(means[((RESAMPLES - 1) as f64 * share) as usize]);
    Estimate { value: Some(mean(values.iter().sum())), low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_have_the_ranks_of_the_tables() {
        let check = |n: usize, low: f64, high: f64| {
            let values: Vec<f64> = (1..=n).map(|value| value as f64).collect();
            let estimate = median(&values);
            assert_eq!((estimate.low, estimate.high), (Some(low), Some(high)), "{n}");
        };
        // Order statistics for the sign test at 5 %, from 1.
        check(10, 2.0, 9.0);
        check(20, 6.0, 15.0);
        check(50, 18.0, 33.0);
        check(100, 40.0, 61.0);
        check(3, 1.0, 3.0);
        assert_eq!(median(&[]), Estimate::default());
        let never = median(&[1.0, f64::INFINITY, f64::INFINITY]);
        assert_eq!((never.value, never.low), (None, Some(1.0)));
    }

    #[test]
    fn means_have_intervals_of_two_errors() {
        let values: Vec<f64> = (0..100).map(|value| f64::from(value % 10)).collect();
        let estimate = mean(&values);
        assert_eq!(estimate.value, Some(4.5));
        let width = estimate.high.unwrap() - estimate.low.unwrap();
        assert!((width - 4.0 * 2.872 / 10.0).abs() < 0.15, "{width}");
    }
}
