//! What no single type can tell: ranges, order between thresholds, references, duplicates. Collects everything that is wrong.

use super::Config;
use super::print::Entry;
use super::problem::Problem;
use crate::domain::PspId;
use crate::engine::settings::{BinRange, Conditions, ErrorCode, Fee, Merchant, Psp, SequentialSettings, Settings, StaticRule};
use crate::learn::Bounds;
use std::collections::BTreeSet;
use std::fmt::{Debug, Display};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// Tiles of the shortest window: lengths are whole numbers of them.
const TILE_MS: i64 = 10_000;
const YEARS_10_MS: i64 = 3_660 * DAY_MS;
/// Kafka allows 249 characters in a topic; ours take at most 100 of them.
const PREFIX_CHARS_MAX: usize = 100;
/// Exactly-once depends on these, or they have a key of their own.
const PROPERTIES_OF_OURS: [(&str, &str); 8] = [
    ("bootstrap.servers", "use kafka.bootstrap_servers"),
    ("group.id", "use runtime.group"),
    ("group.instance.id", "use runtime.instance"),
    ("transactional.id", "it is made of the group and runtime.instance"),
    ("enable.auto.commit", "remove it"),
    ("enable.auto.offset.store", "remove it"),
    ("enable.idempotence", "remove it"),
    ("isolation.level", "remove it"),
];

pub(super) fn check(config: &Config, entries: &[Entry]) -> Vec<Problem> {
    let mut checker = Checker { entries, problems: Vec::new() };
    checker.kafka(config);
    checker.runtime(config);
    checker.gate(&config.models.gate);
    checker.alerts(config);
    checker.warehouse(config);
    checker.engine(&config.settings);
    checker.health(&config.settings);
    checker.policy(&config.settings);
    checker.merchants(&config.settings);
    checker.psps(&config.settings);
    checker.rules(&config.settings);
    checker.codes(&config.settings);
    checker.problems
}

pub(super) struct Checker<'a> {
    entries: &'a [Entry],
    problems: Vec<Problem>,
}

impl Checker<'_> {
    /// `says` is (what is wrong, what to do).
    pub(super) fn require(&mut self, holds: bool, key: &str, value: impl Debug, says: (&str, &str)) {
        if !holds {
            let (wrong, remedy) = (says.0.to_owned(), says.1.to_owned());
            self.problems.push(Problem {
                key: key.to_owned(),
                value: Some(format!("{value:?}")),
                origin: self.origin(key),
                wrong,
                remedy,
            });
        }
    }

    pub(super) fn within<T: Copy + PartialOrd + Debug + Display>(&mut self, key: &str, value: T, min: T, max: T) {
        let holds = value >= min && value <= max;
        let remedy = format!("give {min} to {max}");
        self.require(holds, key, value, ("is out of range", &remedy));
    }

    /// Of the key itself, or of the list entry that it is in.
    fn origin(&self, key: &str) -> String {
        let covers =
            |entry: &&Entry| key.strip_prefix(&entry.key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.entries.iter().find(covers).map_or_else(|| "default".to_owned(), |entry| entry.origin.clone())
    }

    fn kafka(&mut self, config: &Config) {
        let kafka = &config.kafka;
        let servers_ok = kafka.bootstrap_servers.split(',').all(|server| is_address(server.trim()));
        self.require(
            servers_ok,
            "kafka.bootstrap_servers",
            &kafka.bootstrap_servers,
            ("is not a list of host:port", "write host:port,host:port"),
        );
        self.within("kafka.session_timeout_ms", kafka.session_timeout_ms, 1_000, 1_800_000);
        self.within("kafka.transaction_timeout_ms", kafka.transaction_timeout_ms, 1_000, 900_000);
        for (name, remedy) in PROPERTIES_OF_OURS {
            if let Some(value) = kafka.properties.get(name) {
                self.require(false, &format!("kafka.properties.{name}"), value, ("is set by smartrouter itself", remedy));
            }
        }
        let prefix = &config.topics.prefix;
        let says = ("cannot begin a topic name", "use at most 100 letters, digits, '.', '_' and '-'");
        self.require(is_topic_part(prefix) && prefix.len() <= PREFIX_CHARS_MAX, "topics.prefix", prefix, says);
        let registry = &config.schema_registry;
        if let Some(url) = &registry.url {
            let is_http = url.starts_with("http://") || url.starts_with("https://");
            if url.contains('@') {
                let says = ("holds credentials", "put them in schema_registry.username and schema_registry.password");
                self.require(false, "schema_registry.url", "***", says);
            } else {
                self.require(is_http, "schema_registry.url", url, ("is not a web address", "begin it with http:// or https://"));
            }
        }
        self.within("schema_registry.timeout_ms", registry.timeout_ms, 100, 600_000);
    }

    fn runtime(&mut self, config: &Config) {
        let runtime = &config.runtime;
        for (key, name) in [("runtime.group", &runtime.group), ("runtime.instance", &runtime.instance)] {
            let holds = !name.is_empty() && is_topic_part(name) && name.len() <= PREFIX_CHARS_MAX;
            self.require(holds, key, name, ("is not a usable name", "use 1 to 100 letters, digits, '.', '_' and '-'"));
        }
        self.within("runtime.threads", runtime.threads, 1, 256);
        self.within("runtime.commit_interval_ms", runtime.commit_interval_ms, 1, 10_000);
        self.within("runtime.batch_records_max", runtime.batch_records_max, 1, 100_000);
        self.within("runtime.queue_records_max", runtime.queue_records_max, 1, 1_000_000);
        let says = ("is less than one batch", "give at least runtime.batch_records_max");
        self.require(
            runtime.queue_records_max >= runtime.batch_records_max,
            "runtime.queue_records_max",
            runtime.queue_records_max,
            says,
        );
        self.within("runtime.shutdown_timeout_ms", runtime.shutdown_timeout_ms, 100, 600_000);
        for (key, dir) in [("runtime.state_dir", &runtime.state_dir), ("runtime.models_dir", &runtime.models_dir)] {
            self.require(!dir.as_os_str().is_empty(), key, dir, ("is empty", "name a directory"));
        }
        let addr = &config.admin.addr;
        self.require(is_address(addr), "admin.addr", addr, ("is not host:port", "write it like 127.0.0.1:9464"));
    }

    fn gate(&mut self, gate: &Bounds) {
        let key = |name: &str| format!("models.gate.{name}");
        self.within(&key("rows_min"), gate.rows_min, 1, 1_000_000_000);
        self.within(&key("slice_rows_min"), gate.slice_rows_min, 1, 1_000_000_000);
        self.within(&key("row_us_max"), gate.row_us_max, 0.1, 1e6);
        self.within(&key("log_loss_max"), gate.log_loss_max, 0.0, 100.0);
        for (name, share) in
            [("auc_min", gate.auc_min), ("ece_max", gate.ece_max), ("slice_auc_loss_max", gate.slice_auc_loss_max)]
        {
            self.within(&key(name), share, 0.0, 1.0);
        }
        for (name, change) in [
            ("auc_gain_min", gate.auc_gain_min),
            ("log_loss_rise_max", gate.log_loss_rise_max),
            ("ece_rise_max", gate.ece_rise_max),
        ] {
            self.within(&key(name), change, -1.0, 1.0);
        }
    }

    fn engine(&mut self, settings: &Settings) {
        let engine = &settings.engine;
        self.within("engine.attempt_deadline_ms", engine.attempt_deadline_ms, 100, DAY_MS);
        self.within("engine.attempt_overdue_ms", engine.attempt_overdue_ms, 0, DAY_MS);
        self.within("engine.lateness_ms", engine.lateness_ms, 0, DAY_MS);
        self.within("engine.future_tolerance_ms", engine.future_tolerance_ms, 0, DAY_MS);
        self.within("engine.orphan_wait_ms", engine.orphan_wait_ms, 0, DAY_MS);
        self.within("engine.outcome_wait_ms", engine.outcome_wait_ms, 100, 366 * DAY_MS);
        let says = ("ends before an attempt's deadline", "give at least engine.attempt_deadline_ms");
        self.require(
            engine.outcome_wait_ms >= engine.attempt_deadline_ms,
            "engine.outcome_wait_ms",
            engine.outcome_wait_ms,
            says,
        );
        self.within("engine.payment_retention_ms", engine.payment_retention_ms, 1_000, YEARS_10_MS);
        let waited = engine.outcome_wait_ms.max(engine.orphan_wait_ms);
        let says = ("forgets payments that still wait", "give at least engine.outcome_wait_ms and engine.orphan_wait_ms");
        self.require(engine.payment_retention_ms >= waited, "engine.payment_retention_ms", engine.payment_retention_ms, says);
        self.within("engine.customer_retention_ms", engine.customer_retention_ms, 1_000, YEARS_10_MS);
        self.within("engine.payment_entries_max", engine.payment_entries_max, 4, 10_000);
        self.within("engine.segments_per_psp_max", engine.segments_per_psp_max, 1, 100_000);
        self.within("engine.psps_max", engine.psps_max, 0, 100_000);
        self.within("engine.pair_results_min", engine.pair_results_min, 0, 1_000_000_000_000);
        let names: Vec<String> = engine.segments.iter().map(ToString::to_string).collect();
        self.distinct("engine.segments", names.iter().map(String::as_str));
        let pairs = engine.segments.iter().filter(|cut| cut.is_pair()).count();
        let says = ("has several pairs, and segments of all would be called PAIR", "keep one of them");
        self.require(pairs <= 1, "engine.segments", &names, says);
    }

    fn health(&mut self, settings: &Settings) {
        let health = &settings.health;
        self.within("health.window_ms", health.window_ms, 5 * MINUTE_MS, 15 * MINUTE_MS);
        self.require(
            health.window_ms % TILE_MS == 0,
            "health.window_ms",
            health.window_ms,
            ("is not a multiple of 10000", "give whole tiles of 10 s"),
        );
        self.within("health.volume_min", health.volume_min, 1, 1_000_000);
        self.within("health.degraded_rate", health.degraded_rate, 0.0, 1.0);
        self.within("health.down_rate", health.down_rate, 0.0, 1.0);
        self.within("health.recovered_rate", health.recovered_rate, 0.0, 1.0);
        let says = ("is not above health.degraded_rate", "give more than health.degraded_rate");
        self.require(health.down_rate > health.degraded_rate, "health.down_rate", health.down_rate, says);
        let says = ("is not below health.degraded_rate: states would flap", "give less than health.degraded_rate");
        self.require(health.recovered_rate < health.degraded_rate, "health.recovered_rate", health.recovered_rate, says);
        self.within("health.dwell_ms", health.dwell_ms, 0, DAY_MS);
        self.within("health.hold_ms", health.hold_ms, 1_000, DAY_MS);
        self.within("health.hold_ms_max", health.hold_ms_max, 1_000, DAY_MS);
        let says = ("is below health.hold_ms", "give at least health.hold_ms");
        self.require(health.hold_ms_max >= health.hold_ms, "health.hold_ms_max", health.hold_ms_max, says);
        self.within("health.relapse_ms", health.relapse_ms, 0, DAY_MS);
        let says = ("is empty: nothing would ever be noticed", "list at least FAILURE_RATE");
        self.require(!health.detectors.is_empty(), "health.detectors", "[]", says);
        self.distinct("health.detectors", health.detectors.iter().map(|kind| kind.as_str()));
        let rising = health.ramp.windows(2).all(|pair| pair[0] < pair[1]);
        let shares = health.ramp.iter().all(|share| *share > 0.0 && *share <= 1.0);
        let says = ("is no ramp", "give shares above 0, at most 1, each above the one before");
        self.require(rising && shares, "health.ramp", format!("{:?}", health.ramp), says);
        self.sequential(&health.sequential);
        let says = ("would never let a PSP recover, or is no share", "give more than 0, at most 1");
        self.require(health.sample_rate > 0.0 && health.sample_rate <= 1.0, "health.sample_rate", health.sample_rate, says);
        self.within("health.wins_to_restore", health.wins_to_restore, 1, 100_000);
        self.within("health.publish_interval_ms", health.publish_interval_ms, 10, 10 * MINUTE_MS);
    }

    fn sequential(&mut self, tests: &SequentialSettings) {
        let key = |name: &str| format!("health.sequential.{name}");
        self.within(&key("results_per_false_alarm"), tests.results_per_false_alarm, 100.0, 1e12);
        self.within(&key("false_alarms_per_day"), tests.false_alarms_per_day, 1e-6, 1_000.0);
        self.within(&key("failures_min"), tests.failures_min, 1, 1_000_000);
        self.within(&key("prior_results"), tests.prior_results, 0.0, 1_000_000.0);
        self.within(&key("results_min"), tests.results_min, 1.0, 1e12);
        self.within(&key("margin"), tests.margin, 0.0, 100.0);
        self.within(&key("slow_factor"), tests.slow_factor, 1.0, 1_000.0);
        self.within(&key("busy_factor"), tests.busy_factor, 1.0, 1_000_000.0);
        let says = ("is no share", "give more than 0, at most 1");
        let is_share = tests.busy_run_length > 0.0 && tests.busy_run_length <= 1.0;
        self.require(is_share, &key("busy_run_length"), tests.busy_run_length, says);
        for (name, share) in [
            ("failure_prior", tests.failure_prior),
            ("decline_prior", tests.decline_prior),
            ("failure_floor", tests.failure_floor),
            ("decline_floor", tests.decline_floor),
            ("slow_floor", tests.slow_floor),
        ] {
            self.within(&key(name), share, 0.001, 0.9);
        }
    }

    fn policy(&mut self, settings: &Settings) {
        let (policy, retry) = (&settings.policy, &settings.retry);
        self.within("policy.prior_rate", policy.prior_rate, 0.0, 1.0);
        self.within("policy.prior_weight", policy.prior_weight, 0.0, 1_000_000.0);
        self.within("policy.better_by_errors", policy.better_by_errors, 0.0, 100.0);
        self.within("policy.results_min", policy.results_min, 0, 1_000_000_000);
        let says = ("is no share", "give more than 0, at most 1");
        let is_share = policy.inherited_share_max > 0.0 && policy.inherited_share_max <= 1.0;
        self.require(is_share, "policy.inherited_share_max", policy.inherited_share_max, says);
        let samples = &policy.samples;
        let says = ("would never let a PSP recover, or is no number", "give more than 0, at most 1000000000");
        let is_some = samples.per_minute_max > 0.0 && samples.per_minute_max <= 1e9;
        self.require(is_some, "policy.samples.per_minute_max", samples.per_minute_max, says);
        self.within("policy.samples.low_value_ms", samples.low_value_ms, 0, DAY_MS);
        self.currencies("policy.samples.amounts_max", samples.amounts_max.iter().map(|limit| limit.currency.as_str()));
        self.distinct("policy.samples.amounts_max", samples.amounts_max.iter().map(|limit| limit.currency.as_str()));
        for limit in &samples.amounts_max {
            self.within("policy.samples.amounts_max", limit.amount_minor, 0, i64::MAX);
        }
        self.within("policy.value_weight", policy.value_weight, 0.0, 1.0);
        self.within("policy.explore_share", policy.explore_share, 0.0, 0.5);
        self.within("policy.score_deadline_ms", policy.score_deadline_ms, 1, 10_000);
        self.within("retry.attempts_max", retry.attempts_max, 1, 100);
        self.within("retry.soft_wait_ms", retry.soft_wait_ms, 0, 366 * DAY_MS);
        self.within("retry.technical_wait_ms", retry.technical_wait_ms, 0, 366 * DAY_MS);
    }

    fn merchants(&mut self, settings: &Settings) {
        self.ids("merchants", settings.merchants.iter().map(|merchant| merchant.id.as_str()));
        for (index, merchant) in settings.merchants.iter().enumerate() {
            self.merchant(settings, &format!("merchants[{index}]"), merchant);
        }
    }

    fn merchant(&mut self, settings: &Settings, at: &str, merchant: &Merchant) {
        let key = format!("{at}.psps");
        let says = ("names no PSP: no payment of the merchant could be routed", "list at least one");
        self.require(!merchant.psps.is_empty(), &key, &merchant.psps, says);
        self.distinct(&key, merchant.psps.iter().map(PspId::as_str));
        merchant.psps.iter().for_each(|psp| self.psp_exists(settings, &key, psp));
        self.currencies(&format!("{at}.currencies"), merchant.currencies.iter().map(String::as_str));
        self.within(&format!("{at}.margin"), merchant.margin.unwrap_or_default(), 0.0, 1.0);
    }

    fn psps(&mut self, settings: &Settings) {
        self.ids("psps", settings.psps.iter().map(|psp| psp.id.as_str()));
        let external = settings.psps.iter().filter_map(|psp| psp.external_id).map(|id| id.to_string());
        self.distinct("psps", external.collect::<Vec<_>>().iter().map(String::as_str));
        for (index, psp) in settings.psps.iter().enumerate() {
            self.psp(&format!("psps[{index}]"), psp);
        }
    }

    fn psp(&mut self, at: &str, psp: &Psp) {
        let id = psp.id.as_str();
        let says = ("cannot stand in record keys", "use letters, digits, '.', '_' and '-'");
        self.require(is_topic_part(id), &format!("{at}.id"), id, says);
        self.currencies(&format!("{at}.currencies"), psp.currencies.iter().map(String::as_str));
        self.upper_case(&format!("{at}.brands"), &psp.brands);
        let key = format!("{at}.fees");
        self.currencies(&key, psp.fees.iter().map(|fee| fee.currency.as_str()));
        self.distinct(&key, psp.fees.iter().map(|fee| fee.currency.as_str()));
        let negative = |fee: &&Fee| fee.success_minor < 0 || fee.failure_minor < 0;
        if let Some(fee) = psp.fees.iter().find(negative) {
            self.require(false, &key, fee, ("has a negative fee", "give minor units, 0 or more"));
        }
    }

    fn rules(&mut self, settings: &Settings) {
        self.ids("hard_rules", settings.hard_rules.iter().map(|rule| rule.id.as_str()));
        for (index, rule) in settings.hard_rules.iter().enumerate() {
            let at = format!("hard_rules[{index}]");
            self.psp_exists(settings, &format!("{at}.psp"), &rule.psp);
            self.conditions(&format!("{at}.when"), &rule.when);
            let says = ("holds for every payment: nothing else would ever decide", "add a condition");
            self.require(rule.when != Conditions::default(), &format!("{at}.when"), &rule.id, says);
        }
        self.ids("rules", settings.rules.iter().map(|rule| rule.id.as_str()));
        for (index, rule) in settings.rules.iter().enumerate() {
            self.rule(settings, &format!("rules[{index}]"), rule);
        }
    }

    fn rule(&mut self, settings: &Settings, at: &str, rule: &StaticRule) {
        let one = rule.psps.is_empty() != rule.split.is_empty();
        self.require(one, at, &rule.id, ("needs exactly one of psps and split", "give an ordered list, or a weighted split"));
        let (listed, split) = (format!("{at}.psps"), format!("{at}.split"));
        rule.psps.iter().for_each(|psp| self.psp_exists(settings, &listed, psp));
        self.distinct(&listed, rule.psps.iter().map(PspId::as_str));
        rule.split.iter().for_each(|part| self.psp_exists(settings, &split, &part.psp));
        self.distinct(&split, rule.split.iter().map(|part| part.psp.as_str()));
        if let Some(part) = rule.split.iter().find(|part| part.weight == 0) {
            self.require(false, &split, part, ("has weight 0", "give 1 or more, or leave the PSP out"));
        }
        self.conditions(&format!("{at}.when"), &rule.when);
    }

    fn conditions(&mut self, at: &str, when: &Conditions) {
        self.currencies(&format!("{at}.currencies"), when.currencies.iter().flatten().map(String::as_str));
        self.upper_case(&format!("{at}.brands"), when.brands.as_deref().unwrap_or(&[]));
        let bad = |range: &&BinRange| {
            !is_bin(&range.from) || !is_bin(&range.to) || range.from.len() != range.to.len() || range.from > range.to
        };
        if let Some(range) = when.bin_ranges.iter().flatten().find(bad) {
            let says = ("is no range of BINs", "give 1 to 8 digits, equally many in both, `from` not above `to`");
            self.require(false, &format!("{at}.bin_ranges"), range, says);
        }
        if let (Some(min), Some(max)) = (when.amount_minor_min, when.amount_minor_max) {
            self.require(min <= max, &format!("{at}.amount_minor_min"), min, ("is above amount_minor_max", "swap them"));
        }
        let bounded = when.amount_minor_min.is_some() || when.amount_minor_max.is_some();
        let says = ("bounds amounts without a currency: minor units of different currencies do not compare", "add currencies");
        self.require(!bounded || when.currencies.is_some(), at, "amount_minor", says);
    }

    fn codes(&mut self, settings: &Settings) {
        let name = |code: &ErrorCode| match &code.psp {
            Some(psp) => format!("{} of {psp}", code.code.to_ascii_lowercase()),
            None => code.code.to_ascii_lowercase(),
        };
        let names: Vec<String> = settings.error_codes.iter().map(name).collect();
        self.distinct("error_codes", names.iter().map(String::as_str));
        for (index, code) in settings.error_codes.iter().enumerate() {
            let at = format!("error_codes[{index}]");
            self.require(!code.code.is_empty(), &format!("{at}.code"), &code.code, ("is empty", "give the code"));
            code.psp.iter().for_each(|psp| self.psp_exists(settings, &format!("{at}.psp"), psp));
            let wait_ms = code.retry_after_ms.unwrap_or(0);
            self.within(&format!("{at}.retry_after_ms"), wait_ms, 0, 366 * DAY_MS);
        }
    }

    fn psp_exists(&mut self, settings: &Settings, key: &str, psp: &PspId) {
        let exists = settings.psps.iter().any(|known| known.id == *psp);
        self.require(exists, key, psp, ("names a PSP that does not exist", "add it as [[psps]], or correct the name"));
    }

    fn ids<'a>(&mut self, key: &str, ids: impl Iterator<Item = &'a str> + Clone) {
        for (index, id) in ids.clone().enumerate() {
            self.require(!id.trim().is_empty(), &format!("{key}[{index}].id"), id, ("is empty", "give it an id"));
        }
        self.distinct(key, ids);
    }

    pub(super) fn distinct<'a>(&mut self, key: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = BTreeSet::new();
        for name in names {
            self.require(seen.insert(name), key, name, ("occurs twice", "keep one of them"));
        }
    }

    fn currencies<'a>(&mut self, key: &str, codes: impl Iterator<Item = &'a str>) {
        for code in codes {
            let holds = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
            self.require(holds, key, code, ("is not an ISO 4217 code", "give three upper-case letters"));
        }
    }

    fn upper_case(&mut self, key: &str, brands: &[String]) {
        for brand in brands {
            let holds = !brand.is_empty() && !brand.bytes().any(|byte| byte.is_ascii_lowercase());
            self.require(holds, key, brand, ("is not spelt as in the records", "give it in upper case"));
        }
    }
}

fn is_topic_part(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// `host:port`; an IPv6 host in brackets.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok())
}

fn is_bin(text: &str) -> bool {
    (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}
