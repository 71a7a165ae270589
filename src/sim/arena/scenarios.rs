//! What happens in each scenario: traffic, and outages by the words of `sim::scenario`.

use super::world::{PSP_NAMES, SEAT};
use crate::domain::PspId;
use crate::domain::psp::{Segment, SegmentKind};
use crate::sim::scenario::{Fault, Outage, Scenario};
use SegmentKind::{Brand, IssuerCountry};

pub(super) const MINUTE_MS: i64 = 60_000;

/// A scenario. Minutes count from the end of the history.
#[derive(Debug)]
pub struct Script {
    pub name: &'static str,
    /// For people.
    pub about: &'static str,
    pub payments_per_hour: u64,
    pub minutes: i64,
    /// From minute, to minute, times as many payments.
    pub surge: Option<(i64, i64, f64)>,
    /// Whether what happens happens at every PSP: no PSP's outage then, and nothing to move away from.
    pub common: bool,
    troubles: &'static [Trouble],
}

/// PSP, from minute, to minute, part of the traffic, fault.
type Trouble = (usize, i64, i64, Option<(SegmentKind, &'static str)>, Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Total,
    Silent,
    Slow(f64),
    Flapping(i64),
    /// Share of the payments, and the code.
    Errors(f64, &'static str),
    Decay(f64),
}

const USUAL: Script =
    Script { name: "", about: "", payments_per_hour: 2_400, minutes: 120, surge: None, common: false, troubles: &[] };
const US: Option<(SegmentKind, &str)> = Some((IssuerCountry, "US"));
const ALPHA: usize = SEAT.alpha;
const BRAVO: usize = SEAT.bravo;

/// All of them, in the order in which they are told.
pub const SCENARIOS: [Script; 16] = [
    Script { name: "none", about: "nothing goes wrong, for four hours", minutes: 240, ..USUAL },
    Script {
        name: "total",
        about: "the main PSP fails every payment for half an hour",
        troubles: &[(ALPHA, 30, 60, None, Kind::Total)],
        ..USUAL
    },
    Script {
        name: "partial",
        about: "the main PSP fails every Mastercard, a third of its traffic",
        troubles: &[(ALPHA, 30, 60, Some((Brand, "MASTERCARD")), Kind::Total)],
        ..USUAL
    },
    Script {
        name: "partial_small",
        about: "the main PSP fails every Carnet card, a twelfth of its traffic",
        troubles: &[(ALPHA, 30, 60, Some((Brand, "CARNET")), Kind::Total)],
        ..USUAL
    },
    Script {
        name: "slow",
        about: "the main PSP takes 25 times as long: most answers come too late",
        troubles: &[(ALPHA, 30, 60, None, Kind::Slow(25.0))],
        ..USUAL
    },
    Script {
        name: "silent",
        about: "nothing is ever heard of payments sent to the main PSP",
        troubles: &[(ALPHA, 30, 60, None, Kind::Silent)],
        ..USUAL
    },
    Script {
        name: "error_burst",
        about: "two payments of five at the main PSP end in an error, for a quarter of an hour",
        troubles: &[(ALPHA, 30, 45, None, Kind::Errors(0.4, "96"))],
        ..USUAL
    },
    Script {
        name: "flapping",
        about: "the main PSP fails for two minutes, is well for two, for forty minutes",
        troubles: &[(ALPHA, 30, 70, None, Kind::Flapping(4))],
        ..USUAL
    },
    Script {
        name: "slow_decay",
        about: "what the main PSP gets approved falls to a fifth over an hour: declines, nothing technical",
        troubles: &[(ALPHA, 30, 90, None, Kind::Decay(0.2))],
        ..USUAL
    },
    Script {
        name: "lasting",
        about: "from now on issuers decline one payment in eight more that comes through the main PSP: no outage, and no order is right for ever",
        minutes: 240,
        troubles: &[(ALPHA, 30, 240, None, Kind::Errors(0.12, "05"))],
        ..USUAL
    },
    Script {
        name: "low_traffic",
        about: "ten payments an hour; the main PSP fails for sixteen hours",
        payments_per_hour: 10,
        minutes: 2_880,
        troubles: &[(ALPHA, 960, 1_920, None, Kind::Total)],
        ..USUAL
    },
    Script {
        name: "two_psps",
        about: "the main PSP and the one that stands in for it fail at once",
        troubles: &[(ALPHA, 30, 60, None, Kind::Total), (BRAVO, 30, 60, None, Kind::Total)],
        ..USUAL
    },
    Script {
        name: "issuer",
        about: "issuers of one country fail at every PSP, with the codes of a PSP that fails",
        common: true,
        troubles: &[
            (0, 30, 60, US, Kind::Total),
            (1, 30, 60, US, Kind::Total),
            (2, 30, 60, US, Kind::Total),
            (3, 30, 60, US, Kind::Total),
            (4, 30, 60, US, Kind::Total),
        ],
        ..USUAL
    },
    Script {
        name: "holiday",
        about: "five times the traffic for half an hour, and nothing wrong",
        surge: Some((30, 60, 5.0)),
        ..USUAL
    },
    Script {
        name: "holiday_slow",
        about: "five times the traffic, and every PSP takes two and a half times as long",
        surge: Some((30, 60, 5.0)),
        common: true,
        troubles: &[
            (0, 30, 60, None, Kind::Slow(2.5)),
            (1, 30, 60, None, Kind::Slow(2.5)),
            (2, 30, 60, None, Kind::Slow(2.5)),
            (3, 30, 60, None, Kind::Slow(2.5)),
            (4, 30, 60, None, Kind::Slow(2.5)),
        ],
        ..USUAL
    },
    Script {
        name: "relapse",
        about: "the main PSP fails for a quarter of an hour, is well for five minutes, and fails again",
        troubles: &[(ALPHA, 30, 45, None, Kind::Total), (ALPHA, 50, 65, None, Kind::Total)],
        ..USUAL
    },
];

pub fn scenario(name: &str) -> Option<&'static Script> {
    SCENARIOS.iter().find(|script| script.name == name)
}

impl Script {
    pub(super) fn length_ms(&self) -> i64 {
        self.minutes * MINUTE_MS
    }

    /// Payments an hour, this long after the start.
    pub(super) fn rate(&self, since_ms: i64) -> f64 {
        let usual = self.payments_per_hour as f64;
        match self.surge {
            Some((from, to, times)) if (from * MINUTE_MS..to * MINUTE_MS).contains(&since_ms) => usual * times,
            _ => usual,
        }
    }

    /// Spans of minutes in which something is the matter, for plots.
    pub fn spans(&self) -> Vec<(i64, i64)> {
        let mut spans: Vec<(i64, i64)> = self.troubles.iter().map(|(_, from, to, ..)| (*from, *to)).collect();
        spans.extend(self.surge.map(|(from, to, _)| (from, to)));
        spans.sort_unstable();
        spans.dedup();
        spans
    }

    pub(super) fn played(&self) -> Scenario {
        let outages = self.troubles.iter().map(|(seat, from, to, part, kind)| Outage {
            psp: PspId::new(PSP_NAMES[*seat]),
            from_ms: from * MINUTE_MS,
            to_ms: to * MINUTE_MS,
            segment: part.map(|(kind, value)| Segment { kind, value: value.to_owned() }),
            fault: match *kind {
                Kind::Total => Fault::Total,
                Kind::Silent => Fault::Silent,
                Kind::Slow(factor) => Fault::Slow { factor },
                Kind::Flapping(minutes) => Fault::Flapping { period_ms: minutes * MINUTE_MS },
                Kind::Errors(rate, code) => Fault::ErrorBurst { rate, code: code.to_owned() },
                Kind::Decay(floor) => Fault::Decay { floor },
            },
        });
        Scenario { name: self.name.to_owned(), drift_days: None, outages: outages.collect() }
    }
}
