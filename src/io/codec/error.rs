//! What can be wrong with bytes, with a schema, or with the registry.

use super::registry::RegistryError;
use thiserror::Error;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CodecError {
    #[error("the value is empty")]
    Empty,
    #[error(
        "the first byte is {found:#04x}, not 0: this is not Confluent framing; the producer must write through an Avro serializer"
    )]
    Magic { found: u8 },
    #[error("{len} bytes are too few for a schema id and a datum")]
    ShortFrame { len: usize },
    #[error("no schema has the id {id}: the record is damaged, or its schema was registered elsewhere")]
    UnknownSchema { id: i32 },
    #[error(
        "schema {id} is of a {found}, and the topic carries {wanted}: the producer wrote to the wrong topic or under the wrong id"
    )]
    OtherRecord { id: i32, found: String, wanted: &'static str },
    #[error("schema {id} cannot be used: {detail}")]
    UnusableSchema { id: i32, detail: String },
    #[error("the {record} ends too early for schema {id}: it was cut off, or a length in it is wrong")]
    Truncated { record: &'static str, id: i32 },
    #[error("the {record} does not fit schema {id}: {detail}")]
    Malformed { record: &'static str, id: i32, detail: String },
    #[error("{count} bytes are left over after the {record} of schema {id}")]
    TrailingBytes { record: &'static str, id: i32, count: usize },
    #[error("the {record} cannot be written: {detail}")]
    Unwritable { record: &'static str, detail: String },
    #[error("subject {subject} does not have our schema: run `smartrouter topics apply --execute`")]
    NotRegistered { subject: String },
    #[error("the schema registry does not answer: {0}; the record is fine, try again")]
    RegistryUnavailable(RegistryError),
    #[error("the schema registry refuses: {0}; see [schema_registry] in the configuration")]
    RegistryRefused(RegistryError),
    /// This build's own files do not agree; tests keep it from happening.
    #[error("this build is broken: {detail}")]
    Build { detail: String },
}

impl CodecError {
    /// Whether trying again later, without a human, may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RegistryUnavailable(_))
    }

    /// Whether the bytes are to blame, so that they belong to the dead letters. Otherwise they may be good: keep and try again.
    pub fn blames_record(&self) -> bool {
        match self {
            Self::Empty
            | Self::Magic { .. }
            | Self::ShortFrame { .. }
            | Self::UnknownSchema { .. }
            | Self::OtherRecord { .. }
            | Self::UnusableSchema { .. }
            | Self::Truncated { .. }
            | Self::Malformed { .. }
            | Self::TrailingBytes { .. } => true,
            Self::Unwritable { .. }
            | Self::NotRegistered { .. }
            | Self::RegistryUnavailable(_)
            | Self::RegistryRefused(_)
            | Self::Build { .. } => false,
        }
    }
}

impl From<RegistryError> for CodecError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Unavailable { .. } => Self::RegistryUnavailable(error),
            RegistryError::NotFound { .. } | RegistryError::Refused { .. } | RegistryError::Settings { .. } => {
                Self::RegistryRefused(error)
            }
        }
    }
}
