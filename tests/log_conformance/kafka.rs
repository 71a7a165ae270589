//! The suite against a real Apache Kafka.

use crate::reading::{TestLog, drawn};
use smartrouter::io::log::EventLog;
use smartrouter::io::log::kafka::{KafkaLog, KafkaOptions};

const BROKER: &str = "SMARTROUTER_TEST_KAFKA";
const REQUIRED: &str = "SMARTROUTER_REQUIRE_KAFKA";

struct KafkaUnderTest {
    bootstrap: String,
    log: KafkaLog,
    /// Keeps this case's names apart from those of all others on the broker.
    run: String,
}

fn connect(bootstrap: &str) -> KafkaLog {
    KafkaLog::connect(KafkaOptions { bootstrap: bootstrap.to_owned(), ..KafkaOptions::default() }).expect("connect to the broker")
}

impl TestLog for KafkaUnderTest {
    fn log(&self) -> &dyn EventLog {
        &self.log
    }

    fn name(&self, stem: &str) -> String {
        format!("conformance-{}-{stem}", self.run)
    }

    fn crash(&mut self) {
        self.log = connect(&self.bootstrap);
    }

    /// The broker's cleaner keeps its own time.
    fn compact(&self) -> bool {
        false
    }
}

fn under_test() -> Option<KafkaUnderTest> {
    let Ok(bootstrap) = std::env::var(BROKER) else {
        assert!(std::env::var(REQUIRED).is_err(), "{REQUIRED} is set, and {BROKER}=host:port names no broker");
        eprintln!("skipped: {BROKER}=host:port names no broker (`make test` starts one)");
        return None;
    };
    let run = format!("{:016x}", drawn());
    Some(KafkaUnderTest { log: connect(&bootstrap), bootstrap, run })
}

crate::suite::conformance!(under_test());
