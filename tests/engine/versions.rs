//! Writers of another version than ours, with a schema registry between: what resolves is an event, what does not is a dead letter that
//! says why.

use crate::world::{T0, World, outcome, payment};
use serde_avro_fast::ser::SerializerConfig;
use serde_json::{Value, json};
use smartrouter::domain::learning::Feedback;
use smartrouter::domain::payment::{HardSoft, PaymentAttempt, Status};
use smartrouter::io::codec::{Codec, RecordKind, RegistrySettings};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Ids of other writers; ours have those of `schemas/ids.toml`.
const FOREIGN: i32 = 500;

/// A registry that knows our schemas and these; it answers until the test ends.
fn registry(foreign: BTreeMap<i32, Value>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().for_each(|stream| answer(stream.unwrap(), &foreign)));
    url
}

fn answer(stream: TcpStream, foreign: &BTreeMap<i32, Value>) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    let path = first.split(' ').nth(1).unwrap();
    let ours = |kind: &RecordKind| kind.published().last().unwrap().id;
    let found = match path.strip_prefix("/schemas/ids/") {
        Some(id) => {
            let id: i32 = id.parse().unwrap();
            let own = RecordKind::all().find(|kind| ours(kind) == id).map(|kind| kind.schema().to_owned());
            own.or_else(|| foreign.get(&id).map(Value::to_string)).map(|schema| json!({"schema": schema}))
        }
        None => RecordKind::all()
            .find(|kind| path == format!("/subjects/{}", kind.subject(crate::world::PREFIX)))
            .map(|kind| json!({"id": ours(&kind), "version": 1})),
    };
    let (status, body) = found.map_or((404, json!({"error_code": 40403, "message": "no"})), |body| (200, body));
    let body = body.to_string();
    write!(reader.get_mut(), "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).unwrap();
}

struct Case {
    name: &'static str,
    schema: Value,
    datum: Value,
    /// What the feedback says, or a part of the reason in the dead letter.
    expect: Result<fn(&Feedback) -> bool, &'static str>,
}

fn fields(schema: &mut Value) -> &mut Vec<Value> {
    schema["fields"].as_array_mut().unwrap()
}

fn field<'a>(schema: &'a mut Value, name: &str) -> &'a mut Value {
    fields(schema).iter_mut().find(|field| field["name"] == name).unwrap()
}

fn drop_field(schema: &mut Value, datum: &mut Value, name: &str) {
    fields(schema).retain(|field| field["name"] != name);
    datum.as_object_mut().unwrap().shift_remove(name);
}

/// Adds a symbol to the enum that a field is of, in whatever union it stands.
fn add_symbol(node: &mut Value, symbol: &str) {
    match node {
        Value::Array(parts) => parts.iter_mut().for_each(|part| add_symbol(part, symbol)),
        Value::Object(members) => {
            if let Some(symbols) = members.get_mut("symbols").and_then(Value::as_array_mut) {
                symbols.insert(0, json!(symbol));
            }
            members.values_mut().filter(|member| member.is_object() || member.is_array()).for_each(|it| add_symbol(it, symbol));
        }
        _ => {}
    }
}

type Change = fn(&mut Value, &mut Value);
type Row = (&'static str, Result<fn(&Feedback) -> bool, &'static str>, Change);

fn cases(attempt: &PaymentAttempt) -> Vec<Case> {
    let own: Value = serde_json::from_str(RecordKind::PaymentOutcome.schema()).unwrap();
    let datum = serde_json::to_value(outcome(attempt, Status::Declined)).unwrap();
    let rows: [Row; 9] = [
        (
            "ahead: one more field, with a default",
            Ok(|it| it.status == Status::Declined && it.latency_ms == 350),
            |schema, datum| {
                fields(schema).insert(3, json!({"name": "score", "type": ["null", "double"], "default": null}));
                datum["score"] = json!(0.5);
            },
        ),
        ("ahead: one more record in a list", Ok(|it| it.error_code.as_deref() == Some("51")), |schema, datum| {
            let item = json!({"type": "record", "name": "Hop", "fields": [{"name": "at", "type": "long"}]});
            fields(schema).push(json!({"name": "hops", "type": {"type": "array", "items": item}, "default": []}));
            datum["hops"] = json!([{"at": 1}, {"at": 2}]);
        }),
        ("behind: one field fewer", Ok(|it| it.error_code.is_none() && it.status == Status::Declined), |schema, datum| {
            drop_field(schema, datum, "error_code");
        }),
        (
            "behind: all that have a default are missing",
            Ok(|it| it.hard_soft.is_none() && it.fee_minor.is_none()),
            |schema, datum| {
                for name in ["hard_soft", "fee_minor", "error_category", "network_response_code", "merchant_advice_code"] {
                    drop_field(schema, datum, name);
                }
            },
        ),
        (
            "a symbol that we do not know, where unknown is allowed",
            Ok(|it| it.hard_soft == Some(HardSoft::Unknown)),
            |schema, datum| {
                add_symbol(&mut field(schema, "hard_soft")["type"], "MUSHY");
                datum["hard_soft"] = json!("MUSHY");
            },
        ),
        ("a symbol that we do not know, where we need one", Err("status is \"UNKNOWN\": must be"), |schema, datum| {
            add_symbol(&mut field(schema, "status")["type"], "HELD");
            datum["status"] = json!("HELD");
        }),
        ("a field that we need is missing", Err("missing field `attempt_id`"), |schema, datum| {
            drop_field(schema, datum, "attempt_id");
        }),
        ("a field of another type", Err("PaymentOutcome"), |schema, datum| {
            field(schema, "latency_ms")["type"] = json!("string");
            datum["latency_ms"] = json!("350");
        }),
        ("another record", Err("Refund"), |schema, _| schema["name"] = json!("Refund")),
    ];
    let case = |(name, expect, change): Row| {
        let (mut schema, mut datum) = (own.clone(), datum.clone());
        change(&mut schema, &mut datum);
        Case { name, schema, datum, expect }
    };
    rows.into_iter().map(case).collect()
}

#[test]
fn what_resolves_is_an_event_and_what_does_not_says_why() {
    let attempt = |world: &mut World, index: usize| {
        world.now = T0 + index as i64 * 1_000;
        world.attempt(&payment(&format!("v{index}")), "mit")
    };
    let mut world = World::new();
    let count = cases(&attempt(&mut world, 0)).len();
    // Each case on an attempt of its own; its schema does not depend on it.
    let attempts: Vec<PaymentAttempt> = (0..count).map(|index| attempt(&mut world, index)).collect();
    let schemas = cases(&attempts[0]).into_iter().enumerate().map(|(index, case)| (FOREIGN + index as i32, case.schema));
    let url = registry(schemas.collect());
    let settings = RegistrySettings { url, username: None, password: None, ca_file: None, timeout_ms: 20_000 };
    world.codec = Codec::with_registry(&settings, crate::world::PREFIX).unwrap();
    let mut engine = world.engine();
    for (index, attempt) in attempts.iter().enumerate() {
        let Case { schema, datum, .. } = cases(attempt).swap_remove(index);
        let writer: serde_avro_fast::Schema = schema.to_string().parse().unwrap();
        let body = serde_avro_fast::to_datum_vec(&datum, &mut SerializerConfig::new(&writer)).unwrap();
        let id = FOREIGN + index as i32;
        world.now = attempt.attempted_at + 350;
        world.append("payment.outcomes", attempt.payment.key(), Some([&[0][..], &id.to_be_bytes(), &body].concat().into()));
    }
    // An id that the registry has never heard of.
    world.append("payment.outcomes", "v0", Some(vec![0, 0, 0, 2, 87, 0].into()));
    engine.drain().unwrap();
    engine.close().unwrap();

    let feedback = world.read::<Feedback>();
    let reasons: Vec<String> = world
        .records("payment.outcomes.dlq")
        .iter()
        .map(|letter| {
            let header = letter.headers.iter().find(|(name, _)| name == "dlq-reason").unwrap();
            String::from_utf8(header.1.clone().unwrap().to_vec()).unwrap()
        })
        .collect();
    for (index, attempt) in attempts.iter().enumerate() {
        let Case { name, expect, .. } = cases(attempt).swap_remove(index);
        let told: Vec<&Feedback> = feedback.iter().filter(|it| it.payment_id == attempt.payment.payment_id).collect();
        match expect {
            Ok(says) => assert!(told.len() == 1 && says(told[0]), "{name}: {told:?} {reasons:?}"),
            Err(part) => {
                assert!(told.is_empty(), "{name}: {told:?}");
                assert!(reasons.iter().any(|reason| reason.contains(part)), "{name}: {reasons:?}");
            }
        }
    }
    assert!(reasons.iter().any(|reason| reason.contains("599")), "{reasons:?}");
    assert_eq!(reasons.len(), 5, "{reasons:?}");
}
