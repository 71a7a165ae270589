//! A simulated airline merchant and its PSPs, with scripted outages: for the demo, tests, benches and `smartrouter simulate`.
//!
//! Owns customers, payments, PSPs, outages, and the ground truth about them. Deterministic: the same settings and the same
//! answers make the same bytes (on one platform; the last digit of a logarithm may differ between C libraries). Never reads a
//! clock, never does IO; time is event time and moves when the caller steps. Uses the records of `domain` and the settings of
//! `engine`; a router under test is someone else's: the world asks with a routing request and takes the answer.
//!
//! ```text
//! population ─ orders ─ rhythm ─► world ── Request ──► caller's router
//!                                   │  ◄─── Route ────
//!              psp ─ scenario ─► reality ── Attempt, Outcome ──► caller's log
//!                                   └─► truth, failover
//! ```
//!
//! Reading order: `world` (the loop), `reality` (what a PSP answers), `scenario` (what goes wrong), `truth` (what would have been).
//! `detection` and `calm` stand apart: drawn results for the sequential test, and for a PSP's book, to measure them by. `arena` plays router policies against each other
//! on the same laws, without the world's loop.

mod world;
mod reality;
mod scenario;
mod psp;
mod route;
mod truth;
mod failover;
mod detection;
mod calm;
pub mod arena;
mod population;
mod orders;
mod issuers;
mod rhythm;
mod draw;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use calm::CalmDays;
pub use detection::{Fall, Spread, run_lengths};
pub use draw::{Draw, Purpose};
pub use failover::{Choice, Failover, FailoverWatch};
pub use psp::{Approval, Latency, SimPsp};
pub use reality::{Answer, Fate, Odds, Reality, Retries};
pub use rhythm::relative_rate;
pub use route::{StaticRoute, WeightedRoute};
pub use scenario::{Fault, Outage, Scenario, ScenarioError};
pub use truth::{Comparison, Truth};
pub use world::{Route, Routing, SimEvent, World, WorldSettings};
