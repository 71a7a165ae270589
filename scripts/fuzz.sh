#!/usr/bin/env bash
# Fuzzes each target (or those named) with libFuzzer for SECONDS_EACH: scripts/fuzz.sh 300 [codec mapping ...]. Ends with a line per target.
# What is found lies in tests/fuzz/artifacts; `cargo fuzz run` shows it again. Before, a million records go through the seeded test.
# Works with a stable compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-300}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then targets=(codec mapping configuration rules recovery); fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/smartrouter/target}
export RUSTC_BOOTSTRAP=1
command -v cargo-fuzz > /dev/null || cargo install cargo-fuzz --locked

FUZZ_RECORDS=${FUZZ_RECORDS:-1000000} cargo test --test fuzz_inputs -- --nocapture

. scripts/rocksdb.sh
export CARGO_TARGET_DIR=$CARGO_TARGET_DIR/fuzz
# The versions of the main build: its lock file, and libFuzzer's added.
cp Cargo.lock tests/fuzz/Cargo.lock
cargo fuzz build --fuzz-dir tests/fuzz --sanitizer none
# A database is opened for each input of `recovery`: not on the disk, where that can be done.
if [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi
work=$(mktemp -d)
failed=''
for target in "${targets[@]}"; do
  # New inputs stay out of the committed corpus.
  mkdir -p "$work/$target"
  if ! cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none "$target" "$work/$target" "tests/fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -max_len=65536 -print_final_stats=1 > "$work/$target.log" 2>&1; then
    failed="$failed $target"
    tail -n 40 "$work/$target.log"
  fi
done
for target in "${targets[@]}"; do
  executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
  covered=$(grep -o 'INITED cov: [0-9]*' "$work/$target.log" | grep -o '[0-9]*' | head -n1 || true)
  reached=$(grep -o ' cov: [0-9]*' "$work/$target.log" | grep -o '[0-9]*' | tail -n1 || true)
  echo "$target: $executed inputs in $seconds s, edges covered ${covered:-?} by the corpus, ${reached:-?} at the end"
done
if [ -n "$failed" ]; then
  echo "failed:$failed; logs in $work"
  exit 1
fi
rm -rf "$work"
