use super::*;
use crate::sim::fixtures::shipped;

fn played(scenarios: &[&str], policies: &[&str], seeds: u64) -> Vec<Score> {
    (1..=seeds).flat_map(|seed| run(&shipped(), seed, scenarios, policies)).collect()
}

fn of<'a>(report: &'a Report, policy: &str) -> &'a Row {
    report.rows.iter().find(|row| row.policy == policy).unwrap()
}

#[test]
fn a_whole_outage_is_judged_as_it_should_be() {
    let names: Vec<&str> = policy_names().collect();
    let report = report(&played(&["total"], &names, 3));
    let lost = |policy: &str| of(&report, policy).lost.value.unwrap();
    assert_eq!(lost(ORACLE), 0.0);
    for policy in names.iter().filter(|name| **name != "static") {
        assert!(lost(policy) < lost("static"), "{policy} loses {}, static {}", lost(policy), lost("static"));
    }
    let ours = of(&report, OURS);
    assert!(ours.payments_to_detect.value.unwrap() <= 20.0, "{ours:?}");
    assert!(of(&report, "static").payments_to_detect.value.is_none(), "never, which is no number");
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let names: Vec<&str> = policy_names().collect();
    let once = format!("{:?}", run(&shipped(), 7, &["partial", "low_traffic"], &names));
    assert_eq!(once, format!("{:?}", run(&shipped(), 7, &["partial", "low_traffic"], &names)));
    assert_ne!(once, format!("{:?}", run(&shipped(), 8, &["partial", "low_traffic"], &names)));
}

#[test]
fn where_nothing_is_wrong_nothing_is_detected() {
    let report = report(&played(&["none"], &["static", OURS, ORACLE], 2));
    for row in &report.rows {
        assert_eq!((row.payments_to_detect.value, row.seconds_down.value), (None, None), "{row:?}");
    }
    assert_eq!(of(&report, "static").moved_share.value, Some(0.0));
    assert_eq!(report.verdicts.len(), 1);
}
