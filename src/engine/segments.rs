//! Which segments of a PSP a payment belongs to.

use crate::domain::payment::Payment;
use crate::domain::psp::{Segment, SegmentKind};

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
