//! Hostile bytes, other writers' schemas, and a registry that answers, lies, or is not there.

use super::*;
use crate::domain::learning::StatsDelta;
use crate::domain::payment::{PaymentAttempt, PaymentOutcome, Status};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn outcome() -> PaymentOutcome {
    serde_json::from_value(json!({
        "attempt_id": "a1", "payment_id": "p1", "customer_id": "c1", "psp_id": "mit", "status": "DECLINED", "error_code": "51",
        "hard_soft": "SOFT", "latency_ms": 350, "occurred_at": 1_700_000_000_000_i64
    }))
    .unwrap()
}

fn encoded() -> Vec<u8> {
    let mut out = Vec::new();
    Codec::from_ids().unwrap().encode(&outcome(), &mut out).unwrap();
    out
}

#[test]
fn a_record_is_framed_and_comes_back() {
    let bytes = encoded();
    assert_eq!(bytes[..5], [0, 0, 0, 0, 2]);
    assert_eq!(Codec::from_ids().unwrap().decode::<PaymentOutcome>(&bytes), Ok(outcome()));
}

#[test]
fn encoding_appends() {
    let mut out = b"before".to_vec();
    Codec::from_ids().unwrap().encode(&outcome(), &mut out).unwrap();
    assert_eq!(out[..6], *b"before");
    assert_eq!(out[6..], encoded());
}

#[test]
fn each_way_to_be_broken_has_its_own_error() {
    let good = encoded();
    let record = "PaymentOutcome";
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    // attempt_id "a1" stands first: its length is byte 5. The status follows customer_id and psp_id.
    let status_at = 5 + 3 + 3 + 1 + 3 + 4;
    assert_eq!(good[status_at], 4, "DECLINED is symbol 2");
    let malformed = |detail: &str| CodecError::Malformed { record, id: 2, detail: detail.to_owned() };
    let rows = [
        ("empty", vec![], CodecError::Empty),
        ("magic", with(&|b| b[0] = 7), CodecError::Magic { found: 7 }),
        ("text", br#"{"attempt_id": "x"}"#.to_vec(), CodecError::Magic { found: b'{' }),
        ("header only", vec![0, 0, 0], CodecError::ShortFrame { len: 3 }),
        ("no datum", good[..5].to_vec(), CodecError::Truncated { record, id: 2 }),
        ("half", good[..good.len() / 2].to_vec(), CodecError::Truncated { record, id: 2 }),
        ("last byte gone", good[..good.len() - 1].to_vec(), CodecError::Truncated { record, id: 2 }),
        ("trailing", with(&|b| b.extend([1, 2, 3])), CodecError::TrailingBytes { record, id: 2, count: 3 }),
        (
            "unknown id",
            with(&|b| b[1..5].copy_from_slice(&0x7fff_fff0_i32.to_be_bytes())),
            CodecError::UnknownSchema { id: 0x7fff_fff0 },
        ),
        ("negative id", with(&|b| b[1..5].copy_from_slice(&(-1_i32).to_be_bytes())), CodecError::UnknownSchema { id: -1 }),
        ("other record", with(&|b| b[4] = 1), CodecError::OtherRecord { id: 1, found: "PaymentAttempt".into(), wanted: record }),
        ("enum index", with(&|b| b[status_at] = 40), malformed("Could not find enum discriminant in schema")),
        ("union branch", with(&|b| b[5 + 6] = 40), malformed("Could not find union discriminant in schema")),
        (
            "string of 2 GB",
            with(&|b| drop(b.splice(5..6, [0xfe, 0xff, 0xff, 0xff, 0x0f]))),
            CodecError::Truncated { record, id: 2 },
        ),
    ];
    let codec = Codec::from_ids().unwrap();
    for (what, bytes, want) in rows {
        let got = codec.decode::<PaymentOutcome>(&bytes).unwrap_err();
        assert_eq!(got, want, "{what}");
        assert!(got.blames_record() && !got.is_transient(), "{what}");
    }
    for bad in [with(&|b| b[6] = 0xff), with(&|b| b[5] = 1)] {
        let got = codec.decode::<PaymentOutcome>(&bad).unwrap_err();
        assert!(matches!(got, CodecError::Malformed { .. }), "bad UTF-8 or a negative length: {got}");
    }
}

#[test]
fn a_list_cannot_be_longer_than_its_datum() {
    let mut bytes = vec![0, 0, 0, 0, 9, 2, b'x', 0];
    bytes.extend([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]); // a block of 2^63 - 1 tallies
    let got = Codec::from_ids().unwrap().decode::<StatsDelta>(&bytes).unwrap_err();
    let detail = "Exceeding max sequence size while deserializing".to_owned();
    assert_eq!(got, CodecError::Malformed { record: "StatsDelta", id: 9, detail });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes: an error or a record, no panic, no hang, and nothing larger than what came.
    #[test]
    fn noise_is_survived(seed in any::<u64>(), len in 0_usize..1_000_000, kind in 1_u8..=13) {
        use rand::{RngCore, SeedableRng};
        let mut bytes = vec![0; len + 5];
        rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes[5..]);
        bytes[4] = kind;
        let codec = Codec::from_ids().unwrap();
        let _ = codec.decode::<PaymentAttempt>(&bytes);
        let _ = codec.decode::<PaymentOutcome>(&bytes);
        let _ = codec.decode::<StatsDelta>(&bytes);
    }

    /// A good record with some bytes changed: an error or a record, and cut anywhere: an error.
    #[test]
    fn damage_is_survived(at in 5_usize..60, byte in any::<u8>()) {
        let codec = Codec::from_ids().unwrap();
        let mut bytes = encoded();
        let at = at % bytes.len();
        prop_assert!(codec.decode::<PaymentOutcome>(&bytes[..at]).is_err());
        bytes[at] = byte;
        let _ = codec.decode::<PaymentOutcome>(&bytes);
    }
}

/// Our schema of outcomes after `change`, under id 100, and what `datum` written with it decodes to.
fn read_foreign(change: impl Fn(&mut Vec<Value>), datum: &Value) -> Result<PaymentOutcome, CodecError> {
    let mut schema: Value = serde_json::from_str(RecordKind::PaymentOutcome.schema()).unwrap();
    change(schema["fields"].as_array_mut().unwrap());
    let codec = Codec::from_ids().unwrap();
    codec.add_writer(100, &schema.to_string()).unwrap();
    // Written by a serializer without schema resolution: the datum has exactly the writer's fields.
    let writer: serde_avro_fast::Schema = schema.to_string().parse().unwrap();
    let body = serde_avro_fast::to_datum_vec(datum, &mut SerializerConfig::new(&writer)).unwrap();
    codec.decode(&[&[0, 0, 0, 0, 100], body.as_slice()].concat())
}

fn without(fields: &mut Vec<Value>, name: &str) {
    fields.retain(|field| field["name"] != name);
}

fn field(fields: &[Value], name: &str) -> usize {
    fields.iter().position(|f| f["name"] == name).unwrap()
}

#[test]
fn a_writer_with_more_fewer_or_reordered_fields_is_read() {
    let full = serde_json::to_value(outcome()).unwrap();
    let mut more = full.clone();
    more["extra"] = json!([{"x": 1, "y": "z"}]);
    let extra = json!({"name": "extra", "type": {"type": "array", "items":
        {"type": "record", "name": "Extra", "fields": [{"name": "x", "type": "long"}, {"name": "y", "type": "string"}]}}});
    assert_eq!(read_foreign(|f| f.insert(0, extra.clone()), &more), Ok(outcome()), "more");
    assert_eq!(read_foreign(|f| f.reverse(), &full), Ok(outcome()), "reordered");

    let mut fewer = full.clone();
    fewer.as_object_mut().unwrap().remove("error_code");
    let want = PaymentOutcome { error_code: None, ..outcome() };
    assert_eq!(read_foreign(|f| without(f, "error_code"), &fewer), Ok(want), "fewer");

    let narrower = |f: &mut Vec<Value>| {
        let at = field(f, "latency_ms");
        f[at]["type"] = json!("int");
        let at = field(f, "error_code");
        f[at] = json!({"name": "error_code", "type": "string"});
    };
    assert_eq!(read_foreign(narrower, &full), Ok(outcome()), "int for long, string for optional string");
}

#[test]
fn a_writer_without_a_required_field_is_refused() {
    let mut datum = serde_json::to_value(outcome()).unwrap();
    datum.as_object_mut().unwrap().remove("payment_id");
    let got = read_foreign(|f| without(f, "payment_id"), &datum).unwrap_err();
    let detail = "missing field `payment_id`".to_owned();
    assert_eq!(got, CodecError::Malformed { record: "PaymentOutcome", id: 100, detail });
}

#[test]
fn a_symbol_that_we_do_not_know_becomes_the_default() {
    let mut datum = serde_json::to_value(outcome()).unwrap();
    datum["status"] = json!("HELD");
    let add = |f: &mut Vec<Value>| {
        let at = field(f, "status");
        f[at]["type"]["symbols"].as_array_mut().unwrap().insert(1, json!("HELD"));
    };
    assert_eq!(read_foreign(add, &datum), Ok(PaymentOutcome { status: Status::Unknown, ..outcome() }));
    let full = serde_json::to_value(outcome()).unwrap();
    assert_eq!(read_foreign(add, &full), Ok(outcome()), "symbols that we know keep their meaning");
}

#[test]
fn schemas_that_cannot_be_used_say_why() {
    let codec = Codec::from_ids().unwrap();
    let rows = [
        ("{", "not JSON"),
        (r#"{"type": "map", "values": "long"}"#, "not of a record"),
        (r#"{"type": "record", "name": "R"}"#, "not Avro"),
    ];
    for (schema, want) in rows {
        let got = codec.add_writer(100, schema).unwrap_err();
        assert!(matches!(&got, CodecError::UnusableSchema { id: 100, detail } if detail.contains(want)), "{got}");
    }
}

/// A request as the registry saw it: method and path, the Authorization header, the body.
type Seen = (String, Option<String>, Value);

/// Answers `answers.len()` requests, one connection each, then is gone. Returns its URL, and what it saw when joined.
fn registry(answers: Vec<(u16, Value)>) -> (String, std::thread::JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = move || answers.into_iter().map(|answer| answer_one(listener.accept().unwrap().0, answer)).collect();
    (url, std::thread::spawn(serve))
}

fn answer_one(mut stream: TcpStream, (status, answer): (u16, Value)) -> Seen {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let mut body = vec![0; header("content-length").map_or(0, |len| len.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    let answer = answer.to_string();
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len()).unwrap();
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    (line, header("authorization"), serde_json::from_slice(&body).unwrap_or_default())
}

fn settings(url: &str) -> RegistrySettings {
    RegistrySettings {
        url: url.to_owned(),
        username: Some("reader".into()),
        password: Some("s3cret".into()),
        ca_file: None,
        timeout_ms: 20_000,
    }
}

#[test]
fn ids_and_schemas_come_from_the_registry_once() {
    let schema = json!({"schema": RecordKind::PaymentOutcome.schema()});
    let (url, server) = registry(vec![(200, json!({"id": 700, "version": 1})), (200, schema.clone())]);
    let codec = Codec::with_registry(&settings(&url), "acc-1.").unwrap();
    for _ in 0..3 {
        let mut bytes = Vec::new();
        codec.encode(&outcome(), &mut bytes).unwrap();
        assert_eq!(bytes[..5], [0, 0, 0, 2, 188]);
        assert_eq!(codec.decode(&bytes), Ok(outcome()));
    }
    let seen = server.join().unwrap();
    assert_eq!(seen[0].0, "POST /subjects/acc-1.payment.outcomes-value");
    assert_eq!(seen[0].1.as_deref(), Some("Basic cmVhZGVyOnMzY3JldA=="));
    assert_eq!(seen[0].2, schema);
    assert_eq!(seen[1].0, "GET /schemas/ids/700");
}

#[test]
fn an_id_that_the_registry_does_not_know_is_asked_for_once() {
    let (url, server) = registry(vec![(404, json!({"error_code": 40403, "message": "Schema not found"}))]);
    let codec = Codec::with_registry(&settings(&url), "").unwrap();
    for _ in 0..3 {
        assert_eq!(codec.decode::<PaymentOutcome>(&encoded()), Err(CodecError::UnknownSchema { id: 2 }));
    }
    assert_eq!(server.join().unwrap().len(), 1);
}

#[test]
fn a_registry_that_fails_does_not_blame_the_record() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let decode = |url: &str| Codec::with_registry(&settings(url), "").unwrap().decode::<PaymentOutcome>(&encoded()).unwrap_err();
    let down = decode(&format!("http://{closed}"));
    assert!(matches!(down, CodecError::RegistryUnavailable(_)) && down.is_transient() && !down.blames_record(), "{down}");
    assert!(down.to_string().contains(&closed.to_string()), "names the address: {down}");

    for (status, transient) in [(500, true), (503, true), (429, true), (401, false), (403, false), (422, false)] {
        let (url, server) = registry(vec![(status, json!({"message": "no"}))]);
        let got = decode(&url);
        assert_eq!((got.is_transient(), got.blames_record()), (transient, false), "{status}: {got}");
        assert!(got.to_string().contains(&status.to_string()), "{got}");
        server.join().unwrap();
    }
    for odd in [json!({"schema": "x", "schemaType": "JSON"}), json!({"no": 1})] {
        let (url, server) = registry(vec![(200, odd)]);
        assert!(matches!(decode(&url), CodecError::RegistryRefused(_)));
        server.join().unwrap();
    }
}

#[test]
fn it_recovers_when_the_registry_does() {
    let schema = json!({"schema": RecordKind::PaymentOutcome.schema()});
    let (url, server) = registry(vec![(503, json!({})), (200, schema)]);
    let codec = Codec::with_registry(&settings(&url), "").unwrap();
    assert!(codec.decode::<PaymentOutcome>(&encoded()).unwrap_err().is_transient());
    assert_eq!(codec.decode(&encoded()), Ok(outcome()));
    server.join().unwrap();
}

#[test]
fn schemas_are_registered_and_checked() {
    let answers =
        vec![(200, json!({"id": 5})), (409, json!({"message": "incompatible"})), (404, json!({})), (200, json!({"id": 9}))];
    let (url, server) = registry(answers);
    let codec = Codec::with_registry(&settings(&url), "p.").unwrap();
    assert_eq!(codec.register(RecordKind::PspState), Ok(5));
    let got = codec.register(RecordKind::PspOutage).unwrap_err();
    assert!(got.to_string().contains("409: incompatible") && !got.is_transient(), "{got}");
    let missing = codec.warm_up(&[RecordKind::PspState, RecordKind::Feedback]);
    assert_eq!(missing, Err(CodecError::NotRegistered { subject: "p.athia.feedback-value".into() }));
    assert_eq!(codec.id(RecordKind::Feedback), Ok(9));
    assert_eq!(server.join().unwrap()[0].0, "POST /subjects/p.psp.states-value/versions");

    let (url, server) = registry(vec![
        (200, json!({"compatibilityLevel": "FULL_TRANSITIVE"})),
        (200, json!({"is_compatible": false})),
        (404, json!({})),
    ]);
    let client = Registry::new(&settings(&format!("{url}/api/"))).unwrap();
    assert_eq!(client.compatibility_level().unwrap(), "FULL_TRANSITIVE");
    assert!(!client.is_compatible("s", "{}").unwrap());
    assert!(client.is_compatible("s", "{}").unwrap(), "a subject without versions takes any schema");
    let seen = server.join().unwrap();
    assert_eq!(seen[0].0, "GET /api/config");
    assert_eq!(seen[1].0, "POST /api/compatibility/subjects/s/versions/latest");
}

#[test]
fn registrations_say_what_is_there_and_what_may_come() {
    let kinds = RecordKind::all().count();
    let mut answers = vec![(404, json!({})), (200, json!({"is_compatible": false}))];
    answers.extend((1..kinds).map(|id| (200, json!({"id": id}))));
    let (url, server) = registry(answers);
    let found = Codec::with_registry(&settings(&url), "").unwrap().registrations().unwrap();
    assert_eq!((found.len(), found[0].id, found[0].compatible), (kinds, None, false));
    assert!(found[1..].iter().all(|r| r.compatible && r.id.is_some()));
    server.join().unwrap();
    assert_eq!(Codec::from_ids().unwrap().registrations(), Ok(vec![]));
}

#[test]
fn no_secret_is_shown() {
    let with_secrets = RegistrySettings { url: "http://u:s3cret@127.0.0.1:1/x?key=s3cret".into(), ..settings("") };
    assert!(Registry::new(&with_secrets).unwrap_err().to_string().contains("must not hold credentials"));
    let shown = format!("{with_secrets:?} {:?}", Registry::new(&settings("http://127.0.0.1:1")).unwrap());
    let failed = Codec::with_registry(&settings("http://127.0.0.1:1"), "").unwrap().id(RecordKind::Feedback).unwrap_err();
    let text = format!("{shown} {failed} {failed:?} {:?}", Registry::new(&with_secrets).unwrap_err());
    assert!(!text.contains("s3cret") && !text.contains("reader"), "{text}");
}

#[test]
fn wrong_settings_name_the_key() {
    let check = |settings: RegistrySettings, want: &str| {
        let got = Registry::new(&settings).unwrap_err().to_string();
        assert!(got.starts_with(&format!("schema_registry.{want}:")), "{got}");
    };
    check(settings("registry:8081"), "url");
    check(settings("not a url"), "url");
    check(RegistrySettings { timeout_ms: 0, ..settings("http://x") }, "timeout_ms");
    check(RegistrySettings { ca_file: Some("/no/such/file".into()), ..settings("http://x") }, "ca_file");
    let unknown = serde_json::from_value::<RegistrySettings>(json!({"url": "http://x", "pasword": "y"})).unwrap_err();
    assert!(unknown.to_string().contains("pasword"), "{unknown}");
}
