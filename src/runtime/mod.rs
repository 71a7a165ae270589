//! (being written)

pub mod status;
