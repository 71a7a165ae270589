//! Whether an A/B test on payments like these would have its samples, and what it could see.
//!
//! Two-sided at 5 %, with a power of 80 %, by the normal approximation to two shares; a variant is drawn per payment.

use crate::learn::proportion::Proportion;
use serde::Serialize;

/// Samples that each variant has to have, the shortest time, and the lift that is to be seen.
const SAMPLES_MIN: f64 = 1_000.0;
const DAYS_MIN: f64 = 7.0;
const LIFT: f64 = 0.01;
/// Shares of the treatment: with how much an experiment starts, and with which it learns soonest.
const TREATMENT_SHARES: [f64; 2] = [0.1, 0.5];
/// Quantiles of the standard normal distribution for 2.5 % and for 20 %.
const Z_ALPHA: f64 = 1.959_963_984_540_054;
const Z_BETA: f64 = 0.841_621_233_572_914;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sizing {
    pub payments_per_day: f64,
    pub approval_rate: f64,
    pub splits: Vec<SplitSize>,
}

/// An experiment with this share in treatment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SplitSize {
    pub treatment_share: f64,
    /// In seven days.
    pub treatment_payments: f64,
    pub control_payments: f64,
    pub has_samples: bool,
    /// The smallest lift, as a share, that seven days would show.
    pub lift_seen: f64,
    /// Until a lift of one point would be seen; never less than seven.
    pub days_for_a_point: f64,
}

/// `days`: over which the payments came. None without payments.
pub(super) fn size(payments: Proportion, days: f64) -> Option<Sizing> {
    let approval_rate = payments.share()?;
    let payments_per_day = payments.trials as f64 / days.max(1.0);
    let variance = approval_rate * (1.0 - approval_rate);
    let split = |treatment_share: f64| {
        let weekly = payments_per_day * DAYS_MIN;
        let (treatment_payments, control_payments) = (weekly * treatment_share, weekly * (1.0 - treatment_share));
        let spread = variance / treatment_share + variance / (1.0 - treatment_share);
        let needed = (Z_ALPHA + Z_BETA).powi(2) * spread / LIFT.powi(2);
        let samples_days = SAMPLES_MIN / (payments_per_day * treatment_share.min(1.0 - treatment_share));
        SplitSize {
            treatment_share,
            treatment_payments,
            control_payments,
            has_samples: treatment_payments.min(control_payments) >= SAMPLES_MIN,
            lift_seen: (Z_ALPHA + Z_BETA) * (spread / weekly).sqrt(),
            days_for_a_point: (needed / payments_per_day).max(samples_days).max(DAYS_MIN),
        }
    };
    Some(Sizing { payments_per_day, approval_rate, splits: TREATMENT_SHARES.into_iter().map(split).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_follow_from_traffic() {
        // 1,000 payments a day at 80 %: by the textbook formula, 25,117 in each half for one point.
        let sized = size(Proportion::new(24_000, 30_000), 30.0).unwrap();
        let [tenth, half] = sized.splits[..] else { panic!("two splits") };
        assert_eq!((tenth.treatment_payments, tenth.control_payments.round(), tenth.has_samples), (700.0, 6_300.0, false));
        assert!(half.has_samples);
        assert!((half.days_for_a_point - 2.0 * 25.117).abs() < 0.05, "{half:?}");
        assert!((half.lift_seen - 0.02679).abs() < 1e-4, "{half:?}");
        assert!((tenth.days_for_a_point - 139.54).abs() < 0.2, "{tenth:?}");
        assert_eq!(size(Proportion::default(), 3.0), None);
        let large = size(Proportion::new(900_000, 1_000_000), 1.0).unwrap();
        assert_eq!(large.splits[1].days_for_a_point, 7.0, "a week at least");
    }
}
