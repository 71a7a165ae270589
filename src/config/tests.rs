//! One `check` for what a configuration is refused for; the rest holds the embedded default and the shipped example to the code.

use super::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Loads a file with this text, the other layers as `options` has them.
fn load(text: &str, options: LoadOptions) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("router.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&LoadOptions { file: Some(path), ..options })
}

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    load(text, LoadOptions::default())
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The configuration is refused for `count` problems, and each of `needles` is in the text.
fn refused(loaded: Result<Loaded, ConfigError>, count: usize, needles: &[&str]) {
    let error = loaded.expect_err("should be refused");
    let text = error.to_string();
    for needle in needles {
        assert!(text.contains(needle), "{needle:?} is not in: {text}");
    }
    let ConfigError::Problems(problems) = error else { panic!("not problems: {text}") };
    assert_eq!(problems.len(), count, "{text}");
}

const TWO_PSPS: &str = "[[psps]]\nid = 'a'\n[[psps]]\nid = 'b'\n";

/// A file with this text is refused with one problem, whose text has the needles.
fn check(text: &str, needles: &[&str]) {
    refused(load_text(text), 1, needles);
}

#[test]
fn unknown_keys_are_refused_by_name_with_source_and_hint() {
    check("[engine]\nno_such_key = 1\n", &["engine.no_such_key", "router.toml", "unknown key"]);
    check("[engine]\nlatenes_ms = 1\n", &["engine.latenes_ms", "did you mean engine.lateness_ms?"]);
    check("[enigne]\nlateness_ms = 1\n", &["enigne", "did you mean engine?"]);
    check("[engine]\nvolume_min = 1\n", &["did you mean health.volume_min?"]);
    check("[[psps]]\nid = 'a'\nbrand = ['VISA']\n", &["psps[0].brand (file", "did you mean brands?"]);
    check(
        &format!("{TWO_PSPS}[[rules]]\nid='r'\npsps=['a']\nwhen={{ brand=['VISA'] }}\n"),
        &["rules[0].when.brand (", "did you mean brands?"],
    );
    check(
        &format!("{TWO_PSPS}[[rules]]\nid='r'\nsplit=[{{psp='a', wait=1}}]\n"),
        &["rules[0].split[0].wait (file", "known are psp, weight"],
    );
    let env = LoadOptions { env: pairs(&[("SMARTROUTER__ENGINE__LATENES_MS", "1")]), ..LoadOptions::default() };
    refused(Config::load(&env), 1, &["engine.latenes_ms", "environment variable SMARTROUTER__ENGINE__LATENES_MS"]);
    let flag = LoadOptions { overrides: pairs(&[("kafka.bootstrap", "h:1")]), ..LoadOptions::default() };
    refused(Config::load(&flag), 1, &["kafka.bootstrap (flag for kafka.bootstrap)"]);
}

#[test]
fn misfits_name_key_value_and_remedy() {
    check("[engine]\nlateness_ms = 'soon'\n", &["engine.lateness_ms = \"soon\"", "router.toml", "give i64"]);
    check("[kafka]\nsession_timeout_ms = -1\n", &["kafka.session_timeout_ms = -1"]);
    check("[policy]\nranking = 'windowed_rates'\n", &["policy.ranking = \"windowed_rates\"", "did you mean windowed_rate?"]);
    check("engine = 3\n", &["engine", "is a section"]);
    check("psps = 3\n", &["psps = 3", "[[psps]]"]);
    check("[[psps]]\nname = 'x'\n", &["psps[0]", "has no id"]);
    check("[runtime]\nlog = 'kafk'\n", &["runtime.log", "did you mean kafka?"]);
}

#[test]
fn settings_out_of_bounds_are_refused() {
    for (text, needles) in [
        ("[health]\nwindow_ms = 605000\n", ["health.window_ms = 605000", "multiple of 10000"]),
        ("[health]\nwindow_ms = 60000\n", ["health.window_ms = 60000", "give 300000 to 900000"]),
        ("[health]\ndown_rate = 0.2\n", ["health.down_rate = 0.2", "give more than health.degraded_rate"]),
        ("[health]\nrecovered_rate = 0.2\n", ["health.recovered_rate = 0.2", "flap"]),
        ("[health]\nsample_rate = 0\n", ["health.sample_rate = 0.0", "more than 0"]),
        ("[engine]\noutcome_wait_ms = 20000\n", ["engine.outcome_wait_ms = 20000", "engine.attempt_deadline_ms"]),
        ("[engine]\npayment_retention_ms = 60000\n", ["engine.payment_retention_ms = 60000", "still wait"]),
        ("[engine]\nsegments = ['PAIR']\n", ["engine.segments", "two of these joined by +"]),
        ("[engine]\nsegments = ['BRAND', 'BRAND']\n", ["engine.segments", "occurs twice"]),
        ("[engine]\nsegments = ['BRAND+METHOD', 'BRAND+CURRENCY']\n", ["engine.segments", "several pairs"]),
        ("[engine]\nattempt_overdue_ms = -1\n", ["engine.attempt_overdue_ms = -1", "give 0 to"]),
        ("[policy]\ninherited_share_max = 0\n", ["policy.inherited_share_max = 0.0", "no share"]),
        ("[policy.samples]\nper_minute_max = 0\n", ["policy.samples.per_minute_max = 0.0", "never"]),
        (
            "[policy.samples]\namounts_max = [{ currency = 'mxn', amount_minor = 1 }]\n",
            ["policy.samples.amounts_max", "ISO 4217"],
        ),
        ("[health.sequential]\nbusy_run_length = 0\n", ["health.sequential.busy_run_length = 0.0", "no share"]),
        ("[policy]\nprior_rate = 80\n", ["policy.prior_rate = 80.0", "give 0 to 1"]),
        ("[retry]\nattempts_max = 0\n", ["retry.attempts_max = 0", "give 1 to 100"]),
        ("[topics]\nprefix = 'a/b'\n", ["topics.prefix = \"a/b\"", "letters, digits"]),
        ("[runtime]\ninstance = ''\n", ["runtime.instance = \"\"", "usable name"]),
        ("[runtime]\nqueue_records_max = 10\n", ["runtime.queue_records_max = 10", "batch_records_max"]),
        ("[runtime]\nthreads = 0\n", ["runtime.threads = 0", "give 1 to 256"]),
        ("[models.gate]\nauc_min = 55\n", ["models.gate.auc_min = 55.0", "give 0 to 1"]),
        ("[models.gate]\nrow_us_max = 0\n", ["models.gate.row_us_max = 0.0", "give 0.1 to"]),
        ("[admin]\naddr = '9464'\n", ["admin.addr = \"9464\"", "host:port"]),
        ("[kafka]\nbootstrap_servers = 'broker'\n", ["kafka.bootstrap_servers = \"broker\"", "host:port"]),
        (
            "[kafka.properties]\nisolation.level = 'read_uncommitted'\n",
            ["kafka.properties.isolation.level", "set by smartrouter"],
        ),
        ("[schema_registry]\nurl = 'registry:8081'\n", ["schema_registry.url = \"registry:8081\"", "http://"]),
        ("[schema_registry]\nurl = 'http://u:hidden@r'\n", ["schema_registry.url = \"***\"", "schema_registry.password"]),
    ] {
        check(text, &needles);
    }
}

#[test]
fn lists_that_contradict_themselves_are_refused() {
    for (text, needles) in [
        ("[[psps]]\nid = 'a'\n", ["psps", "occurs twice"]),
        ("[[psps]]\nid = 'c d'\n", ["psps[2].id = \"c d\"", "record keys"]),
        ("[[psps]]\nid = 'c'\ncurrencies = ['mxn']\n", ["psps[2].currencies = \"mxn\"", "ISO 4217"]),
        ("[[psps]]\nid = 'c'\nbrands = ['Visa']\n", ["psps[2].brands = \"Visa\"", "upper case"]),
        (
            "[[psps]]\nid = 'c'\nfees = [{ currency = 'MXN', success_minor = 1, failure_minor = -1 }]\n",
            ["psps[2].fees", "negative"],
        ),
        ("[[merchants]]\nid = 'm'\ncurrencies = []\npsps = ['z']\n", ["merchants[0].psps = \"z\"", "does not exist"]),
        ("[[merchants]]\nid = 'm'\ncurrencies = []\npsps = []\n", ["merchants[0].psps", "names no PSP"]),
        ("[[merchants]]\nid = 'm'\ncurrencies = []\npsps = ['a', 'a']\n", ["merchants[0].psps = \"a\"", "occurs twice"]),
        ("[[hard_rules]]\nid = 'h'\npsp = 'z'\nwhen = { brands = ['AMEX'] }\n", ["hard_rules[0].psp = \"z\"", "does not exist"]),
        ("[[hard_rules]]\nid = 'h'\npsp = 'a'\nwhen = {}\n", ["hard_rules[0].when", "every payment"]),
        ("[[rules]]\nid = 'r'\n", ["rules[0] = \"r\"", "exactly one of psps and split"]),
        ("[[rules]]\nid = 'r'\npsps = ['a']\nsplit = [{ psp = 'a', weight = 1 }]\n", ["rules[0] = \"r\"", "exactly one"]),
        ("[[rules]]\nid = 'r'\npsps = ['z']\n", ["rules[0].psps = \"z\"", "does not exist"]),
        ("[[rules]]\nid = 'r'\nsplit = [{ psp = 'a', weight = 0 }]\n", ["rules[0].split", "weight 0"]),
        ("[[rules]]\nid = 'r'\npsps = ['a']\nwhen = { amount_minor_min = 5 }\n", ["rules[0].when", "add currencies"]),
        (
            "[[rules]]\nid = 'r'\npsps = ['a']\nwhen = { currencies = ['MXN'], amount_minor_min = 5, amount_minor_max = 4 }\n",
            ["rules[0].when.amount_minor_min = 5", "swap"],
        ),
        (
            "[[rules]]\nid = 'r'\npsps = ['a']\nwhen = { bin_ranges = [{ from = '4', to = '37' }] }\n",
            ["rules[0].when.bin_ranges", "BINs"],
        ),
        (
            "[[error_codes]]\ncode = 'X'\ncategory = ''\nblame = 'psp'\n[[error_codes]]\ncode = 'x'\ncategory = ''\nblame = 'psp'\n",
            ["error_codes = \"x\"", "occurs twice"],
        ),
    ] {
        check(&format!("{TWO_PSPS}{text}"), &needles);
    }
}

#[test]
fn a_warehouse_that_could_not_be_written_is_refused() {
    for (text, expected) in [
        ("rows_max = 0", ["warehouse.rows_max = 0", "give 1 to 10000000"]),
        ("memory_bytes_max = 1024", ["warehouse.memory_bytes_max = 1024", "at least warehouse.bytes_max"]),
        ("age_ms = 1", ["warehouse.age_ms = 1", "give 10 to 86400000"]),
        ("files_max = 1", ["warehouse.files_max = 1", "give 2 to"]),
        ("query_programs = []", ["warehouse.query_programs = []", "names no program"]),
        ("retention_day = 5", ["warehouse.retention_day", "did you mean"]),
    ] {
        let base = Some(format!("[warehouse]\n{text}\n"));
        let error = Config::load(&LoadOptions { base, ..LoadOptions::default() }).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{text}: {error}");
    }
    let config = Config::load(&LoadOptions::default()).unwrap().config;
    assert_eq!(config.warehouse_dir(), std::path::Path::new("state/warehouse"));
}

#[test]
fn alerts_that_could_not_be_sent_are_refused() {
    let sink = |fields: &str| format!("{TWO_PSPS}[[alerts.sinks]]\n{fields}\n");
    for (text, needles) in [
        (sink("kind = 'slck'\nurl = 'https://hush'"), ["alerts.sinks[0].kind", "did you mean slack?"]),
        (sink("kind = 'slack'"), ["alerts.sinks[0].url", "is missing: a sink of kind slack needs it"]),
        (sink("kind = 'slack'\nurl = 'hush.example'"), ["alerts.sinks[0].url = \"***\"", "https://"]),
        (
            sink("kind = 'slack'\nurl = 'https://hush'\nrouting_key = 'hush'"),
            ["alerts.sinks[0].routing_key = \"***\"", "of no use"],
        ),
        (sink("kind = 'slack'\nurl = 7123"), ["alerts.sinks[0].url", "does not fit"]),
        (sink("kind = 'pagerduty'"), ["alerts.sinks[0].routing_key", "is missing"]),
        (sink("kind = 'webhook'\nurl = 'https://hush'"), ["alerts.sinks[0].secret", "is missing"]),
        (sink("kind = 'log'\nname = 'a.b'"), ["alerts.sinks[0].name = \"a.b\"", "usable name"]),
        (sink("kind = 'log'\n[[alerts.sinks]]\nkind = 'log'"), ["alerts.sinks = \"log\"", "occurs twice"]),
        (sink("kind = 'log'\npsps = ['z']"), ["alerts.sinks[0].psps = \"z\"", "does not exist"]),
        (sink("kind = 'log'\nsegments = ['COLOUR']"), ["alerts.sinks[0].segments", "no kind of segment"]),
        (sink("kind = 'log'\nseverity_min = 'UNKNOWN'"), ["alerts.sinks[0].severity_min", "INFO, WARNING or CRITICAL"]),
        ("[alerts]\ngroup_ms = -1\n".to_owned(), ["alerts.group_ms = -1", "give 0 to 600000"]),
        ("[alerts]\ntimeout_ms = 60000\n".to_owned(), ["alerts.timeout_ms = 60000", "give 100 to 25000"]),
        (
            format!(
                "{TWO_PSPS}[[alerts.maintenance]]\npsp = 'a'\nfrom = '2026-03-01T02:00:00Z'\nto = '2026-03-01T03:00:00+01:00'\n"
            ),
            ["alerts.maintenance[0].to", "does not end after it begins"],
        ),
        (
            "[[alerts.maintenance]]\npsp = 'z'\nfrom = '2026-03-01T02:00:00Z'\nto = '2026-03-01T03:00:00Z'\n".to_owned(),
            ["alerts.maintenance[0].psp = \"z\"", "does not exist"],
        ),
    ] {
        check(&text, &needles);
        let error = load_text(&text).unwrap_err();
        assert!(!format!("{error}{error:?}").contains("hush") && !error.to_string().contains("7123"), "{error}");
    }
    let env = pairs(&[("SMARTROUTER__ALERTS__SINKS", "[{ kind = 'slack', url = 'https://hush' }")]);
    let error = Config::load(&LoadOptions { env, ..LoadOptions::default() }).unwrap_err().to_string();
    assert!(error.contains("alerts.sinks") && !error.contains("hush"), "{error}");
}

#[test]
fn all_problems_are_reported_together() {
    refused(
        load_text("[engine]\nx = 1\nlateness_ms = 'a'\n[health]\nvolume_min = 'b'\n"),
        3,
        &["engine.x", "volume_min", "3 problems"],
    );
    refused(load_text("[engine]\nx = 1\n[health]\nvolume_min = 0\n"), 2, &["engine.x", "volume_min"]);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let gone = LoadOptions { file: Some("/no/such/router.toml".into()), ..LoadOptions::default() };
    let text = Config::load(&gone).unwrap_err().to_string();
    assert!(text.contains("/no/such/router.toml") && text.contains("-c"), "{text}");
    let text = load_text("[engine\n").unwrap_err().to_string();
    assert!(text.contains("router.toml is not TOML") && text.contains("line 1"), "{text}");
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let env = pairs(&[
        ("SMARTROUTER__RUNTIME__GROUP", "environment"),
        ("SMARTROUTER__RUNTIME__THREADS", "3"),
        ("SMARTROUTER_RUNTIME", "ignored"),
        ("PATH", "ignored"),
    ]);
    let options = LoadOptions { env, overrides: pairs(&[("runtime.group", "flag")]), ..LoadOptions::default() };
    let loaded = load("[runtime]\ngroup = 'file'\nthreads = 2\ncommit_interval_ms = 60\n", options).unwrap();
    let runtime = &loaded.config.runtime;
    assert_eq!(
        (runtime.group.as_str(), runtime.threads, runtime.commit_interval_ms, runtime.batch_records_max),
        ("flag", 3, 60, 500)
    );
    assert_eq!(loaded.origin("runtime.group"), Some("flag for runtime.group"));
    assert_eq!(loaded.origin("runtime.threads"), Some("environment variable SMARTROUTER__RUNTIME__THREADS"));
    assert!(loaded.origin("runtime.commit_interval_ms").unwrap().starts_with("file "));
    assert_eq!(loaded.origin("runtime.batch_records_max"), Some("default"));
}

#[test]
fn texts_are_taken_literally_and_all_else_as_toml() {
    let env = pairs(&[
        ("SMARTROUTER__SCHEMA_REGISTRY__PASSWORD", "12345"),
        ("SMARTROUTER__POLICY__SALT", "[2]"),
        ("SMARTROUTER__POLICY__PRIOR_RATE", "1"),
        ("SMARTROUTER__ENGINE__SEGMENTS", "[\"BRAND\"]"),
        ("SMARTROUTER__PSPS", "[{ id = \"a\" }]"),
        ("SMARTROUTER__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL"),
    ]);
    let overrides = pairs(&[("kafka.properties.retry.backoff.ms", "7")]);
    let config = Config::load(&LoadOptions { env, overrides, ..LoadOptions::default() }).unwrap().config;
    assert_eq!(config.schema_registry.password.expose(), Some("12345"));
    assert_eq!((config.settings.policy.salt.as_str(), config.settings.policy.prior_rate), ("[2]", 1.0));
    assert_eq!((config.settings.engine.segments.len(), config.settings.psps.len()), (1, 1));
    let properties: Vec<(&str, &str)> = config.kafka.properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(properties, [("retry.backoff.ms", "7"), ("security.protocol", "SASL_SSL")]);
}

#[test]
fn librdkafka_properties_are_texts_with_or_without_quotes_around_their_names() {
    let text =
        "[kafka.properties]\nssl.ca.location = '/ca'\n'retry.backoff.ms' = 5\nenable.ssl.certificate.verification = true\n";
    let config = load_text(text).unwrap().config;
    let got: Vec<(&str, &str)> = config.kafka.properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(got, [("enable.ssl.certificate.verification", "true"), ("retry.backoff.ms", "5"), ("ssl.ca.location", "/ca")]);
}

#[test]
fn a_list_in_a_file_replaces_the_default_list() {
    let text = "[[error_codes]]\ncode = '05'\ncategory = 'own'\nblame = 'issuer'\n";
    let config = load_text(text).unwrap().config;
    assert_eq!(config.settings.error_codes.len(), 1);
    assert!(Config::load(&LoadOptions::default()).unwrap().config.settings.error_codes.len() > 40);
}

#[test]
fn secrets_show_nowhere() {
    let text = "[schema_registry]\nurl = 'http://r:8081'\nusername = 'u'\npassword = 'hush-1'\n\
                [[alerts.sinks]]\nkind = 'webhook'\nurl = 'http://hush-5'\nsecret = 'hush-6'\n\
                [[alerts.sinks]]\nkind = 'pagerduty'\nrouting_key = 'hush-7'\nsegments = ['BRAND:VISA']\n\
                [warehouse.snowflake]\nprivate_key_passphrase = 'hush-8'\n\
                [kafka.properties]\n'sasl.username' = 'hush-2'\n'ssl.key.pem' = 'hush-3'\n'ssl.keystore.password' = 'hush-4'\n'client.id' = 'seen'\n";
    let loaded = load_text(text).unwrap();
    let everything = format!(
        "{}{}{:?}{:?}{}",
        loaded.print(Format::Table),
        loaded.print(Format::Json),
        loaded,
        loaded.config.kafka,
        serde_json::to_string(&loaded.config.schema_registry).unwrap()
    );
    assert!(!everything.contains("hush"), "{everything}");
    assert!(everything.contains("seen") && everything.contains("BRAND:VISA"));
    assert!(!format!("{:?}{:?}", loaded.config.alerts, loaded.config.warehouse).contains("hush"));
    let error = load_text("[schema_registry]\npassword = 77123\n").unwrap_err().to_string();
    assert!(error.contains("schema_registry.password") && !error.contains("77123"), "{error}");
    let error = load_text("[schema_registry]\npasword = 'hush'\n").unwrap_err().to_string();
    assert!(error.contains("did you mean schema_registry.password?") && !error.contains("hush"), "{error}");
}

#[test]
fn print_tells_every_key_with_value_and_origin() {
    let loaded = Config::load(&LoadOptions { overrides: pairs(&[("topics.prefix", "p.")]), ..LoadOptions::default() }).unwrap();
    let printed: Value = serde_json::from_str(&loaded.print(Format::Json)).unwrap();
    assert_eq!(printed["topics.prefix"], json!({ "value": "p.", "origin": "flag for topics.prefix" }));
    assert_eq!(printed["health.window_ms"], json!({ "value": 300_000, "origin": "default" }));
    assert_eq!(printed["error_codes[0]"]["value"]["code"], "01");
    let table = loaded.print(Format::Table);
    assert!(
        table.lines().any(|line| line.starts_with("topics.prefix ")
            && line.contains("\"p.\"")
            && line.ends_with("flag for topics.prefix"))
    );
    assert_eq!(table.lines().count(), printed.as_object().unwrap().len());
}

/// All paths of a tree of tables; lists are leaves.
fn paths(value: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    for (name, inner) in value.as_object().unwrap() {
        let path = keys::join(prefix, name);
        if inner.is_object() {
            paths(inner, &path, into);
        }
        into.insert(path);
    }
}

#[test]
fn the_default_holds_every_field_and_no_other() {
    let default: Value = toml::from_str(Config::DEFAULT_TOML).unwrap();
    let config = Config::load(&LoadOptions::default()).unwrap().config;
    let (mut written, mut fields) = (BTreeSet::new(), BTreeSet::new());
    paths(&default, "", &mut written);
    paths(&serde_json::to_value(&config).unwrap(), "", &mut fields);
    assert_eq!(written, fields);
}

#[test]
fn the_default_documents_every_key_and_every_field_of_a_list() {
    let mut documented = false;
    for (number, line) in Config::DEFAULT_TOML.lines().enumerate() {
        let begins_comment = line.starts_with('#');
        let is_key = line.split_once(" = ").is_some_and(|(name, _)| !begins_comment && !name.starts_with([' ', '{']));
        assert!(!is_key || documented, "line {} has no comment above it: {line}", number + 1);
        documented = begins_comment;
    }
    let example = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/volaris.toml")).unwrap();
    let settings = load_text(&example).unwrap().config.settings;
    let lists =
        serde_json::to_value((&settings.merchants, &settings.psps, &settings.hard_rules, &settings.rules, &settings.error_codes));
    let mut names = BTreeSet::new();
    field_names(&lists.unwrap(), &mut names);
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let shown = [format!("{name} = "), format!("#   {name} ")].iter().any(|text| Config::DEFAULT_TOML.contains(text));
        assert!(shown || name == "when", "default.toml does not show {name}");
    }
}

fn field_names(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| {
            names.insert(name.clone());
            field_names(inner, names);
        }),
        Value::Array(items) => items.iter().for_each(|item| field_names(item, names)),
        _ => {}
    }
}

#[test]
fn the_shipped_example_passes_with_the_flags_of_a_deployment() {
    let file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/volaris.toml"));
    let overrides = pairs(&[
        ("kafka.bootstrap_servers", "127.0.0.1:19092"),
        ("topics.prefix", "at-1a2b."),
        ("runtime.state_dir", "/tmp/state"),
        ("runtime.instance", "i2"),
        ("admin.addr", "127.0.0.1:0"),
    ]);
    let settings = Config::load(&LoadOptions { file, overrides, ..LoadOptions::default() }).unwrap().config.settings;
    let ids: Vec<&str> = settings.psps.iter().map(|psp| psp.id.as_str()).collect();
    assert_eq!(ids, ["worldpay", "mit", "elavon", "amex"]);
    assert_eq!(settings.psps.iter().map(|psp| psp.external_id).collect::<Vec<_>>(), [Some(76), Some(85), None, None]);
    assert_eq!((settings.merchants[0].id.as_str(), settings.hard_rules[0].psp.as_str()), ("volaris", "amex"));
    assert!(settings.rules.iter().any(|rule| rule.shadow) && settings.rules.iter().any(|rule| !rule.split.is_empty()));
}

#[test]
fn every_deployment_that_ships_passes() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut loaded = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            Config::load(&LoadOptions { file: Some(path), ..LoadOptions::default() }).unwrap_or_else(|error| panic!("{error}"));
            loaded += 1;
        }
    }
    assert!(loaded > 0);
}

#[test]
fn a_syntax_error_names_its_place_and_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    for line in ["password = \"hunter2", "password = hunter2"] {
        std::fs::write(&file, format!("[schema_registry]\n{line}\n")).unwrap();
        let error = Config::load(&LoadOptions { file: Some(file.clone()), ..LoadOptions::default() }).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("line 2, column") && text.contains("c.toml"), "{text}");
        assert!(!text.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{text}");
    }
}
