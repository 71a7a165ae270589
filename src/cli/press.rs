//! From records to what the log takes: encoded, under the full name of their topic.
//!
//! Owns nothing of a record's fate: who prints decides when it is appended, and with which time.

use anyhow::Result;
use bytes::Bytes;
use smartrouter::io::codec::{Codec, Wire};
use smartrouter::io::log::Output;
use smartrouter::io::topics::{self, TopicNames};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Press {
    codec: Codec,
    names: TopicNames,
    /// Full names of the inputs by base name: made once, not for each record.
    inputs: BTreeMap<&'static str, Arc<str>>,
}

impl Press {
    pub(super) fn new(codec: Codec, names: &TopicNames) -> Self {
        let inputs = topics::INPUTS.iter().map(|base| (*base, Arc::from(names.full(base)))).collect();
        Self { codec, names: names.clone(), inputs }
    }

    /// `timestamp_ms`: the record's time; absent, the log gives it one.
    pub(super) fn print<T: Wire>(&self, key: &str, timestamp_ms: Option<i64>, value: &T) -> Result<Output> {
        let base = T::KIND.topic();
        let mut bytes = Vec::with_capacity(256);
        self.codec.encode(value, &mut bytes)?;
        Ok(Output {
            topic: self.inputs.get(base).cloned().unwrap_or_else(|| Arc::from(self.names.full(base))),
            partition: None,
            timestamp_ms,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(bytes.into()),
            headers: Vec::new(),
        })
    }
}
