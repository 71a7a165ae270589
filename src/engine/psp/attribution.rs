//! Which segments an alarm is about: the smallest set that explains the failures, not all that see them.
//!
//! A payment counts in `ALL` and in one segment of each kind, so an outage of one method shows in the method, in `ALL`, and in every brand
//! and merchant that uses it. The segments of one kind partition the traffic: a kind explains the failures when those of its
//! segments that fail too often hold nearly all of them, or all others do well. Of the kinds that do, the one whose failing
//! segments have the least traffic names the outage; when that is nearly all traffic, or the failures might have gathered there by
//! chance, it is `ALL`.
//!
//! Pure counting over one moment: keeps nothing, knows no states.

use crate::domain::psp::{Segment, SegmentKind};
use std::collections::BTreeMap;

/// What a segment saw lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) segment: &'a Segment,
    pub(super) n: i64,
    pub(super) failures: i64,
    /// The failure rate that is usual there.
    pub(super) expected: f64,
}

/// A kind explains the failures when its failing segments hold this share of those beyond the usual.
const COVERED_MIN: f64 = 0.9;
/// Segments with this share of the traffic are the PSP.
const TRAFFIC_MAX: f64 = 0.9;
/// A rate is about another when it is this share of it.
pub(super) const ABOUT: f64 = 0.75;
/// By how many nats two failure rates, inside and outside, must explain the counts better than one. Six are reached by chance in one of
/// two thousand: enough for the dozens of segments that are tried.
const TELLING: f64 = 6.0;
/// A segment fails too often when its failures are this many nats less likely by what is usual: once in a hundred.
const TOO_OFTEN: f64 = 4.6;

/// The segments that explain the failures of the PSP; None when the counts say nothing: no failures beyond the usual, or no `ALL`.
pub(super) fn explain<'a>(parts: &[Part<'a>]) -> Option<Vec<&'a Segment>> {
    let all = parts.iter().find(|part| part.segment.kind == SegmentKind::All)?;
    if all.n <= 0 || all.excess() <= 0.0 {
        return None;
    }
    let mut kinds: BTreeMap<SegmentKind, Vec<&Part<'a>>> = BTreeMap::new();
    for part in parts.iter().filter(|part| part.segment.kind != SegmentKind::All && part.fails_too_often()) {
        kinds.entry(part.segment.kind).or_default().push(part);
    }
    let (pairs, properties): (Vec<_>, Vec<_>) =
        kinds.into_iter().filter(|(_, failing)| is_explained(all, failing)).partition(|(kind, _)| *kind == SegmentKind::Pair);
    let narrowest = properties.into_iter().map(|(_, failing)| failing).min_by_key(|failing| (traffic(failing), failing.len()));
    // What is out as a whole is out in its pairs too, and those with too little traffic to tell are not counted: pairs have to be clearly
    // narrower.
    let limit = narrowest.as_ref().map_or(f64::INFINITY, |failing| ABOUT * traffic(failing) as f64);
    let pairs = pairs.into_iter().map(|(_, failing)| failing).find(|failing| (traffic(failing) as f64) < limit);
    let narrowest = pairs.or(narrowest);
    Some(narrowest.map_or_else(|| vec![all.segment], |failing| failing.iter().map(|part| part.segment).collect()))
}

/// Where counts explain nothing: `ALL` when it fails about as often as the segment that has raised the alarm, else that one.
pub(super) fn widest<'a>(parts: &[Part<'a>], loudest: &'a Segment) -> &'a Segment {
    let rate = |part: &Part<'_>| part.failures as f64 / part.n.max(1) as f64;
    let narrow = parts.iter().find(|part| part.segment == loudest).map_or(0.0, rate);
    let all = parts.iter().find(|part| part.segment.kind == SegmentKind::All);
    all.filter(|all| rate(all) >= ABOUT * narrow).map_or(loudest, |all| all.segment)
}

fn is_explained(all: &Part<'_>, failing: &[&Part<'_>]) -> bool {
    let covered: f64 = failing.iter().map(|part| part.excess()).sum();
    let share = traffic(failing) as f64 / all.n as f64;
    let failures: i64 = failing.iter().map(|part| part.failures).sum();
    let common = all.failures as f64 / all.n as f64;
    let others = Part { n: all.n - traffic(failing), failures: all.failures - failures, ..*all };
    let apart = gain(failures, traffic(failing), common) + gain(others.failures, others.n, common);
    let rest_is_well = covered >= COVERED_MIN * all.excess() || !others.fails_too_often();
    rest_is_well && share < TRAFFIC_MAX && apart >= TELLING
}

/// By how many nats the counts are likelier under their own rate than under `rate`.
fn gain(failures: i64, n: i64, rate: f64) -> f64 {
    let (n, failures) = (n.max(0) as f64, (failures.max(0) as f64).min(n.max(0) as f64));
    let rate = rate.clamp(1e-6, 1.0 - 1e-6);
    let part = |count: f64, is: f64, was: f64| if count > 0.0 { count * (is / was).ln() } else { 0.0 };
    part(failures, failures / n, rate) + part(n - failures, (n - failures) / n, 1.0 - rate)
}

fn traffic(parts: &[&Part<'_>]) -> i64 {
    parts.iter().map(|part| part.n).sum()
}

impl Part<'_> {
    fn excess(&self) -> f64 {
        self.failures as f64 - self.expected * self.n as f64
    }

    fn fails_too_often(&self) -> bool {
        self.excess() > 0.0 && gain(self.failures, self.n, self.expected) >= TOO_OFTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SegmentKind::{All, Brand, IssuerCountry, Merchant, Method, Pair};

    /// Rows of (kind, value, results, failures); usual is 1 %.
    fn check(rows: &[(SegmentKind, &str, i64, i64)], expected: Option<&[&str]>) {
        let segments: Vec<Segment> =
            rows.iter().map(|(kind, value, ..)| Segment { kind: *kind, value: (*value).to_owned() }).collect();
        let parts: Vec<Part<'_>> = segments
            .iter()
            .zip(rows)
            .map(|(segment, &(_, _, n, failures))| Part { segment, n, failures, expected: 0.01 })
            .collect();
        let named = explain(&parts).map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>());
        let expected = expected.map(|it| it.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(named, expected, "{rows:?}");
    }

    #[test]
    fn the_smallest_set_that_explains_it() {
        check(&[(All, "", 100, 1)], None);
        check(&[(Brand, "VISA", 100, 90)], None);
        // One method out, seen in every brand and merchant.
        let method = [
            (All, "", 1_000, 110),
            (Brand, "MASTERCARD", 400, 42),
            (Brand, "VISA", 600, 68),
            (Merchant, "a", 700, 75),
            (Merchant, "b", 300, 35),
            (Method, "card", 890, 9),
            (Method, "spei", 110, 101),
        ];
        check(&method, Some(&["METHOD:spei"]));
        // Two brands of three.
        let brands = [(All, "", 900, 500), (Brand, "AMEX", 400, 2), (Brand, "MASTERCARD", 200, 200), (Brand, "VISA", 300, 298)];
        check(&brands, Some(&["BRAND:MASTERCARD", "BRAND:VISA"]));
        // A brand of one country, seen in the brand and in the country; and the whole brand, seen in its pairs.
        let pair = [
            (All, "", 1_000, 110),
            (Brand, "MASTERCARD", 400, 4),
            (Brand, "VISA", 600, 106),
            (IssuerCountry, "MX", 700, 107),
            (IssuerCountry, "US", 300, 3),
            (Pair, "MASTERCARD+MX", 300, 3),
            (Pair, "VISA+MX", 400, 104),
            (Pair, "VISA+US", 200, 2),
        ];
        check(&pair, Some(&["PAIR:VISA+MX"]));
        let brand = [
            (All, "", 1_000, 304),
            (Brand, "MASTERCARD", 400, 4),
            (Brand, "VISA", 600, 300),
            (Pair, "MASTERCARD+MX", 400, 4),
            (Pair, "VISA+MX", 550, 280),
            (Pair, "VISA+US", 50, 20),
        ];
        check(&brand, Some(&["BRAND:VISA"]));
        // Everything: each kind is out as a whole.
        let whole = [(All, "", 100, 95), (Brand, "MASTERCARD", 40, 39), (Brand, "VISA", 60, 56), (Method, "card", 100, 95)];
        check(&whole, Some(&["ALL"]));
        // Half of everything.
        check(&[(All, "", 200, 100), (Brand, "MASTERCARD", 80, 41), (Brand, "VISA", 120, 59)], Some(&["ALL"]));
        // Failures of a brand with 60 % of the traffic may be chance; of one with 5 %, or when all others do well, not.
        check(&[(All, "", 100, 6), (Brand, "MASTERCARD", 40, 0), (Brand, "VISA", 60, 6)], Some(&["ALL"]));
        check(&[(All, "", 100, 5), (Brand, "MASTERCARD", 95, 0), (Brand, "VISA", 5, 5)], Some(&["BRAND:VISA"]));
        check(&[(All, "", 10, 6), (Brand, "MASTERCARD", 4, 0), (Brand, "VISA", 6, 6)], Some(&["BRAND:VISA"]));
    }
}
