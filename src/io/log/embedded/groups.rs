//! Who may read and write for a consumer group: of its members the newest one has all partitions.
//!
//! Owns terms: a member works under the term that it was assigned, and a commit under another term is refused.
//! Terms live in memory only, for RocksDB's lock keeps every other process out: after a restart no older member can be alive.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A member's place in its group, seen by the member without a lock.
#[derive(Debug)]
pub(super) struct Seat {
    term: AtomicU64,
}

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Another member has the partitions.
    Standby,
    /// All partitions are this member's; the number grows with every change of owner.
    Active(u64),
    /// A newer member runs under the same instance: this one is out for good.
    Fenced,
}

const STANDBY: u64 = 0;
const FENCED: u64 = u64::MAX;

impl Seat {
    pub(super) fn standing(&self) -> Standing {
        match self.term.load(Ordering::Acquire) {
            STANDBY => Standing::Standby,
            FENCED => Standing::Fenced,
            term => Standing::Active(term),
        }
    }

    fn set(&self, term: u64) {
        self.term.store(term, Ordering::Release);
    }
}

/// The members of all groups, each group's in the order in which they came: the last one is active.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: HashMap<String, Vec<(String, Arc<Seat>)>>,
    term_last: u64,
}

impl Groups {
    pub(super) fn join(&mut self, group: &str, instance: &str) -> Arc<Seat> {
        self.term_last += 1;
        let seat = Arc::new(Seat { term: AtomicU64::new(self.term_last) });
        let members = self.members.entry(group.to_owned()).or_default();
        members.retain(|(other, seat)| {
            let fenced = other == instance;
            seat.set(if fenced { FENCED } else { STANDBY });
            !fenced
        });
        members.push((instance.to_owned(), Arc::clone(&seat)));
        seat
    }

    /// The member goes; if it was active, the one that came before it is active again.
    pub(super) fn leave(&mut self, group: &str, leaving: &Arc<Seat>) {
        let Some(members) = self.members.get_mut(group) else { return };
        let active = members.last().is_some_and(|(_, seat)| Arc::ptr_eq(seat, leaving));
        members.retain(|(_, seat)| !Arc::ptr_eq(seat, leaving));
        if leaving.standing() != Standing::Fenced {
            leaving.set(STANDBY);
        }
        match members.last() {
            None => {
                self.members.remove(group);
            }
            Some((_, successor)) if active => {
                self.term_last += 1;
                successor.set(self.term_last);
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Active, Fenced, Standby};
    use super::{Groups, Seat, Standing};
    use std::sync::Arc;

    #[test]
    fn the_newest_member_is_active() {
        let mut groups = Groups::default();
        let standings = |seats: [&Arc<Seat>; 3]| seats.map(|seat| seat.standing());
        let a = groups.join("g", "a");
        let other = groups.join("h", "a");
        let b = groups.join("g", "b");
        assert_eq!(
            standings([&a, &b, &other]),
            [Standby, Active(3), Active(2)],
            "another instance waits, another group is apart"
        );
        let b2 = groups.join("g", "b");
        assert_eq!(standings([&a, &b, &b2]), [Standby, Fenced, Active(4)], "the same instance is fenced");
        groups.leave("g", &b);
        assert_eq!(standings([&a, &b, &b2]), [Standby, Fenced, Active(4)], "a fenced member's end changes nothing");
        groups.leave("g", &b2);
        assert_eq!(standings([&a, &b, &b2]), [Active(5), Fenced, Standby], "the one before takes over, under a new term");
        groups.leave("g", &a);
        groups.leave("g", &a);
        assert_eq!(a.standing(), Standing::Standby);
    }
}
