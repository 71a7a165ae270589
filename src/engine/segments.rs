//! Which segments of a PSP a payment belongs to.

use crate::domain::payment::Payment;
use crate::domain::psp::{Segment, SegmentKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::hash::{Hash, Hasher};

/// `ALL`, then one segment for each of `kinds` for which the payment has a value.
pub fn segments_of(payment: &Payment, kinds: &[SegmentKind]) -> Vec<Segment> {
    let mut segments = vec![Segment::all()];
    segments.extend(
        kinds.iter().filter_map(|&kind| segment_value(payment, kind).map(|value| Segment { kind, value: value.to_owned() })),
    );
    segments
}

fn segment_value(payment: &Payment, kind: SegmentKind) -> Option<&str> {
    let value = match kind {
        SegmentKind::Brand => &payment.card.brand,
        SegmentKind::Currency => &payment.currency,
        SegmentKind::Method => &payment.method,
        SegmentKind::SubMethod => payment.sub_method.as_deref()?,
        SegmentKind::IssuerCountry => payment.card.issuer_country.as_deref()?,
        SegmentKind::Merchant => &payment.merchant_id,
        SegmentKind::Unknown | SegmentKind::All | SegmentKind::Pair => return None,
    };
    (!value.is_empty()).then_some(value)
}

/// As many kinds as a payment can have a value for, and `ALL`.
const SEGMENTS_MAX: usize = 7;
/// Room for the values of a usual payment.
const TEXT_BYTES: usize = 48;

/// What `segments_of` tells, in one allocation: every attempt has one until it is counted, and few are ever taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentSet {
    /// The values, one behind the other.
    text: String,
    /// Each segment's kind and where its value ends in `text`; `Unknown` behind the last.
    ends: [(SegmentKind, u32); SEGMENTS_MAX],
}

/// A segment as it lies in a set; stored like a `Segment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentRef<'a> {
    pub kind: SegmentKind,
    pub value: &'a str,
}

impl SegmentRef<'_> {
    pub fn to_segment(self) -> Segment {
        Segment { kind: self.kind, value: self.value.to_owned() }
    }
}

impl SegmentSet {
    pub fn of(payment: &Payment, kinds: &[SegmentKind]) -> Self {
        let mut set = Self { text: String::with_capacity(TEXT_BYTES), ..Self::all() };
        for &kind in kinds {
            if let Some(value) = segment_value(payment, kind) {
                set.push(kind, value);
            }
        }
        set
    }

    /// `ALL` alone.
    pub fn all() -> Self {
        let mut set = Self::default();
        set.push(SegmentKind::All, "");
        set
    }

    fn push(&mut self, kind: SegmentKind, value: &str) {
        if let Some(free) = self.ends.iter_mut().find(|(known, _)| *known == SegmentKind::Unknown) {
            self.text.push_str(value);
            *free = (kind, self.text.len() as u32);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = SegmentRef<'_>> {
        let mut from = 0;
        self.ends.iter().take_while(|(kind, _)| *kind != SegmentKind::Unknown).map(move |&(kind, end)| {
            let value = self.text.get(from..end as usize).unwrap_or_default();
            from = end as usize;
            SegmentRef { kind, value }
        })
    }
}

/// The values tell sets apart well enough.
impl Hash for SegmentSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Serialize for SegmentSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let segments: Vec<SegmentRef<'_>> = self.iter().collect();
        segments.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SegmentSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut set = Self::default();
        for segment in Vec::<Segment>::deserialize(deserializer)? {
            set.push(segment.kind, &segment.value);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(segments: &[(SegmentKind, &str)]) -> SegmentSet {
        let mut set = SegmentSet::default();
        for &(kind, value) in segments {
            set.push(kind, value);
        }
        set
    }

    #[test]
    fn a_set_is_stored_as_the_list_of_its_segments() {
        let rows: [&[(SegmentKind, &str)]; 4] = [
            &[],
            &[(SegmentKind::All, "")],
            &[(SegmentKind::All, ""), (SegmentKind::Brand, "VISA"), (SegmentKind::IssuerCountry, "MX")],
            &[(SegmentKind::All, ""), (SegmentKind::Brand, "VIS"), (SegmentKind::Merchant, "AMÉ")],
        ];
        for row in rows {
            let set = set(row);
            let list: Vec<Segment> = set.iter().map(SegmentRef::to_segment).collect();
            let told: Vec<(SegmentKind, &str)> = list.iter().map(|segment| (segment.kind, segment.value.as_str())).collect();
            assert_eq!(told, row);
            let bytes = postcard::to_stdvec(&set).unwrap();
            assert_eq!(bytes, postcard::to_stdvec(&list).unwrap(), "{row:?}");
            assert_eq!(postcard::from_bytes::<SegmentSet>(&bytes).unwrap(), set);
        }
    }

    #[test]
    fn the_same_text_under_other_kinds_is_another_set() {
        let visa = set(&[(SegmentKind::Brand, "VISA"), (SegmentKind::Currency, "MXN")]);
        assert_ne!(visa, set(&[(SegmentKind::Brand, "VISAMXN")]));
        assert_ne!(visa, set(&[(SegmentKind::Brand, "VISA"), (SegmentKind::Method, "MXN")]));
    }
}
