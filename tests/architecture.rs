//! Holds the code to its architecture: who may use whom, which dependency enters where, what stays pure, and how long things get.
//!
//! Each rule is a function from one source file to its violations. One test runs all rules over `src`; each rule has a test of
//! its own that shows a violation being found and a clean file passing.

// Outside test functions too, a test may give up at once.
#![allow(clippy::unwrap_used, clippy::panic)]

use proc_macro2::{TokenStream, TokenTree};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// A layer and the layers that it may use besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("engine", &["domain"]),
    ("learn", &["engine", "domain"]),
    ("config", &["learn", "engine", "domain"]),
    ("io", &["learn", "domain"]),
    ("sim", &["engine", "domain"]),
    ("telemetry", &[]),
    ("runtime", &["io", "learn", "engine", "domain", "config", "telemetry"]),
    ("api", &["runtime", "io", "engine", "domain", "config", "telemetry"]),
    ("lib", &["api", "runtime", "io", "engine", "domain", "config", "telemetry", "sim", "learn"]),
    ("cli", &["api", "runtime", "io", "engine", "domain", "config", "telemetry", "sim", "learn"]),
    ("main", &["cli", "api", "runtime", "io", "engine", "domain", "config", "telemetry", "sim", "learn"]),
];

/// A dependency and the modules through which alone it enters.
const DOORS: &[(&str, &[&str])] = &[
    ("rdkafka", &["io::log::kafka"]),
    ("rocksdb", &["io::store", "io::log::embedded"]),
    ("apache_avro", &["io::codec"]),
    ("serde_avro_fast", &["io::codec"]),
    ("reqwest", &["io::codec", "io::alert", "io::warehouse::snowflake"]),
    ("openssl", &["io::warehouse::snowflake"]),
    ("zstd", &["io::warehouse::snowflake"]),
    ("hmac", &["io::alert"]),
    ("csv", &["io::history"]),
    ("parquet", &["io::history", "io::dataset", "io::warehouse::local"]),
    ("rustix", &["io::warehouse::local"]),
    ("chrono_tz", &["io::history"]),
    ("dashmap", &["runtime::global_table"]),
    ("candle_core", &["learn::net"]),
    ("candle_nn", &["learn::net"]),
    ("gemm", &["learn::net"]),
    ("pulp", &["learn::net"]),
    ("rayon", &["learn::net"]),
    ("forust_ml", &["learn::forest"]),
    ("safetensors", &["learn::artifact"]),
    ("figment", &["config"]),
    ("axum", &["api"]),
    ("tokio", &["api"]),
    ("metrics_exporter_prometheus", &["telemetry", "api"]),
    ("tracing_subscriber", &["telemetry"]),
    ("rand", &["sim"]),
    ("rand_chacha", &["sim", "learn::draw"]),
    ("rand_distr", &["sim"]),
    ("anyhow", &["main", "cli"]),
    ("clap", &["main", "cli"]),
    ("clap_complete", &["main", "cli"]),
    ("comfy_table", &["main", "cli"]),
    ("indicatif", &["main", "cli"]),
    ("signal_hook", &["main", "cli", "io::failpoint"]),
];

const PURE_LAYERS: &[&str] = &["domain", "engine"];

/// What a pure layer has no use for: clock, environment, IO, threads, locks, randomness, logs, metrics.
const IMPURE: &[&str] = &[
    "std::time::SystemTime",
    "std::time::Instant",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::process",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::Condvar",
    "std::sync::mpsc",
    "std::sync::atomic",
    "tokio",
    "rand",
    "tracing",
    "metrics",
    "print",
    "println",
    "eprint",
    "eprintln",
    "dbg",
];

/// Calls that read a clock or draw at random, however their type was imported.
const IMPURE_CALLS: &[&str] = &["Utc::now", "Local::now", "Uuid::new_v4", "Uuid::now_v7"];

const MODULE_NAMES_REFUSED: &[&str] = &["util", "utils", "helper", "helpers", "common", "types", "misc"];

/// Words of unfinished work. Joined here from halves, so that this file may be checked too.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("for ", "now"),
    concat!("place", "holder"),
    concat!("not yet ", "implemented"),
    concat!("(being ", "written)"),
    concat!("to", "do!("),
    concat!("un", "implemented!("),
];

/// One parsed file with its place in the module tree.
struct Source {
    name: String,
    module: Vec<String>,
    text: String,
    file: syn::File,
}

impl Source {
    /// `name` is relative to the repository, such as `src/io/log/mod.rs`.
    fn parse(name: &str, text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let inside = name.strip_prefix("src/").unwrap_or(name).trim_end_matches(".rs");
        let module = inside.split('/').filter(|part| *part != "mod").map(str::to_owned).collect();
        Self { name: name.to_owned(), module, text: text.to_owned(), file }
    }

    fn layer(&self) -> &str {
        &self.module[0]
    }

    /// Whether the file is the `mod tests` of its parent.
    fn is_test(&self) -> bool {
        self.module.last().is_some_and(|name| name == "tests")
    }

    /// Every path that the file names, fully written out, with its line.
    fn paths(&self, tests_too: bool) -> Vec<Named> {
        let mut collector = Paths { module: self.module.clone(), tests_too, found: Vec::new() };
        if matches!(self.layer(), "lib" | "main") {
            collector.module.clear();
        }
        collector.visit_file(&self.file);
        collector.found
    }
}

/// A path as it stands in the source.
struct Named {
    path: String,
    line: usize,
    imported: bool,
}

struct Paths {
    module: Vec<String>,
    tests_too: bool,
    found: Vec<Named>,
}

impl Paths {
    fn push(&mut self, segments: &[String], line: usize, imported: bool) {
        let path = self.resolve(segments).join("::");
        self.found.push(Named { path, line, imported });
    }

    /// `crate::`, `smartrouter::`, `self::` and `super::` become `crate::` and a path from the root.
    fn resolve(&self, segments: &[String]) -> Vec<String> {
        let from_root = |modules: &[String], rest: &[String]| {
            let mut path = vec!["crate".to_owned()];
            path.extend_from_slice(modules);
            path.extend_from_slice(rest);
            path
        };
        match segments.first().map(String::as_str) {
            Some("crate" | "smartrouter") => from_root(&[], &segments[1..]),
            Some("self") if segments.len() > 1 => from_root(&self.module, &segments[1..]),
            Some("super") => {
                let ups = segments.iter().take_while(|segment| *segment == "super").count();
                from_root(&self.module[..self.module.len().saturating_sub(ups)], &segments[ups..])
            }
            _ => segments.to_vec(),
        }
    }

    fn walk_use(&mut self, tree: &syn::UseTree, before: &[String]) {
        let mut path = before.to_vec();
        match tree {
            syn::UseTree::Path(node) => {
                path.push(node.ident.to_string());
                self.walk_use(&node.tree, &path);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.walk_use(item, before)),
            syn::UseTree::Name(node) if node.ident == "self" => self.push(&path, node.span().start().line, true),
            syn::UseTree::Name(syn::UseName { ident }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                path.push(ident.to_string());
                self.push(&path, ident.span().start().line, true);
            }
            syn::UseTree::Glob(node) => self.push(&path, node.span().start().line, true),
        }
    }

    /// Paths inside a macro's tokens, which the parser does not see: runs of `ident :: ident`.
    fn walk_tokens(&mut self, tokens: TokenStream) {
        let mut run: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.flush(&mut run, line);
                        line = ident.span().start().line;
                    }
                    run.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !run.is_empty() => colons += 1,
                TokenTree::Group(group) => {
                    self.flush(&mut run, line);
                    colons = 0;
                    self.walk_tokens(group.stream());
                }
                _ => {
                    self.flush(&mut run, line);
                    colons = 0;
                }
            }
        }
        self.flush(&mut run, line);
    }

    fn flush(&mut self, run: &mut Vec<String>, line: usize) {
        if run.len() > 1 {
            let segments = std::mem::take(run);
            self.push(&segments, line, false);
        }
        run.clear();
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.walk_use(&item.tree, &[]);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) && !self.tests_too {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.push(&segments, path.span().start().line, false);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.walk_tokens(call.tokens.clone());
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string().contains("test"))
    })
}

/// Whether `path` is `prefix` or lies below it.
fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn layers(source: &Source) -> Vec<String> {
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == source.layer()) else {
        return vec![format!("{}: no layer {:?}: add it to LAYERS, with what it may use", source.name, source.layer())];
    };
    let mut found = Vec::new();
    for Named { path, line, .. } in source.paths(true) {
        let Some(used) = path.strip_prefix("crate::").and_then(|rest| rest.split("::").next()) else { continue };
        let is_layer = LAYERS.iter().any(|(layer, _)| *layer == used);
        if is_layer && used != source.layer() && !allowed.contains(&used) {
            found.push(format!("{}:{line}: {} may not use {used} ({path})", source.name, source.layer()));
        }
    }
    found
}

/// Tests may use what they like: they are not shipped.
fn doors(source: &Source) -> Vec<String> {
    let module = source.module.join("::");
    let mut found = Vec::new();
    if source.is_test() {
        return found;
    }
    for Named { path, line, .. } in source.paths(false) {
        let first = path.split("::").next().unwrap_or_default();
        // A single segment is a local name or a macro, unless it is an import of the crate itself.
        let Some((_, open)) = DOORS.iter().find(|(dependency, _)| *dependency == first && path.contains("::")) else { continue };
        if !open.iter().any(|door| is_within(&module, door)) {
            found.push(format!("{}:{line}: {first} enters only through {}", source.name, open.join(", ")));
        }
    }
    found
}

fn purity(source: &Source) -> Vec<String> {
    if !PURE_LAYERS.contains(&source.layer()) || source.is_test() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for Named { path, line, imported } in source.paths(false) {
        // Importing a parent (`use std::time`) would open a way around.
        let opens = |impure: &&&str| imported && is_within(impure, &path);
        let named = IMPURE.iter().find(|impure| is_within(&path, impure) || opens(impure));
        if let Some(impure) = named.or_else(|| IMPURE_CALLS.iter().find(|call| path.ends_with(**call))) {
            found.push(format!("{}:{line}: {} is pure: no {impure} ({path})", source.name, source.layer()));
        }
    }
    let mut functions = Functions::default();
    functions.visit_file(&source.file);
    found.extend(
        functions.asynchronous.iter().map(|line| format!("{}:{line}: {} is pure: no async", source.name, source.layer())),
    );
    found
}

#[derive(Default)]
struct Functions {
    lengths: Vec<(String, usize, usize)>,
    asynchronous: Vec<usize>,
}

impl Functions {
    fn note(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let (first, last) = (signature.span().start().line, body.span().end().line);
        self.lengths.push((signature.ident.to_string(), first, last + 1 - first));
        if signature.asyncness.is_some() {
            self.asynchronous.push(first);
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.note(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

fn lengths(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}: split it by what it owns", source.name));
    }
    let mut functions = Functions::default();
    functions.visit_file(&source.file);
    for (name, line, length) in functions.lengths {
        if length > FUNCTION_LINES_MAX {
            found.push(format!("{}:{line}: fn {name} has {length} lines, at most {FUNCTION_LINES_MAX}", source.name));
        }
    }
    found
}

fn module_names(source: &Source) -> Vec<String> {
    let refused = |name: &str| {
        let versioned =
            name.strip_prefix('v').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
        MODULE_NAMES_REFUSED.contains(&name)
            || versioned
            || name.ends_with("_new")
            || name.ends_with("_old")
            || name.ends_with("_v2")
    };
    let inline =
        source.file.items.iter().filter_map(|item| if let syn::Item::Mod(it) = item { Some(it.ident.to_string()) } else { None });
    let all = source.module.iter().cloned().chain(inline);
    all.filter(|name| refused(name))
        .map(|name| format!("{}: a module named {name:?} says nothing: name what it owns", source.name))
        .collect()
}

fn module_openings(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") || source.is_test() {
        Vec::new()
    } else {
        vec![format!("{}: opens without saying what it owns (`//!`)", source.name)]
    }
}

fn unfinished(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
            found.push(format!("{name}:{}: {word:?}: finish it, or leave it out", index + 1));
        }
    }
    found
}

/// Metrics are recorded under the constants of `telemetry`, so that its table is complete.
fn metric_names(source: &Source) -> Vec<String> {
    let literal = ["counter!(\"", "gauge!(\"", "histogram!(\""];
    let lines = source.text.lines().enumerate().filter(|(_, line)| literal.iter().any(|call| line.contains(call)));
    lines.map(|(index, _)| format!("{}:{}: a metric's name is a constant of telemetry.rs", source.name, index + 1)).collect()
}

/// A metric that nobody records is an empty panel on somebody's dashboard.
#[test]
fn every_metric_is_recorded() {
    let files = repository("src", &["rs"]);
    let (_, declared) = files.iter().find(|(name, _)| name == "src/telemetry.rs").unwrap();
    let kinds = ["Counter", "Gauge", "Histogram"];
    let words = |line: &'_ str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let names = declared.lines().map(words).filter(|it| it.len() > 3 && kinds.contains(&&*it[0]) && it[2].starts_with('"'));
    let names: Vec<String> = names.map(|it| format!("telemetry::{}", it[1])).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(files.iter().any(|(_, text)| text.contains(&name)), "{name} is never recorded");
    }
}

fn all_rules(source: &Source) -> Vec<String> {
    let rules = [layers, doors, purity, lengths, module_names, module_openings, metric_names];
    let mut found: Vec<String> = rules.iter().flat_map(|rule| rule(source)).collect();
    found.extend(unfinished(&source.name, &source.text));
    found
}

fn files_below(directory: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_below(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// Files below `directory` of the repository, as (name relative to the repository, text).
fn repository(directory: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    if root.join(directory).is_dir() {
        files_below(&root.join(directory), &mut paths);
    }
    paths.retain(|path| path.extension().and_then(|extension| extension.to_str()).is_some_and(|it| extensions.contains(&it)));
    let named = paths.into_iter().map(|path| {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        (name, text)
    });
    named.collect()
}

fn report(found: &[String]) -> String {
    found.iter().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "  {line}");
        all
    })
}

#[test]
fn the_code_keeps_its_architecture() {
    let sources = repository("src", &["rs"]);
    assert!(sources.len() > 20, "found only {} files under src", sources.len());
    let found: Vec<String> = sources.iter().flat_map(|(name, text)| all_rules(&Source::parse(name, text))).collect();
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), report(&found));
}

#[test]
fn nothing_else_is_left_unfinished() {
    let mut found = Vec::new();
    for directory in ["tests", "benches", "scripts", "deploy", "schemas", "topics"] {
        for (name, text) in repository(directory, &["rs", "sh", "py", "toml", "avsc", "json", "yml"]) {
            found.extend(unfinished(&name, &text));
        }
    }
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), report(&found));
}

#[track_caller]
fn check(rule: fn(&Source) -> Vec<String>, name: &str, text: &str, violation: Option<&str>) {
    let found = rule(&Source::parse(name, text));
    match violation {
        None => assert!(found.is_empty(), "{name}: {text}\n{}", report(&found)),
        Some(part) => {
            assert!(found.iter().any(|line| line.contains(part)), "{name}: {text}: expected {part:?}, found\n{}", report(&found));
        }
    }
}

#[test]
fn a_layer_that_reaches_up_is_found() {
    check(layers, "src/domain/payment.rs", "use crate::engine::Settings;", Some("domain may not use engine"));
    check(layers, "src/domain/payment.rs", "use super::super::engine::Settings;", Some("domain may not use engine"));
    check(layers, "src/domain/payment.rs", "fn f() { crate::io::log::open() }", Some("domain may not use io"));
    check(layers, "src/engine/mod.rs", "use {crate::{domain::PspId, runtime::Task}};", Some("engine may not use runtime"));
    check(layers, "src/io/log/mod.rs", "fn f() { assert!(crate::runtime::ready()) }", Some("io may not use runtime"));
    check(layers, "src/sim/mod.rs", "mod tests { use super::super::io::log; }", Some("sim may not use io"));
    check(layers, "src/elsewhere/mod.rs", "", Some("no layer"));
    check(layers, "src/engine/policy/mod.rs", "use super::settings::Settings; use crate::domain::PspId;", None);
    check(layers, "src/cli/lag.rs", "use smartrouter::io::log::EventLog; use super::screen::Screen;", None);
}

#[test]
fn a_dependency_beside_its_door_is_found() {
    check(doors, "src/runtime/task.rs", "use rdkafka::config::ClientConfig;", Some("rdkafka enters only"));
    check(doors, "src/runtime/task.rs", "fn f() -> rocksdb::DB { g() }", Some("rocksdb enters only"));
    check(
        doors,
        "src/io/log/mod.rs",
        "fn f() { println!(\"{}\", rdkafka::util::get_rdkafka_version().1) }",
        Some("rdkafka enters only"),
    );
    check(doors, "src/engine/mod.rs", "use anyhow::Result;", Some("anyhow enters only"));
    check(doors, "src/io/log/kafka/member.rs", "use rdkafka::config::ClientConfig;", None);
    check(doors, "src/io/store/mod.rs", "use rocksdb::DB;", None);
    check(doors, "src/io/codec/tests.rs", "use rand::rngs::StdRng;", None);
    check(doors, "src/io/codec/mod.rs", "#[cfg(test)] mod tests { use rand::rngs::StdRng; }", None);
}

#[test]
fn impurity_is_found() {
    for text in [
        "use std::time::Instant;",
        "use std::time;",
        "use std::{fs, collections::BTreeMap};",
        "fn f() { std::env::var(\"X\").ok(); }",
        "fn f() { tracing::info!(\"x\"); }",
        "fn f() { assert!(std::time::SystemTime::now() > t) }",
        "struct S { lock: std::sync::Mutex<u8> }",
        "use std::sync::*;",
        "fn f() { println!(\"x\"); }",
        "async fn f() {}",
        "impl S { async fn f(&self) {} }",
        "fn f() -> i64 { chrono::Utc::now().timestamp_millis() }",
        "use uuid::Uuid; fn f() -> Uuid { Uuid::new_v4() }",
    ] {
        check(purity, "src/engine/window/mod.rs", text, Some("is pure"));
        check(purity, "src/runtime/task.rs", text, None);
    }
    check(purity, "src/engine/mod.rs", "use std::time::Duration; use std::sync::Arc; use uuid::Uuid;", None);
    check(purity, "src/engine/mod.rs", "#[cfg(test)] mod tests { use std::time::Instant; }", None);
}

#[test]
fn what_is_too_long_is_found() {
    let body = "    g();\n".repeat(FUNCTION_LINES_MAX - 2);
    check(lengths, "src/engine/mod.rs", &format!("fn f() {{\n{body}}}\n"), None);
    check(lengths, "src/engine/mod.rs", &format!("fn f() {{\n{body}    g();\n}}\n"), Some("fn f has 71 lines"));
    check(lengths, "src/engine/mod.rs", &format!("impl S {{\nfn f() {{\n{body}    g();\n}}\n}}\n"), Some("fn f has 71 lines"));
    check(lengths, "src/engine/mod.rs", &"// x\n".repeat(FILE_LINES_MAX + 1), Some("601 lines"));
}

#[test]
fn names_that_say_nothing_are_found() {
    check(module_names, "src/engine/utils.rs", "", Some("utils"));
    check(module_names, "src/engine/common/mod.rs", "", Some("common"));
    check(module_names, "src/engine/v2.rs", "", Some("v2"));
    check(module_names, "src/engine/policy_new.rs", "", Some("policy_new"));
    check(module_names, "src/engine/mod.rs", "mod helpers { }", Some("helpers"));
    check(module_names, "src/engine/validate.rs", "mod tests {}", None);
    check(module_openings, "src/engine/validate.rs", "use std::fmt;", Some("opens without"));
    check(module_openings, "src/engine/validate.rs", "//! What makes a record valid.\n", None);
}

#[test]
fn unfinished_work_and_stray_metrics_are_found() {
    for word in UNFINISHED {
        assert_eq!(unfinished("src/x.rs", &format!("fine\n// {word} x")).len(), 1, "{word}");
    }
    assert!(unfinished("src/x.rs", "// waits for no one").is_empty());
    check(
        metric_names,
        "src/runtime/task.rs",
        "fn f() { metrics::counter!(\"x\").increment(1); }",
        Some("constant of telemetry"),
    );
    check(metric_names, "src/runtime/task.rs", "fn f() { metrics::counter!(RECORDS_READ).increment(1); }", None);
}
