//! One transactional producer on a thread of its own.
//!
//! Owns the steps of a transaction and what is known about its end. The thread is the watchdog's other half: a call of librdkafka may
//! block for ever, so the member waits for the thread with a deadline and walks away from one that hangs; the thread, with its producer,
//! ends by itself when that call returns. After any failure the transactor ends too: only a new one under the same transactional id, once
//! initialised, settles what is not known (and librdkafka stumbles over its own sequence numbers after a record that failed).
//! Never decides which partitions are the member's.

use super::KafkaOptions;
use super::context::{Context, Reach, lock};
use super::errors::{Meaning, code_of, configuration, meaning};
use super::properties::{self, Role};
use crate::io::failpoint;
use crate::io::log::{LogError, Output, TopicPartition, Txn, Written};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two looks at a full queue, or at deliveries that are on their way: a fraction of a broker's answer time.
pub(super) const QUEUE_FULL_NAP: Duration = Duration::from_micros(100);
/// How often the logs of an idle producer are looked after.
const IDLE: Duration = Duration::from_secs(1);
/// One try of `init_transactions`; between two the connection's errors are read.
const INIT_TRY: Duration = Duration::from_secs(1);
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads that may hang in librdkafka at once, in all members of a process, before no new one is made.
const LIVE_MAX: usize = 64;

type Outcome = Result<Written, LogError>;

struct Job {
    txn: Txn,
    metadata: Option<ConsumerGroupMetadata>,
    end: End,
    deadline: Instant,
    reply: SyncSender<Outcome>,
}

#[derive(Clone, Copy)]
enum End {
    Commit,
    Abort,
}

/// Delivery reports of the running transaction.
#[derive(Default)]
pub(super) struct Deliveries(Mutex<Tally>);

#[derive(Default)]
struct Tally {
    pending: usize,
    /// By slot: the offset behind the last record.
    written: Vec<i64>,
    failure: Option<(RDKafkaErrorCode, String)>,
}

impl ProducerContext for Context<Deliveries> {
    /// 1 + the slot of the partition, 0 for a record that was sent by its key.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let mut tally = lock(&self.role.0);
        tally.pending = tally.pending.saturating_sub(1);
        match result {
            Ok(message) => {
                let behind = message.offset() + 1;
                if let Some(written) = opaque.checked_sub(1).and_then(|slot| tally.written.get_mut(slot)) {
                    *written = behind.max(*written);
                }
            }
            // A purge is the consequence of another failure.
            Err((error, message)) => match code_of(error) {
                RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => {}
                code => {
                    tally.failure.get_or_insert_with(|| (code, message.topic().to_owned()));
                }
            },
        }
    }
}

pub(super) fn to_send<D: rdkafka::util::IntoOpaque>(output: &Output, opaque: D) -> BaseRecord<'_, [u8], [u8], D> {
    let mut record = BaseRecord::with_opaque_to(&output.topic, opaque);
    record.partition = output.partition;
    record.timestamp = output.timestamp_ms;
    record.key = output.key.as_deref();
    record.payload = output.value.as_deref();
    if !output.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(output.headers.len());
        record.headers = Some(
            output.headers.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() })),
        );
    }
    record
}

pub(super) struct Transactor {
    jobs: SyncSender<Job>,
}

/// A transactor whose `init_transactions` is under way.
pub(super) struct Opening {
    jobs: SyncSender<Job>,
    ready: Receiver<Result<(), LogError>>,
    deadline: Instant,
    what: String,
}

impl Opening {
    pub(super) fn wait(self, reach: &Reach) -> Result<Transactor, LogError> {
        // The thread keeps to the deadline by itself; it is overstepped only by a call that hangs.
        let patience = self.deadline.saturating_duration_since(Instant::now()) + 2 * INIT_TRY;
        match self.ready.recv_timeout(patience) {
            Ok(outcome) => outcome.map(|()| Transactor { jobs: self.jobs }),
            Err(_) => Err(reach.unavailable(&self.what)),
        }
    }
}

/// Starts the thread: fences whoever holds this id, and settles his transaction.
pub(super) fn open(id: &str, options: &KafkaOptions, reach: &Arc<Reach>, live: &Arc<AtomicUsize>) -> Result<Opening, LogError> {
    let alive = Alive::enter(live)?;
    let config = properties::of(Role::Transactions { id }, options);
    let producer = config.create_with_context(Context::new(reach, Deliveries::default())).map_err(|e| configuration(&e))?;
    let (jobs, inbox) = sync_channel(1);
    let (tell, ready) = sync_channel(1);
    let deadline = Instant::now() + options.answer_timeout() * 3;
    let worker =
        Worker { producer, instance: id.to_owned(), txn_timeout: Duration::from_millis(options.transaction_timeout_ms.into()) };
    std::thread::Builder::new()
        .name("kafka-txn".into())
        .spawn(move || {
            worker.run(deadline, &tell, &inbox);
            drop(worker);
            drop(alive);
        })
        .map_err(|error| LogError::Unavailable(format!("no thread for a transactional producer: {error}")))?;
    Ok(Opening { jobs, ready, deadline, what: format!("opening transactions as {id}") })
}

/// Counts the threads, so that hanging ones cannot pile up.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn enter(live: &Arc<AtomicUsize>) -> Result<Self, LogError> {
        let alive = Self(Arc::clone(live));
        if live.fetch_add(1, Ordering::Relaxed) >= LIVE_MAX {
            return Err(LogError::Unavailable(format!(
                "{LIVE_MAX} transactional producers hang in librdkafka: restart this process"
            )));
        }
        Ok(alive)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Transactor {
    /// Runs one transaction; gives up at `watchdog`, whatever librdkafka does. After a failure this transactor is of no more use.
    pub(super) fn commit(&self, txn: Txn, metadata: Option<ConsumerGroupMetadata>, watchdog: Duration) -> Outcome {
        self.run(txn, metadata, End::Commit, watchdog)
    }

    /// Asks the coordinator whether this transactional id is still ours: begins a transaction that touches an offset of the group of
    /// `metadata`, and aborts it.
    pub(super) fn probe(&self, at: TopicPartition, metadata: ConsumerGroupMetadata, watchdog: Duration) -> Result<(), LogError> {
        let txn = Txn { outputs: vec![], input_offsets: [(at, 0)].into() };
        self.run(txn, Some(metadata), End::Abort, watchdog).map(|_| ())
    }

    fn run(&self, txn: Txn, metadata: Option<ConsumerGroupMetadata>, end: End, watchdog: Duration) -> Outcome {
        let gone = || LogError::Unsettled("its producer is gone".into());
        let (reply, answer) = sync_channel(1);
        // The steps end before the watchdog does: then the cause is known.
        let job = Job { txn, metadata, end, deadline: Instant::now() + watchdog.mul_f64(0.8), reply };
        self.jobs.send(job).map_err(|_| gone())?;
        match answer.recv_timeout(watchdog) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(LogError::Unsettled(format!("no end within {} ms", watchdog.as_millis()))),
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}

/// Why a step failed.
struct Broken {
    code: RDKafkaErrorCode,
    text: String,
    topic: Option<String>,
    /// The broker may have got the commit.
    indefinite: bool,
}

struct Worker {
    producer: BaseProducer<Context<Deliveries>>,
    instance: String,
    txn_timeout: Duration,
}

impl Worker {
    fn run(&self, deadline: Instant, tell: &SyncSender<Result<(), LogError>>, inbox: &Receiver<Job>) {
        let ready = self.init(deadline);
        let failed = ready.is_err();
        if tell.send(ready).is_err() || failed {
            return;
        }
        loop {
            match inbox.recv_timeout(IDLE) {
                Ok(job) => {
                    let outcome = self.transact(&job);
                    let failed = outcome.is_err();
                    let may_hang = matches!(outcome, Err(LogError::Unsettled(_)));
                    if job.reply.send(outcome).is_err() || failed {
                        // An answer that is still awaited, and fails to come after an abort, makes librdkafka end the whole process. Who
                        // has this transactional id next settles it.
                        if !may_hang {
                            self.abort();
                        }
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.serve(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reads what librdkafka tells on the side, a bounded number of events.
    fn serve(&self) {
        for _ in 0..32 {
            self.producer.poll(Duration::ZERO);
        }
    }

    fn init(&self, deadline: Instant) -> Result<(), LogError> {
        let reach = &self.producer.context().reach;
        loop {
            let Err(error) = self.producer.init_transactions(INIT_TRY) else {
                reach.answered();
                return Ok(());
            };
            self.serve();
            let code = code_of(&error);
            match meaning(code) {
                Meaning::Fenced => return Err(self.fenced(&error.to_string())),
                Meaning::Refused => return Err(LogError::Refused(format!("transactions as {}: {error}", self.instance))),
                _ => {}
            }
            if let Some(refused) = reach.refusal() {
                return Err(refused);
            }
            if Instant::now() >= deadline || self.producer.client().fatal_error().is_some() {
                return Err(reach.unavailable(&format!("opening transactions as {}: {error}", self.instance)));
            }
            // A coordinator that is loading answers at once.
            if code != RDKafkaErrorCode::OperationTimedOut {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn fenced(&self, detail: &str) -> LogError {
        LogError::Fenced { instance: self.instance.clone(), detail: detail.to_owned() }
    }

    fn transact(&self, job: &Job) -> Outcome {
        let start = Instant::now();
        match self.steps(job) {
            Ok(written) => {
                self.producer.context().reach.answered();
                Ok(written)
            }
            Err(broken) => Err(self.judge(broken, start)),
        }
    }

    fn steps(&self, job: &Job) -> Result<Written, Broken> {
        let Job { txn, metadata, end, deadline, .. } = job;
        let deadline = *deadline;
        self.producer.begin_transaction().map_err(|e| broken(&e))?;
        let begun = Instant::now();
        failpoint::pass("before-produce");
        let slots = self.produce(&txn.outputs, deadline)?;
        // Offsets that are sent while records are still on their way collide with them at the coordinator: waiting here is faster.
        self.settle_deliveries(deadline)?;
        let delivered = Instant::now();
        failpoint::pass("after-produce");
        if let Some(metadata) = metadata {
            let mut offsets = TopicPartitionList::with_capacity(txn.input_offsets.len());
            for (at, offset) in &txn.input_offsets {
                let offset = rdkafka::Offset::Offset(*offset);
                offsets.add_partition_offset(&at.topic, at.partition, offset).map_err(|e| broken(&e))?;
            }
            self.producer.send_offsets_to_transaction(&offsets, metadata, left(deadline)).map_err(|e| broken(&e))?;
            failpoint::pass("after-offsets");
        }
        let sent = Instant::now();
        failpoint::pass("before-commit");
        let outcome = match end {
            End::Commit => self.producer.commit_transaction(left(deadline)),
            End::Abort => self.producer.abort_transaction(left(deadline)),
        };
        outcome.map_err(|error| {
            let requires_abort = matches!(&error, KafkaError::Transaction(e) if e.txn_requires_abort());
            Broken { indefinite: !requires_abort, ..broken(&error) }
        })?;
        let (records_us, offsets_us) = ((delivered - begun).as_micros() as u64, (sent - delivered).as_micros() as u64);
        tracing::trace!(records_us, offsets_us, end_us = sent.elapsed().as_micros() as u64, "transaction");
        failpoint::pass("after-commit");
        let tally = lock(&self.producer.context().role.0);
        Ok(slots.into_iter().map(|(at, slot)| (at, tally.written[slot])).collect())
    }

    /// Queues all outputs; tells the slot of each partition that was given by number.
    fn produce(&self, outputs: &[Output], deadline: Instant) -> Result<HashMap<TopicPartition, usize>, Broken> {
        let (slots, opaques) = slots_of(outputs);
        *lock(&self.producer.context().role.0) = Tally { pending: outputs.len(), written: vec![0; slots.len()], failure: None };
        for (output, opaque) in outputs.iter().zip(opaques) {
            let mut record = to_send(output, opaque);
            while let Err((error, back)) = self.producer.send(record) {
                let full = code_of(&error) == RDKafkaErrorCode::QueueFull;
                if !full || Instant::now() >= deadline || self.has_failed() {
                    return Err(Broken { topic: Some(output.topic.to_string()), ..broken(&error) });
                }
                self.producer.poll(Duration::ZERO);
                std::thread::sleep(QUEUE_FULL_NAP);
                record = back;
            }
        }
        Ok(slots)
    }

    fn has_failed(&self) -> bool {
        lock(&self.producer.context().role.0).failure.is_some() || self.producer.client().fatal_error().is_some()
    }

    /// Waits until every record is acknowledged. rdkafka's own `flush` sleeps in steps of 100 ms.
    fn settle_deliveries(&self, deadline: Instant) -> Result<(), Broken> {
        loop {
            self.producer.poll(Duration::ZERO);
            let tally = lock(&self.producer.context().role.0);
            if let Some((code, topic)) = &tally.failure {
                return Err(Broken { code: *code, text: code.to_string(), topic: Some(topic.clone()), indefinite: false });
            }
            let pending = tally.pending;
            drop(tally);
            // Records that librdkafka gave up without a cause of their own leave it to the transaction's state to tell; so does a fatal error.
            if pending == 0 && self.producer.in_flight_count() == 0 {
                return Ok(());
            }
            if let Some((code, text)) = self.producer.client().fatal_error() {
                return Err(Broken { code, text, topic: None, indefinite: false });
            }
            if Instant::now() >= deadline {
                return Err(timed_out(format!("{pending} records are not acknowledged")));
            }
            std::thread::sleep(QUEUE_FULL_NAP);
        }
    }

    /// Who is to act.
    fn judge(&self, broken: Broken, start: Instant) -> LogError {
        let fatal = self.producer.client().fatal_error();

        let (code, text) = fatal.unwrap_or((broken.code, broken.text));
        let topic = broken.topic.unwrap_or_default();
        match meaning(code) {
            // A coordinator also fences a transaction that was open too long: then nobody took over.
            Meaning::Fenced if start.elapsed() >= self.txn_timeout.mul_f64(0.9) => {
                LogError::Unsettled(format!("it was open longer than transaction.timeout.ms: {text}"))
            }
            Meaning::Fenced => self.fenced(&text),
            _ if broken.indefinite => LogError::Unsettled(text),
            Meaning::Transient => LogError::Unsettled(text),
            Meaning::Moved => LogError::Rebalanced(text),
            Meaning::Unwritable => LogError::Unwritable { topic, detail: text },
            Meaning::Missing => LogError::NoTopic(if topic.is_empty() { text } else { topic }),
            Meaning::Refused => LogError::Refused(if topic.is_empty() { text } else { format!("{topic}: {text}") }),
        }
    }

    /// So that readers do not wait behind a transaction that nobody goes on with. The outcome does not matter: where this fails, the next
    /// transactor of the same id, or the broker's time-out, does it.
    fn abort(&self) {
        // librdkafka would wait for delivery reports that only this thread can take off its queue.
        let deadline = Instant::now() + ABORT_TIMEOUT;
        self.producer.purge(PurgeConfig::default().queue().inflight());
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(QUEUE_FULL_NAP);
        }
        if let Err(error) = self.producer.abort_transaction(left(deadline)) {
            tracing::debug!(instance = %self.instance, "a failed transaction was not aborted by its own producer: {error}");
        }
    }
}

/// The slot of each partition that was given by number, and the opaque of each record. Records of one partition come in runs.
fn slots_of(outputs: &[Output]) -> (HashMap<TopicPartition, usize>, Vec<usize>) {
    let mut slots: HashMap<TopicPartition, usize> = HashMap::new();
    let mut last: Option<(&Output, usize)> = None;
    let opaque = |output| {
        let &Output { ref topic, partition: Some(partition), .. } = output else { return 0 };
        if let Some((before, opaque)) = last
            && before.partition == Some(partition)
            && Arc::ptr_eq(&before.topic, topic)
        {
            return opaque;
        }
        let next = slots.len();
        let opaque = 1 + *slots.entry(TopicPartition { topic: Arc::clone(topic), partition }).or_insert(next);
        last = Some((output, opaque));
        opaque
    };
    let opaques = outputs.iter().map(opaque).collect();
    (slots, opaques)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn broken(error: &KafkaError) -> Broken {
    let text = match error {
        KafkaError::Transaction(error) => error.string(),
        other => other.to_string(),
    };
    Broken { code: code_of(error), text, topic: None, indefinite: false }
}

fn timed_out(text: String) -> Broken {
    Broken { code: RDKafkaErrorCode::OperationTimedOut, text, topic: None, indefinite: false }
}
