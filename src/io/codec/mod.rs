//! The wire format: Confluent framing (byte 0, schema id as 4 bytes big endian) around an Avro datum, straight into domain structs.
//!
//! Owns the schemas of `schemas/`, their ids, the registry client, and one cached reader per writer schema. Never checks what a
//! record says (`domain::Validate` does), never sees a topic or an offset, and never retries: an error says whether the bytes are
//! to blame or the registry. Neighbours: `runtime` calls it for each record; `domain` has the structs.
//!
//! `serde_avro_fast` reads and writes; apache-avro judges compatibility (`evolution`). Measured by `benches/codec.rs` in the dev
//! profile (generic code at opt-level 1) on two busy cores, least of four runs, framing and look-up of the schema included:
//!
//! | record | encode | apache-avro, direct serde | decode | apache-avro, direct serde |
//! |---|---|---|---|---|
//! | `payment_attempt`, 188 bytes | 2.1 µs | 4.6 µs | 2.8 µs | 3.1 µs |
//! | `payment_outcome`, 98 bytes | 0.60 µs | 1.05 µs | 0.78 µs | 0.88 µs |
//!
//! apache-avro 0.22 reads from a stream, so a length is allocated before it is known to be there, and its direct path cannot
//! resolve schemas either.
//!
//! Bytes are hostile: a datum is read from its slice, so no length in it can allocate more than the slice holds, and no list can be
//! longer than the datum.

mod error;
mod evolution;
mod kinds;
mod registry;
mod writer_schema;

pub use error::CodecError;
pub use evolution::{Incompatible, full_transitive};
pub use kinds::{Published, RecordKind, Wire};
pub use registry::{Registry, RegistryError, RegistrySettings};

use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};
use serde_avro_fast::ser::SerializerConfig;
use std::collections::HashMap;
use std::io::BufRead;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use writer_schema::WriterSchema;

/// How long an id that the registry does not know is not asked for again.
const UNKNOWN_ID_KEPT: Duration = Duration::from_secs(30);
/// Bounds what a stream of made-up ids can occupy.
const UNKNOWN_IDS_MAX: usize = 1_000;

/// Encodes and decodes records. Clones share one cache; threads share clones.
#[derive(Clone)]
pub struct Codec(Arc<Shared>);

struct Shared {
    /// In the order of `RecordKind`.
    own: Vec<OwnSchema>,
    readers: RwLock<HashMap<i32, Arc<WriterSchema>>>,
    registry: Option<RegistryView>,
}

struct OwnSchema {
    schema: serde_avro_fast::Schema,
    /// Set at once without a registry, at the first use with one.
    id: OnceLock<i32>,
}

struct RegistryView {
    registry: Registry,
    topic_prefix: String,
    /// Ids that the registry did not know, and when it said so. Held while asking, so that an id is asked for once.
    unknown: Mutex<HashMap<i32, Instant>>,
}

/// How our schema of a kind stands with its subject in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub kind: RecordKind,
    pub subject: String,
    /// Absent: not registered.
    pub id: Option<i32>,
    /// Whether it is, or may be, registered.
    pub compatible: bool,
}

impl Codec {
    /// Ids from `schemas/ids.toml`, for a log without a registry. Knows every version that was ever published.
    pub fn from_ids() -> Result<Self, CodecError> {
        let codec = Self::new(None)?;
        for (kind, id) in kinds::embedded_ids()? {
            let _ = codec.own(kind).id.set(id);
            for published in kind.published() {
                codec.add_writer(published.id, published.schema)?;
            }
        }
        Ok(codec)
    }

    /// Ids from a registry, subjects behind `topic_prefix`. Does not connect yet; see `warm_up`. Not for async threads.
    pub fn with_registry(settings: &RegistrySettings, topic_prefix: &str) -> Result<Self, CodecError> {
        let registry = Registry::new(settings)?;
        Self::new(Some(RegistryView { registry, topic_prefix: topic_prefix.to_owned(), unknown: Mutex::default() }))
    }

    fn new(registry: Option<RegistryView>) -> Result<Self, CodecError> {
        let own = RecordKind::all().map(|kind| {
            let broken = |error| CodecError::Build { detail: format!("schemas/{}.avsc: {error}", kind.file()) };
            Ok(OwnSchema { schema: kind.schema().parse().map_err(broken)?, id: OnceLock::new() })
        });
        let own = own.collect::<Result<_, CodecError>>()?;
        Ok(Self(Arc::new(Shared { own, readers: RwLock::default(), registry })))
    }

    /// Appends the framed record to `out`; leaves `out` as it was on an error.
    pub fn encode<T: Wire>(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let id = self.id(T::KIND)?;
        let start = out.len();
        out.push(0);
        out.extend_from_slice(&id.to_be_bytes());
        let mut config = SerializerConfig::new(&self.own(T::KIND).schema);
        if let Err(error) = serde_avro_fast::to_datum(value, &mut *out, &mut config) {
            out.truncate(start);
            return Err(CodecError::Unwritable { record: T::KIND.record(), detail: error.to_string() });
        }
        Ok(())
    }

    pub fn decode<T: Wire>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        let (id, datum) = unframe(bytes)?;
        let writer = self.writer(id)?;
        if writer.kind != Some(T::KIND) {
            return Err(CodecError::OtherRecord { id, found: writer.record.clone(), wanted: T::KIND.record() });
        }
        read_datum(&writer, datum)
    }

    /// Makes the schema known as that of `id`. A schema that is known under the id already stays.
    pub fn add_writer(&self, id: i32, schema: &str) -> Result<(), CodecError> {
        self.keep(WriterSchema::parse(id, schema)?);
        Ok(())
    }

    /// The id under which records of the kind are written; with a registry, asks for it at the first call.
    pub fn id(&self, kind: RecordKind) -> Result<i32, CodecError> {
        let own = self.own(kind);
        if let Some(id) = own.id.get() {
            return Ok(*id);
        }
        let Some(view) = &self.0.registry else {
            return Err(CodecError::Build { detail: format!("no id for {}", kind.record()) });
        };
        let subject = kind.subject(&view.topic_prefix);
        let id = view.registry.id_of(&subject, kind.schema())?.ok_or(CodecError::NotRegistered { subject })?;
        Ok(*own.id.get_or_init(|| id))
    }

    /// Fetches the ids of the kinds now rather than at their first record: a registry that is not there, or does not have our
    /// schemas, then shows at the start.
    pub fn warm_up(&self, kinds: &[RecordKind]) -> Result<(), CodecError> {
        kinds.iter().try_for_each(|&kind| self.id(kind).map(|_| ()))
    }

    /// How each of our schemas stands with the registry; empty without one.
    pub fn registrations(&self) -> Result<Vec<Registration>, CodecError> {
        let Some(view) = &self.0.registry else { return Ok(Vec::new()) };
        let of_kind = |kind: RecordKind| {
            let subject = kind.subject(&view.topic_prefix);
            let id = view.registry.id_of(&subject, kind.schema())?;
            let compatible = id.is_some() || view.registry.is_compatible(&subject, kind.schema())?;
            Ok(Registration { kind, subject, id, compatible })
        };
        RecordKind::all().map(of_kind).collect()
    }

    /// Registers our schema of the kind (`topics apply`); one that is there keeps its id. Without a registry, only tells the id.
    pub fn register(&self, kind: RecordKind) -> Result<i32, CodecError> {
        let Some(view) = &self.0.registry else { return self.id(kind) };
        let id = view.registry.register(&kind.subject(&view.topic_prefix), kind.schema())?;
        Ok(*self.own(kind).id.get_or_init(|| id))
    }

    fn own(&self, kind: RecordKind) -> &OwnSchema {
        &self.0.own[kind as usize]
    }

    fn writer(&self, id: i32) -> Result<Arc<WriterSchema>, CodecError> {
        if let Some(known) = self.known(id) {
            return Ok(known);
        }
        let Some(view) = &self.0.registry else { return Err(CodecError::UnknownSchema { id }) };
        let mut unknown = view.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.known(id) {
            return Ok(known);
        }
        if unknown.get(&id).is_some_and(|asked| asked.elapsed() < UNKNOWN_ID_KEPT) {
            return Err(CodecError::UnknownSchema { id });
        }
        match view.registry.schema(id) {
            Ok(text) => Ok(self.keep(WriterSchema::parse(id, &text)?)),
            Err(RegistryError::NotFound { .. }) => {
                if unknown.len() >= UNKNOWN_IDS_MAX {
                    unknown.clear();
                }
                unknown.insert(id, Instant::now());
                Err(CodecError::UnknownSchema { id })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn known(&self, id: i32) -> Option<Arc<WriterSchema>> {
        self.0.readers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn keep(&self, writer: WriterSchema) -> Arc<WriterSchema> {
        let mut readers = self.0.readers.write().unwrap_or_else(PoisonError::into_inner);
        readers.entry(writer.id).or_insert_with(|| Arc::new(writer)).clone()
    }
}

fn unframe(bytes: &[u8]) -> Result<(i32, &[u8]), CodecError> {
    match bytes {
        [] => Err(CodecError::Empty),
        [0, a, b, c, d, datum @ ..] => Ok((i32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [0, ..] => Err(CodecError::ShortFrame { len: bytes.len() }),
        [found, ..] => Err(CodecError::Magic { found: *found }),
    }
}

fn read_datum<T: Wire>(writer: &WriterSchema, datum: &[u8]) -> Result<T, CodecError> {
    let (record, id) = (T::KIND.record(), writer.id);
    let mut config = DeserializerConfig::new(&writer.schema);
    config.max_seq_size = datum.len();
    let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
    let value = T::deserialize(state.deserializer()).map_err(|error| {
        // The reader does not type its errors; these are its three texts for a slice that is too short, held by a test.
        let detail = error.to_string();
        let cut = error.io_error().is_some() || detail.starts_with("Unexpected end of slice") || detail.contains("Reached EOF");
        if cut { CodecError::Truncated { record, id } } else { CodecError::Malformed { record, id, detail } }
    })?;
    match state.into_reader().fill_buf() {
        Ok([]) => Ok(value),
        Ok(rest) => Err(CodecError::TrailingBytes { record, id, count: rest.len() }),
        Err(error) => Err(CodecError::Malformed { record, id, detail: error.to_string() }),
    }
}

#[cfg(test)]
mod tests;
