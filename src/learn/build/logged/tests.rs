use super::super::tests::settings;
use super::*;
use crate::domain::payment::Status;
use crate::engine::features::{Catalogue, History, RequestFacts};
use proptest::prelude::*;
use serde_json::json;

const START: EpochMs = 1_700_000_000_000;
const MINUTE: i64 = 60_000;
const PSPS: [&str; 3] = ["alpha", "beta", "gamma"];

fn encoder() -> Encoder {
    Encoder::new(Catalogue::shipped().unwrap())
}

/// On the first attempt of a payment in the minute `number`: it went to the first choice of its decision, and was approved.
fn feedback(number: i64) -> Feedback {
    Feedback {
        decision_id: Some(format!("d{number}")),
        payment_id: format!("p{number}"),
        attempt_id: format!("a{number:03}"),
        psp_id: PspId::new("alpha"),
        rank_taken: Some(1),
        approved: true,
        final_approved: true,
        status: Status::Approved,
        error_code: None,
        error_category: None,
        hard_soft: None,
        latency_ms: 900,
        amount_minor: Some(1_000 + number),
        currency: Some("EUR".into()),
        fee_minor: None,
        reward: 1.0,
        timed_out: false,
        outcome_at: START + number * MINUTE + 900,
        delay_ms: 900,
    }
}

/// A feature is the number of the decision; of a candidate, its number is added.
fn prediction(encoder: &Encoder, number: i64) -> Prediction {
    let candidates = PSPS.iter().enumerate().map(|(place, psp)| CandidatePrediction {
        psp_id: PspId::new(psp),
        features: vec![(number + place as i64) as f32; encoder.width() - encoder.request_width()],
        raw_probability: Some(0.5),
        calibrated_probability: Some(0.5),
        propensity: [0.9, 0.07, 0.03][place],
    });
    Prediction {
        decision_id: format!("d{number}"),
        request_id: format!("r{number}"),
        payment_id: format!("p{number}"),
        model: "m@1".into(),
        feature_version: encoder.catalogue().version.clone(),
        request_features: vec![number as f32; encoder.request_width()],
        candidates: candidates.collect(),
        chosen: PspId::new("alpha"),
        shadow: false,
        scored_at: START + number * MINUTE - 20,
        latency_us: 40,
    }
}

fn attempt(number: i64) -> PaymentAttempt {
    let attempt = json!({
        "payment": {
            "payment_id": format!("p{number}"), "order_id": "o", "merchant_id": "m", "currency": "EUR", "amount_minor": 1_000 + number,
            "card": {"bin": "411111", "brand": "VISA", "issuer_country": "DE"}, "method": "card",
            "message": {"initiator": "CUSTOMER", "avs_sent": false, "mcc": "4511"}
        },
        "attempt_id": format!("a{number:03}"), "attempt_number": 2, "psp_id": "alpha", "attempted_at": START + number * MINUTE
    });
    serde_json::from_value(attempt).unwrap()
}

/// Long behind the others, so that these are mature; it follows no decision, and is immature itself.
fn newest() -> Feedback {
    Feedback { decision_id: None, rank_taken: None, ..feedback(10_000) }
}

#[derive(Clone, Debug, Default)]
struct Log {
    feedback: Vec<Feedback>,
    predictions: Vec<Prediction>,
    attempts: Vec<PaymentAttempt>,
}

fn built(log: &Log, range: [Option<EpochMs>; 2]) -> FromLog {
    let mut feedback = LoggedFeedback::new(range);
    log.feedback.iter().for_each(|it| feedback.accept(it.clone()));
    let mut rows = feedback.into_rows(encoder(), &settings());
    log.predictions.iter().for_each(|it| rows.prediction(it));
    log.attempts.iter().for_each(|it| rows.attempt(it));
    rows.finish()
}

fn ids(logged: &FromLog) -> Vec<&str> {
    logged.built.table.rows.iter().map(|row| row.attempt_id.as_str()).collect()
}

#[test]
fn a_row_is_what_was_logged() {
    let encoder = encoder();
    let declined = Feedback { approved: false, psp_id: PspId::new("beta"), rank_taken: Some(2), ..feedback(2) };
    let log = Log {
        feedback: vec![declined, feedback(1), newest()],
        predictions: vec![prediction(&encoder, 2), prediction(&encoder, 1)],
        attempts: vec![attempt(1)],
    };
    let logged = built(&log, [None, None]);
    let table = &logged.built.table;
    assert_eq!(table.catalogue, encoder.catalogue().version);
    let expected = [
        Row {
            attempt_id: "a001".into(),
            payment_id: "p1".into(),
            attempt_number: 2,
            attempted_at: START + MINUTE,
            psp_id: PspId::new("alpha"),
            approved: true,
            amount_minor: 1_001,
            currency: "EUR".into(),
            brand: "VISA".into(),
            issuer_country: "DE".into(),
            propensity: Some(0.9),
            fee_minor: [100, 50],
        },
        // Not the first choice: with which odds it was the second one, nothing says. Its attempt is not in the log.
        Row {
            attempt_id: "a002".into(),
            payment_id: "p2".into(),
            attempt_number: 1,
            attempted_at: START + 2 * MINUTE,
            psp_id: PspId::new("beta"),
            approved: false,
            amount_minor: 1_002,
            currency: "EUR".into(),
            brand: String::new(),
            issuer_country: String::new(),
            propensity: None,
            fee_minor: [100, 50],
        },
    ];
    assert_eq!(table.rows, expected);
    let request = encoder.request_width();
    for (row, place) in [(0, 0), (1, 1)] {
        let (own, number) = (table.features(row), row + 1);
        assert!(own.len() == encoder.width() && own[..request].iter().all(|it| *it == number as f32));
        assert!(own[request..].iter().all(|it| *it == (number + place) as f32), "{row}");
    }
    let others: Vec<_> = table.alternatives.iter().map(|it| (it.row, it.psp_id.as_str(), it.propensity, it.fee_minor)).collect();
    let fee = [100, 50];
    let expected =
        [(0, "beta", Some(0.07), fee), (0, "gamma", Some(0.03), fee), (1, "alpha", None, fee), (1, "gamma", None, fee)];
    assert_eq!(others, expected);
    assert!(table.alternatives[3].values[..request].iter().all(|it| *it == 2.0));
    assert!(table.alternatives[3].values[request..].iter().all(|it| *it == 4.0));
    assert_eq!((logged.without_attempt, logged.off_choice, logged.built.attempts, logged.built.immature), (1, 1, 3, 1));
    assert_eq!(logged.built.label_delay_ms, [900; 3]);
    assert!(logged.left_out.is_empty() && logged.built.unknown_psps.is_empty());
}

/// The encoder's rows, cut into request and candidates as a prediction has them, come together again.
#[test]
fn features_are_those_of_the_encoder() {
    let encoder = encoder();
    let (payment, history) = (attempt(1).payment, History::new(encoder.catalogue().history.clone()));
    let facts = RequestFacts::gather(&payment, START, 1, &history);
    let psps = PSPS.map(PspId::new);
    let mut encoded = Vec::new();
    encoder.encode(&facts, &psps, &history, &mut encoded);
    let mut logged = prediction(&encoder, 1);
    logged.request_features = encoded[..encoder.request_width()].to_vec();
    for (candidate, row) in logged.candidates.iter_mut().zip(encoded.chunks(encoder.width())) {
        candidate.features = row[encoder.request_width()..].to_vec();
    }
    let log = Log { feedback: vec![feedback(1), newest()], predictions: vec![logged], attempts: Vec::new() };
    let table = built(&log, [None, None]).built.table;
    let read: Vec<f32> = [table.values, table.alternatives.into_iter().flat_map(|it| it.values).collect()].concat();
    assert!(read == encoded);
}

/// Changes one thing of the log of a single good row, and tells what becomes of it.
#[track_caller]
fn check(change: impl FnOnce(&mut Log), left_out: &[(LeftOut, u64)], rows: usize) {
    let mut log =
        Log { feedback: vec![feedback(1), newest()], predictions: vec![prediction(&encoder(), 1)], attempts: vec![attempt(1)] };
    change(&mut log);
    let logged = built(&log, [None, None]);
    assert_eq!(logged.left_out, left_out.iter().copied().collect());
    assert_eq!(logged.built.table.rows.len(), rows);
}

#[test]
fn what_is_no_row_is_counted() {
    check(|_| {}, &[], 1);
    check(|log| log.feedback[0].decision_id = None, &[(LeftOut::NoDecision, 1)], 0);
    check(|log| log.predictions.clear(), &[(LeftOut::NoPrediction, 1)], 0);
    check(|log| log.predictions[0].decision_id = "another".into(), &[(LeftOut::NoPrediction, 1)], 0);
    check(|log| log.predictions[0].feature_version.clear(), &[(LeftOut::NoFeatures, 1)], 0);
    check(|log| log.predictions[0].request_features.clear(), &[(LeftOut::NoFeatures, 1)], 0);
    check(|log| log.predictions[0].feature_version = "older".into(), &[(LeftOut::OtherCatalogue, 1)], 0);
    check(|log| log.predictions[0].request_features.push(1.0), &[(LeftOut::OtherWidth, 1)], 0);
    check(|log| log.predictions[0].candidates[2].features.push(1.0), &[(LeftOut::OtherWidth, 1)], 0);
    check(|log| log.feedback[0].psp_id = PspId::new("delta"), &[(LeftOut::NoCandidate, 1)], 0);
    check(|log| log.predictions[0].shadow = true, &[(LeftOut::NoPrediction, 1), (LeftOut::Shadow, 1)], 0);
    // A shadow of the same decision, with other features, takes nothing from it.
    let shadow = || Prediction { shadow: true, feature_version: "newer".into(), ..prediction(&encoder(), 1) };
    check(|log| log.predictions.insert(0, shadow()), &[(LeftOut::Shadow, 1)], 1);
    // A retry by the same decision: what the decision saw is not what was known by then.
    let retry = Feedback { payment_id: "p1".into(), decision_id: Some("d1".into()), ..feedback(2) };
    check(|log| log.feedback.insert(0, retry), &[(LeftOut::LaterOfDecision, 1)], 1);
    // Repeats.
    check(|log| log.feedback.push(feedback(1)), &[], 1);
    check(|log| log.predictions.push(prediction(&encoder(), 1)), &[], 1);
    check(|log| log.attempts.push(attempt(1)), &[], 1);
}

#[test]
fn of_a_label_that_changes_the_earlier_one_stays() {
    let later = Feedback { approved: false, outcome_at: feedback(1).outcome_at + 5, delay_ms: 905, ..feedback(1) };
    for feedback in [[feedback(1), later.clone(), newest()], [later, feedback(1), newest()]] {
        let log = Log { feedback: feedback.to_vec(), predictions: vec![prediction(&encoder(), 1)], attempts: Vec::new() };
        assert!(built(&log, [None, None]).built.table.rows[0].approved);
    }
}

#[test]
fn labels_that_had_no_time_to_come_are_left_out() {
    let encoder = encoder();
    let wait = settings().engine.outcome_wait_ms / MINUTE;
    // The newest result is that of `wait + 5`, told 900 ms after its attempt.
    let numbers = [1, 5, 6, wait + 5];
    let log = Log {
        feedback: numbers.map(feedback).to_vec(),
        predictions: numbers.map(|number| prediction(&encoder, number)).to_vec(),
        attempts: Vec::new(),
    };
    let logged = built(&log, [None, None]);
    assert_eq!((ids(&logged), logged.built.immature), (vec!["a001", "a005"], 2));
    // What is newest is not what is newest in the range.
    let logged = built(&log, [Some(START + 5 * MINUTE), Some(START + 7 * MINUTE)]);
    assert_eq!((ids(&logged), logged.built.immature, logged.built.attempts), (vec!["a005"], 1, 2));
}

#[test]
fn a_range_knows_what_was_followed_before_it() {
    let encoder = encoder();
    let retry = Feedback { decision_id: Some("d1".into()), ..feedback(2) };
    let log = Log {
        feedback: vec![feedback(1), retry, feedback(3), newest()],
        predictions: [1, 3].map(|number| prediction(&encoder, number)).to_vec(),
        attempts: Vec::new(),
    };
    let logged = built(&log, [Some(START + 2 * MINUTE), None]);
    assert_eq!((ids(&logged), &logged.left_out), (vec!["a003"], &BTreeMap::from([(LeftOut::LaterOfDecision, 1)])));
}

#[test]
fn attempts_that_are_not_in_the_log_are_numbered_by_feedback() {
    let encoder = encoder();
    let of_one = |number| Feedback { payment_id: "p".into(), ..feedback(number) };
    let log = Log {
        feedback: vec![of_one(3), of_one(1), Feedback { decision_id: None, ..of_one(2) }, feedback(4), newest()],
        predictions: [1, 3, 4].map(|number| prediction(&encoder, number)).to_vec(),
        attempts: Vec::new(),
    };
    let logged = built(&log, [None, None]);
    let numbers: Vec<_> = logged.built.table.rows.iter().map(|row| (row.attempt_id.as_str(), row.attempt_number)).collect();
    assert_eq!(numbers, [("a001", 1), ("a003", 3), ("a004", 1)]);
}

/// Rows and all ways to be left out, with repeats.
fn mixed() -> Log {
    let encoder = encoder();
    let mut log = Log::default();
    for number in 0..24 {
        let (mut told, mut predicted) = (feedback(number), prediction(&encoder, number));
        told.approved = number % 3 == 0;
        match number % 8 {
            1 => told.decision_id = None,
            2 => predicted.feature_version = "older".into(),
            3 => predicted.request_features.clear(),
            4 => told.psp_id = PspId::new("delta"),
            5 => log.feedback.push(Feedback { attempt_id: format!("b{number}"), ..told.clone() }),
            6 => log.predictions.push(Prediction { shadow: true, ..predicted.clone() }),
            _ => {}
        }
        log.feedback.push(told);
        log.predictions.push(predicted);
        log.attempts.push(attempt(number));
    }
    log.predictions.remove(0);
    log.feedback.push(Feedback { outcome_at: START + 80 * MINUTE, ..newest() });
    log.feedback.extend_from_within(..12);
    log.predictions.extend_from_within(..12);
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_order_of_records_does_not_matter(
        feedback in Just(mixed().feedback).prop_shuffle(),
        predictions in Just(mixed().predictions).prop_shuffle(),
        attempts in Just(mixed().attempts).prop_shuffle(),
    ) {
        let (one, other) = (built(&mixed(), [None, None]), built(&Log { feedback, predictions, attempts }, [None, None]));
        prop_assert!(one.built.table == other.built.table);
        prop_assert!(one.built.table.rows.len() > 5 && one.built.immature > 0);
        // Repeats of predictions in shadow count, each of them.
        prop_assert_eq!(&one.left_out, &other.left_out);
        prop_assert_eq!(one.left_out.len(), 7);
        let figures = |it: &FromLog| (it.built.attempts, it.built.immature, it.built.label_delay_ms, it.without_attempt);
        prop_assert_eq!(figures(&one), figures(&other));
    }
}
