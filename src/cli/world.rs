//! The simulated world at the command line: made from the configuration, its events as records, decisions as its routes.
//!
//! Owns which merchant and PSPs are simulated, the static rules as what decisions are compared with, and both ways between the
//! world and a log. Never decides when time passes: `demo` and `simulate` do.

use super::context::Context;
use super::press::Press;
use super::scan::partitions_of;
use anyhow::{Context as _, Result, bail};
use smartrouter::domain::decision::{RoutingDecision, SkipReason};
use smartrouter::domain::payment::{Payment, RoutingRequest};
use smartrouter::domain::psp::PspOutage;
use smartrouter::domain::{EpochMs, PspId};
use smartrouter::engine::policy::{DecideInput, Router, StaticView, decide};
use smartrouter::engine::settings::{Merchant, Psp, Ranking, Settings, Split};
use smartrouter::io::codec::Codec;
use smartrouter::io::log::{Appender, EventLog, Output, Polled, Position, Reader};
use smartrouter::io::topics;
use smartrouter::sim::{Route, Scenario, ScenarioError, SimEvent, SimPsp, StaticRoute, World, WorldSettings};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The first merchant of the configuration with counterparts of its PSPs.
pub(super) fn settings(settings: &Settings, seed: u64, start_at: EpochMs) -> Result<WorldSettings> {
    let (merchant, psps) = first_merchant(settings)?;
    let simulated = SimPsp::counterparts(&psps);
    let static_split = usual_split(settings);
    Ok(WorldSettings { static_split, ..WorldSettings::typical(seed, start_at, merchant.clone(), simulated) })
}

/// Whose payments are made up, and the PSPs that may get them: at least one.
pub(super) fn first_merchant(settings: &Settings) -> Result<(&Merchant, Vec<Psp>)> {
    let Some(merchant) = settings.merchants.first() else {
        bail!(
            "no merchant is configured, so there is nobody to simulate: give a configuration such as deploy/volaris.toml with -c"
        );
    };
    let psps: Vec<_> = settings.psps.iter().filter(|psp| merchant.psps.contains(&psp.id)).cloned().collect();
    if psps.is_empty() {
        bail!("merchant {} has no PSPs: list them in `psps`", merchant.id);
    }
    Ok((merchant, psps))
}

/// The split of the weightiest rule that has one: it tells which PSPs have most of the traffic.
fn usual_split(settings: &Settings) -> Vec<Split> {
    let split = settings.rules.iter().filter(|rule| !rule.shadow && !rule.split.is_empty()).max_by_key(|rule| rule.priority);
    split.map(|rule| rule.split.clone()).unwrap_or_default()
}

/// A built-in scenario by its name, or one from a file.
pub(super) fn scenario(name: &str, world: &WorldSettings) -> Result<Scenario> {
    let scenario = match Scenario::named(name, &world.psps_by_traffic()) {
        Err(ScenarioError::UnknownName { .. }) if Path::new(name).is_file() => {
            let text = std::fs::read_to_string(name).with_context(|| format!("{name} cannot be read"))?;
            Scenario::from_toml(&text).with_context(|| name.to_owned())?
        }
        found => found?,
    };
    let ids: Vec<PspId> = world.psps.iter().map(|psp| psp.id.clone()).collect();
    scenario.check(&ids).with_context(|| format!("scenario {name}"))?;
    Ok(scenario)
}

/// A world that compares with the configured static rules.
pub(super) fn open(world: WorldSettings, settings: &Settings) -> Result<World> {
    Ok(World::with_static_route(world, Box::new(RuleRoute::new(settings)))?)
}

/// The configured rules without any knowledge of how the PSPs are doing.
struct RuleRoute {
    router: Router,
    view: StaticView,
    view_offsets: BTreeMap<String, i64>,
}

impl RuleRoute {
    fn new(settings: &Settings) -> Self {
        let mut settings = settings.clone();
        settings.policy.ranking = Ranking::StaticRule;
        Self { router: Router::new(&settings), view: StaticView::default(), view_offsets: BTreeMap::new() }
    }
}

impl StaticRoute for RuleRoute {
    fn order(&self, payment: &Payment) -> Vec<PspId> {
        let request = RoutingRequest {
            payment: payment.clone(),
            request_id: payment.payment_id.clone(),
            requested_at: 0,
            deadline_ms: None,
            allowed_psps: None,
            previous_attempts: None,
            dry_run: true,
        };
        let input = DecideInput {
            request: &request,
            previous: &[],
            view: &self.view,
            chances: None,
            view_offsets: &self.view_offsets,
            decided_at: 0,
        };
        decide(&self.router, &input).decision.ranked.into_iter().map(|ranked| ranked.psp_id).collect()
    }
}

/// Which time a record is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    EventTime,
    ByTheLog,
}

/// Writes what the world tells.
pub(super) struct Feed {
    press: Press,
    appender: Box<dyn Appender>,
    stamp: Stamp,
}

impl Feed {
    pub(super) fn open(context: &Context, log: &dyn EventLog, stamp: Stamp) -> Result<Self> {
        Ok(Self { press: Press::new(context.codec()?, context.names()), appender: log.appender()?, stamp })
    }

    /// All events as one batch.
    pub(super) fn append(&mut self, events: &[SimEvent]) -> Result<()> {
        let outputs: Vec<Output> = events.iter().map(|event| self.output(event)).collect::<Result<_>>()?;
        Ok(self.appender.append(outputs)?)
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        Ok(self.appender.flush()?)
    }

    fn output(&self, event: &SimEvent) -> Result<Output> {
        let (key, at) = (event.key(), (self.stamp == Stamp::EventTime).then(|| event.at()));
        match event {
            SimEvent::Request(request) => self.press.print(key, at, &**request),
            SimEvent::Attempt(attempt) => self.press.print(key, at, &**attempt),
            SimEvent::Outcome(outcome) => self.press.print(key, at, &**outcome),
        }
    }
}

/// Reads what the router says from now on: decisions, and transitions of PSPs.
pub(super) struct Answers {
    codec: Codec,
    reader: Box<dyn Reader>,
    decisions: String,
    polled: Vec<Polled>,
}

#[derive(Default)]
pub(super) struct News {
    pub(super) decisions: Vec<RoutingDecision>,
    pub(super) transitions: Vec<PspOutage>,
}

const RECORDS_PER_POLL: usize = 1_000;

impl Answers {
    /// From the present ends of the topics on.
    pub(super) fn open(context: &Context, log: &dyn EventLog) -> Result<Self> {
        let decisions = context.topic(topics::ROUTING_DECISIONS);
        let mut reader = log.reader()?;
        let mut from = Vec::new();
        for partition in partitions_of(log, &[decisions.clone(), context.topic(topics::PSP_OUTAGES)])? {
            let (_, end) = reader.bounds(&partition)?;
            from.push((partition, Position::At(end)));
        }
        reader.assign(&from)?;
        Ok(Self { codec: context.codec()?, reader, decisions, polled: Vec::new() })
    }

    /// What is there, waiting at most `timeout` for the first record.
    pub(super) fn poll(&mut self, timeout: Duration) -> Result<News> {
        let mut news = News::default();
        let mut timeout = timeout;
        loop {
            self.reader.poll(&mut self.polled, RECORDS_PER_POLL, timeout)?;
            let before = news.decisions.len() + news.transitions.len();
            for polled in self.polled.drain(..) {
                let Polled::Record(record) = polled else { continue };
                let Some(value) = record.value else { continue };
                if *record.at.topic == *self.decisions {
                    news.decisions.push(self.codec.decode(&value).context("a decision cannot be read")?);
                } else {
                    news.transitions.push(self.codec.decode(&value).context("a transition cannot be read")?);
                }
            }
            if news.decisions.len() + news.transitions.len() == before {
                return Ok(news);
            }
            timeout = Duration::ZERO;
        }
    }
}

/// A decision as the world takes it.
pub(super) fn route_of(decision: &RoutingDecision) -> Route {
    let for_state = |reason| matches!(reason, SkipReason::Down | SkipReason::Degraded | SkipReason::Recovering);
    Route {
        request_id: decision.request_id.clone(),
        order: decision.ranked.iter().map(|ranked| ranked.psp_id.clone()).collect(),
        avoided: decision.skipped.iter().filter(|skip| for_state(skip.reason)).map(|skip| skip.psp_id.clone()).collect(),
        decision_id: Some(decision.decision_id.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartrouter::config::{Config, LoadOptions};

    const START: EpochMs = 1_767_636_000_000;

    fn volaris() -> Settings {
        let file = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/volaris.toml").into());
        Config::load(&LoadOptions { file, ..LoadOptions::default() }).unwrap().config.settings
    }

    #[test]
    fn the_static_route_is_what_the_rules_say() {
        let (rules, mut msi, mut amex) = (volaris(), 0, 0);
        let mut world = open(settings(&rules, 1, START).unwrap(), &rules).unwrap();
        let route = RuleRoute::new(&rules);
        for event in world.step_until(START + 1_800_000) {
            let SimEvent::Request(request) = event else { continue };
            let (payment, order) = (&request.payment, route.order(&request.payment));
            if payment.card.brand == "AMEX" {
                amex += 1;
                assert_eq!(order, [PspId::new("amex")]);
            } else if payment.currency == "USD" {
                assert_eq!(order[0].as_str(), "worldpay");
            } else if payment.installments.is_some() && order[0].as_str() == "mit" {
                msi += 1;
            }
        }
        assert!(msi > 10 && amex > 10, "{msi} {amex}");
    }

    #[test]
    fn scenarios_are_names_or_files() {
        let world = settings(&volaris(), 1, START).unwrap();
        assert_eq!(world.psps_by_traffic()[0].as_str(), "worldpay");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.toml");
        let check = |text: &str, expected: &str| {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", scenario(&file.display().to_string(), &world).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check("outages = 3", "not readable");
        check("[[outages]]\npsp='nobody'\nfrom_ms=0\nto_ms=1\nfault={kind='total'}", "must be one of worldpay");
        std::fs::write(&file, "[[outages]]\npsp='mit'\nfrom_ms=0\nto_ms=1\nfault={kind='total'}").unwrap();
        assert_eq!(scenario(&file.display().to_string(), &world).unwrap().outages.len(), 1);
        assert_eq!(scenario("demo", &world).unwrap().outages.len(), 3);
        assert!(scenario("/no/such", &world).unwrap_err().to_string().contains("anything else is a file"));
    }

    #[test]
    fn nobody_to_simulate_is_said() {
        let none = Config::load(&LoadOptions::default()).unwrap().config.settings;
        assert!(settings(&none, 1, START).unwrap_err().to_string().contains("deploy/volaris.toml"));
    }
}
