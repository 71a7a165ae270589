//! The writes of one commit.

use super::{Shard, ShardPosition, StoreError};
use rocksdb::WriteBatch;

#[derive(Default)]
pub struct StateBatch {
    inner: WriteBatch,
    key: Vec<u8>,
}

impl StateBatch {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { inner: WriteBatch::with_capacity_bytes(bytes), key: Vec::new() }
    }

    /// Sets an entry, or with `None` deletes it.
    pub fn put(&mut self, shard: Shard, key: &[u8], value: Option<&[u8]>) {
        self.key.clear();
        self.key.extend_from_slice(&shard.prefix());
        self.key.extend_from_slice(key);
        match value {
            Some(value) => self.inner.put(&self.key, value),
            None => self.inner.delete(&self.key),
        }
    }

    pub fn set_position(&mut self, shard: Shard, position: &ShardPosition) -> Result<(), StoreError> {
        let encoded = postcard::to_allocvec(position)
            .map_err(|error| StoreError::Failed { path: "position".into(), detail: error.to_string() })?;
        self.inner.put(shard.position_key(), encoded);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    pub(super) fn into_inner(self) -> WriteBatch {
        self.inner
    }
}
