//! Which version of a model serves: the records of `control.models` in order of the log, folded.
//!
//! Only the newest record of each version counts, in order of these newest records: a log that was compacted gives the same.
//! The last version that became champion is it; the others that were are superseded, and so with canaries.

use super::{ControlModel, Stage, StageBody};
use crate::domain::EpochMs;
use serde::Serialize;
use std::collections::BTreeMap;

/// A version with what its newest record says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    pub name: String,
    pub version: String,
    /// As the record says: another one may have taken its place since, see `Stages::stage`.
    pub stage: Stage,
    pub at: EpochMs,
    pub by: Option<String>,
    #[serde(flatten)]
    pub body: StageBody,
}

/// Who serves, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stages {
    /// In order of the newest records; no list is empty.
    names: BTreeMap<String, Vec<Held>>,
}

impl Stages {
    /// Takes records in order of the log.
    pub fn apply(&mut self, record: &ControlModel) {
        self.retract(&record.id, &record.version);
        let held = Held {
            name: record.id.clone(),
            version: record.version.clone(),
            stage: record.stage,
            at: record.at,
            by: record.by.clone(),
            // A body that cannot be read says nothing: a canary without a share gets no traffic.
            body: serde_json::from_str(&record.body_json).unwrap_or_default(),
        };
        self.names.entry(record.id.clone()).or_default().push(held);
    }

    /// A record without value: the version is forgotten.
    pub fn retract(&mut self, name: &str, version: &str) {
        if let Some(held) = self.names.get_mut(name) {
            held.retain(|it| it.version != version);
            if held.is_empty() {
                self.names.remove(name);
            }
        }
    }

    pub fn champion(&self, name: &str) -> Option<&str> {
        self.newest(name, Stage::Active).map(|it| it.version.as_str())
    }

    /// The version, and its share of the traffic from 0 to 1.
    pub fn canary(&self, name: &str) -> Option<(&str, f64)> {
        let share = |it: &Held| it.body.share.unwrap_or(0.0).clamp(0.0, 1.0);
        self.newest(name, Stage::Canary).map(|it| (it.version.as_str(), share(it)))
    }

    /// Oldest first.
    pub fn shadows(&self, name: &str) -> Vec<&str> {
        self.of(name).iter().filter(|it| it.stage == Stage::Shadow).map(|it| it.version.as_str()).collect()
    }

    /// The stage that a version is in; retired when another one has taken its place. `None` when nothing was ever said of it.
    pub fn stage(&self, name: &str, version: &str) -> Option<Stage> {
        let held = self.held(name, version)?;
        let is_newest = || self.newest(name, held.stage).is_some_and(|newest| newest.version == version);
        let is_superseded = matches!(held.stage, Stage::Active | Stage::Canary) && !is_newest();
        Some(if is_superseded { Stage::Retired } else { held.stage })
    }

    /// The champions before this one, newest first, each once.
    pub fn history(&self, name: &str) -> Vec<&str> {
        let mut chain: Vec<&str> = self.champion(name).into_iter().collect();
        let before = |version: &str| self.held(name, version).and_then(|it| it.body.after.as_deref());
        while let Some(next) = chain.last().and_then(|last| before(last)).filter(|next| !chain.contains(next)) {
            chain.push(next);
        }
        chain.into_iter().skip(1).collect()
    }

    /// Every version of which something was said, of this name or of all, oldest word first.
    pub fn entries(&self, name: Option<&str>) -> impl Iterator<Item = &Held> {
        let wanted = move |of: &str| name.is_none_or(|name| name == of);
        self.names.iter().filter(move |(of, _)| wanted(of)).flat_map(|(_, held)| held)
    }

    pub(super) fn held(&self, name: &str, version: &str) -> Option<&Held> {
        self.of(name).iter().find(|it| it.version == version)
    }

    pub(super) fn of(&self, name: &str) -> &[Held] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    /// Who has the place of this stage.
    pub(super) fn newest(&self, name: &str, stage: Stage) -> Option<&Held> {
        self.of(name).iter().rfind(|it| it.stage == stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(version: &str, stage: Stage, body: &str) -> ControlModel {
        ControlModel { id: "m".into(), version: version.into(), stage, at: 0, by: None, body_json: body.into() }
    }

    fn folded(records: &[ControlModel]) -> Stages {
        let mut stages = Stages::default();
        for record in records {
            stages.apply(record);
        }
        stages
    }

    #[test]
    fn the_newest_serves_and_the_others_are_superseded() {
        let mut stages = folded(&[
            record("1", Stage::Active, "{}"),
            record("2", Stage::Canary, r#"{"share": 0.1}"#),
            record("3", Stage::Canary, r#"{"share": 0.25, "of_later": [1]}"#),
            record("4", Stage::Active, r#"{"after": "1"}"#),
            record("5", Stage::Shadow, "{}"),
            record("6", Stage::Shadow, "not json"),
        ]);
        assert_eq!(
            (stages.champion("m"), stages.canary("m"), stages.shadows("m")),
            (Some("4"), Some(("3", 0.25)), vec!["5", "6"])
        );
        let of = |version| stages.stage("m", version);
        assert_eq!(
            ["1", "2", "3", "4", "5"].map(of),
            [Some(Stage::Retired), Some(Stage::Retired), Some(Stage::Canary), Some(Stage::Active), Some(Stage::Shadow)]
        );
        assert_eq!((of("7"), stages.champion("n"), stages.history("m")), (None, None, vec!["1"]));
        stages.apply(&record("3", Stage::Canary, "[]"));
        assert_eq!(stages.canary("m"), Some(("3", 0.0)), "no share is no traffic");
        stages.apply(&record("3", Stage::Canary, r#"{"share": 7}"#));
        assert_eq!(stages.canary("m"), Some(("3", 1.0)));
        stages.apply(&record("4", Stage::Unknown, "{}"));
        stages.retract("m", "1");
        assert_eq!(
            (stages.champion("m"), stages.entries(Some("m")).count()),
            (None, 5),
            "a stage that is not known does not serve"
        );
    }

    #[test]
    fn history_ends_where_it_repeats() {
        let stages = folded(&[
            record("1", Stage::Retired, r#"{"after": "3"}"#),
            record("2", Stage::Active, r#"{"after": "1"}"#),
            record("3", Stage::Active, r#"{"after": "2"}"#),
        ]);
        assert_eq!(stages.history("m"), ["2", "1"]);
    }

    fn events() -> impl Strategy<Value = Vec<(String, Option<ControlModel>)>> {
        let stage = prop_oneof![
            Just(Stage::Draft),
            Just(Stage::Shadow),
            Just(Stage::Canary),
            Just(Stage::Active),
            Just(Stage::Retired),
            Just(Stage::Unknown)
        ];
        let body = prop_oneof![Just(String::new()), (0..5_u8).prop_map(|it| format!(r#"{{"share": 0.{it}, "after": "{it}"}}"#))];
        let one = ("[mn]", 0..5_u8, prop::option::weighted(0.9, (stage, body))).prop_map(|(id, version, said)| {
            let version = version.to_string();
            let record = said.map(|(stage, body_json)| ControlModel {
                id: id.clone(),
                version: version.clone(),
                stage,
                at: 0,
                by: None,
                body_json,
            });
            (format!("{id}@{version}"), record)
        });
        prop::collection::vec(one, 0..40)
    }

    fn fold(events: &[(String, Option<ControlModel>)]) -> Stages {
        let mut stages = Stages::default();
        for (key, record) in events {
            match (record, ControlModel::parse_key(key)) {
                (Some(record), _) => stages.apply(record),
                (None, Some((name, version))) => stages.retract(name, version),
                (None, None) => {}
            }
        }
        stages
    }

    proptest! {
        /// Whatever part of the log has been compacted so far, and whether tombstones are still there or not.
        #[test]
        fn a_compacted_log_gives_the_same(events in events(), clean in 0..40_usize, tombstones_stay in any::<bool>()) {
            let clean = clean.min(events.len());
            let is_last = |at: usize| events[at + 1..].iter().all(|(key, _)| *key != events[at].0);
            let stays = |at: usize| at >= clean || (is_last(at) && (tombstones_stay || events[at].1.is_some()));
            let compacted: Vec<_> = (0..events.len()).filter(|at| stays(*at)).map(|at| events[at].clone()).collect();
            let (whole, part) = (fold(&events), fold(&compacted));
            for name in ["m", "n"] {
                prop_assert_eq!(whole.champion(name), part.champion(name));
                prop_assert_eq!(whole.canary(name), part.canary(name));
                prop_assert_eq!(whole.shadows(name), part.shadows(name));
                prop_assert_eq!(whole.history(name), part.history(name));
            }
            prop_assert_eq!(whole, part);
        }
    }
}
