//! The port of the arena: what a policy is asked, what it is told, and what it says.

use super::world::{Offer, PSPS};
use crate::domain::EpochMs;
use crate::domain::psp::Segment;
use crate::sim::reality::Answer;

/// A payment that is to be sent somewhere.
pub(super) struct Ask<'a> {
    pub(super) offer: &'a Offer,
    /// The true chances of this moment: for the oracle, and nobody else.
    pub(super) chances: &'a [f64; PSPS],
}

/// Where it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) seat: usize,
    /// PSPs that are left out for the state that they are in, one bit each. What is merely ranked lower is not left out.
    pub(super) avoided: u8,
    /// Sent there to see whether a PSP that was left out is back.
    pub(super) probe: bool,
}

/// A result, when it is known.
pub(super) struct Known<'a> {
    pub(super) number: u64,
    pub(super) seat: usize,
    pub(super) at: EpochMs,
    pub(super) answer: &'a Answer,
}

/// The policy says that something is wrong with a PSP, or with a part of its traffic.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alarm {
    pub(super) seat: usize,
    pub(super) segment: Segment,
    pub(super) at: EpochMs,
}

impl Alarm {
    pub(super) fn of_all(seat: usize, at: EpochMs) -> Self {
        Self { seat, segment: Segment::all(), at }
    }
}

/// A way to route. Told of everything in the order of event time.
pub(super) trait Policy {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick;

    /// A payment was sent to a PSP, by this policy or, in the history, by somebody else.
    fn sent(&mut self, _offer: &Offer, _seat: usize) {}

    fn learn(&mut self, known: &Known<'_>);

    /// Alarms since the last call. A policy without states has none.
    fn alarms(&mut self) -> Vec<Alarm> {
        Vec::new()
    }

    /// The same policy with the same knowledge.
    fn fork(&self) -> Box<dyn Policy>;
}

/// The first of an order that is not out; when all are, `otherwise`, and nobody is avoided.
pub(super) fn first_of(order: &[usize; PSPS], out: [bool; PSPS], otherwise: usize) -> Pick {
    let Some(seat) = order.iter().copied().find(|&seat| !out[seat]) else {
        return Pick { seat: otherwise, ..Pick::default() };
    };
    let avoided = (0..PSPS).filter(|&seat| out[seat]).fold(0, |bits, seat| bits | 1 << seat);
    Pick { seat, avoided, probe: false }
}
