//! Encoding and decoding of our records: `serde_avro_fast` (behind the codec) and apache-avro's direct serde path.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up is to stop")]

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use smartrouter::domain::payment::{PaymentAttempt, PaymentOutcome};
use smartrouter::io::codec::{Codec, Wire};
use std::hint::black_box;

fn attempt() -> serde_json::Value {
    json!({
        "payment": {
            "payment_id": "28d2e08e-5e62-79db-e09e-dd5aa5319f47", "order_id": "o844011031930", "merchant_id": "volaris",
            "customer_id": "c405", "amount_minor": 233_746, "currency": "MXN",
            "card": {"bin": "545454", "brand": "MASTERCARD", "type": "CREDIT", "bank": "bank", "issuer_country": "MX"},
            "method": "card",
            "message": {"initiator": "CUSTOMER", "avs_sent": false, "mcc": "4511", "three_ds": true},
            "installments": {"count": 3, "kind": "MSI"},
            "airline": {"order_type": "round_trip", "passengers": 2, "origin": "MEX", "destination": "CUN"},
            "geo": {"country": "MX", "ip_country": "MX"}
        },
        "attempt_id": "a50-28d2e08e", "attempt_number": 1, "psp_id": "mit", "attempted_at": 1_795_526_800_646_i64
    })
}

fn outcome() -> serde_json::Value {
    json!({
        "attempt_id": "a50-28d2e08e", "payment_id": "28d2e08e-5e62-79db-e09e-dd5aa5319f47", "customer_id": "c405", "psp_id": "mit",
        "status": "DECLINED", "error_code": "51", "error_category": "insufficient_funds", "hard_soft": "SOFT", "latency_ms": 350,
        "occurred_at": 1_795_526_800_996_i64
    })
}

fn both<T: Wire>(criterion: &mut Criterion, sample: serde_json::Value) {
    let value: T = serde_json::from_value(sample).unwrap();
    let codec = Codec::from_ids().unwrap();
    let mut framed = Vec::new();
    codec.encode(&value, &mut framed).unwrap();
    let schema = Schema::parse_str(T::KIND.schema()).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();

    let mut group = criterion.benchmark_group(T::KIND.file());
    group.bench_function("encode/codec", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            codec.encode(black_box(&value), &mut out).unwrap();
        });
    });
    group.bench_function("encode/apache-avro", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            writer.write_ser(&mut out, black_box(&value)).unwrap();
        });
    });
    group.bench_function("decode/codec", |b| b.iter(|| codec.decode::<T>(black_box(&framed)).unwrap()));
    group.bench_function("decode/apache-avro", |b| b.iter(|| reader.read_deser::<T>(&mut black_box(&framed[5..])).unwrap()));
    group.finish();
}

fn records(criterion: &mut Criterion) {
    both::<PaymentAttempt>(criterion, attempt());
    both::<PaymentOutcome>(criterion, outcome());
}

criterion_group!(benches, records);
criterion_main!(benches);
