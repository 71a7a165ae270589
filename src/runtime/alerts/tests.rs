//! Sinks that are scripted, on an embedded log: starts, restarts, deaths between sending and committing, failures.

use super::*;
use crate::config::LoadOptions;
use crate::domain::PspId;
use crate::domain::alert::Alert;
use crate::domain::psp::{Evidence, HealthState, OutageCause, PspOutage, Segment, Severity};
use crate::engine::alerts::Style;
use crate::io::alert::Delivery;
use crate::io::codec::Codec;
use crate::io::log::Output;
use crate::io::log::embedded::{EmbeddedLog, EmbeddedOptions};
use crate::io::store::StateStore;
use crate::io::topics::{PlanOptions, TopicNames, declared, plan};
use crate::runtime::Clock;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// What a sink does with the next alert; when nothing is scripted it takes it.
#[derive(Clone, Debug)]
enum Does {
    Answers(Delivery),
    /// The process dies when the alert is sent, and nobody hears the answer.
    Dies,
}

#[derive(Clone, Default)]
struct Sink {
    script: Arc<Mutex<VecDeque<Does>>>,
    /// What was sent, whatever came of it.
    sent: Arc<Mutex<Vec<Alert>>>,
}

impl Sink {
    fn scripted(script: impl IntoIterator<Item = Does>) -> Self {
        let sink = Self::default();
        sink.script.lock().unwrap_or_else(PoisonError::into_inner).extend(script);
        sink
    }

    /// Titles of what was sent since the last call; with a mark where it said that it may be a repeat.
    fn titles(&self) -> Vec<String> {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
        sent.iter().map(|alert| format!("{}{}", alert.title, if alert.perhaps_repeated { " (?)" } else { "" })).collect()
    }

    fn keys(&self) -> Vec<String> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|alert| alert.key.clone()).collect()
    }
}

impl AlertSink for Sink {
    fn deliver(&mut self, alert: &Alert) -> Delivery {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(alert.clone());
        let next = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match next {
            None => Delivery::Delivered,
            Some(Does::Answers(delivery)) => delivery,
            Some(Does::Dies) => panic!("dies"),
        }
    }
}

struct World {
    log: Arc<dyn EventLog>,
    shared: Arc<Shared>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path().join("log"), EmbeddedOptions::default()).unwrap();
        log.create_topics(&plan(&declared().unwrap(), &[], &PlanOptions::default()).create).unwrap();
        let settings = Config::load(&LoadOptions::default()).unwrap().config.settings;
        let store = StateStore::open(&dir.path().join("state")).unwrap();
        let shared = Shared::new(Clock::Wall, settings, Codec::from_ids().unwrap(), TopicNames::default(), store).unwrap();
        Self { log: Arc::new(log), shared: Arc::new(shared), _dir: dir }
    }

    /// A transition of that PSP, now.
    fn happens(&self, psp: &str, from: HealthState, to: HealthState) {
        let outage = PspOutage {
            outage_id: format!("outage of {psp}"),
            psp_id: PspId::new(psp),
            segment: Segment::all(),
            from,
            to,
            at: wall_ms(),
            first_evidence_at: wall_ms(),
            severity: if to == HealthState::Down { Severity::Critical } else { Severity::Info },
            cause: OutageCause::Errors,
            evidence: Evidence::default(),
            payments_at_risk: 0,
            amount_at_risk_minor: 0,
            diverted: Vec::new(),
            summary: String::new(),
        };
        let mut value = Vec::new();
        self.shared.codec.encode(&outage, &mut value).unwrap();
        self.append(value);
    }

    fn append(&self, value: Vec<u8>) {
        let output = Output {
            topic: topics::PSP_OUTAGES.into(),
            partition: Some(0),
            timestamp_ms: None,
            key: Some(Bytes::from_static(b"key")),
            value: Some(value.into()),
            headers: Vec::new(),
        };
        self.log.appender().unwrap().append(vec![output]).unwrap();
    }

    /// A process that serves the sink for a while; if it dies, it leaves nothing in order.
    fn serve(&self, name: &str, sink: &Sink, style: Style) {
        self.serve_by(&AlertRules { style, ..rules() }, name, sink);
    }

    fn serve_by(&self, rules: &AlertRules, name: &str, sink: &Sink) {
        let line = Line { name: name.to_owned(), sink: Box::new(sink.clone()), rules: rules.clone(), group_ms: 30 };
        let office = Office {
            log: self.log.clone(),
            shared: self.shared.clone(),
            outages: TopicPartition::new(topics::PSP_OUTAGES, 0),
            changelog: TopicPartition::new(topics::ALERTS_CHANGELOG, 0),
            stop: Stop::default(),
        };
        let stop = office.stop.clone();
        let timer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(400));
            stop.set();
        });
        let mut desk = Desk::new(line, &format!("g-alerts-{name}"));
        if let Ok(ended) = catch_unwind(AssertUnwindSafe(|| office.session(&mut desk, "one"))) {
            ended.unwrap();
        }
        timer.join().unwrap();
    }
}

fn rules() -> AlertRules {
    AlertRules {
        quiet_ms: 0,
        remind_ms: 0,
        age_max_ms: 60_000,
        names: std::collections::BTreeMap::new(),
        ..crate::engine::alerts::tests::rules()
    }
}

use HealthState::{Down, Recovering, Up};

#[test]
fn a_new_group_begins_with_what_happens_from_then_on_and_never_repeats() {
    for kind in [Style::Grouped, Style::Each] {
        let (world, sink) = (World::new(), Sink::default());
        world.happens("before", Up, Down);
        world.serve("s", &sink, kind);
        assert_eq!(sink.titles(), [""; 0], "history is no news");
        world.happens("meanwhile", Up, Down);
        world.serve("s", &sink, kind);
        assert_eq!(sink.titles(), ["meanwhile is DOWN"], "told once there is somebody to tell it");
        world.serve("s", &sink, kind);
        assert_eq!(sink.titles(), [""; 0]);
        world.happens("before", Down, Recovering);
        world.happens("meanwhile", Down, Recovering);
        world.serve("s", &sink, kind);
        assert_eq!(sink.titles(), ["meanwhile is RECOVERING"], "of an outage whose beginning was not told nothing is told");
    }
}

#[test]
fn who_dies_after_sending_leaves_one_alert_in_doubt_and_no_other() {
    let (world, sink) = (World::new(), Sink::scripted([Does::Dies]));
    world.serve("s", &sink, Style::Grouped);
    world.happens("a", Up, Down);
    world.happens("b", Up, Down);
    world.serve("s", &sink, Style::Grouped);
    let keys = sink.keys();
    assert_eq!(sink.titles(), ["a is DOWN; b is DOWN"]);
    // What comes meanwhile is another alert: the repeat has to be known as such.
    world.happens("c", Up, Down);
    world.serve("s", &sink, Style::Grouped);
    assert_eq!(sink.keys()[0], keys[0]);
    assert_eq!(sink.titles(), ["a is DOWN; b is DOWN (?)", "c is DOWN"]);
    world.serve("s", &sink, Style::Grouped);
    assert_eq!(sink.titles(), [""; 0]);
}

#[test]
fn who_knows_outages_by_their_ids_gets_only_the_last_one_again() {
    let (world, sink) = (World::new(), Sink::scripted([Does::Answers(Delivery::Delivered), Does::Dies]));
    world.serve("s", &sink, Style::Each);
    world.happens("a", Up, Down);
    world.happens("a", Down, Recovering);
    world.happens("a", Recovering, Up);
    world.serve("s", &sink, Style::Each);
    assert_eq!(sink.titles(), ["a is DOWN", "a is RECOVERING"]);
    world.serve("s", &sink, Style::Each);
    assert_eq!(sink.titles(), ["a is RECOVERING (?)", "a is back UP"]);
}

#[test]
fn a_sink_that_fails_holds_up_no_other_and_loses_nothing() {
    let again = |in_doubt, after: u64| {
        Does::Answers(Delivery::TryAgain { after: Some(Duration::from_millis(after)), reason: "busy".into(), in_doubt })
    };
    let (world, failing, well) =
        (World::new(), Sink::scripted([again(false, 10), again(true, 10), again(false, 60_000)]), Sink::default());
    world.serve("failing", &failing, Style::Grouped);
    world.serve("well", &well, Style::Each);
    world.happens("a", Up, Down);
    world.serve("failing", &failing, Style::Grouped);
    world.serve("well", &well, Style::Each);
    assert_eq!(well.titles(), ["a is DOWN"]);
    let keys = failing.keys();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(failing.titles(), ["a is DOWN", "a is DOWN", "a is DOWN (?)"], "in doubt since the second try");
    world.happens("b", Up, Down);
    world.serve("failing", &failing, Style::Grouped);
    assert_eq!(failing.titles(), ["a is DOWN (?)", "b is DOWN"]);
}

#[test]
fn what_is_refused_or_cannot_be_read_holds_up_nothing() {
    let refused = Does::Answers(Delivery::Refused { reason: "no_service".into() });
    let (world, sink) = (World::new(), Sink::scripted([refused]));
    world.serve("s", &sink, Style::Grouped);
    world.happens("a", Up, Down);
    world.append(b"noise".to_vec());
    world.serve("s", &sink, Style::Grouped);
    world.happens("b", Up, Down);
    world.serve("s", &sink, Style::Grouped);
    assert_eq!(sink.titles(), ["a is DOWN", "b is DOWN"]);
}

#[test]
fn what_was_told_is_known_after_a_restart() {
    let (world, sink) = (World::new(), Sink::default());
    let reminding = AlertRules { remind_ms: 100, ..rules() };
    world.serve("s", &sink, Style::Grouped);
    world.happens("a", Up, Down);
    world.serve("s", &sink, Style::Grouped);
    assert_eq!(sink.titles(), ["a is DOWN"]);
    world.serve_by(&reminding, "s", &sink);
    let told = sink.titles();
    assert!((2..=5).contains(&told.len()) && told.iter().all(|title| title == "a is still DOWN"), "{told:?}");
    // One that was announced under other rules is taken back.
    sink.script.lock().unwrap().push_back(Does::Dies);
    world.serve_by(&reminding, "s", &sink);
    assert_eq!(sink.titles(), ["a is still DOWN"]);
    world.happens("a", Down, Up);
    world.serve("s", &sink, Style::Grouped);
    assert_eq!(sink.titles(), ["a is back UP"]);
    world.serve_by(&reminding, "s", &sink);
    assert_eq!(sink.titles(), [""; 0]);
}

#[test]
fn names_that_begin_alike_do_not_share_what_they_know() {
    let (world, slack, other) = (World::new(), Sink::default(), Sink::default());
    world.serve("slack", &slack, Style::Grouped);
    world.happens("a", Up, Down);
    world.serve("slack", &slack, Style::Grouped);
    world.serve("slack-2", &other, Style::Grouped);
    world.happens("a", Down, Recovering);
    world.serve("slack-2", &other, Style::Grouped);
    assert_eq!(other.titles(), [""; 0]);
    world.serve("slack", &slack, Style::Grouped);
    assert_eq!(slack.titles(), ["a is DOWN", "a is RECOVERING"]);
    assert_eq!(slack.keys().len(), 0);
}

#[test]
fn every_sink_of_a_configuration_can_be_made() {
    let text = "[[psps]]\nid = 'a'\nname = 'A'\n[alerts]\nsinks = [{ kind = 'slack', url = 'http://h/x' }, { kind = 'log' }, \
                { kind = 'pagerduty', routing_key = 'k' }, { kind = 'webhook', url = 'http://h', secret = 's', psps = ['a'] }]\n";
    let base = Some(text.to_owned());
    let config = Config::load(&LoadOptions { base, ..LoadOptions::default() }).unwrap().config;
    let made: Vec<_> = lines(&config).unwrap().into_iter().map(|line| (line.name, line.rules.style)).collect();
    let expected = [("slack", Style::Grouped), ("log", Style::Each), ("pagerduty", Style::Each), ("webhook", Style::Grouped)];
    assert_eq!(made, expected.map(|(name, style)| (name.to_owned(), style)));
}
