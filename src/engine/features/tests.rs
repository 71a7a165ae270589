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
        ("traffic_minute", 0.0),
        ("merchant_rate", 0.5),
        ("psp_results_15m", 2.0_f32.ln()),
        ("psp_latency_p95_15m_missing", 0.0),
    ]);
    assert!(after.get("previous_code") > 0.0 && after.get("previous_psp") == after.get("psp"));
    assert!(after.get("psp_decline_rate_15m") > after.get("psp_decline_rate_1h"));

    // Counts over many payments move on by the minute, and are known twelve seconds later.
    history.advance(START + 71_999);
    row(&history, START + 71_999, "alpha").check(&[("merchant_rate", 0.5), ("lookalike_results", 0.0)]);
    history.advance(START + 72_000);
    let counted = row(&history, START + 72_000, "alpha");
    counted.check(&[
        ("traffic_minute", 2.0_f32.ln()),
        ("merchant_rate", 10.0 / 21.0),
        ("psp_failures_in_a_row", 2.0_f32.ln()),
        ("psp_results_minute", 2.0_f32.ln()),
        ("lookalike_results", 2.0_f32.ln()),
        ("lookalike_seconds_since_result", 71.0_f32.ln()),
        ("lookalike_seconds_since_approval_missing", 1.0),
        ("lookalike_was_here", 1.0),
    ]);
    assert!(counted.get("psp_rate") < counted.get("merchant_rate"));
    row(&history, START + 72_000, "beta").check(&[("psp_failures_in_a_row", 0.0), ("lookalike_was_here", 0.0)]);
}

#[test]
fn a_chain_is_counted_attempt_by_attempt() {
    let mut history = history();
    history.attempt(&attempt("a", START, "alpha", bare()));
    history.result(&result("a", START + 2_000, Verdict::SoftDecline));
    history.attempt(&attempt("b", START + 10_000, "beta", bare()));
    history.result(&result("b", START + 10_000, Verdict::Timeout { persistent: true }));
    history.attempt(&attempt("c", START + 20_000, "beta", bare()));
    history.result(&result("c", START + 20_000, Verdict::Approved));
    Row::of(&bare(), START + 50_000, "beta", &history).check(&[
        ("attempt_number", 4.0),
        ("retry_failures", 2.0),
        ("retry_technical_failures", 1.0),
        ("retry_psps_tried", 2.0),
        ("previous_psp_run", 2.0),
        ("seconds_between_attempts", 11.0_f32.ln()),
        ("seconds_since_first", 51.0_f32.ln()),
    ]);
    history.advance(START + 72_000);
    Row::of(&bare(), START + 72_000, "beta", &history).check(&[("psp_seconds_since_approval", 53.0_f32.ln())]);
}

#[test]
fn a_customer_is_known_at_once_by_card_and_order() {
    let mut history = history();
    let of = |payment_id: &str, token: &str, order: &str| {
        let mut payment = bare();
        (payment.payment_id, payment.customer_id, payment.order_id) = (payment_id.into(), Some("c".into()), order.into());
        payment.card.token = Some(token.into());
        payment
    };
    let come = |history: &mut History, payment: &Payment, at: i64, psp: &str, verdict: Verdict| {
        history.attempt(&attempt(&payment.payment_id, at, psp, payment.clone()));
        history.result(&AttemptResult { payment_id: &payment.payment_id, ..result(&payment.payment_id, at + 500, verdict) });
    };
    come(&mut history, &of("p1", "card", "order"), START, "alpha", Verdict::Approved);
    come(&mut history, &of("p2", "other card", "order"), START + 10_000, "beta", Verdict::SoftDecline);
    let row = |payment: &Payment, psp: &str| Row::of(payment, START + 20_000, psp, &history);
    let known = row(&of("p3", "card", "order"), "alpha");
    known.check(&[
        ("customer_attempts", 3.0_f32.ln()),
        ("customer_failures_in_a_row", 2.0_f32.ln()),
        ("customer_seconds_since_attempt", 11.0_f32.ln()),
        ("customer_seconds_since_approval", 20.5_f32.ln()),
        ("amount_vs_customer", 0.0),
        ("approved_customer_last", 1.0),
        ("token_attempts", 2.0_f32.ln()),
        ("token_failures_in_a_row", 0.0),
        ("order_attempts", 3.0_f32.ln()),
        ("lookalike_results", 0.0),
    ]);
    assert!(known.get("customer_psp_rate") > 0.5 && known.get("token_psp_rate") > known.get("customer_psp_rate"));
    let elsewhere = row(&of("p3", "third card", "order 2"), "beta");
    elsewhere.check(&[("token_attempts", 0.0), ("order_attempts", 0.0), ("approved_customer_last", 0.0)]);
    assert!(elsewhere.get("customer_psp_rate") < 0.5);
    let mut nobody = of("p3", "card", "order");
    nobody.customer_id = None;
    row(&nobody, "alpha").check(&[("customer_attempts", 0.0), ("token_attempts", 0.0), ("order_attempts", 0.0)]);
    history.advance(START + 80_000);
    Row::of(&of("p3", "card", "order"), START + 80_000, "alpha", &history).check(&[("lookalike_results", 0.0)]);
}

#[test]
fn what_a_customer_has_is_bounded() {
    let half_lives = Catalogue::shipped().unwrap().history.half_lives();
    let mut customer = CustomerHistory::default();
    for number in 1..=100_u64 {
        let (at, belongs) = (START + number as i64, Belongs { token: number, order: number });
        customer.attempted(at, belongs, 1.0);
        customer.came((at, half_lives.at(at)), number, belongs, true);
    }
    let bytes = postcard::to_stdvec(&customer).unwrap();
    assert!(bytes.len() < 1_500, "{}", bytes.len());
    assert_eq!(bytes[0], CustomerHistory::LAYOUT);
    assert_eq!(postcard::from_bytes::<CustomerHistory>(&bytes).unwrap(), customer);
    assert!(customer.card(100).is_some() && customer.card(96).is_none(), "the oldest made room");
}

fn told(at: i64, number: u64, approved: bool) -> Told {
    let mut payment = bare();
    payment.card.bin = format!("{}", 400_000 + number % 7);
    payment.amount_minor = 1_000 + number as i64;
    let psp = [key::hash_of("alpha"), key::hash_of("beta")][number as usize % 2];
    Told { at, psp, traits: Traits::of(&payment, at, 1, 0, Some(10.0)), approved, amount_log: amount_log(&payment) }
}

fn all_of(counts: &Counts, of: &[Told]) -> Vec<(Key, Standing)> {
    let mut all: Vec<_> = of.iter().flat_map(|told| told.traits.keys(told.psp)).collect();
    all.sort();
    all.dedup();
    all.into_iter().filter_map(|key| counts.get(key).map(|standing| (key, standing))).collect()
}

/// However results come and whenever they are counted, the counts are the same, to the bit.
#[test]
fn counts_do_not_depend_on_arrival_nor_on_steps() {
    let settings = Catalogue::shipped().unwrap().history;
    let results: Vec<Told> =
        (0..900).map(|number| told(START + (number as i64 * 7_919) % 600_000, number, number % 3 == 0)).collect();
    let mut at_once = Counts::new(&settings);
    for told in &results {
        at_once.tell(*told);
    }
    while at_once.begin(START + 600_000) {
        while !at_once.count(usize::MAX) {}
        while at_once.take_changed().is_some() {}
    }
    let mut in_steps = Counts::new(&settings);
    let mut left: Vec<Told> = results.iter().rev().copied().collect();
    for minute in 1..=10 {
        let to = START + minute * 60_000;
        left.retain(|told| {
            let is_due = told.at < to;
            if is_due {
                assert_eq!(in_steps.tell(*told), to);
            }
            !is_due
        });
        assert!(in_steps.begin(to));
        assert!(!in_steps.begin(to), "once");
        while !in_steps.count(17) {}
        assert!(!in_steps.begin(to + 60_000), "as long as not all is taken");
        while let Some((_, _, as_of)) = in_steps.take_changed() {
            assert_eq!(as_of, to);
        }
    }
    let (a, b) = (all_of(&at_once, &results), all_of(&in_steps, &results));
    assert!(a == b && a.len() > 100, "{} {}", a.len(), b.len());
}

/// Whoever ends between keeping some of the counts and forgetting the results makes none of them twice.
#[test]
fn a_count_that_was_kept_is_not_made_again() {
    let settings = Catalogue::shipped().unwrap().history;
    let results: Vec<Told> = (0..200).map(|number| told(START + number as i64 * 500, number, number % 5 > 0)).collect();
    let counted = |counts: &mut Counts, to: i64| {
        for told in &results {
            counts.tell_again(*told, START + 60_000 + (told.at - START) / 60_000 * 60_000);
        }
        let mut kept = Vec::new();
        while counts.begin(to) {
            while !counts.count(50) {}
            kept.extend(std::iter::from_fn(|| counts.take_changed()));
        }
        kept
    };
    for (first_to, second_to) in [(60_000, 60_000), (60_000, 120_000), (120_000, 120_000)] {
        let mut whole = Counts::new(&settings);
        counted(&mut whole, START + second_to);
        let expected = all_of(&whole, &results);
        for kept in [0, 1, 7, 50, 150, usize::MAX] {
            let mut first = Counts::new(&settings);
            let mut second = Counts::new(&settings);
            for (key, standing, as_of) in counted(&mut first, START + first_to).into_iter().take(kept) {
                second.restore(key, standing, as_of);
            }
            counted(&mut second, START + second_to);
            assert!(all_of(&second, &results) == expected, "{kept} of those to {first_to}, then to {second_to}");
        }
    }
}

#[test]
fn counts_travel_and_are_forgotten() {
    let mut settings = Catalogue::shipped().unwrap().history;
    settings.retention_days = 10;
    let mut counts = Counts::new(&settings);
    let (old, new) = (told(START, 0, true), told(START + 9 * 86_400_000, 2, false));
    let psp = PspId::new("alpha");
    for told in [old, new] {
        let record = told.to_record();
        assert_eq!(Told::of_record(&psp, &record), Some(told));
        assert_eq!(Told::of_record(&psp, &crate::domain::learning::ToldResult { traits: vec![1], ..record }), None);
        assert!(counts.tell(told) > told.at);
    }
    for expected in [START + 60_000, START + 9 * 86_400_000 + 60_000] {
        assert!(counts.begin(START + 10 * 86_400_000));
        while !counts.count(1) {}
        while let Some((key, standing, as_of)) = counts.take_changed() {
            let record = standing.to_record(key, &psp, as_of);
            assert_eq!((record.updated_at, Standing::of_record(&record)), (expected, Some((key, standing))));
            assert_eq!(key_of_subject(&record.subject), Some(key));
        }
    }
    assert_eq!([key_of_subject("bin:1"), key_of_subject("zip:1/psp:2"), key_of_subject("bin:x/psp:2")], [None; 3]);
    let before = counts.len();
    let gone = counts.sweep(START + 11 * 86_400_000);
    assert!(!gone.is_empty() && counts.len() + gone.len() == before);
    assert!(gone.iter().all(|key| counts.get(*key).is_none() && old.traits.keys(old.psp).any(|known| known == *key)));
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
        let (day, by_day) = (number as i64 / 4 * 86_400_000, number / 2 % 2 == 1);
        let (amount, at) = ([5_000, 20_000][number % 2], START + day + i64::from(by_day) * 12 * 3_600_000);
        let payment = of(amount, number);
        let id = number.to_string();
        history.attempt(&attempt(&id, at, "alpha", payment.clone()));
        let verdict = if amount > 10_000 && by_day { Verdict::Approved } else { Verdict::SoftDecline };
        history.result(&AttemptResult { payment_id: &payment.payment_id, ..result(&id, at, verdict) });
    }
    let end = START + 100 * 86_400_000;
    history.advance(end);
    // The last payment's own attempts make its next one a later one.
    let rate =
        |amount, number, hour: i64, name| Row::of(&of(amount, number), end + hour * 3_600_000, "alpha", &history).get(name);
    let (by_size, by_day) = ("brand_three_ds_first_size_psp_rate", "size_day_part_psp_rate");
    assert!(rate(18_000, 999, 14, by_day) > 0.8 && rate(18_000, 999, 26, by_day) < 0.2);
    assert!(rate(4_000, 999, 14, by_day) < 0.2, "less than usual");
    assert!(rate(18_000, 999, 3, by_day) > 0.2, "nothing was seen in the morning");
    assert!(rate(18_000, 999, 14, by_size) > 0.4 && rate(4_900, 999, 14, by_size) < 0.1);
    let apart = "brand_three_ds_first_psp_rate";
    let later = Row::of(&of(5_000, 0), end + 12 * 3_600_000, "alpha", &history);
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
    let chain = history.chain(key::hash_of("p")).unwrap();
    let bytes = postcard::to_stdvec(chain).unwrap();
    assert_eq!(&postcard::from_bytes::<Chain>(&bytes).unwrap(), chain);
    assert!(bytes.len() < 80, "{}", bytes.len());
}
