//! Plots of shares and counts, as inline SVG: over time, side by side, and probabilities beside what came of them.
//!
//! Owns scales and marks. Figures come ready; nothing is computed from them but where they go.

use super::page::escaped;
use super::svg::{line, svg, text};
use chrono::DateTime;
use smartrouter::domain::EpochMs;
use smartrouter::learn::Estimate;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;
const ROW: f64 = 20.0;
/// Beside bars and intervals: names to the left, figures to the right.
const NAMES: f64 = 190.0;
const FIGURES: f64 = 120.0;
const TICKS_MAX: f64 = 7.0;
/// With more marks than these only those that stand out are drawn with their intervals, on a curve of all.
const WHISKERS_MAX: usize = 48;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A share at a time.
pub(super) struct Mark {
    pub(super) at: EpochMs,
    pub(super) share: Estimate,
    /// What a pointer over it is told.
    pub(super) told: String,
    pub(super) stands_out: bool,
}

/// What marks are compared with.
pub(super) struct Curve {
    pub(super) class: &'static str,
    pub(super) name: String,
    pub(super) points: Vec<(EpochMs, f64)>,
}

/// Shares with their intervals over time, and curves beside them.
pub(super) fn over_time(title: &str, marks: &[Mark], curves: &[Curve]) -> String {
    let values = marks.iter().flat_map(|mark| [mark.share.low, mark.share.high]);
    // Where only what stands out has its interval, the others' would squeeze the curve.
    let values: Vec<f64> =
        if marks.len() > WHISKERS_MAX { marks.iter().map(|it| it.share.value).collect() } else { values.collect() };
    let others = curves.iter().flat_map(|curve| curve.points.iter().map(|(_, share)| *share));
    let scale = Shares::around(values.into_iter().chain(others));
    let times = marks.iter().map(|mark| mark.at).chain(curves.iter().flat_map(|curve| curve.points.iter().map(|(at, _)| *at)));
    let clock = Clock::around(times);
    let path = |class: &str, points: &[(EpochMs, f64)]| {
        let points: Vec<String> =
            points.iter().map(|(at, share)| format!("{:.1},{:.1}", clock.at(*at), scale.at(*share))).collect();
        format!(r#"<polyline class="curve {class}" points="{}"/>"#, points.join(" "))
    };
    let drawn = curves.iter().map(|curve| path(curve.class, &curve.points));
    let all: Vec<(EpochMs, f64)> = marks.iter().map(|mark| (mark.at, mark.share.value)).collect();
    let through = (marks.len() > WHISKERS_MAX).then(|| path("ours thin", &all));
    let dots = marks.iter().filter(|mark| mark.stands_out || marks.len() <= WHISKERS_MAX).map(|mark| {
        let class = if mark.stands_out { "loud" } else { "ours" };
        let (x, low, high) = (clock.at(mark.at), scale.at(mark.share.low), scale.at(mark.share.high));
        let whisker = line(&format!("whisker {class}"), (x, low), (x, high));
        let (y, told) = (scale.at(mark.share.value), escaped(&mark.told));
        format!(r#"{whisker}<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="3"><title>{told}</title></circle>"#)
    });
    let parts = scale.grid().into_iter().chain(clock.ticks()).chain(drawn).chain(through).chain(dots);
    let names = curves.iter().map(|curve| format!(r#" <span class="key {}">{}</span>"#, curve.class, escaped(&curve.name)));
    framed(&escaped(title), &names.collect::<Vec<_>>().concat(), &svg(WIDTH, HEIGHT, &escaped(title), parts))
}

/// Counts over time, as bars from one to the next.
pub(super) fn counts_over_time(title: &str, counts: &[(EpochMs, u64)], step_ms: i64) -> String {
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1) as f64;
    let clock = Clock::around(counts.iter().flat_map(|(at, _)| [*at, at + step_ms]));
    let bottom = HEIGHT - BOTTOM;
    let y = |count: f64| bottom - (bottom - TOP) * count / most;
    let step = round_step(most / 4.0);
    let grid = (0..=8).map(|index| f64::from(index) * step).filter(|count| *count <= most).map(|count| {
        line("grid", (LEFT, y(count)), (WIDTH - RIGHT, y(count))) + &text("tick end", (LEFT - 6.0, y(count) + 4.0), count)
    });
    let bars = counts.iter().map(|(at, count)| {
        let (from, to, top) = (clock.at(*at), clock.at(at + step_ms), y(*count as f64));
        let (width, height) = ((to - from - 1.0).max(0.5), bottom - top);
        format!(r#"<rect class="bar" x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"><title>{count}</title></rect>"#)
    });
    framed(&escaped(title), "", &svg(WIDTH, HEIGHT, &escaped(title), grid.chain(bars).chain(clock.ticks())))
}

/// Shares with their intervals side by side, with the number that each is of.
pub(super) fn side_by_side(title: &str, rows: &[(String, Estimate, u64)]) -> String {
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let most = rows.iter().map(|(_, share, _)| share.high).fold(0.05, f64::max);
    let right = WIDTH - FIGURES;
    let x = |share: f64| NAMES + (right - NAMES) * share / most;
    let step = share_step(most);
    let grid = (0..=10).map(|index| f64::from(index) * step).filter(|share| *share <= most).map(|share| {
        line("grid", (x(share), TOP), (x(share), height - BOTTOM))
            + &text("tick middle", (x(share), height - BOTTOM + 15.0), percent(share, step))
    });
    let marks = rows.iter().enumerate().map(|(place, (name, share, count))| {
        let y = TOP + ROW * (place as f64 + 0.5);
        let name = text("name end", (NAMES - 10.0, y + 4.0), escaped(&shortened(name)));
        let whisker = line("whisker ours", (x(share.low), y), (x(share.high), y));
        let dot = format!(r#"<circle class="dot ours" cx="{:.1}" cy="{y:.1}" r="4"/>"#, x(share.value));
        name + &whisker + &dot + &text("tick", (right + 12.0, y + 4.0), format!("{:.1} % of {count}", share.value * 100.0))
    });
    framed(&escaped(title), "", &svg(WIDTH, height, &escaped(title), grid.chain(marks)))
}

/// Counts side by side.
pub(super) fn bars(title: &str, rows: &[(String, u64)]) -> String {
    let height = TOP + ROW * rows.len() as f64 + TOP;
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1) as f64;
    let all = rows.iter().map(|(_, count)| *count).sum::<u64>().max(1) as f64;
    let marks = rows.iter().enumerate().map(|(place, (name, count))| {
        let y = TOP + ROW * place as f64;
        let width = (WIDTH - FIGURES - NAMES) * *count as f64 / most;
        let told = format!("{count} ({:.1} %)", *count as f64 * 100.0 / all);
        let bar = format!(r#"<rect class="bar" x="{NAMES}" y="{:.1}" width="{width:.1}" height="{:.1}"/>"#, y + 3.0, ROW - 6.0);
        text("name end", (NAMES - 10.0, y + 14.0), escaped(&shortened(name)))
            + &bar
            + &text("tick", (NAMES + width + 8.0, y + 14.0), told)
    });
    framed(&escaped(title), "", &svg(WIDTH, height, &escaped(title), marks))
}

/// Shares that came of probabilities, beside the line on which they would be equal.
pub(super) fn reliability(title: &str, points: &[(f64, Estimate)]) -> String {
    let values = points.iter().flat_map(|(predicted, share)| [*predicted, share.low, share.high]);
    let scale = Shares::around(values);
    let x = |share: f64| LEFT + (WIDTH - RIGHT - LEFT) * (share - scale.low) / (scale.high - scale.low);
    let ticks = scale
        .steps()
        .into_iter()
        .map(|share| text("tick middle", (x(share), HEIGHT - BOTTOM + 15.0), percent(share, scale.step)));
    let diagonal = line("curve static", (x(scale.low), scale.at(scale.low)), (x(scale.high), scale.at(scale.high)));
    let marks = points.iter().map(|(predicted, share)| {
        let whisker = line("whisker ours", (x(*predicted), scale.at(share.low)), (x(*predicted), scale.at(share.high)));
        format!(r#"{whisker}<circle class="dot ours" cx="{:.1}" cy="{:.1}" r="3.5"/>"#, x(*predicted), scale.at(share.value))
    });
    let parts = scale.grid().into_iter().chain(ticks).chain([diagonal]).chain(marks);
    framed(&escaped(title), "", &svg(WIDTH, HEIGHT, &escaped(title), parts))
}

fn framed(title: &str, keys: &str, drawing: &str) -> String {
    format!("<figure>{drawing}<figcaption class=\"note\">{title}{keys}</figcaption></figure>")
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= 30 { name.to_owned() } else { name.chars().take(29).chain(['…']).collect() }
}

fn percent(share: f64, step: f64) -> String {
    let decimals = usize::from(step < 0.01);
    format!("{:.decimals$} %", share * 100.0)
}

/// The next of 1, 2, 5, 10, 20 ... from here.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= least).unwrap_or(power)
}

fn share_step(span: f64) -> f64 {
    [0.002, 0.005, 0.01, 0.02, 0.05, 0.1].into_iter().find(|step| span / step <= TICKS_MAX).unwrap_or(0.2)
}

/// A vertical scale of shares, no wider than what is on it.
struct Shares {
    low: f64,
    high: f64,
    step: f64,
}

impl Shares {
    fn around(values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values.fold((1.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (least, most) = if least > most { (0.0, 1.0) } else { (least, most) };
        let step = share_step((most - least).max(0.02));
        let low = ((least / step).floor() * step).max(0.0);
        let high = ((most / step).ceil() * step).min(1.0).max(low + step);
        Self { low, high, step }
    }

    fn at(&self, share: f64) -> f64 {
        let bottom = HEIGHT - BOTTOM;
        bottom - (bottom - TOP) * ((share - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn steps(&self) -> Vec<f64> {
        (0..=12).map(|index| self.low + f64::from(index) * self.step).filter(|share| *share <= self.high + 1e-9).collect()
    }

    fn grid(&self) -> Vec<String> {
        let tick = |share: f64| {
            let y = self.at(share);
            line("grid", (LEFT, y), (WIDTH - RIGHT, y)) + &text("tick end", (LEFT - 6.0, y + 4.0), percent(share, self.step))
        };
        self.steps().into_iter().map(tick).collect()
    }
}

/// A horizontal scale of time.
struct Clock {
    from: EpochMs,
    to: EpochMs,
}

impl Clock {
    fn around(times: impl Iterator<Item = EpochMs>) -> Self {
        let (from, to) = times.fold((EpochMs::MAX, EpochMs::MIN), |(from, to), at| (from.min(at), to.max(at)));
        if from > to { Self { from: 0, to: HOUR_MS } } else { Self { from, to: to.max(from + HOUR_MS) } }
    }

    fn at(&self, at: EpochMs) -> f64 {
        LEFT + (WIDTH - RIGHT - LEFT) * (at - self.from) as f64 / (self.to - self.from) as f64
    }

    fn ticks(&self) -> Vec<String> {
        let steps = [1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2_160, 8_760].map(|hours| hours * HOUR_MS);
        let span = self.to - self.from;
        let step = steps.into_iter().find(|step| span as f64 / *step as f64 <= TICKS_MAX).unwrap_or(span);
        let first = self.from.div_euclid(step) * step;
        let times = (0..=9).map(|index| first + index * step).filter(|at| (self.from..=self.to).contains(at));
        let form = if step < DAY_MS { "%H:%M" } else { "%m-%d" };
        let shown = |at: EpochMs| {
            // Midnight says the day.
            let form = if at.rem_euclid(DAY_MS) == 0 { "%m-%d" } else { form };
            DateTime::from_timestamp_millis(at).map(|time| time.format(form).to_string()).unwrap_or_default()
        };
        times.map(|at| text("tick middle", (self.at(at), HEIGHT - BOTTOM + 15.0), shown(at))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_hold_what_is_on_them_at_round_steps() {
        let shares = Shares::around([0.873, 0.912].into_iter());
        assert!(shares.low <= 0.873 && shares.high >= 0.912 && shares.high - shares.low < 0.06, "{} {}", shares.low, shares.high);
        assert!((3..=8).contains(&shares.steps().len()), "{:?}", shares.steps());
        let nothing = Shares::around(std::iter::empty());
        assert_eq!((nothing.low, nothing.high), (0.0, 1.0));
        for (most, step) in [(0.5, 1.0), (3.0, 5.0), (87.0, 100.0), (450.0, 500.0)] {
            assert_eq!(round_step(most), step, "{most}");
        }
        let month = Clock::around([0, 30 * DAY_MS].into_iter());
        assert!(month.ticks().len() >= 4 && month.ticks()[1].contains("01-08"), "{:?}", month.ticks());
        let hours = Clock::around([0, 5 * HOUR_MS].into_iter());
        assert!(hours.ticks()[0].contains("01-01") && hours.ticks()[1].contains("01:00"), "{:?}", hours.ticks());
    }

    #[test]
    fn names_in_a_plot_are_escaped() {
        let half = Estimate { value: 0.5, low: 0.4, high: 0.6 };
        let drawn = side_by_side("<t>", &[("<b>".to_owned(), half, 3)]) + &bars("x", &[("\"q\"".to_owned(), 1)]);
        assert!(
            drawn.contains("&lt;b&gt;")
                && drawn.contains("&lt;t&gt;")
                && drawn.contains("&quot;q&quot;")
                && !drawn.contains("<b>")
        );
    }
}
