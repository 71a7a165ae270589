//! When payments arrive: a Poisson process whose rate follows the hour and the weekday, by thinning.

use super::draw::{Draw, Purpose};
use crate::domain::EpochMs;

pub(super) const HOUR_MS: i64 = 3_600_000;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;
/// Central Mexico, which has kept no summer time since 2022.
const LOCAL_OFFSET_MS: i64 = -6 * HOUR_MS;

/// Relative rate at the full hours of the local day, between which it is interpolated: people sleep at four and book at noon
/// and in the evening.
const BY_HOUR: [f64; 24] = [
    0.55, 0.33, 0.20, 0.14, 0.12, 0.17, 0.34, 0.62, 0.92, 1.18, 1.38, 1.50, 1.54, 1.46, 1.36, 1.30, 1.28, 1.31, 1.38, 1.48, 1.56,
    1.50, 1.26, 0.88,
];
/// Monday first: the week starts strong, the weekend is slow.
const BY_WEEKDAY: [f64; 7] = [1.10, 1.14, 1.10, 1.06, 1.02, 0.80, 0.78];
const RELATIVE_RATE_MAX: f64 = 1.56 * 1.14 * 1.02;

/// The rate at `at` relative to the mean over a week.
pub fn relative_rate(at: EpochMs) -> f64 {
    let local = at + LOCAL_OFFSET_MS;
    // 1970-01-01 was a Thursday: 3 days after a Monday.
    let weekday = (local.div_euclid(DAY_MS) + 3).rem_euclid(7) as usize;
    let hours = local.rem_euclid(DAY_MS) as f64 / HOUR_MS as f64;
    let hour = hours as usize;
    let between = hours - hour as f64;
    let by_hour = BY_HOUR[hour] * (1.0 - between) + BY_HOUR[(hour + 1) % 24] * between;
    let mean = BY_HOUR.iter().sum::<f64>() / 24.0 * BY_WEEKDAY.iter().sum::<f64>() / 7.0;
    by_hour * BY_WEEKDAY[weekday] / mean
}

/// The times at which new payments arrive.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    draw: Draw,
    /// Exact time of the last candidate: rounding to milliseconds must not bias the rate.
    at_ms: f64,
    start_at: EpochMs,
    gap_ms: f64,
}

impl Arrivals {
    /// `None` for a rate that is not positive: such a world has no payments.
    pub(super) fn new(world: u64, start_at: EpochMs, payments_per_hour: f64) -> Option<Self> {
        (payments_per_hour > 0.0).then(|| Self {
            draw: Draw::keyed(world, Purpose::Arrivals, 0, 0),
            at_ms: 0.0,
            start_at,
            gap_ms: HOUR_MS as f64 / (payments_per_hour * RELATIVE_RATE_MAX),
        })
    }

    pub(super) fn next(&mut self) -> EpochMs {
        loop {
            self.at_ms += self.draw.exponential() * self.gap_ms;
            let at = self.start_at + self.at_ms as i64;
            if self.draw.chance(relative_rate(at) / RELATIVE_RATE_MAX) {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Monday, 00:00 in Mexico City.
    const MONDAY: EpochMs = 1_767_592_800_000;

    #[test]
    fn relative_rate_averages_one_and_is_bounded() {
        let steps = 7 * 24 * 60;
        let rates: Vec<f64> = (0..steps).map(|minute| relative_rate(MONDAY + minute * 60_000)).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        assert!((mean - 1.0).abs() < 1e-3, "{mean}");
        assert!(rates.iter().all(|rate| *rate <= RELATIVE_RATE_MAX));
    }

    #[test]
    fn arrivals_follow_hour_and_weekday() {
        let Some(mut arrivals) = Arrivals::new(11, MONDAY, 1_000.0) else { panic!("no arrivals") };
        let mut by_hour = [0_u32; 24];
        let mut by_day = [0_u32; 7];
        loop {
            let since = arrivals.next() - MONDAY;
            if since >= 7 * DAY_MS {
                break;
            }
            by_hour[(since % DAY_MS / HOUR_MS) as usize] += 1;
            by_day[(since / DAY_MS) as usize] += 1;
        }
        let total: u32 = by_day.iter().sum();
        assert!((f64::from(total) - 168_000.0).abs() < 4.0 * 168_000_f64.sqrt(), "{total}");
        assert!(f64::from(by_hour[12]) > 8.0 * f64::from(by_hour[3]), "noon against four: {by_hour:?}");
        assert!(f64::from(by_day[1]) > 1.3 * f64::from(by_day[6]), "Tuesday against Sunday: {by_day:?}");
    }
}
