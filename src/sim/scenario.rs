//! Scripted outages: what goes wrong at which PSP, when, and for which part of its traffic.

use crate::domain::PspId;
use crate::domain::payment::Payment;
use crate::domain::psp::{Segment, SegmentKind};
use crate::engine::segments::segments_of;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use thiserror::Error;

/// The script of a run. Times count from the start of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    #[serde(default)]
    pub name: String,
    /// Days in which banks come to like each PSP as if that were drawn anew, little by little, again and again; absent: they never change.
    #[serde(default)]
    pub drift_days: Option<f64>,
    #[serde(default)]
    pub outages: Vec<Outage>,
}

/// One fault of one PSP, from `from_ms` up to but not including `to_ms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    pub psp: PspId,
    pub from_ms: i64,
    pub to_ms: i64,
    /// Only this part of the PSP's traffic; absent: all of it.
    #[serde(default)]
    pub segment: Option<Segment>,
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Every attempt fails: time-outs, refused connections, system errors.
    Total,
    /// Answers take `factor` times as long; what is then longer than the client waits is a time-out.
    Slow { factor: f64 },
    /// Nothing is ever heard of an attempt: no outcome, not even a time-out.
    Silent,
    /// Total for the first half of each period, well for the second.
    Flapping { period_ms: i64 },
    /// A share of the attempts is answered with this code.
    ErrorBurst { rate: f64, code: String },
    /// What the PSP gets approved falls in a straight line, from all to `floor` of it at the end: declines, nothing technical.
    Decay { floor: f64 },
}

/// A scenario that cannot be played. Whoever wrote it is to act.
#[derive(Debug, Error)]
pub enum ScenarioError {
    #[error("the scenario is not readable: {0}")]
    Unreadable(#[from] Box<toml::de::Error>),
    #[error("no scenario is called {name:?}: there are `demo`, `drift` and `none`; anything else is a file")]
    UnknownName { name: String },
    #[error("drift_days is {value}: must be above 0")]
    NoDrift { value: f64 },
    #[error("outages[{index}].{field} is {value}: {rule}")]
    Invalid { index: usize, field: &'static str, value: String, rule: String },
}

impl Scenario {
    pub fn none() -> Self {
        Self { name: "none".into(), ..Self::default() }
    }

    /// Four hours with three outages, for PSPs in order of their traffic: the first fails for 25 minutes, then the second on
    /// instalments only, then the first becomes slow.
    pub fn demo(psps: &[PspId]) -> Self {
        const MINUTE_MS: i64 = 60_000;
        let msi = Segment { kind: SegmentKind::SubMethod, value: "msi".into() };
        let script = [
            (0, 60..85, None, Fault::Total),
            (1, 120..145, Some(msi), Fault::Total),
            (0, 175..195, None, Fault::Slow { factor: 25.0 }),
        ];
        let outage = |(rank, minutes, segment, fault): (usize, Range<i64>, _, _)| {
            let psp = psps.get(rank)?.clone();
            Some(Outage { psp, from_ms: minutes.start * MINUTE_MS, to_ms: minutes.end * MINUTE_MS, segment, fault })
        };
        Self { name: "demo".into(), drift_days: None, outages: script.into_iter().filter_map(outage).collect() }
    }

    /// The outages of `demo`, while banks change their minds within a day.
    pub fn drift(psps: &[PspId]) -> Self {
        Self { name: "drift".into(), drift_days: Some(1.0), ..Self::demo(psps) }
    }

    /// The same script in this share of its time.
    pub fn paced(mut self, share: f64) -> Self {
        let paced = |ms: i64| (ms as f64 * share) as i64;
        for outage in &mut self.outages {
            (outage.from_ms, outage.to_ms) = (paced(outage.from_ms), paced(outage.to_ms));
        }
        self
    }

    /// A built-in scenario. `psps`: as in [`Scenario::demo`].
    pub fn named(name: &str, psps: &[PspId]) -> Result<Self, ScenarioError> {
        match name {
            "demo" => Ok(Self::demo(psps)),
            "drift" => Ok(Self::drift(psps)),
            "none" => Ok(Self::none()),
            _ => Err(ScenarioError::UnknownName { name: name.into() }),
        }
    }

    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        toml::from_str(text).map_err(|error| ScenarioError::Unreadable(Box::new(error)))
    }

    /// Finds what parsing cannot: unknown PSPs, empty spans, numbers out of range.
    pub fn check(&self, psps: &[PspId]) -> Result<(), ScenarioError> {
        if let Some(value) = self.drift_days.filter(|days| !(*days > 0.0 && days.is_finite())) {
            return Err(ScenarioError::NoDrift { value });
        }
        for (index, outage) in self.outages.iter().enumerate() {
            outage.check(psps).map_err(|(field, value, rule)| ScenarioError::Invalid { index, field, value, rule })?;
        }
        Ok(())
    }
}

type Finding = (&'static str, String, String);

impl Outage {
    /// Whether the outage is on at `since_start_ms`, for a payment of its segment.
    pub fn hits(&self, payment: &Payment, since_start_ms: i64) -> bool {
        (self.from_ms..self.to_ms).contains(&since_start_ms) && self.concerns(payment)
    }

    /// Whether the payment is of the segment that the outage is about, at whatever time.
    pub fn concerns(&self, payment: &Payment) -> bool {
        self.segment.as_ref().is_none_or(|segment| segments_of(payment, &[segment.kind.into()]).contains(segment))
    }

    fn check(&self, psps: &[PspId]) -> Result<(), Finding> {
        let known = || psps.iter().map(PspId::as_str).collect::<Vec<_>>().join(", ");
        hold("psp", &self.psp, psps.contains(&self.psp), || format!("must be one of {}", known()))?;
        hold("from_ms", &self.from_ms, self.from_ms >= 0, || "must be 0 or more".into())?;
        hold("to_ms", &self.to_ms, self.to_ms > self.from_ms, || format!("must be after from_ms, {}", self.from_ms))?;
        if let Some(segment) = &self.segment {
            let usable = !matches!(segment.kind, SegmentKind::Unknown | SegmentKind::Pair);
            hold("segment.kind", &segment.kind.as_str(), usable, || "must be a segment that a payment has".into())?;
        }
        let share = || "must be 0 to 1".to_owned();
        match &self.fault {
            Fault::Slow { factor } => hold("fault.factor", factor, *factor >= 1.0, || "must be 1 or more".into()),
            Fault::Flapping { period_ms } => hold("fault.period_ms", period_ms, *period_ms >= 2, || "must be 2 or more".into()),
            Fault::ErrorBurst { rate, .. } => hold("fault.rate", rate, (0.0..=1.0).contains(rate), share),
            Fault::Decay { floor } => hold("fault.floor", floor, (0.0..=1.0).contains(floor), share),
            Fault::Total | Fault::Silent => Ok(()),
        }
    }
}

fn hold(field: &'static str, value: &dyn fmt::Display, holds: bool, rule: impl Fn() -> String) -> Result<(), Finding> {
    if holds { Ok(()) } else { Err((field, value.to_string(), rule())) }
}

/// What all outages together do to one attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Effect<'a> {
    /// Share of attempts that is made to fail.
    pub(super) failing: f64,
    /// The code of those failures; absent: the usual mix of an outage.
    pub(super) code: Option<&'a str>,
    pub(super) latency_factor: f64,
    pub(super) approval_factor: f64,
    pub(super) silent: bool,
}

impl<'a> Effect<'a> {
    pub(super) fn of(outages: &'a [Outage], psp: &PspId, payment: &Payment, since_start_ms: i64) -> Self {
        let mut effect = Self { failing: 0.0, code: None, latency_factor: 1.0, approval_factor: 1.0, silent: false };
        for outage in outages.iter().filter(|outage| outage.psp == *psp && outage.hits(payment, since_start_ms)) {
            effect.add(outage, since_start_ms);
        }
        effect
    }

    fn add(&mut self, outage: &'a Outage, since_start_ms: i64) {
        let elapsed_ms = since_start_ms - outage.from_ms;
        match &outage.fault {
            Fault::Total => self.fail(1.0, None),
            Fault::Slow { factor } => self.latency_factor *= factor,
            Fault::Silent => self.silent = true,
            Fault::Flapping { period_ms } => {
                if elapsed_ms % period_ms < period_ms / 2 {
                    self.fail(1.0, None);
                }
            }
            Fault::ErrorBurst { rate, code } => self.fail(*rate, Some(code)),
            Fault::Decay { floor } => {
                let progress = elapsed_ms as f64 / (outage.to_ms - outage.from_ms) as f64;
                self.approval_factor *= 1.0 - (1.0 - floor) * progress;
            }
        }
    }

    fn fail(&mut self, share: f64, code: Option<&'a str>) {
        self.failing = 1.0 - (1.0 - self.failing) * (1.0 - share);
        self.code = self.code.or(code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psps() -> Vec<PspId> {
        ["one", "two", "three"].map(PspId::from).to_vec()
    }

    #[test]
    fn a_file_tells_every_kind() {
        let text = r#"
            name = "all"
            drift_days = 2.5
            [[outages]]
            psp = "one"
            from_ms = 1000
            to_ms = 2000
            fault = { kind = "total" }
            [[outages]]
            psp = "two"
            from_ms = 0
            to_ms = 5000
            segment = { kind = "SUB_METHOD", value = "msi" }
            fault = { kind = "slow", factor = 8.0 }
            [[outages]]
            psp = "two"
            from_ms = 0
            to_ms = 5
            fault = { kind = "silent" }
            [[outages]]
            psp = "two"
            from_ms = 0
            to_ms = 5
            fault = { kind = "flapping", period_ms = 60000 }
            [[outages]]
            psp = "two"
            from_ms = 0
            to_ms = 5
            fault = { kind = "error_burst", rate = 0.4, code = "96" }
            [[outages]]
            psp = "two"
            from_ms = 0
            to_ms = 5
            fault = { kind = "decay", floor = 0.5 }
        "#;
        let scenario = Scenario::from_toml(text).unwrap();
        scenario.check(&psps()).unwrap();
        assert_eq!((scenario.drift_days, scenario.outages.len()), (Some(2.5), 6));
        assert_eq!(scenario.outages[4].fault, Fault::ErrorBurst { rate: 0.4, code: "96".into() });
        assert_eq!(scenario.outages[1].segment.as_ref().map(ToString::to_string).as_deref(), Some("SUB_METHOD:msi"));
        let again = Scenario::from_toml(&toml::to_string(&scenario).unwrap()).unwrap();
        assert_eq!(again, scenario);
    }

    #[test]
    fn mistakes_are_named() {
        let outage = |psp: &str, from_ms, to_ms, fault| Outage { psp: psp.into(), from_ms, to_ms, segment: None, fault };
        let cases = [
            (outage("four", 0, 1, Fault::Total), "outages[0].psp is four: must be one of one, two, three"),
            (outage("one", -1, 1, Fault::Total), "outages[0].from_ms is -1: must be 0 or more"),
            (outage("one", 5, 5, Fault::Silent), "outages[0].to_ms is 5: must be after from_ms, 5"),
            (outage("one", 0, 1, Fault::Slow { factor: 0.5 }), "outages[0].fault.factor is 0.5: must be 1 or more"),
            (outage("one", 0, 1, Fault::Flapping { period_ms: 0 }), "outages[0].fault.period_ms is 0: must be 2 or more"),
            (outage("one", 0, 1, Fault::Decay { floor: f64::NAN }), "outages[0].fault.floor is NaN: must be 0 to 1"),
        ];
        for (outage, expected) in cases {
            let scenario = Scenario { outages: vec![outage], ..Scenario::default() };
            assert_eq!(scenario.check(&psps()).unwrap_err().to_string(), expected);
        }
        for text in ["outage = 3", "[[outages]]\npsp = 'one'", "[[outages]]\npsp='one'\nfrom_ms=0\nto_ms=1\nfault={kind='slow'}"]
        {
            assert!(Scenario::from_toml(text).is_err(), "{text}");
        }
        assert!(Scenario::named("demon", &psps()).unwrap_err().to_string().contains("`demo`, `drift` and `none`"));
        for days in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let scenario = Scenario { drift_days: Some(days), ..Scenario::default() };
            assert_eq!(scenario.check(&psps()).unwrap_err().to_string(), format!("drift_days is {days}: must be above 0"));
        }
    }

    #[test]
    fn built_in_scenarios_can_be_played() {
        for name in ["demo", "drift", "none"] {
            Scenario::named(name, &psps()).unwrap().check(&psps()).unwrap();
        }
        let single = Scenario::demo(&psps()[..1]);
        assert!(single.outages.len() == 2 && single.check(&psps()[..1]).is_ok(), "without a second PSP, no outage of it");
    }
}
