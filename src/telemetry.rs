//! What the process tells about itself: the name and meaning of every metric, and where logs go.
//!
//! Owns the names: a metric is recorded under a constant of this file or not at all, so that this file is the reference for
//! dashboards. Never decides what to count; the runtime does. Logs go to stderr, so that stdout stays a command's result.
//! Neighbours: `runtime` records, `api` serves what `install_metrics` collects, the command line calls `init_logs`.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// How a metric behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric as dashboards see it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

/// Declares each metric once: a constant with its name, and its row in `METRICS`.
macro_rules! metrics {
    ($($kind:ident $constant:ident $name:literal $help:literal;)*) => {
        // The help texts name labels as they are, for dashboards.
        $(#[doc = $help] #[allow(clippy::doc_markdown)] pub const $constant: &str = $name;)*
        /// Every metric there is.
        pub const METRICS: &[Metric] = &[$(Metric { name: $name, kind: Kind::$kind, help: $help }),*];
    };
}

metrics! {
    Counter RECORDS_READ "smartrouter_records_read_total" "Records read from the inputs, by topic.";
    Counter RECORDS_WRITTEN "smartrouter_records_written_total" "Records written in committed transactions, by topic.";
    Counter DEAD_LETTERS "smartrouter_dead_letters_total" "Records that went to a dead-letter topic, by source topic.";
    Counter DECISIONS "smartrouter_decisions_total" "Routing decisions, by decided_by.";
    Counter FALLBACKS "smartrouter_fallbacks_total" "Decisions that a lower authority than the configured one had to make.";
    Counter RESULTS "smartrouter_results_total" "Results of attempts, by psp_id (unlisted: of PSPs that are not in the configuration) and verdict.";
    Counter UNKNOWN_CODES "smartrouter_unknown_error_codes_total" "Outcomes whose error code is not in the table (error_codes), by psp_id as above.";
    Counter DUPLICATES "smartrouter_duplicates_total" "Records that were recognised as repeats and not counted again, by topic.";
    Counter LATE_DROPPED "smartrouter_late_dropped_total" "Results too late for any open tile, by psp_id.";
    Counter WINDOWLESS "smartrouter_results_without_window_total" "Results of PSPs beyond engine.psps_max: told in feedback, counted in no window.";
    Counter FUTURE_CLAMPED "smartrouter_future_clamped_total" "Event times that lay in the future and were clamped, by topic.";
    Counter TRANSITIONS "smartrouter_psp_transitions_total" "Transitions of PSP segments, by psp_id and new state.";
    Counter COMMITS "smartrouter_commits_total" "Transactions that were committed.";
    Counter COMMIT_FAILURES "smartrouter_commit_failures_total" "Transactions that failed or were not settled, and were redone.";
    Counter PANICS "smartrouter_panics_total" "Panics that were caught at a task's edge, by task; a crash report lies in the state directory.";
    Counter REBALANCES "smartrouter_rebalances_total" "Changes of this instance's partitions, by kind (assigned, revoked).";
    Counter ALERTS "smartrouter_alerts_total" "Deliveries of alerts, by sink and outcome (delivered, refused, retried); refused ones are lost.";
    Counter ALERTS_KEPT_BACK "smartrouter_alerts_kept_back_total" "Transitions that were not told one by one, by sink and reason (maintenance, age, flapping, unreadable).";
    Gauge ALERT_WAIT_SECONDS "smartrouter_alert_wait_seconds" "How long the oldest alert of a sink has been waiting; 0 when none is.";
    Counter WAREHOUSE_ROWS "smartrouter_warehouse_rows_total" "Rows that are durable in the warehouse, by table.";
    Counter WAREHOUSE_UNREADABLE "smartrouter_warehouse_unreadable_total" "Records that cannot be read, so that no row tells of them, by topic.";
    Counter WAREHOUSE_ERRORS "smartrouter_warehouse_errors_total" "Failures of the sync, by kind (full, io, locked, other_log, damaged, row, setting, away, refused, stale, slow, log, panic): it begins again from the last row.";
    Gauge WAREHOUSE_LAG "smartrouter_warehouse_lag" "Offsets between the last durable row and the end of the topic, by topic and partition.";
    Gauge WAREHOUSE_REFUSED "smartrouter_warehouse_rows_refused" "Rows that the warehouse passed over since their channel was made, by topic and partition: alert above 0.";
    Gauge WAREHOUSE_PROCESSING_SECONDS "smartrouter_warehouse_processing_seconds" "From taking a row to committing it in the warehouse, on average, by topic and partition.";
    Histogram WAREHOUSE_FLUSH_SECONDS "smartrouter_warehouse_flush_seconds" "Making the rows of one table and partition durable.";
    Gauge PSP_STATE "smartrouter_psp_state" "State of a PSP over all its traffic: 0 up, 1 degraded, 2 recovering, 3 down.";
    Gauge PSP_APPROVAL_RATE "smartrouter_psp_approval_rate" "Approval rate of a PSP over all its traffic, by psp_id and window.";
    Gauge MODEL_IN_USE "smartrouter_model_in_use" "1 for each model that decisions are made with, or that looks on, by model and stage (champion, canary, shadow).";
    Gauge FEATURE "smartrouter_feature" "A feature over the last 1,000 candidates at serving, by feature and figure (missing, min, p10, p50, p90, max, mean), after its transform.";
    Counter MODELS_REFUSED "smartrouter_models_refused_total" "Models that were to be used and could not be loaded.";
    Counter MODELS_LATE "smartrouter_models_late_total" "Answers of a model that came after policy.score_deadline_ms: the decision fell back.";
    Gauge PARTITIONS "smartrouter_partitions" "Partitions of this instance, by state (restoring, running, resting).";
    Gauge WATERMARK_LAG "smartrouter_watermark_lag_seconds" "How far a task's event time trails the wall clock, by task.";
    Histogram BATCH_RECORDS "smartrouter_batch_records" "Records per committed batch.";
    Histogram COMMIT_SECONDS "smartrouter_commit_seconds" "A commit, from collecting what is staged to the state written.";
    Histogram DECIDE_SECONDS "smartrouter_decide_seconds" "Time of one decision, by step (gather, score, decide).";
    Histogram DECISION_AGE_SECONDS "smartrouter_decision_age_seconds" "From the request's record to its decision being committed.";
    Histogram RESTORE_SECONDS "smartrouter_restore_seconds" "Restoring the state of one task from its changelog.";
}

/// Bounds for times: from a decision (microseconds) to a restore (minutes).
const SECONDS: &[f64] = &[
    0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];
/// Bounds for counts of records.
const RECORDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0];

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// Text for a human at a terminal, JSON for whatever else collects stderr.
    pub fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

#[derive(Debug, Error)]
pub enum TelemetryError {
    #[error(
        "log level {level:?} is not understood: {detail}; use error, warn, info, debug, trace or a filter such as info,rdkafka=debug"
    )]
    Level { level: String, detail: String },
    #[error("logs or metrics are already set up: {0}")]
    Already(String),
}

/// Sends log events to stderr. `level` is a level or a filter per module, such as `info,smartrouter::runtime=debug`.
pub fn init_logs(level: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(level)
        .map_err(|error| TelemetryError::Level { level: level.to_owned(), detail: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| TelemetryError::Already(error.to_string()))
}

/// Collects metrics from here on. The handle renders them as Prometheus text; its `run_upkeep` must be called now and then.
pub fn install_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let already = |error: &dyn std::fmt::Display| TelemetryError::Already(error.to_string());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_records".to_owned()), RECORDS))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| already(&error))?;
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut seen = BTreeSet::new();
        for Metric { name, kind, help } in METRICS {
            assert!(seen.insert(name), "{name} is declared twice");
            assert!(name.starts_with("smartrouter_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}: counters, and only they, end in _total");
            assert!(help.ends_with('.') && help.len() > 15, "{name} needs a help text that is a sentence");
        }
    }

    #[test]
    fn an_unknown_level_is_refused_by_name() {
        let error = init_logs("loud=very", LogFormat::Text).unwrap_err().to_string();
        assert!(error.contains("loud=very"), "{error}");
    }
}
