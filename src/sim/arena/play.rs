//! The loop: payments and results in the order of event time, one policy.

use super::policy::{Ask, Known, Policy};
use super::score::{Score, Scorer};
use super::world::{Offer, Round, history};
use crate::domain::EpochMs;
use crate::sim::reality::Answer;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// When a result is known: an outcome when it comes, silence at the deadline.
fn known_at(sent_at: EpochMs, answer: &Answer, deadline_ms: i64) -> EpochMs {
    sent_at + if answer.heard { answer.latency_ms } else { deadline_ms }
}

/// Lets all policies see the same history.
pub(super) fn warm_up(policies: &mut [Box<dyn Policy>], seed: u64, payments_per_hour: u64, deadline_ms: i64) {
    let mut pending: BinaryHeap<Reverse<(EpochMs, u64, usize)>> = BinaryHeap::new();
    let mut answers: std::collections::HashMap<u64, Answer> = std::collections::HashMap::new();
    let mut learn = |policies: &mut [Box<dyn Policy>], due: Option<(Offer, usize, Answer)>| {
        let until = due.as_ref().map_or(EpochMs::MAX, |(offer, ..)| offer.at);
        while let Some(&Reverse((at, number, seat))) = pending.peek().filter(|Reverse((at, ..))| *at <= until) {
            pending.pop();
            let Some(answer) = answers.remove(&number) else { continue };
            policies.iter_mut().for_each(|policy| policy.learn(&Known { number, seat, at, answer: &answer }));
        }
        if let Some((offer, seat, answer)) = due {
            policies.iter_mut().for_each(|policy| policy.sent(&offer, seat));
            pending.push(Reverse((known_at(offer.at, &answer, deadline_ms), offer.number, seat)));
            answers.insert(offer.number, answer);
        }
    };
    for (offer, seat, answer) in history(seed, payments_per_hour) {
        let Some(answer) = answer else { continue };
        learn(policies, Some((offer, seat, answer)));
    }
    learn(policies, None);
    policies.iter_mut().for_each(|policy| drop(policy.alarms()));
}

/// Plays one round.
pub(super) fn play(round: &Round, name: &'static str, policy: &mut dyn Policy) -> Score {
    let mut scorer = Scorer::new(round);
    let mut pending: BinaryHeap<Reverse<(EpochMs, usize, usize)>> = BinaryHeap::new();
    for (index, offer) in round.offers.iter().enumerate() {
        while let Some(&Reverse((at, earlier, seat))) = pending.peek().filter(|Reverse((at, ..))| *at <= offer.at) {
            pending.pop();
            if let Some(answer) = &round.fates[earlier][seat] {
                policy.learn(&Known { number: round.offers[earlier].number, seat, at, answer });
            }
        }
        let pick = policy.choose(&Ask { offer, chances: &round.chances[index] });
        policy.sent(offer, pick.seat);
        policy.alarms().iter().for_each(|alarm| scorer.alarm(alarm));
        scorer.picked(index, pick);
        if let Some(answer) = &round.fates[index][pick.seat] {
            pending.push(Reverse((known_at(offer.at, answer, round.deadline_ms), index, pick.seat)));
        }
    }
    scorer.finish(name)
}
