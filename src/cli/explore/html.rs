//! The data report as one page with plots.

use super::Told;
use super::words::{experiment, pivot, silences, summary};
use crate::cli::chart::{Mark, bars, counts_over_time, over_time, side_by_side};
use crate::cli::page::{document, escaped, joined, list, note, plots, table};
use crate::cli::report::percent;
use crate::cli::svg::{svg, text};
use smartrouter::domain::{EpochMs, utc_text};
use smartrouter::learn::{Cut, DiscoveryReport, Group};

const DAY_MS: i64 = 86_400_000;
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Codes in a plot, most frequent first.
const CODES_MAX: usize = 12;

pub(super) fn page(told: &Told) -> String {
    let report = &told.report;
    let files: Vec<String> = told.files.iter().map(|file| file.display().to_string()).collect();
    let body = [
        format!("<h1>Data report</h1><p class=\"note\">{}</p>", escaped(&files.join(", "))),
        paragraph(&summary(told)),
        paragraph(&silences(report)),
        "<h2>Volume and trend</h2>".to_owned(),
        volume(report),
        "<h2>PSPs</h2>".to_owned(),
        plots(&[groups_plot("approved, of attempts with a result", &report.psps), shares_plot(report)]),
        groups_table("PSP", &report.psps),
        joined(report.cuts.iter().map(|cut| section(cut, report))),
        "<h2>Retries</h2>".to_owned(),
        retries(report),
        "<h2>Declines, errors and time-outs</h2>".to_owned(),
        declines(report),
        "<h2>Routing log</h2>".to_owned(),
        routing(report),
        "<h2>An A/B test on these payments</h2>".to_owned(),
        report.experiment.as_ref().map(|sizing| list(experiment(sizing).into_iter())).unwrap_or_default(),
        "<h2>What the files tell</h2>".to_owned(),
        fields(told),
    ];
    document("Data report", &body.concat())
}

fn paragraph(lines: &[String]) -> String {
    format!("<p>{}</p>", escaped(&lines.join(" ")))
}

fn day(at: EpochMs) -> String {
    utc_text(at).chars().take(10).collect()
}

fn volume(report: &DiscoveryReport) -> String {
    let days: Vec<(EpochMs, u64)> = report.days.iter().map(|it| (it.at, it.payments.trials)).collect();
    let mark = |it: &smartrouter::learn::Day| {
        let share = it.attempts.interval()?;
        let told = format!("{}: {} of {} attempts", day(it.at), percent(Some(share)), it.attempts.trials);
        Some(Mark { at: it.at + DAY_MS / 2, share, told, stands_out: false })
    };
    let marks: Vec<Mark> = report.days.iter().filter_map(mark).collect();
    plots(&[
        counts_over_time("payments a day (UTC)", &days, DAY_MS),
        over_time("approved attempts by day, with 95 % intervals", &marks, &[]),
        rhythm(report),
    ])
}

/// Attempts by weekday and hour: the darker, the more.
fn rhythm(report: &DiscoveryReport) -> String {
    let most = report.rhythm.iter().flatten().copied().max().unwrap_or(1).max(1) as f64;
    let (left, step, row) = (40.0, 21.0, 22.0);
    let cell = |weekday: usize, hour: usize| {
        let count = report.rhythm[weekday][hour];
        let (x, y) = (left + step * hour as f64, row * weekday as f64 + 4.0);
        let told = format!("{} {hour:02}:00: {count} attempts", WEEKDAYS[weekday]);
        let strength = count as f64 / most;
        format!(
            r#"<rect class="bar" style="opacity:{strength:.2}" x="{x:.0}" y="{y:.0}" width="20" height="20"><title>{told}</title></rect>"#
        )
    };
    let cells = (0..7).flat_map(|weekday| (0..24).map(move |hour| (weekday, hour))).map(|(weekday, hour)| cell(weekday, hour));
    let names = (0..7).map(|weekday| text("tick end", (left - 8.0, row * f64::from(weekday) + 18.0), WEEKDAYS[weekday as usize]));
    let hours =
        (0..24).step_by(3).map(|hour| text("tick", (left + step * f64::from(hour), row * 7.0 + 18.0), format!("{hour:02}:00")));
    let drawn = svg(560.0, row * 7.0 + 26.0, "Attempts by weekday and hour", cells.chain(names).chain(hours));
    format!(
        "<figure>{drawn}<figcaption class=\"note\">attempts by weekday and hour (UTC); at most {most:.0} in one field</figcaption></figure>"
    )
}

fn groups_plot(title: &str, groups: &[Group]) -> String {
    let rows: Vec<_> = groups.iter().filter_map(|it| Some((it.name.clone(), it.approval_rate?, it.attempts))).collect();
    side_by_side(title, &rows)
}

fn shares_plot(report: &DiscoveryReport) -> String {
    let rows: Vec<(String, u64)> = report.psps.iter().map(|it| (it.name.clone(), it.attempts)).collect();
    bars("attempts", &rows)
}

fn groups_table(name: &str, groups: &[Group]) -> String {
    let row = |it: &Group| vec![it.name.clone(), it.attempts.to_string(), it.approvals.to_string(), percent(it.approval_rate)];
    table(1, &[name, "attempts", "approved", "rate"], groups.iter().map(row))
}

/// A cut: all PSPs together as a plot, each as a column of a table.
fn section(cut: &Cut, report: &DiscoveryReport) -> String {
    let all = cut.rows.iter().filter(|row| row.psp_id.is_none());
    let rows: Vec<_> = all.filter_map(|row| Some((row.value.clone(), row.approval_rate?, row.attempts))).collect();
    let cell = |row: &smartrouter::learn::CutRow| format!("{} of {}", percent(row.approval_rate), row.attempts);
    let heads: Vec<&str> = [cut.by, "all PSPs"].into_iter().chain(report.psps.iter().map(|psp| psp.name.as_str())).collect();
    format!(
        "<h2>Approval by {}</h2>{}{}",
        escaped(cut.by),
        plots(&[side_by_side("approved, of attempts with a result", &rows)]),
        table(1, &heads, pivot(cut, report, cell).into_iter())
    )
}

fn retries(report: &DiscoveryReport) -> String {
    let retries = &report.retries;
    let name = |length: u32| if length == 1 { "1 attempt".to_owned() } else { format!("{length} attempts") };
    let lengths: Vec<(String, u64)> = retries.lengths.iter().map(|(length, payments)| (name(*length), *payments)).collect();
    let cuts = [
        ("attempt of a payment", &retries.by_number),
        ("retries at", &retries.by_psp),
        ("retries after a wait of", &retries.by_wait),
        ("retries after the category", &retries.by_category),
        ("retries after", &retries.by_decline),
    ];
    let told = cuts.into_iter().filter(|(_, groups)| !groups.is_empty());
    let figures: Vec<String> = told.clone().map(|(title, groups)| groups_plot(&format!("approved, {title}"), groups)).collect();
    let tables = told.map(|(title, groups)| groups_table(title, groups));
    plots(&std::iter::once(bars("payments by their attempts", &lengths)).chain(figures).collect::<Vec<_>>()) + &joined(tables)
}

fn declines(report: &DiscoveryReport) -> String {
    let dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let kind = |it: &smartrouter::learn::Decline| it.hard_soft.map(|kind| format!("{kind:?}").to_lowercase());
    let row = |it: &smartrouter::learn::Decline| {
        let status = format!("{:?}", it.status).to_lowercase();
        let share = format!("{:.1} %", it.share * 100.0);
        let codes = [dash(it.error_code.clone()), dash(it.error_category.clone()), dash(kind(it))];
        [it.psp_id.clone(), status].into_iter().chain(codes).chain([it.attempts.to_string(), share]).collect()
    };
    let name = |it: &smartrouter::learn::Decline| {
        let code = it.error_code.clone().or(it.error_category.clone());
        format!("{} {}", it.psp_id, code.unwrap_or_else(|| format!("{:?}", it.status).to_lowercase()))
    };
    let frequent: Vec<(String, u64)> = report.declines.iter().take(CODES_MAX).map(|it| (name(it), it.attempts)).collect();
    let heads = ["PSP", "status", "code", "category", "kind", "attempts", "of the PSP's"];
    plots(&[bars("most frequent answers that are no approval", &frequent)]) + &table(5, &heads, report.declines.iter().map(row))
}

fn routing(report: &DiscoveryReport) -> String {
    let latency = |it: &smartrouter::learn::Latency| {
        let figures =
            [it.attempts, u64::from(it.p50_ms), u64::from(it.p95_ms), u64::from(it.p99_ms)].map(|figure| figure.to_string());
        std::iter::once(it.psp_id.clone()).chain(figures).collect()
    };
    let skip = |it: &smartrouter::learn::Skip| vec![it.reason.clone(), it.attempts.to_string()];
    let latencies = match report.latency.as_slice() {
        [] => note("The files tell no latencies."),
        told => table(1, &["PSP", "attempts", "median, ms", "95 %", "99 %"], told.iter().map(latency)),
    };
    let skips = match report.skips.as_slice() {
        [] => note("The files tell of no PSP that was skipped."),
        told => table(1, &["skipped", "attempts"], told.iter().map(skip)),
    };
    latencies + &skips
}

fn fields(told: &Told) -> String {
    let row = |it: &smartrouter::learn::Told| vec![it.field.to_owned(), format!("{:.1} %", it.share * 100.0)];
    let unread = told.unread_columns.iter().map(|(file, columns)| format!("not read of {file}: {}", columns.join(", ")));
    let key = |(key, it): (&String, &super::JsonKey)| vec![key.clone(), it.attempts.to_string(), it.example.clone()];
    let keys = match told.json_keys.len() {
        0 => String::new(),
        _ => table(1, &["key of JSON that no field reads", "attempts", "such as"], told.json_keys.iter().map(key)),
    };
    table(1, &["field", "told"], told.report.fields.iter().map(row)) + &list(unread) + &keys
}
