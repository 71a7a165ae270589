//! Datasets from history files and from a router's log: the command and what it writes, and January against what is known of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code: a panic is the failure report")]

use serde_json::{Value, json};
use smartrouter::config::{Config, LoadOptions};
use smartrouter::domain::PspId;
use smartrouter::domain::learning::{CandidatePrediction, Feedback, Prediction};
use smartrouter::domain::payment::PaymentAttempt;
use smartrouter::engine::features::{Catalogue, Encoder, History, RequestFacts};
use smartrouter::engine::settings::Settings;
use smartrouter::io::codec::{Codec, Wire};
use smartrouter::io::dataset;
use smartrouter::io::history::{HistoryReader, HistoryRow, Mapping, Requests};
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::kafka::{KafkaLog, KafkaOptions};
use smartrouter::io::log::{EventLog, Output};
use smartrouter::io::topics::{self, PlanOptions, TopicNames};
use smartrouter::learn::{Built, TableBuilder};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;

const MAPPING: &str = "deploy/mappings/psp_routing_log.toml";
const CONFIG: &str = "deploy/january.toml";

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn settings() -> Settings {
    Config::load(&LoadOptions { file: Some(in_project(CONFIG)), ..LoadOptions::default() }).unwrap().config.settings
}

fn built(file: &Path) -> Built {
    let mut builder = TableBuilder::new(Encoder::new(Catalogue::shipped().unwrap()), &settings(), [None, None]);
    let mapping = Mapping::load(&in_project(MAPPING)).unwrap();
    for row in HistoryReader::open(&[file.to_owned()], mapping, Requests::None).unwrap() {
        if let HistoryRow::Events(events) = row.unwrap() {
            builder.accept(&events.attempt, events.outcome.as_ref());
        }
    }
    builder.finish()
}

fn january() -> Option<String> {
    let file = in_project("../shared/data/psp_2019_january/attempts.csv");
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        println!("skipped: {} is not there", file.display());
    }
    text
}

#[test]
fn january_has_the_odds_that_it_was_drawn_by() {
    if january().is_none() {
        return;
    }
    let built = built(&in_project("../shared/data/psp_2019_january/attempts.csv"));
    let table = &built.table;
    assert_eq!((table.rows.len(), table.alternatives.len()), (26_304, 3 * 26_304));
    assert_eq!((built.immature, built.label_delay_ms), (0, [0; 3]));
    assert!(built.unknown_psps.is_empty() && built.alike_psps.is_empty());
    let first: BTreeMap<&str, f64> = table
        .rows
        .iter()
        .filter(|row| row.attempt_number == 1)
        .map(|row| (row.psp_id.as_str(), row.propensity.unwrap()))
        .collect();
    // Counted apart from this program, with the chains of the mapping.
    for (psp, share) in [("goldcard", 0.0746), ("moneycard", 0.1726), ("simplecard", 0.2634), ("uk_card", 0.4894)] {
        assert!((first[psp] - share).abs() < 0.0001, "{psp}: {}", first[psp]);
    }
    assert!(table.values.iter().all(|value| value.is_finite()));
    let fee = table.rows.iter().find(|row| row.psp_id.as_str() == "goldcard").unwrap().fee_minor;
    assert_eq!(fee, [1_000, 500]);
}

/// The features of a row do not depend on anything that stands behind it in the file.
#[test]
fn january_cut_short_gives_the_same_features() {
    let Some(text) = january() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.csv");
    let lines: Vec<&str> = text.lines().collect();
    let whole = built(&in_project("../shared/data/psp_2019_january/attempts.csv"));
    let width = whole.table.columns.len();
    let rows = 9_000;
    std::fs::write(&cut, lines[..=rows].join("\n")).unwrap();
    let part = built(&cut);
    assert_eq!(part.table.rows.len(), rows);
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    assert!(bits(&part.table.values) == bits(&whole.table.values[..rows * width]));
    for (one, other) in part.table.alternatives.iter().zip(&whole.table.alternatives) {
        assert!((one.row, &one.psp_id) == (other.row, &other.psp_id) && bits(&one.values) == bits(&other.values));
    }
}

/// In the form of the routing log: a payment a minute, each with a retry two seconds later.
fn write_history(path: &Path) {
    let mut text = String::from("id,tmsp,country,amount,success,PSP,3D_secured,card\n");
    for minute in 0..60 {
        for (retry, psp) in [(0, "Simplecard"), (1, "UK_Card")] {
            let (id, amount) = (2 * minute + retry, 50 + minute);
            writeln!(text, "{id},2019-01-01 00:{minute:02}:{:02},Germany,{amount},{retry},{psp},0,Visa", 2 * retry).unwrap();
        }
    }
    std::fs::write(path, text).unwrap();
}

/// The last line of stdout, and stderr.
fn smartrouter(dir: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartrouter"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SMARTROUTER")) {
        command.env_remove(name);
    }
    let config = in_project(CONFIG);
    let fixed = ["-c", config.to_str().unwrap(), "--output", "json"];
    let output = command.current_dir(dir).args([&fixed[..], arguments].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    (output.status.code(), last, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_command_builds_a_dataset_and_explains_a_request() {
    let dir = tempfile::tempdir().unwrap();
    write_history(&dir.path().join("history.csv"));
    let mapping = in_project(MAPPING);
    let build = |more: &[&str]| {
        let fixed = ["dataset", "build", "history.csv", "--mapping", mapping.to_str().unwrap(), "--out", "set"];
        smartrouter(dir.path(), &[&fixed[..], more].concat())
    };
    let (code, told, said) = build(&["--from", "2019-01-01 00:10:00", "--to", "2019-01-01T00:40:00Z"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&told["rows"], &told["positives"], &told["attempts"]), (&json!(60), &json!(30), &json!(120)));
    let (table, manifest) = dataset::read(&dir.path().join("set")).unwrap();
    assert_eq!(told["catalogue"], json!(table.catalogue));
    assert_eq!((table.rows.len(), table.alternatives.len()), (60, 180));
    assert_eq!((manifest.history_attempts, manifest.sources.len(), manifest.sources[0].sha256.len()), (120, 1, 64));
    let place = |name: &str| table.columns.iter().position(|column| column.name == name).unwrap();
    let retry = &table.values[table.columns.len()..2 * table.columns.len()];
    assert_eq!((retry[place("attempt_number")], retry[place("retry_failures")]), (2.0, 1.0));
    assert!((retry[place("seconds_since_previous")] - 3.0_f32.ln()).abs() < 1e-6);

    let (code, _, said) = build(&["--from", "2020-01-01"]);
    assert!(code == Some(1) && said.contains("lies between"), "{said}");
    let (code, _, said) = build(&["--from", "2019-01-02", "--to", "2019-01-01"]);
    assert!(code == Some(2) && said.contains("not before"), "{said}");

    let (code, listed, said) = smartrouter(dir.path(), &["features", "list"]);
    assert!(code == Some(0) && listed.as_array().is_some_and(|rows| rows.len() == 140), "{said}");
    let request = json!({"request_id": "r", "requested_at": 1_546_304_400_000_i64, "payment": {
        "payment_id": "p", "order_id": "o", "merchant_id": "routing-log", "amount_minor": 6_000, "currency": "EUR",
        "card": {"bin": "", "brand": "VISA"}, "method": "card", "geo": {"country": "DE"},
        "message": {"initiator": "CUSTOMER", "avs_sent": false, "mcc": ""}}});
    std::fs::write(dir.path().join("request.json"), request.to_string()).unwrap();
    let with_history = ["--history", "history.csv", "--mapping", mapping.to_str().unwrap()];
    for more in [&[][..], &with_history] {
        let (code, told, said) = smartrouter(dir.path(), &[&["features", "explain", "request.json"], more].concat());
        assert_eq!(code, Some(0), "{said}");
        assert_eq!((told["candidates"].as_array().unwrap().len(), told["features"].as_array().unwrap().len()), (4, 140));
        let features = told["features"].as_array().unwrap();
        let rate = features.iter().find(|feature| feature["feature"] == "psp_rate").unwrap();
        let (good, bad) = (rate["values"]["uk_card"][0].as_f64().unwrap(), rate["values"]["simplecard"][0].as_f64().unwrap());
        assert!(if more.is_empty() { good == bad } else { good > bad }, "{rate}");
    }
    let mut retried = request;
    retried["previous_attempts"] = json!([
        {"attempt_id": "a1", "psp_id": "simplecard", "attempted_at": 1_546_304_300_000_i64, "status": "TIMEOUT"},
        {"attempt_id": "a2", "psp_id": "uk_card", "attempted_at": 1_546_304_390_000_i64, "status": "DECLINED", "hard_soft": "SOFT"}]);
    std::fs::write(dir.path().join("retried.json"), retried.to_string()).unwrap();
    let (code, told, said) = smartrouter(dir.path(), &["features", "explain", "retried.json"]);
    assert_eq!(code, Some(0), "{said}");
    let value = |name: &str| {
        told["features"].as_array().unwrap().iter().find(|it| it["feature"] == name).unwrap()["values"][""][0].clone()
    };
    assert_eq!((value("attempt_number"), value("retry_failures")), (json!(3.0), json!(2.0)));
    assert!((value("seconds_since_previous").as_f64().unwrap() - 11.0_f64.ln()).abs() < 1e-6, "ten seconds");
    let (code, _, said) = smartrouter(dir.path(), &["features", "explain", "history.csv"]);
    assert!(code == Some(2) && said.contains("no routing request"), "{said}");
}

/// A router's log of one hour: a decision and an attempt on it in each minute; and later on, one that follows no decision.
fn write_log(log: &dyn EventLog, names: &TopicNames) {
    let options = PlanOptions { names: names.clone(), ..PlanOptions::default() };
    log.create_topics(&topics::plan(&topics::declared().unwrap(), &[], &options).create).unwrap();
    let (codec, encoder) = (Codec::from_ids().unwrap(), Encoder::new(Catalogue::shipped().unwrap()));
    let mut outputs = Vec::new();
    for minute in 0..60 {
        let key = format!("p{minute}");
        outputs.push(output(&codec, names, &key, &logged_attempt(minute)));
        outputs.push(output(&codec, names, &key, &logged_prediction(&encoder, minute)));
        outputs.push(output(&codec, names, &key, &logged_feedback(minute)));
    }
    outputs.push(output(&codec, names, "p0", &logged_feedback(0)));
    outputs.push(output(&codec, names, "late", &Feedback { decision_id: None, ..logged_feedback(600) }));
    let unreadable = Some("nothing that can be read".into());
    outputs.push(Output { value: unreadable, ..output(&codec, names, "p0", &logged_prediction(&encoder, 0)) });
    let mut appender = log.appender().unwrap();
    appender.append(outputs).unwrap();
    appender.flush().unwrap();
}

fn output<T: Wire>(codec: &Codec, names: &TopicNames, key: &str, value: &T) -> Output {
    let mut bytes = Vec::new();
    codec.encode(value, &mut bytes).unwrap();
    Output {
        topic: names.full(T::KIND.topic()).into(),
        partition: None,
        timestamp_ms: None,
        key: Some(key.to_owned().into()),
        value: Some(bytes.into()),
        headers: Vec::new(),
    }
}

fn logged_attempt(minute: i64) -> PaymentAttempt {
    let attempt = json!({
        "payment": {
            "payment_id": format!("p{minute}"), "order_id": "o", "merchant_id": "routing-log", "currency": "EUR", "amount_minor": 5_000,
            "card": {"bin": "", "brand": "VISA"}, "method": "card", "geo": {"country": "DE"},
            "message": {"initiator": "CUSTOMER", "avs_sent": false, "mcc": ""}
        },
        "attempt_id": format!("a{minute}"), "attempt_number": 1, "psp_id": "uk_card", "attempted_at": LOGGED_FROM + minute * 60_000
    });
    serde_json::from_value(attempt).unwrap()
}

/// As the engine would encode it with no history.
fn logged_prediction(encoder: &Encoder, minute: i64) -> Prediction {
    let history = History::new(encoder.catalogue().history.clone());
    let (attempt, psps) = (logged_attempt(minute), ["uk_card", "simplecard"].map(PspId::new));
    let facts = RequestFacts::gather(&attempt.payment, attempt.attempted_at, 1, &history);
    let mut rows = Vec::new();
    encoder.encode(&facts, &psps, &history, &mut rows);
    let candidates = psps.iter().zip(rows.chunks(encoder.width())).map(|(psp, row)| CandidatePrediction {
        psp_id: psp.clone(),
        features: row[encoder.request_width()..].to_vec(),
        raw_probability: None,
        calibrated_probability: None,
        propensity: if psp.as_str() == "uk_card" { 0.75 } else { 0.25 },
    });
    Prediction {
        decision_id: format!("d{minute}"),
        request_id: format!("r{minute}"),
        payment_id: format!("p{minute}"),
        model: "processor_selector@1".into(),
        feature_version: encoder.catalogue().version.clone(),
        candidates: candidates.collect(),
        request_features: rows[..encoder.request_width()].to_vec(),
        chosen: PspId::new("uk_card"),
        shadow: false,
        scored_at: attempt.attempted_at - 15,
        latency_us: 50,
    }
}

fn logged_feedback(minute: i64) -> Feedback {
    let feedback = json!({
        "decision_id": format!("d{minute}"), "payment_id": format!("p{minute}"), "attempt_id": format!("a{minute}"), "psp_id": "uk_card",
        "rank_taken": 1, "approved": minute % 4 == 0, "final_approved": minute % 4 == 0, "status": "APPROVED", "latency_ms": 700,
        "amount_minor": 5_000, "currency": "EUR", "reward": 0.0, "timed_out": false, "delay_ms": 700,
        "outcome_at": LOGGED_FROM + minute * 60_000 + 700
    });
    serde_json::from_value(feedback).unwrap()
}

const LOGGED_FROM: i64 = 1_546_300_800_000;

fn check_built_from_log(dir: &Path, arguments: &[&str]) {
    let build = |more: &[&str]| {
        let fixed = ["dataset", "build", "--from-log", "--out", "set"];
        smartrouter(dir, &[arguments, &fixed, more].concat())
    };
    let (code, told, said) = build(&["--to", "2019-01-01 00:50:00"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&told["rows"], &told["positives"], &told["attempts"]), (&json!(50), &json!(13), &json!(50)), "{said}");
    assert_eq!((&told["alternatives"], &told["immature"], &told["rejected"]), (&json!(50), &json!(0), &json!(1)), "{said}");
    assert!(said.contains("athia.predictions-") && said.contains("the first byte is"), "{said}");
    let (table, manifest) = dataset::read(&dir.join("set")).unwrap();
    let encoder = Encoder::new(Catalogue::shipped().unwrap());
    for (row, minute) in table.rows.iter().zip(0..) {
        assert_eq!((row.attempt_id.clone(), row.attempted_at), (format!("a{minute}"), LOGGED_FROM + minute * 60_000));
        assert_eq!((row.brand.as_str(), row.issuer_country.as_str(), row.propensity), ("VISA", "DE", Some(0.75)));
        let logged = logged_prediction(&encoder, minute);
        let expected = [logged.request_features, logged.candidates[0].features.clone()].concat();
        assert!(table.features(minute as usize) == expected, "row {minute}");
    }
    let (mut ranges, mut records) = (BTreeMap::<&str, u32>::new(), 0);
    for range in &manifest.log {
        *ranges.entry(range.topic.rsplit_once("athia.").map_or("attempts", |(_, name)| name)).or_default() += 1;
        records += range.to_offset - range.from_offset;
    }
    assert_eq!(ranges, BTreeMap::from([("attempts", 4), ("feedback", 4), ("predictions", 4)]));
    assert_eq!(records, 60 + 61 + 62);
    assert!(manifest.sources.is_empty() && manifest.mapping.is_none() && manifest.label.contains("outcome_wait_ms"));

    let (code, told, said) = build(&[]);
    assert_eq!((code, &told["rows"], &told["immature"]), (Some(0), &json!(60), &json!(1)), "{said}");
    let (code, _, said) = build(&["--from", "2020-01-01"]);
    assert!(code == Some(1) && said.contains("no feedback"), "{said}");
    let (code, _, said) = build(&["--from", "2019-01-01 10:00:00", "--to", "2020-01-01"]);
    assert!(code == Some(1) && said.contains("no row of the 1 attempts"), "{said}");
}

#[test]
fn the_command_builds_a_dataset_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path().join("state/log"), EmbeddedOptions::default()).unwrap();
    write_log(&log, &TopicNames::new("set."));
    // One process at a time has it open.
    drop(log);
    let config = dir.path().join("embedded.toml");
    std::fs::write(&config, std::fs::read_to_string(in_project(CONFIG)).unwrap() + "\n[runtime]\nlog = \"embedded\"\n").unwrap();
    check_built_from_log(dir.path(), &["-c", config.to_str().unwrap(), "--state-dir", "state", "--topic-prefix", "set."]);

    for wrong in [&["--from-log", "history.csv"][..], &["--from-log", "--mapping", "m.toml"], &["history.csv"], &[]] {
        let (code, _, said) = smartrouter(dir.path(), &[&["dataset", "build", "--out", "other"], wrong].concat());
        assert_eq!(code, Some(2), "{wrong:?}: {said}");
    }
}

#[test]
fn a_dataset_from_kafka_is_the_same() {
    let Ok(bootstrap) = std::env::var("SMARTROUTER_TEST_KAFKA") else {
        assert!(std::env::var("SMARTROUTER_REQUIRE_KAFKA").is_err(), "SMARTROUTER_TEST_KAFKA=host:port names no broker");
        println!("skipped: SMARTROUTER_TEST_KAFKA=host:port names no broker (`make test` starts one)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let log = KafkaLog::connect(KafkaOptions { bootstrap: bootstrap.clone(), ..KafkaOptions::default() }).unwrap();
    let prefix = format!("logset-{:016x}.", RandomState::new().build_hasher().finish());
    write_log(&log, &TopicNames::new(&prefix));
    check_built_from_log(dir.path(), &["-b", &bootstrap, "--state-dir", "state", "--topic-prefix", &prefix]);
}
