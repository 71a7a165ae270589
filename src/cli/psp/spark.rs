//! A course of values as one line of blocks, minute by minute.

use smartrouter::domain::psp::PspState;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const MINUTE_MS: i64 = 60_000;
const MINUTES_MAX: i64 = 60;

/// Two lines on the records of one segment, in the order in which they were written: how near its detector was to an alarm, and what was
/// approved. Of each minute the last record counts; a minute without record is a space. None when there is a single minute.
pub(super) fn course(records: &[PspState]) -> Option<String> {
    let minute = |state: &PspState| state.updated_at.div_euclid(MINUTE_MS);
    let newest = records.iter().map(minute).max()?;
    let oldest = records.iter().map(minute).min()?.max(newest - MINUTES_MAX + 1);
    let last_of = |at: i64| records.iter().rev().find(|state| minute(state) == at);
    let line = |value: fn(&PspState) -> Option<f64>| -> String {
        (oldest..=newest).map(|at| last_of(at).and_then(value).map_or(' ', block)).collect()
    };
    (newest > oldest).then(|| {
        format!(
            "  evidence  {}  of an alarm, {} min\n  approved  {}  in 15 min",
            line(|state| Some(state.detector.statistic / state.detector.threshold.max(f64::MIN_POSITIVE))),
            newest - oldest + 1,
            line(|state| (state.windows.last_15m.attempts > 0).then_some(state.windows.last_15m.approval_rate)),
        )
    })
}

/// Full from 1 on.
fn block(share: f64) -> char {
    let step = (share.clamp(0.0, 1.0) * BLOCKS.len() as f64) as usize;
    BLOCKS[step.min(BLOCKS.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartrouter::domain::psp::{Detector, HealthState, Segment, WindowStats, Windows};

    fn state(second: i64, statistic: f64, approval_rate: f64) -> PspState {
        let last_15m = WindowStats { attempts: i64::from(approval_rate > 0.0), approval_rate, ..WindowStats::default() };
        PspState {
            psp_id: "mit".into(),
            segment: Segment::all(),
            state: HealthState::Up,
            since: 0,
            version: 1,
            windows: Windows { last_15m, ..Windows::default() },
            health_score: 1.0,
            detector: Detector { statistic, threshold: 8.0, ..Detector::default() },
            recovery: None,
            manual: None,
            updated_at: second * 1_000,
        }
    }

    #[test]
    fn a_course_has_a_block_a_minute() {
        let records = [state(0, 9.0, 0.9), state(59, 0.0, 0.9), state(61, 4.0, 0.0), state(200, 8.0, 0.1)];
        assert_eq!(course(&records).unwrap(), "  evidence  ▁▅ █  of an alarm, 4 min\n  approved  █  ▁  in 15 min");
        assert_eq!(course(&records[..2]), None);
        assert_eq!(course(&[]), None);
        let long: Vec<PspState> = (0..200).map(|minute| state(minute * 60, 0.0, 0.5)).collect();
        assert!(course(&long).unwrap().contains("60 min"));
    }
}
