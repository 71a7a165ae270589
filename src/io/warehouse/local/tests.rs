//! Columns come back as they went in, merged or not; what lies on disk is what was committed, and readers never see a row twice.

use super::super::conformance::{self, Bed, NOON, channel, row};
use super::super::{Cell, ColumnType};
use super::*;
use ::parquet::record::RowAccessor;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

const DAY_MS: i64 = 86_400_000;

fn rules() -> LocalRules {
    LocalRules { retention_days: 0, files_max: 3, small_bytes: 1 << 20 }
}

fn open(root: &Path) -> LocalWarehouse {
    open_with(root, rules())
}

fn open_with(root: &Path, rules: LocalRules) -> LocalWarehouse {
    LocalWarehouse::open(root, &Catalogue::shipped().unwrap(), "log-1", rules).unwrap()
}

fn put(warehouse: &mut LocalWarehouse, channel: &Channel, offsets: std::ops::Range<i64>, at: EpochMs) {
    let bounds = (offsets.start, offsets.end - 1);
    warehouse.append(channel, offsets.map(|offset| row(channel.at.partition, offset, at)).collect(), bounds).unwrap();
    assert_eq!(warehouse.commit(channel).unwrap(), Some(bounds.1));
}

/// Ranges of the files of a day, as their names say them.
fn ranges(root: &Path, day: &str) -> Vec<(i32, i64, i64)> {
    let files = names::files(&root.join("ML_MODEL_STAGES").join(format!("day={day}"))).unwrap();
    files.into_iter().map(|file| (file.at.partition, file.first, file.last)).collect()
}

struct Directory(tempfile::TempDir);

impl Bed for Directory {
    fn open(&self) -> Result<Box<dyn Warehouse>, WarehouseError> {
        let opened = LocalWarehouse::open(self.0.path(), &Catalogue::shipped().unwrap(), "log-1", rules())?;
        Ok(Box::new(opened))
    }

    fn offsets(&self, channel: &Channel) -> Vec<i64> {
        let table = self.0.path().join(&channel.table);
        glance(&table)
            .unwrap()
            .into_iter()
            .filter(|(partition, _)| *partition == channel.at.partition)
            .map(|(_, offset)| offset)
            .collect()
    }
}

#[test]
fn it_keeps_the_promises_of_the_port() {
    conformance::check(|| Directory(tempfile::tempdir().unwrap()));
}

#[test]
fn a_directory_has_one_writer_and_one_log() {
    let root = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::shipped().unwrap();
    let held = open(root.path());
    let refused = |log: &str| LocalWarehouse::open(root.path(), &catalogue, log, rules()).map(|_| ()).unwrap_err();
    assert!(matches!(refused("log-1"), WarehouseError::Locked { .. }));
    drop(held);
    std::fs::write(root.path().join(WORK).join("left.tmp"), "half").unwrap();
    assert!(matches!(refused("log-2"), WarehouseError::OtherLog { .. }));
    drop(open(root.path()));
    assert_eq!(std::fs::read_dir(root.path().join(WORK)).unwrap().count(), 0, "what a death left goes");
}

#[test]
fn rows_that_do_not_fit_are_our_own_mistake() {
    let root = tempfile::tempdir().unwrap();
    let mut warehouse = open(root.path());
    warehouse.open(&channel(0)).unwrap();
    let mut short = row(0, 0, NOON);
    short.0.pop();
    let mut absent = row(0, 0, NOON);
    absent.0[0] = Cell::Null;
    let mut other = row(0, 0, NOON);
    other.0[0] = Cell::Floats(vec![1.0]);
    for (wrong, says) in [(short, "10 cells"), (absent, "topic is given nothing"), (other, "another type")] {
        let error = warehouse.append(&channel(0), vec![wrong], (0, 0)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        warehouse.open(&channel(0)).unwrap();
    }
}

#[test]
fn small_files_become_one_and_a_day_that_is_over_is_merged_whole() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (channel(0), channel(1));
    let mut warehouse = open(root.path());
    for it in [&one, &two] {
        warehouse.open(it).unwrap();
    }
    for number in 0..3 {
        put(&mut warehouse, &one, number * 10..number * 10 + 10, NOON);
    }
    put(&mut warehouse, &two, 5..6, NOON);
    assert_eq!(warehouse.maintain().unwrap(), Upkeep::default(), "two saved are not worth it");
    put(&mut warehouse, &one, 30..31, NOON);
    assert_eq!(warehouse.maintain().unwrap().files_merged, 4);
    assert_eq!(ranges(root.path(), "2026-01-05"), [(0, 0, 30), (1, 5, 5)]);
    put(&mut warehouse, &one, 40..41, NOON);
    put(&mut warehouse, &one, 41..42, NOON + DAY_MS);
    assert_eq!(warehouse.maintain().unwrap().files_merged, 2);
    assert_eq!(ranges(root.path(), "2026-01-05"), [(0, 0, 40), (1, 5, 5)]);
    assert_eq!(warehouse.maintain().unwrap(), Upkeep::default());
    put(&mut warehouse, &one, 42..43, NOON);
    assert_eq!(
        ranges(root.path(), "2026-01-06"),
        [(0, 41, 41), (0, 42, 42)],
        "a clock that goes back adds nothing to a day that is over"
    );
    drop(warehouse);
    let mut warehouse = open(root.path());
    assert_eq!((warehouse.open(&one).unwrap(), warehouse.open(&two).unwrap()), (Some(42), Some(5)));
}

#[test]
fn old_days_go_but_never_the_last_row_of_a_channel() {
    let root = tempfile::tempdir().unwrap();
    let mut warehouse = open_with(root.path(), LocalRules { retention_days: 2, ..rules() });
    for partition in 0..2 {
        warehouse.open(&channel(partition)).unwrap();
    }
    put(&mut warehouse, &channel(0), 0..1, NOON);
    put(&mut warehouse, &channel(0), 1..2, NOON + DAY_MS);
    put(&mut warehouse, &channel(1), 9..10, NOON + DAY_MS);
    put(&mut warehouse, &channel(0), 2..3, NOON + 2 * DAY_MS);
    assert_eq!(warehouse.maintain().unwrap().days_removed, 0);
    put(&mut warehouse, &channel(0), 3..4, NOON + 4 * DAY_MS);
    assert_eq!(warehouse.maintain().unwrap().days_removed, 1);
    let days = names::days(&root.path().join("ML_MODEL_STAGES")).unwrap();
    assert_eq!(days.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2026-01-06", "2026-01-07", "2026-01-09"]);
}

#[test]
fn a_small_table_is_replaced_whole() {
    let root = tempfile::tempdir().unwrap();
    let mut warehouse = open(root.path());
    let card = |version: &str| super::super::card_row("selector", version, [Some(b"{}".to_vec()), None, None]);
    warehouse.replace("ML_MODEL_CARDS", vec![card("1")]).unwrap();
    warehouse.replace("ML_MODEL_CARDS", vec![card("1"), card("2")]).unwrap();
    let path = root.path().join("ML_MODEL_CARDS").join(SNAPSHOT);
    assert_eq!(leaf::rows_of(File::open(path).unwrap()).unwrap(), 2);
    let held = held(root.path(), &Catalogue::shipped().unwrap()).unwrap();
    let cards = held.iter().find(|held| held.table == "ML_MODEL_CARDS").unwrap();
    assert_eq!((cards.files, cards.days, held.len()), (1, 0, 5));
}

/// Partitions and offsets that a reader finds that lists the directory and then opens what it listed; None: a file was gone by then.
fn glance(table: &Path) -> Option<Vec<(i32, i64)>> {
    let mut found = Vec::new();
    for day in names::days(table).unwrap() {
        let directory = names::directory_of(table, day);
        for file in names::files(&directory).unwrap() {
            let reader =
                ::parquet::file::reader::SerializedFileReader::new(File::open(directory.join(file.text())).ok()?).unwrap();
            for row in reader {
                let row = row.unwrap();
                found.push((row.get_int(1).unwrap(), row.get_long(2).unwrap()));
            }
        }
    }
    Some(found)
}

#[test]
fn who_reads_at_any_moment_sees_no_row_twice_and_no_gap() {
    let root = tempfile::tempdir().unwrap();
    let table = root.path().join("ML_MODEL_STAGES");
    let done = AtomicBool::new(false);
    let (mut glances, mut gone) = (0, 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut warehouse = open(root.path());
            warehouse.open(&channel(0)).unwrap();
            for number in 0..150 {
                put(&mut warehouse, &channel(0), number * 4..number * 4 + 4, NOON);
                warehouse.maintain().unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) && !writer.is_finished() {
            let Some(found) = glance(&table) else {
                gone += 1;
                continue;
            };
            glances += 1;
            let distinct: BTreeSet<i64> = found.iter().map(|(_, offset)| *offset).collect();
            assert_eq!(distinct.len(), found.len(), "a row twice: {found:?}");
            assert!(distinct.into_iter().eq(0..found.len() as i64), "a gap: {found:?}");
        }
    });
    println!("{glances} glances, {gone} asked again");
    assert!(glances > 0);
    assert_eq!(glance(&table).unwrap().len(), 600);
}

/// A cell for a column of this kind.
fn cell(kind: ColumnType, nullable: bool) -> BoxedStrategy<Cell> {
    let floats = || prop::collection::vec(any::<i16>().prop_map(f32::from), 0..4);
    let there = match kind {
        ColumnType::Text | ColumnType::Json => "[a-zé']{0,6}".prop_map(Cell::Text).boxed(),
        ColumnType::Bool => any::<bool>().prop_map(Cell::Flag).boxed(),
        ColumnType::Int => any::<i32>().prop_map(Cell::Int).boxed(),
        ColumnType::Long => any::<i64>().prop_map(Cell::Long).boxed(),
        ColumnType::Double => any::<i32>().prop_map(|it| Cell::Double(f64::from(it))).boxed(),
        ColumnType::Timestamp => any::<i64>().prop_map(Cell::Time).boxed(),
        ColumnType::Texts => prop::collection::vec("[a-z]{0,3}", 0..4).prop_map(Cell::Texts).boxed(),
        ColumnType::Floats => floats().prop_map(Cell::Floats).boxed(),
        ColumnType::Doubles => {
            let one = prop::option::of(any::<i32>().prop_map(f64::from));
            prop::collection::vec(one, 0..4).prop_map(Cell::Doubles).boxed()
        }
        ColumnType::FloatLists => prop::collection::vec(floats(), 0..4).prop_map(Cell::FloatLists).boxed(),
    };
    if nullable { prop_oneof![1 => Just(Cell::Null), 3 => there].boxed() } else { there }
}

fn any_row(table: &Table) -> impl Strategy<Value = Row> + use<> {
    table.columns.iter().map(|column| cell(column.kind, column.nullable)).collect::<Vec<_>>().prop_map(Row)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However rows are dealt to groups and files, they come back as the same columns with the same levels.
    #[test]
    fn columns_come_back_as_they_went_in(name in 0..5_usize, seed in prop::collection::vec(1..6_usize, 1..5)) {
        let table = Arc::new(Catalogue::shipped().unwrap().tables.swap_remove(name));
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut draw = || any_row(&table).new_tree(&mut runner).unwrap().current();
        let directory = tempfile::tempdir().unwrap();
        let (mut whole, mut back) = (Batch::new(table.clone()), Batch::new(table.clone()));
        for (number, rows) in seed.into_iter().enumerate() {
            let mut batch = Batch::new(table.clone());
            for row in std::iter::repeat_with(&mut draw).take(rows) {
                whole.push(row.clone()).unwrap();
                batch.push(row).unwrap();
            }
            let path = directory.path().join(number.to_string());
            let mut writer = Writer::new(File::create(&path).unwrap(), &table).unwrap();
            writer.write(&batch).unwrap();
            writer.finish().unwrap();
            leaf::read(File::open(&path).unwrap(), &mut back, |_| Ok(())).unwrap();
        }
        prop_assert_eq!(whole, back);
    }
}
