#!/usr/bin/env bash
# Exactly once under fire, the long form: kills at every failpoint and at random, mutants, disks, against a broker of its own.
# Usage: torture.sh [--cycles N] [--seed S] [CASE...]; without --cycles 500 processes are killed. The short form is part of `make test`.
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

cargo build --quiet --features failpoints
python=$(scripts/python.sh)
if [ -z "${KAFKA_BOOTSTRAP:-}" ] && ! scripts/kafka/kafka.sh status "$port" > /dev/null 2>&1; then started=yes; fi
bootstrap=$(scripts/kafka/kafka.sh start "$port" | tail -n1)
case " $* " in
  *" --cycles "*) ;;
  *) set -- --cycles 500 "$@" ;;
esac
"$python" tests/torture/torture.py "$CARGO_TARGET_DIR/debug/smartrouter" "$bootstrap" "$@"
