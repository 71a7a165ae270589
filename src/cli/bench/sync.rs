//! `bench sync`: records of an embedded log become rows of a local warehouse, in this process.
//!
//! Measures reading the log, decoding, building rows and writing Parquet, on one thread; not the making of the records.

use super::child;
use super::figures::{Figures, Goal};
use super::{Bench, Size};
use crate::cli::sync::prepare;
use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use smartrouter::domain::learning::{Feedback, Prediction};
use smartrouter::io::codec::{Codec, Wire};
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::{Appender, EventLog, Output};
use smartrouter::io::topics::{self, PlanOptions, TopicNames};
use smartrouter::io::warehouse::local::{LocalRules, LocalWarehouse};
use smartrouter::io::warehouse::{Catalogue, Warehouse};
use smartrouter::runtime::Stop;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone, Debug, Default, Args)]
pub(super) struct Options {
    /// Rows: results, and a tenth as many predictions with features [default: 1000000, 50000 with --quick]
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
}

const SYNC: &str = "sync";
const BATCH: u64 = 2_000;
/// As many as the catalogue has, about.
const FEATURES: usize = 140;

pub(super) fn run(bench: &Bench<'_>, options: &Options, figures: &mut Figures) -> Result<()> {
    let rows = options.rows.unwrap_or(match bench.size {
        Size::Full => 1_000_000,
        Size::Quick => 50_000,
    });
    for run in 0..bench.runs {
        let dir = bench.context.state_dir().join(format!("bench-{}-{run}", super::now_ms()));
        for (name, count, goal) in
            [("results", rows, Some(Goal::AtLeast(20_000.0))), ("predictions of 4 candidates", rows / 10, None)]
        {
            measure(bench, (name, dir.join(name), count, goal), figures)?;
        }
        fs::remove_dir_all(&dir)?;
    }
    figures.add(SYNC, "peak resident memory", ("MiB", None), child::rss_peak_mib("self")?);
    Ok(())
}

fn measure(bench: &Bench<'_>, of: (&str, PathBuf, u64, Option<Goal>), figures: &mut Figures) -> Result<()> {
    let (name, dir, count, goal) = of;
    let log = EmbeddedLog::open(dir.join("log"), EmbeddedOptions::default())?;
    log.create_topics(&topics::plan(&topics::declared()?, &[], &PlanOptions::default()).create)?;
    fill(&log, &bench.context.codec()?, name == "results", count)?;
    let mut sync = prepare(bench.context, Arc::new(log), Stop::default())?;
    sync.names = TopicNames::default();
    let catalogue = Catalogue::shipped()?;
    sync.open = Box::new(move |log_id| {
        let rules = LocalRules { retention_days: 0, files_max: usize::MAX, small_bytes: 0 };
        Ok(Box::new(LocalWarehouse::open(&dir.join("warehouse"), &catalogue, log_id, rules)?) as Box<dyn Warehouse>)
    });
    let (begun, begun_cpu_s) = (Instant::now(), child::cpu_s("self")?);
    let synced = sync.once()?;
    let (took_s, cpu_s) = (begun.elapsed().as_secs_f64(), child::cpu_s("self")? - begun_cpu_s);
    let written: u64 = synced.rows.values().sum();
    if written != count {
        bail!("not exactly once: {written} rows of {count} records");
    }
    figures.add(SYNC, &format!("{name}: rows/s"), ("1/s", None), count as f64 / took_s);
    figures.add(SYNC, &format!("{name}: rows per CPU-second"), ("1/s", goal), count as f64 / cpu_s);
    Ok(())
}

fn fill(log: &EmbeddedLog, codec: &Codec, results: bool, count: u64) -> Result<()> {
    let mut appender = log.appender()?;
    for from in (0..count).step_by(BATCH as usize) {
        let numbers = from..(from + BATCH).min(count);
        if results {
            append(appender.as_mut(), codec, numbers, feedback)?;
        } else {
            append(appender.as_mut(), codec, numbers, prediction)?;
        }
    }
    Ok(appender.flush()?)
}

fn append<T: Wire>(
    appender: &mut dyn Appender,
    codec: &Codec,
    numbers: std::ops::Range<u64>,
    record: impl Fn(u64) -> Result<T>,
) -> Result<()> {
    let mut outputs = Vec::new();
    for number in numbers {
        let mut value = Vec::new();
        codec.encode(&record(number)?, &mut value)?;
        outputs.push(Output {
            topic: T::KIND.topic().into(),
            partition: Some((number % 4) as i32),
            timestamp_ms: None,
            key: Some(Bytes::from(number.to_string())),
            value: Some(value.into()),
            headers: Vec::new(),
        });
    }
    Ok(appender.append(outputs)?)
}

fn feedback(number: u64) -> Result<Feedback> {
    let approved = !number.is_multiple_of(5);
    Ok(serde_json::from_value(json!({
        "decision_id": format!("5f0c7a52-8c3e-5d4f-9a51-{number:012}"), "payment_id": format!("payment-{number:012}"),
        "attempt_id": format!("attempt-{number:012}"), "psp_id": (["worldpay", "mit", "elavon"][number as usize % 3]), "rank_taken": 1,
        "approved": approved, "final_approved": approved, "status": if approved { "APPROVED" } else { "DECLINED" },
        "error_code": if approved { Value::Null } else { json!("51") }, "error_category": Value::Null,
        "hard_soft": if approved { Value::Null } else { json!("SOFT") }, "latency_ms": 300 + number % 900,
        "amount_minor": 10_000 + number % 90_000, "currency": "MXN", "fee_minor": 35, "reward": f64::from(u8::from(approved)),
        "timed_out": false, "outcome_at": 1_767_614_400_000 + number * 40, "delay_ms": 300 + number % 900,
    }))?)
}

fn prediction(number: u64) -> Result<Prediction> {
    let features =
        |from: u64| (0..FEATURES as u64 / 2).map(|it| ((from * 31 + it * 7) % 1_000) as f32 / 100.0).collect::<Vec<f32>>();
    let candidate = |place: u64| {
        json!({"psp_id": format!("psp-{place}"), "features": features(number + place), "raw_probability": 0.7, "calibrated_probability": 0.8,
               "propensity": 0.25})
    };
    Ok(serde_json::from_value(json!({
        "decision_id": format!("5f0c7a52-8c3e-5d4f-9a51-{number:012}"), "request_id": format!("request-{number:012}"),
        "payment_id": format!("payment-{number:012}"), "model": "processor_selector@1", "feature_version": "0123456789abcdef",
        "request_features": features(number), "candidates": (0..4).map(candidate).collect::<Vec<_>>(), "chosen": "psp-0", "shadow": false,
        "scored_at": 1_767_614_400_000 + number * 40, "latency_us": 90,
    }))?)
}
