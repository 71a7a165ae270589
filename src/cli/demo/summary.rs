//! What a demo tells at its end: for scripts as one object, for people in words, with the command to try next.

use super::super::screen::Screen;
use super::board::{clock, percent};
use anyhow::Result;
use serde::Serialize;
use smartrouter::domain::psp::Segment;
use smartrouter::domain::{EpochMs, PspId};
use smartrouter::sim::{Comparison, Failover, Fault, Scenario, Truth};
use std::path::{Path, PathBuf};

/// Nothing in it depends on the machine: the same seed gives the same summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Of payments, after all their attempts.
    approval_rate: f64,
    approval_rate_static: f64,
    approval_rate_oracle: f64,
    payments: u64,
    first_attempts: FirstAttempts,
    failovers: Vec<FailoverRow>,
    /// In the log, those of earlier demos that this one resumed included.
    decisions: u64,
    requests: u64,
    /// Requests that were not answered in time, and decisions that named no PSP.
    unanswered: u64,
    unrouted: u64,
    seed: u64,
    scenario: String,
    from: EpochMs,
    to: EpochMs,
    state_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct FirstAttempts {
    attempts: u64,
    approval_rate: f64,
    approval_rate_static: f64,
    approval_rate_oracle: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct FailoverRow {
    psp_id: PspId,
    segment: Option<Segment>,
    fault: &'static str,
    from: EpochMs,
    to: EpochMs,
    first_bad_at: Option<EpochMs>,
    payments_to_detect: Option<u64>,
    ms_to_avoid: Option<i64>,
    payments_spoilt: u64,
}

/// Requests and decisions in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) decisions: u64,
}

/// What was played.
pub(super) struct Played<'a> {
    pub(super) seed: u64,
    pub(super) scenario: &'a Scenario,
    pub(super) from: EpochMs,
    pub(super) to: EpochMs,
    pub(super) state_dir: &'a Path,
}

impl Summary {
    pub(super) fn new(played: &Played<'_>, truth: &Truth, failovers: &[Failover], counts: Counts) -> Self {
        let rows = failovers.iter().zip(&played.scenario.outages).filter(|(_, outage)| played.from + outage.from_ms < played.to);
        let row = |(failover, outage): (&Failover, &smartrouter::sim::Outage)| FailoverRow {
            psp_id: failover.psp_id.clone(),
            segment: failover.segment.clone(),
            fault: fault(&outage.fault),
            from: played.from + outage.from_ms,
            to: played.from + outage.to_ms,
            first_bad_at: failover.first_bad_at,
            payments_to_detect: failover.payments_to_detect,
            ms_to_avoid: failover.ms_to_avoid,
            payments_spoilt: failover.payments_spoilt,
        };
        let (payments, firsts) = (&truth.payments, &truth.first_attempts);
        Self {
            approval_rate: payments.rate(),
            approval_rate_static: payments.rate_static(),
            approval_rate_oracle: payments.rate_oracle(),
            payments: payments.n,
            first_attempts: FirstAttempts {
                attempts: firsts.n,
                approval_rate: firsts.rate(),
                approval_rate_static: firsts.rate_static(),
                approval_rate_oracle: firsts.rate_oracle(),
            },
            failovers: rows.map(row).collect(),
            decisions: counts.decisions,
            requests: counts.requests,
            unanswered: truth.unanswered,
            unrouted: truth.unrouted,
            seed: played.seed,
            scenario: played.scenario.name.clone(),
            from: played.from,
            to: played.to,
            state_dir: played.state_dir.to_owned(),
        }
    }

    /// `program`: how this program was called; `given`: the options that later commands need too.
    pub(super) fn show(&self, screen: &Screen, truth: &Truth, (program, given): (&str, &str)) -> Result<()> {
        if screen.is_json() {
            return screen.object(self);
        }
        for line in self.lines(truth) {
            screen.say(line)?;
        }
        let state_dir = quoted(&self.state_dir.display().to_string());
        screen.say("\nTry next")?;
        let sql = "\"SELECT * FROM ATHIA_MULTI_STAGE_ANALYSIS ORDER BY stage, attempts DESC\"";
        screen.say(format!("  {} {given}--state-dir {state_dir} query {sql}", quoted(program)))?;
        screen
            .say(format!("  SMARTROUTER__RUNTIME__LOG=embedded {} {given}--state-dir {state_dir} psp list", quoted(program)))?;
        screen.say(format!("  {} {given}--state-dir {state_dir} demo --resume", quoted(program)))
    }

    fn lines(&self, truth: &Truth) -> Vec<String> {
        let mut lines = vec![format!("\n{:<18}{:>10}{:>16}{:>10}", "APPROVED", "ROUTER", "STATIC RULES", "ORACLE")];
        let row = |what: &str, of: &Comparison| {
            let rates = [of.rate(), of.rate_static(), of.rate_oracle()].map(percent);
            format!("{what:<18}{:>10}{:>16}{:>10}   of {}", rates[0], rates[1], rates[2], of.n)
        };
        lines.push(row("payments", &truth.payments));
        lines.push(row("first attempts", &truth.first_attempts));
        let ahead = (truth.payments.rate() - truth.payments.rate_static()) * 100.0;
        lines.push(format!("\n{ahead:+.1} points of approved payments against the static rules"));
        if !self.failovers.is_empty() {
            lines.push("\nOutages".to_owned());
            lines.extend(self.failovers.iter().map(FailoverRow::line));
        }
        let found = if self.requests == self.decisions { "one each".to_owned() } else { format!("{} decisions", self.decisions) };
        lines.push(format!("\n{} requests, {found}; events and state are in {}", self.requests, self.state_dir.display()));
        if self.unanswered + self.unrouted > 0 {
            lines.push(format!("{} requests not answered in time, {} without a PSP", self.unanswered, self.unrouted));
        }
        lines
    }
}

impl FailoverRow {
    fn line(&self) -> String {
        let segment = self.segment.as_ref().map(|segment| format!(" {segment}")).unwrap_or_default();
        let came = match (self.first_bad_at, self.payments_to_detect, self.ms_to_avoid) {
            (None, ..) => "no payment met it".to_owned(),
            (Some(_), Some(payments), Some(ms)) => {
                let payments = if payments == 1 { "1 payment".to_owned() } else { format!("{payments} payments") };
                format!("avoided after {payments}, {:.1} s; {} spoilt in all", ms as f64 / 1_000.0, self.payments_spoilt)
            }
            (Some(_), ..) => format!("not avoided; {} spoilt", self.payments_spoilt),
        };
        let what = format!("{}{segment} {}", self.psp_id, self.fault);
        format!("  {} to {}  {what:<34}{came}", clock(self.from), clock(self.to))
    }
}

fn fault(fault: &Fault) -> &'static str {
    match fault {
        Fault::Total => "total",
        Fault::Slow { .. } => "slow",
        Fault::Silent => "silent",
        Fault::Flapping { .. } => "flapping",
        Fault::ErrorBurst { .. } => "error_burst",
        Fault::Decay { .. } => "decay",
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartrouter::sim::Outage;

    fn summary() -> (Summary, Truth) {
        let outage =
            |psp: &str, from_ms, fault| Outage { psp: psp.into(), from_ms, to_ms: from_ms + 60_000, segment: None, fault };
        let scenario = Scenario {
            name: "two".into(),
            drift_days: None,
            outages: vec![outage("a", 60_000, Fault::Total), outage("b", 0, Fault::Silent), outage("a", 9_000_000, Fault::Total)],
        };
        let failover = |psp: &str, payments_to_detect, ms_to_avoid| Failover {
            psp_id: psp.into(),
            segment: None,
            first_bad_at: Some(1),
            payments_to_detect,
            ms_to_avoid,
            payments_spoilt: 3,
        };
        let failovers = [failover("a", Some(1), Some(2_500)), failover("b", None, None), failover("a", None, None)];
        let payments = Comparison { n: 200, approved: 180, approved_static: 150, approved_oracle: 190 };
        let truth = Truth { payments, ..Truth::default() };
        let played = Played { seed: 7, scenario: &scenario, from: 0, to: 3_600_000, state_dir: Path::new("x y") };
        (Summary::new(&played, &truth, &failovers, Counts { requests: 9, decisions: 9 }), truth)
    }

    #[test]
    fn scripts_find_their_keys() {
        let json = serde_json::to_value(summary().0).unwrap();
        for (key, expected) in [("approval_rate", 0.9), ("approval_rate_static", 0.75), ("approval_rate_oracle", 0.95)] {
            assert_eq!(json[key], expected, "{key}");
        }
        assert_eq!((&json["decisions"], &json["requests"], &json["state_dir"]), (&9.into(), &9.into(), &"x y".into()));
        let failovers = json["failovers"].as_array().unwrap();
        assert_eq!(failovers.len(), 2, "an outage behind the end was not played");
        assert_eq!((&failovers[0]["psp_id"], &failovers[0]["payments_to_detect"]), (&"a".into(), &1.into()));
        assert_eq!((&failovers[0]["ms_to_avoid"], &failovers[1]["ms_to_avoid"]), (&2_500.into(), &serde_json::Value::Null));
    }

    #[test]
    fn people_read_what_came_of_each_outage() {
        let (summary, truth) = summary();
        let lines = summary.lines(&truth).join("\n");
        for expected in
            ["90.0 %", "75.0 %", "of 200", "00:01:00 to 00:02:00  a total", "after 1 payment, 2.5 s", "b silent", "not avoided"]
        {
            assert!(lines.contains(expected), "{expected}: {lines}");
        }
        assert!(lines.contains("9 requests, one each"), "{lines}");
    }

    #[test]
    fn a_shell_takes_the_words_as_they_are() {
        for (word, expected) in
            [("state/demo", "state/demo"), ("x y", "'x y'"), ("it's", "'it'\\''s'"), ("", "''"), ("$x", "'$x'")]
        {
            assert_eq!(quoted(word), expected);
        }
    }
}
