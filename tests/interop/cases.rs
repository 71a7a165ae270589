//! Checks that are written in Python, with clients that are not ours: each is a Rust test, so that a failure has a name.

use std::process::Command;

/// One test per name, which `run` is given.
macro_rules! cases {
    ($run:ident: $($name:ident)*) => {
        $(#[test]
        fn $name() {
            $run(stringify!($name));
        })*
    };
}
pub(crate) use cases;

/// Runs `SCRIPT BINARY BROKER NAME WORDS...`, which has to say that the check of this name holds.
pub(crate) fn run(script: &str, binary: &str, name: &str, words: &[&str]) {
    let (Ok(bootstrap), Ok(python)) = (std::env::var("SMARTROUTER_TEST_KAFKA"), std::env::var("SMARTROUTER_TEST_PYTHON")) else {
        assert!(
            std::env::var("SMARTROUTER_REQUIRE_KAFKA").is_err(),
            "SMARTROUTER_TEST_KAFKA and SMARTROUTER_TEST_PYTHON are wanted"
        );
        eprintln!("skipped: no broker; `make test` starts one");
        return;
    };
    let done = Command::new(python).args([script, binary, &bootstrap, name]).args(words).output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && told.contains(&format!("ok   {name}")), "{told}");
    if told.contains("skipped") {
        eprintln!("{told}");
    }
}
