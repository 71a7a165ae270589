//! What analysts find: the derived tables hold what an independent computation in Python makes of the files (`analysts.py`), so do the
//! reports (`reports.py`), and `query` says the same as DuckDB on its own.

use crate::world::{Program, START, open, python, stages, traffic};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn program(state: &Path, python: &str) -> Program {
    let mut program = Program::new(state);
    program.env.push(("SMARTROUTER__WAREHOUSE__QUERY_PROGRAMS", format!("[{python:?}]")));
    program.env.push(("SMARTROUTER__RUNTIME__MODELS_DIR", state.join("models").display().to_string()));
    program
}

fn recomputed(python: &str, state: &Path) {
    for (script, says) in [("analysts.py", "all tables agree"), ("reports.py", "all reports agree")] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/warehouse").join(script);
        let done = Command::new(python).arg(script).arg(env!("CARGO_BIN_EXE_smartrouter")).arg(state).output().unwrap();
        let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && told.contains(says), "{told}");
    }
}

#[test]
fn derived_tables_are_those_of_an_independent_computation() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().join("models/selector/1");
    std::fs::create_dir_all(&models).unwrap();
    std::fs::write(models.join("card.json"), "{\"auc\": 0.5}").unwrap();
    let log = open(dir.path());
    stages(&log);
    traffic(&log, 0..1_500);
    drop(log);
    let program = program(dir.path(), &python);
    program.ok(&["sync", "--once"]);
    recomputed(&python, dir.path());
}

#[test]
fn a_demo_leaves_tables_that_answer() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("demo");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").display().to_string();
    let demo = Program { env: Vec::new(), ..Program::new(&state) };
    let told = demo.ok(&["--models-dir", &models, "--output", "json", "demo", "--hours", "0.5", "--rate", "1500"]);
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    let program = program(&state, &python);
    let count = |from: &str| {
        let rows = program.ok(&["--output", "json", "query", &format!("SELECT COUNT(*) AS n FROM {from}")]);
        serde_json::from_str::<Value>(&rows).unwrap()[0]["n"].as_u64().unwrap()
    };
    let decisions = told["decisions"].as_u64().unwrap();
    assert_eq!((count("ATHIA_DECISIONS"), count("ATHIA_PREDICTIONS WHERE NOT shadow")), (decisions, decisions));
    for table in [
        "ATHIA_FEEDBACK",
        "ATHIA_TRAINING_DATASET",
        "ATHIA_STAGE_OUTCOMES",
        "ATHIA_SESSION_SUMMARY",
        "ATHIA_MULTI_STAGE_ANALYSIS",
        "ATHIA_MODEL_METRICS",
        "ML_MODEL_REGISTRY",
    ] {
        assert!(count(table) > 0, "{table} is empty");
    }
    assert_eq!(count("ATHIA_EXPERIMENT_LIFT"), 0, "the demo has no experiment");
    recomputed(&python, &state);
}

#[test]
fn an_empty_warehouse_answers_and_a_query_can_only_read() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path(), &python);
    let refused = |words: &[&str], code: i32, says: &str| {
        let done = program.run(words, &[]);
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(code) && err.contains(says), "{words:?}: {:?} {err}", done.status);
    };
    refused(&["query", "SELECT 1"], 1, "smartrouter sync");
    refused(&["report", "approval"], 1, "smartrouter sync");
    drop(open(dir.path()));
    program.ok(&["sync", "--once"]);
    for table in
        ["ATHIA_PREDICTIONS", "ATHIA_TRAINING_DATASET", "ATHIA_MODEL_METRICS", "ATHIA_EXPERIMENT_LIFT", "ML_MODEL_REGISTRY"]
    {
        assert_eq!(program.ok(&["--output", "json", "query", &format!("SELECT * FROM {table};")]), "[]\n", "{table}");
    }
    assert_eq!(program.ok(&["warehouse", "check"]), "no rows yet\n");
    for (report, table) in [
        ("approval", "ATHIA_STAGE_OUTCOMES"),
        ("model", "ATHIA_PREDICTIONS"),
        ("retries", "ATHIA_SESSION_SUMMARY"),
        ("shadow", "ATHIA_PREDICTIONS"),
    ] {
        refused(&["report", report], 1, &format!("{table} in"));
        refused(&["report", report], 1, "has no rows; `smartrouter sync --once`");
        refused(&["report", report, "--from", "2026-01-06", "--to", "2026-01-06"], 2, "--from is not before --to");
        refused(&["report", report, "--from", "6.1.2026"], 2, "is no time such as");
    }
    for (sql, says) in [
        ("COPY (SELECT 1) TO 'x'", "Only SELECT"),
        ("SELECT 1; SELECT 2", "give one SELECT"),
        ("SELECT 1) TO 'x'; COPY (SELECT 2", "syntax error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM ATHIA_NOTHING", "ATHIA_NOTHING"),
        ("DROP VIEW ATHIA_FEEDBACK", "Only SELECT"),
    ] {
        refused(&["query", sql], 1, says);
    }
    refused(&["query", " "], 2, "there is no SQL");
    refused(&["--output", "csv", "lag"], 2, "--output csv");
    assert_eq!(program.ok(&["--output", "csv", "query", "SELECT 1 AS a, 'x' AS b"]), "a,b\n1,x\n");
    let table = program.ok(&["query", "SELECT 'it''s' AS a, 2 AS b -- a remark;"]);
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words, ["a", "b", "it's", "2"]);
    let none = program.run(&["query", "SELECT 1"], &[("SMARTROUTER__WAREHOUSE__QUERY_PROGRAMS", "[\"no-such-python\"]")]);
    let err = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(none.status.code() == Some(1) && err.contains("pip install duckdb"), "{err}");
}

#[test]
fn timestamps_lists_and_names_are_read_right() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    traffic(&log, 0..8);
    drop(log);
    let program = program(dir.path(), &python);
    program.ok(&["sync", "--once"]);
    let sql = "SELECT p.topic, p.offset, p.scored_at, p.candidate_psp_ids, p.candidate_propensities, len(p.candidate_features[1]) AS width, \
               p.candidate_probabilities[1] IS NULL AS uncalibrated FROM ATHIA_PREDICTIONS p WHERE p.decision_id = 'd1' AND NOT p.shadow";
    let rows: Value = serde_json::from_str(&program.ok(&["--output", "json", "query", sql])).unwrap();
    let row = &rows[0];
    assert_eq!(row["topic"], "athia.predictions");
    assert_eq!(row["candidate_psp_ids"], serde_json::json!(["alpha", "beta", "gamma"]));
    assert_eq!((row["width"].as_u64(), row["uncalibrated"].as_bool()), (Some(2), Some(false)));
    assert_eq!(START % 86_400_000, 43_200_000, "noon");
    assert_eq!(row["scored_at"], "2026-01-05 12:03:20");
}

#[test]
fn reports_say_what_they_know_to_people_and_as_a_page() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    traffic(&log, 0..400);
    drop(log);
    let program = program(dir.path(), &python);
    program.ok(&["sync", "--once"]);
    for (report, words) in [
        ("approval", ["STANDS OUT", "By day", "(all)"]),
        ("model", ["RANK ACCURACY", "selector@1", "Calibration"]),
        ("retries", ["By wait", "attempt 2", "By chain"]),
        ("shadow", ["selector@2", "SAME FIRST CHOICE", "By PSP"]),
    ] {
        let page = dir.path().join("page.html");
        let told = program.ok(&["report", report, "--html", &page.display().to_string()]);
        assert!(words.iter().all(|word| told.contains(word)), "{report}: {told}");
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains("<svg") && page.contains("</html>") && !page.contains("http"), "{report}: {page}");
    }
    let late = program.run(&["report", "approval", "--from", "2030-01-01"], &[]);
    let err = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(late.status.code() == Some(1) && err.contains("has rows from 2026-01-05T12:00:00Z to"), "{err}");
}
