//! From a request to its decision: features are gathered, the model in use is asked, the engine decides, and what each was told is kept.
//!
//! Owns the deadline of a model and the measure of its time. Never ranks: `engine::policy` does, by what it is told here.

use super::models::{Loaded, Serving};
use super::shared::Shared;
use crate::domain::learning::{CandidatePrediction, Prediction};
use crate::domain::payment::RoutingRequest;
use crate::domain::psp::Segment;
use crate::domain::{EpochMs, PspId};
use crate::engine::features::{CustomerHistory, Encoder, RequestFacts, Served, Try};
use crate::engine::policy::{Chance, Chances, DecideInput, Decided, PspView, decide};
use crate::telemetry;
use metrics::{counter, histogram};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request with all that features are made of.
struct Asked<'a> {
    encoder: &'a Encoder,
    history: Served<'a>,
    request: &'a RoutingRequest,
    at: EpochMs,
}

impl<'a> Asked<'a> {
    fn gather(shared: &'a Shared, input: &DecideInput<'a>, customer: Option<&'a CustomerHistory>) -> Self {
        let (encoder, request, at) = (shared.models.encoder(), input.request, input.decided_at);
        let mut history = Served::new(&encoder.catalogue().history, &*shared.global, &request.payment, at);
        if let Some(customer) = customer {
            history.customer(customer);
        }
        for attempt in request.previous_attempts.as_deref().unwrap_or(input.previous) {
            history.tried(Try::told(attempt, &shared.codes));
        }
        let all = Segment::all();
        for psp in shared.router.considered(request) {
            if let Some(state) = shared.global.state(&psp, &all) {
                history.psp(state);
            }
        }
        Self { encoder, history, request, at }
    }

    /// A row for each PSP, as if the payment had failed at `failed` just now.
    fn rows(&self, failed: &[PspId], psps: &[PspId]) -> Vec<f32> {
        let supposed = (!failed.is_empty()).then(|| {
            let mut history = self.history.clone();
            for psp in failed {
                history.suppose_declined(psp, self.at);
            }
            history
        });
        let history = supposed.as_ref().unwrap_or(&self.history);
        let number = i32::try_from(history.attempts()).unwrap_or(i32::MAX - 1) + 1;
        let facts = RequestFacts::gather(&self.request.payment, self.at, number, history);
        let mut rows = Vec::with_capacity(psps.len() * self.encoder.width());
        self.encoder.encode(&facts, psps, history, &mut rows);
        rows
    }
}

/// A model, asked about one request.
struct ByModel<'a> {
    asked: &'a Asked<'a>,
    loaded: &'a Loaded,
    begun: Instant,
    deadline: Duration,
    spent: Cell<Duration>,
}

impl Chances for ByModel<'_> {
    fn model(&self) -> &str {
        &self.loaded.label
    }

    fn after(&self, failed: &[PspId], psps: &[PspId]) -> Result<Vec<Chance>, String> {
        let begun = Instant::now();
        let chances = chances(self.loaded, &self.asked.rows(failed, psps))?;
        self.spent.set(self.spent.get() + begun.elapsed());
        if self.begun.elapsed() > self.deadline {
            counter!(telemetry::MODELS_LATE).increment(1);
            return Err(format!("{} has not answered within {} ms", self.loaded.label, self.deadline.as_millis()));
        }
        Ok(chances)
    }
}

/// A model that panics has failed, and takes nothing down with it.
fn chances(loaded: &Loaded, rows: &[f32]) -> Result<Vec<Chance>, String> {
    let said = catch_unwind(AssertUnwindSafe(|| loaded.model.chances(rows)));
    let said = said.map_err(|_| format!("{} failed", loaded.label))?;
    Ok(said.into_iter().map(|(raw, calibrated)| Chance { raw, calibrated }).collect())
}

/// The decision with its prediction, and a prediction of each model that looks on.
/// `customer`: what is remembered of the payment's own.
pub(super) fn decided(
    shared: &Shared,
    input: &DecideInput<'_>,
    customer: Option<&CustomerHistory>,
    begun: Instant,
) -> (Decided, Vec<Prediction>) {
    let serving = shared.models.serving();
    let request = input.request;
    let asked = Asked::gather(shared, input, customer);
    let gather = begun.elapsed();
    let deadline_ms = u64::try_from(shared.settings.policy.score_deadline_ms).unwrap_or(0);
    let ask = |loaded: Option<&Arc<Loaded>>| {
        let deadline = Duration::from_millis(deadline_ms);
        let begun = Instant::now();
        let by_model = loaded.map(|loaded| ByModel { asked: &asked, loaded, begun, deadline, spent: Cell::default() });
        let chances = by_model.as_ref().map(|by_model| by_model as &dyn Chances);
        let decided = decide(&shared.router, &DecideInput { chances, ..*input });
        (decided, by_model.map_or(Duration::ZERO, |by_model| by_model.spent.get()))
    };
    let asking = serving.of_payment(&shared.settings.policy.salt, &request.payment.payment_id);
    let (mut decided, score) = ask(asking.model);
    // After an attempt the model that chose it is the likelier one: then the odds are those of the payment's own model.
    if let Some((other, share)) = asking.others.filter(|_| input.history().is_empty()) {
        decided.mix(&ask(other).0, share);
    }
    let decide = begun.elapsed().saturating_sub(gather + score);
    let latency = &mut decided.decision.latency_us;
    (latency.gather, latency.score, latency.decide) = (micros(gather), micros(score), micros(decide));
    for (step, spent) in [("gather", gather), ("score", score), ("decide", decide)] {
        histogram!(telemetry::DECIDE_SECONDS, "step" => step).record(spent.as_secs_f64());
    }
    decided.prediction.latency_us = micros(gather + score + decide);
    let rows = keep_features(&asked, &mut decided);
    shared.features.saw(&rows, asked.encoder.width());
    let shadows = shadows(&serving, &decided.prediction, &rows);
    (decided, shadows)
}

/// Puts what was told of the request and of each candidate into the prediction: models learn from just that.
fn keep_features(asked: &Asked<'_>, decided: &mut Decided) -> Vec<f32> {
    let (encoder, prediction) = (asked.encoder, &mut decided.prediction);
    let psps: Vec<PspId> = prediction.candidates.iter().map(|candidate| candidate.psp_id.clone()).collect();
    let rows = asked.rows(&[], &psps);
    let (width, of_request) = (encoder.width(), encoder.request_width());
    for (candidate, row) in prediction.candidates.iter_mut().zip(rows.chunks_exact(width)) {
        candidate.features = row[of_request..].to_vec();
    }
    prediction.request_features = rows.get(..of_request).unwrap_or_default().to_vec();
    prediction.feature_version.clone_from(&encoder.catalogue().version);
    decided.decision.versions.features.clone_from(&encoder.catalogue().version);
    rows
}

/// What the models that only look on say; the features stand in the decision's own prediction.
fn shadows(serving: &Serving, of: &Prediction, rows: &[f32]) -> Vec<Prediction> {
    let shadow = |loaded: &Loaded| {
        let said = chances(loaded, rows).ok()?;
        let mut best = (0.0, PspId::new(""));
        let candidates = of.candidates.iter().zip(said).map(|(candidate, chance)| {
            if chance.calibrated > best.0 {
                best = (chance.calibrated, candidate.psp_id.clone());
            }
            CandidatePrediction {
                features: Vec::new(),
                raw_probability: Some(chance.raw),
                calibrated_probability: Some(chance.calibrated),
                ..candidate.clone()
            }
        });
        let candidates = candidates.collect();
        Some(Prediction {
            model: loaded.label.clone(),
            request_features: Vec::new(),
            candidates,
            chosen: best.1,
            shadow: true,
            ..of.clone()
        })
    };
    serving.shadows.iter().filter_map(|loaded| shadow(loaded)).collect()
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
