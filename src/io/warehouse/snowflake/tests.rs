//! The adapter against a double of the vendor's services: the promises of the port under each fault, and what is said when something is wrong.

use super::super::Cell;
use super::super::conformance::{self, Bed, NOON, channel, row};
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[path = "../../../../tests/warehouse/double/mod.rs"]
mod double;

use double::{Double, Faults};

const LOG: &str = "log-1";

fn settings(double: &Double, database: &str) -> SnowflakeSettings {
    SnowflakeSettings {
        account: double::ACCOUNT.to_owned(),
        url: Some(double.url.clone()),
        user: double::USER.to_owned(),
        private_key_file: double.key_file(),
        private_key_passphrase: Some(double::PASSPHRASE.to_owned()),
        role: Some("WRITER".to_owned()),
        database: database.to_owned(),
        schema: "PUBLIC".to_owned(),
        warehouse: None,
        pipe_suffix: "-STREAMING".to_owned(),
        ca_file: Some(double.ca_file()),
        timeout: Duration::from_secs(5),
        retry: Duration::from_secs(20),
        commit_timeout: Duration::from_secs(10),
    }
}

fn sleeping() -> Patience {
    Arc::new(|duration| {
        thread::sleep(duration.min(Duration::from_millis(20)));
        true
    })
}

fn open_with(settings: SnowflakeSettings, log_id: &str) -> SnowflakeWarehouse {
    SnowflakeWarehouse::new(settings, &Catalogue::shipped().unwrap(), log_id, sleeping()).unwrap()
}

fn open(double: &Double) -> SnowflakeWarehouse {
    open_with(settings(double, "DB"), LOG)
}

fn put(warehouse: &mut SnowflakeWarehouse, offsets: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, WarehouseError> {
    let bounds = (*offsets.start(), *offsets.end());
    warehouse.append(&channel(0), offsets.map(|offset| row(0, offset, NOON)).collect(), bounds)?;
    warehouse.commit(&channel(0))
}

fn offsets(double: &Double, database: &str, partition: i32) -> Vec<i64> {
    let rows = double.rows(database, "ML_MODEL_STAGES");
    rows.iter().filter(|row| row["PARTITION"] == partition).map(|row| row["OFFSET"].as_i64().unwrap()).collect()
}

/// One double for all beds, a database for each.
struct Place {
    double: Arc<Double>,
    database: String,
}

impl Place {
    fn new(double: &Arc<Double>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Self { double: double.clone(), database: format!("DB{}", COUNT.fetch_add(1, Ordering::Relaxed)) }
    }
}

impl Bed for Place {
    fn open(&self) -> Result<Box<dyn Warehouse>, WarehouseError> {
        Ok(Box::new(open_with(settings(&self.double, &self.database), LOG)))
    }

    fn offsets(&self, channel: &Channel) -> Vec<i64> {
        offsets(&self.double, &self.database, channel.at.partition)
    }
}

#[test]
fn it_keeps_the_promises_of_the_port() {
    let double = Arc::new(Double::start(1));
    conformance::check(|| Place::new(&double));
}

/// Faults after which the adapter goes on by itself.
#[test]
fn it_keeps_them_over_a_bad_line_and_a_slow_server() {
    let double = Arc::new(Double::start(7));
    double.with(|it| it.faults = Faults { busy: 10, lost: 50, expired: 10, commit_ms: 30, ..Faults::default() });
    conformance::check(|| Place::new(&double));
    let (dealt, repeats) = double.with(|it| (it.dealt.clone(), it.channels.repeats));
    assert!(["busy", "lost", "expired"].iter().all(|fault| dealt.get(fault).is_some_and(|times| *times > 0)), "{dealt:?}");
    assert!(repeats > 0, "{repeats}");
}

/// And those after which the channel has to be opened again: whatever it says, rows are there once and in order, and all when it says so.
#[test]
fn whatever_is_dealt_no_row_is_missing_or_twice() {
    let double = Double::start(11);
    double.with(|it| it.faults = Faults { busy: 5, lost: 15, late: 50, stale: 8, expired: 5, restart: 5, commit_ms: 30 });
    let (mut warehouse, mut next, mut reopened) = (open(&double), 0, 0);
    for _ in 0..150 {
        let done = warehouse.open(&channel(0)).and_then(|token| {
            next = token.map_or(0, |token| token + 1);
            put(&mut warehouse, next..=next + 4)
        });
        match done {
            Ok(token) => assert_eq!(token, Some(next + 4)),
            Err(error) => {
                reopened += 1;
                assert!(["stale", "away"].contains(&error.kind()), "{error}");
            }
        }
        let found = offsets(&double, "DB", 0);
        assert!(found.iter().enumerate().all(|(index, offset)| *offset == index as i64), "{found:?}");
    }
    double.with(|it| it.faults = Faults::default());
    let token = warehouse.open(&channel(0)).unwrap().unwrap();
    assert_eq!(offsets(&double, "DB", 0).len() as i64, token + 1);
    assert!(token > 200 && reopened > 5, "{token} {reopened}");
}

#[test]
fn rows_of_a_writer_that_died_are_waited_for() {
    let double = Double::start(3);
    let mut first = open(&double);
    first.open(&channel(0)).unwrap();
    put(&mut first, 0..=1).unwrap();
    double.with(|it| it.faults.commit_ms = 300);
    let rows = (2..=9).map(|offset| row(0, offset, NOON)).collect();
    first.append(&channel(0), rows, (2, 9)).unwrap();
    first.send(&channel(0)).unwrap();
    drop(first);
    let token = open(&double).open(&channel(0)).unwrap();
    assert_eq!((token, offsets(&double, "DB", 0).len()), (Some(9), 10));

    // Those that do not arrive are given up, and are nowhere.
    double.with(|it| it.faults.commit_ms = 60_000);
    let mut second = open_with(SnowflakeSettings { commit_timeout: Duration::from_millis(300), ..settings(&double, "DB") }, LOG);
    second.open(&channel(0)).unwrap();
    let late = put(&mut second, 10..=12).unwrap_err();
    assert!(late.kind() == "slow" && late.to_string().contains("up to 12"), "{late}");
    assert_eq!(second.open(&channel(0)).unwrap(), Some(9));
    double.with(|it| it.faults.commit_ms = 0);
    assert_eq!(put(&mut second, 10..=12).unwrap(), Some(12));
    assert_eq!(offsets(&double, "DB", 0), (0..=12).collect::<Vec<_>>());
}

#[test]
fn commits_of_many_channels_are_waited_for_together() {
    let double = Double::start(4);
    double.with(|it| it.faults.commit_ms = 200);
    let mut warehouse = open(&double);
    let channels: Vec<Channel> = (0..8).map(channel).collect();
    for it in &channels {
        warehouse.open(it).unwrap();
        warehouse.append(it, vec![row(it.at.partition, 7, NOON)], (7, 7)).unwrap();
    }
    let before = double.with(|it| it.asked.len());
    assert_eq!(warehouse.commit_all(&channels).unwrap(), vec![Some(7); 8]);
    let looks = double.with(|it| it.asked[before..].iter().filter(|path| path.contains("bulk-channel-status")).count());
    assert!((1..=10).contains(&looks), "{looks} looks");
    assert_eq!(double.rows("DB", "ML_MODEL_STAGES").len(), 8);
}

#[test]
fn rows_that_are_passed_over_are_told() {
    let double = Double::start(5);
    double.with(|it| it.channels.refused.extend([3, 4]));
    let mut warehouse = open(&double);
    warehouse.open(&channel(0)).unwrap();
    assert_eq!(put(&mut warehouse, 0..=9).unwrap(), Some(9), "its token goes on");
    let report = warehouse.reports().pop().unwrap();
    assert_eq!((report.rows_refused, report.processing_ms, report.name.as_str()), (2, Some(42), "CONTROL_MODELS-0"));
    assert!(report.last_refusal.unwrap().contains("not recognized (at or before 9@log-1)"));
    assert_eq!(offsets(&double, "DB", 0), [0, 1, 2, 5, 6, 7, 8, 9]);
}

#[test]
fn a_channel_of_another_log_or_program_is_left_alone() {
    let double = Double::start(6);
    let mut warehouse = open(&double);
    warehouse.open(&channel(0)).unwrap();
    put(&mut warehouse, 0..=1).unwrap();
    let refused = open_with(settings(&double, "DB"), "log-2").open(&channel(0)).unwrap_err();
    assert!(refused.kind() == "other_log" && refused.to_string().contains("(log-1, this one is log-2)"), "{refused}");
    double.with(|it| it.channels.set_committed("DB", "12"));
    let refused = warehouse.open(&channel(0)).unwrap_err().to_string();
    assert!(refused.contains("another program writes it"), "{refused}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let double = Double::start(8);
    let told = |settings: SnowflakeSettings| {
        let opened = SnowflakeWarehouse::new(settings, &Catalogue::shipped().unwrap(), LOG, sleeping());
        let error = opened.map_err(WarehouseError::from).and_then(|mut it| it.open(&channel(0))).unwrap_err();
        (error.kind(), error.to_string())
    };
    let good = settings(&double, "DB");
    let other_user = SnowflakeSettings { user: "other".to_owned(), ..good.clone() };
    let other_passphrase = SnowflakeSettings { private_key_passphrase: Some("nope".to_owned()), ..good.clone() };
    let no_authority = SnowflakeSettings { ca_file: None, retry: Duration::ZERO, ..good.clone() };
    let nobody = SnowflakeSettings { url: Some("https://localhost:1".to_owned()), retry: Duration::ZERO, ..good.clone() };
    for (settings, kind, parts) in [
        (other_user, "refused", ["390144", "RSA_PUBLIC_KEY_FP"]),
        (other_passphrase, "setting", ["private_key_file", "private_key_passphrase is another one"]),
        (no_authority, "away", ["certificate", "none is lost"]),
        (nobody, "away", ["asking for the host", "none is lost"]),
    ] {
        let (found, said) = told(settings);
        assert_eq!(found, kind, "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        assert!(!said.contains("nope") && !said.contains(double::PASSPHRASE), "{said}");
    }
    double.with(|it| it.clock_ahead_s = 500);
    let (_, said) = told(good.clone());
    assert!(said.contains("clock is 500 s behind Snowflake's") || said.contains("clock is 499 s behind"), "{said}");
    double.with(|it| it.clock_ahead_s = 0);
    double.with(|it| it.channels.dropped.insert("ML_MODEL_STAGES".to_owned()));
    let (kind, said) = told(good);
    assert!(
        kind == "refused" && said.contains("ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED") && said.contains("was dropped"),
        "{said}"
    );
}

#[test]
fn who_is_told_to_stop_does_not_wait() {
    let double = Double::start(9);
    double.with(|it| it.faults.busy = 100);
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let patience: Patience = Arc::new(move |_| counted.fetch_add(1, Ordering::SeqCst) < 2);
    let mut warehouse = SnowflakeWarehouse::new(settings(&double, "DB"), &Catalogue::shipped().unwrap(), LOG, patience).unwrap();
    let error = warehouse.open(&channel(0)).unwrap_err();
    assert!(error.kind() == "away" && tries.load(Ordering::SeqCst) == 3, "{error}");
}

#[test]
fn small_tables_are_merged_by_their_key_and_statements_run_once() {
    let double = Double::start(10);
    double.with(|it| it.faults = Faults { lost: 30, busy: 20, ..Faults::default() });
    let mut warehouse = open(&double);
    let card = |version: &str, card: &str| {
        let text = |text: &str| Cell::Text(text.to_owned());
        Row(vec![text("m"), text(version), text(card), Cell::Null, Cell::Null])
    };
    for round in 0..6 {
        double.with(|it| it.sql.is_slow = round % 2 == 0);
        warehouse.replace("ML_MODEL_CARDS", vec![card("1", &format!("{{\"round\": {round}}}")), card("2", "it's; --")]).unwrap();
    }
    let (merged, ran) = double.with(|it| (it.sql.merged.clone(), it.sql.ran.clone()));
    let cards: Vec<_> = merged.values().map(|row| row[2].clone().unwrap()).collect();
    assert_eq!(cards, ["{\"round\": 5}", "it's; --"]);
    assert_eq!(ran.len(), 12, "each once");
    assert!(ran.iter().all(|(statement, _)| !statement.contains("it's") && statement.matches('?').count() == 5));
}
