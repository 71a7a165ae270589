//! An embedded log, an engine on it, and payments of the shipped example merchant.

use bytes::Bytes;
use smartrouter::config::{Config, LoadOptions};
use smartrouter::domain::payment::{
    Card, CardType, HardSoft, Initiator, MessageConfig, Payment, PaymentAttempt, PaymentOutcome, RoutingRequest, Status,
};
use smartrouter::engine::hashing::unit_interval;
use smartrouter::engine::settings::Settings;
use smartrouter::io::codec::{Codec, Wire};
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::{EventLog, Output, Polled, Position, Record, TopicPartition};
use smartrouter::io::store::StateStore;
use smartrouter::io::topics::{PlanOptions, TopicNames, declared, plan};
use smartrouter::runtime::{Clock, Engine, Limits, Shared};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const T0: i64 = 1_700_000_000_000;
pub(crate) const PREFIX: &str = "test.";
/// The configuration of the example merchant.
const SHIPPED: &str = "deploy/volaris.toml";

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) codec: Codec,
    pub(crate) now: i64,
    sent: usize,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(EmbeddedLog::open(dir.path().join("log"), EmbeddedOptions::default()).unwrap());
        let options = PlanOptions { names: TopicNames::new(PREFIX), ..PlanOptions::default() };
        log.create_topics(&plan(&declared().unwrap(), &[], &options).create).unwrap();
        Self { dir, log, codec: Codec::from_ids().unwrap(), now: T0, sent: 0 }
    }

    /// One in which an engine took the traffic of so many payments, and was closed.
    pub(crate) fn after(payments: usize) -> Self {
        let mut world = Self::new();
        let mut engine = world.engine();
        world.traffic(payments);
        engine.drain().unwrap();
        engine.close().unwrap();
        world
    }

    /// An engine on this world's log and state. Dropping it without `close` is a crash.
    pub(crate) fn engine(&self) -> Engine {
        self.engine_with(&[])
    }

    pub(crate) fn engine_with(&self, overrides: &[(&str, &str)]) -> Engine {
        self.engine_of(SHIPPED, overrides)
    }

    pub(crate) fn engine_of(&self, config: &str, overrides: &[(&str, &str)]) -> Engine {
        Engine::open(self.log.clone(), self.shared_of(config, overrides), limits()).unwrap()
    }

    pub(crate) fn models_dir(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// What tasks share. Opens the state store.
    pub(crate) fn shared(&self, overrides: &[(&str, &str)]) -> Arc<Shared> {
        self.shared_of(SHIPPED, overrides)
    }

    fn shared_of(&self, config: &str, overrides: &[(&str, &str)]) -> Arc<Shared> {
        let settings = settings(config, overrides);
        let store = StateStore::open(&self.state_dir()).unwrap();
        let shared = Shared::new(Clock::Event, settings, self.codec.clone(), TopicNames::new(PREFIX), store).unwrap();
        Arc::new(shared.with_models(self.models_dir()).unwrap())
    }

    pub(crate) fn append(&self, topic: &str, key: &str, value: Option<Bytes>) {
        let output = Output {
            topic: format!("{PREFIX}{topic}").into(),
            partition: None,
            timestamp_ms: Some(self.now),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value,
            headers: vec![("traceparent".into(), Some(Bytes::from_static(b"00-trace")))],
        };
        self.log.appender().unwrap().append(vec![output]).unwrap();
    }

    pub(crate) fn send<T: Wire>(&self, key: &str, value: &T) {
        self.append(T::KIND.topic(), key, Some(self.encode(value)));
    }

    pub(crate) fn encode<T: Wire>(&self, value: &T) -> Bytes {
        let mut bytes = Vec::new();
        self.codec.encode(value, &mut bytes).unwrap();
        bytes.into()
    }

    pub(crate) fn payment(&mut self) -> Payment {
        self.sent += 1;
        let id = format!("p{}", self.sent);
        let amex = unit_interval("brand", &id) < 0.1;
        let mut payment = payment(&id);
        payment.customer_id = Some(format!("c{}", (unit_interval("customer", &id) * 50.0) as u32));
        if amex {
            payment.card.brand = "AMEX".into();
            payment.card.bin = "374245".into();
        }
        payment
    }

    pub(crate) fn request(&mut self, payment: &Payment) {
        self.now += 5;
        let request = RoutingRequest {
            payment: payment.clone(),
            request_id: format!("r-{}", payment.payment_id),
            requested_at: self.now,
            deadline_ms: None,
            allowed_psps: None,
            previous_attempts: None,
            dry_run: false,
        };
        self.send(payment.key(), &request);
    }

    pub(crate) fn attempt(&mut self, payment: &Payment, psp: &str) -> PaymentAttempt {
        self.now += 400;
        let attempt = PaymentAttempt {
            payment: payment.clone(),
            attempt_id: format!("a-{}", payment.payment_id),
            attempt_number: 1,
            psp_id: psp.into(),
            attempted_at: self.now,
            deadline_ms: None,
            decision_id: None,
            algorithm: None,
            skip_reasons: Vec::new(),
        };
        self.send(payment.key(), &attempt);
        attempt
    }

    pub(crate) fn outcome(&mut self, attempt: &PaymentAttempt, status: Status) {
        let outcome = outcome(attempt, status);
        self.send(attempt.payment.key(), &outcome);
    }

    /// Payments that ask for a route, take one of three PSPs (or Amex), and come out well four times in five.
    pub(crate) fn traffic(&mut self, payments: usize) {
        for _ in 0..payments {
            let payment = self.payment();
            self.request(&payment);
            let psps = ["worldpay", "mit", "elavon"];
            let draw = unit_interval("psp", &payment.payment_id);
            let psp = if payment.card.brand == "AMEX" { "amex" } else { psps[(draw * 3.0) as usize] };
            let attempt = self.attempt(&payment, psp);
            let approved = unit_interval("status", &payment.payment_id) < 0.8;
            self.outcome(&attempt, if approved { Status::Approved } else { Status::Declined });
        }
    }

    /// All committed records of a topic, partition by partition.
    pub(crate) fn records(&self, topic: &str) -> Vec<Record> {
        let name = format!("{PREFIX}{topic}");
        let partitions = self.log.topics(&[]).unwrap().into_iter().find(|it| it.name == name).unwrap().partitions;
        let mut reader = self.log.reader().unwrap();
        let mut records = Vec::new();
        for partition in 0..partitions {
            reader.assign(&[(TopicPartition::new(&name, partition), Position::Beginning)]).unwrap();
            let mut is_at_end = false;
            while !is_at_end {
                let mut polled = Vec::new();
                reader.poll(&mut polled, 1_000, Duration::from_millis(10)).unwrap();
                for event in polled {
                    match event {
                        Polled::Record(record) => records.push(record),
                        Polled::End { .. } => is_at_end = true,
                        Polled::Assigned(_) | Polled::Revoked(_) => {}
                    }
                }
            }
        }
        records
    }

    pub(crate) fn read<T: Wire>(&self) -> Vec<T> {
        self.records(T::KIND.topic()).iter().map(|record| self.codec.decode(record.value.as_ref().unwrap()).unwrap()).collect()
    }
}

/// Those of a file of this project, with changes.
pub(crate) fn settings(config: &str, overrides: &[(&str, &str)]) -> Settings {
    let file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(config));
    let overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Config::load(&LoadOptions { file, overrides, ..LoadOptions::default() }).unwrap().config.settings
}

pub(crate) fn limits() -> Limits {
    Limits {
        group: "g".into(),
        instance: "i".into(),
        commit_interval: Duration::ZERO,
        batch_records_max: 100,
        queue_records_max: 500,
    }
}

pub(crate) fn outcome(attempt: &PaymentAttempt, status: Status) -> PaymentOutcome {
    let declined = status == Status::Declined;
    PaymentOutcome {
        attempt_id: attempt.attempt_id.clone(),
        payment_id: attempt.payment.payment_id.clone(),
        customer_id: attempt.payment.customer_id.clone(),
        psp_id: attempt.psp_id.clone(),
        status,
        error_code: declined.then(|| "51".into()),
        error_category: declined.then(|| "insufficient_funds".into()),
        hard_soft: declined.then_some(HardSoft::Soft),
        network_response_code: None,
        merchant_advice_code: None,
        latency_ms: 350,
        occurred_at: attempt.attempted_at + 350,
        fee_minor: None,
    }
}

pub(crate) fn payment(id: &str) -> Payment {
    Payment {
        payment_id: id.into(),
        order_id: format!("o-{id}"),
        merchant_id: "volaris".into(),
        customer_id: None,
        amount_minor: 123_400,
        currency: "MXN".into(),
        card: Card {
            bin: "411111".into(),
            brand: "VISA".into(),
            card_type: CardType::Credit,
            bank: Some("bank".into()),
            issuer_country: Some("MX".into()),
            token: None,
        },
        method: "card".into(),
        sub_method: None,
        message: MessageConfig {
            initiator: Initiator::Customer,
            merchant_reason: None,
            avs_sent: false,
            mcc: "4511".into(),
            three_ds: false,
            network_token: false,
            cvv_sent: true,
        },
        installments: None,
        airline: None,
        customer: None,
        geo: None,
        subscription: None,
    }
}
