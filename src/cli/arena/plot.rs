//! Plots of the report, as inline SVG: intervals of one scenario side by side, and losses over the time of its run.
//!
//! Owns scales, colours and marks. Figures come ready; nothing is computed from them but where they go.

use crate::cli::svg::{line, svg, text};
use smartrouter::sim::arena::{Estimate, ORACLE, OURS, Row, Script};

const WIDTH: f64 = 560.0;
const ROW: f64 = 22.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 24.0;
const CURVES_HEIGHT: f64 = 300.0;
const CURVES_LEFT: f64 = 44.0;
const CURVES_RIGHT: f64 = 150.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;
/// Labels of curves are not set closer than this.
const LABEL: f64 = 13.0;

/// One line style for each policy, the same in all plots: class names of the page's style sheet.
pub(super) fn class(policy: &str) -> &'static str {
    match policy {
        OURS => "ours",
        ORACLE => "oracle",
        "static" => "static",
        "juspay_20" => "c1",
        "juspay_45" => "c2",
        "yuno" => "c3",
        "envoy" => "c4",
        "resilience4j" => "c5",
        "sliding_window_ucb" => "c6",
        _ => "c7",
    }
}

/// Losses are told on a scale of square roots: what matters is near zero, and static rules are far from it.
struct Losses {
    most: f64,
    from: f64,
    to: f64,
}

impl Losses {
    fn at(&self, loss: f64) -> f64 {
        self.from + (self.to - self.from) * (loss.max(0.0) / self.most).sqrt()
    }

    fn ticks(&self) -> Vec<f64> {
        let steps = [0.0, 1.0, 5.0, 20.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1_600.0, 3_200.0];
        let mut ticks: Vec<f64> = Vec::new();
        for step in steps.into_iter().filter(|step| *step <= self.most) {
            if ticks.last().is_none_or(|last| (self.at(step) - self.at(*last)).abs() >= 26.0) {
                ticks.push(step);
            }
        }
        ticks
    }
}

fn most(figures: impl Iterator<Item = f64>) -> f64 {
    figures.fold(1.0, f64::max) * 1.04
}

/// Mean losses with their 95 % intervals, least first.
pub(super) fn intervals(rows: &[&Row]) -> String {
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let scale = Losses { most: most(rows.iter().filter_map(|row| row.lost_mean.high)), from: LEFT, to: WIDTH - RIGHT };
    let bottom = height - BOTTOM;
    let ticks = scale.ticks().into_iter().map(|tick| {
        let x = scale.at(tick);
        line("grid", (x, TOP), (x, bottom)) + &text("tick middle", (x, bottom + 15.0), tick)
    });
    let marks = rows.iter().enumerate().map(|(place, row)| {
        let y = TOP + ROW * (place as f64 + 0.5);
        mark(row, y, &scale)
    });
    let axis = text(
        "tick middle",
        (f64::midpoint(LEFT, WIDTH - RIGHT), height - 4.0),
        "payments lost against the oracle, mean of a run",
    );
    svg(WIDTH, height, "Payments lost by policy", ticks.chain(marks).chain([axis]))
}

fn mark(row: &Row, y: f64, scale: &Losses) -> String {
    let class = class(row.policy);
    let Estimate { value, low, high } = row.lost_mean;
    let (Some(value), Some(low), Some(high)) = (value, low, high) else { return String::new() };
    let name = text(&format!("name end {class}"), (LEFT - 10.0, y + 4.0), row.policy);
    let whisker = line(&format!("whisker {class}"), (scale.at(low), y), (scale.at(high), y));
    let told = format!("{}: {value:.1} [{low:.1}, {high:.1}]", row.policy);
    format!(
        r#"{name}{whisker}<circle class="dot {class}" cx="{:.1}" cy="{y:.1}" r="4.5"><title>{told}</title></circle>"#,
        scale.at(value)
    )
}

/// Mean losses so far over the run; what is the matter when is shaded.
pub(super) fn curves(rows: &[&Row], script: &Script) -> String {
    let (bottom, right) = (CURVES_HEIGHT - BOTTOM, WIDTH - CURVES_RIGHT);
    let ends = rows.iter().filter_map(|row| row.curve.last().copied());
    let scale = Losses { most: most(ends), from: bottom, to: TOP };
    let x = |minute: f64| CURVES_LEFT + (right - CURVES_LEFT) * minute / script.minutes as f64;
    let spans = script.spans().into_iter().map(|(from, to)| {
        let (from, to) = (x(from as f64), x(to as f64));
        format!(r#"<rect class="trouble" x="{from:.1}" y="{TOP}" width="{:.1}" height="{:.1}"/>"#, to - from, bottom - TOP)
    });
    let ticks = scale.ticks().into_iter().map(|tick| {
        let y = scale.at(tick);
        line("grid", (CURVES_LEFT, y), (right, y)) + &text("tick end", (CURVES_LEFT - 6.0, y + 4.0), tick)
    });
    let times = (0..=4).map(|quarter| {
        let minute = script.minutes as f64 * f64::from(quarter) / 4.0;
        text(if quarter == 4 { "tick end" } else { "tick middle" }, (x(minute), bottom + 15.0), time(minute))
    });
    let paths = rows.iter().map(|row| {
        let step = script.minutes as f64 / row.curve.len().max(1) as f64;
        let point = |(index, loss): (usize, &f64)| format!("{:.1},{:.1}", x((index + 1) as f64 * step), scale.at(*loss));
        let points: Vec<String> = std::iter::once(format!("{:.1},{:.1}", x(0.0), scale.at(0.0)))
            .chain(row.curve.iter().enumerate().map(point))
            .collect();
        format!(r#"<polyline class="curve {}" points="{}"/>"#, class(row.policy), points.join(" "))
    });
    let parts = spans.chain(ticks).chain(times).chain(paths).chain(labels(rows, &scale, right));
    svg(WIDTH, CURVES_HEIGHT, "Payments lost so far, over the run", parts)
}

/// Names at the ends of the curves, moved apart where they would overlap.
fn labels(rows: &[&Row], scale: &Losses, right: f64) -> Vec<String> {
    let mut ends: Vec<(f64, &Row)> = rows.iter().map(|row| (scale.at(row.curve.last().copied().unwrap_or(0.0)), *row)).collect();
    // From the bottom up: the bottom is where the curves crowd.
    ends.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut free = f64::INFINITY;
    let mut placed = Vec::new();
    for (y, row) in ends {
        let y = y.min(free);
        free = y - LABEL;
        placed.push((y, row));
    }
    // When they have been pushed out at the top, all move down.
    let over = (TOP + 4.0 - placed.last().map_or(TOP + 4.0, |(y, _)| *y)).max(0.0);
    placed
        .into_iter()
        .map(|(y, row)| text(&format!("name {}", class(row.policy)), (right + 8.0, y + over + 4.0), row.policy))
        .collect()
}

fn time(minutes: f64) -> String {
    if minutes >= 600.0 { format!("{:.0} h", minutes / 60.0) } else { format!("{minutes:.0} min") }
}
