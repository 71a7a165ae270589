//! What one decision costs, with the shipped example and four PSPs in every segment of the payment.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up is to stop")]

use criterion::{Criterion, criterion_group, criterion_main};
use smartrouter::config::{Config, LoadOptions};
use smartrouter::domain::payment::RoutingRequest;
use smartrouter::domain::psp::{Detector, HealthState, PspState, Segment, WindowStats, Windows};
use smartrouter::engine::policy::{DecideInput, Router, StaticView, decide};
use smartrouter::engine::segments::segments_of;
use smartrouter::engine::settings::Settings;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

fn settings() -> Settings {
    let file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/volaris.toml"));
    Config::load(&LoadOptions { file, ..LoadOptions::default() }).unwrap().config.settings
}

fn request(brand: &str) -> RoutingRequest {
    let payment = serde_json::json!({
        "payment_id": "p1", "order_id": "o1", "merchant_id": "volaris", "amount_minor": 250_000, "currency": "MXN",
        "card": { "bin": "455673", "brand": brand, "type": "CREDIT", "issuer_country": "MX" }, "method": "card",
        "message": { "initiator": "CUSTOMER", "avs_sent": false, "mcc": "4511" }
    });
    serde_json::from_value(serde_json::json!({ "payment": payment, "request_id": "r1", "requested_at": 1_700_000_000_000_i64 }))
        .unwrap()
}

fn state(psp: &str, segment: Segment, approvals: i64) -> PspState {
    let window = WindowStats { attempts: 1_000, approvals, ..WindowStats::default() };
    PspState {
        psp_id: psp.into(),
        segment,
        state: HealthState::Up,
        since: 0,
        version: 0,
        windows: Windows { last_15m: window.clone(), last_1h: window.clone(), last_24h: window },
        health_score: 1.0,
        detector: Detector::default(),
        recovery: None,
        updated_at: 0,
    }
}

fn bench(criterion: &mut Criterion) {
    let settings = settings();
    let router = Router::new(&settings);
    for (name, brand) in [("ranked", "VISA"), ("hard_rule", "AMEX")] {
        let request = request(brand);
        let segments = segments_of(&request.payment, &settings.engine.segments);
        let states = settings.psps.iter().zip([870, 820, 850, 880]);
        let view: StaticView = states
            .flat_map(|(psp, rate)| segments.iter().map(move |segment| state(psp.id.as_str(), segment.clone(), rate)))
            .collect();
        let offsets = BTreeMap::from([("0".to_owned(), 42)]);
        let input = DecideInput {
            request: &request,
            previous: &[],
            view: &view,
            view_offsets: &offsets,
            decided_at: request.requested_at,
        };
        criterion.bench_function(&format!("decide/{name}"), |b| b.iter(|| decide(black_box(&router), black_box(&input))));
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
