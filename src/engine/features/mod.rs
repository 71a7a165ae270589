//! Features: what models are told of a payment and of a PSP that could take it.
//!
//! Owns the catalogue (`schemas/features.toml`), the history that features need, and the one encoder that serves training and
//! decisions. Never fits or scores: that is the models' part. Never looks ahead: history takes events in the order of their
//! times, and a feature reads history as it stands.
//!
//! Reading order: `key` (what is counted apart) → `state` (the values that are kept) → `counts` (over many payments, by key),
//! `customer` (of one) → `history` (events update them) → `facts` (what one request, one candidate can be told of) → `request`, `candidate` (a function for each feature) → `catalogue` (what
//! the file says of each) → `encode` (numbers in catalogue order). Apart from these: `served`
//! (history as a decision knows it).

mod key;
mod state;
mod counts;
mod customer;
mod history;
mod facts;
mod value;
mod request;
mod candidate;
mod catalogue;
mod encode;
mod served;

pub use catalogue::{Catalogue, CatalogueError, Feature, Group, HistorySettings, Kind, Per, Prior, Transform};
pub use counts::Counts;
pub use customer::{Belongs, CustomerHistory, amount_log};
pub use encode::{EncodedColumn, Encoder};
pub use facts::{CandidateFacts, RequestFacts, usual_amount};
pub use history::{AttemptResult, History, HistoryView};
pub(crate) use key::hash_of;
pub use key::{Key, KeyHashing, Property, Traits, country_of as issuer_country};
pub use served::{Served, Standings};
pub use state::{Came, Chain, HalfLives, Moments, Outcomes, Profile, Standing, Told, Try, key_of_subject, subject_of};

#[cfg(test)]
mod tests;
