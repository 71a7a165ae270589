//! The router on a real Kafka, driven by clients that we did not write (`tests/interop/spine.py`).

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failing step fails the test; a skipped one says so")]

use std::process::Command;

/// One test per check, so that a failure has a name.
macro_rules! checks {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*
    };
}

checks! { stop_and_start killed_while_working killed_and_replaced dead_letters_and_redrive wrong_use history_both_ways
         broker_of_another_shape }

fn check(name: &str) {
    let (Ok(bootstrap), Ok(python)) = (std::env::var("SMARTROUTER_TEST_KAFKA"), std::env::var("SMARTROUTER_TEST_PYTHON")) else {
        assert!(
            std::env::var("SMARTROUTER_REQUIRE_KAFKA").is_err(),
            "SMARTROUTER_TEST_KAFKA and SMARTROUTER_TEST_PYTHON are wanted"
        );
        eprintln!("skipped: no broker; `make test` starts one");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/spine.py");
    let done = Command::new(python).args([script, env!("CARGO_BIN_EXE_smartrouter"), &bootstrap, name]).output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && told.contains(&format!("ok   {name}")), "{told}");
}
