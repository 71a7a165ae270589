//! Wrong use and misleading results, as a user meets them: how a command ends, and what it says to do.
#![allow(clippy::unwrap_used, reason = "test code: a panic is the failure report")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Runs in `dir` on the embedded log there, with no environment of ours. Exit code, and what was said on stderr.
fn smartrouter(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let ours = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("SMARTROUTER"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartrouter"));
    ours.for_each(|name| {
        command.env_remove(name);
    });
    let output = command.env("SMARTROUTER__RUNTIME__LOG", "embedded").current_dir(dir).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Ten attempts in the form of the routing log, on one day.
fn history(dir: &Path, name: &str, day: u32) {
    let mut text = String::from("id,tmsp,country,amount,success,PSP,3D_secured,card\n");
    for row in 0..10 {
        writeln!(text, "{day}{row},2019-01-{day:02} 00:{row:02}:00,Germany,{row},1,Simplecard,0,Visa").unwrap();
    }
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn wrong_use_ends_with_two_and_says_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let topics = "payment.attempts, payment.outcomes, routing.requests";
    for (arguments, code, expected) in [
        (&["dlq", "list", "--topic", "payment.attemps"][..], 2, topics),
        (&["--topic-prefix", "p.", "dlq", "list", "--topic", "payment.attempts.dlq"], 2, "p.payment.attempts"),
        (&["dlq", "redrive", "--all", "--topic", "payments"], 2, topics),
        (&["dlq", "redrive", "payment.attempts.dlq:0:0", "--value-file", "x", "payment.attempts.dlq:0:1"], 2, "exactly one"),
        (&["dlq", "list", "--topic", "payment.attempts"], 0, ""),
        (&["--topic-prefix", "p.", "dlq", "list", "--topic", "payment.attempts"], 0, ""),
        (&["--topic-prefix", "p.", "dlq", "list", "--topic", "p.payment.attempts"], 0, ""),
        (&["arena", "--scenario", "totl"], 2, "total, partial"),
        (&["arena", "--policy", "juspay"], 2, "juspay_20, juspay_45"),
        (&["models", "show", "m"], 2, "NAME@VERSION, such as m@1"),
        (&["models", "promote", "m@1", "--to", "canary"], 2, "--share"),
        (&["models", "promote", "m@1", "--to", "shadow", "--share", "0.1"], 2, "--share is of a canary"),
        (&["models", "promote", "m@1", "--to", "shadow"], 1, "m/1 does not exist"),
        (&["models", "rollback", "m"], 1, "m has no champion"),
        (&["models", "list"], 0, ""),
        (&["compare", "--dataset", "set", "m@1"], 2, "NAME@VERSION"),
        (&["evaluate", "--dataset", "set", "--model", "m@1", "--against", "m@2"], 2, "--gate"),
        (&["run"], 2, "needs \"kafka\""),
        (&["simulate", "--rate", "0"], 2, "--rate is 0"),
        (&["simulate"], 2, "needs \"kafka\""),
    ] {
        let (ended, said) = smartrouter(dir.path(), arguments);
        assert!(ended == Some(code) && said.contains(expected), "{arguments:?} ended with {ended:?}: {said}");
    }
}

#[test]
fn a_replay_says_what_did_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mapping = project.join("deploy/mappings/psp_routing_log.toml");
    let config = project.join("deploy/january.toml");
    let (mapping, config) = (mapping.to_str().unwrap(), config.to_str().unwrap());
    history(dir.path(), "first.csv", 1);
    history(dir.path(), "second.csv", 2);
    history(dir.path(), "third.csv", 3);
    let replay = |state: &str, more: &[&str]| {
        let fixed = ["--state-dir", state, "replay", "--mapping", mapping, "--decide"];
        smartrouter(dir.path(), &[&fixed[..], more].concat())
    };
    let (ended, said) = replay("in-order", &["first.csv", "second.csv", "-c", config]);
    assert!(ended == Some(0) && !said.contains("left out") && !said.contains("rank no PSP"), "{said}");
    let (ended, said) = replay("in-disorder", &["second.csv", "first.csv", "-c", config]);
    assert_eq!(ended, Some(1), "{said}");
    assert!(said.contains("10 rows were left out") && said.contains("order of their times"), "{said}");
    assert!(said.contains("no row could be used of first.csv") && !said.contains("of second.csv"), "{said}");
    // A configuration of nobody: every payment is decided, none can be sent anywhere.
    let (ended, said) = replay("for-nobody", &["first.csv", "second.csv"]);
    assert!(ended == Some(0) && said.contains("20 of 20 decisions rank no PSP"), "{said}");
    // Only this replay's decisions are counted, not those that the log holds from before.
    let (ended, said) = replay("for-nobody", &["third.csv", "-c", config]);
    assert!(ended == Some(0) && !said.contains("rank no PSP"), "{said}");
}
