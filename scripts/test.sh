#!/usr/bin/env bash
# All tests: first what needs nothing, then what needs a broker and a Python client. One build for all of them, with the moments at which
# tests end the process.
# Starts a broker on a port of its own and stops it again, whatever happens; with KAFKA_BOOTSTRAP=host:port it uses that one.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/broker.sh

# One compilation, before the broker runs and takes memory.
cargo test --quiet --no-run --features failpoints
cargo test --lib --bins --features failpoints

broker "${SMARTROUTER_TEST_KAFKA_PORT:-19392}"
export SMARTROUTER_TEST_KAFKA=$bootstrap SMARTROUTER_REQUIRE_KAFKA=1

SMARTROUTER_TEST_PYTHON=$(scripts/python.sh)
export SMARTROUTER_TEST_PYTHON

cargo test --doc --features failpoints
# Most of these wait for a broker or for time to pass: more of them at once than there are cores.
RUST_TEST_THREADS=5 cargo test --test '*' --features failpoints
