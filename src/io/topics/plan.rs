//! What a cluster lacks of the declared topics: a pure comparison.

use super::{Declaration, TopicNames};
use crate::io::log::TopicDescription;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    pub names: TopicNames,
    /// `--partitions`: partitions of the co-partitioned topics instead of those declared.
    pub partitions: Option<i32>,
    /// `--replication`: replicas of each partition; absent: the cluster's default.
    pub replication: Option<i32>,
}

/// What is to be done. Nothing is ever deleted or altered: what differs is told, and stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TopicPlan {
    #[serde(serialize_with = "as_planned")]
    pub create: Vec<TopicDescription>,
    pub differ: Vec<Difference>,
    /// Sets of topics that cannot work together as they are.
    pub unequal: Vec<Unequal>,
    /// Topics that are there, whether or not they differ.
    pub present: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub topic: String,
    /// `partitions`, `replication`, or a key of the topic's configuration.
    pub what: String,
    pub declared: String,
    pub actual: String,
}

/// Co-partitioned topics with unequal numbers of partitions: keys of one payment would lie in different tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unequal {
    pub set: String,
    /// Partitions by topic.
    pub partitions: BTreeMap<String, i32>,
    pub remedy: String,
}

impl TopicPlan {
    /// Whether the topics are as declared.
    pub fn is_settled(&self) -> bool {
        self.create.is_empty() && self.differ.is_empty() && self.unequal.is_empty()
    }

    /// Whether the engine can run on the topics once `create` is carried out.
    pub fn is_workable(&self) -> bool {
        self.unequal.is_empty()
    }

    /// The plan for people, one line each: `+` is created, `~` differs, `!` must be mended by hand.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for set in &self.unequal {
            let counts: Vec<String> = set.partitions.iter().map(|(topic, count)| format!("{topic} {count}")).collect();
            lines.push(format!("! unequal partitions in the set {}: {}. {}", set.set, counts.join(", "), set.remedy));
        }
        for topic in &self.create {
            let settings: Vec<String> = topic.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let replication = topic.replication.map_or(String::new(), |count| format!(", replication {count}"));
            lines.push(format!("+ {}: partitions {}{replication}, {}", topic.name, topic.partitions, settings.join(", ")));
        }
        for found in &self.differ {
            lines.push(format!("~ {}: {} is {}, declared {}", found.topic, found.what, found.actual, found.declared));
        }
        lines.push(format!("{} present, {} to create, {} differences", self.present, self.create.len(), self.differ.len()));
        lines
    }
}

/// Compares what is declared with what the cluster has. `actual` may hold topics of others; they are not looked at.
pub fn plan(declared: &[Declaration], actual: &[TopicDescription], options: &PlanOptions) -> TopicPlan {
    let actual: BTreeMap<&str, &TopicDescription> = actual.iter().map(|topic| (topic.name.as_str(), topic)).collect();
    let mut plan = TopicPlan { unequal: unequal_sets(declared, &actual, options), ..TopicPlan::default() };
    for topic in declared {
        let wanted = TopicDescription {
            name: options.names.full(&topic.name),
            partitions: wanted_partitions(topic, options),
            replication: options.replication,
            settings: topic.topic_settings(),
        };
        if let Some(found) = actual.get(wanted.name.as_str()) {
            plan.present += 1;
            differences(&wanted, found, &mut plan.differ);
        } else {
            let partitions = partitions_of_set(topic, declared, &actual, options).unwrap_or(wanted.partitions);
            plan.create.push(TopicDescription { partitions, ..wanted });
        }
    }
    plan
}

fn wanted_partitions(topic: &Declaration, options: &PlanOptions) -> i32 {
    options.partitions.filter(|_| topic.co_partitioned.is_some()).unwrap_or(topic.partitions)
}

/// The partitions of those members of the topic's set that the cluster has, by name.
fn found_of_set(
    set: &str,
    declared: &[Declaration],
    actual: &BTreeMap<&str, &TopicDescription>,
    options: &PlanOptions,
) -> BTreeMap<String, i32> {
    let members = declared.iter().filter(|member| member.co_partitioned.as_deref() == Some(set));
    let found = members.filter_map(|member| actual.get(options.names.full(&member.name).as_str()));
    found.map(|topic| (topic.name.clone(), topic.partitions)).collect()
}

/// A topic that is created joins its set: it gets as many partitions as the members that are there, whatever is declared.
fn partitions_of_set(
    topic: &Declaration,
    declared: &[Declaration],
    actual: &BTreeMap<&str, &TopicDescription>,
    options: &PlanOptions,
) -> Option<i32> {
    found_of_set(topic.co_partitioned.as_deref()?, declared, actual, options).into_values().max()
}

fn unequal_sets(declared: &[Declaration], actual: &BTreeMap<&str, &TopicDescription>, options: &PlanOptions) -> Vec<Unequal> {
    let sets: std::collections::BTreeSet<&str> = declared.iter().filter_map(|topic| topic.co_partitioned.as_deref()).collect();
    let unequal = sets.into_iter().filter_map(|set| {
        let partitions = found_of_set(set, declared, actual, options);
        let most = *partitions.values().max()?;
        let few: Vec<&str> = partitions.iter().filter(|(_, count)| **count < most).map(|(name, _)| name.as_str()).collect();
        let remedy = format!(
            "Give {} {most} partitions too while nothing is in flight (kafka-topics --alter --partitions {most}), or delete and create them anew",
            few.join(", ")
        );
        (!few.is_empty()).then(|| Unequal { set: set.to_owned(), partitions: partitions.clone(), remedy })
    });
    unequal.collect()
}

fn differences(wanted: &TopicDescription, found: &TopicDescription, out: &mut Vec<Difference>) {
    let mut differ = |what: &str, declared: String, actual: String| {
        if declared != actual {
            out.push(Difference { topic: wanted.name.clone(), what: what.to_owned(), declared, actual });
        }
    };
    differ("partitions", wanted.partitions.to_string(), found.partitions.to_string());
    if let (Some(declared), Some(actual)) = (wanted.replication, found.replication) {
        differ("replication", declared.to_string(), actual.to_string());
    }
    // A log that tells no settings at all was not asked, or keeps none.
    for (key, declared) in wanted.settings.iter().filter(|_| !found.settings.is_empty()) {
        let actual = found.settings.get(key).map_or("not set", String::as_str);
        differ(key, declared.clone(), actual.to_owned());
    }
}

fn as_planned<S: serde::Serializer>(topics: &[TopicDescription], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Planned<'a> {
        topic: &'a str,
        partitions: i32,
        replication: Option<i32>,
        settings: &'a BTreeMap<String, String>,
    }
    serializer.collect_seq(topics.iter().map(|topic| Planned {
        topic: &topic.name,
        partitions: topic.partitions,
        replication: topic.replication,
        settings: &topic.settings,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::{PAYMENT_ATTEMPTS, PAYMENTS_CHANGELOG, PSPS_CHANGELOG, STATS_DELTAS, declared};
    use super::*;

    fn options(partitions: Option<i32>) -> PlanOptions {
        PlanOptions { names: TopicNames::new("x."), partitions, replication: None }
    }

    /// The cluster after the plan for an empty one was carried out, with changes.
    fn cluster(partitions: Option<i32>, change: impl FnOnce(&mut Vec<TopicDescription>)) -> Vec<TopicDescription> {
        let mut topics = plan(&declared().unwrap(), &[], &options(partitions)).create;
        change(&mut topics);
        topics
    }

    fn find<'a>(topics: &'a mut [TopicDescription], base: &str) -> &'a mut TopicDescription {
        topics.iter_mut().find(|topic| topic.name == format!("x.{base}")).unwrap()
    }

    /// `want`: every line of the plan but the last, cut to the wanted length.
    fn check(what: &str, actual: &[TopicDescription], options: &PlanOptions, want: &[&str]) -> TopicPlan {
        let plan = plan(&declared().unwrap(), actual, options);
        let lines = plan.lines();
        assert_eq!(lines.len() - 1, want.len(), "{what}: {lines:#?}");
        for (got, want) in lines.iter().zip(want) {
            assert!(got.starts_with(want), "{what}: {got:?} does not begin with {want:?}");
        }
        assert_eq!(plan.is_settled(), want.is_empty(), "{what}");
        plan
    }

    #[test]
    fn an_empty_cluster_gets_everything() {
        let all = declared().unwrap();
        let plan = plan(&all, &[], &PlanOptions { replication: Some(3), ..options(Some(12)) });
        assert_eq!(plan.create.len(), all.len());
        assert!(plan.is_workable() && !plan.is_settled());
        let partitions: BTreeMap<&str, i32> = plan.create.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
        assert_eq!(
            (partitions["x.payment.attempts"], partitions["x.smartrouter.psps.changelog"], partitions["x.psp.states"]),
            (12, 12, 1)
        );
        assert!(plan.create.iter().all(|topic| topic.replication == Some(3)));
    }

    #[test]
    fn what_differs_is_told() {
        let others =
            TopicDescription { name: "payment.attempts".into(), partitions: 99, replication: None, settings: BTreeMap::new() };
        check("as declared", &cluster(None, |t| t.push(others)), &options(None), &[]);
        let drop_one = cluster(None, |t| t.retain(|topic| topic.name != "x.psp.states"));
        check("one missing", &drop_one, &options(None), &["+ x.psp.states: partitions 1, cleanup.policy=compact"]);
        let drifted = cluster(None, |t| drop(find(t, "psp.states").settings.insert("cleanup.policy".into(), "delete".into())));
        check("setting", &drifted, &options(None), &["~ x.psp.states: cleanup.policy is delete, declared compact"]);
        let unset = cluster(None, |t| drop(find(t, "psp.outages").settings.remove("retention.ms")));
        check("setting gone", &unset, &options(None), &["~ x.psp.outages: retention.ms is not set, declared 31622400000"]);
        let untold = cluster(None, |t| find(t, "psp.states").settings.clear());
        check("settings not told", &untold, &options(None), &[]);
        let wide = cluster(None, |t| find(t, "psp.states").partitions = 3);
        check("partitions", &wide, &options(None), &["~ x.psp.states: partitions is 3, declared 1"]);
        let single = cluster(None, |t| find(t, "psp.states").replication = Some(1));
        let three = PlanOptions { replication: Some(3), ..options(None) };
        check("replication", &single, &three, &["~ x.psp.states: replication is 1, declared 3"]);
    }

    #[test]
    fn unequal_partitions_are_an_error_and_name_the_remedy() {
        let rows = [
            (
                "an input",
                PAYMENT_ATTEMPTS,
                6,
                "! unequal partitions in the set payments: x.payment.attempts 6, x.payment.outcomes 4",
            ),
            ("a changelog", PAYMENTS_CHANGELOG, 2, "! unequal partitions in the set payments: "),
            (
                "stats",
                STATS_DELTAS,
                8,
                "! unequal partitions in the set stats: x.smartrouter.profiles.changelog 4, x.smartrouter.psps.changelog 4, x.stats.deltas 8. ",
            ),
        ];
        for (what, topic, partitions, want) in rows {
            let actual = cluster(None, |t| find(t, topic).partitions = partitions);
            let plan =
                check(what, &actual, &options(None), &[want, &format!("~ x.{topic}: partitions is {partitions}, declared 4")]);
            assert!(!plan.is_workable(), "{what}");
        }
    }

    #[test]
    fn a_created_topic_joins_its_set() {
        let mut actual = cluster(Some(12), |t| t.retain(|topic| topic.name != "x.smartrouter.payments.changelog"));
        let plan = check("by option", &actual, &options(Some(12)), &["+ x.smartrouter.payments.changelog: partitions 12"]);
        assert!(plan.is_workable());
        actual.retain(|topic| topic.name.starts_with("x.payment.") && !topic.name.ends_with("dlq"));
        let without_option = super::plan(&declared().unwrap(), &actual, &options(None));
        let created =
            |name: &str| without_option.create.iter().find(|topic| topic.name == format!("x.{name}")).unwrap().partitions;
        assert_eq!((created(PAYMENTS_CHANGELOG), created(PSPS_CHANGELOG)), (12, 4));
        assert!(without_option.is_workable());
    }

    #[test]
    fn it_serializes() {
        let actual = cluster(None, |t| t.retain(|topic| topic.name != "x.psp.states"));
        let json = serde_json::to_value(plan(&declared().unwrap(), &actual, &options(None))).unwrap();
        assert_eq!(json["create"][0]["topic"], "x.psp.states");
        assert_eq!((json["differ"].as_array().unwrap().len(), json["unequal"].as_array().unwrap().len()), (0, 0));
    }
}
