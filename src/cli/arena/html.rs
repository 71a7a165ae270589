//! The report as one HTML page.

use smartrouter::sim::arena::Report;

pub(super) fn page(_report: &Report, _seed: u64) -> String {
    String::new()
}
