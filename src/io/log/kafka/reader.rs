//! Reads partitions outside any group.

use super::KafkaOptions;
use super::admin::{self, Tool};
use super::context::Reach;
use super::fetcher::{Bell, Fetcher, poll_until};
use crate::io::log::{Ends, LogError, Polled, Position, Reader, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct KafkaReader {
    fetcher: Fetcher,
    bell: Arc<Bell>,
    options: Arc<KafkaOptions>,
    reach: Arc<Reach>,
    /// Sees what is not committed; made when first needed.
    tool: Option<Tool>,
}

impl KafkaReader {
    pub(super) fn open(options: &Arc<KafkaOptions>, reach: &Arc<Reach>) -> Result<Self, LogError> {
        let bell = Arc::new(Bell::default());
        let fetcher = Fetcher::open(options, reach, &bell)?;
        Ok(Self { fetcher, bell, options: Arc::clone(options), reach: Arc::clone(reach), tool: None })
    }
}

impl Reader for KafkaReader {
    fn assign(&mut self, from: &[(TopicPartition, Position)]) -> Result<(), LogError> {
        self.fetcher.stop_all()?;
        self.fetcher.start(from)
    }

    fn poll(&mut self, out: &mut Vec<Polled>, records_max: usize, timeout: Duration) -> Result<(), LogError> {
        let fetcher = &mut self.fetcher;
        poll_until(&self.bell, timeout, || fetcher.sweep(out, records_max))
    }

    fn bounds(&mut self, of: &TopicPartition) -> Result<(i64, i64), LogError> {
        self.fetcher.bounds(of)
    }

    fn ends(&mut self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Ends>, LogError> {
        let tool = match self.tool.take() {
            Some(tool) => tool,
            None => admin::tool(&self.options, &self.reach)?,
        };
        let patience = self.options.answer_timeout();
        // In this order: what is settled now may have been written before.
        let settled = self.fetcher.settled_ends(of, patience)?;
        let written = admin::ends(self.tool.insert(tool), of, patience)?;
        Ok(written
            .into_iter()
            .filter_map(|(at, written)| Some((at.clone(), Ends { settled: *settled.get(&at)?, written })))
            .collect())
    }
}
