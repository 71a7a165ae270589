#!/usr/bin/env bash
# Builds optimised and measures: bench.sh [WORD...], the words of `smartrouter bench` (default: all). `bench.sh build` only builds.
# Starts a broker on a port of its own and stops it again; with KAFKA_BOOTSTRAP=host:port it uses that one.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/broker.sh
. scripts/rocksdb.sh
cargo build --release
if [ "${1:-}" = build ]; then exit; fi
binary=$CARGO_TARGET_DIR/release/smartrouter

broker "${SMARTROUTER_BENCH_KAFKA_PORT:-19592}"
"$binary" -c deploy/volaris.toml -b "$bootstrap" --state-dir "$cache/bench" bench "${@:-all}"
if [ $# = 0 ]; then cargo bench --quiet --benches; fi
