//! Which segments of a PSP a payment belongs to: how its traffic is cut.

use crate::domain::payment::Payment;
use crate::domain::psp::{Segment, SegmentKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};

/// By one property, or by two of them together. Written `BRAND`, or `BRAND+ISSUER_COUNTRY`: segments of that are of the kind `PAIR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    by: SegmentKind,
    and: Option<SegmentKind>,
}

/// Between the values of a pair.
const JOINED_BY: char = '+';

impl Cut {
    pub const fn pair(by: SegmentKind, and: SegmentKind) -> Self {
        Self { by, and: Some(and) }
    }

    pub fn is_pair(self) -> bool {
        self.and.is_some()
    }

    /// The kind of its segments.
    pub fn kind(self) -> SegmentKind {
        if self.is_pair() { SegmentKind::Pair } else { self.by }
    }

    /// The payment's values; none when it lacks one.
    fn values(self, payment: &Payment) -> Option<[&str; 2]> {
        let second = self.and.map_or(Some(""), |kind| segment_value(payment, kind))?;
        Some([segment_value(payment, self.by)?, second])
    }

    fn segment(self, payment: &Payment) -> Option<Segment> {
        let [first, second] = self.values(payment)?;
        let value = if self.is_pair() { format!("{first}{JOINED_BY}{second}") } else { first.to_owned() };
        Some(Segment { kind: self.kind(), value })
    }
}

impl From<SegmentKind> for Cut {
    fn from(by: SegmentKind) -> Self {
        Self { by, and: None }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.by.as_str())?;
        self.and.map_or(Ok(()), |and| write!(f, "{JOINED_BY}{}", and.as_str()))
    }
}

impl Serialize for Cut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = |name: &str| SegmentKind::EVERY.into_iter().find(|kind| kind.is_property() && kind.as_str() == name);
        let cut = match text.split_once(JOINED_BY) {
            None => known(&text).map(Self::from),
            Some((by, and)) => known(by).zip(known(and)).filter(|(by, and)| by != and).map(|(by, and)| Self::pair(by, and)),
        };
        let wanted = "BRAND, CURRENCY, METHOD, SUB_METHOD, ISSUER_COUNTRY, MERCHANT, or two of these joined by +";
        cut.ok_or_else(|| serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &wanted))
    }
}

/// `ALL`, then one segment for each of `cuts` for which the payment has its values.
pub fn segments_of(payment: &Payment, cuts: &[Cut]) -> Vec<Segment> {
    let mut segments = vec![Segment::all()];
    segments.extend(cuts.iter().filter_map(|cut| cut.segment(payment)));
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

/// `ALL`, each property, and one pair.
const SEGMENTS_MAX: usize = 8;
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
    pub fn of(payment: &Payment, cuts: &[Cut]) -> Self {
        let mut set = Self { text: String::with_capacity(TEXT_BYTES), ..Self::all() };
        for &cut in cuts {
            match cut.values(payment) {
                Some([first, second]) if cut.is_pair() => {
                    set.text.push_str(first);
                    set.text.push(JOINED_BY);
                    set.push(SegmentKind::Pair, second);
                }
                Some([value, _]) => set.push(cut.by, value),
                None => {}
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
    fn cuts_are_written_as_they_are_read() {
        let check = |text: &str, reads: bool| {
            let cut: Result<Cut, _> = serde_json::from_value(serde_json::json!(text));
            assert_eq!(cut.map(|cut| cut.to_string()).ok().as_deref(), reads.then_some(text), "{text:?}");
        };
        for text in ["BRAND", "SUB_METHOD", "BRAND+ISSUER_COUNTRY"] {
            check(text, true);
        }
        for text in ["ALL", "PAIR", "UNKNOWN", "", "+", "BRAND+", "BRAND+BRAND", "BRAND+CURRENCY+METHOD", "brand"] {
            check(text, false);
        }
    }

    #[test]
    fn the_same_text_under_other_kinds_is_another_set() {
        let visa = set(&[(SegmentKind::Brand, "VISA"), (SegmentKind::Currency, "MXN")]);
        assert_ne!(visa, set(&[(SegmentKind::Brand, "VISAMXN")]));
        assert_ne!(visa, set(&[(SegmentKind::Brand, "VISA"), (SegmentKind::Method, "MXN")]));
    }
}
