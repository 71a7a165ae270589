//! The words of an alert: plain text without markup, free of control characters, so that no record can forge a line.

use super::AlertRules;
use crate::domain::alert::{Change, ChangeKind};
use crate::domain::psp::{HealthState, OutageCause, PspOutage, PspState, Segment, SegmentKind};
use crate::domain::{EpochMs, PspId, utc_text};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// More than this of one text is no help to anybody.
const TEXT_CHARS_MAX: usize = 600;
/// Changes that a title names.
const TITLE_CHANGES_MAX: usize = 3;

pub(super) fn change(outage: &PspOutage, kind: ChangeKind, transitions: u32, (now, rules): (EpochMs, &AlertRules)) -> Change {
    let said = said(outage, rules);
    let text = match kind {
        ChangeKind::Transition => said,
        ChangeKind::Reminder => format!("DOWN for {} by now. {said}", lasting(now - outage.at)),
        ChangeKind::Flapping => format!("{transitions} further changes were not told one by one. The last one: {said}"),
        ChangeKind::StillOut => {
            format!("Not told when it happened, {} ago, and still {}. {said}", lasting(now - outage.at), outage.to)
        }
    };
    Change { kind, transitions, text: plain(&text), outage: outage.clone() }
}

/// What the record says in plain words, or what its fields say where an older engine wrote it.
fn said(outage: &PspOutage, rules: &AlertRules) -> String {
    if !outage.summary.is_empty() {
        return outage.summary.clone();
    }
    let step = format!("{}: {} to {} at {}.", subject(outage, rules), outage.from, outage.to, utc_text(outage.at));
    let evidence = &outage.evidence;
    if matches!(outage.to, HealthState::Up | HealthState::Recovering) || evidence.n == 0 {
        return step;
    }
    let codes = if evidence.top_codes.is_empty() { String::new() } else { format!(" ({})", evidence.top_codes.join(", ")) };
    format!(
        "{step} {} since {}: {} of {} failed{codes}. At risk: {} payments.",
        cause(outage.cause),
        utc_text(outage.first_evidence_at),
        evidence.failures,
        evidence.n,
        outage.payments_at_risk
    )
}

fn cause(cause: OutageCause) -> &'static str {
    match cause {
        OutageCause::Timeouts => "Time-outs",
        OutageCause::Errors => "Errors",
        OutageCause::Silence => "Silence",
        OutageCause::ApprovalDrop => "Fewer approvals",
        OutageCause::Manual => "By hand",
        OutageCause::Unknown => "Failures",
    }
}

pub(super) fn title(changes: &[Change], is_common: bool, rules: &AlertRules) -> String {
    let each = |change: &Change| {
        let outage = &change.outage;
        let state = match (change.kind, outage.to) {
            (ChangeKind::Transition, HealthState::Up) => "is back UP".to_owned(),
            (ChangeKind::Transition, state) => format!("is {state}"),
            (ChangeKind::Reminder | ChangeKind::StillOut, state) => format!("is still {state}"),
            (ChangeKind::Flapping, state) => format!("is flapping, now {state}"),
        };
        format!("{} {state}", subject(outage, rules))
    };
    let mut parts: Vec<String> = changes.iter().take(TITLE_CHANGES_MAX).map(each).collect();
    if changes.len() > TITLE_CHANGES_MAX {
        parts.push(format!("{} more", changes.len() - TITLE_CHANGES_MAX));
    }
    let common = if is_common { "Common cause: " } else { "" };
    plain(&format!("{common}{}", parts.join("; ")))
}

/// `Worldpay`, or `Worldpay BRAND:VISA`.
fn subject(outage: &PspOutage, rules: &AlertRules) -> String {
    let name = rules.names.get(&outage.psp_id).map_or(outage.psp_id.as_str(), String::as_str);
    match outage.segment.kind {
        SegmentKind::All => name.to_owned(),
        _ => format!("{name} {}", outage.segment),
    }
}

/// Where the same segment is in trouble at all PSPs that have traffic in it, two at least, none of them is to blame.
pub(super) fn common_cause<'a>(
    changes: &'a [Change],
    lasts: impl Iterator<Item = &'a PspOutage>,
    states: &'a [Arc<PspState>],
) -> Option<String> {
    let is_out = |state: HealthState| matches!(state, HealthState::Degraded | HealthState::Down | HealthState::Recovering);
    let mut now: BTreeMap<(&Segment, &PspId), HealthState> = BTreeMap::new();
    let mut busy: BTreeMap<&Segment, BTreeSet<&PspId>> = BTreeMap::new();
    for state in states {
        now.insert((&state.segment, &state.psp_id), state.state);
        if state.windows.last_1h.attempts > 0 {
            busy.entry(&state.segment).or_default().insert(&state.psp_id);
        }
    }
    // What was just read may not have been published as a state here.
    for outage in lasts.chain(changes.iter().map(|change| &change.outage)) {
        now.insert((&outage.segment, &outage.psp_id), outage.to);
    }
    let common = changes.iter().map(|change| &change.outage).filter(|outage| is_out(outage.to)).find_map(|outage| {
        let out: BTreeSet<&PspId> = now
            .iter()
            .filter(|((segment, _), state)| **segment == outage.segment && is_out(**state))
            .map(|((_, psp), _)| *psp)
            .collect();
        // Where nothing is known of traffic nothing is concluded.
        let all = busy.get(&outage.segment).is_some_and(|busy| busy.is_subset(&out));
        (all && out.len() > 1).then_some((&outage.segment, out))
    });
    let (segment, psps) = common?;
    let psps: Vec<&str> = psps.into_iter().map(PspId::as_str).collect();
    let whose = match segment.kind {
        SegmentKind::All => "what they have in common is on our side: network, gateway, credentials".to_owned(),
        SegmentKind::Merchant => format!("the trouble is the merchant's ({})", segment.value),
        SegmentKind::IssuerCountry => format!("the trouble is the issuers' of {}", segment.value),
        SegmentKind::Brand => format!("the trouble is the scheme's ({})", segment.value),
        _ => format!("the trouble is with {segment}, wherever it is sent"),
    };
    Some(plain(&format!("At all PSPs with traffic at once ({}), so hardly any one PSP's fault: {whose}.", psps.join(", "))))
}

fn lasting(ms: i64) -> String {
    let minutes = ms.max(0) / 60_000;
    match minutes {
        0 => "less than a minute".to_owned(),
        1..120 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// In one line, of bounded length.
fn plain(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS_MAX).collect();
    if text.chars().count() > TEXT_CHARS_MAX {
        line.push('…');
    }
    line
}
