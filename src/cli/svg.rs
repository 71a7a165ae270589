//! Marks of inline SVG, as all reports of the command line draw them. Classes are those of `page.css`.

use std::fmt::Display;

pub(super) fn svg(width: f64, height: f64, title: &str, parts: impl Iterator<Item = String>) -> String {
    let parts: String = parts.collect();
    format!(r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{parts}</svg>"#)
}

pub(super) fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> String {
    format!(r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#, from.0, from.1, to.0, to.1)
}

pub(super) fn text(class: &str, at: (f64, f64), text: impl Display) -> String {
    format!(r#"<text class="{class}" x="{:.1}" y="{:.1}">{text}</text>"#, at.0, at.1)
}
