//! Windows against a brute-force oracle: a list of all tallies, filtered and sorted for every question.
//!
//! The events come late, repeated, out of order and from ahead of time. What is claimed:
//! - at any time t each window, and the detector's, is the sum of the tallies in its tiles, whatever order they came in;
//! - so two orders of the same deltas end, at the same time, in the same windows. Nothing inside a final window can have been dropped: a
//!   tile that is open at the end was open, or ahead, at every earlier time. (With more segments than a book may keep, order decides
//!   which are kept.)
//! - a book restored from what was drained so far is the live book: same states, same bytes, same effects from then on.

use proptest::collection::vec;
use proptest::prelude::*;
use smartrouter::domain::PspId;
use smartrouter::domain::learning::{SegmentTally, StatsDelta, Tally};
use smartrouter::domain::psp::{Segment, SegmentKind, WindowStats, Windows};
use smartrouter::engine::codes::Verdict;
use smartrouter::engine::psp::{PspBook, StatsEffects};
use smartrouter::engine::settings::{DetectorKind, EngineSettings, HealthSettings, SequentialSettings};
use smartrouter::engine::window::{Added, RINGS, RingSpec, SegmentWindows, TILE_MS, latency};
use std::collections::BTreeMap;

const START: i64 = 1_546_300_800_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// One result as it is counted.
#[derive(Clone, Debug)]
struct Counted {
    /// Drawn as an offset from the present, then settled.
    at: i64,
    verdict: Verdict,
    latency_ms: Option<i64>,
    amount_minor: i64,
    code: String,
}

impl Counted {
    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        tally.count(self.verdict, self.latency_ms, self.amount_minor, Some(&self.code));
        tally
    }
}

/// How far from the present an event lies: mostly this tile and the next (enough to fill tiles with codes and to move window edges
/// over tiles one by one), some minutes late, some hours away on either side, some in exactly the tiles at the edges of windows.
fn offsets() -> impl Strategy<Value = i64> {
    let edges = prop::sample::select(vec![0, TILE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, 24 * HOUR_MS]);
    prop_oneof![
        8 => -TILE_MS..TILE_MS,
        4 => -20 * MINUTE_MS..2 * MINUTE_MS,
        1 => -30 * HOUR_MS..2 * HOUR_MS,
        2 => (edges, -2 * TILE_MS..2 * TILE_MS).prop_map(|(edge, off)| off - edge),
        1 => 0..20 * MINUTE_MS,
    ]
}

/// Makes an offset a time and moves the present.
fn settle(offset: i64, now: &mut i64) -> i64 {
    let at = *now + offset;
    *now = at.max(*now);
    at
}

fn counted() -> impl Strategy<Value = Counted> {
    let verdict = prop_oneof![
        Just(Verdict::Approved),
        Just(Verdict::SoftDecline),
        Just(Verdict::HardDecline),
        any::<bool>().prop_map(|persistent| Verdict::Timeout { persistent }),
        any::<bool>().prop_map(|persistent| Verdict::TechnicalError { persistent }),
        Just(Verdict::TechnicalError { persistent: true }),
        Just(Verdict::TechnicalError { persistent: true }),
    ];
    (offsets(), verdict, prop::option::of(0_i64..130_000), 0_i64..1_000_000, "[A-D][0-4]")
        .prop_map(|(at, verdict, latency_ms, amount_minor, code)| Counted { at, verdict, latency_ms, amount_minor, code })
}

/// All that ever came, and the time.
#[derive(Default)]
struct Oracle {
    results: Vec<Counted>,
    now: i64,
}

impl Oracle {
    /// What lies in the newest `tiles` tiles of `tile_ms`.
    fn inside(&self, tile_ms: i64, tiles: i64) -> Vec<&Counted> {
        let head = self.now.div_euclid(tile_ms);
        let open = head - tiles + 1..=head;
        self.results.iter().filter(|result| open.contains(&result.at.div_euclid(tile_ms))).collect()
    }

    fn stats(&self, ring: RingSpec) -> WindowStats {
        let inside = self.inside(ring.tile_ms, ring.tiles as i64);
        let count = |wanted: fn(&Verdict) -> bool| inside.iter().filter(|result| wanted(&result.verdict)).count() as i64;
        let mut latencies: Vec<i64> = inside.iter().filter_map(|result| result.latency_ms).collect();
        latencies.sort_unstable();
        let quantile = |percent: usize| match (latencies.len() * percent).div_ceil(100) {
            0 => 0,
            rank => latency::latency_of(latency::bucket_of(latencies[rank - 1])),
        };
        let approvals = count(|verdict| *verdict == Verdict::Approved);
        WindowStats {
            attempts: inside.len() as i64,
            approvals,
            approval_rate: if inside.is_empty() { 0.0 } else { approvals as f64 / inside.len() as f64 },
            soft_declines: count(|verdict| *verdict == Verdict::SoftDecline),
            hard_declines: count(|verdict| *verdict == Verdict::HardDecline),
            timeouts: count(|verdict| matches!(verdict, Verdict::Timeout { .. })),
            errors: count(|verdict| matches!(verdict, Verdict::TechnicalError { .. })),
            latency_p50_ms: quantile(50),
            latency_p95_ms: quantile(95),
            latency_p99_ms: quantile(99),
        }
    }

    fn windows(&self) -> Windows {
        let [quarter, hour, day] = RINGS.map(|ring| self.stats(ring));
        Windows { last_15m: quarter, last_1h: hour, last_24h: day }
    }

    /// The detector's window, codes bounded tile by tile: per tile the eight smallest, the rest together.
    fn recent(&self, tiles: i64, from: i64) -> (i64, i64, i64, BTreeMap<String, i64>) {
        let inside: Vec<_> =
            self.inside(TILE_MS, tiles).into_iter().filter(|it| it.at.div_euclid(TILE_MS) * TILE_MS >= from).collect();
        let is_evidence =
            |verdict| matches!(verdict, Verdict::Timeout { persistent: true } | Verdict::TechnicalError { persistent: true });
        let mut by_tile: BTreeMap<i64, BTreeMap<&str, i64>> = BTreeMap::new();
        for result in inside.iter().filter(|result| is_evidence(result.verdict)) {
            *by_tile.entry(result.at.div_euclid(TILE_MS)).or_default().entry(&result.code).or_default() += 1;
        }
        let mut codes: BTreeMap<String, i64> = BTreeMap::new();
        for tile in by_tile.into_values() {
            for (rank, (code, count)) in tile.into_iter().enumerate() {
                *codes.entry(if rank < 8 { code.to_owned() } else { "other".to_owned() }).or_default() += count;
            }
        }
        (inside.len() as i64, codes.values().sum(), inside.iter().map(|result| result.amount_minor).sum(), codes)
    }
}

fn recent_of(tally: &Tally) -> (i64, i64, i64, BTreeMap<String, i64>) {
    let codes = tally.codes.iter().map(|entry| (entry.code.to_string(), entry.count)).collect();
    (tally.attempts, tally.persistent, tally.amount_minor, codes)
}

#[derive(Clone, Debug)]
enum Step {
    Result(Counted),
    /// The same tally again and again.
    Repeat(Counted, usize),
    /// To an offset from the present.
    Tick(i64),
    /// The detector wants another window: minutes, and a floor at an offset from the present.
    Watch(i64, i64),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => counted().prop_map(Step::Result),
        2 => (counted(), 2_usize..5).prop_map(|(result, times)| Step::Repeat(result, times)),
        2 => offsets().prop_map(Step::Tick),
        1 => (1_i64..16, offsets()).prop_map(|(minutes, from)| Step::Watch(minutes, from)),
    ]
}

fn health() -> HealthSettings {
    HealthSettings {
        detectors: vec![DetectorKind::FailureRate, DetectorKind::Failures, DetectorKind::Declines, DetectorKind::Latency],
        window_ms: 5 * MINUTE_MS,
        volume_min: 2,
        degraded_rate: 0.2,
        down_rate: 0.5,
        recovered_rate: 0.1,
        dwell_ms: MINUTE_MS,
        hold_ms: 2 * MINUTE_MS,
        hold_ms_max: 2 * MINUTE_MS,
        relapse_ms: 0,
        sample_rate: 0.02,
        wins_to_restore: 2,
        ramp: Vec::new(),
        publish_interval_ms: 1000,
        sequential: sequential(),
    }
}

/// As they are shipped.
#[allow(clippy::unwrap_used, reason = "without the shipped configuration there is no test")]
fn sequential() -> SequentialSettings {
    let shipped: toml::Table = toml::from_str(include_str!("../src/config/default.toml")).unwrap();
    shipped["health"]["sequential"].clone().try_into().unwrap()
}

fn engine() -> EngineSettings {
    EngineSettings {
        attempt_overdue_ms: 0,
        attempt_deadline_ms: 30_000,
        lateness_ms: 5_000,
        future_tolerance_ms: MINUTE_MS,
        orphan_wait_ms: MINUTE_MS,
        outcome_wait_ms: 10 * MINUTE_MS,
        payment_retention_ms: 24 * HOUR_MS,
        customer_retention_ms: 24 * HOUR_MS,
        payment_entries_max: 32,
        segments: vec![SegmentKind::Brand.into()],
        pair_results_min: 0,
        segments_per_psp_max: 100,
        psps_max: 10,
    }
}

/// A delta of results, each in `ALL` and in the segment of its brand.
fn delta(results: &[(Counted, usize)]) -> StatsDelta {
    let brands = ["VISA", "MASTERCARD", "CARNET"];
    let mut tallies: BTreeMap<(Segment, i64), Tally> = BTreeMap::new();
    for (result, brand) in results {
        let brand = Segment { kind: SegmentKind::Brand, value: brands[*brand].to_owned() };
        for segment in [brand, Segment::all()] {
            let tally = tallies.entry((segment, result.at.div_euclid(TILE_MS) * TILE_MS)).or_default();
            tally.add(&result.tally());
            tally.bound_codes();
        }
    }
    let tallies = tallies.into_iter().map(|((segment, tile_start), tally)| SegmentTally { segment, tile_start, tally }).collect();
    StatsDelta::of_tallies(PspId::new("worldpay"), 0, tallies)
}

/// Results with their brand, to be one delta, and the tick after it.
type Round = (Vec<(Counted, usize)>, i64);

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    vec((vec((counted(), 0_usize..3), 0..6), offsets()), 1..40).prop_map(|mut rounds| {
        let mut now = START;
        for (results, tick) in &mut rounds {
            for (result, _) in results {
                result.at = settle(result.at, &mut now);
            }
            *tick = settle(*tick, &mut now);
        }
        rounds
    })
}

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

fn entries(book: &PspBook) -> Entries {
    let mut entries = Entries::new();
    book.entries(&mut |key, value| drop(entries.insert(key, value)));
    entries
}

/// What the entries say of windows alone: a machine remembers its way, which depends on the order of deltas.
fn windows_of(book: &PspBook, at: i64) -> Vec<(Segment, Windows)> {
    book.states(at, &health()).map(|state| (state.segment, state.windows)).collect()
}

proptest! {
    #[test]
    fn windows_are_what_a_recount_gives(steps in vec(steps(), 1..120)) {
        let mut oracle = Oracle { results: Vec::new(), now: START };
        let mut windows = SegmentWindows::new(START);
        let (mut minutes, mut from) = (15, 0);
        for step in steps {
            match step {
                Step::Result(result) => add(&mut windows, &mut oracle, result, 1)?,
                Step::Repeat(result, times) => add(&mut windows, &mut oracle, result, times)?,
                Step::Tick(offset) => {
                    windows.advance(settle(offset, &mut oracle.now));
                }
                Step::Watch(new_minutes, offset) => {
                    (minutes, from) = (new_minutes, oracle.now + offset);
                    windows.watch(minutes * MINUTE_MS, from);
                }
            }
            prop_assert_eq!(windows.now(), oracle.now);
            prop_assert_eq!(windows.published(), oracle.windows());
            prop_assert_eq!(recent_of(windows.watched()), oracle.recent(minutes * 6, from), "watched: {} min from {}", minutes, from);
            prop_assert_eq!(recent_of(&windows.recent(3 * MINUTE_MS, START)), oracle.recent(18, START));
        }
    }

    #[test]
    fn the_order_of_deltas_does_not_matter(rounds in rounds(), shuffled in any::<prop::sample::Index>()) {
        let deltas: Vec<StatsDelta> = rounds.iter().map(|(results, _)| delta(results)).collect();
        let end = rounds.iter().map(|(_, tick)| *tick).max().unwrap_or(START);
        let mut reordered = deltas.clone();
        reordered.reverse();
        reordered.rotate_left(shuffled.index(deltas.len()));
        let [ahead, behind] = [deltas, reordered].map(|deltas| {
            let mut book = PspBook::new(PspId::new("worldpay"));
            for delta in &deltas {
                book.merge(delta, &engine(), &health());
            }
            book.tick(end, &health());
            book
        });
        prop_assert_eq!(ahead.now(), behind.now());
        prop_assert_eq!(windows_of(&ahead, end), windows_of(&behind, end));
    }

    #[test]
    fn a_restored_book_is_the_live_one(
        steps in rounds(), restore_at in any::<prop::sample::Index>(), seed in any::<u64>(),
    ) {
        let apply = |book: &mut PspBook, (results, tick): &Round| -> [StatsEffects; 2] {
            [book.merge(&delta(results), &engine(), &health()), book.tick(*tick, &health())]
        };
        let psp_id = PspId::new("worldpay");
        let mut live = PspBook::new(psp_id.clone());
        let mut store = Entries::new();
        let restore_at = restore_at.index(steps.len());
        for step in &steps[..=restore_at] {
            apply(&mut live, step);
            live.drain_dirty(&mut |key, value| drop(store.insert(key, value)));
        }
        let mut stored: Vec<_> = store.clone().into_iter().collect();
        stored.sort_by_key(|(key, _)| key.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)));
        let mut restored = PspBook::restore(psp_id, stored).expect("what was drained can be read");

        prop_assert_eq!(entries(&restored), entries(&live));
        prop_assert!(entries(&live).iter().all(|(key, value)| store.get(key) == Some(value)), "the store lags behind");
        let states = |book: &PspBook| book.states(START, &health()).collect::<Vec<_>>();
        prop_assert_eq!(states(&restored), states(&live));
        restored.drain_dirty(&mut |key, _| panic!("{key:?} is dirty after a restore"));
        for step in &steps[restore_at + 1..] {
            prop_assert_eq!(apply(&mut restored, step), apply(&mut live, step));
            let (mut from_restored, mut from_live) = (Vec::new(), Vec::new());
            restored.drain_dirty(&mut |key, value| from_restored.push((key, value)));
            live.drain_dirty(&mut |key, value| from_live.push((key, value)));
            prop_assert_eq!(from_restored, from_live);
        }
    }

    #[test]
    fn what_was_added_can_be_taken_away(results in vec(counted(), 0..40), more in vec(counted(), 0..40)) {
        let sum = |results: &[Counted]| {
            let mut sum = Tally::default();
            for result in results {
                sum.add(&result.tally());
            }
            sum
        };
        let mut all = sum(&[&results[..], &more[..]].concat());
        all.subtract(&sum(&more));
        prop_assert_eq!(all, sum(&results));
    }
}

fn add(windows: &mut SegmentWindows, oracle: &mut Oracle, result: Counted, times: usize) -> Result<(), TestCaseError> {
    let result = Counted { at: settle(result.at, &mut oracle.now), ..result };
    for _ in 0..times {
        oracle.results.push(result.clone());
        let open =
            RINGS.iter().any(|ring| result.at.div_euclid(ring.tile_ms) > oracle.now.div_euclid(ring.tile_ms) - ring.tiles as i64);
        let expected = if open { Added::Counted } else { Added::Late };
        prop_assert_eq!(windows.add(result.at, &result.tally()), expected);
    }
    Ok(())
}

/// A window's last tile leaves it in the very millisecond that a new tile begins.
#[test]
fn windows_are_exact_at_their_edges() {
    let mut tally = Tally::default();
    tally.count(Verdict::Approved, Some(100), 1, None);
    let check = |ring: usize, length_ms: i64| {
        let mut windows = SegmentWindows::new(START);
        windows.add(START, &tally);
        let attempts = |windows: &SegmentWindows| {
            let windows = windows.published();
            [windows.last_15m, windows.last_1h, windows.last_24h][ring].attempts
        };
        windows.advance(START + length_ms - 1);
        assert_eq!(attempts(&windows), 1, "ring {ring}");
        windows.advance(START + length_ms);
        assert_eq!(attempts(&windows), 0, "ring {ring}");
    };
    check(0, 15 * MINUTE_MS);
    check(1, HOUR_MS);
    check(2, 24 * HOUR_MS);
}

/// The work of steady state: a result touches its finest tile, whatever else the book holds; a coarser one is stored when the finest of it
/// begin to leave.
#[test]
fn only_touched_tiles_are_drained() {
    let mut book = PspBook::new(PspId::new("worldpay"));
    let result = |at| Counted { at, verdict: Verdict::Approved, latency_ms: Some(300), amount_minor: 1, code: String::new() };
    for minute in 0..60 {
        book.merge(&delta(&[(result(START + minute * MINUTE_MS), 0)]), &engine(), &health());
    }
    book.drain_dirty(&mut |_, _| {});
    let mut drained_by = |at| {
        let mut drained = 0;
        book.merge(&delta(&[(result(at), 0)]), &engine(), &health());
        book.drain_dirty(&mut |_, _| drained += 1);
        drained
    };
    assert_eq!(drained_by(START + HOUR_MS - MINUTE_MS), 2, "a tile each in ALL and in the brand");
    assert_eq!(
        drained_by(START + HOUR_MS),
        1 + 2 * (3 + 1),
        "the clock, and in both the tile, a minute and a quarter that are left behind, and what is expected of the new quarter"
    );
    assert_eq!(drained_by(START + HOUR_MS), 2);
}
