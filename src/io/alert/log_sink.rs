//! Alerts in the process's own log: a line for each change.

use super::{AlertSink, Delivery};
use crate::domain::alert::Alert;
use crate::domain::psp::Severity;

#[derive(Clone, Copy, Debug, Default)]
pub struct LogSink;

impl AlertSink for LogSink {
    fn deliver(&mut self, alert: &Alert) -> Delivery {
        let (common_cause, repeated) = (alert.common_cause.as_deref(), alert.perhaps_repeated);
        for change in &alert.changes {
            let outage = &change.outage;
            let (psp, segment, outage_id) = (outage.psp_id.as_str(), outage.segment.to_string(), outage.outage_id.as_str());
            if alert.severity > Severity::Info {
                tracing::warn!(psp, segment, to = %outage.to, outage_id, common_cause, repeated, "alert: {}", change.text);
            } else {
                tracing::info!(psp, segment, to = %outage.to, outage_id, common_cause, repeated, "alert: {}", change.text);
            }
        }
        Delivery::Delivered
    }
}
