//! HTML pages that need no other file: the frame, tables, lists. Whatever comes from data is escaped here.

const STYLE: &str = include_str!("page.css");

/// A whole page; `body` is HTML.
pub(super) fn document(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{STYLE}</style></head><body>
{body}
</body></html>
"#
    )
}

/// A table of texts; the first `names` columns are names, the others figures.
pub(super) fn table(names: usize, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let class = |column: usize| if column < names { "" } else { r#" class="n""# };
    let cells = |tag: &str, texts: &[String]| {
        joined(texts.iter().enumerate().map(|(column, text)| format!("<{tag}{}>{}</{tag}>", class(column), escaped(text))))
    };
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows = joined(rows.map(|row| format!("<tr>{}</tr>", cells("td", &row))));
    format!("<table><tr>{}</tr>{rows}</table>", cells("th", &heads))
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    format!("<ul>{}</ul>", joined(items.map(|item| format!("<li>{}</li>", escaped(&item)))))
}

/// A remark below a table or plot.
pub(super) fn note(text: &str) -> String {
    format!(r#"<p class="note">{}</p>"#, escaped(text))
}

pub(super) fn plots(figures: &[String]) -> String {
    format!(r#"<div class="plots">{}</div>"#, figures.concat())
}

/// End to end.
pub(super) fn joined(each: impl Iterator<Item = String>) -> String {
    each.collect::<Vec<_>>().concat()
}

/// Names come from data.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_data_cannot_become_markup() {
        let shown = document("a<b", &table(1, &["\"x\""], [vec!["<script>".to_owned(), "1 & 2".to_owned()]].into_iter()));
        assert!(shown.contains("<title>a&lt;b</title>") && shown.contains("<th>&quot;x&quot;</th>"), "{shown}");
        assert!(shown.contains(r#"<td>&lt;script&gt;</td><td class="n">1 &amp; 2</td>"#), "{shown}");
        assert_eq!(
            list(["<i>".to_owned()].into_iter()) + &note("<b>"),
            "<ul><li>&lt;i&gt;</li></ul><p class=\"note\">&lt;b&gt;</p>"
        );
    }
}
