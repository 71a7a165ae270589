//! Random draws that depend on what is drawn, not on when: every stream is a `ChaCha8` keyed by (world, purpose, subject).
//!
//! So the answer of a PSP to an attempt is the same number whether that PSP was chosen or is only asked about afterwards, and
//! the payments of a run are the same whatever the router does with them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a stream is for: part of its key, so that no two purposes share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    Arrivals = 1,
    Customer = 2,
    Order = 3,
    /// Traits of a payment that no record shows.
    Hidden = 4,
    /// The issuer's mood towards one attempt, shared by all PSPs.
    Attempt = 5,
    /// How one PSP answers one attempt: latency, which code.
    Answer = 6,
    /// What the customer does after a failure.
    Retry = 7,
    Affinity = 8,
    /// Payments that are made up to measure with, in no world.
    Load = 9,
    /// Results that a detector is measured with.
    Detection = 10,
    /// Payments, and the whims of policies, in `arena`.
    Arena = 11,
}

/// One stream of draws.
#[derive(Clone, Debug)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of `purpose` for a subject, which up to two numbers name.
    pub fn keyed(world: u64, purpose: Purpose, subject: u64, detail: u64) -> Self {
        let mut key = [0_u8; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([world, purpose as u64, subject, detail]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `0..end`, nearly; 0 when the range is empty.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end.max(1)
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in `low..high`; `low` when the range is empty.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.unit() * (high - low).max(0) as f64) as i64
    }

    /// One of the values, by weight. `table` must not be empty: it is a constant of this module's siblings.
    pub(super) fn pick<T: Copy>(&mut self, table: &[(T, f64)]) -> T {
        let total: f64 = table.iter().map(|(_, weight)| weight).sum();
        let mut left = self.unit() * total;
        for (value, weight) in table {
            left -= weight;
            if left < 0.0 {
                return *value;
            }
        }
        table[table.len() - 1].0
    }

    /// Standard normal (Box-Muller; one of the pair is thrown away, so that each call takes the same two words).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub(super) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

/// The standard normal distribution function (Abramowitz and Stegun 26.2.17; error below 1e-7).
pub(super) fn normal_cdf(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = t * (0.319_381_53 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let upper_tail = series * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    if z >= 0.0 { 1.0 - upper_tail } else { upper_tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_stream() {
        let first = |world, purpose, subject, detail| Draw::keyed(world, purpose, subject, detail).unit();
        let base = first(1, Purpose::Order, 2, 3);
        assert_eq!(base, first(1, Purpose::Order, 2, 3));
        for other in [
            first(2, Purpose::Order, 2, 3),
            first(1, Purpose::Retry, 2, 3),
            first(1, Purpose::Order, 3, 3),
            first(1, Purpose::Order, 2, 4),
        ] {
            assert_ne!(base, other);
        }
    }

    /// Whoever changes the generator changes every world: these numbers come of integer arithmetic alone.
    #[test]
    fn streams_are_these() {
        let mut draw = Draw::keyed(1, Purpose::Order, 2, 3);
        assert_eq!(
            [draw.unit(), draw.unit(), draw.unit()],
            [0.384_944_662_638_467_5, 0.501_520_971_866_253_7, 0.155_135_865_149_791_39]
        );
    }

    #[test]
    fn draws_have_their_moments() {
        let mut draw = Draw::keyed(7, Purpose::Order, 0, 0);
        let n = 40_000;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let normals: Vec<f64> = (0..n).map(|_| draw.normal()).collect();
        let squares: Vec<f64> = normals.iter().map(|z| z * z).collect();
        assert!(mean(&normals).abs() < 0.02 && (mean(&squares) - 1.0).abs() < 0.03);
        let below_one = normals.iter().filter(|z| **z < 1.0).count() as f64 / f64::from(n);
        assert!((below_one - normal_cdf(1.0)).abs() < 0.01);
        assert!((mean(&(0..n).map(|_| draw.exponential()).collect::<Vec<_>>()) - 1.0).abs() < 0.02);
        let picked = (0..n).filter(|_| draw.pick(&[("a", 1.0), ("b", 3.0)]) == "b").count() as f64 / f64::from(n);
        assert!((picked - 0.75).abs() < 0.01);
        assert!((0..n).all(|_| (5..9).contains(&draw.between(5, 9))));
    }

    #[test]
    fn distribution_function_matches_tables() {
        for (z, expected) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (3.0, 0.998_650_1)] {
            assert!((normal_cdf(z) - expected).abs() < 1e-6, "{z}");
        }
    }
}
