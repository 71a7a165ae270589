//! Writes records outside any transaction, in order by partition, without duplicates (an idempotent producer).

use super::KafkaOptions;
use super::context::{Context, Reach, lock};
use super::errors::{Meaning, code_of, configuration, meaning};
use super::properties::{self, Role};
use super::transactor::{QUEUE_FULL_NAP, to_send};
use crate::io::log::{Appender, LogError, Output};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The first record that could not be written since the last flush.
#[derive(Default)]
pub(super) struct FirstFailure(Mutex<Option<(String, KafkaError)>>);

impl ProducerContext for Context<FirstFailure> {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            lock(&self.role.0).get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
        }
    }
}

pub(super) struct KafkaAppender {
    producer: BaseProducer<Context<FirstFailure>>,
}

impl KafkaAppender {
    pub(super) fn open(options: &KafkaOptions, reach: &Arc<Reach>) -> Result<Self, LogError> {
        let config = properties::of(Role::Append, options);
        let producer = config.create_with_context(Context::new(reach, FirstFailure::default())).map_err(|e| configuration(&e))?;
        Ok(Self { producer })
    }

    fn failure(&self, topic: &str, error: &KafkaError) -> LogError {
        let detail = error.to_string();
        match meaning(code_of(error)) {
            Meaning::Unwritable => LogError::Unwritable { topic: topic.to_owned(), detail },
            Meaning::Missing => LogError::NoTopic(topic.to_owned()),
            Meaning::Refused => LogError::Refused(format!("{topic}: {detail}")),
            Meaning::Fenced | Meaning::Moved | Meaning::Transient => {
                self.producer.context().reach.unavailable(&format!("writing to {topic} failed: {detail}"))
            }
        }
    }

    /// Each failed record has been given up by then: librdkafka retries for as long as `message.timeout.ms`.
    fn first_failure(&self) -> Result<(), LogError> {
        match lock(&self.producer.context().role.0).take() {
            Some((topic, error)) => Err(self.failure(&topic, &error)),
            None => Ok(()),
        }
    }
}

impl Appender for KafkaAppender {
    fn append(&mut self, outputs: Vec<Output>) -> Result<(), LogError> {
        for output in &outputs {
            let mut record = to_send(output, ());
            while let Err((error, back)) = self.producer.send(record) {
                if code_of(&error) != RDKafkaErrorCode::QueueFull {
                    return Err(self.failure(&output.topic, &error));
                }
                self.producer.poll(Duration::ZERO);
                std::thread::sleep(QUEUE_FULL_NAP);
                record = back;
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        // With no time to wait it only tells librdkafka not to linger, and whether all is done.
        while self.producer.flush(Duration::ZERO).is_err() {
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(QUEUE_FULL_NAP);
        }
        self.first_failure()?;
        self.producer.context().reach.answered();
        Ok(())
    }
}
