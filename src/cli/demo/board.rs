//! What a demo shows while it runs: PSP states and windows, shares of the traffic, approval now beside that of the static rules.
//!
//! Owns the figures of the last 15 simulated minutes and their text. Never prints.

use smartrouter::domain::psp::{HealthState, PspOutage, PspState, SegmentKind};
use smartrouter::domain::{EpochMs, PspId};
use smartrouter::sim::{Comparison, Truth};
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) const MINUTE_MS: i64 = 60_000;
const RECENT_MS: i64 = 15 * MINUTE_MS;
const BAR_CELLS: usize = 24;

/// Collects what the last minutes brought.
pub(super) struct Board {
    psps: Vec<PspId>,
    start_at: EpochMs,
    end_at: EpochMs,
    /// First choices of the last minutes.
    chosen: VecDeque<(EpochMs, PspId)>,
    /// The truth minute by minute: what is newer than the oldest is recent.
    marks: VecDeque<(EpochMs, Truth)>,
}

/// All that is shown at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    at: EpochMs,
    elapsed_ms: i64,
    total_ms: i64,
    rows: Vec<Row>,
    recent_first: Comparison,
    recent: Comparison,
    whole: Comparison,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    psp_id: PspId,
    state: HealthState,
    /// Segments that are worse off than all traffic.
    ailing: Vec<String>,
    attempts: i64,
    approval_rate: f64,
    p95_ms: i64,
    /// Of the first choices.
    share: f64,
}

impl Board {
    pub(super) fn new(psps: Vec<PspId>, start_at: EpochMs, end_at: EpochMs) -> Self {
        Self { psps, start_at, end_at, chosen: VecDeque::new(), marks: VecDeque::from([(start_at, Truth::default())]) }
    }

    pub(super) fn chose(&mut self, at: EpochMs, psp: &PspId) {
        self.chosen.push_back((at, psp.clone()));
    }

    /// Time has come to `now`: what is older than the last minutes is forgotten.
    pub(super) fn pass(&mut self, now: EpochMs, truth: &Truth) {
        if self.marks.back().is_none_or(|(at, _)| now - at >= MINUTE_MS) {
            self.marks.push_back((now, *truth));
        }
        while self.marks.get(1).is_some_and(|(at, _)| now - at >= RECENT_MS) {
            self.marks.pop_front();
        }
        while self.chosen.front().is_some_and(|(at, _)| now - at > RECENT_MS) {
            self.chosen.pop_front();
        }
    }

    pub(super) fn view(&self, now: EpochMs, states: &[Arc<PspState>], truth: &Truth) -> View {
        let before = self.marks.front().map(|(_, truth)| *truth).unwrap_or_default();
        View {
            at: now,
            elapsed_ms: now.min(self.end_at) - self.start_at,
            total_ms: self.end_at - self.start_at,
            rows: self.psps.iter().map(|psp| self.row(psp, states)).collect(),
            recent_first: truth.first_attempts.since(&before.first_attempts),
            recent: truth.payments.since(&before.payments),
            whole: truth.payments,
        }
    }

    fn row(&self, psp: &PspId, states: &[Arc<PspState>]) -> Row {
        let of_psp = || states.iter().filter(|state| state.psp_id == *psp);
        let all = of_psp().find(|state| state.segment.kind == SegmentKind::All);
        let state = all.map(|all| all.state).unwrap_or_default();
        let worse = of_psp().filter(|it| it.segment.kind != SegmentKind::All && it.state.severity() > state.severity());
        let window = all.map(|all| all.windows.last_15m.clone()).unwrap_or_default();
        let chosen = self.chosen.iter().filter(|(_, chosen)| chosen == psp).count();
        Row {
            psp_id: psp.clone(),
            state,
            ailing: worse.map(|it| format!("{} {}", it.segment, it.state)).collect(),
            attempts: window.attempts,
            approval_rate: window.approval_rate,
            p95_ms: window.latency_p95_ms,
            share: chosen as f64 / self.chosen.len().max(1) as f64,
        }
    }
}

impl View {
    /// The table of a terminal, at most 80 columns but for the segments that ail.
    pub(super) fn table(&self) -> Vec<String> {
        let done = (self.elapsed_ms as f64 / self.total_ms.max(1) as f64).clamp(0.0, 1.0);
        let full = (done * BAR_CELLS as f64) as usize;
        let bar = format!("{}{}", "━".repeat(full), "─".repeat(BAR_CELLS - full));
        let mut lines = vec![
            format!("{}  {bar}  {} of {}", clock(self.at), duration(self.elapsed_ms), duration(self.total_ms)),
            String::new(),
        ];
        let width = self.rows.iter().map(|row| row.psp_id.as_str().len()).max().unwrap_or(0).max(8);
        lines.push(format!("{:width$}  {:<10}  {:>18}  {:>8}  {:>7}", "PSP", "STATE", "APPROVED, 15 MIN", "P95", "SHARE"));
        for row in &self.rows {
            let approved =
                if row.attempts == 0 { "-".to_owned() } else { format!("{} of {:>4}", percent(row.approval_rate), row.attempts) };
            let (name, state) = (row.psp_id.as_str(), row.state.to_string());
            let line =
                format!("{name:width$}  {state:<10}  {approved:>18}  {:>8}  {:>7}", seconds(row.p95_ms), percent(row.share));
            lines.push(format!("{line}  {}", ailing(&row.ailing)).trim_end().to_owned());
        }
        lines.push(String::new());
        lines.push(format!("{:<26}{:>8}{:>15}{:>13}", "APPROVED", "ROUTER", "STATIC RULES", "DIFFERENCE"));
        for (what, figures) in
            [("first attempts, 15 min", &self.recent_first), ("payments, 15 min", &self.recent), ("payments so far", &self.whole)]
        {
            lines.push(compared(what, figures));
        }
        lines
    }

    /// One line for those who read it later.
    pub(super) fn line(&self) -> String {
        let psp = |row: &Row| format!("{} {} {}", row.psp_id, row.state, percent(row.share));
        let psps: Vec<String> = self.rows.iter().map(psp).collect();
        let figures = &self.recent_first;
        let approved = if figures.n == 0 {
            "no payments".to_owned()
        } else {
            format!("approved {}, static rules {}", percent(figures.rate()), percent(figures.rate_static()))
        };
        format!("{}  {approved} | {}", clock(self.at), psps.join(", "))
    }
}

fn ailing(segments: &[String]) -> String {
    match segments {
        [] => String::new(),
        [one] => one.clone(),
        [one, others @ ..] => format!("{one}, {} more", others.len()),
    }
}

fn compared(what: &str, figures: &Comparison) -> String {
    if figures.n == 0 {
        return format!("{what:<26}{:>8}{:>15}{:>13}", "-", "-", "-");
    }
    let (rate, by_static) = (figures.rate(), figures.rate_static());
    format!("{what:<26}{:>8}{:>15}{:>+13.1}", percent(rate), percent(by_static), 100.0 * (rate - by_static))
}

/// Changes of state that came together, those of one PSP from and to the same state as one line.
pub(super) fn transitions(outages: &[PspOutage], is_told: impl Fn(&PspOutage) -> bool) -> Vec<String> {
    let mut groups: Vec<Vec<&PspOutage>> = Vec::new();
    for outage in outages.iter().filter(|outage| is_told(outage)) {
        let is_like = |first: &PspOutage| (&first.psp_id, first.from, first.to) == (&outage.psp_id, outage.from, outage.to);
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| is_like(first))) {
            Some(group) => group.push(outage),
            None => groups.push(vec![outage]),
        }
    }
    groups.iter().filter_map(|group| transition(group)).collect()
}

fn transition(group: &[&PspOutage]) -> Option<String> {
    let whole = group.iter().find(|outage| outage.segment.kind == SegmentKind::All);
    let outage = whole.or(group.first())?;
    let segments: Vec<String> = group.iter().map(|outage| outage.segment.to_string()).collect();
    let segments = if whole.is_some() { String::new() } else { format!(" {}", segments.join(", ")) };
    let why = if outage.to.severity() > outage.from.severity() && outage.evidence.n > 0 {
        let codes = if outage.evidence.top_codes.is_empty() {
            String::new()
        } else {
            format!(" ({})", outage.evidence.top_codes.join(", "))
        };
        format!(": {} of {} failed{codes}", outage.evidence.failures, outage.evidence.n)
    } else {
        String::new()
    };
    Some(format!("{}  {}{segments}: {} → {}{why}", clock(outage.at), outage.psp_id, outage.from, outage.to))
}

/// Time of day, UTC.
pub(super) fn clock(at: EpochMs) -> String {
    chrono::DateTime::from_timestamp_millis(at).map_or_else(|| at.to_string(), |time| time.format("%H:%M:%S").to_string())
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Hours and minutes.
pub(super) fn duration(ms: i64) -> String {
    format!("{} h {:02} min", ms / (60 * MINUTE_MS), ms / MINUTE_MS % 60)
}

fn seconds(ms: i64) -> String {
    if ms == 0 { "-".to_owned() } else { format!("{:.1} s", ms as f64 / 1_000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartrouter::domain::psp::{Detector, Evidence, OutageCause, Segment, Severity, WindowStats, Windows};

    const START: EpochMs = 1_767_636_000_000;

    fn state(psp: &str, segment: Segment, state: HealthState) -> Arc<PspState> {
        let last_15m = WindowStats { attempts: 40, approval_rate: 0.825, latency_p95_ms: 1_250, ..WindowStats::default() };
        Arc::new(PspState {
            psp_id: psp.into(),
            segment,
            state,
            since: START,
            version: 1,
            windows: Windows { last_15m, ..Windows::default() },
            health_score: 1.0,
            detector: Detector::default(),
            manual: None,
            recovery: None,
            updated_at: START,
        })
    }

    fn truth(n: u64, approved: u64, approved_static: u64) -> Truth {
        let comparison = Comparison { n, approved, approved_static, approved_oracle: n };
        Truth { first_attempts: comparison, payments: comparison, ..Truth::default() }
    }

    fn brand(value: &str) -> Segment {
        Segment { kind: SegmentKind::Brand, value: value.into() }
    }

    #[test]
    fn the_last_minutes_count_and_older_ones_are_forgotten() {
        let mut board = Board::new(vec!["a".into(), "b".into()], START, START + 240 * MINUTE_MS);
        for minute in 0..40 {
            let at = START + minute * MINUTE_MS;
            board.chose(at, &PspId::new(if minute < 30 { "a" } else { "b" }));
            board.pass(at, &truth(10 * minute as u64, 5 * minute as u64, 4 * minute as u64));
        }
        let states = [state("a", Segment::all(), HealthState::Up), state("a", brand("VISA"), HealthState::Down)];
        let view = board.view(START + 39 * MINUTE_MS, &states, &truth(400, 200, 160));
        assert_eq!(view.recent, Comparison { n: 160, approved: 80, approved_static: 64, approved_oracle: 160 });
        assert_eq!(view.rows[0].share, 6.0 / 16.0);
        assert_eq!(view.rows[0].ailing, ["BRAND:VISA DOWN"]);
        assert_eq!((view.rows[1].state, view.rows[1].attempts), (HealthState::Up, 0), "nothing is known of it yet");
        let table = view.table();
        assert!(table[0].starts_with("18:39:00  ━━━") && table[0].ends_with("0 h 39 min of 4 h 00 min"), "{}", table[0]);
        assert_eq!(table[3].split_whitespace().collect::<Vec<_>>().join(" "), "a UP 82.5 % of 40 1.2 s 37.5 % BRAND:VISA DOWN");
        assert!(table[5].is_empty() && table[7].contains("50.0 %") && table[8].contains("+10.0"), "{table:#?}");
        assert_eq!(view.line(), "18:39:00  approved 50.0 %, static rules 40.0 % | a UP 37.5 %, b UP 62.5 %");
    }

    #[test]
    fn an_empty_world_divides_by_nothing() {
        let board = Board::new(vec!["a".into()], START, START);
        let view = board.view(START, &[], &Truth::default());
        assert!(view.table().iter().all(|line| !line.contains("NaN") && line.chars().count() <= 80), "{:#?}", view.table());
        assert!(view.line().contains("no payments"));
    }

    fn outage(segment: Segment, from: HealthState, to: HealthState) -> PspOutage {
        let evidence = Evidence { n: 40, failures: 22, top_codes: vec!["timeout".into(), "96".into()], ..Evidence::default() };
        PspOutage {
            outage_id: "o".into(),
            psp_id: "a".into(),
            segment,
            from,
            to,
            at: START,
            first_evidence_at: START,
            severity: Severity::Critical,
            cause: OutageCause::Timeouts,
            evidence,
            payments_at_risk: 0,
            amount_at_risk_minor: 0,
            diverted: Vec::new(),
            summary: String::new(),
        }
    }

    #[test]
    fn what_changes_together_is_one_line() {
        use HealthState::{Down, Recovering, Up};
        let outages =
            [outage(brand("VISA"), Up, Down), outage(Segment::all(), Up, Down), outage(brand("CARNET"), Down, Recovering)];
        let all = transitions(&outages, |_| true);
        assert_eq!(all, ["18:00:00  a: UP → DOWN: 22 of 40 failed (timeout, 96)", "18:00:00  a BRAND:CARNET: DOWN → RECOVERING"]);
        let segments = transitions(&outages, |outage| outage.segment.kind != SegmentKind::All);
        assert_eq!(segments[0], "18:00:00  a BRAND:VISA: UP → DOWN: 22 of 40 failed (timeout, 96)");
        assert!(transitions(&outages, |_| false).is_empty());
    }
}
