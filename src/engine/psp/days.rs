//! Whole days of a simulated PSP through a book with all detectors: what is noticed, how soon, under which name, and what is not.

use super::PspBook;
use super::detector;
use super::tests::{engine, health, sequential};
use crate::domain::PspId;
use crate::domain::learning::{SegmentTally, StatsDelta, Tally};
use crate::domain::psp::HealthState::{self, Degraded, Down, Recovering, Up};
use crate::domain::psp::{OutageCause, PspOutage, Segment, SegmentKind};
use crate::engine::codes::{NO_OUTCOME, Verdict};
use crate::engine::settings::{DetectorKind, EngineSettings, HealthSettings};
use crate::engine::window::TILE_MS;
use std::collections::BTreeMap;

const START: i64 = 1_546_300_800_000;
const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600_000;

/// What a payment meets.
#[derive(Clone, Copy, Debug)]
struct Fate {
    technical: f64,
    declined: f64,
    latency_factor: f64,
}

#[derive(Clone, Debug)]
struct Payment {
    brand: &'static str,
    method: &'static str,
    merchant: &'static str,
}

#[derive(Clone)]
struct Day {
    book: PspBook,
    health: HealthSettings,
    engine: EngineSettings,
    now: i64,
    drawn: u64,
    payments: usize,
    story: Vec<PspOutage>,
    /// Whether any segment may be other than UP: asking each time would take most of the time.
    open: bool,
}

const WELL: Fate = Fate { technical: 0.008, declined: 0.14, latency_factor: 1.0 };

/// Well, with more declines by night.
fn well(_: &Payment, at: i64) -> Fate {
    let hour = (at - START) as f64 / HOUR_MS as f64;
    Fate { declined: WELL.declined + 0.04 * (hour / 24.0 * std::f64::consts::TAU).sin(), ..WELL }
}

fn all_detectors() -> HealthSettings {
    use DetectorKind::{Declines, FailureRate, Failures, Latency, Silence};
    HealthSettings {
        detectors: vec![FailureRate, Failures, Declines, Latency, Silence],
        dwell_ms: 60_000,
        hold_ms: 60_000,
        hold_ms_max: 1_800_000,
        relapse_ms: 900_000,
        ramp: vec![0.1, 0.25, 0.5],
        sequential: sequential(),
        ..health()
    }
}

impl Day {
    fn new(seed: u64) -> Self {
        let book = PspBook::new(PspId::new("mit"));
        let engine = EngineSettings { segments_per_psp_max: 100, ..engine() };
        Self { book, health: all_detectors(), engine, now: START, drawn: seed, payments: 0, story: Vec::new(), open: false }
    }

    /// Uniform in [0, 1): splitmix64, so that a test needs nothing but its seed.
    fn draw(&mut self) -> f64 {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.drawn;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn pick(&mut self, table: &[(&'static str, f64)]) -> &'static str {
        let mut left = self.draw();
        table
            .iter()
            .find(|(_, share)| {
                left -= share;
                left < 0.0
            })
            .map_or(table[0].0, |(name, _)| name)
    }

    fn state(&self, segment: &Segment) -> HealthState {
        self.book.state(segment, self.now, &self.health).map_or(Up, |state| state.state)
    }

    /// One payment every `every_ms`, each a delta of its own; while the PSP is away, only what is let through comes.
    fn pass(&mut self, hours: f64, every_ms: i64, fate: impl Fn(&Payment, i64) -> Fate) -> &mut Self {
        let end = self.now + (hours * HOUR_MS as f64) as i64;
        while self.now < end {
            self.now += every_ms;
            let payment = Payment {
                brand: self.pick(&[("VISA", 0.6), ("MASTERCARD", 0.3), ("CARNET", 0.1)]),
                method: self.pick(&[("card", 0.85), ("spei", 0.15)]),
                merchant: self.pick(&[("a", 0.5), ("b", 0.3), ("c", 0.2)]),
            };
            let segments = [
                Segment::all(),
                Segment { kind: SegmentKind::Brand, value: payment.brand.into() },
                Segment { kind: SegmentKind::Method, value: payment.method.into() },
                Segment { kind: SegmentKind::Merchant, value: payment.merchant.into() },
            ];
            self.open |= self.story.last().is_some_and(|step| step.to != Up);
            let open = if self.open { &segments[..] } else { &[] };
            let let_through = open.iter().map(|segment| self.let_through(segment)).fold(1.0, f64::min);
            if self.draw() < let_through {
                let fate = fate(&payment, self.now);
                self.deliver(&segments, fate);
            } else {
                let effects = self.book.tick(self.now, &self.health);
                self.story.extend(effects.transitions);
            }
        }
        self
    }

    fn let_through(&self, segment: &Segment) -> f64 {
        let Some(state) = self.book.state(segment, self.now, &self.health) else { return 1.0 };
        state.recovery.map_or(1.0, |recovery| recovery.ramp_share)
    }

    fn deliver(&mut self, segments: &[Segment], fate: Fate) {
        self.payments += 1;
        let draw = self.draw();
        let verdict = match draw {
            _ if draw < fate.technical => Verdict::TechnicalError { persistent: true },
            _ if draw < fate.technical + fate.declined => Verdict::SoftDecline,
            _ => Verdict::Approved,
        };
        let latency_ms = ((200.0 + 300.0 * self.draw() + 400.0 * self.draw().powi(4)) * fate.latency_factor) as i64;
        let mut tally = Tally::default();
        tally.count(verdict, Some(latency_ms), 1_000, Some("96"));
        let tile_start = self.now.div_euclid(TILE_MS) * TILE_MS;
        let tallies =
            segments.iter().map(|segment| SegmentTally { segment: segment.clone(), tile_start, tally: tally.clone() }).collect();
        let delta = StatsDelta::of_tallies(PspId::new("mit"), 0, tallies);
        let effects = self.book.merge(&delta, &self.engine, &self.health);
        self.story.extend(effects.transitions);
        // What is asked with every delta has to be what the record of a transition would say.
        for book in self.book.segments.values().filter(|_| self.payments.is_multiple_of(8)) {
            let sight = book.sight(book.windows.watched());
            assert_eq!(detector::level(sight, &self.health), detector::read(sight, &self.health).level);
        }
    }

    /// Payments that are never answered: each overdue 10 s after it was sent, timed out 30 s after.
    fn go_silent(&mut self, payments: i64, every_ms: i64) {
        let begun = self.now;
        let timed_out = {
            let mut tally = Tally { late: 1, ..Tally::default() };
            tally.count(Verdict::Timeout { persistent: true }, None, 1_000, Some(NO_OUTCOME));
            tally
        };
        for _ in 0..payments {
            self.now += every_ms;
            let since_ms = self.now - begun;
            let tile_start = self.now.div_euclid(TILE_MS) * TILE_MS;
            let overdue = (since_ms > 10_000).then(|| Tally { overdue: 1, ..Tally::default() });
            let tallies = overdue.into_iter().chain((since_ms > 30_000).then(|| timed_out.clone()));
            let tallies = tallies.map(|tally| SegmentTally { segment: Segment::all(), tile_start, tally }).collect();
            let delta = StatsDelta::of_tallies(PspId::new("mit"), 0, tallies);
            self.story.extend(self.book.merge(&delta, &self.engine, &self.health).transitions);
        }
    }

    /// Who changed to what, in order.
    fn told(&self) -> Vec<String> {
        self.story.iter().map(|step| format!("{} {}", step.segment, step.to)).collect()
    }
}

/// A day of history without a word.
fn after_a_day(seed: u64) -> Day {
    let mut day = Day::new(seed);
    day.pass(26.0, 6 * SECOND_MS, well);
    assert_eq!(day.told(), [""; 0], "seed {seed}: {:?}", day.story);
    day.payments = 0;
    day
}

#[test]
fn days_without_trouble_are_days_without_alarms() {
    for (seed, every_ms) in [(1, 10 * SECOND_MS), (2, 60 * SECOND_MS), (3, 360 * SECOND_MS)] {
        let mut day = Day::new(seed);
        day.pass(72.0, every_ms, well);
        assert_eq!(day.told(), [""; 0], "seed {seed}: {:?}", day.story);
    }
}

#[test]
fn what_is_out_is_named_and_nothing_else() {
    type Trouble = fn(&Payment) -> f64;
    let history = after_a_day(5);
    let check = |name: &str, technical: Trouble, expected: &str, payments_max: usize| {
        for seed in 1..6 {
            let mut day = Day { drawn: seed, ..history.clone() };
            while day.story.is_empty() && day.payments < 3_000 {
                day.pass(0.001, 3 * SECOND_MS, |payment, at| Fate { technical: technical(payment), ..well(payment, at) });
            }
            let (seen, first) = (day.payments, day.told());
            assert!(first == [expected], "{name}, seed {seed}: {first:?} after {seen}");
            assert!(seen <= payments_max, "{name}, seed {seed}: {seen} payments");
            day.pass(0.5, 3 * SECOND_MS, |payment, at| Fate { technical: technical(payment), ..well(payment, at) });
            let segment = &day.story[0].segment;
            assert!(day.story.iter().all(|step| step.segment == *segment), "{name}, seed {seed}: {:?}", day.told());
        }
    };
    check("all", |_| 1.0, "ALL DOWN", 8);
    check("most", |_| 0.9, "ALL DOWN", 12);
    check("a fifth", |_| 0.2, "ALL DEGRADED", 120);
    check("one method", |payment| if payment.method == "spei" { 1.0 } else { 0.008 }, "METHOD:spei DOWN", 120);
    check("one merchant", |payment| if payment.merchant == "c" { 0.95 } else { 0.008 }, "MERCHANT:c DOWN", 120);
}

#[test]
fn declines_and_slowness_degrade_and_no_more() {
    let mut day = after_a_day(1);
    day.pass(0.5, 3 * SECOND_MS, |_, _| Fate { declined: 0.6, ..WELL });
    assert_eq!(day.told(), ["ALL DEGRADED"], "{:?}", day.story);
    assert_eq!(day.story[0].cause, OutageCause::ApprovalDrop);
    day.pass(1.0, 3 * SECOND_MS, well);
    assert_eq!(day.told(), ["ALL DEGRADED", "ALL UP"]);

    let mut day = after_a_day(2);
    day.pass(0.2, 3 * SECOND_MS, |payment, at| Fate { latency_factor: 3.0, ..well(payment, at) });
    assert_eq!(day.told(), ["ALL DEGRADED"]);
    assert_eq!(day.book.state(&Segment::all(), day.now, &day.health).unwrap().detector.name, "latency");
}

#[test]
fn silence_is_heard_before_the_deadlines() {
    let mut day = after_a_day(7);
    let begun = day.now;
    day.go_silent(60, SECOND_MS);
    assert_eq!(day.told(), ["ALL DOWN"], "{:?}", day.story);
    let (seen_ms, outage) = (day.story[0].at - begun, &day.story[0]);
    assert!(seen_ms <= 20 * SECOND_MS, "after {seen_ms} ms, by a tile's start");
    assert_eq!(outage.cause, OutageCause::Silence);
    assert!(
        outage.summary.contains("went without an answer. Chance raises such an alarm less than once in 100,000"),
        "{}",
        outage.summary
    );
    // Where nothing is known of what is usual, the deadlines tell.
    let mut day = Day::new(8);
    day.pass(0.05, SECOND_MS, well);
    let begun = day.now;
    day.go_silent(60, SECOND_MS);
    assert_eq!(day.told(), ["ALL DOWN"], "{:?}", day.story);
    assert!(day.story[0].at - begun >= 20 * SECOND_MS);
}

#[test]
fn a_new_psp_is_judged_by_its_failures_only() {
    let mut day = Day::new(1);
    day.pass(30.0, 60 * SECOND_MS, |_, _| Fate { technical: 0.01, declined: 0.6, latency_factor: 4.0 });
    assert_eq!(day.told(), [""; 0], "whatever is usual there");
    let mut day = Day::new(2);
    day.pass(0.01, 3 * SECOND_MS, |_, _| Fate { technical: 1.0, ..WELL });
    assert_eq!(day.told(), ["ALL DOWN"]);
}

#[test]
fn it_comes_back_by_the_ramp_and_a_flapping_one_waits_longer() {
    let mut day = after_a_day(3);
    day.pass(0.1, SECOND_MS, |_, _| Fate { technical: 1.0, ..WELL });
    let mut shares = Vec::new();
    while day.state(&Segment::all()) != Up && day.now < START + 40 * HOUR_MS {
        day.pass(0.0003, SECOND_MS, well);
        let share = day.let_through(&Segment::all());
        if shares.last() != Some(&share) {
            shares.push(share);
        }
    }
    let back = shares.iter().position(|share| *share == 0.5).is_some();
    assert!(back && shares.ends_with(&[0.02, 0.1, 0.25, 0.5, 1.0]), "{shares:?}");
    assert!(day.story.iter().all(|step| step.segment == Segment::all()), "{:?}", day.told());

    // Out for two minutes of every four.
    let flapping = |_: &Payment, at: i64| {
        let out = (at / 120_000) % 2 == 0;
        Fate { technical: if out { 1.0 } else { 0.008 }, ..WELL }
    };
    let downs = |day: &Day| day.story.iter().filter(|step| step.to == Down).count();
    let before = downs(&day);
    day.pass(2.0, SECOND_MS, flapping);
    let first = downs(&day) - before;
    day.pass(4.0, SECOND_MS, flapping);
    let then = downs(&day) - before - first;
    assert!(first >= 3 && then <= first * 2, "{first} in two hours, {then} in the next four: {:?}", day.told());
    assert!(matches!(day.state(&Segment::all()), Down | Recovering | Degraded | Up));
}

#[test]
fn expectations_and_evidence_survive_a_restart() {
    let mut live = after_a_day(4);
    let mut entries = BTreeMap::new();
    live.book.entries(&mut |key, value| drop(entries.insert(key, value)));
    let longest = entries.values().map(Vec::len).max().unwrap_or_default();
    assert!(longest < 1_500, "the largest entry has {longest} bytes");
    let mut restored = Day { book: PspBook::restore(PspId::new("mit"), entries).unwrap(), story: Vec::new(), ..Day::new(0) };
    (restored.now, restored.drawn) = (live.now, live.drawn);
    for day in [&mut live, &mut restored] {
        day.pass(0.02, SECOND_MS, |_, _| Fate { technical: 0.3, ..WELL });
    }
    assert!(!live.story.is_empty());
    assert_eq!(restored.story, live.story);
}
