//! The demo as a user runs it: an outage is met, the same seed tells the same, and `--resume` goes on where it stopped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: a panic is the failure report")]

use serde_json::Value;
use smartrouter::domain::decision::RoutingDecision;
use smartrouter::io::codec::Codec;
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::{EventLog, Polled, Position, TopicPartition};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// One PSP fails for ten minutes.
const SCENARIO: &str =
    "name = 'test'\n[[outages]]\npsp = 'worldpay'\nfrom_ms = 900000\nto_ms = 1500000\nfault = { kind = 'total' }\n";

/// Runs in `dir`, which no configuration file is in, with no environment of ours.
fn smartrouter(dir: &Path, arguments: &[&str]) -> Output {
    let ours = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("SMARTROUTER"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartrouter"));
    ours.for_each(|name| {
        command.env_remove(name);
    });
    command.current_dir(dir).args(arguments).output().unwrap()
}

fn demo(dir: &Path, state_dir: &str, more: &[&str]) -> Value {
    let fixed = ["demo", "--hours", "0.5", "--scenario", "s.toml", "--output", "json", "--state-dir", state_dir];
    std::fs::write(dir.join("s.toml"), SCENARIO).unwrap();
    let output = smartrouter(dir, &[&fixed[..], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), 1, "nothing but the object: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Request ids of all decisions in the log.
fn decided(state_dir: &Path) -> Vec<String> {
    let log = EmbeddedLog::open(state_dir.join("log"), EmbeddedOptions::default()).unwrap();
    let codec = Codec::from_ids().unwrap();
    let found = log.topics(&[]).unwrap().into_iter().find(|topic| topic.name == "routing.decisions").unwrap();
    let partitions = (0..found.partitions).map(|partition| TopicPartition::new(&found.name, partition));
    let from: Vec<_> = partitions.map(|at| (at, Position::Beginning)).collect();
    let mut reader = log.reader().unwrap();
    reader.assign(&from).unwrap();
    let (mut ids, mut polled, mut open) = (Vec::new(), Vec::new(), from.len());
    while open > 0 {
        reader.poll(&mut polled, 1_000, Duration::from_secs(1)).unwrap();
        for event in polled.drain(..) {
            match event {
                Polled::Record(record) => {
                    ids.push(codec.decode::<RoutingDecision>(&record.value.unwrap()).unwrap().request_id);
                }
                Polled::End { .. } => open -= 1,
                other => panic!("{other:?}"),
            }
        }
    }
    ids
}

#[test]
fn an_outage_is_met_and_resume_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = demo(dir.path(), "one", &["--seed", "5"]);
    let rate = |key: &str| first[key].as_f64().unwrap();
    assert!(rate("approval_rate") >= rate("approval_rate_static"), "{first}");
    assert!(rate("approval_rate_oracle") >= rate("approval_rate"), "{first}");
    let requests = first["requests"].as_u64().unwrap();
    assert!(requests > 500 && first["decisions"] == requests, "{first}");
    let failover = &first["failovers"][0];
    assert_eq!(failover["psp_id"], "worldpay", "{first}");
    assert!(failover["payments_to_detect"].as_u64().unwrap() > 0 && failover["ms_to_avoid"].as_i64().unwrap() > 0, "{first}");
    assert_eq!(first["state_dir"], "one");

    let listed = Command::new(env!("CARGO_BIN_EXE_smartrouter"))
        .current_dir(dir.path())
        .env("SMARTROUTER__RUNTIME__LOG", "embedded")
        .args(["--state-dir", "one", "--output", "json", "psp", "list"])
        .output()
        .unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let psps: BTreeSet<&str> = listed.as_array().unwrap().iter().map(|row| row["psp_id"].as_str().unwrap()).collect();
    assert_eq!(psps, BTreeSet::from(["amex", "elavon", "mit", "worldpay"]));

    let again = demo(dir.path(), "one", &["--resume"]);
    let all = again["requests"].as_u64().unwrap();
    assert!(all > requests + 500 && again["decisions"] == all, "{again}");
    assert_eq!(again["seed"], 5);
    assert!(again["from"].as_i64() > first["to"].as_i64(), "{first} {again}");
    let ids = decided(&dir.path().join("one"));
    assert_eq!(ids.len() as u64, all);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len() as u64, all, "a request was decided twice");
}

#[test]
fn a_seed_tells_everything_and_another_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = demo(dir.path(), "one", &["--seed", "6", "--rate", "1500"]);
    let mut two = demo(dir.path(), "two", &["--seed", "6", "--rate", "1500"]);
    for summary in [&mut one, &mut two] {
        summary.as_object_mut().unwrap().remove("state_dir");
    }
    assert_eq!(one, two);
    // A demo replaces a demo's state.
    let other = demo(dir.path(), "two", &["--seed", "7", "--rate", "1500"]);
    assert_ne!(other["requests"], two["requests"]);
    assert_eq!(decided(&dir.path().join("two")).len() as u64, other["decisions"].as_u64().unwrap());
}

#[test]
fn lines_when_piped_and_errors_that_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("s.toml"), SCENARIO).unwrap();
    let output = smartrouter(dir.path(), &["demo", "--hours", "0.5", "--rate", "1500", "--scenario", "s.toml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in ["18:10:", "→ D", "STATIC RULES", "worldpay total", "psp list", "--resume"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "no terminal, no escapes: {text}");
    assert!(dir.path().join("state/demo/demo.json").is_file(), "where it says that its state is");

    std::fs::create_dir(dir.path().join("mine")).unwrap();
    std::fs::write(dir.path().join("mine/notes"), "").unwrap();
    for (arguments, code, expected) in [
        (&["--state-dir", "mine", "demo"][..], 1, "not a demo's"),
        (&["--state-dir", "none", "demo", "--resume"], 1, "no demo to resume"),
        (&["demo", "--scenario", "nope"], 1, "anything else is a file"),
        (&["demo", "--hours", "0"], 2, "--hours is 0"),
        (&["demo", "--resume", "--seed", "1"], 2, "cannot be used with"),
    ] {
        let output = smartrouter(dir.path(), arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}
