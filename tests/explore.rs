//! `explore`, `rules import` and `replay --unread` from outside: what they say of small files is what can be counted by hand, and of January what
//! is counted here in another way.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code: a panic is the failure report")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn fixture(name: &str) -> String {
    in_project("tests/fixtures/history").join(name).display().to_string()
}

fn mapping(name: &str) -> String {
    in_project("deploy/mappings").join(name).display().to_string()
}

fn run(dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartrouter"));
    command.arg("--state-dir").arg(dir.join("state")).args(words).current_dir(dir).output().unwrap()
}

fn told(done: &Output) -> (String, String) {
    (String::from_utf8_lossy(&done.stdout).into_owned(), String::from_utf8_lossy(&done.stderr).into_owned())
}

fn json(dir: &Path, words: &[&str]) -> Value {
    let done = run(dir, &[&["--output", "json"], words].concat());
    let (out, err) = told(&done);
    assert!(done.status.success(), "{words:?}: {out}{err}");
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

#[test]
fn a_small_file_is_told_as_text_as_json_and_as_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let (file, mapping) = (fixture("vw_athena_payment_attempt.csv"), mapping("vw_athena_payment_attempt.toml"));
    let words = ["explore", &file, "--mapping", &mapping, "--html", "page.html"];
    let (out, err) = told(&run(dir.path(), &words));
    for said in [
        "3 attempts in 2 payments",
        "1 rows rejected",
        "Too few whole days",
        "INSUFFICIENT_FUNDS",
        "elavon: DOWN",
        "policy/id",
        "a soft decline",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
    assert!(err.contains("not read of") && err.contains("LOADED_BY"), "{err}");
    let page = std::fs::read_to_string(dir.path().join("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("INSUFFICIENT_FUNDS") && !page.contains("http"), "{page}");
    let report = json(dir.path(), &words);
    assert_eq!(report["json_keys"]["DYNAMIC_ROUTING_DETAIL/score"]["example"], "0.91");
    assert_eq!(report["approved_payments"], serde_json::json!({"successes": 1, "trials": 2}));
    assert_eq!(report["retries"]["by_wait"][0]["name"], "under 10 s");
    assert_eq!(json(dir.path(), &[&words[..], &["--from", "2024-03-01 10:00:03"]].concat())["attempts"], 2);
}

#[test]
fn what_cannot_be_told_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (file, mapping) = (fixture("psp_routing_log.csv"), mapping("psp_routing_log.toml"));
    let explore = ["explore", &file, "--mapping", &mapping];
    for (more, code, says) in [
        (&["--from", "2019-01-02", "--to", "2019-01-01"][..], 2, "--from is not before --to"),
        (&["--from", "1.1.2019"], 2, "is no time such as"),
        (&["--merchant", "nobody"], 1, "none of the 9 attempts"),
        (&["--from", "2030-01-01"], 1, "none of the 9 attempts"),
        (&["--html", "no/such/dir.html"], 1, "no/such/dir.html cannot be written"),
    ] {
        let done = run(dir.path(), &[&explore[..], more].concat());
        let (_, err) = told(&done);
        assert!(done.status.code() == Some(code) && err.contains(says), "{more:?}: {:?} {err}", done.status);
    }
}

/// Attempts and approvals by PSP and brand, from lines split by hand.
fn counted(text: &str) -> BTreeMap<(String, String), (u64, u64)> {
    let mut counts: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let brand = cells[7].to_uppercase().replace("MASTER", "MASTERCARD");
        let count = counts.entry((brand, cells[5].to_lowercase())).or_default();
        *count = (count.0 + 1, count.1 + cells[4].parse::<u64>().unwrap());
    }
    counts
}

#[test]
fn january_is_told_as_it_is_counted_here() {
    let file = in_project("../shared/data/psp_2019_january/attempts.csv");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("skipped: {} is not there", file.display());
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let report = json(dir.path(), &["explore", &file.display().to_string(), "--mapping", &mapping("psp_routing_log.toml")]);
    let brands = report["cuts"].as_array().unwrap().iter().find(|cut| cut["by"] == "card brand").unwrap();
    let rows = brands["rows"].as_array().unwrap().iter().filter(|row| !row["psp_id"].is_null());
    let name = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let found: BTreeMap<_, _> = rows
        .map(|row| {
            ((name(row, "value"), name(row, "psp_id")), (row["attempts"].as_u64().unwrap(), row["approvals"].as_u64().unwrap()))
        })
        .collect();
    assert_eq!(found, counted(&text));
    assert_eq!((&report["attempts"], &report["no_result"]), (&Value::from(26_304), &Value::from(0)));
    let of_days: u64 = report["days"].as_array().unwrap().iter().map(|day| day["attempts"]["trials"].as_u64().unwrap()).sum();
    let of_hours: u64 =
        report["rhythm"].as_array().unwrap().iter().flat_map(|day| day.as_array().unwrap()).map(|it| it.as_u64().unwrap()).sum();
    assert_eq!((of_days, of_hours, report["days"].as_array().unwrap().len()), (26_304, 26_304, 31));
    let lengths: u64 = report["retries"]["lengths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(n, count)| n.parse::<u64>().unwrap() * count.as_u64().unwrap())
        .sum();
    assert_eq!(lengths, 26_304);
}

#[test]
fn static_rules_become_rules_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (file, mapping) = (fixture("vw_routing_merchant_rule.csv"), mapping("vw_routing_merchant_rule.toml"));
    let config = in_project("deploy/volaris.toml").display().to_string();
    let import = ["-c", &config, "rules", "import", &file, "--mapping", &mapping, "--out", "rules.toml"];
    let done = run(dir.path(), &import);
    let (out, err) = told(&done);
    assert!(
        done.status.success() && out.contains("4 rules, 1 of them watched only (SHADOW_MODE); 1 not active, 1 rows rejected"),
        "{out}{err}"
    );
    assert!(err.contains("rule nobody: names no PSP") && err.contains("OWNER"), "{err}");
    // The file is taken in place of the rules of the example.
    let example = std::fs::read_to_string(&config).unwrap();
    let (before, rest) = example.split_once("# Months without interest").unwrap();
    assert!(rest.contains("[[rules]]"));
    let rules = std::fs::read_to_string(dir.path().join("rules.toml")).unwrap();
    std::fs::write(dir.path().join("new.toml"), format!("{before}\n{rules}")).unwrap();
    let (out, err) = told(&run(dir.path(), &["-c", "new.toml", "config", "check"]));
    assert!(err.is_empty(), "{out}{err}");
    let (out, _) = told(&run(dir.path(), &["-c", "new.toml", "config", "print"]));
    assert!(out.contains("debit-trial") && !out.contains("volaris-default"), "{out}");
    // Without the merchant's PSPs the rules name none that is known.
    let done = run(dir.path(), &["rules", "import", &file, "--mapping", &mapping]);
    let (out, err) = told(&done);
    assert!(
        done.status.code() == Some(3) && err.contains("the configuration would not take them") && out.contains("[[rules]]"),
        "{out}{err}"
    );
    let wrong = run(dir.path(), &["rules", "import", &fixture("hourly_counts.csv"), "--mapping", &mapping]);
    assert!(wrong.status.code() == Some(1) && told(&wrong).1.contains("has no column"), "{}", told(&wrong).1);
}

#[test]
fn what_no_field_reads_is_kept_beside_a_replay() {
    let dir = tempfile::tempdir().unwrap();
    let (file, mapping) = (fixture("vw_athena_payment_attempt.csv"), mapping("vw_athena_payment_attempt.toml"));
    let config = in_project("deploy/volaris.toml").display().to_string();
    json(dir.path(), &["-c", &config, "replay", &file, "--mapping", &mapping, "--unread", "rest.jsonl"]);
    let kept = std::fs::read_to_string(dir.path().join("rest.jsonl")).unwrap();
    let kept: Value = serde_json::from_str(kept.trim()).unwrap();
    assert_eq!(
        (&kept["attempt_id"], &kept["unread"]["DYNAMIC_ROUTING_DETAIL"]["policy"]["id"]),
        (&Value::from("a-2"), &Value::from("p7"))
    );
    let refused = run(dir.path(), &["replay", &file, "--mapping", &mapping, "--unread", &file]);
    assert!(refused.status.code() == Some(2) && told(&refused).1.contains("is a file that is read"), "{}", told(&refused).1);
}
