//! Requests and events sent at their due times, and the decisions that come back: what `decide` and `restart` share.
//!
//! Owns the senders' loops and their lateness. The load is open: nothing waits for an answer. Never starts or ends an engine.

use super::super::press::Press;
use super::bed::Bed;
use super::child::Engine;
use super::figures::quantile;
use super::traffic::{Asking, Shape, Traffic};
use anyhow::{Result, bail};
use smartrouter::domain::decision::RoutingDecision;
use smartrouter::io::codec::Codec;
use smartrouter::io::log::kafka::KafkaLog;
use smartrouter::io::log::{EventLog, Polled, Reader};
use smartrouter::io::topics;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the driver wants of librdkafka where it measures latency: nothing of it may wait.
pub(super) const PROMPT: [(&str, &str); 2] = [("linger.ms", "0"), ("fetch.wait.max.ms", "5")];

/// One moment on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Begin {
    instant: Instant,
    epoch_ms: i64,
}

impl Begin {
    pub(super) fn after(wait: Duration) -> Self {
        Self { instant: Instant::now() + wait, epoch_ms: super::now_ms() + wait.as_millis() as i64 }
    }

    /// When request `number` is due.
    pub(super) fn due(self, number: u64, per_second: u64) -> Instant {
        self.instant + Duration::from_nanos(number * 1_000_000_000 / per_second)
    }
}

/// Sends `count` requests; returns how late they were sent at worst but for one in a hundred, in milliseconds.
pub(super) fn ask(
    bed: &Bed,
    prompt: &KafkaLog,
    shape: &Shape,
    (begin, per_second, count): (Begin, u64, u64),
    stop: &AtomicBool,
) -> Result<f64> {
    let mut appender = prompt.appender()?;
    let press = Press::new(bed.codec.clone(), &bed.names);
    let mut asking = Asking::new(shape.clone());
    let mut late_ms = Vec::with_capacity(count as usize);
    for number in 0..count {
        let due = begin.due(number, per_second);
        let at = begin.epoch_ms + (number * 1_000 / per_second) as i64;
        let request = asking.request(number.to_string(), at);
        let output = press.print(request.payment.key(), None, &request)?;
        wait_until(due);
        if stop.load(Ordering::SeqCst) {
            break;
        }
        late_ms.push(due.elapsed().as_secs_f64() * 1_000.0);
        appender.append(vec![output])?;
    }
    appender.flush()?;
    late_ms.sort_by(f64::total_cmp);
    Ok(quantile(&late_ms, 0.99))
}

/// Sends attempts and outcomes as they happen, until told to stop.
pub(super) fn events(bed: &Bed, shape: &Shape, (begin, per_second): (Begin, u64), stop: &AtomicBool) -> Result<()> {
    let mut appender = bed.log.appender()?;
    let shape = Shape { start_at: begin.epoch_ms, attempts_per_second: per_second as f64 / 2.0, ..shape.clone() };
    let mut traffic = Traffic::new(bed.codec.clone(), &bed.names, shape, u64::MAX);
    while let Some(event) = traffic.next()? {
        wait_until(begin.instant + Duration::from_millis((event.at - begin.epoch_ms).unsigned_abs()));
        if stop.load(Ordering::SeqCst) {
            break;
        }
        appender.append(vec![event.output])?;
    }
    Ok(appender.flush()?)
}

fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        thread::sleep(left);
    }
}

/// Decisions as a `read_committed` client sees them, from now on.
pub(super) struct Answers {
    reader: Box<dyn Reader>,
    codec: Codec,
    polled: Vec<Polled>,
}

const RECORDS_PER_POLL: usize = 1_000;
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(2);

impl Answers {
    pub(super) fn open(bed: &Bed, prompt: &KafkaLog) -> Result<Self> {
        let reader = bed.reader_at_end(prompt, topics::ROUTING_DECISIONS)?;
        Ok(Self { reader, codec: bed.codec.clone(), polled: Vec::new() })
    }

    /// Hands over what is there, with the moment when it was read; waits at most `timeout` for the first.
    pub(super) fn poll(&mut self, timeout: Duration, mut visit: impl FnMut(RoutingDecision, Instant)) -> Result<()> {
        self.reader.poll(&mut self.polled, RECORDS_PER_POLL, timeout)?;
        let read_at = Instant::now();
        for polled in self.polled.drain(..) {
            let Polled::Record(record) = polled else { continue };
            let Some(value) = record.value else { continue };
            visit(self.codec.decode(&value)?, read_at);
        }
        Ok(())
    }

    /// Asks once and waits for the answer: then the engine has joined, and restored what there is.
    pub(super) fn warm_up(&mut self, bed: &Bed, prompt: &KafkaLog, shape: &Shape, engine: &mut Engine) -> Result<()> {
        let request = Asking::new(shape.clone()).request("warm-up".to_owned(), super::now_ms());
        let output = Press::new(bed.codec.clone(), &bed.names).print(request.payment.key(), None, &request)?;
        let mut appender = prompt.appender()?;
        appender.append(vec![output])?;
        appender.flush()?;
        let (asked, mut is_answered) = (Instant::now(), false);
        while !is_answered {
            engine.check()?;
            if asked.elapsed() > FIRST_ANSWER_WAIT {
                bail!("no decision within {} s", FIRST_ANSWER_WAIT.as_secs());
            }
            self.poll(Duration::from_millis(100), |_, _| is_answered = true)?;
        }
        thread::sleep(SETTLE);
        Ok(())
    }
}
