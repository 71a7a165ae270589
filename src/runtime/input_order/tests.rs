use super::*;
use crate::io::log::{Record, TopicPartition};
use crate::runtime::inbox::InputEvent;

fn pending(input: Input, at: impl Into<Option<EpochMs>>) -> Pending {
    let record =
        Record { at: TopicPartition::new("t", 0), offset: 0, timestamp_ms: 0, key: None, value: None, headers: Vec::new() };
    Pending { input, at: at.into(), clamped: false, record, event: InputEvent::Bad(String::new()) }
}

/// `A`ttempt or `O`utcome at an event time; `EA`, `EO`: that input is at its end; all at a wall time.
#[derive(Clone, Copy)]
enum Step {
    A(i64),
    O(i64),
    EndA(i64),
    EndO(i64),
}
use Step::{A, EndA, EndO, O};

fn order(clock: Clock, base_at: Option<i64>, steps: &[Step]) -> InputOrder {
    let mut order = InputOrder::new(clock, 0, base_at);
    for &step in steps {
        match step {
            A(at) => order.push(pending(Input::Attempts, at)),
            O(at) => order.push(pending(Input::Outcomes, at)),
            EndA(now) => order.ended(Input::Attempts, now),
            EndO(now) => order.ended(Input::Outcomes, now),
        }
    }
    order
}

/// What is taken, in order, at this wall time; then the watermark.
#[track_caller]
fn check(clock: Clock, steps: &[Step], now_ms: i64, taken: &[i64], watermark: Option<i64>) {
    let mut order = order(clock, None, steps);
    let found: Vec<i64> = std::iter::from_fn(|| order.next_event(now_ms)).filter_map(|pending| pending.at).collect();
    assert_eq!((&found[..], order.watermark(now_ms)), (taken, watermark));
}

#[test]
fn events_are_taken_in_event_time_order() {
    check(Clock::Wall, &[A(10), A(30), O(20), O(40), EndA(0), EndO(0)], 0, &[10, 20, 30, 40], Some(30));
    // Outcomes may yet bring something before 30: it waits.
    check(Clock::Wall, &[A(10), A(30), O(20), EndA(0)], 0, &[10, 20], Some(20));
    // Neither is at its end, and one is empty.
    check(Clock::Wall, &[A(10)], 0, &[], None);
}

#[test]
fn silence_counts_by_the_wall_from_the_last_event_on() {
    // Both at their end since 1,000: five seconds later the slower input has come five seconds on.
    check(Clock::Wall, &[A(10), O(20), EndA(1_000), EndO(1_000)], 6_000, &[10, 20], Some(5_010));
    // The outcomes' producer is slow: attempts far ahead in event time do not make time-outs.
    check(Clock::Wall, &[O(20), A(10), A(90_000), EndA(1_000), EndO(1_000)], 1_005, &[10, 20, 90_000], Some(25));
    // An input that never had a record starts where the first event was.
    check(Clock::Wall, &[A(10), A(90_000), EndA(1_000), EndO(1_000)], 4_000, &[10, 90_000], Some(3_010));
    // Read to its end by attempts only: outcomes may be hours behind.
    check(Clock::Wall, &[A(10), O(20), EndA(1_000)], 600_000, &[10, 20], Some(20));
}

#[test]
fn event_time_waits_for_nobody_but_queued_records() {
    check(Clock::Event, &[A(10), A(90_000), EndA(0), EndO(0)], 0, &[10, 90_000], Some(90_000));
    check(Clock::Event, &[A(10), A(90_000), EndA(0)], 0, &[], Some(10));
}

#[test]
fn the_watermark_never_goes_back() {
    let mut order = order(Clock::Wall, Some(5), &[EndA(0), EndO(0)]);
    assert_eq!(order.watermark(1_000), Some(1_005));
    order.push(pending(Input::Attempts, 7));
    order.push(pending(Input::Outcomes, 8));
    assert_eq!(order.watermark(1_000), Some(1_005));
}

#[test]
fn a_joined_input_that_delivers_nothing_is_not_waited_for_for_ever() {
    let mut order = order(Clock::Wall, None, &[A(10), A(11)]);
    assert!(order.next_event(0).is_none());
    order.note_hold(0);
    assert!(order.next_event(HOLD_MS_MAX - 1).is_none());
    order.note_hold(HOLD_MS_MAX - 1);
    for at in [10, 11] {
        assert_eq!(order.next_event(HOLD_MS_MAX).and_then(|pending| pending.at), Some(at));
        order.note_hold(HOLD_MS_MAX);
    }
    // Still no sign of the outcomes: time stands.
    assert_eq!(order.watermark(HOLD_MS_MAX * 100), None);
}

#[test]
fn a_record_that_is_no_event_says_nothing_about_time() {
    let mut order = order(Clock::Wall, None, &[A(10), O(20)]);
    order.push(pending(Input::Attempts, None));
    order.push(pending(Input::Outcomes, None));
    order.ended(Input::Attempts, 0);
    order.ended(Input::Outcomes, 0);
    assert_eq!(std::iter::from_fn(|| order.next_event(0)).count(), 4);
    assert_eq!(order.watermark(5), Some(15));
    // Before any event there is no time at all.
    let mut order = InputOrder::new(Clock::Wall, 0, None);
    order.push(pending(Input::Attempts, None));
    order.ended(Input::Attempts, 0);
    order.ended(Input::Outcomes, 0);
    assert!(order.next_event(0).is_some());
    assert_eq!(order.watermark(9_000), None);
}

#[test]
fn a_restart_invents_no_time_outs() {
    // Killed after attempts up to 90,000 were taken, outcomes only up to some time before: the one sent at 50,000 is due at 80,000.
    let base_at = base_after_restart(Some(90_000), Some(80_000), 30_000);
    let mut order = order(Clock::Wall, base_at, &[]);
    assert!(order.watermark(0) < Some(80_000), "nothing has been heard of the inputs yet");
    order.ended(Input::Attempts, 1_000);
    order.ended(Input::Outcomes, 1_000);
    assert!(order.watermark(1_000) < Some(80_000), "its outcome may be on its way");
    assert!(order.watermark(30_999) < Some(80_000));
    assert_eq!(order.watermark(31_000), Some(80_000), "a whole deadline of silence");
    // An outcome tells how far time has really come.
    let mut order = InputOrder::new(Clock::Wall, 0, base_at);
    order.push(pending(Input::Outcomes, 85_000));
    order.push(pending(Input::Attempts, 95_000));
    assert_eq!(order.watermark(0), Some(85_000));
    // Nothing waits: time goes on from the newest event.
    assert_eq!(base_after_restart(Some(90_000), None, 30_000), Some(90_000));
    assert_eq!(base_after_restart(Some(90_000), Some(3_600_000), 30_000), Some(90_000));
    assert_eq!(base_after_restart(None, None, 30_000), None);
}

#[test]
fn requests_that_were_answered_ahead_do_not_time_out_what_they_overtook() {
    // Killed after a backlog's requests, up to 90,000, were answered, and before any of its attempts was read.
    let mut order = InputOrder::new(Clock::Wall, 2_000, base_after_restart(Some(90_000), None, 30_000));
    assert_eq!(order.watermark(0), None, "the inputs may bring anything");
    order.push(pending(Input::Attempts, 50_000));
    order.push(pending(Input::Attempts, 85_000));
    assert_eq!(order.watermark(0), None, "nothing has been heard of the outcomes");
    order.ended(Input::Outcomes, 0);
    while order.next_event(0).is_some() {}
    order.ended(Input::Attempts, 0);
    assert_eq!(order.watermark(1_000), Some(49_000), "they are silent since the first attempt");
    // The same with a partition that never had a record.
    let mut order = InputOrder::new(Clock::Wall, 2_000, None);
    order.push(pending(Input::Requests, 90_000));
    order.push(pending(Input::Attempts, 50_000));
    order.ended(Input::Outcomes, 0);
    assert_eq!(order.watermark(1_000), Some(48_000));
}
