#!/usr/bin/env bash
# Builds optimised and measures: bench.sh [WORD...], the words of `smartrouter bench` (default: all). `bench.sh build` only builds.
# Starts a broker on a port of its own and stops it again; with KAFKA_BOOTSTRAP=host:port it uses that one.
# RocksDB is not compiled again when the dev build has done so: its archive (optimised there too) is linked.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/smartrouter
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
port=${SMARTROUTER_BENCH_KAFKA_PORT:-19592}
started=''

leave() {
  if [ -n "$started" ]; then scripts/kafka/kafka.sh stop "$port" --clean; fi
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The archive is of the version in Cargo.lock as long as it lies where cargo built that version: it is copied once per version.
version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
kept=$CARGO_TARGET_DIR/rocksdb/$version
if [ ! -f "$kept/librocksdb.a" ]; then
  for built in "$CARGO_TARGET_DIR"/debug/build/librocksdb-sys-*/; do
    if [ -f "$built/out/librocksdb.a" ] && grep -qs "librocksdb-sys-$version/" "$built/output"; then
      mkdir -p "$kept"
      cp "$built/out/librocksdb.a" "$kept/"
      break
    fi
  done
fi
if [ -f "$kept/librocksdb.a" ]; then
  export ROCKSDB_LIB_DIR=$kept ROCKSDB_STATIC=1
else
  echo "no RocksDB of a dev build is there (make build): it is compiled again, which takes long" >&2
fi
cargo build --release
if [ "${1:-}" = build ]; then exit; fi
binary=$CARGO_TARGET_DIR/release/smartrouter

if [ -z "${KAFKA_BOOTSTRAP:-}" ] && ! scripts/kafka/kafka.sh status "$port" > /dev/null 2>&1; then started=yes; fi
broker=$(scripts/kafka/kafka.sh start "$port" | tail -n1)
"$binary" -c deploy/volaris.toml -b "$broker" --state-dir "$cache/bench" bench "${@:-all}"
if [ $# = 0 ]; then cargo bench --quiet --benches; fi
