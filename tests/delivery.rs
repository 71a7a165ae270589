//! What a user starts with Docker agrees with the code: names, ports, configuration keys, commands, files.

// Outside test functions too, a test may give up at once.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_yaml_ng::Value;
use smartrouter::config::{Config, LoadOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG_IN_IMAGE: &str = "/etc/smartrouter/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn compose() -> Value {
    let mut parsed: Value = serde_yaml_ng::from_str(&read("docker-compose.yml")).unwrap();
    parsed.apply_merge().unwrap();
    parsed
}

fn services(compose: &Value) -> BTreeMap<String, Value> {
    let services = compose["services"].as_mapping().unwrap();
    services.iter().map(|(name, service)| (name.as_str().unwrap().to_owned(), service.clone())).collect()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_sequence().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// A mapping of scalars as texts.
fn environment(service: &Value) -> BTreeMap<String, String> {
    let scalar = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => serde_yaml_ng::to_string(other).unwrap().trim().to_owned(),
    };
    let given = service["environment"].as_mapping().into_iter().flatten();
    given.map(|(name, value)| (name.as_str().unwrap().to_owned(), scalar(value))).collect()
}

/// An instruction of a Dockerfile with its text, continuation lines joined, by stage.
fn stages(dockerfile: &str) -> Vec<Vec<(String, String)>> {
    let joined = dockerfile.replace("\\\n", " ");
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    for line in joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().unwrap().push((word.to_owned(), rest.trim().to_owned()));
    }
    stages
}

fn all<'a>(stage: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    stage.iter().filter(|(it, _)| it == word).map(|(_, rest)| rest.as_str()).collect()
}

fn image_environment(stage: &[(String, String)]) -> BTreeMap<String, String> {
    let words = all(stage, "ENV").into_iter().flat_map(str::split_whitespace);
    words.map(|word| word.split_once('=').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn final_stage() -> Vec<(String, String)> {
    stages(&read("Dockerfile")).pop().unwrap()
}

/// The environment of a service of ours: the image's, and over it the service's.
fn environment_of(service: &Value) -> BTreeMap<String, String> {
    let mut merged = image_environment(&final_stage());
    merged.extend(environment(service));
    merged
}

fn load(file: Option<PathBuf>, env: BTreeMap<String, String>) -> Config {
    let options = LoadOptions { file, env: env.into_iter().collect(), ..LoadOptions::default() };
    Config::load(&options).unwrap_or_else(|error| panic!("{error}")).config
}

fn port_of(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn is_ours(service: &Value) -> bool {
    service["image"].as_str() == Some("smartrouter")
}

/// The configuration file that a command names, as it lies in the repository.
fn config_file(words: &[String]) -> Option<PathBuf> {
    let at = words.iter().position(|word| word == "-c")? + 1;
    let name = words[at].strip_prefix(CONFIG_IN_IMAGE).unwrap_or_else(|| panic!("{} is not in the image", words[at]));
    Some(root().join("deploy").join(name))
}

#[test]
fn the_services_are_those_the_readme_names() {
    let services = services(&compose());
    let names: BTreeSet<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["kafka", "schema-registry", "topics", "smartrouter", "simulator"]));
    assert_eq!(texts(&services["simulator"]["profiles"]), ["simulator"]);
    for (name, service) in &services {
        let image = service["image"].as_str().unwrap();
        let tag = image.split_once(':').map(|(_, tag)| tag);
        assert!(is_ours(service) || tag.is_some_and(|tag| tag != "latest"), "{name}: {image} is not pinned to a version");
        assert!(name == "simulator" || service.get("profiles").is_none(), "{name} would not be started by `docker compose up`");
    }
    assert!(services["kafka"]["image"].as_str().unwrap().starts_with("apache/kafka:4.3"));
}

#[test]
fn a_service_waits_for_what_the_other_one_can_tell() {
    let services = services(&compose());
    for (name, service) in &services {
        for (other, how) in service["depends_on"].as_mapping().into_iter().flatten() {
            let other = other.as_str().unwrap();
            let target = services.get(other).unwrap_or_else(|| panic!("{name} depends on {other}, which is not there"));
            let is_checked = target["healthcheck"].get("test").is_some()
                || (is_ours(target)
                    && target["healthcheck"]["disable"].as_bool() != Some(true)
                    && !all(&final_stage(), "HEALTHCHECK").is_empty());
            match how["condition"].as_str().unwrap() {
                "service_healthy" => assert!(is_checked, "{name} waits for the health of {other}, which has no check"),
                "service_completed_successfully" => assert_eq!(other, "topics", "{name} waits for the end of {other}"),
                condition => panic!("{name}: condition {condition}"),
            }
        }
    }
    assert!(services["smartrouter"]["depends_on"].get("topics").is_some(), "the router would start before its topics are there");
}

#[test]
fn our_services_have_a_valid_configuration_and_reach_the_others() {
    let services = services(&compose());
    for (name, service) in services.iter().filter(|(_, service)| is_ours(service)) {
        let config = load(config_file(&texts(&service["command"])), environment_of(service));
        let (host, port) = config.kafka.bootstrap_servers.split_once(':').unwrap();
        let listeners = &environment(&services[host])["KAFKA_ADVERTISED_LISTENERS"];
        assert!(listeners.contains(&format!("INTERNAL://{host}:{port}")), "{name}: {host}:{port} is not among {listeners}");
        let url = config.schema_registry.url.unwrap();
        let (host, port) = url.strip_prefix("http://").unwrap().split_once(':').unwrap();
        let listens = &environment(&services[host])["SCHEMA_REGISTRY_LISTENERS"];
        assert!(listens.ends_with(&format!(":{port}")), "{name}: {url}, but the registry listens on {listens}");
    }
}

#[test]
fn published_ports_are_those_that_are_listened_on() {
    let services = services(&compose());
    let published = |name: &str| -> Vec<u16> { texts(&services[name]["ports"]).iter().map(|port| port_of(port)).collect() };
    let router = &services["smartrouter"];
    let config = load(config_file(&texts(&router["command"])), environment_of(router));
    assert_eq!(published("smartrouter"), [port_of(&config.admin.addr)]);
    assert!(config.admin.addr.starts_with("0.0.0.0:"), "{} cannot be reached from outside the container", config.admin.addr);
    let kafka = environment(&services["kafka"]);
    for port in published("kafka") {
        assert!(kafka["KAFKA_LISTENERS"].contains(&format!(":{port}")), "{port}");
        assert!(kafka["KAFKA_ADVERTISED_LISTENERS"].contains(&format!("localhost:{port}")), "{port}");
    }
    let registry = environment(&services["schema-registry"]);
    assert!(published("schema-registry").iter().all(|port| registry["SCHEMA_REGISTRY_LISTENERS"].ends_with(&port.to_string())));
}

#[test]
fn volumes_are_declared_and_lie_where_the_state_is() {
    let compose = compose();
    let services = services(&compose);
    let state_dir = image_environment(&final_stage())["SMARTROUTER__RUNTIME__STATE_DIR"].clone();
    for (name, service) in &services {
        for volume in texts(&service["volumes"]) {
            let (volume, path) = volume.split_once(':').unwrap();
            assert!(compose["volumes"].get(volume).is_some(), "{name}: volume {volume} is not declared");
            assert!(
                name != "smartrouter" || state_dir.starts_with(path),
                "{name}: state in {state_dir} is not on the volume {path}"
            );
        }
    }
}

#[test]
fn the_commands_exist() {
    let image_command: Vec<String> = serde_json::from_str(all(&final_stage(), "CMD").last().unwrap()).unwrap();
    let services = services(&compose());
    let commands = services.values().filter(|service| is_ours(service)).map(|service| texts(&service["command"]));
    for words in commands.chain([image_command]) {
        assert!(config_file(&words).is_none_or(|path| path.is_file()), "{words:?}: no such configuration file");
        // `--help` at the end: everything before it was understood.
        let ran = Command::new(env!("CARGO_BIN_EXE_smartrouter")).args(&words).arg("--help").output().unwrap();
        let help = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
        let command =
            words.iter().filter(|word| !word.starts_with('-') && !word.starts_with('/')).cloned().collect::<Vec<_>>().join(" ");
        assert!(help.contains(&format!("Usage: smartrouter {command}")), "{words:?} is understood as something else:\n{help}");
    }
}

#[test]
fn the_image_is_small_and_not_root() {
    let text = read("Dockerfile");
    let stages = stages(&text);
    assert!(stages.len() >= 2, "one stage: the compiler would be shipped");
    let (first, last) = (&stages[0], stages.last().unwrap());
    assert!(all(last, "FROM")[0].contains("-slim"), "{:?}", all(last, "FROM"));
    let user = all(last, "USER");
    assert!(user.last().is_some_and(|user| *user != "root" && *user != "0"), "runs as {user:?}");
    let entry: Vec<String> = serde_json::from_str(all(last, "ENTRYPOINT")[0]).unwrap();
    assert_eq!(entry, [env!("CARGO_PKG_NAME")]);
    let exposed: u16 = all(last, "EXPOSE")[0].parse().unwrap();
    let config = load(None, image_environment(last));
    assert_eq!(exposed, port_of(&config.admin.addr));
    assert!(
        all(last, "HEALTHCHECK")[0].contains(&format!("127.0.0.1/{exposed}")) && all(last, "HEALTHCHECK")[0].contains("/livez")
    );
    let rust = all(first, "FROM")[0].strip_prefix("rust:").unwrap().split('-').next().unwrap();
    let number = |version: &str| version.split('.').map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>();
    assert!(number(rust) >= number(env!("CARGO_PKG_RUST_VERSION")), "rust {rust} is older than rust-version in Cargo.toml");
}

#[test]
fn what_the_image_copies_is_there_and_not_ignored() {
    let ignored = read(".dockerignore");
    let kept: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for stage in stages(&read("Dockerfile")) {
        for copy in all(&stage, "COPY") {
            let words: Vec<&str> = copy.split_whitespace().collect();
            if words[0].starts_with("--from=") {
                continue;
            }
            for source in &words[..words.len() - 1] {
                assert!(root().join(source).exists(), "COPY {source}: no such file");
                assert!(kept.contains(source), "COPY {source}: .dockerignore leaves it out");
            }
        }
    }
}

#[test]
fn a_wrong_key_would_be_found() {
    let env = BTreeMap::from([("SMARTROUTER__KAFKA__BOOTSTRAP_SERVER".to_owned(), "kafka:9092".to_owned())]);
    let options = LoadOptions { env: env.into_iter().collect(), ..LoadOptions::default() };
    let error = Config::load(&options).unwrap_err().to_string();
    assert!(error.contains("bootstrap_server"), "{error}");
}

/// The README without its drawing, as code spans and blocks hold commands.
fn commands_of_readme() -> Vec<Vec<String>> {
    let text = read("README.md");
    let starts = text.match_indices("smartrouter ").filter(|(at, _)| *at == 0 || matches!(text.as_bytes()[at - 1], b'\n' | b'`'));
    let line = |at: usize| text[at..].split(['\n', '`', '#']).next().unwrap_or_default();
    starts.map(|(at, _)| line(at).split_whitespace().skip(1).map(str::to_owned).collect()).collect()
}

#[test]
fn the_readme_names_commands_targets_and_files_that_exist() {
    let commands = commands_of_readme();
    assert!(commands.len() > 5, "{commands:?}");
    for words in commands {
        // Required arguments come after the command: the help of the command is enough.
        let ran = Command::new(env!("CARGO_BIN_EXE_smartrouter")).args(&words).arg("--help").output().unwrap();
        assert!(ran.status.success(), "README: smartrouter {words:?}: {}", String::from_utf8_lossy(&ran.stderr));
        let help = String::from_utf8_lossy(&ran.stdout);
        assert!(help.contains(&format!("Usage: smartrouter {}", words[0])), "README: {words:?} is understood as something else");
    }
    let (readme, makefile) = (read("README.md"), read("Makefile"));
    for target in
        readme.split("make ").skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap())
    {
        assert!(target.is_empty() || makefile.contains(&format!("\n{target}:")), "README: make {target} is no target");
    }
    for link in readme.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(link.contains("://") || root().join(link).exists(), "README: {link} is not there");
    }
    for service in ["--profile simulator", "9464"] {
        assert!(readme.contains(service), "README does not say {service}");
    }
}
