//! `explain`: the path of one decision, in words and numbers, from what the topics say of it.
//!
//! Owns the search and the words. Nothing is decided anew: what stands in the records is told, and the model that decided is asked which
//! features its answer hangs on.

use super::context::Context;
use super::models::Named;
use super::scan::scan;
use super::screen::{Screen, one_line, remark, time};
use super::{Verdict, WrongUse};
use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use smartrouter::domain::PspId;
use smartrouter::domain::decision::RoutingDecision;
use smartrouter::domain::learning::{Feedback, Prediction};
use smartrouter::engine::features::{Catalogue, Encoder, Feature};
use smartrouter::io::codec::{Codec, Wire};
use smartrouter::io::log::EventLog;
use smartrouter::learn;

const EFFECTS_TOLD: usize = 8;
/// Smaller effects on a chance are not worth a line.
const EFFECT_LEAST: f64 = 0.0005;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Id of the decision, of its request, or of the payment (all decisions on it)
    #[arg(value_name = "DECISION")]
    id: String,
}

/// A decision with all that the topics say of it.
#[derive(Serialize)]
struct Explained {
    decision: RoutingDecision,
    prediction: Option<Prediction>,
    shadows: Vec<Prediction>,
    feedback: Vec<Feedback>,
    effects: Vec<Effect>,
}

/// How a feature moved the chance of the PSP that went first, against other payments.
#[derive(Serialize)]
struct Effect {
    feature: String,
    values: Vec<f32>,
    on_chance: f64,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Verdict> {
    let is_asked = |it: &RoutingDecision| [&it.decision_id, &it.request_id, &it.payment_id].contains(&&options.id);
    let (log, codec) = (context.log()?, context.codec()?);
    let way = (log.as_ref(), &codec);
    let decisions: Vec<RoutingDecision> = read(context, way, is_asked)?;
    if decisions.is_empty() {
        bail!(WrongUse(format!(
            "{} has no decision, request or payment {:?}",
            context.topic(RoutingDecision::KIND.topic()),
            options.id
        )));
    }
    let is_of = |id: &str| decisions.iter().any(|it| it.decision_id == id);
    let predictions: Vec<Prediction> = read(context, way, |it: &Prediction| is_of(&it.decision_id))?;
    let feedback: Vec<Feedback> = read(context, way, |it: &Feedback| it.decision_id.as_deref().is_some_and(is_of))?;
    let screen = context.screen();
    let mut every = Vec::new();
    for decision in decisions {
        let own = predictions.iter().filter(|it| it.decision_id == decision.decision_id);
        let (shadows, own): (Vec<&Prediction>, Vec<&Prediction>) = own.partition(|it| it.shadow);
        let prediction = own.first().map(|it| (*it).clone());
        let effects = prediction.as_ref().map(|it| effects_of(context, it)).transpose()?.unwrap_or_default();
        let of_this = |it: &&Feedback| it.decision_id.as_ref() == Some(&decision.decision_id);
        let feedback = feedback.iter().filter(of_this).cloned().collect();
        every.push(Explained { decision, prediction, shadows: shadows.into_iter().cloned().collect(), feedback, effects });
    }
    every.iter().try_for_each(|it| tell(screen, it))?;
    screen.object(&json!({ "decisions": every }))?;
    Ok(Verdict::Done)
}

/// Records of the kind that are wanted; what cannot be read is none of them.
fn read<T: Wire>(context: &Context, (log, codec): (&dyn EventLog, &Codec), is_wanted: impl Fn(&T) -> bool) -> Result<Vec<T>> {
    let mut found = Vec::new();
    scan(log, &[context.topic(T::KIND.topic())], |record| {
        let value = record.value.as_ref().and_then(|bytes| codec.decode::<T>(bytes).ok());
        found.extend(value.filter(|value| is_wanted(value)));
    })?;
    Ok(found)
}

/// None, where no model decided, or it is not here any more.
fn effects_of(context: &Context, prediction: &Prediction) -> Result<Vec<Effect>> {
    let Ok(named) = prediction.model.parse::<Named>() else { return Ok(Vec::new()) };
    let encoder = Encoder::new(Catalogue::shipped()?);
    if prediction.feature_version != encoder.catalogue().version {
        remark("the features are of another catalogue than this program's: what mattered is not told");
        return Ok(Vec::new());
    }
    let loaded = named
        .files(context)
        .and_then(|files| Ok((learn::load(&files, &prediction.feature_version)?, learn::golden_rows(&files)?)));
    let (model, references) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            remark(format!("{named} cannot be asked what mattered: {error}"));
            return Ok(Vec::new());
        }
    };
    let chosen = prediction.candidates.iter().find(|it| it.psp_id == prediction.chosen);
    let row = chosen.map(|chosen| [prediction.request_features.as_slice(), &chosen.features].concat()).unwrap_or_default();
    if row.len() != encoder.width() {
        return Ok(Vec::new());
    }
    let features = &encoder.catalogue().features;
    let groups: Vec<Vec<usize>> = (0..features.len()).map(|feature| encoder.columns_of(feature).collect()).collect();
    let told = learn::effects(&model, &row, &groups, &references);
    let effect = |((feature, group), on_chance): ((&Feature, &Vec<usize>), f64)| Effect {
        feature: feature.name.clone(),
        values: group.iter().map(|column| row[*column]).collect(),
        on_chance,
    };
    let mut effects: Vec<Effect> = features.iter().zip(&groups).zip(told).map(effect).collect();
    effects.retain(|effect| effect.on_chance.abs() >= EFFECT_LEAST);
    effects.sort_by(|a, b| b.on_chance.abs().total_cmp(&a.on_chance.abs()));
    effects.truncate(EFFECTS_TOLD);
    Ok(effects)
}

fn tell(screen: &Screen, it: &Explained) -> Result<()> {
    let decision = &it.decision;
    let versions = &decision.versions;
    let short = |text: &str| text.chars().take(12).collect::<String>();
    let model = if versions.model.is_empty() { "none" } else { &versions.model };
    screen.say(format!("decision {} on payment {}", decision.decision_id, one_line(&decision.payment_id)))?;
    screen.say(format!("  at        {}, request {}", time(&json!(decision.decided_at)), one_line(&decision.request_id)))?;
    screen.say(format!("  by        {}{}", json!(decision.decided_by).as_str().unwrap_or("?"), rule(decision)))?;
    if let Some(reason) = &decision.fallback_reason {
        screen.say(format!("  fallback  {}", one_line(reason)))?;
    }
    screen.say(format!(
        "  versions  model {model}, features {}, policy {}, rules {}",
        short(&versions.features),
        short(&versions.policy),
        short(&versions.rules)
    ))?;
    let latency = &decision.latency_us;
    screen.say(format!("  took      gather {} µs, score {} µs, decide {} µs", latency.gather, latency.score, latency.decide))?;
    for (place, ranked) in decision.ranked.iter().enumerate() {
        let chance = ranked.approval_probability.map(|it| format!(", chance {:.1} %", it * 100.0)).unwrap_or_default();
        let value = ranked.expected_value_minor.map(|it| format!(", worth {it} minor units")).unwrap_or_default();
        screen.say(format!("{}. {}{chance}{value}, here with probability {:.4}", place + 1, ranked.psp_id, ranked.propensity))?;
        ranked.reasons.iter().try_for_each(|reason| screen.say(format!("     {}", one_line(reason))))?;
    }
    for skipped in &decision.skipped {
        let detail = skipped.detail.as_deref().map(|it| format!(": {}", one_line(it))).unwrap_or_default();
        screen.say(format!("-  {} left out, {}{detail}", skipped.psp_id, json!(skipped.reason).as_str().unwrap_or("?")))?;
    }
    tell_model(screen, it)?;
    let plan = &decision.retry;
    screen.say(format!("retry       {}: {}", if plan.should_retry { "yes" } else { "no" }, one_line(&plan.reason)))?;
    tell_feedback(screen, &it.feedback)
}

fn rule(decision: &RoutingDecision) -> String {
    decision.rule_id.as_deref().map(|rule| format!(", rule {}", one_line(rule))).unwrap_or_default()
}

fn tell_model(screen: &Screen, it: &Explained) -> Result<()> {
    let chances = |prediction: &Prediction| {
        let one = |psp: &PspId, chance: Option<f64>| chance.map(|chance| format!("{psp} {:.1} %", chance * 100.0));
        let each = prediction.candidates.iter().filter_map(|it| one(&it.psp_id, it.calibrated_probability));
        each.collect::<Vec<_>>().join(", ")
    };
    if let Some(prediction) = &it.prediction {
        screen.say(format!("chances     {} by {}", chances(prediction), prediction.model))?;
    }
    if let (Some(prediction), false) = (&it.prediction, it.effects.is_empty()) {
        screen.say(format!("mattered for {}, in points of its chance, beside other payments:", prediction.chosen))?;
        for effect in &it.effects {
            let values: Vec<String> = effect.values.iter().map(|value| format!("{value:.3}")).collect();
            screen.say(format!("  {:+6.2}  {} = {}", effect.on_chance * 100.0, effect.feature, values.join(" / ")))?;
        }
    }
    it.shadows
        .iter()
        .try_for_each(|it| screen.say(format!("shadow      {}: {}; would have chosen {}", it.model, chances(it), it.chosen)))
}

fn tell_feedback(screen: &Screen, feedback: &[Feedback]) -> Result<()> {
    if feedback.is_empty() {
        return screen.say("came of it  nothing is known");
    }
    feedback.iter().try_for_each(|it| {
        let code = it.error_code.as_deref().map(|code| format!(" ({})", one_line(code))).unwrap_or_default();
        let status = json!(it.status);
        let rank = it.rank_taken.map(|rank| format!("rank {rank}, ")).unwrap_or_default();
        screen.say(format!(
            "came of it  {rank}{}: {}{code} after {} ms",
            it.psp_id,
            status.as_str().unwrap_or("?"),
            it.latency_ms
        ))
    })
}
