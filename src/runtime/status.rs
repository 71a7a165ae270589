//! How this instance is doing, as seen from outside: whether it lives, whether it is ready, and if not, why.
//!
//! Owns the answers to `/livez` and `/readyz`. Written by the task groups at turns of their loop, assignments and restores
//! (never per record); read by the admin server. Never decides anything: nothing in the runtime reads it.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where the process stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Starting,
    Running,
    /// Told to stop: commits what it has, takes nothing new.
    Draining,
    Stopped,
}

/// Where one task (a partition's work) stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum TaskState {
    Restoring,
    Running,
    /// Stopped, with its state as it was committed; whether it goes on by itself the reason says.
    Failed {
        reason: String,
    },
}

/// One per process, shared by the task groups and the admin server.
#[derive(Debug)]
pub struct Status {
    started: Instant,
    /// A group whose loop has not turned for this long counts as hung.
    stall_max: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Task groups (threads) by name.
    groups: BTreeMap<String, Group>,
    /// Why the log cannot be reached, while it cannot.
    log_unavailable: Option<String>,
}

#[derive(Debug)]
struct Group {
    turned: Instant,
    /// Whether the consumer group has ever answered with an assignment, be it an empty one.
    assigned: bool,
    tasks: BTreeMap<String, TaskState>,
    /// Why it had to begin again, until it works.
    failure: Option<String>,
}

/// What `/readyz` and `/livez` answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub ready: bool,
    pub live: bool,
    pub phase: Phase,
    pub uptime_seconds: u64,
    /// Why it is not ready or not live; empty when it is both.
    pub reasons: Vec<String>,
    /// Tasks by task group.
    pub groups: BTreeMap<String, BTreeMap<String, TaskState>>,
}

impl Status {
    pub fn new(stall_max: Duration) -> Self {
        let inner = Inner { phase: Phase::Starting, groups: BTreeMap::new(), log_unavailable: None };
        Self { started: Instant::now(), stall_max, inner: Mutex::new(inner) }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// Announces a task group: until its first assignment the instance is not ready.
    pub fn add_group(&self, group: &str) {
        self.lock()
            .groups
            .insert(group.to_owned(), Group { turned: Instant::now(), assigned: false, tasks: BTreeMap::new(), failure: None });
    }

    /// A task group has ended in order.
    pub fn remove_group(&self, group: &str) {
        self.lock().groups.remove(group);
    }

    /// A group's loop has turned, or its restore made progress: it is not hung.
    pub fn turned(&self, group: &str) {
        self.with_group(group, |it| it.turned = Instant::now());
    }

    /// The consumer group has answered; with no tasks at all this instance stands by, and is ready.
    pub fn assigned(&self, group: &str, tasks: &[String]) {
        self.with_group(group, |it| {
            it.assigned = true;
            it.tasks.extend(tasks.iter().map(|task| (task.clone(), TaskState::Restoring)));
        });
    }

    /// A group drops its work and begins again from the last commit.
    pub fn failed(&self, group: &str, why: String) {
        self.with_group(group, |it| it.failure = Some(why));
    }

    pub fn set_task(&self, group: &str, task: &str, state: TaskState) {
        self.with_group(group, |it| {
            if state == TaskState::Running {
                it.failure = None;
            }
            it.tasks.insert(task.to_owned(), state);
        });
    }

    pub fn revoked(&self, group: &str, tasks: &[String]) {
        self.with_group(group, |it| it.tasks.retain(|task, _| !tasks.contains(task)));
    }

    /// `Some(why)` while the log does not answer, `None` once it does again.
    pub fn set_log_unavailable(&self, why: Option<String>) {
        self.lock().log_unavailable = why;
    }

    pub fn report(&self) -> Report {
        let inner = self.lock();
        let hung = hung_reasons(&inner, self.stall_max);
        let waiting = waiting_reasons(&inner);
        let groups = inner.groups.iter().map(|(name, group)| (name.clone(), group.tasks.clone())).collect();
        Report {
            ready: hung.is_empty() && waiting.is_empty(),
            live: hung.is_empty(),
            phase: inner.phase,
            uptime_seconds: self.started.elapsed().as_secs(),
            reasons: hung.into_iter().chain(waiting).collect(),
            groups,
        }
    }

    fn with_group(&self, group: &str, change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.lock().groups.get_mut(group) {
            change(group);
        }
    }

    /// A thread that panicked while holding the lock leaves whole values behind: each change is one assignment.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What only a restart can mend.
fn hung_reasons(inner: &Inner, stall_max: Duration) -> Vec<String> {
    let hung = inner.groups.iter().filter(|(_, group)| group.turned.elapsed() > stall_max);
    hung.map(|(name, group)| format!("{name}: its loop has not turned for {} s", group.turned.elapsed().as_secs())).collect()
}

/// What passes, or needs an operator.
fn waiting_reasons(inner: &Inner) -> Vec<String> {
    let mut reasons = Vec::new();
    match inner.phase {
        Phase::Running => {}
        Phase::Starting => reasons.push("starting".to_owned()),
        Phase::Draining => reasons.push("draining: told to stop".to_owned()),
        Phase::Stopped => reasons.push("stopped".to_owned()),
    }
    if let Some(why) = &inner.log_unavailable {
        reasons.push(format!("the log does not answer: {why}"));
    }
    if inner.phase == Phase::Running && inner.groups.is_empty() {
        reasons.push("no task group has joined yet".to_owned());
    }
    for (name, group) in &inner.groups {
        if !group.assigned {
            reasons.push(format!("{name}: no assignment yet"));
        }
        if let Some(why) = &group.failure {
            reasons.push(format!("{name}: begins again after: {why}"));
        }
        for (task, state) in &group.tasks {
            match state {
                TaskState::Running => {}
                TaskState::Restoring => reasons.push(format!("{task}: restoring its state")),
                TaskState::Failed { reason } => reasons.push(format!("{task}: failed: {reason}")),
            }
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Duration = Duration::from_secs(3_600);

    fn check(build: impl FnOnce(&Status), ready: bool, reason: &str) {
        let status = Status::new(PATIENT);
        status.add_group("tasks-0");
        build(&status);
        let report = status.report();
        assert_eq!(report.ready, ready, "{reason}: {report:?}");
        assert!(report.live, "{report:?}");
        if ready {
            assert!(report.reasons.is_empty(), "{report:?}");
        } else {
            assert!(report.reasons.iter().any(|it| it.contains(reason)), "{reason}: {report:?}");
        }
    }

    fn running(status: &Status) {
        status.set_phase(Phase::Running);
        status.assigned("tasks-0", &["payment-1".to_owned(), "stats-1".to_owned()]);
        status.set_task("tasks-0", "payment-1", TaskState::Running);
        status.set_task("tasks-0", "stats-1", TaskState::Running);
    }

    #[test]
    fn readiness_names_what_is_missing() {
        check(|_| {}, false, "starting");
        check(|status| status.set_phase(Phase::Running), false, "no assignment");
        check(running, true, "");
        check(
            |status| {
                status.set_phase(Phase::Running);
                status.assigned("tasks-0", &[]);
            },
            true,
            "an instance without partitions stands by",
        );
        check(
            |status| {
                running(status);
                status.assigned("tasks-0", &["payment-2".to_owned()]);
            },
            false,
            "payment-2: restoring",
        );
        check(
            |status| {
                running(status);
                status.set_task("tasks-0", "stats-1", TaskState::Failed { reason: "disk full".to_owned() });
            },
            false,
            "stats-1: failed: disk full",
        );
        check(
            |status| {
                running(status);
                status.set_task("tasks-0", "stats-1", TaskState::Restoring);
                status.revoked("tasks-0", &["stats-1".to_owned()]);
            },
            true,
            "",
        );
        check(
            |status| {
                running(status);
                status.set_log_unavailable(Some("connection refused".to_owned()));
            },
            false,
            "connection refused",
        );
        check(
            |status| {
                running(status);
                status.set_phase(Phase::Draining);
            },
            false,
            "draining",
        );
    }

    #[test]
    fn what_made_a_group_begin_again_is_told_until_it_works() {
        let status = Status::new(PATIENT);
        status.add_group("tasks-0");
        running(&status);
        status.failed("tasks-0", "transactions stay open".to_owned());
        status.set_task("tasks-0", "stats-1", TaskState::Restoring);
        let told = status.report().reasons.join("; ");
        assert!(told.contains("tasks-0: begins again after: transactions stay open") && told.contains("stats-1"), "{told}");
        status.set_task("tasks-0", "stats-1", TaskState::Running);
        assert!(status.report().ready, "{:?}", status.report());
    }

    #[test]
    fn a_loop_that_does_not_turn_is_not_live() {
        let status = Status::new(Duration::ZERO);
        status.add_group("tasks-0");
        running(&status);
        std::thread::sleep(Duration::from_millis(2));
        let report = status.report();
        assert!(!report.live && !report.ready && report.reasons[0].contains("tasks-0"), "{report:?}");
        status.remove_group("tasks-0");
        assert!(status.report().live);
        assert!(!status.report().ready, "nothing works here any more");
    }
}
