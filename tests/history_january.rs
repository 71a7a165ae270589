//! History files through the shipped mappings: the routing log of January 2019 against counts made here in another way, and
//! small made-up files of the source views.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers of tests are tests"
)]

use smartrouter::domain::PspId;
use smartrouter::domain::payment::{Algorithm, HardSoft, InstallmentKind, Status};
use smartrouter::engine::settings::StaticRule;
use smartrouter::engine::settings::{Merchant, Psp};
use smartrouter::io::history::{
    HistoryEvents, HistoryReader, HistoryReport, HistoryRow, ImportedRules, Mapping, Reject, Requests, RuleMapping,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

struct Read {
    report: HistoryReport,
    events: Vec<HistoryEvents>,
    rejects: Vec<Reject>,
    /// Columns that were not read, in all files.
    unread: Vec<String>,
}

fn read(file: &Path, mapping: &str, requests: Requests) -> Read {
    let mapping = Mapping::load(&in_project("deploy/mappings").join(mapping)).expect("a good mapping");
    let mut reader = HistoryReader::open(&[file.to_owned()], mapping, requests).expect("a readable file");
    let mut got = Read { report: HistoryReport::default(), events: Vec::new(), rejects: Vec::new(), unread: Vec::new() };
    for row in reader.by_ref() {
        let row = row.expect("a readable file");
        got.report.count(&row);
        match row {
            HistoryRow::Events(events) => got.events.push(*events),
            HistoryRow::Reject(reject) => got.rejects.push(reject),
        }
    }
    let progress = reader.progress();
    assert_eq!(progress.bytes_read, progress.bytes_total);
    got.unread = reader.unread_columns().values().flatten().cloned().collect();
    got
}

fn fixture(file: &str, mapping: &str) -> Read {
    read(&in_project("tests/fixtures/history").join(file), mapping, Requests::PerPayment)
}

/// The report, computed another way: rows split by hand, grouped by key, then each group cut where it pauses or succeeds.
fn independent_report(text: &str) -> HistoryReport {
    let mut groups: BTreeMap<[&str; 4], Vec<(i64, bool)>> = BTreeMap::new();
    let mut report = HistoryReport::default();
    for line in text.lines().skip(1) {
        let [_, at, country, amount, success, psp, three_ds, card] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("{line:?} has not eight columns")
        };
        let second_of_month = at[8..10].parse::<i64>().unwrap() * 86_400
            + at[11..13].parse::<i64>().unwrap() * 3_600
            + at[14..16].parse::<i64>().unwrap() * 60
            + at[17..19].parse::<i64>().unwrap();
        groups.entry([country, amount, card, three_ds]).or_default().push((second_of_month, success == "1"));
        let count = report.by_psp.entry(psp.to_lowercase()).or_default();
        count.attempts += 1;
        count.approved += u64::from(success == "1");
    }
    for rows in groups.values() {
        let starts = (0..rows.len()).filter(|&i| i == 0 || rows[i - 1].1 || rows[i].0 - rows[i - 1].0 > 60).chain([rows.len()]);
        for (start, end) in starts.clone().zip(starts.skip(1)) {
            *report.chains.entry((end - start) as u32).or_default() += 1;
            report.payments += 1;
            report.approved_payments += u64::from(rows[end - 1].1);
        }
    }
    report.attempts = report.by_psp.values().map(|psp| psp.attempts).sum();
    report.outcomes = report.attempts;
    report.approved_attempts = report.by_psp.values().map(|psp| psp.approved).sum();
    report.requests = report.payments;
    report
}

#[test]
fn january_equals_an_independent_count() {
    let file = in_project("../shared/data/psp_2019_january/attempts.csv");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("skipped: {} is not there", file.display());
        return;
    };
    let got = read(&file, "psp_routing_log.toml", Requests::PerPayment);
    assert_eq!(got.report, independent_report(&text));
    assert_eq!(got.report.attempts, 26_304);
    check_ids(&got.events, got.report.payments);
    let again = read(&file, "psp_routing_log.toml", Requests::PerPayment);
    assert_eq!(again.events, got.events, "a second reading gives the same records");
}

/// Every id stands for one thing, and requests are there for first attempts only.
fn check_ids(events: &[HistoryEvents], payments: u64) {
    let distinct = |ids: Vec<&str>| ids.into_iter().collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(events.iter().map(|e| e.attempt.attempt_id.as_str()).collect()), events.len());
    assert_eq!(distinct(events.iter().map(|e| e.attempt.payment.payment_id.as_str()).collect()) as u64, payments);
    let requests: Vec<_> = events.iter().filter_map(|e| e.request.as_ref()).collect();
    assert_eq!(distinct(requests.iter().map(|r| r.request_id.as_str()).collect()), requests.len());
    for e in events {
        assert_eq!(e.request.is_some(), e.attempt.attempt_number == 1);
        assert_eq!(e.attempt.attempt_number as u32, e.place.length);
    }
}

#[test]
fn the_routing_log_fixture_equals_an_independent_count() {
    let got = fixture("psp_routing_log.csv", "psp_routing_log.toml");
    // Row 7 has cents; row 8 an unknown result, so row 9, a second before it, is still in order.
    let text = std::fs::read_to_string(in_project("tests/fixtures/history/psp_routing_log.csv")).unwrap();
    let good = text.lines().filter(|line| !line.starts_with("8,")).collect::<Vec<_>>().join("\n");
    assert_eq!(got.report, HistoryReport { rejected: 1, ..independent_report(&good) });
    assert_eq!(got.report.chains, BTreeMap::from([(1, 4), (2, 1), (3, 1)]));
    check_ids(&got.events, 6);
    let reject = &got.rejects[0];
    assert_eq!((reject.row, reject.text.as_str()), (10, "8,2019-01-01 00:02:30,Switzerland,40,2,Goldcard,1,Diners"));
    assert!(reject.reason.contains("status from column \"success\" is \"2\""), "{}", reject.reason);
    let first = &got.events[0].attempt;
    assert_eq!((first.attempted_at, first.psp_id.as_str()), (1_546_300_810_000, "uk_card"));
    assert_eq!((first.payment.amount_minor, first.payment.card.brand.as_str()), (8_900, "VISA"));
    assert_eq!(got.events[1].attempt.payment.card.brand, "MASTERCARD");
    assert_eq!(got.events[1].attempt.payment.geo.as_ref().unwrap().country.as_deref(), Some("AT"));
    assert_eq!(got.events[7].attempt.payment.amount_minor, 4_050);
}

#[test]
fn the_payment_attempt_view_loads() {
    let got = fixture("vw_athena_payment_attempt.csv", "vw_athena_payment_attempt.toml");
    assert_eq!((got.report.attempts, got.report.payments, got.report.rejected), (3, 2, 1));
    let ids: Vec<_> = got.events.iter().map(|e| e.attempt.attempt_id.as_str()).collect();
    assert_eq!(ids, ["a-1", "a-3", "a-2"], "sorted by time");
    let [first, timed_out, second] = &got.events[..] else { panic!("three attempts") };
    assert_eq!(first.attempt.algorithm, Some(Algorithm::Rule));
    assert_eq!(first.attempt.skip_reasons, ["elavon: DOWN"]);
    let outcome = first.outcome.as_ref().unwrap();
    assert_eq!((outcome.status, outcome.hard_soft, outcome.latency_ms), (Status::Declined, Some(HardSoft::Soft), 430));
    assert_eq!(outcome.occurred_at, first.attempt.attempted_at + 430);
    assert_eq!(first.attempt.payment.amount_minor, 149_990);
    assert_eq!(first.attempt.payment.card.bin, "412345");
    assert_eq!(first.attempt.payment.card.bank.as_deref(), Some("Banco \"Uno\""));
    assert_eq!(first.attempt.payment.installments.as_ref().unwrap().kind, InstallmentKind::Msi);
    assert_eq!(timed_out.outcome.as_ref().unwrap().status, Status::Timeout);
    assert_eq!(timed_out.attempt.payment.customer_id, None);
    assert_eq!(timed_out.attempt.payment.card.brand, "AMEX");
    assert_eq!((second.attempt.attempt_number, second.place.is_first_approval), (2, true));
    assert!(got.rejects[0].reason.contains("DYNAMIC_ROUTING_DETAIL"), "{}", got.rejects[0].reason);
    assert_eq!(got.unread, ["LOADED_BY"], "a column that nobody expects is named");
    let unread: Vec<String> = got.events.iter().map(|e| serde_json::to_string(&e.unread).unwrap()).collect();
    let kept = r#"{"DYNAMIC_ROUTING_DETAIL":{"score":0.91,"policy":{"id":"p7"}}}"#;
    assert_eq!(unread, ["{}", "{}", kept], "what no field reads of the JSON is kept");
}

#[test]
fn the_static_rules_load() {
    let mapping = RuleMapping::load(&in_project("deploy/mappings/vw_routing_merchant_rule.toml")).expect("a good mapping");
    let file = in_project("tests/fixtures/history/vw_routing_merchant_rule.csv");
    let read = ImportedRules::read(&[file], &mapping).expect("a readable file");
    let rules: Vec<StaticRule> =
        read.rules.iter().map(|rule| serde_json::from_value(rule.clone().into()).expect("a rule of the engine")).collect();
    let told: Vec<_> =
        rules.iter().map(|rule| (rule.id.as_str(), rule.priority, rule.shadow, rule.psps.len(), rule.split.len())).collect();
    let expected = [
        ("msi-at-mit", 300, false, 3, 0),
        ("usd", 200, false, 2, 0),
        ("mxn-split", 100, false, 0, 3),
        ("debit-trial", 250, true, 2, 0),
    ];
    assert_eq!(told, expected);
    assert_eq!(rules[1].psps, [PspId::new("worldpay"), PspId::new("elavon")], "by their position");
    let when = &rules[3].when;
    assert_eq!((when.amount_minor_min, when.bin_ranges.as_ref().unwrap().len()), (Some(500_000), 2));
    assert_eq!(when.brands.as_deref().unwrap(), ["VISA", "MASTERCARD"]);
    assert_eq!((&rules[0].when.brands, &rules[0].when.installment_kinds), (&None, &Some(vec![InstallmentKind::Msi])));
    assert_eq!((read.inactive.as_slice(), read.rejects.len()), (["old".to_owned()].as_slice(), 1));
    assert_eq!(read.unread_columns.into_values().collect::<Vec<_>>(), [["OWNER"]]);
}

#[test]
fn the_routing_attempts_view_loads() {
    let got = fixture("vw_smart_routing_attempts.jsonl", "vw_smart_routing_attempts.toml");
    assert_eq!((got.report.attempts, got.report.outcomes, got.report.payments, got.report.rejected), (3, 2, 2, 0));
    let [first, second, open] = &got.events[..] else { panic!("three attempts") };
    assert_eq!(first.attempt.skip_reasons, ["mit: DEGRADED", "elavon: NOT_ELIGIBLE"]);
    assert_eq!(first.outcome.as_ref().unwrap().latency_ms, 431);
    // One is milliseconds since 1970, the other the wall clock of Mexico City.
    assert_eq!(second.attempt.attempted_at - first.attempt.attempted_at, 4_500);
    assert_eq!(second.attempt.attempt_number, 2);
    assert!(open.outcome.is_none() && open.request.is_some());
}

#[test]
fn counts_by_the_hour_become_attempts() {
    let got = fixture("hourly_counts.csv", "hourly_counts.toml");
    assert_eq!((got.report.attempts, got.report.payments, got.report.approved_payments, got.report.rejected), (8, 8, 5, 1));
    let sent: Vec<(i64, &str)> = got
        .events
        .iter()
        .map(|it| ((it.attempt.attempted_at - 1_546_300_800_000) / 60_000, it.attempt.payment.method.as_str()))
        .collect();
    let card = |minute| (minute, "card");
    let expected = [card(7), (15, "spei"), card(22), card(37), (45, "spei"), card(52), card(75), card(105)];
    assert_eq!(sent, expected, "minutes, in order of time over all rows");
    assert!(got.rejects[0].reason.contains("more successes (3) than attempts (2)"), "{}", got.rejects[0].reason);
}

#[test]
fn the_flat_join_of_the_views_loads() {
    let got = fixture("all_views_flat.csv", "all_views_flat.toml");
    assert_eq!((got.report.attempts, got.report.approved_payments, got.report.rejected), (2, 1, 0));
    let payment = &got.events[0].attempt.payment;
    let customer = payment.customer.as_ref().unwrap();
    assert_eq!((customer.rfm_monetary, customer.minutes_browsing), (Some(8_100.5), Some(7.25)));
    assert_eq!((customer.browser.as_deref(), customer.device.as_deref()), (Some("Chrome"), Some("mobile")));
    assert_eq!(got.events[0].attempt.skip_reasons, ["mit: DOWN", "elavon: NOT_ELIGIBLE"]);
    assert_eq!(got.events[1].attempt.attempted_at - got.events[0].attempt.attempted_at, 42_000);
    assert_eq!(got.unread, [""; 0], "what follows from the attempts is known and not read");
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct JanuaryConfig {
    merchants: Vec<Merchant>,
    psps: Vec<Psp>,
}

#[test]
fn the_configuration_for_january_knows_the_psps_of_the_log_and_their_fees() {
    let text = std::fs::read_to_string(in_project("deploy/january.toml")).unwrap();
    let config: JanuaryConfig = toml::from_str(&text).unwrap();
    let ids: BTreeSet<_> = config.psps.iter().map(|psp| psp.id.as_str()).collect();
    assert_eq!(ids, config.merchants[0].psps.iter().map(PspId::as_str).collect());
    let Ok(fees) = std::fs::read_to_string(in_project("../shared/data/psp_2019_january/fees.csv")) else {
        return;
    };
    for line in fees.lines().skip(1) {
        let [psp, success, failure] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        let minor = |euros: &str| (euros.parse::<f64>().unwrap() * 100.0).round() as i64;
        let known = config.psps.iter().find(|known| known.id.as_str() == psp.to_lowercase()).unwrap();
        assert_eq!((known.fees[0].success_minor, known.fees[0].failure_minor), (minor(success), minor(failure)), "{psp}");
    }
}
