//! Records that a schema allows, whatever they say: an Avro datum drawn field by field from the schema's own text.
//!
//! Knows of our records only the names of fields, so that many of them are valid too: random bytes hardly ever get that far.

use super::draw::Draw;
use serde_json::Value;
use smartrouter::io::codec::RecordKind;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A framed record of this kind, as `schemas/ids.toml` numbers it.
pub fn framed(kind: RecordKind, draw: &mut Draw<'_>) -> Vec<u8> {
    static SCHEMAS: OnceLock<BTreeMap<RecordKind, Value>> = OnceLock::new();
    let schemas =
        SCHEMAS.get_or_init(|| RecordKind::all().map(|kind| (kind, serde_json::from_str(kind.schema()).unwrap())).collect());
    let id = kind.published().last().unwrap().id;
    let mut out = [&[0][..], &id.to_be_bytes()].concat();
    let mut named = BTreeMap::new();
    collect_named(&schemas[&kind], &mut named);
    Writer { named, out: &mut out, draw }.value(&schemas[&kind], "");
    out
}

/// A type is named where it stands first, which may be in a branch that is not drawn.
fn collect_named<'s>(schema: &'s Value, named: &mut BTreeMap<&'s str, &'s Value>) {
    match schema {
        Value::Array(parts) => parts.iter().for_each(|part| collect_named(part, named)),
        Value::Object(members) => {
            if let (Some("record" | "enum" | "fixed"), Some(name)) = (schema["type"].as_str(), schema["name"].as_str()) {
                named.insert(name, schema);
            }
            members.values().for_each(|member| collect_named(member, named));
        }
        _ => {}
    }
}

struct Writer<'a, 'd, 's> {
    named: BTreeMap<&'s str, &'s Value>,
    out: &'a mut Vec<u8>,
    draw: &'a mut Draw<'d>,
}

impl<'s> Writer<'_, '_, 's> {
    /// `field`: the name of the field that the value is for.
    fn value(&mut self, schema: &'s Value, field: &str) {
        match schema {
            Value::Array(branches) => {
                let branch = self.draw.below(branches.len());
                self.long(branch as i64);
                self.value(&branches[branch], field);
            }
            Value::String(name) => match self.named.get(name.as_str()) {
                Some(known) => self.value(known, field),
                None => self.primitive(name, field),
            },
            Value::Object(_) => self.complex(schema, field),
            other => panic!("no schema: {other}"),
        }
    }

    fn complex(&mut self, schema: &'s Value, field: &str) {
        match schema["type"].as_str() {
            Some("record") => {
                for field in schema["fields"].as_array().unwrap() {
                    self.value(&field["type"], field["name"].as_str().unwrap());
                }
            }
            Some("enum") => {
                let symbol = self.draw.below(schema["symbols"].as_array().unwrap().len());
                self.long(symbol as i64);
            }
            Some("array") => self.blocks(&schema["items"], field, false),
            Some("map") => self.blocks(&schema["values"], field, true),
            Some("long") if schema["logicalType"] == "timestamp-millis" => {
                let at = self.draw.time();
                self.long(at);
            }
            Some(primitive) => self.primitive(primitive, field),
            None => self.value(&schema["type"], field),
        }
    }

    fn blocks(&mut self, items: &'s Value, field: &str, with_keys: bool) {
        let count = if self.draw.one_in(16) { 110 } else { self.draw.below(4) };
        if count > 0 {
            self.long(count as i64);
            for _ in 0..count {
                if with_keys {
                    let key = self.draw.text();
                    self.text(&key);
                }
                self.value(items, field);
            }
        }
        self.long(0);
    }

    fn primitive(&mut self, name: &str, field: &str) {
        match name {
            "null" => {}
            "boolean" => {
                let flag = self.draw.below(2) as u8;
                self.out.push(flag);
            }
            "int" => {
                let number = self.draw.number() as i32;
                self.long(number.into());
            }
            "long" => {
                let number = self.draw.number();
                self.long(number);
            }
            "float" => {
                let bits = self.draw.word() as u32;
                self.out.extend(bits.to_le_bytes());
            }
            "double" => {
                let bits = if self.draw.one_in(4) { self.draw.word() } else { (f64::from(self.draw.byte()) / 255.0).to_bits() };
                self.out.extend(bits.to_le_bytes());
            }
            "string" | "bytes" => {
                let text = self.text_for(field);
                self.text(&text);
            }
            other => panic!("no type of Avro: {other}"),
        }
    }

    /// What the field takes, seven times in eight.
    fn text_for(&mut self, field: &str) -> String {
        let fitting: &[&str] = match field {
            "currency" => &["MXN", "USD", "EUR"],
            "bin" => &["411111", "41111111", ""],
            "mcc" => &["4511", ""],
            "brand" => &["VISA", "AMEX", ""],
            "merchant_id" => &["volaris"],
            "psp_id" | "allowed_psps" => &["worldpay", "mit", "elavon", "amex"],
            _ => &["x1", "x2", "x3"],
        };
        if self.draw.one_in(8) { self.draw.text() } else { self.draw.pick(fitting).to_owned() }
    }

    fn text(&mut self, text: &str) {
        self.long(text.len() as i64);
        self.out.extend_from_slice(text.as_bytes());
    }

    fn long(&mut self, number: i64) {
        let mut zigzag = ((number << 1) ^ (number >> 63)).cast_unsigned();
        while zigzag >= 0x80 {
            self.out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        self.out.push(zigzag as u8);
    }
}
