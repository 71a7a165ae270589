//! A configuration, and overrides by environment and flags: problems that name their keys, or values that everything behind takes.

use super::parts;
use smartrouter::config::{Config, Format, LoadOptions};
use smartrouter::engine::codes::CodeTable;
use smartrouter::engine::policy::Router;

/// What a secret key is given where a line says `SECRET`: it must never be shown.
const SECRET: &str = "hunter2secret";

/// TOML, and behind `PART` lines of `key=text`: flags, or environment where the key is in capitals.
pub fn run(data: &[u8]) {
    let (toml, lines) = parts(data);
    let (Ok(toml), Ok(lines)) = (std::str::from_utf8(toml), std::str::from_utf8(lines)) else { return };
    let pairs = lines.lines().filter_map(|line| line.split_once('=')).take(8);
    let pairs = pairs.map(|(key, text)| (key.to_owned(), text.to_owned()));
    let (env, mut overrides): (Vec<_>, Vec<_>) = pairs.partition(|(key, _)| key.starts_with("SMARTROUTER__"));
    overrides.push(("schema_registry.password".to_owned(), SECRET.to_owned()));
    let options = LoadOptions { base: Some(toml.to_owned()), env, overrides, ..LoadOptions::default() };
    match Config::load(&options) {
        Ok(loaded) => {
            let shown = [loaded.print(Format::Table), loaded.print(Format::Json), format!("{:?}", loaded.config)];
            assert!(shown.iter().all(|text| !text.contains(SECRET)), "a secret is shown");
            let _: serde_json::Value = serde_json::from_str(&shown[1]).expect("JSON");
            assert!(!Router::new(&loaded.config.settings).rules_version().is_empty());
            let _ = CodeTable::new(&loaded.config.settings.error_codes);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains(SECRET), "{text}");
        }
    }
}
