//! The section `[alerts]`: who is told of outages, of which, and when not.

use super::checks::Checker;
use super::{Config, Secret};
use crate::domain::PspId;
use crate::domain::psp::Severity;
use crate::engine::alerts::{AlertRules, Maintenance, SegmentFilter, Style};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

const DAY_MS: i64 = 86_400_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsConfig {
    pub group_ms: i64,
    pub quiet_ms: i64,
    pub remind_ms: i64,
    pub age_max_ms: i64,
    pub timeout_ms: u64,
    pub sinks: Vec<SinkConfig>,
    pub maintenance: Vec<MaintenanceConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    Slack,
    Pagerduty,
    Webhook,
    Log,
}

impl SinkKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Pagerduty => "pagerduty",
            Self::Webhook => "webhook",
            Self::Log => "log",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    pub kind: SinkKind,
    /// Empty: as the kind.
    #[serde(default)]
    name: String,
    /// Who knows a webhook's address may write to it.
    #[serde(default)]
    pub url: Secret,
    #[serde(default)]
    pub routing_key: Secret,
    #[serde(default)]
    pub secret: Secret,
    #[serde(default = "warning")]
    pub severity_min: Severity,
    #[serde(default)]
    pub psps: Vec<PspId>,
    #[serde(default)]
    pub segments: Vec<SegmentFilter>,
}

fn warning() -> Severity {
    Severity::Warning
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceConfig {
    psp: PspId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl SinkConfig {
    /// In the name of its consumer group, and in metrics.
    pub fn name(&self) -> &str {
        if self.name.is_empty() { self.kind.as_str() } else { &self.name }
    }
}

impl Config {
    /// What a sink is told of.
    pub fn alert_rules(&self, sink: &SinkConfig) -> AlertRules {
        let alerts = &self.alerts;
        let style = match sink.kind {
            SinkKind::Slack | SinkKind::Webhook => Style::Grouped,
            SinkKind::Pagerduty | SinkKind::Log => Style::Each,
        };
        let maintenance = alerts.maintenance.iter().map(|it| Maintenance {
            psp: it.psp.clone(),
            from: it.from.timestamp_millis(),
            to: it.to.timestamp_millis(),
        });
        let names = self.settings.psps.iter().filter(|psp| !psp.name.is_empty()).map(|psp| (psp.id.clone(), psp.name.clone()));
        AlertRules {
            style,
            severity_min: sink.severity_min,
            psps: sink.psps.clone(),
            segments: sink.segments.clone(),
            quiet_ms: alerts.quiet_ms,
            remind_ms: alerts.remind_ms,
            age_max_ms: alerts.age_max_ms,
            maintenance: maintenance.collect(),
            names: names.collect(),
        }
    }
}

impl Checker<'_> {
    pub(super) fn alerts(&mut self, config: &Config) {
        let alerts = &config.alerts;
        self.within("alerts.group_ms", alerts.group_ms, 0, 600_000);
        self.within("alerts.quiet_ms", alerts.quiet_ms, 0, DAY_MS);
        self.within("alerts.remind_ms", alerts.remind_ms, 0, 30 * DAY_MS);
        self.within("alerts.age_max_ms", alerts.age_max_ms, 1_000, 366 * DAY_MS);
        self.within("alerts.timeout_ms", alerts.timeout_ms, 100, 25_000);
        for (index, sink) in alerts.sinks.iter().enumerate() {
            self.alert_sink(&format!("alerts.sinks[{index}]"), sink, config);
        }
        self.distinct("alerts.sinks", alerts.sinks.iter().map(SinkConfig::name));
        for (index, maintenance) in alerts.maintenance.iter().enumerate() {
            let key = format!("alerts.maintenance[{index}]");
            self.known_psp(&format!("{key}.psp"), &maintenance.psp, config);
            let says = ("does not end after it begins", "give a later time");
            self.require(maintenance.from < maintenance.to, &format!("{key}.to"), maintenance.to, says);
        }
    }

    fn alert_sink(&mut self, key: &str, sink: &SinkConfig, config: &Config) {
        let name = sink.name();
        let usable = name.len() <= 50 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        self.require(usable, &format!("{key}.name"), name, ("is not a usable name", "use 1 to 50 letters, digits, '_' and '-'"));
        let kind = sink.kind;
        let wanted = match kind {
            SinkKind::Slack => [true, false, false],
            SinkKind::Pagerduty => [sink.url.expose().is_some(), true, false],
            SinkKind::Webhook => [true, false, true],
            SinkKind::Log => [false; 3],
        };
        for ((field, value), wanted) in
            [("url", &sink.url), ("routing_key", &sink.routing_key), ("secret", &sink.secret)].into_iter().zip(wanted)
        {
            let (given, key) = (value.expose().is_some(), format!("{key}.{field}"));
            let missing = format!("is missing: a sink of kind {} needs it", kind.as_str());
            self.require(given || !wanted, &key, "", (&missing, "give it"));
            let unused = format!("is of no use to a sink of kind {}", kind.as_str());
            self.require(!given || wanted, &key, "***", (&unused, "remove it"));
        }
        let is_http = sink.url.expose().is_none_or(|url| url.starts_with("https://") || url.starts_with("http://"));
        self.require(is_http, &format!("{key}.url"), "***", ("is not a web address", "begin it with https://"));
        let says = ("is no severity", "give INFO, WARNING or CRITICAL");
        self.require(sink.severity_min != Severity::Unknown, &format!("{key}.severity_min"), sink.severity_min, says);
        for psp in &sink.psps {
            self.known_psp(&format!("{key}.psps"), psp, config);
        }
    }

    fn known_psp(&mut self, key: &str, psp: &PspId, config: &Config) {
        let known = config.settings.psps.iter().any(|known| known.id == *psp);
        self.require(known, key, psp, ("does not exist", "give the id of one of [[psps]]"));
    }
}
