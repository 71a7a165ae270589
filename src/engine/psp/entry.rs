//! How a book is stored: one entry per tile slot, one per state machine, one for the clock.
//!
//! A key says what an entry is and whose; a tile's key holds its slot, not its time, so that a new tile overwrites the one that left and a
//! store needs no deletions. Values open with a version. Keys and values are postcard: the order of enum variants and fields
//! here, in `SegmentKind`, `HealthState`, `OutageCause`, `Tally`, `Machine`, `Baseline` and `SequentialTest` is the format, held by a test.

use super::baseline::Baseline;
use super::machine::Machine;
use super::sequential::RISES;
use super::watch::Tests;
use crate::domain::learning::Tally;
use crate::domain::psp::Segment;
use crate::domain::{EpochMs, PspId};
use crate::engine::window::{RINGS, StoredTile};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use thiserror::Error;

/// First byte of each value. Version 1 also stored those coarser tiles that the finest ones tell: they are passed over.
const VERSION: u8 = 4;
const VERSIONS_READ: std::ops::RangeInclusive<u8> = 1..=VERSION;
/// From this version on a machine ends with its step on the ramp and its relapses; before, both are zero.
const RAMP_SINCE: u8 = 3;
const BEFORE_THE_RAMP: [u8; 2] = [0, 0];
/// From this version on a machine ends with an operator's order and what was diverted, a tally with what was overdue, and there is a
/// test of silence; before, there was none of these.
const SILENCE_SINCE: u8 = 4;
const BEFORE_ORDERS: [u8; 2] = [0, 0];
const BEFORE_OVERDUE: [u8; 2] = [0, 0];
/// A test that has gathered nothing: four numbers of each arm.
const BEFORE_SILENCE: [u8; 4 * RISES.len()] = [0; 4 * RISES.len()];

/// Stored state that cannot be what this version wrote. The operator is to act: remove the state directory, so that the state is
/// rebuilt from its changelog; should that fail too, the changelog was written by a newer version.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CorruptState {
    #[error("stored PSP state has an unreadable key {key:02x?}: remove the state directory to rebuild it from the changelog")]
    Key { key: Vec<u8> },
    #[error(
        "stored PSP state of {psp_id} has an unreadable value under key {key:02x?}: remove the state directory to rebuild it from the changelog"
    )]
    Value { psp_id: PspId, key: Vec<u8> },
    #[error("stored PSP state of {psp_id} has format {found}, this program reads {VERSION}: start the version that wrote it")]
    Version { psp_id: PspId, found: u8 },
    #[error("stored PSP state of {found} was handed in for {expected}: entries have to be grouped by psp_of_key")]
    OtherPsp { expected: PspId, found: PspId },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    psp_id: PspId,
    part: Part,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Part {
    Clock,
    Machine(Segment),
    Tile { segment: Segment, ring: u8, slot: u8 },
    Tests(Segment),
    Baseline(Segment),
}

/// An entry that was read back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Clock(EpochMs),
    Machine(Segment, Machine),
    Tile { segment: Segment, ring: usize, start: EpochMs, tally: Tally },
    Tests(Segment, Box<Tests>),
    Baseline(Segment, Box<Baseline>),
}

/// Whose entry this is: entries of several PSPs in one store are grouped by this.
pub fn psp_of_key(key: &[u8]) -> Option<PspId> {
    postcard::from_bytes::<Key>(key).ok().map(|key| key.psp_id)
}

pub(super) fn clock(psp_id: &PspId, now: EpochMs) -> (Vec<u8>, Vec<u8>) {
    encode(psp_id, Part::Clock, &now)
}

pub(super) fn machine(psp_id: &PspId, segment: &Segment, machine: &Machine) -> (Vec<u8>, Vec<u8>) {
    encode(psp_id, Part::Machine(segment.clone()), machine)
}

pub(super) fn tests(psp_id: &PspId, segment: &Segment, tests: &Tests) -> (Vec<u8>, Vec<u8>) {
    encode(psp_id, Part::Tests(segment.clone()), tests)
}

pub(super) fn baseline(psp_id: &PspId, segment: &Segment, baseline: &Baseline) -> (Vec<u8>, Vec<u8>) {
    encode(psp_id, Part::Baseline(segment.clone()), baseline)
}

pub(super) fn tile(psp_id: &PspId, segment: &Segment, tile: &StoredTile<'_>) -> (Vec<u8>, Vec<u8>) {
    let part = Part::Tile { segment: segment.clone(), ring: tile.ring as u8, slot: tile.slot as u8 };
    encode(psp_id, part, &(tile.start, tile.tally))
}

fn encode(psp_id: &PspId, part: Part, value: &impl Serialize) -> (Vec<u8>, Vec<u8>) {
    let key = Key { psp_id: psp_id.clone(), part };
    // Writing plain structs to a vector cannot fail; were it to, the empty bytes are refused when read.
    let key = postcard::to_stdvec(&key).unwrap_or_default();
    let value = postcard::to_extend(value, vec![VERSION]).unwrap_or_default();
    (key, value)
}

pub(super) fn decode(expected: &PspId, key: &[u8], value: &[u8]) -> Result<Entry, CorruptState> {
    let Ok(Key { psp_id, part }) = postcard::from_bytes(key) else {
        return Err(CorruptState::Key { key: key.to_vec() });
    };
    if psp_id != *expected {
        return Err(CorruptState::OtherPsp { expected: expected.clone(), found: psp_id });
    }
    let corrupt = || CorruptState::Value { psp_id: psp_id.clone(), key: key.to_vec() };
    let value = match value.split_first() {
        Some((&found, value)) if VERSIONS_READ.contains(&found) => match part {
            Part::Machine(_) if found < RAMP_SINCE => Cow::Owned([value, &BEFORE_THE_RAMP, &BEFORE_ORDERS].concat()),
            Part::Machine(_) if found < SILENCE_SINCE => Cow::Owned([value, &BEFORE_ORDERS].concat()),
            Part::Tile { .. } if found < SILENCE_SINCE => Cow::Owned([value, &BEFORE_OVERDUE].concat()),
            Part::Tests(_) if found < SILENCE_SINCE => Cow::Owned([value, &BEFORE_SILENCE].concat()),
            // Learnt anew from the windows, when the next quarter of an hour begins.
            Part::Baseline(segment) if found < SILENCE_SINCE => return Ok(Entry::Baseline(segment, Box::default())),
            _ => Cow::Borrowed(value),
        },
        Some((&found, _)) => return Err(CorruptState::Version { psp_id, found }),
        None => return Err(corrupt()),
    };
    let value = value.as_ref();
    Ok(match part {
        Part::Clock => Entry::Clock(parse(value).ok_or_else(corrupt)?),
        Part::Machine(segment) => Entry::Machine(segment, parse(value).ok_or_else(corrupt)?),
        Part::Tests(segment) => Entry::Tests(segment, Box::new(parse(value).ok_or_else(corrupt)?)),
        Part::Baseline(segment) => Entry::Baseline(segment, Box::new(parse(value).ok_or_else(corrupt)?)),
        Part::Tile { segment, ring, slot } => {
            let (start, tally): (EpochMs, Tally) = parse(value).ok_or_else(corrupt)?;
            let ring = usize::from(ring);
            let spec = RINGS.get(ring).ok_or_else(corrupt)?;
            if spec.slot_of(spec.index_of(start)) != usize::from(slot) {
                return Err(corrupt());
            }
            Entry::Tile { segment, ring, start, tally }
        }
    })
}

/// The whole of `bytes`, or nothing.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().and_then(|(value, rest)| rest.is_empty().then_some(value))
}
