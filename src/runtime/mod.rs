//! Where and when: tasks over partitions, exactly once, in a live system or stepped by a replay.
//!
//! Owns threads, the lifecycle of tasks, and every way back from a failure. Never decides about payments (`engine`) and never
//! speaks a protocol (`io`). Doors: `Live` runs task groups in threads on Kafka until told to stop; `Engine` is the same
//! task group stepped by hand, in event time, for the demo, replay and tests.
//!
//! Reading order: `task_group` (the loop and the commit) → `inbox` and `input_order` (what comes next) → `payment_task` and
//! `stats_task` with its `profiles` (one partition's work) → `scoring` and `models` (what a request's decision is told) → `deltas`,
//! `staged` and `entity_cache` (what waits for the commit) → `restore` and `state_check` → `global_table`. Apart from all that:
//! `alerts`, and `sync` (rows for analysts).

mod clock;
mod task_group;
mod inbox;
mod input_order;
mod payment_task;
mod stats_task;
mod profiles;
mod deltas;
mod staged;
mod entity_cache;
mod restore;
mod state_check;
pub mod global_table;
mod shared;
pub mod models;
mod scoring;
mod feature_stats;
mod live;
mod stepped;
pub mod alerts;
pub mod sync;
pub mod status;

pub use clock::Clock;
pub use entity_cache::EntityError;
pub use live::{Live, Stop};
pub use shared::{Names, Shared};
pub use state_check::{ShardReport, check_state};
pub use stepped::Engine;
pub use task_group::Progress;

use crate::io::codec::CodecError;
use crate::io::log::LogError;
use crate::io::store::{Shard, StoreError};
use std::time::Duration;
use thiserror::Error;

/// Bounds of a task group, and who it is.
#[derive(Clone, Debug)]
pub struct Limits {
    pub group: String,
    /// Stable over restarts; one per process.
    pub instance: String,
    /// Work is committed at least this often; at once when somebody waits for it.
    pub commit_interval: Duration,
    /// Records taken from the log in one poll, and events processed in one turn.
    pub batch_records_max: usize,
    /// Records that wait in a task, per input, before the input is paused.
    pub queue_records_max: usize,
}

/// Why a turn of the loop failed.
#[derive(Debug, Error)]
pub enum TaskError {
    #[error(transparent)]
    Log(LogError),
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Entity(EntityError),
    #[error("the state of {} in partition {} is damaged and is rebuilt: {detail}", shard.store.as_str(), shard.partition)]
    Damaged { shard: Shard, detail: String },
    /// Where, and by which way, says the crash report. The panic's message is told nowhere: it may hold data.
    #[error("the engine panicked: see the crash report in the state directory")]
    Panicked,
}

impl From<EntityError> for TaskError {
    fn from(error: EntityError) -> Self {
        match error {
            EntityError::Store(error) => Self::Store(error),
            EntityError::Damaged { shard, detail } => Self::Damaged { shard, detail },
            error @ EntityError::Encode(_) => Self::Entity(error),
        }
    }
}

impl TaskError {
    /// No trying again helps: a human has to act first.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Log(error) => {
                matches!(error, LogError::Fenced { .. } | LogError::Refused(_) | LogError::Corrupt(_) | LogError::NoTopic(_))
            }
            Self::Store(error) => {
                matches!(error, StoreError::Unusable { .. } | StoreError::Locked { .. } | StoreError::Damaged { .. })
            }
            Self::Codec(_) | Self::Entity(_) | Self::Damaged { .. } | Self::Panicked => false,
        }
    }
}
