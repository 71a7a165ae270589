//! The loop: payments and results in the order of event time, one policy.

use super::policy::{Ask, Known, Policy};
use super::score::{Score, Scorer};
use super::world::{Round, history};
use crate::domain::EpochMs;
use crate::sim::reality::Answer;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// When a result is known: an outcome when it comes, silence at the deadline.
fn known_at(sent_at: EpochMs, answer: &Answer, deadline_ms: i64) -> EpochMs {
    sent_at + if answer.heard { answer.latency_ms } else { deadline_ms }
}

/// Results on their way, by when they are known.
#[derive(Default)]
struct UnderWay(BinaryHeap<Reverse<(EpochMs, u64, usize)>>);

impl UnderWay {
    fn push(&mut self, known_at: EpochMs, number: u64, seat: usize) {
        self.0.push(Reverse((known_at, number, seat)));
    }

    /// The next that is known by `until`.
    fn pop(&mut self, until: EpochMs) -> Option<(EpochMs, u64, usize)> {
        let Reverse(next) = self.0.peek().copied().filter(|Reverse((at, ..))| *at <= until)?;
        self.0.pop();
        Some(next)
    }
}

/// Lets all policies see the same history.
pub(super) fn warm_up(policies: &mut [Box<dyn Policy>], seed: u64, payments_per_hour: u64, deadline_ms: i64) {
    let mut under_way = UnderWay::default();
    let mut answers: HashMap<u64, Answer> = HashMap::new();
    let learn = |policies: &mut [Box<dyn Policy>], (at, number, seat), answer: Option<Answer>| {
        let Some(answer) = answer else { return };
        for policy in policies {
            policy.learn(&Known { number, seat, at, answer: &answer });
        }
    };
    for (offer, seat, answer) in history(seed, payments_per_hour) {
        while let Some(next) = under_way.pop(offer.at) {
            learn(policies, next, answers.remove(&next.1));
        }
        for policy in policies.iter_mut() {
            policy.sent(&offer, seat);
        }
        if let Some(answer) = answer {
            under_way.push(known_at(offer.at, &answer, deadline_ms), offer.number, seat);
            answers.insert(offer.number, answer);
        }
    }
    while let Some(next) = under_way.pop(EpochMs::MAX) {
        learn(policies, next, answers.remove(&next.1));
    }
    for policy in policies {
        // What was said of the history is nobody's concern.
        policy.alarms();
    }
}

/// Plays one round.
pub(super) fn play(round: &Round, name: &'static str, policy: &mut dyn Policy) -> Score {
    let mut scorer = Scorer::new(round);
    let mut under_way = UnderWay::default();
    for (index, offer) in round.offers.iter().enumerate() {
        while let Some((at, earlier, seat)) = under_way.pop(offer.at) {
            let earlier = earlier as usize;
            if let Some(answer) = &round.fates[earlier][seat] {
                policy.learn(&Known { number: round.offers[earlier].number, seat, at, answer });
            }
        }
        let pick = policy.choose(&Ask { offer, chances: &round.chances[index] });
        policy.sent(offer, pick.seat);
        for alarm in policy.alarms() {
            scorer.alarm(&alarm);
        }
        scorer.picked(index, pick);
        if let Some(answer) = &round.fates[index][pick.seat] {
            under_way.push(known_at(offer.at, answer, round.deadline_ms), index as u64, pick.seat);
        }
    }
    scorer.finish(name)
}
