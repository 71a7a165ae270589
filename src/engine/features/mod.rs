//! Features: what models are told of a payment and of a PSP that could take it.
//!
//! Owns the catalogue (`schemas/features.toml`), the history that features need, and the one encoder that serves training and
//! decisions. Never fits or scores: that is the models' part. Never looks ahead: history takes events in the order of their
//! times, and a feature reads history as it stands.
//!
//! Reading order: `key` (what is counted apart) → `state` (the values that are kept by key) → `history` (events update them) →
//! `facts` (what one request, one candidate can be told of) → `request`, `candidate` (a function for each feature) → `catalogue` (what
//! the file says of each) → `encode` (numbers in catalogue order). Apart from these: `served`
//! (history as a decision knows it).

mod key;
mod state;
mod history;
mod facts;
mod value;
mod request;
mod candidate;
mod catalogue;
mod encode;
mod served;

pub use catalogue::{Catalogue, CatalogueError, Feature, Group, HistorySettings, Kind, Per, Prior, Transform};
pub use encode::{EncodedColumn, Encoder};
pub use facts::{CandidateFacts, RequestFacts};
pub use history::{AttemptResult, History, HistoryView};
pub use key::{Key, Property, Subject, Traits, country_of as issuer_country};
pub use served::Served;
pub use state::{Came, Chain, Outcomes, Pace, Profile, Try};

#[cfg(test)]
mod tests;
