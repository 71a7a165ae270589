//! What all tasks of a process read: settings, the compiled policy, the codec, names of topics, the store, the global table.

use super::clock::Clock;
use super::feature_stats::FeatureStats;
use super::global_table::GlobalTable;
use super::models::ModelTable;
use crate::engine::codes::CodeTable;
use crate::engine::features::CatalogueError;
use crate::engine::payment::Rules;
use crate::engine::policy::Router;
use crate::engine::settings::Settings;
use crate::io::codec::{Codec, RecordKind};
use crate::io::store::{StateStore, StoreName};
use crate::io::topics::{self, TopicNames};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

pub struct Shared {
    pub clock: Clock,
    pub settings: Settings,
    pub codes: CodeTable,
    pub router: Router,
    pub codec: Codec,
    pub topics: Names,
    pub store: StateStore,
    pub global: Arc<GlobalTable>,
    pub models: Arc<ModelTable>,
    pub features: FeatureStats,
    /// Whether results are told on `athia.feedback`.
    pub feedback: bool,
}

impl Shared {
    /// Without models: see `with_models`.
    pub fn new(
        clock: Clock,
        settings: Settings,
        codec: Codec,
        names: TopicNames,
        store: StateStore,
    ) -> Result<Self, CatalogueError> {
        let (global, models) = (Arc::new(GlobalTable::default()), Arc::new(ModelTable::new(None)?));
        let (codes, router) = (CodeTable::new(&settings.error_codes), Router::new(&settings));
        let (topics, features) = (Names::new(names), FeatureStats::default());
        Ok(Self { clock, codes, router, settings, codec, topics, store, global, models, features, feedback: true })
    }

    /// Models are looked for in this directory.
    pub fn with_models(self, directory: PathBuf) -> Result<Self, CatalogueError> {
        Ok(Self { models: Arc::new(ModelTable::new(Some(directory))?), ..self })
    }

    pub(super) fn rules(&self) -> Rules<'_> {
        Rules { settings: &self.settings.engine, codes: &self.codes, usual_amount: None }
    }
}

/// The topic of a store's changelog, without prefix.
pub(super) fn changelog_of(store: StoreName) -> &'static str {
    match store {
        StoreName::Payments => topics::PAYMENTS_CHANGELOG,
        StoreName::Customers => topics::CUSTOMERS_CHANGELOG,
        StoreName::Psps => topics::PSPS_CHANGELOG,
        StoreName::Profiles => topics::PROFILES_CHANGELOG,
    }
}

/// Full names of topics, shared instead of formatted for each record.
pub struct Names {
    topics: TopicNames,
    /// In the order of `RecordKind`.
    outputs: Vec<Arc<str>>,
    dead_letters: HashMap<String, Arc<str>>,
}

impl Names {
    fn new(names: TopicNames) -> Self {
        let outputs = RecordKind::all().map(|kind| Arc::from(names.full(kind.topic()))).collect();
        let letters =
            topics::INPUTS.iter().map(|input| (names.full(input), Arc::from(names.full(&topics::dead_letters_of(input)))));
        let letters = letters.collect();
        Self { topics: names, outputs, dead_letters: letters }
    }

    pub(super) fn output(&self, kind: RecordKind) -> Arc<str> {
        self.outputs[kind as usize].clone()
    }

    pub(super) fn dead_letters(&self, input: &str) -> Arc<str> {
        self.dead_letters.get(input).cloned().unwrap_or_else(|| Arc::from(topics::dead_letters_of(input)))
    }

    pub(super) fn changelog(&self, store: StoreName) -> String {
        self.topics.full(changelog_of(store))
    }

    pub(super) fn names(&self) -> &TopicNames {
        &self.topics
    }

    pub fn full(&self, base: &str) -> String {
        self.topics.full(base)
    }

    pub(super) fn base_of(&self, full: &str) -> Option<&'static str> {
        self.topics.base_of(full)
    }
}
