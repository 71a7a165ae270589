//! Counts over many payments, by property and PSP: what features know beyond a payment and its customer.
//!
//! Owns when they move on. Results are held back until time has passed a whole multiple of `count_every_seconds`, then counted in an
//! order that depends on nothing but themselves: so whoever counts the same results, in a task or from a file, has the same numbers
//! at the same time, to the last bit. Whoever counts for others (`runtime::profiles`) takes a step in pieces, and keeps of each key up
//! to when it counts: a count that was kept is not made twice, though its results are handed in again.

use super::catalogue::HistorySettings;
use super::key::{Key, KeyHashing};
use super::state::{HalfLives, Moments, Standing, Told};
use crate::domain::EpochMs;
use std::collections::{BTreeMap, HashMap, VecDeque};

#[derive(Clone, Debug)]
pub struct Counts {
    half_lives: HalfLives,
    retention_ms: i64,
    entities_max: usize,
    by_key: HashMap<Key, Counted, KeyHashing>,
    swept_at: EpochMs,
    every_ms: i64,
    /// By the time at which they are due.
    open: BTreeMap<EpochMs, Vec<Told>>,
    /// Those of the step that is being counted, in order.
    due: VecDeque<Told>,
    /// When these are due.
    step: EpochMs,
    /// Up to when results are counted, or are being counted.
    counted_to: EpochMs,
    /// Changed since `take_changed`, in the order of their first change.
    changed: VecDeque<Key>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    standing: Standing,
    /// Up to when results are in it.
    as_of: EpochMs,
    is_changed: bool,
}

impl Counts {
    pub fn new(settings: &HistorySettings) -> Self {
        Self {
            half_lives: settings.half_lives(),
            retention_ms: settings.retention_ms(),
            entities_max: settings.entities_max,
            by_key: HashMap::default(),
            swept_at: EpochMs::MIN,
            every_ms: settings.count_every_seconds * 1_000,
            open: BTreeMap::new(),
            due: VecDeque::new(),
            step: EpochMs::MIN,
            counted_to: EpochMs::MIN,
            changed: VecDeque::new(),
        }
    }

    /// A count as it was kept.
    pub fn restore(&mut self, key: Key, standing: Standing, as_of: EpochMs) {
        self.by_key.insert(key, Counted { standing, as_of, is_changed: false });
        self.counted_to = self.counted_to.max(as_of);
    }

    /// Takes a result, and says when it is due: at the end of its step, or of the next one where that has passed.
    pub fn tell(&mut self, told: Told) -> EpochMs {
        let step_end = (told.at.div_euclid(self.every_ms) + 1) * self.every_ms;
        let due_at = if step_end > self.counted_to { step_end } else { self.counted_to + self.every_ms };
        self.tell_again(told, due_at);
        due_at
    }

    /// A result as it was kept, that is due then.
    pub fn tell_again(&mut self, told: Told, due_at: EpochMs) {
        self.open.entry(due_at).or_default().push(told);
    }

    /// The next step up to `to` is to be counted, unless one still is. Tells whether there is any.
    pub fn begin(&mut self, to: EpochMs) -> bool {
        let Some(step) =
            self.open.first_entry().filter(|step| *step.key() <= to && self.due.is_empty() && self.changed.is_empty())
        else {
            return false;
        };
        let (due_at, mut due) = step.remove_entry();
        due.sort_unstable_by(|a, b| {
            let place = |told: &Told| (told.at, told.psp, told.traits, told.approved);
            place(a).cmp(&place(b)).then(a.amount_log.total_cmp(&b.amount_log))
        });
        (self.due, self.step, self.counted_to) = (due.into(), due_at, self.counted_to.max(due_at));
        true
    }

    /// Counts at most so many results. Tells whether all that are due are counted.
    pub fn count(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(told) = self.due.pop_front() else { break };
            let moments = self.half_lives.at(told.at);
            for key in told.traits.keys(told.psp) {
                self.add(key, &told, moments);
            }
        }
        self.due.is_empty()
    }

    fn add(&mut self, key: Key, told: &Told, moments: Moments) {
        if self.by_key.len() >= self.entities_max && !self.by_key.contains_key(&key) {
            return;
        }
        let fresh = Counted { standing: Standing::default(), as_of: EpochMs::MIN, is_changed: false };
        let counted = self.by_key.entry(key).or_insert(fresh);
        // It was kept before the results of this step could be forgotten.
        if self.step <= counted.as_of {
            return;
        }
        if !std::mem::replace(&mut counted.is_changed, true) {
            self.changed.push_back(key);
        }
        counted.standing.add(told, moments);
    }

    /// The next count that changed, with the time up to which it counts. To be called when all that is due is counted.
    pub fn take_changed(&mut self) -> Option<(Key, Standing, EpochMs)> {
        while let Some(key) = self.changed.pop_front() {
            if let Some(counted) = self.by_key.get_mut(&key) {
                (counted.is_changed, counted.as_of) = (false, self.step);
                return Some((key, counted.standing, counted.as_of));
            }
        }
        None
    }

    /// Nothing is being counted, nor is to be taken.
    pub fn is_done(&self) -> bool {
        self.due.is_empty() && self.changed.is_empty()
    }

    /// Forgets what had no news for the retention, and tells what. To be called when nothing is being counted; it looks through
    /// everything, so seldom: sixteen times in a retention, and when there is no room left.
    pub fn sweep(&mut self, now: EpochMs) -> Vec<Key> {
        let pause_ms = if self.by_key.len() >= self.entities_max { self.retention_ms / 256 } else { self.retention_ms / 16 };
        if now.saturating_sub(self.swept_at) < pause_ms {
            return Vec::new();
        }
        self.swept_at = now;
        let oldest = now.saturating_sub(self.retention_ms);
        let mut gone = Vec::new();
        self.by_key.retain(|key, counted| {
            let stays = counted.standing.last_at() >= oldest;
            if !stays {
                gone.push(*key);
            }
            stays
        });
        gone.sort_unstable();
        gone
    }

    pub fn get(&self, key: Key) -> Option<Standing> {
        self.by_key.get(&key).map(|counted| counted.standing)
    }

    /// Up to when results are counted: those that were due by then are of no more use.
    pub fn counted_to(&self) -> EpochMs {
        self.counted_to
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}
