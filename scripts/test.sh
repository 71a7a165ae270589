#!/usr/bin/env bash
# All tests: first what needs nothing, then what needs a broker and a Python client. One build for all of them, with the moments at which
# tests end the process.
# Starts a broker on a port of its own and stops it again, whatever happens; with KAFKA_BOOTSTRAP=host:port it uses that one.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/smartrouter
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
port=${SMARTROUTER_TEST_KAFKA_PORT:-19392}
started=''

leave() {
  if [ -n "$started" ]; then scripts/kafka/kafka.sh stop "$port" --clean; fi
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# One compilation, before the broker runs and takes memory.
cargo test --quiet --no-run --features failpoints
cargo test --lib --bins --features failpoints

if [ -z "${KAFKA_BOOTSTRAP:-}" ] && ! scripts/kafka/kafka.sh status "$port" > /dev/null 2>&1; then started=yes; fi
SMARTROUTER_TEST_KAFKA=$(scripts/kafka/kafka.sh start "$port" | tail -n1)
export SMARTROUTER_TEST_KAFKA SMARTROUTER_REQUIRE_KAFKA=1

SMARTROUTER_TEST_PYTHON=$(scripts/python.sh)
export SMARTROUTER_TEST_PYTHON

cargo test --doc --features failpoints
cargo test --test '*' --features failpoints
