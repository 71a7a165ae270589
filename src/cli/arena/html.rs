//! The report as one HTML page that needs no other file: verdicts, losses at a glance, and plots and figures of each scenario.
//!
//! All text on it is this program's own; nothing that was read from anywhere.

use super::plot;
use super::rows::sentence;
use crate::cli::page::document;
use smartrouter::sim::arena::{Estimate, OURS, Report, Row, SCENARIOS, Script, Standing, Verdict, policy_names};
use std::fmt::Display;

pub(super) fn page(report: &Report, first_seed: u64) -> String {
    let seeds = report.rows.iter().map(|row| row.seeds).max().unwrap_or(0);
    let last_seed = first_seed.wrapping_add((seeds as u64).saturating_sub(1));
    let scenarios: String = SCENARIOS.iter().map(|script| section(script, report)).collect();
    let body = format!(
        "<h1>Router policies on the same payments</h1>
<p>Each scenario was played {seeds} times (seeds {first_seed} to {last_seed}) under each policy. The fate of a payment at each PSP is drawn
before anyone routes it, so all policies meet the same payments with the same luck. The oracle knows the true chances of the moment. The
merchant's rules are right while all is well: a policy that keeps to them loses nothing then, one that learns pays for it.</p>
{}{}{scenarios}",
        verdicts(report),
        overview(report)
    );
    document("smartrouter arena", &body)
}

fn verdicts(report: &Report) -> String {
    if report.verdicts.is_empty() {
        return String::new();
    }
    let row = |verdict: &Verdict| {
        format!(
            r##"<tr><th><a href="#{0}">{0}</a></th><td class="{1}">{2}</td><td>{3}</td><td class="n">{4}</td></tr>"##,
            verdict.scenario,
            mood(verdict.standing),
            verdict.standing.as_str(),
            verdict.best_rival,
            told(verdict.difference, 1)
        )
    };
    let rows: String = report.verdicts.iter().map(row).collect();
    format!(
        "<h2>Verdicts</h2><table><tr><th>scenario</th><th>{OURS} is</th><th>best rival</th><th class=\"n\">payments lost more than it</th></tr>\
         {rows}</table><p class=\"note\">Mean of the differences seed by seed, with its 95 % bootstrap interval. The best rival is the one \
         with the lowest mean loss in these very runs, which favours it.</p>"
    )
}

fn mood(standing: Standing) -> &'static str {
    match standing {
        Standing::First => "good",
        Standing::WithinNoise => "even",
        Standing::Behind => "bad",
    }
}

/// Scenarios by policies: mean losses.
fn overview(report: &Report) -> String {
    let policies: Vec<&str> = policy_names().filter(|name| report.rows.iter().any(|row| row.policy == *name)).collect();
    let head = in_columns("th", &policies);
    let row = |script: &&Script| {
        let of = |name: &&str| report.rows.iter().find(|row| row.scenario == script.name && row.policy == *name);
        let cell = |name: &&str| {
            let mean = of(name).and_then(|row| row.lost_mean.value);
            mean.map_or_else(|| "<td></td>".to_owned(), |mean| format!(r#"<td class="n">{mean:.1}</td>"#))
        };
        let cells: String = policies.iter().map(cell).collect();
        format!(r##"<tr><th><a href="#{0}">{0}</a></th>{cells}</tr>"##, script.name)
    };
    let played = SCENARIOS.iter().filter(|script| report.rows.iter().any(|row| row.scenario == script.name));
    let rows: String = played.map(|script| row(&script)).collect();
    format!("<h2>Payments lost against the oracle, mean of a run</h2><table><tr><th></th>{head}</tr>{rows}</table>")
}

fn section(script: &Script, report: &Report) -> String {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.scenario == script.name).collect();
    let Some(first) = rows.first() else { return String::new() };
    let verdict = report.verdicts.iter().find(|verdict| verdict.scenario == script.name);
    let verdict = verdict.map(|verdict| format!(r#"<p class="{}">{}.</p>"#, mood(verdict.standing), sentence(verdict)));
    format!(
        r#"<section id="{0}"><h2>{0}</h2><p>{1}; {2} payments.</p>{3}<div class="plots">{4}{5}</div>{6}</section>"#,
        script.name,
        script.about,
        told(Estimate { low: None, ..first.payments }, 0),
        verdict.unwrap_or_default(),
        plot::intervals(&rows),
        plot::curves(&rows, script),
        figures(&rows)
    )
}

const FIGURES: [&str; 8] = [
    "lost, mean",
    "lost, median",
    "payments to detect",
    "seconds to detect",
    "false alarms in 100,000",
    "probes",
    "seconds down after recovery",
    "moved without need, %",
];

fn figures(rows: &[&Row]) -> String {
    let row = |row: &&Row| {
        let percent = |share: Option<f64>| share.map(|share| share * 100.0);
        let moved = row.moved_share;
        let moved = Estimate { value: percent(moved.value), low: percent(moved.low), high: percent(moved.high) };
        let cells = [
            told(row.lost_mean, 1),
            told(row.lost, 0),
            told(row.payments_to_detect, 0),
            told(row.seconds_to_detect, 1),
            told(row.false_alarms_per_100k, 1),
            told(row.probes, 0),
            told(row.seconds_down, 0),
            told(moved, 1),
        ];
        let cells = in_columns("td", &cells);
        format!(r#"<tr><th class="{}">{}</th>{cells}</tr>"#, plot::class(row.policy), row.policy)
    };
    let rows: String = rows.iter().map(row).collect();
    let head = in_columns("th", &FIGURES);
    format!("<table><tr><th></th>{head}</tr>{rows}</table>")
}

/// Cells of figures, or their titles.
fn in_columns(tag: &str, texts: &[impl Display]) -> String {
    let cells: Vec<String> = texts.iter().map(|text| format!(r#"<{tag} class="n">{text}</{tag}>"#)).collect();
    cells.concat()
}

/// A figure with its interval; what is not finite or not defined is a dash.
fn told(figure: Estimate, decimals: usize) -> String {
    let one = |figure: Option<f64>| figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.decimals$}"));
    match figure {
        Estimate { value: None, low: None, .. } => "–".to_owned(),
        Estimate { low: None, .. } => one(figure.value),
        _ => format!("{} <small>[{}, {}]</small>", one(figure.value), one(figure.low), one(figure.high)),
    }
}
