//! Latencies as counts in fixed, log-spaced buckets: a sketch that adds up, subtracts exactly, and is the same on every machine.
//!
//! Bucket `i` holds the latencies in (bound `i − 1`, bound `i`]. Bounds are whole milliseconds from 1 ms to 120 s, each 10 % above
//! the one before (1 ms apart where 10 % is less). A quantile answers with the harmonic middle of its bucket, which is off by at most
//! 5 % (exact up to 20 ms). Shorter latencies count as 1 ms, longer ones as 120 s. Integer arithmetic only: a logarithm
//! may differ in its last bit between platforms, and the buckets are on the wire and on disk.

pub const LATENCY_MS_MAX: i64 = 120_000;

/// Part of the wire format of tallies: a change of the bounds needs a new version of stored tiles and drained `stats.deltas`.
const BOUNDS: [i64; BUCKETS] = bounds();
pub const BUCKETS: usize = bucket_count();

const fn bound_after(bound: i64) -> i64 {
    let step = bound / 10;
    let next = bound + if step > 1 { step } else { 1 };
    if next < LATENCY_MS_MAX { next } else { LATENCY_MS_MAX }
}

const fn bucket_count() -> usize {
    let (mut count, mut bound) = (1, 1);
    while bound < LATENCY_MS_MAX {
        bound = bound_after(bound);
        count += 1;
    }
    count
}

const fn bounds() -> [i64; BUCKETS] {
    let mut bounds = [1; BUCKETS];
    let mut bucket = 1;
    while bucket < BUCKETS {
        bounds[bucket] = bound_after(bounds[bucket - 1]);
        bucket += 1;
    }
    bounds
}

/// The bucket that a latency counts in.
pub fn bucket_of(latency_ms: i64) -> i32 {
    BOUNDS.partition_point(|&bound| bound < latency_ms).min(BUCKETS - 1) as i32
}

/// What a latency in this bucket is reported as.
pub fn latency_of(bucket: i32) -> i64 {
    let bucket = slot_of(bucket);
    let high = BOUNDS[bucket];
    let low = if bucket == 0 { high } else { BOUNDS[bucket - 1] + 1 };
    (2 * low * high + i64::midpoint(low, high)) / (low + high)
}

/// A bucket number from elsewhere as an index: an impossible one counts at the nearer end.
pub(super) fn slot_of(bucket: i32) -> usize {
    bucket.clamp(0, BUCKETS as i32 - 1) as usize
}

/// The nearest-rank quantile of a dense histogram of `total` latencies; 0 when there are none.
pub(super) fn quantile(counts: &[i64; BUCKETS], total: i64, percent: i64) -> i64 {
    let rank = (total * percent + 99) / 100;
    let mut seen = 0;
    for (bucket, count) in counts.iter().enumerate() {
        seen += count;
        if *count > 0 && seen >= rank {
            return latency_of(bucket as i32);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_reported_within_five_percent() {
        for latency_ms in 1..=LATENCY_MS_MAX {
            let reported = latency_of(bucket_of(latency_ms));
            let error = (reported - latency_ms).abs() as f64 / latency_ms as f64;
            assert!(error <= 0.05, "{latency_ms} ms is reported as {reported} ms");
            assert!(latency_ms > 20 || reported == latency_ms, "{latency_ms} ms is reported as {reported} ms");
        }
    }

    #[test]
    fn bounds_are_part_of_the_format() {
        assert_eq!(BUCKETS, 114);
        let sample: Vec<i64> = [0, 1, 19, 20, 50, 100, 113].iter().map(|&bucket: &usize| BOUNDS[bucket]).collect();
        assert_eq!(sample, [1, 2, 20, 22, 312, 36_194, 120_000]);
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn what_is_off_the_scale_counts_at_its_end() {
        let check = |latency_ms: i64, reported: i64| assert_eq!(latency_of(bucket_of(latency_ms)), reported, "{latency_ms}");
        check(-5, 1);
        check(0, 1);
        check(i64::MAX, latency_of(BUCKETS as i32 - 1));
        assert_eq!(latency_of(-1), latency_of(0));
        assert_eq!(latency_of(i32::MAX), latency_of(BUCKETS as i32 - 1));
    }

    #[test]
    fn quantiles_by_nearest_rank() {
        let check = |latencies: &[i64], expected: [i64; 3]| {
            let mut counts = [0; BUCKETS];
            for &latency_ms in latencies {
                counts[slot_of(bucket_of(latency_ms))] += 1;
            }
            let got = [50, 95, 99].map(|percent| quantile(&counts, latencies.len() as i64, percent));
            assert_eq!(got, expected, "{latencies:?}");
        };
        check(&[], [0, 0, 0]);
        check(&[7], [7, 7, 7]);
        check(&[1, 2], [1, 2, 2]);
        check(&[3, 1, 2], [2, 3, 3]);
        check(&(1..=20).collect::<Vec<_>>(), [10, 19, 20]);
    }
}
