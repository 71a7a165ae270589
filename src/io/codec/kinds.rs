//! Which records there are: the topic, the schema and the published versions of each.

use super::CodecError;
use crate::domain::control::{ControlExperiment, ControlModel, ControlRule};
use crate::domain::decision::RoutingDecision;
use crate::domain::learning::{Feedback, Prediction, StatsDelta, StatsProfile};
use crate::domain::payment::{PaymentAttempt, PaymentOutcome, RoutingRequest};
use crate::domain::psp::{PspOutage, PspState};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    PaymentAttempt,
    PaymentOutcome,
    RoutingRequest,
    RoutingDecision,
    PspState,
    PspOutage,
    Prediction,
    Feedback,
    StatsDelta,
    StatsProfile,
    ControlModel,
    ControlRule,
    ControlExperiment,
}

/// A domain type that travels on a topic.
pub trait Wire: Serialize + DeserializeOwned {
    const KIND: RecordKind;
}

/// A schema text as it was published under an id; ids hold for logs without a registry.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    pub id: i32,
    pub schema: &'static str,
}

struct Spec {
    kind: RecordKind,
    record: &'static str,
    file: &'static str,
    topic: &'static str,
    schema: &'static str,
    published: &'static [Published],
}

/// One row per record. A schema that changes gets a further `schemas/history/<file>/<n>.avsc`, and a further pair here whose id
/// is that of `schemas/ids.toml`; the earlier pairs stay, so that what was written under them can be read.
macro_rules! records {
    ($($kind:ident $file:literal $topic:literal [$($id:literal @ $version:literal),+];)+) => {
        static SPECS: &[Spec] = &[$(Spec {
            kind: RecordKind::$kind,
            record: stringify!($kind),
            file: $file,
            topic: $topic,
            schema: include_str!(concat!("../../../schemas/", $file, ".avsc")),
            published: &[$(Published {
                id: $id,
                schema: include_str!(concat!("../../../schemas/history/", $file, "/", $version, ".avsc")),
            }),+],
        }),+];

        $(impl Wire for $kind {
            const KIND: RecordKind = RecordKind::$kind;
        })+
    };
}

records! {
    PaymentAttempt "payment_attempt" "payment.attempts" [1 @ 1];
    PaymentOutcome "payment_outcome" "payment.outcomes" [2 @ 1];
    RoutingRequest "routing_request" "routing.requests" [3 @ 1];
    RoutingDecision "routing_decision" "routing.decisions" [4 @ 1];
    PspState "psp_state" "psp.states" [5 @ 1, 14 @ 2];
    PspOutage "psp_outage" "psp.outages" [6 @ 1, 15 @ 2];
    Prediction "prediction" "athia.predictions" [7 @ 1];
    Feedback "feedback" "athia.feedback" [8 @ 1];
    StatsDelta "stats_delta" "stats.deltas" [9 @ 1, 16 @ 2, 17 @ 3];
    StatsProfile "stats_profile" "stats.profiles" [10 @ 1, 18 @ 2];
    ControlModel "control_model" "control.models" [11 @ 1];
    ControlRule "control_rule" "control.rules" [12 @ 1];
    ControlExperiment "control_experiment" "control.experiments" [13 @ 1];
}

impl RecordKind {
    pub fn all() -> impl Iterator<Item = Self> {
        SPECS.iter().map(|spec| spec.kind)
    }

    /// The kind whose schema has this record name, without namespace.
    pub fn of_record(name: &str) -> Option<Self> {
        SPECS.iter().find(|spec| spec.record == name).map(|spec| spec.kind)
    }

    /// The name of the record in its schema, such as `PaymentAttempt`.
    pub fn record(self) -> &'static str {
        self.spec().record
    }

    /// The name of its file under `schemas/`, without ending, such as `payment_attempt`.
    pub fn file(self) -> &'static str {
        self.spec().file
    }

    /// The topic without prefix.
    pub fn topic(self) -> &'static str {
        self.spec().topic
    }

    /// The schema that this build writes and reads.
    pub fn schema(self) -> &'static str {
        self.spec().schema
    }

    /// Every version that was published, oldest first; the last one is `schema`.
    pub fn published(self) -> &'static [Published] {
        self.spec().published
    }

    /// Name of the subject under which a registry keeps the schema (`TopicNameStrategy`).
    pub fn subject(self, topic_prefix: &str) -> String {
        format!("{topic_prefix}{}-value", self.topic())
    }

    fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    subjects: BTreeMap<String, i32>,
}

/// The ids of `schemas/ids.toml`, by kind.
pub(super) fn embedded_ids() -> Result<BTreeMap<RecordKind, i32>, CodecError> {
    let ids: Ids = toml::from_str(include_str!("../../../schemas/ids.toml"))
        .map_err(|error| CodecError::Build { detail: format!("schemas/ids.toml: {error}") })?;
    RecordKind::all()
        .map(|kind| {
            let subject = kind.subject("");
            let id = ids.subjects.get(&subject).copied();
            Ok((kind, id.ok_or_else(|| CodecError::Build { detail: format!("schemas/ids.toml has no line for {subject:?}") })?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_stands_in_its_own_row() {
        for (row, spec) in SPECS.iter().enumerate() {
            assert_eq!(spec.kind as usize, row, "{}", spec.record);
            assert_eq!(RecordKind::of_record(spec.record), Some(spec.kind));
        }
    }

    #[test]
    fn ids_are_those_of_the_last_published_versions_and_used_once() {
        let ids = embedded_ids().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for kind in RecordKind::all() {
            assert_eq!(Some(ids[&kind]), kind.published().last().map(|p| p.id), "{kind:?}");
            for published in kind.published() {
                assert!(seen.insert(published.id), "id {} is used twice", published.id);
            }
        }
    }
}
