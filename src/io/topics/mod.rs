//! The topics: their names, what each is declared to be (`topics/*.toml`), and what a cluster lacks of that.
//!
//! Owns names and declarations. Never talks to a cluster: `plan` compares what it is given; `io::log` describes and creates.
//! Neighbours: `io::codec` has the schema of each topic, the command line shows plans.

mod plan;

pub use plan::{Difference, PlanOptions, TopicPlan, Unequal, plan};

use serde::Deserialize;
use std::collections::BTreeMap;
use thiserror::Error;

pub const PAYMENT_ATTEMPTS: &str = "payment.attempts";
pub const PAYMENT_OUTCOMES: &str = "payment.outcomes";
pub const ROUTING_REQUESTS: &str = "routing.requests";
pub const ROUTING_DECISIONS: &str = "routing.decisions";
pub const PSP_STATES: &str = "psp.states";
pub const PSP_OUTAGES: &str = "psp.outages";
pub const STATS_DELTAS: &str = "stats.deltas";
pub const STATS_PROFILES: &str = "stats.profiles";
pub const ATHIA_PREDICTIONS: &str = "athia.predictions";
pub const ATHIA_FEEDBACK: &str = "athia.feedback";
pub const CONTROL_MODELS: &str = "control.models";
pub const CONTROL_RULES: &str = "control.rules";
pub const CONTROL_EXPERIMENTS: &str = "control.experiments";
pub const PAYMENT_ATTEMPTS_DLQ: &str = "payment.attempts.dlq";
pub const PAYMENT_OUTCOMES_DLQ: &str = "payment.outcomes.dlq";
pub const ROUTING_REQUESTS_DLQ: &str = "routing.requests.dlq";
pub const PAYMENTS_CHANGELOG: &str = "smartrouter.payments.changelog";
pub const CUSTOMERS_CHANGELOG: &str = "smartrouter.customers.changelog";
pub const PSPS_CHANGELOG: &str = "smartrouter.psps.changelog";
pub const PROFILES_CHANGELOG: &str = "smartrouter.profiles.changelog";
pub const ALERTS_CHANGELOG: &str = "smartrouter.alerts.changelog";

/// The topics whose records come from outside.
pub const INPUTS: [&str; 3] = [PAYMENT_ATTEMPTS, PAYMENT_OUTCOMES, ROUTING_REQUESTS];

/// Pairs each name with the text of its file.
macro_rules! files {
    ($($name:ident = $file:literal),+ $(,)?) => {
        static FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../../topics/", $file, ".toml")))),+];
    };
}

files! {
    PAYMENT_ATTEMPTS = "payment.attempts",
    PAYMENT_OUTCOMES = "payment.outcomes",
    ROUTING_REQUESTS = "routing.requests",
    ROUTING_DECISIONS = "routing.decisions",
    PSP_STATES = "psp.states",
    PSP_OUTAGES = "psp.outages",
    STATS_DELTAS = "stats.deltas",
    STATS_PROFILES = "stats.profiles",
    ATHIA_PREDICTIONS = "athia.predictions",
    ATHIA_FEEDBACK = "athia.feedback",
    CONTROL_MODELS = "control.models",
    CONTROL_RULES = "control.rules",
    CONTROL_EXPERIMENTS = "control.experiments",
    PAYMENT_ATTEMPTS_DLQ = "payment.attempts.dlq",
    PAYMENT_OUTCOMES_DLQ = "payment.outcomes.dlq",
    ROUTING_REQUESTS_DLQ = "routing.requests.dlq",
    PAYMENTS_CHANGELOG = "smartrouter.payments.changelog",
    CUSTOMERS_CHANGELOG = "smartrouter.customers.changelog",
    PSPS_CHANGELOG = "smartrouter.psps.changelog",
    PROFILES_CHANGELOG = "smartrouter.profiles.changelog",
    ALERTS_CHANGELOG = "smartrouter.alerts.changelog",
}

/// The name of every topic, without prefix.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// Whether this system alone writes to a topic, within transactions.
pub fn is_output(base: &str) -> bool {
    !INPUTS.contains(&base) && ![CONTROL_MODELS, CONTROL_RULES, CONTROL_EXPERIMENTS].contains(&base)
}

/// Where the records of an input go that cannot be taken.
pub fn dead_letters_of(input: &str) -> String {
    format!("{input}.dlq")
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("topics/{file}.toml: {detail}")]
pub struct DeclarationError {
    pub file: String,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    Delete,
    Compact,
}

/// One file of `topics/`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Without prefix.
    pub name: String,
    pub description: String,
    /// Who writes to it.
    pub owner: String,
    /// What the key of its records is, in words.
    pub key: String,
    /// File under `schemas/`, without ending; absent when the value is not ours to describe.
    #[serde(default)]
    pub schema: Option<String>,
    pub partitions: i32,
    /// Topics of one such set have the same number of partitions: a task owns the same partition of each.
    #[serde(default)]
    pub co_partitioned: Option<String>,
    pub cleanup: Cleanup,
    /// Absent for compacted topics, which keep the last record of each key.
    #[serde(default)]
    pub retention_hours: Option<u32>,
    /// Further topic configuration of Kafka.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

impl Declaration {
    fn parse(name: &str, text: &str) -> Result<Self, DeclarationError> {
        let wrong = |detail: String| DeclarationError { file: name.to_owned(), detail };
        let declared: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if declared.name != name {
            return Err(wrong(format!("the name is {:?}, not that of the file", declared.name)));
        }
        if !(1..=10_000).contains(&declared.partitions) {
            return Err(wrong(format!("partitions is {}, not 1 to 10000", declared.partitions)));
        }
        if (declared.cleanup == Cleanup::Delete) != declared.retention_hours.is_some_and(|hours| hours > 0) {
            return Err(wrong("retention_hours goes with cleanup = \"delete\", and only with it".to_owned()));
        }
        let derived = ["cleanup.policy", "retention.ms"];
        if let Some(twice) = derived.iter().find(|key| declared.settings.contains_key(**key)) {
            return Err(wrong(format!("settings must not hold {twice}: it follows from cleanup and retention_hours")));
        }
        Ok(declared)
    }

    /// The topic configuration of Kafka, as `EventLog::create_topics` takes it.
    pub fn topic_settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.settings.clone();
        let policy = match self.cleanup {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
        };
        settings.insert("cleanup.policy".to_owned(), policy.to_owned());
        if let Some(hours) = self.retention_hours {
            settings.insert("retention.ms".to_owned(), (u64::from(hours) * 3_600_000).to_string());
        }
        settings
    }
}

/// Every declaration of `topics/`.
pub fn declared() -> Result<Vec<Declaration>, DeclarationError> {
    FILES.iter().map(|(name, text)| Declaration::parse(name, text)).collect()
}

/// Names behind a prefix, so that several systems can share a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicNames {
    prefix: String,
}

impl TopicNames {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name on the cluster.
    pub fn full(&self, base: &str) -> String {
        format!("{}{base}", self.prefix)
    }

    /// The declared name behind the prefix; absent for a topic that is none of ours.
    pub fn base_of(&self, full: &str) -> Option<&'static str> {
        let base = full.strip_prefix(&self.prefix)?;
        names().find(|name| *name == base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::codec::RecordKind;

    #[test]
    fn every_file_is_embedded_and_sound() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/topics");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".toml").to_owned())
            .collect();
        files.sort();
        let mut embedded: Vec<&str> = names().collect();
        embedded.sort_unstable();
        assert_eq!(files, embedded);
        declared().unwrap();
    }

    #[test]
    fn topics_and_schemas_name_each_other() {
        for topic in declared().unwrap() {
            let of_topic = RecordKind::all().find(|kind| kind.topic() == topic.name);
            assert_eq!(topic.schema.as_deref(), of_topic.map(RecordKind::file), "{}", topic.name);
        }
        for kind in RecordKind::all() {
            assert!(names().any(|name| name == kind.topic()), "{kind:?} has no topic");
        }
    }

    #[test]
    fn co_partitioned_sets_agree_and_are_the_expected_ones() {
        let mut sets: BTreeMap<String, Vec<(String, i32)>> = BTreeMap::new();
        for topic in declared().unwrap() {
            if let Some(set) = topic.co_partitioned {
                sets.entry(set).or_default().push((topic.name, topic.partitions));
            }
        }
        for (set, members) in &sets {
            assert!(members.iter().all(|(_, partitions)| *partitions == members[0].1), "{set}: {members:?}");
        }
        let of = |set: &str| sets[set].iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(of("payments"), [&INPUTS[..], &[PAYMENTS_CHANGELOG, CUSTOMERS_CHANGELOG]].concat());
        assert_eq!(of("stats"), [STATS_DELTAS, PSPS_CHANGELOG, PROFILES_CHANGELOG]);
        assert!(INPUTS.iter().all(|input| names().any(|name| name == dead_letters_of(input))));
    }

    #[test]
    fn settings_follow_from_the_declaration() {
        let all = declared().unwrap();
        let of = |name: &str| all.iter().find(|topic| topic.name == name).unwrap().topic_settings();
        assert_eq!(of(PAYMENT_ATTEMPTS)["retention.ms"], "604800000");
        assert_eq!(of(PAYMENT_ATTEMPTS)["cleanup.policy"], "delete");
        assert_eq!(of(PSP_STATES)["cleanup.policy"], "compact");
        assert!(!of(PSP_STATES).contains_key("retention.ms"));
    }

    #[test]
    fn wrong_declarations_are_refused() {
        let good = "name = \"t\"\ndescription = \"\"\nowner = \"\"\nkey = \"\"\npartitions = 1\ncleanup = \"delete\"\nretention_hours = 1\n";
        assert!(Declaration::parse("t", good).is_ok());
        let check = |from: &str, to: &str, want: &str| {
            let got = Declaration::parse("t", &good.replace(from, to)).unwrap_err().to_string();
            assert!(got.contains(want), "{to}: {got}");
        };
        check("\"t\"", "\"u\"", "not that of the file");
        check("partitions = 1", "partitions = 0", "partitions is 0");
        check("retention_hours = 1", "", "retention_hours");
        check("retention_hours = 1", "retention_hours = 0", "retention_hours");
        check("\"delete\"", "\"compact\"", "retention_hours");
        check("\"delete\"", "\"shred\"", "shred");
        check("owner", "ownr", "ownr");
        check("retention_hours = 1\n", "retention_hours = 1\n[settings]\n\"retention.ms\" = \"1\"\n", "retention.ms");
    }

    #[test]
    fn names_go_behind_the_prefix_and_back() {
        let names = TopicNames::new("acc-1.");
        assert_eq!(names.full(PSP_STATES), "acc-1.psp.states");
        assert_eq!(names.base_of("acc-1.psp.states"), Some(PSP_STATES));
        assert_eq!(names.base_of("psp.states"), None);
        assert_eq!(names.base_of("acc-1.other"), None);
        assert_eq!(TopicNames::default().base_of(PSP_STATES), Some(PSP_STATES));
    }
}
