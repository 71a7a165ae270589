#!/usr/bin/env bash
# Exactly once under fire, the long form: kills, mutants, disks, network, zombies, hostile input and load, against a broker of its own.
# Usage: torture.sh [--cycles N] [--seed S] [--jobs N] [CASE...]; without --cycles 500 processes are killed, without --jobs three cases run at
# a time. The short form is part of `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/broker.sh

cargo build --quiet --features failpoints
python=$(scripts/python.sh)
broker "${SMARTROUTER_TEST_KAFKA_PORT:-19392}"
case " $* " in
  *" --cycles "*) ;;
  *) set -- --cycles 500 "$@" ;;
esac
case " $* " in
  *" --jobs "*) ;;
  *) set -- --jobs 3 "$@" ;;
esac
"$python" tests/torture/torture.py "$CARGO_TARGET_DIR/debug/smartrouter" "$bootstrap" "$@"
