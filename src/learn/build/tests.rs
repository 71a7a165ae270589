use super::*;
use crate::engine::features::Catalogue;
use crate::engine::settings::Fee;
use serde_json::json;

const START: EpochMs = 1_546_300_800_000;
const PSPS: [&str; 3] = ["alpha", "beta", "gamma"];

type Event = (PaymentAttempt, Option<PaymentOutcome>);

pub(super) fn settings() -> Settings {
    let text = include_str!("../../config/default.toml");
    let all: toml::Value = toml::from_str(text).unwrap();
    let part = |name: &str| all.get(name).cloned().unwrap();
    let mut settings = Settings {
        engine: part("engine").try_into().unwrap(),
        health: part("health").try_into().unwrap(),
        policy: part("policy").try_into().unwrap(),
        retry: part("retry").try_into().unwrap(),
        merchants: Vec::new(),
        psps: Vec::new(),
        hard_rules: Vec::new(),
        rules: Vec::new(),
        error_codes: Vec::new(),
    };
    settings.merchants = vec![Merchant {
        id: "m".into(),
        name: String::new(),
        currencies: vec!["EUR".into()],
        psps: PSPS.iter().map(|psp| PspId::new(psp)).collect(),
        margin: None,
    }];
    let fee = |success_minor| Fee { currency: "EUR".into(), success_minor, failure_minor: 50 };
    let psp = |id: &&str| Psp {
        id: PspId::new(id),
        external_id: None,
        name: String::new(),
        brands: if *id == "gamma" { vec!["VISA".into()] } else { Vec::new() },
        currencies: Vec::new(),
        methods: Vec::new(),
        fees: vec![fee(100)],
    };
    settings.psps = PSPS.iter().map(psp).collect();
    settings
}

/// A linear congruential generator (Knuth's MMIX): the same in every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Attempts of some customers with retries; outcomes come seconds later, some late, some never.
fn events(count: usize) -> Vec<Event> {
    let mut draws = Draws(7);
    let mut at = START;
    (0..count)
        .map(|number| {
            at += draws.below(40_000) as i64;
            let payment = format!("p{}", number as u64 / 3 + draws.below(2));
            let psp = PSPS[draws.below(3) as usize];
            let attempt = json!({
                "payment": {
                    "payment_id": payment, "order_id": payment, "merchant_id": "m", "currency": "EUR",
                    "customer_id": format!("c{}", draws.below(20)), "amount_minor": draws.below(500) * 100,
                    "card": {"bin": (["411111", "545454"][draws.below(2) as usize]), "brand": (["VISA", "DINERS"][draws.below(2) as usize])},
                    "method": "card", "geo": {"country": "DE"},
                    "message": {"initiator": "CUSTOMER", "avs_sent": false, "mcc": "4511", "three_ds": draws.below(2) == 0}
                },
                "attempt_id": format!("a{number}"), "attempt_number": 1 + draws.below(3), "psp_id": psp, "attempted_at": at
            });
            let latency_ms = [300_i64, 5_000, 400_000][draws.below(20).saturating_sub(17) as usize];
            let outcome = json!({
                "attempt_id": format!("a{number}"), "payment_id": payment, "psp_id": psp, "latency_ms": latency_ms,
                "status": (["APPROVED", "DECLINED", "ERROR"][draws.below(3) as usize]), "error_code": "51",
                "occurred_at": at + latency_ms
            });
            let outcome = (draws.below(15) > 0).then(|| serde_json::from_value(outcome).unwrap());
            (serde_json::from_value(attempt).unwrap(), outcome)
        })
        .collect()
}

fn built(events: &[Event], range: [Option<EpochMs>; 2]) -> Built {
    let mut builder = TableBuilder::new(Encoder::new(Catalogue::shipped().unwrap()), &settings(), range);
    for (attempt, outcome) in events {
        builder.accept(attempt, outcome.as_ref());
    }
    builder.finish()
}

/// Features of the rows, and of their alternatives, of attempts before `end`; compared bit by bit.
fn bits_before(built: &Built, end: EpochMs) -> Vec<(String, Vec<u32>)> {
    let table = &built.table;
    let is_before = |row: usize| table.rows[row].attempted_at < end;
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    let rows = (0..table.rows.len()).filter(|row| is_before(*row));
    let width = table.columns.len();
    let own = rows.map(|row| (table.rows[row].attempt_id.clone(), bits(&table.values[row * width..(row + 1) * width])));
    let others = table.alternatives.iter().filter(|other| is_before(other.row as usize));
    own.chain(others.map(|other| (other.psp_id.to_string(), bits(&other.values)))).collect()
}

#[test]
fn nothing_later_changes_what_was_earlier() {
    let all = events(600);
    let whole = built(&all, [None, None]);
    for cut in [1, 150, 333, 599] {
        let end = all[cut].0.attempted_at;
        let before = bits_before(&whole, end);
        assert!(!before.is_empty());
        // A prefix of the history.
        let prefix: Vec<Event> = all.iter().filter(|(attempt, _)| attempt.attempted_at < end).cloned().collect();
        let in_prefix = bits_before(&built(&prefix, [None, None]), end);
        let known: Vec<_> = before.iter().filter(|row| in_prefix.contains(row)).collect();
        assert_eq!(known.len(), in_prefix.len(), "rows of the prefix differ from those of the whole");
        // All that happens from then on is another thing, results that are told from then on too.
        let mut changed = all.clone();
        for (attempt, outcome) in &mut changed {
            if attempt.attempted_at >= end {
                attempt.payment.amount_minor += 12_300;
                attempt.psp_id = PspId::new("beta");
            }
            let Some(outcome) = outcome.as_mut().filter(|outcome| outcome.occurred_at >= end) else { continue };
            outcome.status = if outcome.status == Status::Approved { Status::Declined } else { Status::Approved };
        }
        assert!(bits_before(&built(&changed, [None, None]), end) == before, "what is later than row {cut} shows before it");
    }
}

#[test]
fn a_range_has_the_rows_of_the_whole() {
    let all = events(400);
    let (from, to) = (all[100].0.attempted_at, all[300].0.attempted_at);
    let (whole, part) = (built(&all, [None, None]), built(&all, [Some(from), Some(to)]));
    let earlier = bits_before(&whole, from);
    let in_range: Vec<_> = bits_before(&whole, to).into_iter().filter(|row| !earlier.contains(row)).collect();
    assert!(part.table.rows.iter().all(|row| (from..to).contains(&row.attempted_at)));
    assert_eq!(bits_before(&part, to).len(), in_range.len());
    assert!(bits_before(&part, to) == in_range);
    assert_eq!((part.attempts, whole.attempts), (400, 400));
}

#[test]
fn rows_labels_fees_and_alternatives() {
    let all = events(300);
    let built = built(&all, [None, None]);
    let table = &built.table;
    assert!(built.immature > 0 || all.last().unwrap().1.is_some());
    assert_eq!(table.rows.len() as u64 + built.immature, 300);
    assert_eq!(table.values.len(), table.rows.len() * table.columns.len());
    assert_eq!(built.label_delay_ms[0], 300);
    assert_eq!(built.label_delay_ms[2], 400_000);
    for (index, row) in table.rows.iter().enumerate() {
        let (_, outcome) = all.iter().find(|(attempt, _)| attempt.attempt_id == row.attempt_id).unwrap();
        assert_eq!(row.approved, outcome.as_ref().is_some_and(|outcome| outcome.status == Status::Approved));
        assert_eq!((row.fee_minor, row.issuer_country.as_str()), ([100, 50], "DE"));
        let others: Vec<&Alternative> = table.alternatives.iter().filter(|other| other.row as usize == index).collect();
        let eligible = if row.brand == "VISA" { 3 } else { 2 };
        let own = usize::from(row.psp_id.as_str() != "gamma" || row.brand == "VISA");
        assert_eq!(others.len(), eligible - own, "{row:?}");
        assert!(others.iter().all(|other| other.psp_id != row.psp_id));
        let all_odds: f64 = others.iter().filter_map(|other| other.propensity).sum::<f64>() + row.propensity.unwrap();
        assert!(all_odds <= 1.0 + 1e-9 && (eligible < 3 || (all_odds - 1.0).abs() < 1e-9), "{all_odds}");
    }
    assert!(built.unknown_psps.is_empty() && built.alike_psps.is_empty());
}

#[test]
fn rows_that_are_left_out_take_their_alternatives_along() {
    let mut table = built(&events(10), [None, None]).table;
    let (width, before) = (table.columns.len(), table.clone());
    let last = before.rows.len() - 1;
    assert_eq!(table.retain(|row, _| row != 0 && row != 2), 2);
    assert_eq!(table.rows.len(), before.rows.len() - 2);
    assert_eq!(table.rows[0], before.rows[1]);
    assert_eq!(table.values[..width], before.values[width..2 * width]);
    let of = |table: &Table, row: usize| -> Vec<Vec<f32>> {
        table.alternatives.iter().filter(|it| it.row as usize == row).map(|it| it.values.clone()).collect()
    };
    assert_eq!(of(&table, last - 2), of(&before, last));
    assert_eq!(of(&table, 0), of(&before, 1));
}
