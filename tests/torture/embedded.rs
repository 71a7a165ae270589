//! A replay into the embedded log, killed at failpoints and started over until it comes through: it ends as one that was not killed.

use smartrouter::domain::decision::RoutingDecision;
use smartrouter::domain::learning::{Feedback, Prediction};
use smartrouter::domain::psp::PspState;
use smartrouter::io::codec::{Codec, Wire};
use smartrouter::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use smartrouter::io::log::{EventLog, Polled, Position, TopicPartition};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

const SIGKILL: i32 = 9;
const ROWS: usize = 3_000;
/// Where the replay is killed, one after the other; each time it is begun again from the first row.
const KILLS: [&str; 9] = [
    "after-poll=2",
    "before-commit=1",
    "after-commit=1",
    "before-store-write=2",
    "before-store-write=2:60",
    "after-store-write=1",
    "during-restore=1",
    "before-commit=3",
    "before-store-write=1:20",
];

fn history(path: &Path) {
    let mut text = String::from("id,tmsp,country,amount,success,PSP,3D_secured,card\n");
    for row in 0..ROWS {
        let (hour, minute, second) = (row / 200, row / 4 % 50, row % 4 * 15);
        let psp = ["UK_Card", "Simplecard", "Moneycard", "Goldcard"][row % 4];
        let amount = 50 + row / 2 % 90;
        let success = u8::from(row % 5 == 0);
        writeln!(text, "{row},2019-01-01 {hour:02}:{minute:02}:{second:02},Germany,{amount},{success},{psp},{},Visa", row % 2)
            .unwrap();
    }
    std::fs::write(path, text).unwrap();
}

fn replay(history: &Path, state: &Path, failpoint: Option<&str>) -> ExitStatus {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartrouter"));
    command.arg("-c").arg(root.join("deploy/january.toml")).arg("--state-dir").arg(state).args(["--output", "json", "replay"]);
    command.arg(history).arg("--mapping").arg(root.join("deploy/mappings/psp_routing_log.toml")).arg("--decide");
    command.envs(failpoint.map(|failpoint| ("SMARTROUTER_FAILPOINT", failpoint)));
    command.output().unwrap().status
}

/// All records of a topic, decoded.
fn records<T: Wire>(log: &EmbeddedLog) -> Vec<T> {
    let codec = Codec::from_ids().unwrap();
    let topic = T::KIND.topic();
    let partitions = log.topics(&[]).unwrap().into_iter().find(|it| it.name == topic).unwrap().partitions;
    let from: Vec<_> = (0..partitions).map(|partition| (TopicPartition::new(topic, partition), Position::Beginning)).collect();
    let mut reader = log.reader().unwrap();
    reader.assign(&from).unwrap();
    let (mut found, mut polled, mut ended) = (Vec::new(), Vec::new(), 0);
    while ended < partitions {
        reader.poll(&mut polled, 1_000, Duration::from_secs(1)).unwrap();
        for event in polled.drain(..) {
            match event {
                Polled::Record(record) => found.extend(record.value.map(|bytes| codec.decode::<T>(&bytes).unwrap())),
                Polled::End { .. } => ended += 1,
                Polled::Assigned(_) | Polled::Revoked(_) => {}
            }
        }
    }
    found
}

/// What a replay comes to: feedback by attempt, decisions and predictions by request, windows by segment.
#[derive(Debug, PartialEq)]
struct Ends {
    feedback: Vec<(String, String, bool)>,
    decided: Vec<String>,
    predicted: Vec<String>,
    windows: BTreeMap<String, String>,
}

fn ends(state: &Path) -> Ends {
    let log = EmbeddedLog::open(state.join("log"), EmbeddedOptions::default()).unwrap();
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let mut feedback: Vec<_> =
        records::<Feedback>(&log).into_iter().map(|it| (it.attempt_id, it.payment_id, it.approved)).collect();
    feedback.sort();
    let windows =
        records::<PspState>(&log).into_iter().map(|it| (format!("{}/{}", it.psp_id, it.segment), format!("{:?}", it.windows)));
    Ends {
        feedback,
        decided: sorted(records::<RoutingDecision>(&log).into_iter().map(|it| it.request_id).collect()),
        predicted: sorted(records::<Prediction>(&log).into_iter().map(|it| it.request_id).collect()),
        windows: windows.collect(),
    }
}

#[test]
fn a_replay_that_is_killed_ends_as_one_that_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (file, whole, killed) = (dir.path().join("history.csv"), dir.path().join("whole"), dir.path().join("killed"));
    history(&file);
    assert!(replay(&file, &whole, None).success());
    for failpoint in KILLS {
        if failpoint.starts_with("during-restore") {
            std::fs::remove_dir_all(killed.join("store")).unwrap();
        }
        let status = replay(&file, &killed, Some(failpoint));
        assert_eq!(status.signal(), Some(SIGKILL), "{failpoint}: {status}");
    }
    assert!(replay(&file, &killed, None).success());
    let (expected, found) = (ends(&whole), ends(&killed));
    assert_eq!(expected.feedback.len(), ROWS);
    assert_eq!(found, expected);
    for state in [&whole, &killed] {
        let mut check = Command::new(env!("CARGO_BIN_EXE_smartrouter"));
        check.arg("--state-dir").arg(state).args(["state", "check"]).env("SMARTROUTER__RUNTIME__LOG", "embedded");
        let done = check.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
}
