//! smartrouter: a payment router as a stream-processing engine over a Kafka event log.
//!
//! It reads payment attempts, their outcomes and routing requests; keeps windows of 15 minutes, an hour and a day for each
//! segment of each PSP; calls a PSP down within payments; and answers every request with a ranking and its reasons, exactly once.
//!
//! # The path of an event
//!
//! ```text
//! payment.attempts ─┐           ┌──────── payment task, one per partition ─────────┐
//! payment.outcomes ─┼─ inbox ─► │ input_order ─► engine::payment::observe ─► staged │
//! routing.requests ─┘           │      └ request ─► scoring (features, model) ─►     │
//!                               │                 engine::policy::decide ─► staged   │
//!                               └───────────────────┬───────────────────────────────┘
//!                                                   ▼ task_group::commit: one transaction, then one batch of the store
//!            stats.deltas · routing.decisions · athia.predictions · athia.feedback · changelogs · dead letters
//!                  ▼
//!      stats task, one per partition: engine::psp::PspBook::merge ─► psp.states, psp.outages
//!                                     engine::features::Counts    ─► stats.profiles
//!                                                                        ▼
//!              control.models ─► runtime::global_table, models in every instance ─► the next decision
//!                              runtime::alerts in one instance for each sink ─► Slack, PagerDuty, webhooks
//!      decisions, predictions, feedback, models ─► runtime::sync ─► io::warehouse: tables for analysts, each row once
//! ```
//!
//! # Code map, in reading order
//!
//! | module | what is there | what never is |
//! |---|---|---|
//! | [`domain`] | the records of the topics, and what makes them valid | policy, IO |
//! | [`engine`] | `observe` and `decide`: results, windows, health, states, ranking, features; what is told of them | IO, clocks, random numbers, logs |
//! | [`io`] | ports and their adapters: log (Kafka, embedded), codec, store, topics, history files, datasets, alerts, the warehouse | decisions |
//! | [`learn`] | tables of attempts with their features and results; models fitted to them, judged, and asked for chances | files, clocks |
//! | [`runtime`] | tasks, threads, commits, restoring, the global table, models in use, alerts, sync into the warehouse | protocols, policy |
//! | [`config`] | layers of settings, checked once, passed down | globals |
//! | [`telemetry`] | every metric's name and meaning; where logs go | decisions about what to count |
//! | [`api`] | liveness, readiness, metrics over HTTP | state of its own |
//! | [`sim`] | a seeded merchant with PSPs and outages; the truth is kept | anything that `run` needs |
//!
//! The command line is `src/main.rs` and `src/cli`. A layer uses those below it only:
//! `cli → api → runtime → {io, learn, engine} → domain`, `config → {learn, engine}`, `sim → engine`, `io → learn → engine`; `tests/architecture.rs` holds
//! that, and that each outside library has one door (rdkafka in `io::log::kafka`, RocksDB in `io::store` and `io::log::embedded`, Avro in
//! `io::codec`).
//!
//! # Invariants
//!
//! - A record has an effect once: outputs, changelog and input offsets are one transaction. Only when that is committed is the
//!   local state written, together with the changelog offsets that it stands for. Local state is behind its changelog or equal to
//!   it, never ahead; on start it is rolled forward, if the last record that it holds is still where it was.
//! - There is one way back from any failure: drop what is staged, settle the transaction, begin again from what is committed.
//! - The engine knows time only from records and ticks. Silence is measured from an input's own last event, so that catching up,
//!   a pause or old events make no time-outs. A record that is no event says nothing about time.
//! - An attempt counts in the windows once: at its outcome's time, or at its deadline.
//! - A decision carries what it was made from (view of the PSPs by offset, versions of policy, rules and model, propensities), and its
//!   prediction the features: the same record, view and model give the same decision.
//! - A record that cannot be read, is invalid, or breaks the engine goes to the dead letters of its topic with its bytes, key,
//!   headers, place and reason, in the same transaction; its partition goes on.
//! - Which model decides follows from the newest record of each version on `control.models`, so that a compacted log says the same; an
//!   order that is cut off after any of its records has had its effect or none.
//! - An alert is told until it is taken, and its offset is committed only then; what may be a repeat says so.
//! - The warehouse's token is the highest offset in the names of its files: rows and token are made durable by one rename. In Snowflake it is the
//!   committed token of the channel that the rows went through, and opening a channel fences its former writer. What is to become a row is
//!   read from there on, whatever the group's offsets say; every row names the offset of the row before it.
//! - Money is a whole number of minor units beside its currency. No card number has a field to be in.
//!
//! # Where this departs from its first design
//!
//! - The embedded log and the state store are two databases under one commit protocol, the one that Kafka needs, instead of one
//!   shared write batch: one way to commit and one way to recover, tested by both adapters.
//! - `stats.deltas` is keyed by PSP, not by segment: all segments of a PSP meet in one task, which has to weigh them together.
//! - An operator's order (`psp down|up|auto`) is a record of `stats.deltas`: it reaches the one task that keeps the PSP, exactly once and in
//!   order with the counts.
//! - Deltas leave with the commit of the results that they count instead of every 100 ms: nothing pre-aggregated is ever only in
//!   memory, so there is nothing to lose.
//! - Counts over many payments (`stats.profiles`) move on once a minute, and decisions read them as of a minute that every instance knows:
//!   so what decisions log and what a file of the same events gives are the same features, to the last bit.
//! - On Kafka a member is three clients (membership, fetching, two transactional producers in turn), so that nothing is delivered
//!   before its state is restored and starting one partition does not disturb another.

pub mod domain;
pub mod engine;
pub mod io;
pub mod runtime;
pub mod learn;
pub mod config;
pub mod telemetry;
pub mod api;
pub mod sim;
