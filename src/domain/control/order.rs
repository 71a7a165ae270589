//! What is written to `control.models` when somebody wants another version to serve: an order becomes records, or is refused.
//!
//! Knows neither files nor verdicts: whether a version may serve was decided before. Every order can be cut off after any of its records:
//! until the last one is written the one that served serves on.

use super::{ControlModel, Held, Stage, StageBody, Stages};
use crate::domain::EpochMs;
use thiserror::Error;

/// What is wanted for a version of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Let it score beside the champion, without effect.
    Shadow { version: String },
    /// Let it decide for a share of the traffic.
    Canary { version: String, share: f64 },
    /// Let it decide.
    Champion { version: String },
    /// Let the champion decide that was it before.
    Rollback,
    /// Let it do nothing any more.
    Retire { version: String },
}

/// A wish with who has it, when and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub name: String,
    pub wish: Wish,
    pub at: EpochMs,
    pub by: Option<String>,
    pub reason: Option<String>,
    /// Against the verdict of the gate, or without one.
    pub forced: bool,
}

/// Why an order cannot be carried out. Who gave it is to act.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum OrderError {
    #[error("{0} is {1} already")]
    Already(String, &'static str),
    #[error("{0} is the champion: promote another version, or roll back, and it makes room")]
    IsChampion(String),
    #[error("a canary's share is above 0 and below 1, not {0}")]
    Share(f64),
    #[error("{0} has no champion: promote a version")]
    NoChampion(String),
    #[error("{champion} has no champion before it that is not retired: promote a version by name")]
    NoPredecessor { champion: String },
}

impl Stages {
    /// The records to write, in this order.
    pub fn plan(&self, order: &Order) -> Result<Vec<ControlModel>, OrderError> {
        let name = order.name.as_str();
        let (version, stage) = match &order.wish {
            Wish::Shadow { version } => (version.as_str(), Stage::Shadow),
            Wish::Canary { version, .. } => (version.as_str(), Stage::Canary),
            Wish::Champion { version } => (version.as_str(), Stage::Active),
            Wish::Rollback => (self.predecessor(name)?, Stage::Active),
            Wish::Retire { version } => (version.as_str(), Stage::Retired),
        };
        let held = self.held(name, version);
        let mut body = StageBody {
            share: None,
            reason: order.reason.clone(),
            forced: order.forced,
            // Whatever becomes of a version that was champion: the way back leads through it.
            after: held.and_then(|it| it.body.after.clone()),
        };
        if let Wish::Canary { share, .. } = order.wish {
            if !(share > 0.0 && share < 1.0) {
                return Err(OrderError::Share(share));
            }
            body.share = Some(share);
        }
        self.check(name, version, (stage, body.share))?;
        if matches!(order.wish, Wish::Champion { .. }) {
            body.after = self.champion(name).map(str::to_owned);
        }
        let mut records: Vec<ControlModel> = self.would_come_back(name, version, stage).map(|it| retired(it, order)).collect();
        records.push(record(order, version, stage, &body));
        Ok(records)
    }

    fn check(&self, name: &str, version: &str, (stage, share): (Stage, Option<f64>)) -> Result<(), OrderError> {
        let Some(held) = self.held(name, version) else { return Ok(()) };
        let spelt = || format!("{name}@{version}");
        let is_champion = self.champion(name) == Some(version);
        match stage {
            Stage::Active if is_champion => Err(OrderError::Already(spelt(), "the champion")),
            Stage::Shadow | Stage::Canary if is_champion => Err(OrderError::IsChampion(spelt())),
            Stage::Shadow if held.stage == Stage::Shadow => Err(OrderError::Already(spelt(), "a shadow")),
            Stage::Canary if self.canary(name).map(|(version, share)| (version, Some(share))) == Some((version, share)) => {
                Err(OrderError::Already(spelt(), "the canary, with this share,"))
            }
            Stage::Retired if held.stage == Stage::Retired => Err(OrderError::Already(spelt(), "retired")),
            _ => Ok(()),
        }
    }

    /// Superseded versions that would take the place of this one when it leaves its stage: nobody asked for them.
    fn would_come_back<'a>(&'a self, name: &str, version: &'a str, stage: Stage) -> impl Iterator<Item = &'a Held> + 'a {
        let left = [Stage::Active, Stage::Canary]
            .into_iter()
            .find(|place| *place != stage && self.newest(name, *place).is_some_and(|newest| newest.version == version));
        self.of(name).iter().filter(move |it| left == Some(it.stage) && it.version != version)
    }

    /// The last champion before this one that nobody has retired since.
    fn predecessor(&self, name: &str) -> Result<&str, OrderError> {
        let champion = self.champion(name).ok_or_else(|| OrderError::NoChampion(name.to_owned()))?;
        let serves = |version: &&str| self.held(name, version).is_none_or(|it| it.stage != Stage::Retired);
        let none = || OrderError::NoPredecessor { champion: format!("{name}@{champion}") };
        self.history(name).into_iter().find(serves).ok_or_else(none)
    }
}

fn record(order: &Order, version: &str, stage: Stage, body: &StageBody) -> ControlModel {
    ControlModel {
        id: order.name.clone(),
        version: version.to_owned(),
        stage,
        at: order.at,
        by: order.by.clone(),
        // A body of texts, flags and a finite number always has a form in JSON.
        body_json: serde_json::to_string(body).unwrap_or_default(),
    }
}

fn retired(held: &Held, order: &Order) -> ControlModel {
    let body = StageBody { share: None, forced: false, reason: Some("superseded".to_owned()), after: held.body.after.clone() };
    record(order, &held.version, Stage::Retired, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(wish: Wish) -> Order {
        Order { name: "m".into(), wish, at: 7, by: Some("ana".into()), reason: Some("better".into()), forced: false }
    }

    fn wish(word: &str) -> Wish {
        let (what, version) = word.split_once(' ').unwrap_or((word, ""));
        let version = version.to_owned();
        match what {
            "shadow" => Wish::Shadow { version },
            "canary" => Wish::Canary { version, share: 0.05 },
            "half" => Wish::Canary { version, share: 0.5 },
            "champion" => Wish::Champion { version },
            "retire" => Wish::Retire { version },
            _ => Wish::Rollback,
        }
    }

    /// Carries out what can be carried out, and says what came of the last order.
    fn after(words: &[&str]) -> (Stages, Result<Vec<ControlModel>, OrderError>) {
        let mut stages = Stages::default();
        let mut last = Ok(Vec::new());
        for word in words {
            last = stages.plan(&order(wish(word)));
            for record in last.iter().flatten() {
                stages.apply(record);
            }
        }
        (stages, last)
    }

    #[track_caller]
    fn check(words: &[&str], champion: Option<&str>, canary: Option<&str>, history: &[&str]) {
        let (stages, last) = after(words);
        assert!(last.is_ok(), "{words:?}: {last:?}");
        let found = (stages.champion("m"), stages.canary("m").map(|it| it.0), stages.history("m"));
        assert_eq!(found, (champion, canary, history.to_vec()), "{words:?}");
    }

    #[test]
    fn orders_do_what_they_say() {
        check(&["shadow 1"], None, None, &[]);
        check(&["shadow 1", "canary 1", "half 1", "champion 1"], Some("1"), None, &[]);
        check(&["champion 1", "champion 2", "champion 3"], Some("3"), None, &["2", "1"]);
        check(&["champion 1", "canary 2", "canary 3", "retire 3"], Some("1"), None, &[]);
        check(&["champion 1", "canary 2", "canary 3", "champion 3"], Some("3"), None, &["1"]);
        check(&["champion 1", "champion 2", "rollback"], Some("1"), None, &[]);
        check(&["champion 1", "champion 2", "champion 3", "rollback"], Some("2"), None, &["1"]);
        check(&["champion 1", "champion 2", "champion 3", "rollback", "rollback"], Some("1"), None, &[]);
        check(&["champion 1", "champion 2", "rollback", "champion 3", "rollback"], Some("1"), None, &[]);
        check(&["champion 1", "champion 2", "champion 3", "retire 2", "rollback"], Some("1"), None, &[]);
        check(&["champion 1", "champion 2", "champion 3", "shadow 2", "rollback"], Some("2"), None, &["1"]);
        check(&["champion 1", "champion 2", "champion 1"], Some("1"), None, &["2"]);
        // Nobody serves then, and no superseded one comes back.
        check(&["champion 1", "champion 2", "rollback", "retire 1"], None, None, &[]);
        let (stages, last) = after(&["champion 1", "champion 2"]);
        assert_eq!(stages.stage("m", "1"), Some(Stage::Retired));
        let last = last.unwrap();
        assert_eq!((last.len(), last[0].key().as_str(), last[0].at, last[0].by.as_deref()), (1, "m@2", 7, Some("ana")));
        assert_eq!(last[0].body_json, r#"{"reason":"better","after":"1"}"#);
    }

    #[test]
    fn orders_without_sense_are_refused() {
        for (words, says) in [
            (&["rollback"][..], "m has no champion"),
            (&["champion 1", "rollback"], "m@1 has no champion before it"),
            (&["champion 1", "champion 2", "retire 1", "rollback"], "m@2 has no champion before it that is not retired"),
            (&["champion 1", "champion 1"], "m@1 is the champion already"),
            (&["champion 1", "shadow 1"], "m@1 is the champion: promote another"),
            (&["champion 1", "canary 1"], "m@1 is the champion: promote another"),
            (&["shadow 1", "shadow 1"], "m@1 is a shadow already"),
            (&["canary 1", "canary 1"], "m@1 is the canary, with this share, already"),
            (&["retire 1", "retire 1"], "m@1 is retired already"),
        ] {
            let refused = after(words).1.unwrap_err().to_string();
            assert!(refused.contains(says), "{words:?}: {refused}");
        }
        for share in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
            let refused = Stages::default().plan(&order(Wish::Canary { version: "1".into(), share }));
            assert!(matches!(refused, Err(OrderError::Share(_))), "{share}");
        }
    }

    fn words() -> impl Strategy<Value = Vec<String>> {
        let one =
            ("shadow|canary|half|champion|retire|rollback", 1..5_u8).prop_map(|(what, version)| format!("{what} {version}"));
        prop::collection::vec(one, 0..30)
    }

    proptest! {
        /// Cut off after any record, an order has had its effect or none.
        #[test]
        fn nobody_serves_whom_nobody_asked_for(words in words()) {
            let mut stages = Stages::default();
            for word in &words {
                let Ok(records) = stages.plan(&order(wish(word))) else { continue };
                let of = |stages: &Stages| (stages.champion("m").map(str::to_owned), stages.canary("m").map(|it| it.0.to_owned()));
                let before = of(&stages);
                let (last, others) = records.split_last().unwrap();
                for record in others {
                    stages.apply(record);
                    prop_assert_eq!(&of(&stages), &before);
                }
                stages.apply(last);
                let (champion, canary) = of(&stages);
                let wished = Some(last.version.clone());
                let kept = |found: &Option<String>, before: Option<String>, stage| match last.stage {
                    it if it == stage => *found == wished,
                    _ => *found == before.filter(|version| *version != last.version),
                };
                prop_assert!(kept(&champion, before.0, Stage::Active), "{word}: {champion:?}");
                prop_assert!(kept(&canary, before.1, Stage::Canary), "{word}: {canary:?}");
            }
        }
    }
}
