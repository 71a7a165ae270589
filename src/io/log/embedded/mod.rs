//! The event log in a RocksDB of the same process.
