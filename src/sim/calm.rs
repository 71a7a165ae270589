//! How often a PSP that is well is called out: days without trouble through the engine's own book of a PSP, with all its segments and tests.
//!
//! Each PSP has declines that come more often by night, technical failures now and then, and answers of all speeds; it begins with nothing
//! known of it. Payments come evenly, each as a delta of its own: the tests look after every one, which gives chance the most occasions.

use super::draw::{Draw, Purpose};
use crate::domain::learning::{SegmentTally, StatsDelta, Tally};
use crate::domain::psp::{HealthState, PspOutage, Segment, SegmentKind};
use crate::domain::{EpochMs, PspId};
use crate::engine::codes::Verdict;
use crate::engine::psp::PspBook;
use crate::engine::settings::Settings;
use crate::engine::window::TILE_MS;

/// Of one PSP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalmDays {
    pub days: u64,
    pub payments_per_day: u64,
}

const DAY_MS: i64 = 86_400_000;
const START: EpochMs = 1_546_300_800_000;
const TECHNICAL: f64 = 0.008;
const DECLINED: f64 = 0.14;
const DECLINED_BY_NIGHT: f64 = 0.04;

type Shares = &'static [(&'static str, f64)];
const KINDS: [(SegmentKind, Shares); 5] = [
    (SegmentKind::Brand, &[("VISA", 0.6), ("MASTERCARD", 0.3), ("CARNET", 0.1)]),
    (SegmentKind::Currency, &[("MXN", 0.8), ("USD", 0.2)]),
    (SegmentKind::Method, &[("card", 0.85), ("spei", 0.15)]),
    (SegmentKind::IssuerCountry, &[("MX", 0.75), ("US", 0.15), ("CO", 0.06), ("ES", 0.03), ("AR", 0.01)]),
    (SegmentKind::Merchant, &[("a", 0.5), ("b", 0.3), ("c", 0.2)]),
];

impl CalmDays {
    /// The alarms raised for PSP number `psp`: each is false.
    pub fn false_alarms(self, psp: u64, settings: &Settings, seed: u64) -> Vec<PspOutage> {
        let psp_id = PspId::new("well");
        let mut book = PspBook::new(psp_id.clone());
        let mut draw = Draw::keyed(seed, Purpose::Detection, u64::MAX, psp);
        let mut alarms = Vec::new();
        let payments = self.days.saturating_mul(self.payments_per_day);
        for number in 0..payments {
            let at = START + (i128::from(number) * i128::from(DAY_MS) / i128::from(self.payments_per_day.max(1))) as i64;
            let tally = result_of(at, &mut draw);
            let tile_start = at.div_euclid(TILE_MS) * TILE_MS;
            let parts = KINDS.map(|(kind, shares)| Segment { kind, value: draw.pick(shares).to_owned() });
            let segments = std::iter::once(Segment::all()).chain(parts);
            let tallies = segments.map(|segment| SegmentTally { segment, tile_start, tally: tally.clone() }).collect();
            let delta = StatsDelta::of_tallies(psp_id.clone(), at, tallies);
            let effects = book.merge(&delta, &settings.engine, &settings.health);
            alarms.extend(effects.transitions.into_iter().filter(|step| step.from == HealthState::Up));
        }
        alarms
    }
}

fn result_of(at: EpochMs, draw: &mut Draw) -> Tally {
    let hour = (at - START) as f64 / DAY_MS as f64 * std::f64::consts::TAU;
    let declined = DECLINED + DECLINED_BY_NIGHT * hour.sin();
    let (fate, speed) = (draw.unit(), draw.unit());
    let verdict = match fate {
        _ if fate < TECHNICAL => Verdict::TechnicalError { persistent: true },
        _ if fate < TECHNICAL + declined => Verdict::SoftDecline,
        _ => Verdict::Approved,
    };
    let latency_ms = 200.0 + 300.0 * speed + 400.0 * draw.unit().powi(4);
    let mut tally = Tally::default();
    tally.count(verdict, Some(latency_ms as i64), 1_000, Some("96"));
    tally
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fixtures::shipped;

    /// As shipped, asked for so many false alarms a day; one comes when a segment has had `results` results, not sooner.
    fn settings(false_alarms_per_day: f64, results: f64) -> Settings {
        let mut settings = shipped();
        settings.health.sequential.false_alarms_per_day = false_alarms_per_day;
        settings.health.sequential.results_per_false_alarm = results;
        settings
    }

    #[test]
    fn as_shipped_days_pass_without_alarms_and_careless_thresholds_raise_some() {
        let days = CalmDays { days: 3, payments_per_day: 2_400 };
        let alarms = |settings: &Settings| (0..3).map(|psp| days.false_alarms(psp, settings, 7).len()).sum::<usize>();
        assert_eq!(alarms(&settings(0.03, 100_000.0)), 0);
        let mut careless = settings(1_000.0, 10.0);
        careless.health.sequential.failures_min = 1;
        assert!(alarms(&careless) > 3);
    }
}
