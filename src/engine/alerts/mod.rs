//! What people are told of transitions: which of them, when, and in what words.
//!
//! Owns, for one sink, the book of segments of which something was told or kept back. Never sends anything and never knows a vendor:
//! `tell` and `due` return an alert and the book as it is once that has been delivered, so that a caller who fails, or dies, begins
//! again from the book before. Fed by the runtime with the records of `psp.outages` in their order, and with the time.
//!
//! Kept back is what happens during a maintenance, what is no news any more, and, for a sink that groups, what only repeats an alarm
//! that was told a moment ago. Of a segment that is still out when its time has come, one summary is told. The end of an outage that
//! was told is told in any case, but for flapping.

mod rules;
mod words;
#[cfg(test)]
pub(crate) mod tests;

pub use rules::{AlertRules, Maintenance, SegmentFilter, Style};

use super::hashing;
use crate::domain::EpochMs;
use crate::domain::alert::{Alert, Change, ChangeKind};
use crate::domain::psp::{HealthState, PspOutage, PspState, Severity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// What one sink has told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    /// By `psp_id/segment`.
    segments: BTreeMap<String, Watched>,
}

/// A segment of which something was told or kept back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    last: PspOutage,
    /// The outage that was told, while it lasts.
    told: Option<String>,
    /// When something was told of it last.
    told_at: EpochMs,
    /// How bad the worst turn was that was told within the quiet time, and when.
    alarm: Option<(EpochMs, u8)>,
    hold: Option<Hold>,
}

/// Transitions that were kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    why: KeptBack,
    /// When a summary is due.
    until: EpochMs,
    transitions: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptBack {
    Maintenance,
    /// It happened too long ago to be news.
    Age,
    Flapping,
}

impl KeptBack {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Age => "age",
            Self::Flapping => "flapping",
        }
    }
}

/// When an alert is made, and what is known by then.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub now: EpochMs,
    /// As published; for telling a common cause from a PSP's.
    pub states: &'a [Arc<PspState>],
}

/// What to send, and what holds once it was delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub alert: Option<Alert>,
    pub book: Book,
    pub kept_back: Vec<(PspOutage, KeptBack)>,
}

/// The key of a segment in the book.
fn key_of(outage: &PspOutage) -> String {
    format!("{}/{}", outage.psp_id, outage.segment)
}

impl Book {
    /// The book that these entries, in any order, were stored from.
    pub fn restore(entries: impl IntoIterator<Item = Watched>) -> Self {
        Self { segments: entries.into_iter().map(|watched| (key_of(&watched.last), watched)).collect() }
    }

    /// What differs from an older book: the entry of each key, or none where it is gone.
    pub fn changes_since<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = (&'a str, Option<&'a Watched>)> {
        let put = self.segments.iter().filter(|(key, watched)| older.segments.get(*key) != Some(watched));
        let gone = older.segments.keys().filter(|key| !self.segments.contains_key(*key));
        put.map(|(key, watched)| (key.as_str(), Some(watched))).chain(gone.map(|key| (key.as_str(), None)))
    }

    /// What is to be told of these transitions, which are told together.
    pub fn tell(&self, transitions: &[PspOutage], moment: Moment<'_>, rules: &AlertRules) -> Plan {
        let mut book = self.clone();
        let (mut changes, mut kept_back) = (Vec::new(), Vec::new());
        for outage in transitions {
            match book.take(outage, moment.now, rules) {
                Taken::Told => changes.push(words::change(outage, ChangeKind::Transition, 1, (moment.now, rules))),
                Taken::Kept(why) => kept_back.push((outage.clone(), why)),
                Taken::Ignored => {}
            }
        }
        let alert = book.alert(changes, "", moment, rules);
        Plan { alert, book, kept_back }
    }

    /// What is to be told because its time has come; none while nothing is due. All transitions up to now have to be in the book.
    pub fn due(&self, moment: Moment<'_>, rules: &AlertRules) -> Option<Plan> {
        let now = moment.now;
        if !self.segments.values().any(|watched| watched.due(now, rules).is_some()) {
            return None;
        }
        let mut book = self.clone();
        let mut changes = Vec::new();
        let mut told_before = String::new();
        for watched in book.segments.values_mut() {
            let Some(due) = watched.due(now, rules) else { continue };
            let _ = write!(told_before, "{} ", watched.told_at);
            if let Some((kind, transitions)) = watched.summarize(due, now, rules) {
                changes.push(words::change(&watched.last, kind, transitions, (now, rules)));
                if rules.style == Style::Each {
                    break;
                }
            }
        }
        book.prune(now, rules);
        let alert = book.alert(changes, &told_before, moment, rules);
        Some(Plan { alert, book, kept_back: Vec::new() })
    }

    fn take(&mut self, outage: &PspOutage, now: EpochMs, rules: &AlertRules) -> Taken {
        if !rules.wants(outage) {
            return Taken::Ignored;
        }
        let key = key_of(outage);
        let known = self.segments.remove(&key);
        let mut watched = known.clone().unwrap_or_else(|| Watched::new(outage));
        let taken = watched.take(outage, now, rules);
        if taken != Taken::Ignored || known.is_some() {
            self.segments.insert(key, watched);
        }
        self.prune(now, rules);
        taken
    }

    /// Forgets those of which there is nothing more to tell.
    fn prune(&mut self, now: EpochMs, rules: &AlertRules) {
        self.segments.retain(|_, watched| {
            let quiet = watched.alarm.is_some_and(|(at, _)| now - at < rules.quiet_ms);
            watched.hold.is_some() || watched.told.is_some() || quiet
        });
    }

    /// `told_before` tells summaries of the same transitions apart.
    fn alert(&self, changes: Vec<Change>, told_before: &str, moment: Moment<'_>, rules: &AlertRules) -> Option<Alert> {
        let severity = changes.iter().map(|change| loudness(&change.outage, change.kind)).max()?;
        let mut name = told_before.to_owned();
        for Change { outage, kind, .. } in &changes {
            let _ = write!(name, "\n{} {} {} {kind:?}", outage.outage_id, outage.to, outage.at);
        }
        let key = hashing::stable_id("alert", &name);
        let lasts = self.segments.values().map(|watched| &watched.last);
        let common_cause = words::common_cause(&changes, lasts, moment.states);
        let title = words::title(&changes, common_cause.is_some(), rules);
        Some(Alert { key, severity, title, common_cause, perhaps_repeated: false, changes })
    }
}

/// What became of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Told,
    Kept(KeptBack),
    /// It is not for this sink.
    Ignored,
}

/// What is due of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Held(Hold),
    Reminder,
}

impl Watched {
    fn new(outage: &PspOutage) -> Self {
        Self { last: outage.clone(), told: None, told_at: 0, alarm: None, hold: None }
    }

    fn take(&mut self, outage: &PspOutage, now: EpochMs, rules: &AlertRules) -> Taken {
        let was_told = self.told.as_ref() == Some(&outage.outage_id);
        let matters = was_told || outage.severity >= rules.severity_min;
        self.last = outage.clone();
        match self.keeps_back(outage, now, rules) {
            // What is of no interest by itself is part of what is kept back.
            Some(hold) if matters || self.hold.is_some() => {
                self.hold = Some(hold);
                return Taken::Kept(hold.why);
            }
            None if matters => {
                self.hold = None;
                self.note_told(now, rules);
                return Taken::Told;
            }
            Some(_) | None => {}
        }
        if outage.to == HealthState::Up {
            // It is over, and was never told.
            (self.hold, self.told) = (None, None);
        }
        Taken::Ignored
    }

    /// Why this transition is not told at once, and what is kept back with it.
    fn keeps_back(&self, outage: &PspOutage, now: EpochMs, rules: &AlertRules) -> Option<Hold> {
        let transitions = self.hold.map_or(0, |hold| hold.transitions) + 1;
        let flapping = |until: EpochMs| Hold { why: KeptBack::Flapping, until, transitions };
        let rank = outage.to.severity();
        let is_turn = outage.severity > Severity::Info && rank > 0;
        let worse = is_turn && self.alarm.is_none_or(|(_, told)| rank > told);
        match self.hold {
            Some(hold) if hold.why == KeptBack::Flapping && !worse => return Some(flapping(hold.until)),
            _ => {}
        }
        // The end of what was told.
        if outage.to == HealthState::Up && self.told.as_ref() == Some(&outage.outage_id) {
            return None;
        }
        if let Some(maintenance) = rules.maintenance_of(outage) {
            return Some(Hold { why: KeptBack::Maintenance, until: maintenance.to, transitions });
        }
        if now - outage.at > rules.age_max_ms {
            return Some(Hold { why: KeptBack::Age, until: 0, transitions });
        }
        let recent = self.alarm.is_some_and(|(at, _)| now - at < rules.quiet_ms);
        (rules.style == Style::Grouped && is_turn && recent && !worse).then(|| flapping(now + rules.quiet_ms))
    }

    fn note_told(&mut self, now: EpochMs, rules: &AlertRules) {
        let out = self.last.to != HealthState::Up;
        self.told = out.then(|| self.last.outage_id.clone());
        self.told_at = now;
        if out && self.last.severity > Severity::Info {
            let rank = self.last.to.severity();
            let recent = self.alarm.filter(|(at, _)| now - at < rules.quiet_ms);
            self.alarm = Some((now, recent.map_or(rank, |(_, told)| told.max(rank))));
        }
    }

    fn due(&self, now: EpochMs, rules: &AlertRules) -> Option<Due> {
        if let Some(hold) = self.hold {
            return (now >= hold.until).then_some(Due::Held(hold));
        }
        let down = self.last.to == HealthState::Down && self.told.is_some();
        let reminded = rules.style == Style::Grouped && rules.remind_ms > 0 && now - self.told_at >= rules.remind_ms;
        (down && reminded).then_some(Due::Reminder)
    }

    /// What is told of it, with the number of transitions that this stands for; none where all is well again.
    fn summarize(&mut self, due: Due, now: EpochMs, rules: &AlertRules) -> Option<(ChangeKind, u32)> {
        self.hold = None;
        match due {
            Due::Reminder => {
                self.told_at = now;
                Some((ChangeKind::Reminder, 1))
            }
            Due::Held(hold) => {
                let kind = if hold.why == KeptBack::Flapping { ChangeKind::Flapping } else { ChangeKind::StillOut };
                let matters = self.told.is_some() || loudness(&self.last, kind) >= rules.severity_min;
                let over = self.last.to == HealthState::Up && kind == ChangeKind::StillOut;
                if over || !matters {
                    self.told = self.told.take().filter(|_| self.last.to != HealthState::Up);
                    return None;
                }
                self.note_told(now, rules);
                // Whoever goes on flapping is told of once in each quiet time.
                self.alarm = self.alarm.map(|(_, worst)| (now, worst));
                Some((kind, hold.transitions))
            }
        }
    }
}

/// How loud a change is: one that is told late is as loud as the state that it tells of.
fn loudness(outage: &PspOutage, kind: ChangeKind) -> Severity {
    match (kind, outage.to) {
        (ChangeKind::Transition, _) => outage.severity,
        (_, HealthState::Down) => Severity::Critical,
        (_, HealthState::Degraded | HealthState::Recovering) => Severity::Warning,
        (_, HealthState::Up | HealthState::Unknown) => Severity::Info,
    }
}
