//! Any bytes as every record: reading them is an error that blames the record, or a record that is written and read back the same;
//! one that is also valid goes through the engine.

use super::datum;
use super::draw::Draw;
use smartrouter::config::{Config, LoadOptions};
use smartrouter::domain::control::{ControlExperiment, ControlModel, ControlRule};
use smartrouter::domain::decision::RoutingDecision;
use smartrouter::domain::learning::{Feedback, Prediction, SegmentTally, StatsDelta, StatsProfile, Tally};
use smartrouter::domain::payment::{PaymentAttempt, PaymentOutcome, RoutingRequest};
use smartrouter::domain::psp::{PspOutage, PspState};
use smartrouter::domain::{PspId, Validate};
use smartrouter::engine::codes::CodeTable;
use smartrouter::engine::payment::{Effects, Event, PaymentState, Rules, observe};
use smartrouter::engine::psp::PspBook;
use smartrouter::engine::segments::SegmentRef;
use smartrouter::engine::settings::Settings;
use smartrouter::io::codec::{Codec, RecordKind, Wire};
use std::sync::OnceLock;

/// What became of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub decoded: bool,
    pub valid: bool,
}

/// Framed bytes (they begin with 0) as they are; of others the first byte names a kind and the rest draws a record of it.
pub fn run(data: &[u8]) {
    match data {
        [] | [0, ..] => drop(read(data)),
        [kind, choices @ ..] => {
            let kinds: Vec<RecordKind> = RecordKind::all().collect();
            let record = datum::framed(kinds[usize::from(kind - 1) % kinds.len()], &mut Draw::new(choices));
            assert!(read(&record).decoded, "what a schema allows was not read: {record:02x?}");
        }
    }
}

pub fn read(bytes: &[u8]) -> Read {
    let shared = shared();
    let (attempt, outcome, request) = (shared.round::<PaymentAttempt>(bytes), shared.round(bytes), shared.round(bytes));
    let delta = shared.round::<StatsDelta>(bytes);
    let others = [
        shared.round::<RoutingDecision>(bytes).is_some(),
        shared.round::<Prediction>(bytes).is_some(),
        shared.round::<Feedback>(bytes).is_some(),
        shared.round::<StatsProfile>(bytes).is_some(),
        shared.round::<PspState>(bytes).is_some(),
        shared.round::<PspOutage>(bytes).is_some(),
        shared.round::<ControlModel>(bytes).is_some(),
        shared.round::<ControlRule>(bytes).is_some(),
        shared.round::<ControlExperiment>(bytes).is_some(),
    ];
    let inputs = [attempt.is_some(), outcome.is_some(), request.is_some(), delta.is_some()];
    let decoded = inputs.iter().chain(&others).any(|&is_read| is_read);
    let mut valid = false;
    if let Some(attempt) = attempt.filter(is_valid) {
        valid = true;
        shared.through_the_engine(&attempt.payment.payment_id, Event::Attempt(&attempt), attempt.attempted_at);
    }
    if let Some(outcome) = outcome.filter(is_valid::<PaymentOutcome>) {
        valid = true;
        shared.through_the_engine(&outcome.payment_id, Event::Outcome(&outcome), outcome.occurred_at);
    }
    if let Some(request) = request {
        valid |= is_valid::<RoutingRequest>(&request);
    }
    if let Some(delta) = delta.filter(is_valid) {
        valid = true;
        shared.merge(&delta);
    }
    Read { decoded, valid }
}

fn is_valid<T: Validate>(record: &T) -> bool {
    match record.validate() {
        Ok(()) => true,
        Err(invalid) => {
            // It becomes a header: bounded, whatever came.
            assert!(invalid.to_string().len() < 1_024, "{invalid}");
            false
        }
    }
}

struct Shared {
    codec: Codec,
    settings: Settings,
    codes: CodeTable,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let settings = Config::load(&LoadOptions::default()).expect("the default configuration").config.settings;
        Shared { codec: Codec::from_ids().expect("a codec"), codes: CodeTable::new(&settings.error_codes), settings }
    })
}

impl Shared {
    fn round<T: Wire>(&self, bytes: &[u8]) -> Option<T> {
        let value = match self.codec.decode::<T>(bytes) {
            Ok(value) => value,
            Err(error) => {
                assert!(error.blames_record() && !error.is_transient(), "{error}");
                return None;
            }
        };
        // Compared as bytes: a number that is none equals nothing, itself included.
        let again = self.encode(&value);
        let second: T = self.codec.decode(&again).unwrap_or_else(|error| panic!("what was written is not read: {error}"));
        assert_eq!(self.encode(&second), again, "{}", T::KIND.record());
        Some(value)
    }

    fn encode<T: Wire>(&self, value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.codec.encode(value, &mut bytes).unwrap_or_else(|error| panic!("what was read is not written: {error}"));
        bytes
    }

    /// The event, the same again, and then silence until everything is due. Counted and told exactly once.
    fn through_the_engine(&self, payment_id: &str, event: Event<'_>, at: i64) {
        let rules = Rules { settings: &self.settings.engine, codes: &self.codes, usual_amount: None };
        let mut state = PaymentState::default();
        let mut all = vec![observe(rules, &mut state, event)];
        let again = observe(rules, &mut state, event);
        assert!(again.duplicate && again.results.is_empty() && again.feedback.is_empty(), "{again:?}");
        let mut turns = 0;
        while let Some(due_at) = state.timer_at(&self.settings.engine) {
            all.push(observe(rules, &mut state, Event::Tick { payment_id, at: due_at.max(at) }));
            turns += 1;
            assert!(turns < 10, "timers without an end: {state:?}");
        }
        let sum =
            |of: fn(&Tally) -> i64| all.iter().flat_map(|effects| &effects.results).map(|result| of(&result.tally)).sum::<i64>();
        let (results, overdue, late) = (sum(|it| it.attempts), sum(|it| it.overdue), sum(|it| it.late));
        let feedback: usize = all.iter().map(|effects| effects.feedback.len()).sum();
        assert_eq!((results, feedback), (1, 1), "{all:?}");
        assert!(overdue == late && overdue <= 1, "what is overdue is so once, and its result says so: {all:?}");
        for effects in &all {
            self.count(effects, at);
        }
    }

    fn count(&self, effects: &Effects, watermark: i64) {
        for result in &effects.results {
            let tally = |segment: SegmentRef<'_>| SegmentTally {
                segment: segment.to_segment(),
                tile_start: result.at,
                tally: result.tally.clone(),
            };
            let tallies = result.segments.iter().map(tally).collect();
            self.merge(&StatsDelta::of_tallies(result.psp_id.clone(), watermark, tallies));
        }
    }

    fn merge(&self, delta: &StatsDelta) {
        let (engine, health) = (&self.settings.engine, &self.settings.health);
        let mut book = PspBook::new(PspId::new(delta.psp_id.as_str()));
        book.merge(delta, engine, health);
        book.merge(delta, engine, health);
        for state in book.states(book.now(), health) {
            let windows = [&state.windows.last_15m, &state.windows.last_1h, &state.windows.last_24h];
            let sane = windows.iter().all(|it| it.attempts >= 0 && it.approvals >= 0 && it.timeouts >= 0 && it.errors >= 0);
            assert!(sane && (0.0..=1.0).contains(&state.health_score), "{state:?}");
        }
        let now = book.now();
        book.tick(now + 86_400_000, health);
    }
}
