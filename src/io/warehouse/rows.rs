//! The one row builder: a record of a topic becomes the row of its table, the same for every adapter.

use super::{Cell, Row};
use crate::domain::control::ControlModel;
use crate::domain::decision::RoutingDecision;
use crate::domain::learning::{CandidatePrediction, Feedback, Prediction};
use crate::domain::{EpochMs, PspId};
use crate::io::codec::{Codec, CodecError, RecordKind};
use crate::io::log::TopicPartition;
use serde::Serialize;

/// Where a row comes from.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub at: &'a TopicPartition,
    pub offset: i64,
    /// That of the row before it in the partition.
    pub previous_offset: Option<i64>,
    pub ingested_at: EpochMs,
}

/// The row of a record of this kind. Kinds without a table have none.
pub fn row(kind: RecordKind, codec: &Codec, value: &[u8], place: Place<'_>) -> Result<Option<Row>, CodecError> {
    let cells = match kind {
        RecordKind::Prediction => prediction(codec.decode(value)?).to_vec(),
        RecordKind::Feedback => feedback(codec.decode(value)?).to_vec(),
        RecordKind::RoutingDecision => decision(codec.decode(value)?).to_vec(),
        RecordKind::ControlModel => stage(codec.decode(value)?).to_vec(),
        _ => return Ok(None),
    };
    let previous = place.previous_offset.map_or(Cell::Null, Cell::Long);
    let place = [
        Cell::Text(place.at.topic.to_string()),
        Cell::Int(place.at.partition),
        Cell::Long(place.offset),
        previous,
        Cell::Time(place.ingested_at),
    ];
    Ok(Some(Row(place.into_iter().chain(cells).collect())))
}

/// The row of a model's version: card, lineage and verdict as they lie on disk.
pub fn card_row(model: &str, version: &str, files: [Option<Vec<u8>>; 3]) -> Row {
    let text = |bytes: Vec<u8>| Cell::Text(String::from_utf8_lossy(&bytes).into_owned());
    let named = [Cell::Text(model.to_owned()), Cell::Text(version.to_owned())];
    Row(named.into_iter().chain(files.map(|file| file.map_or(Cell::Null, text))).collect())
}

fn prediction(it: Prediction) -> [Cell; 15] {
    let doubles = |value: fn(&CandidatePrediction) -> Option<f64>| Cell::Doubles(it.candidates.iter().map(value).collect());
    let raw = doubles(|candidate| candidate.raw_probability);
    let calibrated = doubles(|candidate| candidate.calibrated_probability);
    let propensities = doubles(|candidate| Some(candidate.propensity));
    let psps = Cell::Texts(it.candidates.iter().map(|candidate| candidate.psp_id.to_string()).collect());
    let features = Cell::FloatLists(it.candidates.into_iter().map(|candidate| candidate.features).collect());
    [
        Cell::Text(it.decision_id),
        Cell::Text(it.request_id),
        Cell::Text(it.payment_id),
        Cell::Text(it.model),
        Cell::Text(it.feature_version),
        Cell::Floats(it.request_features),
        psps,
        features,
        raw,
        calibrated,
        propensities,
        psp(&it.chosen),
        Cell::Flag(it.shadow),
        Cell::Time(it.scored_at),
        Cell::Long(it.latency_us),
    ]
}

fn feedback(it: Feedback) -> [Cell; 20] {
    [
        text(it.decision_id),
        Cell::Text(it.payment_id),
        Cell::Text(it.attempt_id),
        psp(&it.psp_id),
        it.rank_taken.map_or(Cell::Null, Cell::Int),
        Cell::Flag(it.approved),
        Cell::Flag(it.final_approved),
        symbol(&it.status),
        text(it.error_code),
        text(it.error_category),
        it.hard_soft.as_ref().map_or(Cell::Null, symbol),
        Cell::Long(it.latency_ms),
        it.amount_minor.map_or(Cell::Null, Cell::Long),
        text(it.currency),
        it.fee_minor.map_or(Cell::Null, Cell::Long),
        Cell::Double(it.reward),
        Cell::Flag(it.timed_out),
        Cell::Time(it.outcome_at.saturating_sub(it.delay_ms)),
        Cell::Time(it.outcome_at),
        Cell::Long(it.delay_ms),
    ]
}

fn decision(it: RoutingDecision) -> [Cell; 25] {
    let (id, variant, shadow) = match it.experiment {
        Some(of) => (Cell::Text(of.id), Cell::Text(of.variant), Cell::Flag(of.shadow)),
        None => (Cell::Null, Cell::Null, Cell::Null),
    };
    [
        Cell::Text(it.decision_id),
        Cell::Text(it.request_id),
        Cell::Text(it.payment_id),
        Cell::Time(it.decided_at),
        Cell::Texts(it.ranked.iter().map(|ranked| ranked.psp_id.to_string()).collect()),
        Cell::Doubles(it.ranked.iter().map(|ranked| ranked.approval_probability).collect()),
        json(&it.ranked),
        json(&it.message_options),
        Cell::Flag(it.retry.should_retry),
        json(&it.retry),
        symbol(&it.decided_by),
        text(it.rule_id),
        text(it.fallback_reason),
        json(&it.skipped),
        id,
        variant,
        shadow,
        Cell::Text(it.versions.model),
        Cell::Text(it.versions.features),
        Cell::Text(it.versions.policy),
        Cell::Text(it.versions.rules),
        json(&it.psp_view),
        Cell::Long(it.latency_us.gather),
        Cell::Long(it.latency_us.score),
        Cell::Long(it.latency_us.decide),
    ]
}

fn stage(it: ControlModel) -> [Cell; 6] {
    let stage = symbol(&it.stage);
    [Cell::Text(it.id), Cell::Text(it.version), stage, Cell::Time(it.at), text(it.by), Cell::Text(it.body_json)]
}

fn text(value: Option<String>) -> Cell {
    value.map_or(Cell::Null, Cell::Text)
}

fn psp(id: &PspId) -> Cell {
    Cell::Text(id.to_string())
}

fn json(value: &impl Serialize) -> Cell {
    Cell::Text(serde_json::to_string(value).unwrap_or_default())
}

/// The name of an enum's value, as on the wire.
fn symbol(value: &impl Serialize) -> Cell {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => Cell::Text(name),
        other => Cell::Text(other.map_or_else(|_| String::new(), |other| other.to_string())),
    }
}
