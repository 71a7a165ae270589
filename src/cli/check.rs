//! `check`: whether `run` would work here, and what to do where it would not.

use super::Verdict;
use super::context::Context;
use super::screen::{Column, remark};
use super::topics;
use anyhow::Result;
use serde::Serialize;
use smartrouter::config::EventLog as LogKind;
use smartrouter::io::store::StateStore;
use std::path::Path;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    /// What was found; what is wrong says what to do.
    detail: String,
}

impl Finding {
    fn of(check: &'static str, result: Result<String>) -> Self {
        match result {
            Ok(detail) => Self { check, ok: true, detail },
            Err(error) => Self { check, ok: false, detail: super::describe(&error) },
        }
    }
}

const COLUMNS: &[Column] = &[
    Column::new("CHECK", "/check"),
    Column::shown("RESULT", "/ok", |ok| if ok.as_bool() == Some(true) { "ok" } else { "PROBLEM" }.to_owned()),
    Column::new("DETAIL", "/detail"),
];

pub(super) fn run(context: &Context) -> Result<Verdict> {
    // Reading it got us here.
    let mut findings = vec![Finding::of("configuration", Ok("well".to_owned()))];
    findings.extend(log_findings(context));
    findings.push(Finding::of("schema registry", registry(context)));
    findings.push(Finding::of("state directory", state_directory(context.state_dir())));
    context.screen().rows(COLUMNS, &findings, "nothing to check")?;
    let problems = findings.iter().filter(|finding| !finding.ok).count();
    if problems == 0 {
        return Ok(Verdict::Done);
    }
    remark(format!("{problems} of {} checks found something", findings.len()));
    Ok(Verdict::Found)
}

/// Topics are looked at only where a log answers.
fn log_findings(context: &Context) -> Vec<Finding> {
    let place = match context.config().runtime.log {
        LogKind::Kafka => format!("Kafka at {}", context.config().kafka.bootstrap_servers),
        LogKind::Embedded => format!("embedded log in {}", context.embedded_dir().display()),
    };
    let log = match context.log() {
        Ok(log) => log,
        Err(error) => return vec![Finding::of("log", Err(error.context(format!("{place} cannot be used"))))],
    };
    let mut findings =
        vec![Finding::of("log", log.log_id().map(|id| format!("{place} answers (cluster {id})")).map_err(Into::into))];
    match topics::plan(context, log.as_ref(), &topics::Options::default()) {
        Err(error) => findings.push(Finding::of("topics", Err(error))),
        Ok(plan) => {
            let missing: Vec<String> = plan.create.iter().map(|topic| topic.name.clone()).collect();
            let topics = if missing.is_empty() {
                Ok(format!("all {} are there, {} settings differ from their declaration", plan.present, plan.differ.len()))
            } else {
                Err(anyhow::anyhow!("missing: {}; run `smartrouter topics apply --execute`", missing.join(", ")))
            };
            findings.push(Finding::of("topics", topics));
            let unequal: Vec<String> =
                plan.unequal.iter().map(|set| format!("{} {:?}: {}", set.set, set.partitions, set.remedy)).collect();
            let shared = if unequal.is_empty() {
                Ok("equal where they have to be".to_owned())
            } else {
                Err(anyhow::anyhow!(unequal.join("; ")))
            };
            findings.push(Finding::of("partitions", shared));
        }
    }
    findings
}

fn registry(context: &Context) -> Result<String> {
    let Some(url) = &context.config().schema_registry.url else {
        return Ok("none configured: schema ids come from schemas/ids.toml".to_owned());
    };
    let registrations = context.codec()?.registrations()?;
    let missing: Vec<&str> = registrations.iter().filter(|it| it.id.is_none()).map(|it| it.subject.as_str()).collect();
    anyhow::ensure!(
        missing.is_empty(),
        "{url} has no schema for {}; run `smartrouter topics apply --execute`",
        missing.join(", ")
    );
    Ok(format!("{url} has all {} schemas", registrations.len()))
}

/// Writable, and not in use. A store that is there is opened as `run` opens it; none is made.
fn state_directory(directory: &Path) -> Result<String> {
    let unusable = |error: std::io::Error| {
        let remedy = "make it writable, or name another with --state-dir";
        anyhow::anyhow!("the state directory {} cannot be used: {error}; {remedy}", directory.display())
    };
    std::fs::create_dir_all(directory).map_err(unusable)?;
    let probe = directory.join(format!(".check-{}", std::process::id()));
    std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe)).map_err(unusable)?;
    if directory.join("store").is_dir() {
        StateStore::open(directory)?;
    }
    Ok(format!("{} is writable and free", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_that_cannot_be_used_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let good = parent.path().join("state");
        assert!(state_directory(&good).unwrap().contains("state"));
        assert_eq!(std::fs::read_dir(&good).unwrap().count(), 0, "the check leaves nothing behind");
        let file = parent.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = state_directory(&file).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("--state-dir"), "{error}");
    }

    #[test]
    fn a_state_directory_in_use_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let _running = StateStore::open(directory.path()).unwrap();
        let error = state_directory(directory.path()).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
    }
}
