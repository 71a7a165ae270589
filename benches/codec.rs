//! Encoding and decoding of our records: `serde_avro_fast` (behind the codec) and apache-avro's direct serde path.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up is to stop")]

mod measure;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use criterion::{Criterion, criterion_group, criterion_main};
use measure::{bench, workload};
use smartrouter::io::codec::{Codec, Wire};
use std::hint::black_box;

fn both<T: Wire>(criterion: &mut Criterion, value: &T) {
    let codec = Codec::from_ids().unwrap();
    let framed = workload::framed(&codec, value);
    let schema = Schema::parse_str(T::KIND.schema()).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let name = |what: &str| format!("{}/{what}", T::KIND.file());

    let mut out = Vec::new();
    bench(criterion, &name("encode/codec"), || {
        out.clear();
        codec.encode(black_box(value), &mut out).unwrap();
    });
    bench(criterion, &name("encode/apache-avro"), || {
        out.clear();
        writer.write_ser(&mut out, black_box(value)).unwrap();
    });
    bench(criterion, &name("decode/codec"), || codec.decode::<T>(black_box(&framed)).unwrap());
    bench(criterion, &name("decode/apache-avro"), || reader.read_deser::<T>(&mut black_box(&framed[5..])).unwrap());
}

fn records(criterion: &mut Criterion) {
    both(criterion, &workload::attempt());
    both(criterion, &workload::outcome());
}

criterion_group!(benches, records);
criterion_main!(benches);
