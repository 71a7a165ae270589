//! How fast the router leaves a PSP that a scripted outage has hit.
//!
//! From the first payment that the outage spoilt to the first decision that avoids the PSP: in payments that were still sent
//! there, and in event time. A decision avoids a PSP when it says so (it was skipped for its state), or when it begins a run of
//! decisions without that PSP which its usual share of the traffic makes a matter of less than one in a million: a run may begin at
//! any of thousands of decisions.

use super::scenario::Outage;
use crate::domain::payment::Payment;
use crate::domain::psp::Segment;
use crate::domain::{EpochMs, PspId};

#[derive(Clone, Debug, PartialEq)]
pub struct Failover {
    pub psp_id: PspId,
    pub segment: Option<Segment>,
    /// Absent when the outage spoilt no payment.
    pub first_bad_at: Option<EpochMs>,
    /// Payments sent to the PSP from the first spoilt one until it was avoided; absent when it never was while the outage lasted.
    pub payments_to_detect: Option<u64>,
    pub ms_to_avoid: Option<i64>,
    /// Payments that the outage spoilt in all: avoiding may begin before it is complete.
    pub payments_spoilt: u64,
}

#[derive(Clone, Debug)]
pub struct FailoverWatch {
    watched: Vec<Watched>,
    start_at: EpochMs,
}

#[derive(Clone, Debug)]
struct Watched {
    outage: Outage,
    /// Decisions of the segment, and those for the PSP, before the first bad payment: its usual share.
    decisions_before: u64,
    chosen_before: u64,
    first_bad_at: Option<EpochMs>,
    sent: u64,
    spoilt: u64,
    run: Option<Run>,
    avoided: Option<Run>,
}

/// Decisions without the PSP, one after the other.
#[derive(Clone, Copy, Debug)]
struct Run {
    began_at: EpochMs,
    sent_before: u64,
    decisions: u64,
}

/// What a decision says: the first choice, and the PSPs that it skipped because of their state.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    pub decided_at: EpochMs,
    pub chosen: Option<&'a PspId>,
    pub avoided: &'a [PspId],
}

impl FailoverWatch {
    pub fn new(outages: &[Outage], start_at: EpochMs) -> Self {
        let watched = outages.iter().map(|outage| Watched {
            outage: outage.clone(),
            decisions_before: 0,
            chosen_before: 0,
            first_bad_at: None,
            sent: 0,
            spoilt: 0,
            run: None,
            avoided: None,
        });
        Self { watched: watched.collect(), start_at }
    }

    /// A payment was sent; `spoilt` when the outage made it fail.
    pub fn attempted(&mut self, payment: &Payment, psp: &PspId, at: EpochMs, spoilt: bool) {
        let since_ms = at - self.start_at;
        for watched in self.watched.iter_mut().filter(|w| w.outage.psp == *psp) {
            if !watched.outage.hits(payment, since_ms) {
                continue;
            }
            watched.spoilt += u64::from(spoilt);
            if watched.avoided.is_some() {
                continue;
            }
            if spoilt && watched.first_bad_at.is_none() {
                watched.first_bad_at = Some(at);
            }
            watched.sent += u64::from(watched.first_bad_at.is_some());
        }
    }

    pub fn decided(&mut self, payment: &Payment, choice: Choice<'_>) {
        let since_ms = choice.decided_at - self.start_at;
        for watched in
            self.watched.iter_mut().filter(|w| w.avoided.is_none() && since_ms < w.outage.to_ms && w.outage.concerns(payment))
        {
            watched.decided(choice);
        }
    }

    pub fn report(&self) -> Vec<Failover> {
        let failover = |watched: &Watched| Failover {
            psp_id: watched.outage.psp.clone(),
            segment: watched.outage.segment.clone(),
            first_bad_at: watched.first_bad_at,
            payments_to_detect: watched.avoided.map(|run| run.sent_before),
            ms_to_avoid: watched.avoided.zip(watched.first_bad_at).map(|(run, bad_at)| run.began_at - bad_at),
            payments_spoilt: watched.spoilt,
        };
        self.watched.iter().map(failover).collect()
    }
}

impl Watched {
    fn decided(&mut self, choice: Choice<'_>) {
        let chosen = choice.chosen == Some(&self.outage.psp);
        let Some(first_bad_at) = self.first_bad_at.filter(|bad_at| choice.decided_at >= *bad_at) else {
            self.decisions_before += 1;
            self.chosen_before += u64::from(chosen);
            return;
        };
        if chosen {
            self.run = None;
            return;
        }
        let run =
            self.run.get_or_insert(Run { began_at: choice.decided_at.max(first_bad_at), sent_before: self.sent, decisions: 0 });
        run.decisions += 1;
        if choice.avoided.contains(&self.outage.psp) {
            self.avoided = Some(Run { began_at: choice.decided_at, sent_before: self.sent, decisions: 1 });
        } else if run.decisions >= telling_run(self.chosen_before, self.decisions_before) {
            self.avoided = Some(*run);
        }
    }
}

/// How many decisions without a PSP in a row are too many for chance.
fn telling_run(chosen: u64, decisions: u64) -> u64 {
    let share = (chosen as f64 + 1.0) / (decisions as f64 + 2.0);
    (1e-6_f64.ln() / (1.0 - share).ln()).ceil().clamp(5.0, 500.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fixtures::payment;
    use crate::sim::scenario::Fault;

    const START: EpochMs = 1_767_592_800_000;

    fn watch(segment: Option<Segment>) -> FailoverWatch {
        let outage = Outage { psp: "a".into(), from_ms: 10_000, to_ms: 90_000, segment, fault: Fault::Total };
        FailoverWatch::new(&[outage], START)
    }

    /// A script of seconds: `a`/`b` a decision for that PSP, `!` one that skips `a` for its state, `x`/`o` a bad/good attempt at `a`.
    fn check(script: &[(i64, char)], expected: (Option<u64>, Option<i64>)) {
        let mut watch = watch(None);
        let (a, b) = (PspId::new("a"), PspId::new("b"));
        let payment = payment(1, "VISA");
        for (second, step) in script {
            let at = START + second * 1_000;
            let mut decide = |chosen, avoided| watch.decided(&payment, Choice { decided_at: at, chosen: Some(chosen), avoided });
            match step {
                'a' => decide(&a, &[]),
                'b' => decide(&b, &[]),
                '!' => decide(&b, std::slice::from_ref(&a)),
                other => watch.attempted(&payment, &a, at, *other == 'x'),
            }
        }
        let report = &watch.report()[0];
        assert_eq!((report.payments_to_detect, report.ms_to_avoid), expected, "{script:?}");
    }

    #[test]
    fn payments_and_time_to_avoid() {
        // Skipped by name, after three payments, two of them bad.
        check(&[(11, 'x'), (12, 'o'), (13, 'x'), (14, 'b'), (15, '!'), (16, 'x')], (Some(3), Some(4_000)));
        // Skipped before anything went wrong: not because of this outage.
        check(&[(1, '!'), (2, 'a')], (None, None));
        // Never avoided while it lasts.
        check(&[(11, 'x'), (12, 'a'), (91, '!')], (None, None));
        // Failures before the outage are not its doing.
        check(&[(5, 'x'), (12, '!')], (None, None));
    }

    #[test]
    fn a_run_without_the_psp_is_avoidance_when_its_share_was_high() {
        let mut script: Vec<(i64, char)> = (0..9).flat_map(|second| [(second, 'a'), (second, 'a'), (second, 'b')]).collect();
        script.extend([(10, 'x'), (11, 'b'), (12, 'a'), (13, 'x')]);
        let undecided = script.clone();
        script.extend((20..35).map(|second| (second, 'b')));
        check(&script, (Some(2), Some(10_000)));
        check(&undecided, (None, None));
    }

    #[test]
    fn only_the_segment_counts() {
        let visa = Segment { kind: crate::domain::psp::SegmentKind::Brand, value: "VISA".into() };
        let mut watch = watch(Some(visa));
        let a = PspId::new("a");
        watch.attempted(&payment(1, "MASTERCARD"), &a, START + 11_000, true);
        assert_eq!(watch.report()[0].first_bad_at, None);
        watch.attempted(&payment(1, "VISA"), &a, START + 12_000, true);
        let skip = Choice { decided_at: START + 13_000, chosen: None, avoided: std::slice::from_ref(&a) };
        watch.decided(&payment(2, "MASTERCARD"), skip);
        assert_eq!(watch.report()[0].payments_to_detect, None);
        watch.decided(&payment(2, "VISA"), skip);
        assert_eq!(watch.report()[0].payments_to_detect, Some(1));
        assert_eq!(watch.report()[0].ms_to_avoid, Some(1_000));
    }
}
