//! The sync into Snowflake, against the double of its services: killed at every step under every fault, seeded; and the vendor's own client against
//! the same double, so that it is judged by a client that we did not write.

use crate::double::{self, Double, Faults};
use crate::kill::{Rows, SEED, SIGKILL, chained, dense, seed};
use crate::world::{Program, open, python, stages, traffic};
use serde_json::Value;
use smartrouter::io::warehouse::{Catalogue, check_query};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

const STEPS: [&str; 4] = ["snowflake-opened", "snowflake-sending", "snowflake-sent", "snowflake-committed"];
const DATABASE: &str = "PAYMENT_ML";

fn faults() -> [(&'static str, Faults); 8] {
    let none = Faults::default;
    [
        ("nothing", none()),
        ("busy", Faults { busy: 20, ..none() }),
        ("lost replies", Faults { lost: 30, ..none() }),
        ("lost replies, late repeats", Faults { lost: 30, late: 100, ..none() }),
        ("stale tokens", Faults { stale: 15, ..none() }),
        ("expired tokens", Faults { expired: 20, ..none() }),
        ("delayed commits", Faults { commit_ms: 400, ..none() }),
        ("restarts", Faults { restart: 10, commit_ms: 50, ..none() }),
    ]
}

fn env(double: &Double) -> Vec<(&'static str, String)> {
    let text = |path: std::path::PathBuf| path.display().to_string();
    vec![
        ("SMARTROUTER__RUNTIME__LOG", "embedded".to_owned()),
        ("SMARTROUTER__WAREHOUSE__KIND", "snowflake".to_owned()),
        ("SMARTROUTER__WAREHOUSE__ROWS_MAX", "60".to_owned()),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__ACCOUNT", double::ACCOUNT.to_owned()),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__URL", double.url.clone()),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__USER", double::USER.to_owned()),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__PRIVATE_KEY_FILE", text(double.key_file())),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__PRIVATE_KEY_PASSPHRASE", double::PASSPHRASE.to_owned()),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__ROLE", "ATHIA_WRITER".to_owned()),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__CA_FILE", text(double.ca_file())),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__RETRY_MS", "8000".to_owned()),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__COMMIT_TIMEOUT_MS", "8000".to_owned()),
    ]
}

/// As the tables have them.
fn rows(double: &Double) -> Rows {
    let mut rows = Rows::new();
    for table in Catalogue::shipped().unwrap().streamed().map(|(table, _)| table.name.clone()).collect::<Vec<_>>() {
        for row in double.rows(DATABASE, &table) {
            let key = (table.clone(), row["TOPIC"].as_str().unwrap().to_owned(), row["PARTITION"].as_i64().unwrap() as i32);
            rows.entry(key).or_default().push((row["OFFSET"].as_i64().unwrap(), row["PREVIOUS_OFFSET"].as_i64()));
        }
    }
    // As they came: whatever is committed is in order.
    assert!(rows.values().all(|rows| rows.is_sorted()), "out of order");
    rows
}

#[test]
fn killed_at_every_step_under_every_fault_no_row_is_missing_or_twice() {
    let (seed, mut draw) = seed();
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(seed);
    let program = Program { env: env(&double), ..Program::new(dir.path()) };
    stages(&open(dir.path()));
    let (mut written, mut before, mut killed) = (0, 0, BTreeMap::<&str, usize>::new());
    for (fault, faults) in faults() {
        double.with(|it| it.faults = faults.clone());
        for step in STEPS {
            let more = 20 + draw(40);
            traffic(&open(dir.path()), written..written + more);
            written += more;
            let delay = if draw(3) == 0 { format!(":{}", draw(3_000)) } else { String::new() };
            let failpoint = format!("{step}={}{delay}", 1 + draw(if step == "snowflake-committed" { 1 } else { 6 }));
            let done = program.run(&["sync", "--once"], &[("SMARTROUTER_FAILPOINT", &failpoint)]);
            let (when, said) =
                (format!("{SEED}={seed}, {fault}, {failpoint}"), String::from_utf8_lossy(&done.stderr).into_owned());
            let was_killed = done.status.signal() == Some(SIGKILL);
            // It gives up where a channel has to be opened again: the next one does.
            let gave_up =
                done.status.code() == Some(1) && ["STALE", "MUST_BE_REOPENED", "is lost"].iter().any(|it| said.contains(it));
            assert!(was_killed || done.status.success() || (gave_up && fault != "nothing"), "{when}: {said}");
            *killed.entry(step).or_default() += usize::from(was_killed);
            let found = rows(&double);
            chained(&found, &when);
            dense(&found, &when);
            let count = found.values().map(Vec::len).sum();
            assert!(count >= before, "{when}: rows went");
            before = count;
        }
    }
    println!("killed: {killed:?}, dealt: {:?}", double.with(|it| it.dealt.clone()));
    assert!(STEPS.iter().all(|step| killed.get(step).is_some_and(|times| *times > 1)), "{killed:?}");
    double.with(|it| it.faults = Faults::default());
    let told = program.ok(&["--output", "json", "sync", "--once"]);
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert!(
        told["place"].as_str().unwrap().starts_with("PAYMENT_ML.PUBLIC at https://localhost") && told["refused"] == 0,
        "{told}"
    );
    let found = rows(&double);
    chained(&found, "at the end");
    dense(&found, "at the end");
    let of = |table: &str| found.iter().filter(|((name, _, _), _)| name == table).map(|(_, rows)| rows.len() as u64).sum::<u64>();
    assert_eq!((of("ATHIA_DECISIONS"), of("ATHIA_PREDICTIONS"), of("ML_MODEL_STAGES")), (written, 2 * written, 3));
    assert!(of("ATHIA_FEEDBACK") > written);
    shipped_check(&double, dir.path());
}

/// The query that is shipped for production says the same.
fn shipped_check(double: &Double, dir: &Path) {
    const SCRIPT: &str = "import duckdb, sys, pathlib\n\
        for file in pathlib.Path(sys.argv[1]).glob('*.ndjson'):\n    \
            duckdb.execute(f\"CREATE TABLE {file.stem} AS SELECT * FROM read_ndjson('{file}')\")\n\
        rows = duckdb.execute(sys.argv[2]).fetchall()\n\
        assert len(rows) > 8 and all(row[6] == row[7] == 0 for row in rows), rows\n\
        print('no gap, no double')\n";
    let Some(python) = python() else { return };
    let catalogue = Catalogue::shipped().unwrap();
    for (table, _) in catalogue.streamed() {
        let lines: Vec<String> = double.rows(DATABASE, &table.name).iter().map(Value::to_string).collect();
        std::fs::write(dir.join(format!("{}.ndjson", table.name)), lines.join("\n")).unwrap();
    }
    let done = Command::new(python).args(["-c", SCRIPT]).arg(dir).arg(check_query(&catalogue)).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn rows_that_are_passed_over_are_told_and_what_is_wrong_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(5);
    let program = Program { env: env(&double), ..Program::new(dir.path()) };
    stages(&open(dir.path()));
    traffic(&open(dir.path()), 0..40);
    double.with(|it| it.channels.refused.extend([2]));
    let done = program.run(&["sync", "--once"], &[]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success()
            && said.contains("the warehouse passed over rows")
            && said.contains("rows were passed over by the warehouse"),
        "{said}"
    );
    assert!(!said.contains(double::PASSPHRASE) && !said.contains("PRIVATE KEY") && !said.contains("eyJ"), "{said}");
    for (name, value, parts) in [
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__USER", "nobody", ["390144", "RSA_PUBLIC_KEY_FP"]),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__PRIVATE_KEY_PASSPHRASE", "wrong", ["private_key_file", "is another one"]),
        ("SMARTROUTER__WAREHOUSE__SNOWFLAKE__SCHEMA", "a-b", ["warehouse.snowflake.schema", "needs no quotes"]),
    ] {
        let done = program.run(&["sync", "--once"], &[(name, value)]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && parts.iter().all(|part| said.contains(part)), "{said}");
    }
    let done = program.run(&["query", "SELECT 1"], &[]);
    assert_eq!(done.status.code(), Some(2), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_vendors_own_client_writes_to_the_double() {
    let Some(python) = python() else { return };
    let has_client = Command::new(&python).args(["-c", "import snowflake.ingest.streaming"]).output().unwrap().status.success();
    if !has_client {
        eprintln!("skipped: {python} has no snowpipe-streaming (pip install snowpipe-streaming)");
        return;
    }
    let double = Double::start(2);
    double.with(|it| it.faults = Faults { busy: 10, lost: 20, commit_ms: 100, ..Faults::default() });
    let key = double.key_file().with_file_name("clear.p8");
    std::fs::write(&key, double.key_in_clear()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/warehouse/vendor.py");
    let done = Command::new(&python)
        .args([script, &double.port.to_string(), double::ACCOUNT, double::USER])
        .arg(key)
        .env("SSL_CERT_FILE", double.ca_file())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && told.contains("all rows are committed"), "{told}");
    let offsets: Vec<i64> = double.rows(DATABASE, "ML_MODEL_STAGES").iter().map(|row| row["OFFSET"].as_i64().unwrap()).collect();
    assert_eq!(offsets, (0..3_000).collect::<Vec<_>>(), "each once, in order");
}

#[test]
fn what_is_missing_is_shown_made_and_then_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(6);
    let program = Program { env: env(&double), ..Program::new(dir.path()) };
    let shown = program.ok(&["warehouse", "apply"]);
    for part in [
        "CREATE TABLE IF NOT EXISTS ATHIA_FEEDBACK",
        "ERROR_LOGGING = TRUE",
        "GRANT INSERT ON TABLE ATHIA_FEEDBACK TO ROLE ATHIA_WRITER",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(double.with(|it| it.sql.tables.is_empty()), "only shown");
    let apply = || {
        let told = program.ok(&["--output", "json", "warehouse", "apply", "--execute", "--as-role", "SYSADMIN"]);
        serde_json::from_str::<Value>(told.lines().last().unwrap()).unwrap().as_array().unwrap().len()
    };
    assert_eq!((apply() > 20, apply()), (true, 0));
    program.ok(&["warehouse", "check"]);
    // A table of an older version: the column comes back, and nothing else is touched.
    double.with(|it| it.sql.tables.get_mut("ATHIA_FEEDBACK").unwrap().retain(|(name, _)| name != "REWARD"));
    assert_eq!(program.run(&["warehouse", "check"], &[]).status.code(), Some(3));
    assert_eq!((apply() > 0, apply()), (true, 0));
    double.with(|it| it.sql.refuses = Some(("SELECT", 422, "003001", "SQL access control error: Insufficient privileges")));
    let done = program.run(&["warehouse", "apply"], &[]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(1) && said.contains("003001") && said.contains("lacks a right"), "{said}");
}

#[test]
fn a_snowflake_in_a_process_takes_the_statements() {
    let Some(python) = python() else { return };
    if !Command::new(&python).args(["-c", "import fakesnow"]).output().unwrap().status.success() {
        eprintln!("skipped: {python} has no fakesnow (pip install fakesnow)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ddl = Program::new(dir.path()).ok(&["warehouse", "ddl", "--dialect", "snowflake"]);
    let file = dir.path().join("statements.sql");
    let merge = Catalogue::shipped().unwrap().table("ML_MODEL_CARDS").unwrap().merge();
    std::fs::write(&file, format!("{ddl}\n--\n{merge}")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/warehouse/fake.py");
    let done = Command::new(&python).arg(script).arg(file).output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && told.contains("all statements are taken"), "{told}");
}
