use super::*;
use crate::domain::PspId;
use crate::domain::payment::{Payment, PaymentAttempt};
use crate::engine::codes::Verdict;
use serde_json::json;

const START: i64 = 1_546_300_800_000;

fn encoder() -> Encoder {
    Encoder::new(Catalogue::shipped().unwrap())
}

fn history() -> History {
    History::new(Catalogue::shipped().unwrap().history)
}

/// A payment that tells nothing but what it must.
fn bare() -> Payment {
    let payment = json!({
        "payment_id": "p", "order_id": "", "merchant_id": "m", "amount_minor": 8_900, "currency": "EUR",
        "card": {"bin": "", "brand": ""}, "method": "card",
        "message": {"initiator": "UNKNOWN", "avs_sent": false, "mcc": ""}
    });
    serde_json::from_value(payment).unwrap()
}

fn attempt(id: &str, at: i64, psp: &str, payment: Payment) -> PaymentAttempt {
    let attempt_id = id.to_owned();
    PaymentAttempt {
        payment,
        attempt_id,
        attempt_number: 1,
        psp_id: PspId::new(psp),
        attempted_at: at,
        deadline_ms: None,
        decision_id: None,
        algorithm: None,
        skip_reasons: Vec::new(),
    }
}

fn result(attempt_id: &str, at: i64, verdict: Verdict) -> AttemptResult<'_> {
    AttemptResult {
        payment_id: "p",
        attempt_id,
        at,
        verdict,
        latency_ms: Some(300),
        amount_minor: 8_900,
        code: Some("51"),
        category: None,
    }
}

/// The row of a candidate, by column.
struct Row {
    encoder: Encoder,
    values: Vec<f32>,
}

impl Row {
    fn of(payment: &Payment, at: i64, psp: &str, history: &History) -> Self {
        let (encoder, psp, mut values) = (encoder(), PspId::new(psp), Vec::new());
        let facts = RequestFacts::gather(payment, at, 1, history);
        encoder.encode(&facts, [&psp], history, &mut values);
        assert_eq!(values.len(), encoder.width());
        Self { encoder, values }
    }

    #[track_caller]
    fn get(&self, name: &str) -> f32 {
        let place = self.encoder.columns().iter().position(|column| column.name == name);
        self.values[place.unwrap_or_else(|| panic!("no column {name}"))]
    }

    #[track_caller]
    fn check(&self, expected: &[(&str, f32)]) {
        for (name, value) in expected {
            assert!((self.get(name) - value).abs() < 1e-5, "{name} is {}, not {value}", self.get(name));
        }
    }
}

#[test]
fn the_catalogue_and_the_code_agree_one_to_one() {
    let catalogue = Catalogue::shipped().unwrap();
    assert_eq!(catalogue.features.len(), 140);
    let text = include_str!("../../../schemas/features.toml");
    let with = |from: &str, to: &str| Catalogue::parse(&text.replacen(from, to, 1)).err().map(|error| error.to_string());
    let check = |from: &str, to: &str, part: &str| {
        let error = with(from, to).unwrap_or_default();
        assert!(error.contains(part), "{from} -> {to}: {error:?}");
    };
    let merchant = text.find("[[features]]\nname = \"merchant\"").unwrap();
    let without_first =
        format!("{}{}", &text[..merchant], &text[merchant + 1..][text[merchant + 1..].find("[[features]]").unwrap()..]);
    assert_eq!(Catalogue::parse(&without_first).err(), Some(CatalogueError::NotListed("merchant".to_owned())));
    check("name = \"merchant\"", "name = \"unheard_of\"", "no function");
    check("name = \"currency\"", "name = \"merchant\"", "listed twice");
    check("group = \"card\"", "group = \"cards\"", "not readable");
    check("prior = \"merchant_rate\"", "prior = \"amount\"", "no rate above it");
    check("prior = 0.5", "prior = 1.5", "0 to 1");
    check("buckets = 64", "buckets = 1", "2 to");
    check("not_in = [\"proposed_rules\"]", "not_in = [\"everything\"]", "known are");
    check("transform = \"log1p\"", "transform = \"log1p\"\nperiod = 7", "no use for period");
    check("retention_days = 400", "retention_days = 0", "1 to 10,000 days");
    assert_ne!(Catalogue::parse(&format!("{text}#")).unwrap().version, catalogue.version);
}

#[test]
fn what_is_missing_has_its_default_and_says_so() {
    let row = Row::of(&bare(), START, "alpha", &history());
    let encoder = &row.encoder;
    for (column, value) in encoder.columns().iter().zip(&row.values) {
        assert!(value.is_finite(), "{}", column.name);
        if let Some(size) = column.category_size {
            assert!(value.fract() == 0.0 && (0.0..size as f32).contains(value), "{} is {value} of {size}", column.name);
        }
    }
    // Nothing that has an indicator was told.
    for feature in encoder.catalogue().features.iter().filter(|feature| feature.indicator) {
        let missing = row.get(&format!("{}_missing", feature.name));
        assert_eq!(missing, 1.0, "{}", feature.name);
        assert_eq!(row.get(&feature.name), feature.default, "{}", feature.name);
    }
    row.check(&[
        ("card_brand", 0.0),
        ("card_bin", 0.0),
        ("previous_psp", 0.0),
        ("merchant_rate", 0.5),
        ("psp_rate", 0.5),
        ("token_psp_rate", 0.5),
        ("psp_timeout_rate_15m", 0.01),
        ("departure_weekday_sin", 0.0),
        ("departure_weekday_cos", 0.0),
        ("attempt_number", 1.0),
    ]);
}

#[test]
fn what_is_told_is_encoded() {
    let mut payment = bare();
    payment.card.brand = "DINERS".into();
    payment.card.bin = "36123456".into();
    payment.airline = serde_json::from_value(json!({"passengers": 2, "origin": "MEX", "destination": "CUN",
        "booked_at": START, "departs_at": START + 3 * 86_400_000}))
    .unwrap();
    payment.geo = serde_json::from_value(json!({"country": "MX", "ip_country": "US"})).unwrap();
    // 2019-01-01 06:00, a Tuesday.
    let row = Row::of(&payment, START + 6 * 3_600_000, "alpha", &history());
    row.check(&[
        ("card_brand", 4.0),
        ("amount", 89.0),
        ("amount_log", 90.0_f32.ln()),
        ("amount_band", 7.0),
        ("amount_is_round", 0.0),
        ("passengers", 2.0),
        ("passengers_missing", 0.0),
        ("booking_window_days", 4.0_f32.ln()),
        ("amount_per_passenger", 45.5_f32.ln()),
        ("ip_is_elsewhere", 1.0),
        ("ip_is_elsewhere_missing", 0.0),
        ("hour_sin", 1.0),
        ("hour_cos", 0.0),
        ("hour_of_day", 6.0),
        ("day_of_week", 2.0),
        ("day_of_month", 1.0),
    ]);
    assert!(row.get("card_bin") > 0.0 && row.get("route") > 0.0 && row.get("psp") > 0.0);
    assert_eq!(row.get("geo_country"), row.get("card_country"), "where the issuer is unknown");
}

/// PSPs that share a code could not be told apart.
#[test]
fn shipped_psps_have_codes_of_their_own() {
    let psps = ["worldpay", "mit", "elavon", "amex", "uk_card", "simplecard", "moneycard", "goldcard"];
    let codes = psps.map(|psp| Row::of(&bare(), START, psp, &history()).get("psp") as u32);
    let distinct: std::collections::BTreeSet<u32> = codes.into_iter().collect();
    assert_eq!(distinct.len(), psps.len(), "{codes:?}");
}

#[test]
fn history_counts_attempts_when_sent_and_results_when_told() {
    let mut history = history();
    let row = |history: &History, at, psp: &str| Row::of(&bare(), at, psp, history);
    history.attempt(&attempt("a", START, "alpha", bare()));
    row(&history, START, "beta").check(&[
        ("attempt_number", 2.0),
        ("retry_failures", 0.0),
        ("previous_result", 0.0),
        ("seconds_since_previous", 0.0),
        ("seconds_since_previous_missing", 0.0),
        ("tried_before", 0.0),
        ("is_previous_psp", 0.0),
        ("is_previous_psp_missing", 0.0),
        ("lookalike_attempts", 2.0_f32.ln()),
        ("traffic_second", 2.0_f32.ln()),
        ("merchant_rate", 0.5),
    ]);
    history.result(&result("a", START + 2_000, Verdict::SoftDecline));
    history.result(&result("a", START + 2_500, Verdict::Approved));
    history.result(&result("unheard of", START + 2_500, Verdict::Approved));
    let after = row(&history, START + 5_000, "alpha");
    after.check(&[
        ("retry_failures", 1.0),
        ("previous_result", 2.0),
        ("seconds_since_previous", 6.0_f32.ln()),
        ("tried_before", 1.0),
        ("is_previous_psp", 1.0),
        ("traffic_second", 0.0),
        ("traffic_minute", 2.0_f32.ln()),
        ("merchant_rate", 10.0 / 21.0),
        ("psp_failures_in_a_row", 2.0_f32.ln()),
        ("psp_results_15m", 2.0_f32.ln()),
        ("psp_latency_p95_15m_missing", 0.0),
    ]);
    assert!(after.get("previous_code") > 0.0 && after.get("previous_psp") == after.get("psp"));
    assert!(after.get("psp_decline_rate_15m") > after.get("psp_decline_rate_1h"));
    assert!(after.get("psp_rate") < after.get("merchant_rate"));

    history.attempt(&attempt("b", START + 10_000, "beta", bare()));
    history.result(&result("b", START + 10_000, Verdict::Timeout { persistent: true }));
    history.attempt(&attempt("c", START + 20_000, "beta", bare()));
    history.result(&result("c", START + 20_000, Verdict::Approved));
    row(&history, START + 50_000, "beta").check(&[
        ("attempt_number", 4.0),
        ("retry_failures", 2.0),
        ("retry_technical_failures", 1.0),
        ("retry_psps_tried", 2.0),
        ("previous_psp_run", 2.0),
        ("seconds_between_attempts", 11.0_f32.ln()),
        ("seconds_since_first", 51.0_f32.ln()),
        ("lookalike_failures_in_a_row", 0.0),
        ("psp_seconds_since_approval", 31.0_f32.ln()),
    ]);
}

#[test]
fn sizes_are_those_of_the_merchant_and_first_attempts_are_apart() {
    let mut history = history();
    let of = |amount_minor: i64, number: usize| {
        let mut payment = bare();
        payment.payment_id = format!("p{number}");
        payment.amount_minor = amount_minor;
        payment
    };
    // 100 is usual. Twice that is declined at night, and approved by day; a first attempt never is for less.
    for number in 0..400 {
        let (amount, at) = ([5_000, 20_000][number % 2], START + (number as i64 / 2 % 2) * 12 * 3_600_000);
        let payment = of(amount, number);
        let id = number.to_string();
        history.attempt(&attempt(&id, at, "alpha", payment.clone()));
        let verdict = if amount > 10_000 && at > START { Verdict::Approved } else { Verdict::SoftDecline };
        history.result(&AttemptResult { payment_id: &payment.payment_id, ..result(&id, at, verdict) });
    }
    // The last payment's own attempts make its next one a later one.
    let rate =
        |amount, number, hour: i64, name| Row::of(&of(amount, number), START + hour * 3_600_000, "alpha", &history).get(name);
    let (by_size, by_day) = ("brand_three_ds_first_size_psp_rate", "size_day_part_psp_rate");
    assert!(rate(18_000, 999, 14, by_day) > 0.8 && rate(18_000, 999, 26, by_day) < 0.2);
    assert!(rate(4_000, 999, 14, by_day) < 0.2, "less than usual");
    assert!(rate(18_000, 999, 3, by_day) > 0.2, "nothing was seen in the morning");
    assert!(rate(18_000, 999, 14, by_size) > 0.4 && rate(4_900, 999, 14, by_size) < 0.1);
    let apart = "brand_three_ds_first_psp_rate";
    let later = Row::of(&of(5_000, 0), START + 12 * 3_600_000, "alpha", &history);
    assert!(later.get(apart) == later.get("brand_three_ds_psp_rate"), "no later attempt was seen");
    assert!(rate(5_000, 999, 12, apart) < later.get(apart), "which leans on what it is part of");
}

#[test]
fn counts_fade_by_half_lives_whenever_they_are_read() {
    let settings = Catalogue::shipped().unwrap().history;
    let half_lives = settings.half_lives();
    let (fast, slow) = (half_lives.fast_ms as i64, half_lives.slow_ms as i64);
    let add = |outcomes: &mut Outcomes, at: i64, approved: bool| outcomes.add(at, half_lives.at(at), approved);
    let mut outcomes = Outcomes::default();
    add(&mut outcomes, START, true);
    add(&mut outcomes, START + slow, false);
    let (approved, all) = outcomes.slow(half_lives.at(START + slow));
    assert!((approved - 0.5).abs() < 1e-9 && (all - 1.5).abs() < 1e-9, "{approved} of {all}");
    let (_, all) = outcomes.fast(half_lives.at(START + slow + fast));
    assert!((all - 0.5).abs() < 1e-6, "{all}");
    for passed in [0, 1, fast / 3, fast, 5 * fast + 77, slow + 12_345_678] {
        let (_, all) = outcomes.slow(half_lives.at(START + slow + passed));
        let expected = 1.5 * (-(passed as f64) / half_lives.slow_ms).exp2();
        assert!((all - expected).abs() < 1e-9, "{all}, not {expected} after {passed} ms");
    }
    // Told late: as if it had been told in time.
    let (mut in_order, mut late) = (outcomes, outcomes);
    add(&mut in_order, START + slow, true);
    add(&mut in_order, START + 2 * slow, true);
    add(&mut late, START + 2 * slow, true);
    add(&mut late, START + slow, true);
    let (a, b) = (in_order.slow(half_lives.at(START + 3 * slow)), late.slow(half_lives.at(START + 3 * slow)));
    assert!((a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9, "{a:?} {b:?}");
    // Ages later nothing is left, and nothing breaks.
    assert_eq!(outcomes.fast(half_lives.at(START + 2_000 * fast)), (0.0, 0.0));
}

#[test]
fn what_is_kept_is_bounded() {
    let mut settings = Catalogue::shipped().unwrap().history;
    settings.entities_max = 50;
    let mut history = History::new(settings);
    for number in 0..2_000_i64 {
        let mut payment = bare();
        payment.payment_id = format!("p{number}");
        payment.customer_id = Some(format!("c{number}"));
        // Five days apart: after some time the first are forgotten and there is room again.
        history.attempt(&attempt(&format!("a{number}"), START + number * 5 * 86_400_000, "alpha", payment));
        for size in history.sizes() {
            assert!(size <= 50, "{:?}", history.sizes());
        }
    }
    let mut last = bare();
    last.payment_id = "p1999".into();
    assert_eq!(Row::of(&last, START + 2_000 * 5 * 86_400_000, "alpha", &history).get("attempt_number"), 2.0);
}

#[test]
fn values_are_stored_and_read_back() {
    let mut history = history();
    history.attempt(&attempt("a", START, "alpha", bare()));
    history.result(&result("a", START + 1, Verdict::Approved));
    let key = Key::new(Subject::Payment, super::key::hash_of("p"));
    let chain = history.chain(key).unwrap();
    let bytes = postcard::to_stdvec(&(key, chain)).unwrap();
    assert_eq!(&postcard::from_bytes::<(Key, Chain)>(&bytes).unwrap(), &(key, chain.clone()));
    assert!(bytes.len() < 400, "{}", bytes.len());
}
