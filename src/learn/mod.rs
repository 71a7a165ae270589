//! Learning from outcomes: tables of features with labels, models fitted to them, and how good they are.
//!
//! Owns no files and no clock: what it needs is passed in, what it makes is returned. Random numbers come from a seed.

mod table;
mod build;

pub use build::{Built, LABEL, PROPENSITY, TableBuilder};
pub use table::{Alternative, Column, ColumnKind, Row, Table};
