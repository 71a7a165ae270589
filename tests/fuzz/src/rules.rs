//! Rules of a merchant, and payments that meet them: whatever the rules, a decision keeps to what was promised.

use super::draw::Draw;
use super::{datum, parts};
use smartrouter::config::{Config, LoadOptions};
use smartrouter::domain::decision::DecidedBy;
use smartrouter::domain::payment::RoutingRequest;
use smartrouter::domain::psp::{HealthState, PspState, Segment, WindowStats, Windows};
use smartrouter::domain::{PspId, Validate};
use smartrouter::engine::policy::{DecideInput, Decided, Router, StaticView, decide};
use smartrouter::engine::segments::segments_of;
use smartrouter::engine::settings::Settings;
use smartrouter::io::codec::{Codec, RecordKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// The merchant and its PSPs, when the rules bring none of their own.
const MERCHANT: &str = r#"
[[merchants]]
id = "volaris"
currencies = ["MXN", "USD"]
psps = ["worldpay", "mit", "elavon", "amex"]
[[psps]]
id = "worldpay"
brands = ["VISA"]
[[psps]]
id = "mit"
currencies = ["MXN"]
[[psps]]
id = "elavon"
methods = ["x1", "x2"]
[[psps]]
id = "amex"
brands = ["AMEX"]
"#;
const DECISIONS: usize = 8;

/// Rules in TOML, and behind `PART` the choices that draw requests and states.
pub fn run(data: &[u8]) {
    let (toml, choices) = parts(data);
    let Ok(toml) = std::str::from_utf8(toml) else { return };
    let base = if toml.contains("merchants") { toml.to_owned() } else { format!("{toml}\n{MERCHANT}") };
    let Ok(loaded) = Config::load(&LoadOptions { base: Some(base), ..LoadOptions::default() }) else { return };
    let settings = loaded.config.settings;
    let router = Router::new(&settings);
    let mut draw = Draw::new(choices);
    for _ in 0..DECISIONS {
        decide_one(&settings, &router, &mut draw);
        if draw.is_empty() {
            break;
        }
    }
}

fn decide_one(settings: &Settings, router: &Router, draw: &mut Draw<'_>) {
    static CODEC: OnceLock<Codec> = OnceLock::new();
    let codec = CODEC.get_or_init(|| Codec::from_ids().expect("a codec"));
    let request: RoutingRequest = codec.decode(&datum::framed(RecordKind::RoutingRequest, draw)).expect("what a schema allows");
    if request.validate().is_err() {
        return;
    }
    let segments = segments_of(&request.payment, &settings.engine.segments);
    let states = (0..draw.below(6)).map(|_| state(settings, &segments, draw));
    let view: StaticView = states.collect();
    let offsets = BTreeMap::from([("0".to_owned(), draw.number())]);
    let input = DecideInput {
        request: &request,
        previous: &[],
        view: &view,
        chances: None,
        view_offsets: &offsets,
        decided_at: request.requested_at,
    };
    let decided = decide(router, &input);
    check(settings, &request, &decided);
    assert_eq!(decide(router, &input), decided, "the same input, another decision");
    let mut bytes = Vec::new();
    codec.encode(&decided.decision, &mut bytes).expect("a decision can be written");
    codec.encode(&decided.prediction, &mut bytes).expect("a prediction can be written");
}

fn state(settings: &Settings, segments: &[Segment], draw: &mut Draw<'_>) -> PspState {
    let psps = &settings.psps;
    let psp_id = if psps.is_empty() { PspId::new("x1") } else { psps[draw.below(psps.len())].id.clone() };
    let health = [HealthState::Up, HealthState::Degraded, HealthState::Down, HealthState::Recovering, HealthState::Unknown];
    let mut window = || WindowStats {
        attempts: draw.number(),
        approvals: draw.number(),
        timeouts: draw.number(),
        errors: draw.number(),
        soft_declines: draw.number(),
        ..WindowStats::default()
    };
    let windows = Windows { last_15m: window(), last_1h: window(), last_24h: window() };
    PspState {
        psp_id,
        segment: segments[draw.below(segments.len())].clone(),
        state: draw.pick(&health),
        since: draw.time(),
        version: draw.number(),
        windows,
        health_score: 1.0,
        detector: smartrouter::domain::psp::Detector::default(),
        manual: None,
        recovery: None,
        updated_at: draw.time(),
    }
}

/// No PSP twice, at most three, none that cannot take the payment, none both ranked and skipped, true odds.
fn check(settings: &Settings, request: &RoutingRequest, decided: &Decided) {
    let decision = &decided.decision;
    let ranked: BTreeSet<&PspId> = decision.ranked.iter().map(|it| &it.psp_id).collect();
    assert!(ranked.len() == decision.ranked.len() && ranked.len() <= 3, "{decision:?}");
    assert!(decision.skipped.iter().all(|skip| !ranked.contains(&skip.psp_id)), "{decision:?}");
    assert!(
        decision.ranked.iter().all(|it| it.propensity > 0.0 && it.propensity <= 1.0 && !it.reasons.is_empty()),
        "{decision:?}"
    );
    let probabilities = decision.ranked.iter().filter_map(|it| it.approval_probability);
    assert!(probabilities.into_iter().all(|it| (0.0..=1.0).contains(&it)), "{decision:?}");
    if decision.decided_by == DecidedBy::HardRule {
        let rule = settings.hard_rules.iter().find(|rule| Some(&rule.id) == decision.rule_id.as_ref());
        assert!(rule.is_some_and(|rule| ranked == BTreeSet::from([&rule.psp])), "{decision:?}");
        return;
    }
    let eligible: BTreeSet<&PspId> =
        settings.psps.iter().filter(|psp| takes(settings, request, psp)).map(|psp| &psp.id).collect();
    assert!(ranked.is_subset(&eligible), "one that cannot take the payment is ranked: {decision:?}");
    assert_eq!(ranked.is_empty(), eligible.is_empty(), "empty-handed: {decision:?}");
    assert!(!ranked.is_empty() || decision.fallback_reason.is_some(), "{decision:?}");
}

fn takes(settings: &Settings, request: &RoutingRequest, psp: &smartrouter::engine::settings::Psp) -> bool {
    let payment = &request.payment;
    let open = |list: &[String], value: &str| list.is_empty() || list.iter().any(|it| it.eq_ignore_ascii_case(value));
    let merchant = settings.merchants.iter().find(|merchant| merchant.id == payment.merchant_id);
    request.allowed_psps.as_ref().is_none_or(|allowed| allowed.contains(&psp.id))
        && merchant.is_none_or(|it| it.psps.contains(&psp.id) && open(&it.currencies, &payment.currency))
        && open(&psp.brands, &payment.card.brand)
        && open(&psp.currencies, &payment.currency)
        && open(&psp.methods, &payment.method)
}
