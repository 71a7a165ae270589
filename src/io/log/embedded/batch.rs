//! The bytes of a stored batch: the records that one transaction wrote to one partition, in offset order.
//!
//! Owns the layout, and nothing that knows where a batch lies (`disk`). A batch is one value in RocksDB, so a transaction costs
//! one insert per partition and a read costs one step per batch; the key and value of a record that is read are slices of it.
//! No checksum: RocksDB has one per block.
//!
//! ```text
//! version 1 | base offset i64 | newest timestamp i64 | record …
//! record  = offset − base | timestamp i64 | key? | value? | header count | (name | value?) …
//! numbers = LEB128, fixed ones little endian; a name is its length, then its bytes; x? is 0, or 1 + its length, then its bytes
//! ```

use super::super::{Headers, Record, TopicPartition};
use bytes::Bytes;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 8 + 8;

/// Room for one more record's numbers beside its key, value and headers; rounded up.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// What a stored batch does not hold to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// Written by a version of this program that knows more than we do.
    UnknownVersion(u8),
    /// It ends where a record should go on, a header's name is no UTF-8, or an offset is not one that it can hold.
    Malformed,
}

/// About what `key`, `value` and `headers` need in a batch.
pub(super) fn record_bytes(key: Option<&Bytes>, value: Option<&Bytes>, headers: &Headers) -> usize {
    let headers: usize = headers.iter().map(|(name, value)| 4 + name.len() + value.as_ref().map_or(0, Bytes::len)).sum();
    RECORD_OVERHEAD_BYTES + key.map_or(0, Bytes::len) + value.map_or(0, Bytes::len) + headers
}

/// Builds one batch; offsets are given and grow.
#[derive(Debug)]
pub(super) struct BatchWriter {
    bytes: Vec<u8>,
    base: i64,
    timestamp_ms_max: i64,
}

/// The parts of a record that a batch keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<&'a Bytes>,
    pub(super) value: Option<&'a Bytes>,
    pub(super) headers: &'a Headers,
}

impl BatchWriter {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), base: 0, timestamp_ms_max: i64::MIN }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn push(&mut self, entry: Entry<'_>) {
        let needed = record_bytes(entry.key, entry.value, entry.headers);
        if self.bytes.is_empty() {
            self.bytes.reserve(HEADER_BYTES + needed);
            self.bytes.resize(HEADER_BYTES, 0);
            self.base = entry.offset;
        } else {
            self.bytes.reserve(needed);
        }
        self.timestamp_ms_max = self.timestamp_ms_max.max(entry.timestamp_ms);
        put_number(&mut self.bytes, (entry.offset - self.base) as u64);
        self.bytes.extend_from_slice(&entry.timestamp_ms.to_le_bytes());
        put_optional(&mut self.bytes, entry.key);
        put_optional(&mut self.bytes, entry.value);
        put_number(&mut self.bytes, entry.headers.len() as u64);
        for (name, value) in entry.headers {
            put_number(&mut self.bytes, name.len() as u64);
            self.bytes.extend_from_slice(name.as_bytes());
            put_optional(&mut self.bytes, value.as_ref());
        }
    }

    /// The finished batch; the writer is empty after it and keeps its memory.
    pub(super) fn seal(&mut self, store: impl FnOnce(&[u8])) {
        self.bytes[0] = VERSION;
        self.bytes[1..9].copy_from_slice(&self.base.to_le_bytes());
        self.bytes[9..HEADER_BYTES].copy_from_slice(&self.timestamp_ms_max.to_le_bytes());
        store(&self.bytes);
        self.bytes.clear();
        self.timestamp_ms_max = i64::MIN;
    }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_optional(bytes: &mut Vec<u8>, part: Option<&Bytes>) {
    match part {
        None => bytes.push(0),
        Some(part) => {
            put_number(bytes, part.len() as u64 + 1);
            bytes.extend_from_slice(part);
        }
    }
}

/// The timestamp of a batch's newest record, without reading its records.
pub(super) fn newest_timestamp_ms(batch: &[u8]) -> Result<i64, Damage> {
    check_version(batch)?;
    fixed(batch, 9).ok_or(Damage::Malformed)
}

fn check_version(batch: &[u8]) -> Result<(), Damage> {
    match batch.first() {
        Some(&VERSION) => Ok(()),
        Some(&other) => Err(Damage::UnknownVersion(other)),
        None => Err(Damage::Malformed),
    }
}

fn fixed(bytes: &[u8], from: usize) -> Option<i64> {
    let part = bytes.get(from..)?.get(..8)?;
    Some(i64::from_le_bytes(part.try_into().ok()?))
}

/// Reads the records of one batch, in order.
#[derive(Debug)]
pub(super) struct BatchReader {
    batch: Bytes,
    /// Where the next record begins.
    position: usize,
    base: i64,
}

impl BatchReader {
    pub(super) fn open(batch: Bytes) -> Result<Self, Damage> {
        check_version(&batch)?;
        let base = fixed(&batch, 1).ok_or(Damage::Malformed)?;
        if batch.len() < HEADER_BYTES {
            return Err(Damage::Malformed);
        }
        Ok(Self { batch, position: HEADER_BYTES, base })
    }

    /// The next record, or none behind the last. `at` is told by the caller: a batch does not repeat it.
    pub(super) fn next(&mut self, at: &TopicPartition) -> Result<Option<Record>, Damage> {
        if self.position == self.batch.len() {
            return Ok(None);
        }
        self.record(at).map(Some)
    }

    fn record(&mut self, at: &TopicPartition) -> Result<Record, Damage> {
        let offset = self.base.checked_add(self.number()?.cast_signed()).ok_or(Damage::Malformed)?;
        let timestamp_ms = fixed(&self.batch, self.position).ok_or(Damage::Malformed)?;
        self.position += 8;
        let key = self.optional()?;
        let value = self.optional()?;
        let header_count = self.number()?;
        let mut headers = Headers::new();
        for _ in 0..header_count {
            let len = self.number()? as usize;
            let name = self.slice(len)?;
            let name = std::str::from_utf8(&name).map_err(|_| Damage::Malformed)?.to_owned();
            headers.push((name, self.optional()?));
        }
        Ok(Record { at: at.clone(), offset, timestamp_ms, key, value, headers })
    }

    fn number(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.batch.get(self.position).ok_or(Damage::Malformed)?;
            self.position += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damage::Malformed)
    }

    fn optional(&mut self) -> Result<Option<Bytes>, Damage> {
        match self.number()? {
            0 => Ok(None),
            len => self.slice(len as usize - 1).map(Some),
        }
    }

    fn slice(&mut self, len: usize) -> Result<Bytes, Damage> {
        let end = self.position.checked_add(len).filter(|&end| end <= self.batch.len()).ok_or(Damage::Malformed)?;
        let part = self.batch.slice(self.position..end);
        self.position = end;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::{BatchReader, BatchWriter, Damage, Entry, newest_timestamp_ms};
    use crate::io::log::{Headers, Record, TopicPartition};
    use bytes::Bytes;

    fn record(offset: i64, timestamp_ms: i64, key: Option<&'static str>, value: Option<&'static str>) -> Record {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let at = TopicPartition::new("t", 3);
        Record { at, offset, timestamp_ms, key: key.map(bytes), value: value.map(bytes), headers: vec![] }
    }

    fn records() -> Vec<Record> {
        let first = 1 << 40;
        let headers = vec![("a".into(), None), ("é".into(), Some(Bytes::new())), ("b".into(), Some(Bytes::from_static(b"x")))];
        vec![
            record(first, 1_546_300_800_000, Some("key"), Some("value")),
            Record { headers, ..record(first + 1, -5, None, None) },
            record(first + 700, 0, Some(""), Some("")),
            Record { value: Some(Bytes::from(vec![7; 300_000])), ..record(first + 701, 7, Some("k"), None) },
        ]
    }

    fn encode(records: &[Record]) -> Bytes {
        let mut writer = BatchWriter::new();
        for record in records {
            writer.push(Entry {
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_ref(),
                value: record.value.as_ref(),
                headers: &record.headers,
            });
        }
        let mut sealed = Bytes::new();
        writer.seal(|batch| sealed = Bytes::copy_from_slice(batch));
        assert!(writer.is_empty());
        sealed
    }

    fn decode(batch: Bytes) -> Result<Vec<Record>, Damage> {
        let at = TopicPartition::new("t", 3);
        let mut reader = BatchReader::open(batch)?;
        let mut records = Vec::new();
        while let Some(record) = reader.next(&at)? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn what_goes_in_comes_out() {
        let records = records();
        let batch = encode(&records);
        assert_eq!(newest_timestamp_ms(&batch), Ok(1_546_300_800_000));
        assert_eq!(decode(batch), Ok(records));
    }

    #[test]
    fn a_writer_can_be_used_again() {
        let records = records();
        let mut writer = BatchWriter::new();
        let headers = Headers::new();
        let entry = |offset, timestamp_ms| Entry { offset, timestamp_ms, key: None, value: None, headers: &headers };
        writer.push(entry(0, 9_000));
        writer.seal(|_| ());
        writer.push(entry(5, 10));
        writer.seal(|batch| {
            assert_eq!(newest_timestamp_ms(batch), Ok(10));
            assert_eq!(decode(Bytes::copy_from_slice(batch)).map(|read| read[0].offset), Ok(5));
        });
        assert_eq!(decode(encode(&records[..1])).map(|read| read.len()), Ok(1));
    }

    #[test]
    fn a_batch_that_is_cut_is_refused_not_misread() {
        let records = &records()[..3];
        let batch = encode(records);
        for len in 0..batch.len() {
            let Ok(read) = decode(batch.slice(..len)) else { continue };
            // A cut between two records is not seen here (RocksDB stores a value whole); what is read must still be right.
            assert!(read.len() < records.len() && read == records[..read.len()], "cut at {len}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut batch = encode(&records()[..1]).to_vec();
        batch[0] = 9;
        assert_eq!(decode(batch.into()), Err(Damage::UnknownVersion(9)));
    }
}
