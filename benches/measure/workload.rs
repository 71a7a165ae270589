//! What the micro benches and the guards over them measure: the records of one payment, a PSP with a full day behind it, a decision
//! about four PSPs of the shipped example.
//!
//! Always the same work: no clock, no random numbers. Nothing here measures.

#![allow(dead_code, reason = "each bench and each guard takes its part")]
#![allow(clippy::unwrap_used, reason = "what cannot be set up is to stop")]

use serde_json::json;
use smartrouter::config::{Config, LoadOptions};
use smartrouter::domain::learning::{SegmentTally, StatsDelta, Tally};
use smartrouter::domain::payment::{Payment, PaymentAttempt, PaymentOutcome, RoutingRequest};
use smartrouter::domain::psp::{Detector, HealthState, PspState, Segment, SegmentKind, WindowStats, Windows};
use smartrouter::domain::{EpochMs, PspId};
use smartrouter::engine::codes::{CodeTable, Verdict};
use smartrouter::engine::features::{AttemptResult, Catalogue, Encoder, History, RequestFacts};
use smartrouter::engine::payment::{Event, PaymentState, Rules, observe};
use smartrouter::engine::policy::{DecideInput, Decided, Router, StaticView, decide};
use smartrouter::engine::psp::{PspBook, StatsEffects};
use smartrouter::engine::segments::segments_of;
use smartrouter::engine::settings::Settings;
use smartrouter::engine::window::{Added, SegmentWindows, TILE_MS};
use smartrouter::io::codec::{Codec, Wire};
use smartrouter::learn::{Column, ColumnKind, Row, Table};
use std::collections::BTreeMap;
use std::path::Path;

const START: EpochMs = 1_546_300_800_000;
const TILES_OF_A_DAY: i64 = 8_640;

pub(crate) fn settings() -> Settings {
    let file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/volaris.toml"));
    Config::load(&LoadOptions { file, ..LoadOptions::default() }).unwrap().config.settings
}

pub(crate) fn attempt() -> PaymentAttempt {
    let attempt = json!({
        "payment": {
            "payment_id": "28d2e08e-5e62-79db-e09e-dd5aa5319f47", "order_id": "o844011031930", "merchant_id": "volaris",
            "customer_id": "c405", "amount_minor": 233_746, "currency": "MXN",
            "card": {"bin": "545454", "brand": "MASTERCARD", "type": "CREDIT", "bank": "bank", "issuer_country": "MX"},
            "method": "card",
            "message": {"initiator": "CUSTOMER", "avs_sent": false, "mcc": "4511", "three_ds": true},
            "installments": {"count": 3, "kind": "MSI"},
            "airline": {"order_type": "round_trip", "passengers": 2, "origin": "MEX", "destination": "CUN"},
            "geo": {"country": "MX", "ip_country": "MX"}
        },
        "attempt_id": "a50-28d2e08e", "attempt_number": 1, "psp_id": "mit", "attempted_at": 1_795_526_800_646_i64
    });
    serde_json::from_value(attempt).unwrap()
}

pub(crate) fn outcome() -> PaymentOutcome {
    let outcome = json!({
        "attempt_id": "a50-28d2e08e", "payment_id": "28d2e08e-5e62-79db-e09e-dd5aa5319f47", "customer_id": "c405", "psp_id": "mit",
        "status": "DECLINED", "error_code": "51", "error_category": "insufficient_funds", "hard_soft": "SOFT", "latency_ms": 350,
        "occurred_at": 1_795_526_800_996_i64
    });
    serde_json::from_value(outcome).unwrap()
}

pub(crate) fn framed<T: Wire>(codec: &Codec, value: &T) -> Vec<u8> {
    let mut framed = Vec::new();
    codec.encode(value, &mut framed).unwrap();
    framed
}

/// Ten results, as 100 ms of a busy segment.
pub(crate) fn approvals(seed: i64) -> Tally {
    let mut tally = Tally::default();
    (0..10).for_each(|result| tally.count(Verdict::Approved, Some(100 + (seed * 37 + result * 91) % 3_000), 1_000, None));
    tally
}

/// The same with a failure: too few for an outage, but each with its code.
pub(crate) fn with_a_failure(seed: i64) -> Tally {
    let mut tally = approvals(seed);
    let code = ["91", "96", "timeout", "connection_error"][seed as usize % 4];
    tally.count(Verdict::TechnicalError { persistent: true }, Some(900), 1_000, Some(code));
    tally
}

/// Ten results of which two are declined, and in every tenth tally a failure besides: what a PSP that is well answers.
pub(crate) fn as_usual(seed: i64) -> Tally {
    let mut tally = Tally::default();
    for result in 0..10 {
        let verdict = if result % 5 == 4 { Verdict::SoftDecline } else { Verdict::Approved };
        tally.count(verdict, Some(100 + (seed * 37 + result * 91) % 3_000), 1_000, Some("51"));
    }
    if seed % 10 == 0 {
        tally.count(Verdict::TechnicalError { persistent: true }, Some(900), 1_000, Some("96"));
    }
    tally
}

/// A segment that was busy for a day: every tile of every window holds results.
pub(crate) struct BusySegment {
    pub(crate) windows: SegmentWindows,
    tallies: Vec<Tally>,
    count: usize,
}

impl BusySegment {
    pub(crate) fn of(tally: fn(i64) -> Tally) -> Self {
        let mut busy = Self { windows: SegmentWindows::new(START), tallies: (0..64).map(tally).collect(), count: 0 };
        for _ in 0..TILES_OF_A_DAY {
            busy.add_to_next_tile();
        }
        busy
    }

    pub(crate) fn add_to_open_tile(&mut self) -> Added {
        self.add(0)
    }

    pub(crate) fn add_to_next_tile(&mut self) -> Added {
        self.add(TILE_MS)
    }

    fn add(&mut self, later_ms: i64) -> Added {
        self.count += 1;
        self.windows.add(self.windows.now() + later_ms, &self.tallies[self.count % self.tallies.len()])
    }
}

/// A PSP that was busy for a day in all segments of one payment, and the delta that comes next.
pub(crate) struct BusyPsp {
    book: PspBook,
    deltas: Vec<StatsDelta>,
    settings: Settings,
    at: EpochMs,
    count: usize,
}

impl BusyPsp {
    pub(crate) fn of(tally: fn(i64) -> Tally) -> Self {
        Self::after(TILES_OF_A_DAY, tally)
    }

    /// After as many tiles with results.
    pub(crate) fn after(tiles: i64, tally: fn(i64) -> Tally) -> Self {
        let settings = settings();
        let psp_id = PspId::new("mit");
        let segments = segments_of(&attempt().payment, &settings.engine.segments);
        let delta = |seed| {
            let tally_of = |segment: &Segment| SegmentTally { segment: segment.clone(), tile_start: START, tally: tally(seed) };
            StatsDelta::of_tallies(psp_id.clone(), START, segments.iter().map(tally_of).collect())
        };
        let deltas = (0..64).map(delta).collect();
        let mut busy = Self { book: PspBook::new(psp_id.clone()), deltas, settings, at: START, count: 0 };
        for _ in 0..tiles {
            busy.merge_into_next_tile();
        }
        busy
    }

    pub(crate) fn merge_into_open_tile(&mut self) -> StatsEffects {
        self.count += 1;
        let delta = self.count % self.deltas.len();
        let delta = &mut self.deltas[delta];
        delta.tallies.iter_mut().for_each(|tally| tally.tile_start = self.at);
        self.book.merge(delta, &self.settings.engine, &self.settings.health)
    }

    pub(crate) fn merge_into_next_tile(&mut self) -> StatsEffects {
        self.at += TILE_MS;
        self.merge_into_open_tile()
    }
}

/// Many PSPs with many segments each, and one payment after the other: of a PSP and of segments that nobody can foresee.
pub(crate) struct ManyPsps {
    books: Vec<PspBook>,
    /// Of each kind so many values.
    values: Vec<(SegmentKind, usize)>,
    settings: Settings,
    at: EpochMs,
    count: u64,
}

/// Payments of a tile: a thousand a second.
const PAYMENTS_PER_TILE: u64 = 10_000;

impl ManyPsps {
    /// `segments` of each PSP, `ALL` among them; every one with results in some tiles.
    pub(crate) fn of(psps: usize, segments: usize) -> Self {
        let kinds = [SegmentKind::Brand, SegmentKind::Currency, SegmentKind::Method, SegmentKind::Merchant];
        let share = |(place, kind)| (kind, (segments - 1) / kinds.len() + usize::from(place < (segments - 1) % kinds.len()));
        let books = (0..psps).map(|number| PspBook::new(PspId::new(&format!("psp-{number}")))).collect();
        let values = kinds.into_iter().enumerate().map(share).collect();
        let mut many = Self { books, values, settings: settings(), at: START, count: 0 };
        for _ in 0..30 {
            many.at += TILE_MS;
            for (book, value) in (0..psps).flat_map(|book| (0..segments).map(move |value| (book, value))) {
                many.merge(book, value as u64);
            }
        }
        many
    }

    pub(crate) fn next_payment(&mut self) -> StatsEffects {
        self.count += 1;
        if self.count.is_multiple_of(PAYMENTS_PER_TILE) {
            self.at += TILE_MS;
        }
        // splitmix64
        let mut word = self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word ^= word >> 31;
        self.merge(word as usize % self.books.len(), word >> 32)
    }

    fn merge(&mut self, book: usize, value: u64) -> StatsEffects {
        let of =
            |(kind, values): &(SegmentKind, usize)| Segment { kind: *kind, value: format!("{:04}", value as usize % values) };
        let segments = std::iter::once(Segment::all()).chain(self.values.iter().filter(|(_, values)| *values > 0).map(of));
        let tally = |segment| SegmentTally { segment, tile_start: self.at, tally: approvals(value as i64 % 64) };
        let delta = StatsDelta::of_tallies(self.books[book].psp_id().clone(), START, segments.map(tally).collect());
        self.books[book].merge(&delta, &self.settings.engine, &self.settings.health)
    }
}

/// A payment of one attempt, from its two records to its results in the windows and its feedback record.
pub(crate) struct PaymentPath {
    codec: Codec,
    settings: Settings,
    codes: CodeTable,
    attempt: Vec<u8>,
    outcome: Vec<u8>,
    windows: BTreeMap<Segment, SegmentWindows>,
    feedback: Vec<u8>,
}

impl PaymentPath {
    pub(crate) fn new() -> Self {
        let codec = Codec::from_ids().unwrap();
        let settings = settings();
        let (attempt, outcome) = (attempt(), outcome());
        let segments = segments_of(&attempt.payment, &settings.engine.segments);
        Self {
            codes: CodeTable::new(&settings.error_codes),
            attempt: framed(&codec, &attempt),
            outcome: framed(&codec, &outcome),
            windows: segments.into_iter().map(|segment| (segment, SegmentWindows::new(outcome.occurred_at))).collect(),
            feedback: Vec::new(),
            codec,
            settings,
        }
    }

    pub(crate) fn run(&mut self) {
        let attempt: PaymentAttempt = self.codec.decode(&self.attempt).unwrap();
        let outcome: PaymentOutcome = self.codec.decode(&self.outcome).unwrap();
        let rules = Rules { settings: &self.settings.engine, codes: &self.codes, usual_amount: Some(2_000.0) };
        let mut state = PaymentState::default();
        observe(rules, &mut state, Event::Attempt(&attempt));
        let effects = observe(rules, &mut state, Event::Outcome(&outcome));
        for result in &effects.results {
            for segment in result.segments.iter() {
                self.windows.get_mut(&segment.to_segment()).unwrap().add(result.at, &result.tally);
            }
        }
        for feedback in &effects.feedback {
            self.feedback.clear();
            self.codec.encode(feedback, &mut self.feedback).unwrap();
        }
    }

    /// Results that the windows have counted, in all segments together.
    pub(crate) fn counted(&self) -> i64 {
        self.windows.values().map(|windows| windows.last_15m().attempts).sum()
    }
}

/// A request, and four PSPs with results in every segment of its payment.
pub(crate) struct Decision {
    router: Router,
    request: RoutingRequest,
    view: StaticView,
    offsets: BTreeMap<String, i64>,
}

impl Decision {
    pub(crate) fn about(brand: &str) -> Self {
        let settings = settings();
        let request = request(brand);
        let segments = segments_of(&request.payment, &settings.engine.segments);
        let rates = settings.psps.iter().zip([870, 820, 850, 880]);
        let states = rates.flat_map(|(psp, rate)| segments.iter().map(move |segment| state(&psp.id, segment.clone(), rate)));
        let (router, view) = (Router::new(&settings), states.collect());
        Self { router, request, view, offsets: BTreeMap::from([("0".to_owned(), 42)]) }
    }

    pub(crate) fn make(&self) -> Decided {
        let Self { router, request, view, offsets } = self;
        let input =
            DecideInput { request, previous: &[], view, chances: None, view_offsets: offsets, decided_at: request.requested_at };
        decide(router, &input)
    }
}

fn request(brand: &str) -> RoutingRequest {
    let payment = json!({
        "payment_id": "p1", "order_id": "o1", "merchant_id": "volaris", "amount_minor": 250_000, "currency": "MXN",
        "card": { "bin": "455673", "brand": brand, "type": "CREDIT", "issuer_country": "MX" }, "method": "card",
        "message": { "initiator": "CUSTOMER", "avs_sent": false, "mcc": "4511" }
    });
    serde_json::from_value(json!({ "payment": payment, "request_id": "r1", "requested_at": 1_700_000_000_000_i64 })).unwrap()
}

fn state(psp_id: &PspId, segment: Segment, approvals: i64) -> PspState {
    let window = WindowStats { attempts: 1_000, approvals, ..WindowStats::default() };
    PspState {
        psp_id: psp_id.clone(),
        segment,
        state: HealthState::Up,
        since: 0,
        version: 0,
        windows: Windows { last_15m: window.clone(), last_1h: window.clone(), last_24h: window },
        health_score: 1.0,
        detector: Detector::default(),
        manual: None,
        recovery: None,
        updated_at: 0,
    }
}

/// Four PSPs that could take a payment, with a day of attempts behind them.
pub(crate) struct Encoding {
    encoder: Encoder,
    history: History,
    psps: Vec<PspId>,
    payment: Payment,
    rows: Vec<f32>,
}

impl Encoding {
    pub(crate) fn new() -> Self {
        let encoder = Encoder::new(Catalogue::shipped().unwrap());
        let mut history = History::new(encoder.catalogue().history.clone());
        let psps: Vec<PspId> = ["worldpay", "mit", "elavon", "amex"].map(PspId::from).to_vec();
        for number in 0..10_000_i64 {
            let mut sent = attempt();
            // The last three are the payment's own.
            if number < 9_997 {
                sent.payment.payment_id = format!("p{number}");
            }
            sent.attempt_id = format!("a{number}");
            sent.psp_id = psps[number as usize % 4].clone();
            sent.attempted_at += (number - 10_000) * 8_000;
            history.attempt(&sent);
            history.result(&AttemptResult {
                payment_id: &sent.payment.payment_id,
                attempt_id: &sent.attempt_id,
                at: sent.attempted_at + 350,
                verdict: if number % 3 == 0 { Verdict::SoftDecline } else { Verdict::Approved },
                latency_ms: Some(350),
                amount_minor: sent.payment.amount_minor,
                code: Some("51"),
                category: None,
            });
        }
        Self { encoder, history, psps, payment: attempt().payment, rows: Vec::new() }
    }

    pub(crate) fn run(&mut self) -> f32 {
        let facts = RequestFacts::gather(&self.payment, attempt_time(), 1, &self.history);
        self.encoder.encode(&facts, &self.psps, &self.history, &mut self.rows);
        self.rows[self.rows.len() - 1]
    }
}

fn attempt_time() -> EpochMs {
    1_795_526_800_646
}

/// 140 numbers a row, of which the first decides.
pub(crate) fn net_table(rows: usize) -> Table {
    let column = |place: usize| Column { name: format!("x{place}"), kind: ColumnKind::Number, of_candidate: false };
    let mut table = Table { columns: (0..140).map(column).collect(), ..Table::default() };
    let mut word = 1_u64;
    for index in 0..rows {
        let from = table.values.len();
        for _ in 0..140 {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            table.values.push((word >> 40) as f32 / 8_388_608.0 - 1.0);
        }
        table.rows.push(Row {
            attempt_id: index.to_string(),
            payment_id: index.to_string(),
            attempt_number: 1,
            attempted_at: START + index as i64,
            psp_id: PspId::new("mit"),
            approved: table.values[from] > 0.5,
            amount_minor: 1_000,
            currency: "MXN".to_owned(),
            brand: "VISA".to_owned(),
            issuer_country: "MX".to_owned(),
            propensity: None,
            fee_minor: [0, 0],
        });
    }
    table
}
