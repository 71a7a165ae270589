//! Router policies judged on the same payments with the same luck, through scripted outages.
//!
//! Owns scenarios, the policies (the engine itself, and rivals by their published rules), the loop that plays them, and what is
//! measured. Pure and seeded: the same settings, names and seeds make the same figures. Never reads a clock, never does IO, and
//! knows nothing of the engine but its doors: `observe`, `PspBook`, `decide`.
//!
//! # What is held equal
//! A payment's fate at each PSP is drawn once, by what and when it is, before anyone routes it (`sim::reality`): every policy meets
//! the same fates. Each is told of a result when it is known, a time-out at the client's own (10 s), silence at the deadline. All
//! begin with the same 24 hours of history, routed by the merchant's rules with some traffic elsewhere. One attempt a payment: what a
//! retry would save is not the question here.
//!
//! # What is not in it
//! The merchant's order of PSPs is right while all is well, which favours those that follow it over those that learn it. Payments come
//! at a constant rate: no hour of the day, so nothing that a baseline by the hour would be good for.
//!
//! Reading order: `scenarios` (what happens) → `world` (payments and fates) → `policy` (the port) → `engine`, `rivals`, `bandits`
//! → `play` (the loop) → `score` (one run) → `report` (over seeds).

mod scenarios;
mod world;
mod policy;
mod engine;
mod rivals;
mod bandits;
mod play;
mod score;
mod statistics;
mod report;
#[cfg(test)]
mod tests;

pub use report::{Report, Row, Standing, Verdict, report};
pub use scenarios::{SCENARIOS, Script, scenario};
pub use score::{CURVE_POINTS, Score};
pub use statistics::Estimate;

use crate::engine::settings::Settings;
use play::{play, warm_up};
use policy::Policy;
use std::collections::BTreeMap;
use std::rc::Rc;
use world::Round;

/// How a policy is made: from the arena's settings and the seed of the run.
type Make = fn(&Rc<engine::Kit>, u64) -> Box<dyn Policy>;

/// Every policy, by the name that it has in reports.
const POLICIES: [(&str, Make); 10] = [
    (OURS, |kit, _| Box::new(engine::Engine::new(Rc::clone(kit)))),
    ("static", |_, _| Box::new(rivals::Static)),
    ("juspay_20", |_, _| Box::new(rivals::InARow::new(20))),
    ("juspay_45", |_, _| Box::new(rivals::InARow::new(45))),
    ("yuno", |_, seed| Box::new(rivals::ApprovalWindow::new(seed))),
    ("envoy", |_, _| Box::new(rivals::Envoy::default())),
    ("resilience4j", |_, _| Box::new(rivals::CircuitBreakers::default())),
    ("sliding_window_ucb", |_, _| Box::new(bandits::SlidingWindowUcb::default())),
    ("discounted_thompson", |_, seed| Box::new(bandits::DiscountedThompson::new(seed))),
    (ORACLE, |_, _| Box::new(bandits::Oracle)),
];

/// The policy that is on trial.
pub const OURS: &str = "smartrouter";
/// The upper bound: no rival.
pub const ORACLE: &str = "oracle";

pub fn policy_names() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().map(|(name, _)| *name)
}

/// Plays one seed: every scenario under every policy that is named. Unknown names are left out.
pub fn run(settings: &Settings, seed: u64, scenarios: &[&str], policies: &[&str]) -> Vec<Score> {
    let kit = Rc::new(engine::Kit::new(settings));
    let deadline_ms = settings.engine.attempt_deadline_ms;
    let makes: Vec<(&'static str, Make)> = POLICIES.iter().filter(|(name, _)| policies.contains(name)).copied().collect();
    let mut warm: BTreeMap<u64, Vec<Box<dyn Policy>>> = BTreeMap::new();
    let mut scores = Vec::new();
    for script in SCENARIOS.iter().filter(|script| scenarios.contains(&script.name)) {
        let ready = warm.entry(script.payments_per_hour).or_insert_with(|| {
            let mut fresh: Vec<Box<dyn Policy>> = makes.iter().map(|(_, make)| make(&kit, seed)).collect();
            warm_up(&mut fresh, seed, script.payments_per_hour, deadline_ms);
            fresh
        });
        let round = Round::new(seed, script, deadline_ms);
        for ((name, _), policy) in makes.iter().zip(ready.iter()) {
            scores.push(play(&round, name, policy.fork().as_mut()));
        }
    }
    scores
}
