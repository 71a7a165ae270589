//! Models in decisions: learned from what decisions logged, taken into use by a record, refused, looking on, rolled back.

use crate::world::World;
use smartrouter::domain::PspId;
use smartrouter::domain::control::{ControlModel, Order, Stages, Wish};
use smartrouter::domain::decision::{DecidedBy, RoutingDecision, StepLatency};
use smartrouter::domain::learning::{Feedback, Prediction};
use smartrouter::domain::payment::PaymentAttempt;
use smartrouter::engine::features::{Catalogue, Encoder};
use smartrouter::io::models;
use smartrouter::learn::{self, Family, Kind, LoggedFeedback, Model, Options, Shares, Table};
use smartrouter::runtime::models::PROCESSOR_SELECTOR;
use std::path::Path;

const BY_MODEL: &[(&str, &str)] = &[("policy.ranking", "model")];

/// What was logged, as a table; then a day later.
fn logged(world: &mut World) -> Table {
    let settings = world.shared(&[("engine.outcome_wait_ms", "60000")]).settings.clone();
    let mut feedback = LoggedFeedback::new([None, Some(world.now - 120_000)]);
    world.read::<Feedback>().into_iter().for_each(|record| feedback.accept(record));
    let mut rows = feedback.into_rows(Encoder::new(Catalogue::shipped().unwrap()), &settings);
    world.read::<Prediction>().iter().for_each(|record| rows.prediction(record));
    world.read::<PaymentAttempt>().iter().for_each(|record| rows.attempt(record));
    rows.finish().built.table
}

fn train(table: &Table, seed: u64) -> learn::Files {
    let options = Options { kind: Kind::One(Family::Logistic), seed, shares: Shares::default(), trials: 1, bags: 1 };
    let model = learn::train(table, &options, &mut |_, _, _| ()).unwrap().model;
    learn::save(&model, table, &serde_json::Value::Null, &serde_json::Value::Null).unwrap()
}

fn load(models: &Path, version: &str) -> Model {
    let files = models::read(models, PROCESSOR_SELECTOR, version).unwrap();
    learn::load(&files, &Catalogue::shipped().unwrap().version).unwrap()
}

fn order(world: &World, wish: Wish) {
    let mut stages = Stages::default();
    world.read::<ControlModel>().iter().for_each(|record| stages.apply(record));
    let order = Order { name: PROCESSOR_SELECTOR.into(), wish, at: world.now, by: None, reason: None, forced: false };
    for record in stages.plan(&order).unwrap() {
        world.send(&record.key(), &record);
    }
}

/// A world whose traffic was logged, with two versions of a model that learned from it, each that another PSP approves more.
fn taught() -> World {
    let mut world = World::new();
    let mut engine = world.engine();
    for _ in 0..40 {
        world.traffic(30);
        engine.drain().unwrap();
    }
    engine.close().unwrap();
    let mut table = logged(&mut world);
    assert!(table.rows.len() > 800, "{} rows", table.rows.len());
    for (version, best) in [(1, "mit"), (2, "elavon")] {
        for (index, row) in table.rows.iter_mut().enumerate() {
            row.approved = row.psp_id.as_str() == best || index % 2 == 0;
        }
        models::write(&world.models_dir(), PROCESSOR_SELECTOR, version, &train(&table, u64::from(version))).unwrap();
    }
    world
}

/// The decisions on the next payments, with what was predicted for them.
fn decide(world: &mut World, payments: usize) -> (Vec<RoutingDecision>, Vec<Prediction>) {
    let (before, seen) = (world.read::<RoutingDecision>(), world.read::<Prediction>().len());
    let mut engine = world.engine_with(BY_MODEL);
    world.traffic(payments);
    engine.drain().unwrap();
    engine.close().unwrap();
    let decisions = world.read::<RoutingDecision>().into_iter().filter(|it| !before.contains(it)).collect();
    let predictions: Vec<Prediction> = world.read();
    assert!(predictions.len() >= seen + payments);
    (decisions, predictions)
}

fn by_model(decisions: &[RoutingDecision], version: &str) -> usize {
    let label = format!("{PROCESSOR_SELECTOR}@{version}");
    decisions.iter().filter(|it| it.decided_by == DecidedBy::Model && it.versions.model == label).count()
}

#[test]
fn a_champion_decides_by_the_features_that_are_logged() {
    let mut world = taught();
    let (decisions, _) = decide(&mut world, 30);
    assert!(
        decisions.iter().all(|it| it.decided_by == DecidedBy::HardRule || it.fallback_reason.is_some()),
        "no model is in use"
    );
    order(&world, Wish::Champion { version: "1".into() });
    let (decisions, predictions) = decide(&mut world, 60);
    let free = decisions.iter().filter(|it| it.decided_by != DecidedBy::HardRule).count();
    assert!(free > 40 && by_model(&decisions, "1") == free, "{} of {free}", by_model(&decisions, "1"));
    // What is logged is what the model was told: it says the same again.
    let model = load(&world.models_dir(), "1");
    let mut compared = 0;
    for decision in decisions.iter().filter(|it| it.decided_by == DecidedBy::Model) {
        let prediction = predictions.iter().find(|it| it.decision_id == decision.decision_id).unwrap();
        for candidate in &prediction.candidates {
            let row = [prediction.request_features.as_slice(), &candidate.features].concat();
            let [(raw, calibrated)] = model.chances(&row)[..] else { panic!("one row, one chance") };
            assert_eq!((candidate.raw_probability, candidate.calibrated_probability), (Some(raw), Some(calibrated)));
            compared += 1;
        }
    }
    assert!(compared > 100);
}

#[test]
fn a_model_that_cannot_be_trusted_leaves_the_old_one_standing() {
    let mut world = taught();
    order(&world, Wish::Champion { version: "1".into() });
    let weights = world.models_dir().join(PROCESSOR_SELECTOR).join("2/weights.safetensors");
    let good = std::fs::read(&weights).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bad).unwrap();
    let mut engine = world.engine_with(BY_MODEL);
    order(&world, Wish::Champion { version: "2".into() });
    engine.step().unwrap();
    world.traffic(30);
    engine.drain().unwrap();
    let label = || world.read::<RoutingDecision>().last().map(|it| it.versions.model.clone());
    assert!(world.read::<RoutingDecision>().iter().any(|it| it.versions.model == "processor_selector@1"), "{:?}", label());
    assert!(world.read::<RoutingDecision>().iter().all(|it| it.versions.model != "processor_selector@2"));
    drop(engine);
    // Once its files are whole it is taken into use.
    std::fs::write(&weights, good).unwrap();
    let (decisions, _) = decide(&mut world, 30);
    assert!(by_model(&decisions, "2") > 20);
    order(&world, Wish::Rollback);
    let (decisions, _) = decide(&mut world, 30);
    assert!(by_model(&decisions, "1") > 20);
}

#[test]
fn a_shadow_predicts_and_changes_nothing() {
    let told = |with_shadow: bool| {
        let mut world = taught();
        order(&world, Wish::Champion { version: "1".into() });
        if with_shadow {
            order(&world, Wish::Shadow { version: "2".into() });
        }
        let (mut decisions, predictions) = decide(&mut world, 60);
        for decision in &mut decisions {
            decision.latency_us = StepLatency::default();
        }
        let (shadows, own): (Vec<Prediction>, Vec<Prediction>) = predictions.into_iter().partition(|it| it.shadow);
        (decisions, own.into_iter().map(|it| Prediction { latency_us: 0, ..it }).collect::<Vec<_>>(), shadows)
    };
    let (alone, own, none) = told(false);
    let (watched, beside, shadows) = told(true);
    assert_eq!((alone, own), (watched.clone(), beside));
    assert!(none.is_empty());
    assert_eq!(shadows.len(), watched.len(), "one for each decision");
    assert!(shadows.iter().all(|it| it.model == "processor_selector@2" && !it.chosen.as_str().is_empty()));
}

#[test]
fn a_canary_decides_its_share_of_the_payments() {
    let mut world = taught();
    order(&world, Wish::Champion { version: "1".into() });
    order(&world, Wish::Canary { version: "2".into(), share: 0.3 });
    let (decisions, predictions) = decide(&mut world, 200);
    let (champion, canary) = (by_model(&decisions, "1"), by_model(&decisions, "2"));
    assert!((30..=90).contains(&canary) && champion > 90, "{champion} {canary}");
    // Where both would have chosen alike it is certain, else as likely as the model.
    let mut seen = [0; 3];
    for decision in decisions.iter().filter(|it| it.decided_by == DecidedBy::Model) {
        let prediction = predictions.iter().find(|it| it.decision_id == decision.decision_id).unwrap();
        let odds = |psp: &PspId| prediction.candidates.iter().find(|it| it.psp_id == *psp).map(|it| it.propensity);
        let own = odds(&prediction.chosen).unwrap();
        let share = if decision.versions.model == "processor_selector@2" { 0.3 } else { 0.7 };
        let place = [1.0, 0.3, 0.7].iter().position(|odds| (own - odds).abs() < 1e-12);
        assert!(own == 1.0 || (own - share).abs() < 1e-12, "{own} by {}", decision.versions.model);
        seen[place.unwrap()] += 1;
        assert_eq!(decision.ranked[0].propensity, own);
        assert!((prediction.candidates.iter().map(|it| it.propensity).sum::<f64>() - 1.0).abs() < 1e-12);
    }
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
}
