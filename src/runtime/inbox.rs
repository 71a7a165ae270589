//! From bytes to events: a record becomes something that a task can take, or a dead letter with its reason.

use crate::domain::payment::{PaymentAttempt, PaymentOutcome, RoutingRequest};
use crate::domain::{EpochMs, Validate, written_at};
use crate::io::codec::{Codec, CodecError, Wire};
use crate::io::log::Record;

/// The three inputs of a payment task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    Requests,
    Attempts,
    Outcomes,
}

/// A record that waits for its turn.
pub(super) struct Pending {
    pub input: Input,
    /// Event time, clamped. Absent: the record is no event, and says nothing about time.
    pub at: Option<EpochMs>,
    /// Whether the event time lay in the future and was clamped.
    pub clamped: bool,
    /// As it was read: a dead letter keeps its bytes.
    pub record: Record,
    pub event: InputEvent,
}

pub(super) enum InputEvent {
    Request(Box<RoutingRequest>),
    Attempt(Box<PaymentAttempt>),
    Outcome(Box<PaymentOutcome>),
    /// Cannot be an event, and why.
    Bad(String),
}

/// Decodes and checks a record. A bad one keeps its place in its input.
/// Fails only when the codec cannot tell yet (the schema registry does not answer).
pub(super) fn receive(codec: &Codec, input: Input, record: Record, future_tolerance_ms: i64) -> Result<Pending, CodecError> {
    let event = match input {
        Input::Requests => read::<RoutingRequest>(codec, &record)?.map(|it| (it.requested_at, InputEvent::Request(Box::new(it)))),
        Input::Attempts => read::<PaymentAttempt>(codec, &record)?.map(|it| (it.attempted_at, InputEvent::Attempt(Box::new(it)))),
        Input::Outcomes => read::<PaymentOutcome>(codec, &record)?.map(|it| (it.occurred_at, InputEvent::Outcome(Box::new(it)))),
    };
    let (own_at, mut event) = match event {
        Ok(event) => event,
        Err(reason) => return Ok(Pending { input, at: None, clamped: false, record, event: InputEvent::Bad(reason) }),
    };
    let at = own_at.min(record.timestamp_ms.saturating_add(future_tolerance_ms));
    event.clamp_to(at);
    Ok(Pending { input, at: Some(at), clamped: at < own_at, record, event })
}

/// A record that is not to be looked at: the engine failed on it before.
pub(super) fn unread(input: Input, record: Record) -> Pending {
    Pending {
        input,
        at: None,
        clamped: false,
        record,
        event: InputEvent::Bad("the engine failed on this record; report it".to_owned()),
    }
}

impl InputEvent {
    /// The engine sees the clamped time only: a clock that runs ahead must not pull the windows with it.
    fn clamp_to(&mut self, at: EpochMs) {
        match self {
            Self::Request(request) => request.requested_at = at,
            Self::Attempt(attempt) => attempt.attempted_at = at,
            Self::Outcome(outcome) => outcome.occurred_at = at,
            Self::Bad(_) => {}
        }
    }
}

/// The inner error is the record's fault, the outer one is not.
fn read<T: Wire + Validate>(codec: &Codec, record: &Record) -> Result<Result<T, String>, CodecError> {
    let Some(bytes) = &record.value else { return Ok(Err("the record has no value".to_owned())) };
    // Without a time that can be true there is nothing to hold the event's own time against.
    let in_time = |value| written_at(record.timestamp_ms).map(|()| value).map_err(|invalid| format!("invalid: {invalid}"));
    Ok(decoded(codec, bytes)?.and_then(in_time))
}

/// As `read`, of the bytes alone.
pub(super) fn decoded<T: Wire + Validate>(codec: &Codec, bytes: &[u8]) -> Result<Result<T, String>, CodecError> {
    match codec.decode::<T>(bytes) {
        Ok(value) => Ok(value.validate().map(|()| value).map_err(|invalid| format!("invalid: {invalid}"))),
        Err(error) if error.blames_record() => Ok(Err(format!("cannot be decoded: {error}"))),
        Err(error) => Err(error),
    }
}
