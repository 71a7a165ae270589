//! An embedded log with predictions, decisions and results of a made-up traffic, and the program on it.

use serde_json::{Value, json};
use smartrouter::domain::control::ControlModel;
use smartrouter::domain::decision::RoutingDecision;
use smartrouter::domain::learning::{Feedback, Prediction};
use smartrouter::io::codec::{Codec, Wire};
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::{EventLog, Output};
use smartrouter::io::topics::{PlanOptions, declared, plan};
use std::path::{Path, PathBuf};
use std::process::{Command, Output as Done};

pub(crate) const START: i64 = 1_767_614_400_000;
const PSPS: [&str; 3] = ["alpha", "beta", "gamma"];

pub(crate) fn open(state: &Path) -> EmbeddedLog {
    let log = EmbeddedLog::open(state.join("log"), EmbeddedOptions::default()).unwrap();
    log.create_topics(&plan(&declared().unwrap(), &log.topics(&[]).unwrap(), &PlanOptions::default()).create).unwrap();
    log
}

/// Payments `from..to`, each decided, tried once to three times, and predicted by a model and by one that looks on.
pub(crate) fn traffic(log: &EmbeddedLog, payments: std::ops::Range<u64>) {
    let mut outputs = Vec::new();
    for number in payments {
        let payment = Payment::new(number);
        let partition = (number % 4) as i32;
        let (prediction, shadow) = (payment.prediction(false), payment.prediction(true));
        outputs.extend([print(&decided(&payment), partition), print(&prediction, partition), print(&shadow, partition)]);
        outputs.extend(payment.feedback().iter().map(|it| print(it, partition)));
    }
    let mut appender = log.appender().unwrap();
    appender.append(outputs).unwrap();
    appender.flush().unwrap();
}

pub(crate) fn stages(log: &EmbeddedLog) {
    let stage = |version: &str, stage: &str, at: i64| {
        let record = json!({"id": "selector", "version": version, "stage": stage, "at": at, "by": "gate", "body_json": "{}"});
        print(&serde_json::from_value::<ControlModel>(record).unwrap(), 0)
    };
    let mut appender = log.appender().unwrap();
    appender
        .append(vec![stage("1", "ACTIVE", START), stage("2", "ACTIVE", START + 5), stage("1", "RETIRED", START + 6)])
        .unwrap();
    appender.flush().unwrap();
}

fn print<T: Wire>(value: &T, partition: i32) -> Output {
    let mut bytes = Vec::new();
    Codec::from_ids().unwrap().encode(value, &mut bytes).unwrap();
    Output {
        topic: T::KIND.topic().into(),
        partition: Some(partition),
        timestamp_ms: None,
        key: Some(bytes::Bytes::from_static(b"key")),
        value: Some(bytes.into()),
        headers: Vec::new(),
    }
}

/// Everything about it follows from its number.
struct Payment {
    number: u64,
    /// Bits that look drawn.
    dice: u64,
    at: i64,
}

impl Payment {
    fn new(number: u64) -> Self {
        let mut dice = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        dice ^= dice >> 29;
        dice = dice.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        dice ^= dice >> 32;
        Self { number, dice, at: START + number as i64 * 200_000 }
    }

    fn bits(&self, from: u32, count: u32) -> u64 {
        self.dice >> from & ((1 << count) - 1)
    }

    fn chances(&self, shadow: bool) -> [f64; 3] {
        let shift = if shadow { 7 } else { 0 };
        [0, 1, 2].map(|place| (self.bits(shift + place * 6, 6) + 1) as f64 / 66.0)
    }

    fn first(&self) -> usize {
        self.bits(3, 8) as usize % 3
    }

    fn prediction(&self, shadow: bool) -> Prediction {
        let chances = self.chances(shadow);
        let candidates: Vec<Value> = (0..3)
            .map(|place| {
                // Some have no calibration, some no features at all.
                let calibrated = if self.number.is_multiple_of(7) { Value::Null } else { json!(chances[place]) };
                let features = if shadow { json!([]) } else { json!([place as f32, self.number as f32 / 4.0]) };
                json!({"psp_id": PSPS[place], "features": features, "raw_probability": chances[place] / 2.0,
                       "calibrated_probability": calibrated, "propensity": ([0.9, 0.07, 0.03][(place + 3 - self.first()) % 3])})
            })
            .collect();
        let no_model = self.number.is_multiple_of(11);
        let record = json!({
            "decision_id": format!("d{}", self.number), "request_id": format!("r{}", self.number), "payment_id": format!("p{}", self.number),
            "model": if shadow { "selector@2" } else if no_model { "windowed_rate" } else { "selector@1" },
            "feature_version": if no_model { "" } else { "abc" },
            "request_features": if shadow || no_model { json!([]) } else { json!([0.5, self.number as f32]) },
            "candidates": candidates, "chosen": PSPS[self.first()], "shadow": shadow, "scored_at": self.at, "latency_us": self.bits(9, 7) as i64,
        });
        serde_json::from_value(record).unwrap()
    }

    /// Attempts with their results; some have two, some follow no decision.
    fn feedback(&self) -> Vec<Feedback> {
        let attempts = 1 + self.bits(20, 2).min(2);
        let mut told = Vec::new();
        let mut approved_yet = false;
        for attempt in 0..attempts {
            let approved = attempt + 1 == attempts && self.bits(30, 2) != 0;
            approved_yet |= approved;
            let psp = (self.first() + attempt as usize + usize::from(self.bits(40, 3) == 0)) % 3;
            let attempted_at = self.at + 500 + attempt as i64 * 20_000;
            let delay = 300 + self.bits(33, 9) as i64;
            let silent = !approved && self.bits(44 + attempt as u32, 3) == 0;
            let unknown = self.number.is_multiple_of(13);
            let record = json!({
                "decision_id": if unknown { Value::Null } else { json!(format!("d{}", self.number)) },
                "payment_id": format!("p{}", self.number), "attempt_id": format!("a{}-{attempt}", self.number), "psp_id": PSPS[psp],
                "rank_taken": if unknown { Value::Null } else { json!(attempt + 1) }, "approved": approved, "final_approved": approved_yet,
                "status": if approved { "APPROVED" } else if silent { "TIMEOUT" } else { "DECLINED" },
                "error_code": if approved || silent { Value::Null } else { json!(format!("{}", 50 + self.bits(50, 2))) },
                "error_category": if approved || silent { Value::Null } else { json!(["FUNDS", "ISSUER", "FRAUD", "OTHER"][self.bits(50, 2) as usize]) },
                "hard_soft": if approved || silent { Value::Null } else { json!("SOFT") },
                "latency_ms": delay, "amount_minor": if unknown { Value::Null } else { json!(1_000 + self.number) },
                "currency": if unknown { Value::Null } else { json!(["MXN", "USD"][self.bits(2, 1) as usize]) },
                "fee_minor": if approved { json!(self.bits(10, 5)) } else { Value::Null }, "reward": f64::from(u8::from(approved)),
                "timed_out": silent, "outcome_at": attempted_at + delay, "delay_ms": delay,
            });
            let first: Feedback = serde_json::from_value(record).unwrap();
            if silent {
                // Its outcome came after all, when it had been given up.
                told.push(Feedback {
                    approved: true,
                    outcome_at: first.outcome_at + 60_000,
                    delay_ms: delay + 60_000,
                    ..first.clone()
                });
            }
            told.push(first);
        }
        told
    }
}

fn decided(payment: &Payment) -> RoutingDecision {
    let experiment = match payment.number % 5 {
        0 => Value::Null,
        1 | 2 => json!({"id": "x", "variant": "control", "shadow": false}),
        _ => json!({"id": "x", "variant": "treatment", "shadow": false}),
    };
    let record = json!({
        "decision_id": format!("d{}", payment.number), "request_id": format!("r{}", payment.number), "payment_id": format!("p{}", payment.number),
        "decided_at": payment.at, "ranked": [], "message_options": [], "skipped": [], "decided_by": "MODEL", "experiment": experiment,
        "retry": {"should_retry": true, "not_before": null, "psp_order": [], "reason": "it's soft"},
        "versions": {"model": "selector@1", "features": "abc", "policy": "p", "rules": "r"}, "psp_view": {"0": 7},
        "latency_us": {"gather": 1, "score": 2, "decide": 3},
    });
    serde_json::from_value(record).unwrap()
}

/// The program on the log in this directory, in small portions.
pub(crate) struct Program {
    pub(crate) state: PathBuf,
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Program {
    pub(crate) fn new(state: &Path) -> Self {
        Self { state: state.to_owned(), env: vec![("SMARTROUTER__RUNTIME__LOG", "embedded".to_owned())] }
    }

    pub(crate) fn run(&self, words: &[&str], more: &[(&str, &str)]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smartrouter"));
        command.arg("--state-dir").arg(&self.state).args(words).envs(self.env.iter().cloned()).envs(more.iter().copied());
        command.output().unwrap()
    }

    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let done = self.run(words, &[]);
        let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8_lossy(&done.stderr).into_owned());
        assert!(done.status.success(), "{words:?}: {out}{err}");
        out
    }
}

/// A Python with the module duckdb; none: said, and no failure unless wanted.
pub(crate) fn python() -> Option<String> {
    let python = std::env::var("SMARTROUTER_TEST_PYTHON").ok();
    assert!(python.is_some() || std::env::var("SMARTROUTER_REQUIRE_KAFKA").is_err(), "SMARTROUTER_TEST_PYTHON is wanted");
    if python.is_none() {
        eprintln!("skipped: no Python with DuckDB; `make test` makes one");
    }
    python
}
