use super::*;
use crate::domain::payment::HardSoft;
use serde_json::json;

const MONDAY: i64 = 1_767_571_200_000;

/// One attempt: time after Monday midnight (s), payment, PSP, brand, amount, result (`ok`, `no`, `hard`, `-`), and its place.
fn count(discovery: &mut Discovery, rows: &str) {
    let mut seen: HashMap<String, (u32, bool)> = HashMap::new();
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let [at, payment, psp, brand, amount, result] = row.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{row}") };
        let at = MONDAY + at.parse::<i64>().unwrap() * 1_000;
        let amount: i64 = amount.parse().unwrap();
        let attempt = json!({
            "payment": {"payment_id": payment, "order_id": payment, "merchant_id": "m", "amount_minor": amount, "currency": "MXN",
                "card": {"bin": "", "brand": brand}, "method": "card",
                "message": {"initiator": if brand == "VISA" { "MERCHANT" } else { "CUSTOMER" }, "avs_sent": false, "mcc": ""}},
            "attempt_id": row, "attempt_number": 1, "psp_id": psp, "attempted_at": at, "skip_reasons": [format!("{psp}: no")],
        });
        let decline = ["no", "hard"].contains(&result);
        let outcome = json!({
            "attempt_id": row, "payment_id": payment, "psp_id": psp, "status": if result == "ok" { "APPROVED" } else { "DECLINED" },
            "error_code": decline.then_some("51"), "error_category": decline.then_some("funds"),
            "hard_soft": decline.then_some(if result == "hard" { "HARD" } else { "SOFT" }), "latency_ms": amount, "occurred_at": at + amount,
        });
        let (length, approved) = seen.entry(payment.to_owned()).or_default();
        *length += 1;
        let place = Place { length: *length, is_first_approval: result == "ok" && !*approved };
        *approved |= result == "ok";
        let outcome = (result != "-").then(|| serde_json::from_value(outcome).unwrap());
        discovery.count(&serde_json::from_value(attempt).unwrap(), outcome.as_ref(), place);
    }
}

fn report(rows: &str) -> DiscoveryReport {
    let mut discovery = Discovery::default();
    count(&mut discovery, rows);
    discovery.finish().unwrap()
}

fn told(groups: &[Group]) -> Vec<(&str, u64, u64)> {
    groups.iter().map(|it| (it.name.as_str(), it.attempts, it.approvals)).collect()
}

const ROWS: &str = "
    0       p1  a  VISA  100   no
    5       p1  b  VISA  100   ok
    3600    p2  a  MC    200   hard
    7300    p2  a  MC    200   no
    90000   p3  b  MC    300   ok
    90001   p4  a  VISA  1000  -
    700000  p5  a  MC    5000  ok";

#[test]
fn attempts_and_payments_are_counted_once() {
    let report = report(ROWS);
    assert_eq!((report.attempts, report.no_result), (7, 1));
    assert_eq!((report.approved_attempts, report.approved_payments), (Proportion::new(3, 6), Proportion::new(3, 5)));
    assert_eq!((report.from, report.to), (MONDAY, MONDAY + 700_000_000));
    let days: Vec<_> = report.days.iter().map(|day| ((day.at - MONDAY) / DAY_MS, day.attempts, day.payments)).collect();
    let (monday, tuesday) =
        ((0, Proportion::new(1, 4), Proportion::new(1, 2)), (1, Proportion::new(1, 1), Proportion::new(1, 2)));
    assert_eq!(days, [monday, tuesday, (8, Proportion::new(1, 1), Proportion::new(1, 1))]);
    assert_eq!((report.rhythm[0][0], report.rhythm[0][1], report.rhythm[0][2], report.rhythm[1][1]), (2, 1, 1, 2));
    assert_eq!(told(&report.psps), [("a", 4, 1), ("b", 2, 2)]);
}

#[test]
fn cuts_are_by_value_and_psp() {
    let report = report(ROWS);
    let cut = |by: &str| {
        let rows = &report.cuts.iter().find(|cut| cut.by == by).unwrap().rows;
        rows.iter()
            .map(|it| format!("{} {} {}/{}", it.value, it.psp_id.as_deref().unwrap_or("*"), it.approvals, it.attempts))
            .collect::<Vec<_>>()
    };
    assert_eq!(cut("card brand"), ["MC * 2/4", "MC a 1/3", "MC b 1/1", "VISA * 1/2", "VISA a 0/1", "VISA b 1/1"]);
    assert_eq!(cut("CIT or MIT")[..2], ["CIT * 2/4", "CIT a 1/3"]);
    // Six results: a band is closed when it has reached its fifth of them.
    let bands: Vec<String> = cut("amount").into_iter().filter(|row| row.contains('*')).collect();
    assert_eq!(bands, ["MXN 1.00 * 1/2", "MXN 2.00 * 0/2", "MXN 3.00 * 1/1", "MXN 10.00 to 50.00 * 1/1"]);
    assert_eq!(report.constant["currency"], "MXN");
    assert!(report.untold.contains(&"bank") && report.untold.contains(&"routed by") && !report.untold.contains(&"currency"));
}

#[test]
fn retries_know_what_came_before() {
    let patterns = report(ROWS).retries;
    assert_eq!(patterns.lengths, BTreeMap::from([(1, 3), (2, 2)]));
    assert_eq!(told(&patterns.by_number), [("attempt 1", 4, 2), ("attempt 2", 2, 1)]);
    assert_eq!(told(&patterns.by_psp), [("another PSP", 1, 1), ("the same PSP again", 1, 0)]);
    assert_eq!(told(&patterns.by_wait), [("under 10 s", 1, 1), ("1 h to 1 day", 1, 0)]);
    assert_eq!(told(&patterns.by_category), [("funds", 2, 1)]);
    assert_eq!(told(&patterns.by_decline), [("a hard decline", 1, 0), ("a soft decline", 1, 1)]);
}

#[test]
fn declines_latencies_skips_and_fields() {
    let report = report(ROWS);
    let declines: Vec<_> =
        report.declines.iter().map(|it| (it.psp_id.as_str(), it.hard_soft.unwrap(), it.attempts, it.share)).collect();
    assert!(
        declines.contains(&("a", HardSoft::Soft, 2, 0.5)) && declines.contains(&("a", HardSoft::Hard, 1, 0.25)),
        "{declines:?}"
    );
    assert_eq!(report.latency[0], Latency { psp_id: "a".to_owned(), attempts: 4, p50_ms: 200, p95_ms: 5_000, p99_ms: 5_000 });
    assert_eq!(report.skips[0], Skip { reason: "a: no".to_owned(), attempts: 5 });
    let share = |field: &str| report.fields.iter().find(|it| it.field == field).unwrap().share;
    assert_eq!((share("error code of declines"), share("bank"), share("card brand")), (1.0, 0.0, 1.0));
    assert_eq!(share("result"), 6.0 / 7.0);
}

#[test]
fn a_trend_is_that_of_whole_days() {
    // Twelve days with 10, 11, ... payments; the first begins at noon and the last ends there.
    let mut rows = String::new();
    for day in 0..12_i64 {
        for payment in 0..10 + day {
            let half = if day == 0 { 43_200 } else { 0 };
            let at = day * 86_400 + half + payment * 1_000;
            rows = format!("{rows}{at} d{day}p{payment} a VISA 100 ok\n");
        }
    }
    let trend = report(&rows).trend.unwrap();
    assert_eq!((trend.whole_days, trend.payments_per_day), (10, 15.5));
    assert!(
        (trend.change_per_week.value - 7.0 / 15.5).abs() < 1e-9 && trend.change_per_week.high - trend.change_per_week.low < 1e-6
    );
    assert_eq!(report(ROWS).trend, None, "of three days there is none");
    assert!(Discovery::default().finish().is_none());
}

#[test]
fn many_values_become_a_few_and_the_others() {
    let rows: Vec<String> = (0..400).map(|row| format!("{row} p{row} a B{} 100 ok", row % 40)).collect();
    let report = report(&rows.join("\n"));
    let brands = &report.cuts.iter().find(|cut| cut.by == "card brand").unwrap().rows;
    let all: Vec<_> = brands.iter().filter(|row| row.psp_id.is_none()).map(|row| (row.value.as_str(), row.attempts)).collect();
    assert_eq!((all.len(), all[11], all[0]), (12, ("(others)", 290), ("B0", 10)));
}
