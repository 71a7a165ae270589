//! The report of a training as one HTML page that needs no other file: figures side by side, curves, slices, what matters.

use super::page::{document, escaped, joined, list, table as plain};
use super::svg::{line, svg, text};
use serde_json::Value;
use smartrouter::learn::{Estimate, Gain, Measured, Miss, Point, PolicyTold, Report, Validation, Versus};

const SIDE: f64 = 300.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 10.0;

/// A figure with its interval; a dash where there is none.
pub(super) fn figure(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(|| "–".to_owned(), |it| format!("{:.4} [{:.4}, {:.4}]", it.value, it.low, it.high))
}

pub(super) fn page(title: &str, report: &Report, validation: &Validation, card: &Value) -> String {
    let slices: Vec<(String, &Measured)> =
        report.slices.iter().map(|it| (format!("{}: {}", it.slice.replace('_', " "), it.measured.name), &it.measured)).collect();
    let test: Vec<(String, &Measured)> = report.test.iter().map(|it| (it.name.clone(), it)).collect();
    let points = &report.curves.points;
    let curve = |x: fn(&Point) -> f64, y: fn(&Point) -> f64| points.iter().map(|it| (x(it), y(it))).collect::<Vec<_>>();
    let reliability: Vec<(f64, f64)> = report.curves.reliability.iter().map(|bin| (bin.probability, bin.share)).collect();
    let plots = [
        plot("Calibration: share approved over probability", &reliability, true),
        plot("ROC: true over false positives", &curve(|it| it.fallout, |it| it.recall), true),
        plot("Precision over recall", &curve(|it| it.recall, |it| it.precision), false),
        plot("Gains: approvals over attempts taken", &curve(|it| it.taken, |it| it.recall), true),
    ]
    .concat();
    let body = format!(
        "<h1>{}</h1>
<p>Rows by time: {} to learn from, {} to choose by, {} to measure on. All figures here are of the last, by a model that had not seen them;
brackets are 95 % bootstrap intervals over whole payments. ECE is over 15 bins of equally many rows. Calibration: {}.</p>
<h2>Side by side</h2>{}<h2>Ahead of the others by</h2>{}<div class=\"plots\">{plots}</div><h2>Gains, likeliest tenth first</h2>{}<h2>Slices</h2>{}<h2>Policies that follow it</h2>{}<h2>What matters</h2>{}{}{}{}<h2>Surest of, and wrong</h2>{}<h2>Findings in the data</h2>{}
<h2>Card</h2><pre>{}</pre>",
        escaped(title),
        report.split[0],
        report.split[1],
        report.split[2],
        escaped(&report.calibration),
        table("model", &test),
        ahead(&report.versus),
        gains(&report.gains),
        table("slice", &slices),
        policies(report),
        list(report.importance.iter().map(|(column, rise)| format!("{column}: log loss + {rise:.5} when shuffled"))),
        list(report.crosses.iter().map(|cross| format!("rate of its own: {cross}"))),
        list(report.columns.iter().map(|column| format!("seen: {column}"))),
        list(report.members.iter().map(|(name, weight)| format!("weight of {name} in the blend: {weight:.3}"))),
        misses(&report.misses),
        list(validation.findings.iter().map(|it| format!("{} {}: {}", it.check, it.column.as_deref().unwrap_or(""), it.reason))),
        escaped(&serde_json::to_string_pretty(&card["latency_us"]).unwrap_or_default()),
    );
    document(title, &body)
}

fn table(head: &str, rows: &[(String, &Measured)]) -> String {
    let row = |(name, it): &(String, &Measured)| {
        let cells = [figure(it.auc), figure(it.log_loss), figure(it.brier), figure(it.ece)];
        let cells = joined(cells.iter().map(|cell| format!(r#"<td class="n">{cell}</td>"#)));
        format!(r#"<tr><th>{}</th><td class="n">{}</td>{cells}</tr>"#, escaped(name), it.rows)
    };
    let rows: String = rows.iter().map(row).collect();
    let heads = joined(["rows", "AUC", "log loss", "Brier", "ECE"].iter().map(|it| format!(r#"<th class="n">{it}</th>"#)));
    format!("<table><tr><th>{head}</th>{heads}</tr>{rows}</table>")
}

fn ahead(versus: &[Versus]) -> String {
    let row = |it: &Versus| vec![it.name.clone(), figure(it.auc_more), figure(it.log_loss_less)];
    plain(1, &["of", "AUC more", "log loss less"], versus.iter().map(row))
}

fn gains(gains: &[Gain]) -> String {
    let row = |it: &Gain| {
        let figures = [it.probability, it.share, it.lift, it.recall].map(|figure| format!("{figure:.3}"));
        std::iter::once(it.rows.to_string()).chain(figures).collect()
    };
    plain(0, &["rows", "said", "approved", "times the usual share", "approvals so far"], gains.iter().map(row))
}

fn misses(misses: &[Miss]) -> String {
    let row = |it: &Miss| {
        let amount = format!("{} {}", it.amount_minor, it.currency);
        let (attempt, psp, said) = (it.attempt_number.to_string(), it.psp_id.clone(), format!("{:.3}", it.probability));
        let came = if it.approved { "approved" } else { "not approved" };
        vec![it.attempt_id.clone(), psp, it.brand.clone(), it.issuer_country.clone(), attempt, amount, said, came.to_owned()]
    };
    let heads = ["attempt", "PSP", "brand", "issuer", "number", "minor units", "said", "came"];
    plain(1, &heads, misses.iter().map(row))
}

/// Off-policy values on the test rows.
fn policies(report: &Report) -> String {
    let row = |it: &PolicyTold| {
        let value = it.success_value_minor.map(|value| format!(" at {value}")).unwrap_or_default();
        let attempts = if it.first_attempts { ", first attempts" } else { "" };
        let figures =
            [it.value.ips, it.value.snips, it.value.dr, it.value.logged, it.value.lift, it.value.cost_per_attempt_minor];
        let cells = joined(figures.iter().map(|it| format!(r#"<td class="n">{}</td>"#, figure(*it))));
        format!(r#"<tr><th>{}{value}{attempts}</th><td class="n">{}</td>{cells}</tr>"#, it.policy, it.value.rows)
    };
    let rows: String = report.policies.iter().map(row).collect();
    let heads = ["rows", "IPS", "SNIPS", "DR", "as it went", "lift", "fee of an attempt"];
    let heads = joined(heads.iter().map(|it| format!(r#"<th class="n">{it}</th>"#)));
    format!("<table><tr><th>policy</th>{heads}</tr>{rows}</table>")
}

/// A curve in the unit square, or in as much of it as the points need; with the diagonal where that means something.
fn plot(title: &str, points: &[(f64, f64)], diagonal: bool) -> String {
    let most = points.iter().fold(0.05, |most: f64, (x, y)| most.max(*x).max(*y));
    let x = |value: f64| LEFT + (SIDE - LEFT) * value / most;
    let y = |value: f64| SIDE - BOTTOM - (SIDE - BOTTOM - TOP) * value / most;
    let ticks = (0..=4).map(|quarter| {
        let value = most * f64::from(quarter) / 4.0;
        line("grid", (LEFT, y(value)), (SIDE, y(value)))
            + &text("tick end", (LEFT - 6.0, y(value) + 4.0), format!("{value:.2}"))
            + &text("tick middle", (x(value), SIDE - BOTTOM + 15.0), format!("{value:.2}"))
    });
    let straight = diagonal.then(|| line("grid", (x(0.0), y(0.0)), (x(most), y(most))));
    let path: Vec<String> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
    let curve = format!(r#"<polyline class="curve ours" points="{}"/>"#, path.join(" "));
    let dots = points
        .iter()
        .filter(|_| points.len() <= 20)
        .map(|(a, b)| format!(r#"<circle class="dot ours" cx="{:.1}" cy="{:.1}" r="3"/>"#, x(*a), y(*b)));
    let parts = ticks.chain(straight).chain(std::iter::once(curve)).chain(dots);
    format!(
        "<figure style=\"flex:0 0 17rem\">{}<figcaption class=\"note\">{title}</figcaption></figure>",
        svg(SIDE + 20.0, SIDE, title, parts)
    )
}
