//! One merchant, three PSPs that take anything but Amex, one for Amex: what the tests of this module decide about.

use super::{Chances, DecideInput, Decided, Router, StaticView, decide};
use crate::domain::PspId;
use crate::domain::payment::{Card, CardType, Initiator, MessageConfig, Payment, PreviousAttempt, RoutingRequest, Status};
use crate::domain::psp::{Detector, HealthState, PspState, Segment, SegmentKind, WindowStats, Windows};
use crate::engine::psp::tests::sequential;
use crate::engine::settings::{
    Blame, Conditions, DetectorKind, EngineSettings, ErrorCode, HardRule, HealthSettings, Merchant, PolicySettings, Psp, Ranking,
    RetrySettings, SampleSettings, Settings, Split, StaticRule,
};
use std::collections::BTreeMap;

/// The moment of every decision.
pub(super) const NOW: i64 = 1_700_000_000_000;

#[derive(Debug)]
pub(super) struct Case {
    pub(super) settings: Settings,
    pub(super) request: RoutingRequest,
    pub(super) previous: Vec<PreviousAttempt>,
    pub(super) view: StaticView,
}

/// Of 24 hours: 90 of 100 approved at beta, 80 at gamma, 70 at alpha; nothing known of amex.
pub(super) fn usual() -> Case {
    Case { settings: settings(), request: request("p1"), previous: Vec::new(), view: StaticView::default() }
        .up("alpha", 70)
        .up("beta", 90)
        .up("gamma", 80)
}

impl Case {
    pub(super) fn request(mut self, change: impl FnOnce(&mut RoutingRequest)) -> Self {
        change(&mut self.request);
        self
    }

    pub(super) fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(super) fn by_rules(self) -> Self {
        self.settings(|settings| settings.policy.ranking = Ranking::StaticRule)
    }

    pub(super) fn rule(self, id: &str, change: impl FnOnce(&mut StaticRule)) -> Self {
        let mut rule = rule(id);
        change(&mut rule);
        self.settings(|settings| settings.rules.push(rule))
    }

    /// `approvals` of 100 in 24 hours.
    pub(super) fn up(self, psp: &str, approvals: i64) -> Self {
        self.state(state(psp, Segment::all(), HealthState::Up, (100, approvals)))
    }

    /// 90 of 100 in 24 hours, and `failed_percent` technical failures in the last 15 minutes.
    pub(super) fn ailing(self, psp: &str, segment: &str, health: HealthState, failed_percent: i64) -> Self {
        let mut state = state(psp, segment_of(segment), health, (100, 90));
        state.windows.last_15m = WindowStats { attempts: 100, timeouts: failed_percent, ..WindowStats::default() };
        self.state(state)
    }

    pub(super) fn state(mut self, state: PspState) -> Self {
        self.view.insert(state);
        self
    }

    pub(super) fn tried(mut self, psp: &str, status: Status, code: &str) -> Self {
        let number = self.previous.len() as i64;
        self.previous.push(PreviousAttempt {
            attempt_id: format!("t{number}"),
            psp_id: psp.into(),
            attempted_at: NOW - 10_000 + number * 1_000,
            status,
            error_code: (!code.is_empty()).then(|| code.to_owned()),
            hard_soft: None,
        });
        self
    }

    pub(super) fn decide(&self) -> Decided {
        self.decide_with(None)
    }

    pub(super) fn decide_by(&self, chances: &dyn Chances) -> Decided {
        self.decide_with(Some(chances))
    }

    fn decide_with(&self, chances: Option<&dyn Chances>) -> Decided {
        let offsets = BTreeMap::from([("0".to_owned(), 7)]);
        let (request, previous, view) = (&self.request, self.previous.as_slice(), &self.view);
        let input = DecideInput { request, previous, view, chances, view_offsets: &offsets, decided_at: NOW };
        decide(&Router::new(&self.settings), &input)
    }
}

pub(super) fn segment_of(text: &str) -> Segment {
    let (kind, value) = text.split_once(':').unwrap_or((text, ""));
    let kinds = [SegmentKind::All, SegmentKind::Brand, SegmentKind::Currency, SegmentKind::Method];
    Segment { kind: kinds.into_iter().find(|known| known.as_str() == kind).unwrap(), value: value.to_owned() }
}

pub(super) fn state(psp: &str, segment: Segment, health: HealthState, day: (i64, i64)) -> PspState {
    let last_24h = WindowStats { attempts: day.0, approvals: day.1, ..WindowStats::default() };
    PspState {
        psp_id: psp.into(),
        segment,
        state: health,
        since: 0,
        version: 1,
        windows: Windows { last_24h, ..Windows::default() },
        health_score: 1.0,
        detector: Detector::default(),
        manual: None,
        recovery: None,
        updated_at: 0,
    }
}

pub(super) fn request(payment_id: &str) -> RoutingRequest {
    RoutingRequest {
        payment: payment(payment_id),
        request_id: format!("r-{payment_id}"),
        requested_at: NOW,
        deadline_ms: None,
        allowed_psps: None,
        previous_attempts: None,
        dry_run: false,
    }
}

fn payment(payment_id: &str) -> Payment {
    Payment {
        payment_id: payment_id.to_owned(),
        order_id: "o".into(),
        merchant_id: "shop".into(),
        customer_id: None,
        amount_minor: 10_000,
        currency: "MXN".into(),
        card: Card {
            bin: "455673".into(),
            brand: "VISA".into(),
            card_type: CardType::Credit,
            bank: None,
            issuer_country: Some("MX".into()),
            token: None,
        },
        method: "card".into(),
        sub_method: None,
        message: MessageConfig {
            initiator: Initiator::Customer,
            merchant_reason: None,
            avs_sent: false,
            mcc: "4511".into(),
            three_ds: false,
            network_token: false,
            cvv_sent: true,
        },
        installments: None,
        airline: None,
        customer: None,
        geo: None,
        subscription: None,
    }
}

pub(super) fn psp(id: &str, brands: &[&str]) -> Psp {
    Psp {
        id: id.into(),
        external_id: None,
        name: String::new(),
        brands: texts(brands),
        currencies: texts(&["MXN", "USD"]),
        methods: texts(&["card"]),
        fees: Vec::new(),
    }
}

pub(super) fn rule(id: &str) -> StaticRule {
    StaticRule { id: id.into(), priority: 0, shadow: false, when: Conditions::default(), psps: Vec::new(), split: Vec::new() }
}

pub(super) fn psps(ids: &[&str]) -> Vec<PspId> {
    ids.iter().map(|id| PspId::new(id)).collect()
}

pub(super) fn split(parts: &[(&str, u32)]) -> Vec<Split> {
    parts.iter().map(|(id, weight)| Split { psp: PspId::new(id), weight: *weight }).collect()
}

pub(super) fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn code(code: &str, blame: Blame, retry_after_ms: Option<i64>) -> ErrorCode {
    ErrorCode { code: code.into(), psp: None, category: String::new(), blame, persistent: false, hard_soft: None, retry_after_ms }
}

fn policy() -> PolicySettings {
    PolicySettings {
        ranking: Ranking::WindowedRate,
        prior_rate: 0.8,
        prior_weight: 100.0,
        better_by_errors: 0.0,
        results_min: 200,
        salt: "salt".into(),
        inherited_share_max: 1.0,
        samples: SampleSettings { per_minute_max: 1e9, amounts_max: Vec::new(), low_value_ms: 0, declined_before: false },
        value_weight: 0.0,
        explore_share: 0.0,
        score_deadline_ms: 50,
    }
}

pub(super) fn settings() -> Settings {
    use crate::domain::payment::HardSoft;
    let others = ["VISA", "MASTERCARD"];
    Settings {
        engine: EngineSettings {
            attempt_overdue_ms: 0,
            attempt_deadline_ms: 30_000,
            lateness_ms: 0,
            future_tolerance_ms: 0,
            orphan_wait_ms: 0,
            outcome_wait_ms: 60_000,
            payment_retention_ms: 60_000,
            customer_retention_ms: 60_000,
            payment_entries_max: 10,
            segments: vec![SegmentKind::Brand.into(), SegmentKind::Currency.into()],
            pair_results_min: 0,
            segments_per_psp_max: 10,
            psps_max: 10,
        },
        health: HealthSettings {
            detectors: vec![DetectorKind::FailureRate],
            window_ms: 600_000,
            volume_min: 20,
            degraded_rate: 0.2,
            down_rate: 0.5,
            recovered_rate: 0.1,
            dwell_ms: 0,
            hold_ms: 0,
            hold_ms_max: 0,
            relapse_ms: 0,
            sample_rate: 0.25,
            wins_to_restore: 5,
            ramp: Vec::new(),
            publish_interval_ms: 1_000,
            sequential: sequential(),
        },
        policy: policy(),
        retry: RetrySettings { attempts_max: 3, soft_wait_ms: 60_000, technical_wait_ms: 0 },
        merchants: vec![Merchant {
            id: "shop".into(),
            name: String::new(),
            currencies: texts(&["MXN", "USD"]),
            psps: psps(&["gamma", "alpha", "beta", "amex"]),
            margin: None,
        }],
        psps: vec![psp("alpha", &others), psp("beta", &others), psp("gamma", &others), psp("amex", &["AMEX"])],
        hard_rules: vec![HardRule {
            id: "amex-cards".into(),
            when: Conditions { brands: Some(texts(&["AMEX"])), ..Conditions::default() },
            psp: "amex".into(),
        }],
        rules: Vec::new(),
        error_codes: vec![
            ErrorCode { hard_soft: Some(HardSoft::Hard), ..code("54", Blame::Cardholder, None) },
            code("51", Blame::Cardholder, Some(86_400_000)),
            code("96", Blame::Network, None),
        ],
    }
}
