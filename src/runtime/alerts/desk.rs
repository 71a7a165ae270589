//! One sink's work: transitions wait until they are told, an alert is sent until it is taken, and only then the offset moves on.
//!
//! Owns what was read and not yet told. One alert is under way at a time, and it is announced first: whoever finds an announcement
//! without a result sends that alert again, the same under the same key, and says that it may be a repeat. Nothing else can be told
//! twice, and nothing is lost.

use super::stored::Announced;
use super::{Line, Office};
use crate::domain::EpochMs;
use crate::domain::alert::Alert;
use crate::domain::psp::PspOutage;
use crate::engine::alerts::{Book, Moment, Plan, Style};
use crate::io::alert::Delivery;
use crate::io::failpoint;
use crate::io::log::{GroupMember, LogError, Output, Position, Record, Txn};
use crate::telemetry;
use metrics::{counter, gauge};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Transitions that wait; then reading does.
const WAITING_MAX: usize = 1_000;
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a commit of what was told is tried before the group is joined anew.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);
const COMMIT_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Desk {
    line: Line,
    group: String,
    /// Absent while another instance serves the sink.
    work: Option<Work>,
}

struct Waiting {
    offset: i64,
    read_at: EpochMs,
    /// Absent: it cannot be read.
    outage: Option<PspOutage>,
}

struct Work {
    /// The committed offset: all before it was told.
    position: i64,
    book: Book,
    announced: Option<Announced>,
    /// Whether the alert under way may have arrived already.
    in_doubt: bool,
    waiting: VecDeque<Waiting>,
    /// Behind what was read, and whether that was all there is.
    read_to: i64,
    read_all: bool,
    is_paused: bool,
    /// After failures: not before then.
    retry: Option<(Instant, Duration)>,
}

impl Desk {
    pub(super) fn new(line: Line, group: &str) -> Self {
        Self { line, group: group.to_owned(), work: None }
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    pub(super) fn put_down(&mut self) {
        if self.work.take().is_some() {
            gauge!(telemetry::ALERT_WAIT_SECONDS, "sink" => self.line.name.clone()).set(0.0);
        }
    }

    /// Goes on from what is committed. A group that has never been there begins with what happens from now on.
    pub(super) fn take_up(&mut self, office: &Office, member: &mut dyn GroupMember) -> Result<(), LogError> {
        let at = &office.outages;
        let of = std::slice::from_ref(at);
        let committed = member.committed(of)?.get(at).copied().flatten();
        let stored = office.restore(&self.group)?;
        let position = if let Some(position) = committed {
            position
        } else {
            let end = office.log.reader()?.ends(of)?.get(at).map_or(0, |ends| ends.settled);
            // From here on the group is there: what happens while no instance runs is told later.
            member.commit(Txn { outputs: Vec::new(), input_offsets: BTreeMap::from([(at.clone(), end)]) })?;
            tracing::info!(group = self.group, offset = end, "alerts begin with what happens from now on");
            end
        };
        member.start(&[(at.clone(), Position::At(position))])?;
        // Of an announcement that its offset has overtaken, by an operator's hand, nothing is left to tell.
        let announced = stored.announced.filter(|announced| announced.until >= position);
        self.work = Some(Work {
            position,
            book: stored.book,
            announced,
            in_doubt: announced.is_some(),
            waiting: VecDeque::new(),
            read_to: position,
            read_all: false,
            is_paused: false,
            retry: None,
        });
        Ok(())
    }

    pub(super) fn read(&mut self, record: &Record, office: &Office, now: EpochMs) {
        let Some(work) = &mut self.work else { return };
        let decoded = record.value.as_ref().map(|value| office.shared.codec.decode::<PspOutage>(value));
        let outage = match decoded {
            Some(Ok(outage)) => Some(outage),
            Some(Err(error)) => {
                counter!(telemetry::ALERTS_KEPT_BACK, "sink" => self.line.name.clone(), "reason" => "unreadable").increment(1);
                tracing::error!(sink = self.line.name, offset = record.offset, %error, "a transition cannot be read, so nobody is told");
                None
            }
            None => None,
        };
        work.waiting.push_back(Waiting { offset: record.offset, read_at: now, outage });
        (work.read_to, work.read_all) = (record.offset + 1, false);
    }

    pub(super) fn read_all(&mut self) {
        if let Some(work) = &mut self.work {
            work.read_all = true;
        }
    }

    /// Sends what is due, one alert at most, and commits that it was told.
    pub(super) fn turn(&mut self, office: &Office, member: &mut dyn GroupMember) -> Result<(), LogError> {
        let now = super::wall_ms();
        let Some(work) = &mut self.work else { return Ok(()) };
        let oldest = work.waiting.front().map_or(0, |waiting| now - waiting.read_at);
        gauge!(telemetry::ALERT_WAIT_SECONDS, "sink" => self.line.name.clone()).set(oldest as f64 / 1e3);
        work.pace_reading(office, member)?;
        if work.retry.is_some_and(|(at, _)| Instant::now() < at) {
            return Ok(());
        }
        let Some((next, plan)) = self.next(office, now) else { return Ok(()) };
        if let Some(alert) = plan.alert {
            self.announce(next, office, member)?;
            if !self.deliver(alert) {
                return Ok(());
            }
        }
        self.told(next.until, plan.book, office, member)?;
        for (outage, why) in &plan.kept_back {
            counter!(telemetry::ALERTS_KEPT_BACK, "sink" => self.line.name.clone(), "reason" => why.as_str()).increment(1);
            let (sink, psp, segment) = (&self.line.name, outage.psp_id.as_str(), outage.segment.to_string());
            tracing::info!(sink, psp, segment, from = %outage.from, to = %outage.to, reason = why.as_str(), "not told one by one");
        }
        Ok(())
    }

    /// What to tell next.
    fn next(&self, office: &Office, now: EpochMs) -> Option<(Announced, Plan)> {
        let (work, rules) = (self.work.as_ref()?, &self.line.rules);
        let next = match work.announced {
            Some(announced) if announced.until > work.read_to && !work.read_all => return None,
            Some(announced) => announced,
            None => Announced { until: work.due(&self.line, now)?, at: now },
        };
        let transitions: Vec<PspOutage> =
            work.waiting.iter().take_while(|it| it.offset < next.until).filter_map(|it| it.outage.clone()).collect();
        if next.until > work.position {
            let states = if transitions.is_empty() { Vec::new() } else { office.shared.global.states() };
            return Some((next, work.book.tell(&transitions, Moment { now: next.at, states: &states }, rules)));
        }
        // Asked at every turn, and hardly ever due.
        if work.book.due(Moment { now: next.at, states: &[] }, rules).is_none() {
            // What was announced is due no more, by other rules than before: it is taken back.
            let nothing = || Plan { alert: None, book: work.book.clone(), kept_back: Vec::new() };
            return work.announced.is_some().then(|| (next, nothing()));
        }
        let states = office.shared.global.states();
        work.book.due(Moment { now: next.at, states: &states }, rules).map(|plan| (next, plan))
    }

    /// From here on, whoever takes over knows that this alert may have been sent, and what it tells.
    fn announce(&mut self, next: Announced, office: &Office, member: &mut dyn GroupMember) -> Result<(), LogError> {
        let Some(work) = self.work.as_mut().filter(|work| work.announced.is_none()) else { return Ok(()) };
        let input_offsets = BTreeMap::from([(office.outages.clone(), work.position)]);
        member.commit(Txn { outputs: vec![office.announcement(&self.group, Some(next))], input_offsets })?;
        work.announced = Some(next);
        failpoint::pass("alert-announced");
        Ok(())
    }

    /// Whether the alert is done with: taken, or refused for good.
    fn deliver(&mut self, mut alert: Alert) -> bool {
        let Some(work) = &mut self.work else { return false };
        alert.perhaps_repeated = work.in_doubt;
        let (sink, title) = (self.line.name.clone(), alert.title.clone());
        let count = |outcome| counter!(telemetry::ALERTS, "sink" => sink.clone(), "outcome" => outcome).increment(1);
        match self.line.sink.deliver(&alert) {
            Delivery::Delivered => count("delivered"),
            Delivery::Refused { reason } => {
                count("refused");
                tracing::error!(sink, title, reason, "an alert was refused for good, and is lost");
            }
            Delivery::TryAgain { after, reason, in_doubt } => {
                count("retried");
                work.in_doubt |= in_doubt;
                let pause = work.retry.map_or(RETRY_MIN, |(_, pause)| (pause * 2).min(RETRY_MAX));
                let wait = after.unwrap_or(pause);
                work.retry = Some((Instant::now() + wait, pause));
                tracing::warn!(
                    sink,
                    title,
                    reason,
                    wait_ms = wait.as_millis() as u64,
                    "an alert was not delivered: it is sent again"
                );
                return false;
            }
        }
        true
    }

    /// Commits that all below `until` was told. As it was, this goes on until it is known to be committed: what is not would be told again.
    fn told(&mut self, until: i64, book: Book, office: &Office, member: &mut dyn GroupMember) -> Result<(), LogError> {
        let Some(work) = &mut self.work else { return Ok(()) };
        let mut outputs = office.entries(&self.group, &book, &work.book);
        if work.announced.is_some() {
            outputs.push(office.announcement(&self.group, None));
        }
        commit_surely(outputs, until, office, member)?;
        failpoint::pass("alert-committed");
        while work.waiting.front().is_some_and(|waiting| waiting.offset < until) {
            work.waiting.pop_front();
        }
        (work.position, work.book, work.announced, work.in_doubt, work.retry) = (until, book, None, false, None);
        Ok(())
    }
}

fn commit_surely(outputs: Vec<Output>, until: i64, office: &Office, member: &mut dyn GroupMember) -> Result<(), LogError> {
    let txn = Txn { outputs, input_offsets: BTreeMap::from([(office.outages.clone(), until)]) };
    let begun = Instant::now();
    loop {
        match member.commit(txn.clone()) {
            Ok(_) => return Ok(()),
            // Whether it went through or not: the same again does no harm.
            Err(error @ (LogError::Unsettled(_) | LogError::Unavailable(_))) if begun.elapsed() < COMMIT_PATIENCE => {
                tracing::warn!(%error, "what was told is committed again");
                office.stop.pause(COMMIT_PAUSE);
                // A failure of this shows in the next commit.
                let _ = member.recover();
            }
            Err(error) => return Err(error),
        }
    }
}

impl Work {
    /// Behind which transitions the next alert ends; the position itself when only the time may bring one. None: nothing yet.
    fn due(&self, line: &Line, now: EpochMs) -> Option<i64> {
        let Some(first) = self.waiting.front() else { return self.read_all.then_some(self.position) };
        match line.rules.style {
            Style::Each => Some(first.offset + 1),
            Style::Grouped if now - first.read_at >= line.group_ms || self.is_paused => Some(self.read_to),
            Style::Grouped => None,
        }
    }

    fn pace_reading(&mut self, office: &Office, member: &mut dyn GroupMember) -> Result<(), LogError> {
        let of = std::slice::from_ref(&office.outages);
        // Of what is announced all is wanted, however much it is.
        let is_wanted = self.announced.is_some_and(|announced| announced.until > self.read_to);
        match (self.is_paused, self.waiting.len() >= WAITING_MAX && !is_wanted) {
            (false, true) => member.pause(of)?,
            (true, false) => member.resume(of)?,
            _ => return Ok(()),
        }
        self.is_paused = !self.is_paused;
        Ok(())
    }
}
