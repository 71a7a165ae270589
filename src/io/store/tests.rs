use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn entries(store: &StateStore, shard: Shard, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    store
        .scan(shard, from, |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn position(offset: i64) -> ShardPosition {
    ShardPosition { log_id: "log".into(), partitions: 4, format: 1, changelog_offset: offset, last: None }
}

#[test]
fn shards_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = StateStore::open(dir.path()).unwrap();
    let shards = [Shard::new(StoreName::Payments, 0), Shard::new(StoreName::Payments, 255), Shard::new(StoreName::Psps, 0)];
    let mut batch = StateBatch::default();
    for (index, &shard) in shards.iter().enumerate() {
        batch.put(shard, b"key", Some(&[index as u8]));
        batch.set_position(shard, &position(index as i64)).unwrap();
    }
    store.write(batch).unwrap();
    store.wipe(shards[0]).unwrap();
    assert_eq!(entries(&store, shards[0], b""), []);
    assert_eq!(store.position(shards[0]).unwrap(), None);
    for (index, &shard) in shards.iter().enumerate().skip(1) {
        assert_eq!(entries(&store, shard, b""), [(b"key".to_vec(), vec![index as u8])]);
        assert_eq!(store.position(shard).unwrap(), Some(position(index as i64)));
    }
    let partitions = StoreName::ALL.map(|name| store.partitions(name).unwrap());
    assert_eq!(partitions, [vec![255], vec![], vec![0], vec![]]);
}

#[test]
fn a_position_of_an_older_version_is_read_too() {
    let last = LastRecord::new(41, fingerprint(b"key", Some(b"value")));
    let written = ShardPosition { last: Some(last), ..position(42) };
    let bytes = postcard::to_allocvec(&written).unwrap();
    let older = postcard::to_allocvec(&("log", 4_i32, 1_u32, 42_i64)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = StateStore::open(dir.path()).unwrap();
    let shard = Shard::new(StoreName::Payments, 0);
    for (bytes, expected) in [(bytes, written), (older, position(42))] {
        store.db.put(shard.position_key(), bytes).unwrap();
        assert_eq!(store.position(shard).unwrap(), Some(expected));
    }
}

#[test]
fn records_are_told_apart() {
    let records = [(&b"key"[..], Some(&b"value"[..])), (b"key", None), (b"key", Some(b"")), (b"keyv", Some(b"alue"))];
    let fingerprints = records.map(|(key, value)| fingerprint(key, value));
    assert_eq!(fingerprints.iter().collect::<std::collections::BTreeSet<_>>().len(), records.len());
    assert_eq!(fingerprints[0], fingerprint(b"key", Some(b"value")));
}

#[test]
fn a_second_opening_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let _first = StateStore::open(dir.path()).unwrap();
    let error = StateStore::open(dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
}

#[test]
fn a_directory_that_is_a_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = StateStore::open(&file).err().unwrap();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The store against a plain map, over batches and reopening.
    #[test]
    fn equals_a_map(batches in prop::collection::vec(prop::collection::vec((0..3_i32, 0..20_u8, prop::option::of(any::<u16>())), 1..20), 1..8)) {
        let dir = tempfile::tempdir().unwrap();
        let mut model: BTreeMap<(i32, u8), u16> = BTreeMap::new();
        for batch in &batches {
            let store = StateStore::open(dir.path()).unwrap();
            let mut writes = StateBatch::default();
            for &(partition, key, value) in batch {
                writes.put(Shard::new(StoreName::Customers, partition), &[key], value.map(u16::to_be_bytes).as_ref().map(|v| &v[..]));
                match value {
                    Some(value) => model.insert((partition, key), value),
                    None => model.remove(&(partition, key)),
                };
            }
            store.write(writes).unwrap();
            for partition in 0..3 {
                let shard = Shard::new(StoreName::Customers, partition);
                let expected: Vec<_> = model.range((partition, 5)..(partition + 1, 0))
                    .map(|(&(_, key), value)| (vec![key], value.to_be_bytes().to_vec())).collect();
                prop_assert_eq!(entries(&store, shard, &[5]), expected);
            }
        }
    }
}
