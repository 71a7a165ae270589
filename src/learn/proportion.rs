//! Shares of counted things with their 95 % intervals: Wilson's for one share, Newcombe's for the difference of two.
//!
//! Both hold for few trials and for shares near 0 and 1, where an error bar around the mean would leave the range. They take trials as
//! independent: attempts of one payment are not quite.

use super::interval::Estimate;
use serde::{Deserialize, Serialize};

/// The quantile of the standard normal distribution that leaves 2.5 % above it.
const Z: f64 = 1.959_963_984_540_054;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proportion {
    pub successes: u64,
    pub trials: u64,
}

impl Proportion {
    pub fn new(successes: u64, trials: u64) -> Self {
        Self { successes, trials }
    }

    pub fn count(&mut self, success: bool) {
        self.trials += 1;
        self.successes += u64::from(success);
    }

    pub fn add(&mut self, more: Self) {
        self.successes += more.successes;
        self.trials += more.trials;
    }

    pub fn share(self) -> Option<f64> {
        (self.trials > 0).then(|| self.successes as f64 / self.trials as f64)
    }

    /// Wilson's score interval.
    pub fn interval(self) -> Option<Estimate> {
        let value = self.share()?;
        let (n, z2) = (self.trials as f64, Z * Z);
        let middle = (value + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z * (value * (1.0 - value) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
        Some(Estimate { value, low: (middle - half).max(0.0).min(value), high: (middle + half).min(1.0).max(value) })
    }

    /// By how much this share is above the other one: Newcombe's hybrid score interval.
    pub fn above(self, other: Self) -> Option<Estimate> {
        let (one, two) = (self.interval()?, other.interval()?);
        let value = one.value - two.value;
        let low = value - (one.value - one.low).hypot(two.high - two.value);
        let high = value + (one.high - one.value).hypot(two.value - two.low);
        Some(Estimate { value, low, high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: Option<Estimate>, expect: [f64; 3]) {
        let found = found.unwrap();
        for (got, want) in [found.value, found.low, found.high].into_iter().zip(expect) {
            assert!((got - want).abs() < 5e-5, "{found:?}, expected {expect:?}");
        }
    }

    #[test]
    fn one_share() {
        // The worked examples of R. G. Newcombe, Statistics in Medicine 17 (1998), 857: method 3.
        check(Proportion::new(81, 263).interval(), [0.3080, 0.2553, 0.3662]);
        check(Proportion::new(15, 148).interval(), [0.1014, 0.0624, 0.1605]);
        check(Proportion::new(0, 20).interval(), [0.0, 0.0, 0.1611]);
        check(Proportion::new(1, 29).interval(), [0.0345, 0.0061, 0.1718]);
        check(Proportion::new(20, 20).interval(), [1.0, 0.8389, 1.0]);
        assert_eq!(Proportion::default().interval(), None);
    }

    #[test]
    fn a_difference() {
        // The worked examples of R. G. Newcombe, Statistics in Medicine 17 (1998), 873: method 10.
        let of = |a, m, b, n| Proportion::new(a, m).above(Proportion::new(b, n));
        check(of(56, 70, 48, 80), [0.2, 0.0524, 0.3339]);
        check(of(9, 10, 3, 10), [0.6, 0.1705, 0.8090]);
        check(of(10, 10, 0, 20), [1.0, 0.6791, 1.0]);
        assert_eq!(of(1, 1, 0, 0), None);
    }
}
