#!/usr/bin/env bash
# The router and the Kafka Streams peer by turns, on one warm broker, measured by the peer's driver.
# Usage: race.sh PEER BINARY [EVENTS] [RUNS]     PEER: folder of the peer (its README says what it needs); BINARY: smartrouter, optimised
# One line of JSON per run goes to stdout. Builds, broker data and state land in $PEER_WORK. Modes: MODE=throughput (default),
# MODE=latency (1,000 requests per second for 60 s, of which 45 count; empties the inputs).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
peer=$(cd "$1" && pwd)/run.sh
binary=$(realpath "$2")
events=${3:-2000000} runs=${4:-3} mode=${MODE:-throughput}
export PEER_WORK=${PEER_WORK:-${XDG_CACHE_HOME:-$HOME/.cache}/peer-kafka-streams}
state=$PEER_WORK/smartrouter-state
kafka() { "$here/../../scripts/kafka/kafka.sh" tool "$@"; }
router() { "$binary" -c "$here/smartrouter.toml" --state-dir "$state" "$@"; }

[ -d "$PEER_WORK/build" ] || "$peer" build
"$peer" broker start

# Everything but the inputs anew, so that the router starts from nothing.
fresh() {
  rm -rf "$state"
  kafka TopicCommand --bootstrap-server 127.0.0.1:19092 --delete --if-exists --topic 'race\.(athia|control|smartrouter|stats|psp|.*dlq).*' > /dev/null
  sleep 2
  router topics apply --execute > /dev/null
  export SMARTROUTER__RUNTIME__GROUP=run-$RANDOM$RANDOM
}

ours() { # the driver's words
  fresh
  SUT_NAME=smartrouter SUT_GROUP=race.$SMARTROUTER__RUNTIME__GROUP PEER_PROPERTIES=$here/smartrouter.properties \
    SUT_CMD="exec '$binary' -c '$here/smartrouter.toml' --state-dir '$state' run" "$peer" "$@" | tail -n1
}

counted() { # attempts in the day's windows of all PSPs
  router --output json psp list | tail -n1 |
    python3 -c 'import json, sys; print(sum(s["windows"]["last_24h"]["attempts"] for s in json.load(sys.stdin)))'
}

if [ "$mode" = latency ]; then
  for _ in $(seq "$runs"); do
    for commit_ms in 10 2; do "$peer" latency 1000 60 "$commit_ms" | tail -n1; done
    ours latency 1000 60 0
  done
else
  "$peer" preload "$events" | tail -n1
  PEER_PROPERTIES=$here/smartrouter.properties "$peer" preload "$events" | tail -n1
  for _ in $(seq "$runs"); do
    "$peer" throughput 1 | tail -n1
    ours throughput 1
    echo "attempts counted: $(counted) of $((events / 2))"
  done
fi
