//! Ports to the outside and their adapters: the event log, the wire format, the state store, history files, datasets, alerts, the warehouse.
//!
//! One door per dependency: rdkafka only in `log/kafka`, RocksDB only in `store` and `log/embedded`, Avro only in `codec`.

pub mod topics;
mod mark;
pub mod codec;
pub mod failpoint;
pub mod log;
pub mod store;
pub mod history;
pub mod dataset;
pub mod models;
pub mod alert;
pub mod warehouse;
