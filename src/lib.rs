//! smartrouter: a payment router as a stream-processing engine over a Kafka event log.

pub mod domain;
pub mod engine;
pub mod io;
pub mod runtime;
pub mod config;
pub mod telemetry;
pub mod api;
pub mod sim;
