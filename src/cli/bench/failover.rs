//! `bench failover`: payments that follow the router's decisions, and a PSP that fails every one of them from some moment on.
//!
//! From the first bad answer to the first decision that leaves the PSP, and from the answer that completed the detector's evidence.
//! The payments are alike (one brand, one country), so that all segments of the PSP see the same and the evidence is a count of
//! payments. Each outage hits the PSP that had most of the decisions just before.

use super::super::press::Press;
use super::bed::Bed;
use super::child::Engine;
use super::figures::{Figures, Goal, quantile};
use super::load::{Answers, Begin, PROMPT};
use super::traffic::{Asking, Shape, outcome_of};
use super::{Bench, Size};
use anyhow::{Result, bail};
use clap::Args;
use smartrouter::domain::PspId;
use smartrouter::domain::decision::RoutingDecision;
use smartrouter::domain::payment::{Payment, PaymentOutcome, Status};
use smartrouter::domain::psp::{HealthState, PspOutage};
use smartrouter::io::log::{Appender, EventLog, Polled, Reader};
use smartrouter::io::topics;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct Options {
    /// Payments per second [default: 100]
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=5_000))]
    rate: Option<u64>,
    /// Seconds of good payments before, at that rate [default: 300, 30 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    history: Option<u64>,
}

const NAME: &str = "failover";
const BRAND: &str = "VISA";
const COUNTRY: &str = "MX";
/// From an attempt to its outcome.
const ANSWER_MS: i64 = 100;
/// Good payments before each outage, with the router's decisions.
const CALM: Duration = Duration::from_secs(5);
/// Decisions without the PSP that make sure it is avoided and did not just miss its turn.
const RUN: u64 = 200;
const OUTAGES_PER_RUN: usize = 2;
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn run(bench: &Bench<'_>, options: &Options, figures: &mut Figures) -> Result<()> {
    let rate = options.rate.unwrap_or(100);
    let history_s = options.history.unwrap_or(match bench.size {
        Size::Full => 300,
        Size::Quick => 30,
    });
    let mut shape = Shape::of(bench.settings())?;
    shape.psps.retain(|psp| psp.brands.is_empty() || psp.brands.iter().any(|brand| brand == BRAND));
    if shape.psps.len() < 2 {
        bail!("fewer than two PSPs take {BRAND}: nothing can be left for another");
    }
    shape.attempts_per_second = rate as f64;
    let outages = OUTAGES_PER_RUN.min(shape.psps.len() - 1);
    let mut found = Vec::new();
    for _ in 0..bench.runs {
        let bed = Bed::make(bench.context, bench.globals, 4)?;
        // One source of payments for both: a repeated one would be recognised, and count in no window.
        let mut asking = Asking::new(shape.clone());
        let history = write_history(&bed, &shape, &mut asking, rate * history_s)?;
        let mut engine = Engine::start(&bed)?;
        let inputs = bed.partitions(&[topics::PAYMENT_ATTEMPTS, topics::PAYMENT_OUTCOMES])?;
        while bed.committed(&inputs)? < history {
            engine.check()?;
            thread::sleep(Duration::from_millis(200));
        }
        let mut shop = Shop::open(bench, &bed, (&shape, asking), &mut engine, rate)?;
        for _ in 0..outages {
            found.push(shop.outage(&mut engine)?);
        }
        engine.stop()?;
        bed.remove_state()?;
    }
    tell(&found, rate, figures);
    Ok(())
}

/// One outage from outside.
struct Found {
    /// Payments sent to the PSP that failed, until the first decision without it.
    payments: f64,
    /// Failures that the detector had counted when it raised the alarm.
    evidence: f64,
    /// From the first failed payment's answer.
    ms: f64,
    /// From the answer that completed the evidence.
    ms_after_evidence: f64,
}

fn tell(found: &[Found], rate: u64, figures: &mut Figures) {
    for outage in found {
        figures.add(NAME, &format!("payments to the failed PSP at {rate}/s"), ("payments", None), outage.payments);
        figures.add(NAME, "failures that the detector needed", ("payments", None), outage.evidence);
        figures.add(NAME, "first bad payment to first decision without it", ("ms", None), outage.ms);
        figures.add(NAME, "completed evidence to first decision without it", ("ms", None), outage.ms_after_evidence);
    }
    let mut after: Vec<f64> = found.iter().map(|outage| outage.ms_after_evidence).collect();
    after.sort_by(f64::total_cmp);
    figures.add(NAME, "the same, p99 of all outages", ("ms", Some(Goal::AtMost(500.0))), quantile(&after, 0.99));
}

/// Good payments until now, evenly over the PSPs. Returns the records written.
fn write_history(bed: &Bed, shape: &Shape, asking: &mut Asking, payments: u64) -> Result<u64> {
    let shape = shape.clone().ending_now(payments);
    let press = Press::new(bed.codec.clone(), &bed.names);
    let mut appender = bed.log.appender()?;
    for (number, psp) in (0..payments).zip(shape.psps.iter().cycle()) {
        let at = shape.start_at + (number as f64 / shape.attempts_per_second * 1_000.0) as i64;
        let payment = alike(asking.request(number.to_string(), at).payment);
        let attempt = Asking::attempt(payment, number, psp.id.clone(), at);
        let outcome = outcome_of(&attempt, good_status(number), ANSWER_MS);
        let key = attempt.payment.key();
        appender.append(vec![press.print(key, None, &attempt)?, press.print(key, None, &outcome)?])?;
    }
    appender.flush()?;
    Ok(payments * 2)
}

fn alike(mut payment: Payment) -> Payment {
    BRAND.clone_into(&mut payment.card.brand);
    payment.card.issuer_country = Some(COUNTRY.to_owned());
    payment
}

/// Nine of ten are approved.
fn good_status(number: u64) -> Status {
    if number.is_multiple_of(10) { Status::Declined } else { Status::Approved }
}

/// A payment service: it asks, follows the decision, and tells what came of it.
struct Shop<'a> {
    bed: &'a Bed,
    press: Press,
    asking: Asking,
    appender: Box<dyn Appender>,
    answers: Answers,
    transitions: Box<dyn Reader>,
    begin: Begin,
    rate: u64,
    asked: u64,
    /// Payments whose decision is awaited, by number.
    waiting: HashMap<u64, Payment>,
    outcomes: BTreeMap<(Instant, u64), PaymentOutcome>,
    /// First choices of the newest decisions.
    choices: VecDeque<PspId>,
    outage: Option<Outage>,
    failed_before: Vec<PspId>,
}

/// What is known of the outage that goes on.
struct Outage {
    psp: PspId,
    /// When the answer of each payment that it spoilt was sent.
    bad: Vec<Instant>,
    /// Payments sent to it.
    sent: u64,
    evidence: Option<u64>,
    /// The first decision without it since the last one with it: when it was read, and what had been sent.
    left: Option<(Instant, u64)>,
    run: u64,
}

impl<'a> Shop<'a> {
    fn open(bench: &Bench<'_>, bed: &'a Bed, (shape, asking): (&Shape, Asking), engine: &mut Engine, rate: u64) -> Result<Self> {
        let prompt = bench.context.kafka_with(&PROMPT)?;
        let mut answers = Answers::open(bed, &prompt)?;
        answers.warm_up(bed, &prompt, shape, engine)?;
        Ok(Self {
            bed,
            press: Press::new(bed.codec.clone(), &bed.names),
            asking,
            appender: prompt.appender()?,
            answers,
            transitions: bed.reader_at_end(&prompt, topics::PSP_OUTAGES)?,
            begin: Begin::after(Duration::ZERO),
            rate,
            asked: 0,
            waiting: HashMap::new(),
            outcomes: BTreeMap::new(),
            choices: VecDeque::new(),
            outage: None,
            failed_before: Vec::new(),
        })
    }

    /// Some calm seconds, then an outage of the PSP that has most of the decisions, until it is avoided.
    fn outage(&mut self, engine: &mut Engine) -> Result<Found> {
        self.choices.clear();
        let calm = Instant::now();
        while calm.elapsed() < CALM {
            self.turn()?;
        }
        let mut counts: HashMap<&PspId, usize> = HashMap::new();
        self.choices.iter().for_each(|psp| *counts.entry(psp).or_default() += 1);
        let Some(psp) = counts.into_iter().max_by_key(|(_, count)| *count).map(|(psp, _)| psp.clone()) else {
            bail!("no decision within {} s", CALM.as_secs());
        };
        let begun = Instant::now();
        self.outage = Some(Outage { psp, bad: Vec::new(), sent: 0, evidence: None, left: None, run: 0 });
        while self.outage.as_ref().is_some_and(|outage| outage.run < RUN) {
            engine.check()?;
            self.turn()?;
            if begun.elapsed() > PATIENCE {
                bail!("a PSP that fails every payment is not avoided within {} s", PATIENCE.as_secs());
            }
        }
        let Some(outage) = self.outage.take() else { bail!("the outage is gone") };
        let (Some(&first), Some((left, payments))) = (outage.bad.first(), outage.left) else { bail!("no payment failed") };
        let before = outage.bad.iter().filter(|at| **at <= left).count();
        // Without a transition it was the ranking that left the PSP: by all that had failed.
        let evidence = outage.evidence.map_or(before, |failures| failures as usize).clamp(1, before.max(1));
        let ms = |from: Instant| left.saturating_duration_since(from).as_secs_f64() * 1_000.0;
        let found = Found {
            payments: payments as f64,
            evidence: evidence as f64,
            ms: ms(first),
            ms_after_evidence: ms(outage.bad[evidence - 1]),
        };
        self.failed_before.push(outage.psp);
        Ok(found)
    }

    fn turn(&mut self) -> Result<()> {
        let now = Instant::now();
        while self.begin.due(self.asked, self.rate) <= now {
            let mut request = self.asking.request(self.asked.to_string(), super::now_ms());
            request.payment = alike(request.payment);
            let output = self.press.print(request.payment.key(), None, &request)?;
            self.appender.append(vec![output])?;
            self.waiting.insert(self.asked, request.payment);
            self.asked += 1;
        }
        while let Some(first) = self.outcomes.first_entry().filter(|first| first.key().0 <= now) {
            let outcome = first.remove();
            self.appender.append(vec![self.press.print(outcome.key(), None, &outcome)?])?;
            if let Some(outage) = self.outage.as_mut().filter(|it| it.psp == outcome.psp_id && outcome.status == Status::Error) {
                outage.bad.push(now);
            }
        }
        let mut decisions = Vec::new();
        self.answers.poll(Duration::from_millis(1), |decision, at| decisions.push((decision, at)))?;
        for (decision, at) in decisions {
            self.follow(&decision, at)?;
        }
        self.read_transitions()
    }

    fn follow(&mut self, decision: &RoutingDecision, read_at: Instant) -> Result<()> {
        let Some(number) = decision.request_id.parse::<u64>().ok() else { return Ok(()) };
        let Some(payment) = self.waiting.remove(&number) else { return Ok(()) };
        let Some(psp) = decision.ranked.first().map(|ranked| ranked.psp_id.clone()) else { return Ok(()) };
        let mut status = good_status(number);
        if self.failed_before.contains(&psp) {
            status = Status::Error;
        }
        if let Some(outage) = &mut self.outage {
            if psp == outage.psp {
                status = Status::Error;
                (outage.sent, outage.run, outage.left) = (outage.sent + 1, 0, None);
            } else {
                outage.left.get_or_insert((read_at, outage.sent));
                outage.run += 1;
            }
        }
        self.choices.push_back(psp.clone());
        let attempt = Asking::attempt(payment, number, psp, super::now_ms());
        self.appender.append(vec![self.press.print(attempt.payment.key(), None, &attempt)?])?;
        let outcome = outcome_of(&attempt, status, ANSWER_MS);
        self.outcomes.insert((Instant::now() + Duration::from_millis(ANSWER_MS.unsigned_abs()), number), outcome);
        Ok(())
    }

    fn read_transitions(&mut self) -> Result<()> {
        let mut polled = Vec::new();
        self.transitions.poll(&mut polled, 1_000, Duration::ZERO)?;
        for polled in polled {
            let Polled::Record(record) = polled else { continue };
            let Some(value) = record.value else { continue };
            let transition: PspOutage = self.bed.codec.decode(&value)?;
            if let Some(outage) = &mut self.outage
                && transition.psp_id == outage.psp
                && matches!(transition.to, HealthState::Degraded | HealthState::Down)
            {
                outage.evidence.get_or_insert(transition.evidence.failures.unsigned_abs());
            }
        }
        Ok(())
    }
}
